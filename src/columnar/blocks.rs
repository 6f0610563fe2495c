//! Blocks of rows whose borders depend on the rows alone.
//!
//! Responsible for: cutting a stream of batches anew, so that the same rows in the same order make
//! the same blocks however they were batched. What is encoded block by block has the same bytes
//! then.
//! Not responsible for: encoding.

use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columnar::cell::CellColumn;

/// Cuts a stream of rows into blocks.
#[derive(Debug)]
pub struct Blocks {
    /// Rows of a block, if they are not too large.
    max_rows: usize,
    /// Bytes that a block does not go beyond, unless a single row does.
    max_bytes: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Blocks {
    /// Blocks of `max_rows` rows, or fewer if those have more than `max_bytes` bytes.
    pub fn new(max_rows: usize, max_bytes: usize) -> Self {
        Self { max_rows: max_rows.max(1), max_bytes, waiting: Vec::new(), rows: 0, bytes: 0 }
    }

    /// Takes the next rows; returns the blocks that are complete. All batches must be of one
    /// schema.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
        let columns: Vec<_> = batch.columns().iter().filter_map(CellColumn::of).collect();
        let size = |start: usize, end: usize| -> usize {
            columns.iter().map(|column| column.bytes(start, end)).sum()
        };
        let mut blocks = Vec::new();
        let mut start = 0;
        while start < batch.num_rows() {
            let fits = self.fitting(start, batch.num_rows(), &size);
            if fits > 0 {
                self.rows += fits;
                self.bytes += size(start, start + fits);
                self.waiting.push(batch.slice(start, fits));
                start += fits;
            }
            // Rows are left that do not fit any more, or nothing would fit.
            if start < batch.num_rows() || self.rows == self.max_rows {
                blocks.extend(self.take()?);
            }
        }
        Ok(blocks)
    }

    /// The rows that are left, at the end of the stream.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        (self.rows, self.bytes) = (0, 0);
        let mut waiting = std::mem::take(&mut self.waiting);
        match waiting.len() {
            0 => Ok(None),
            1 => Ok(waiting.pop()),
            _ => concat_batches(&waiting[0].schema(), &waiting).map(Some),
        }
    }

    /// How many of the rows `start..end` still fit in the block.
    fn fitting(&self, start: usize, end: usize, size: &impl Fn(usize, usize) -> usize) -> usize {
        let most = (self.max_rows - self.rows).min(end - start);
        let room = self.max_bytes.saturating_sub(self.bytes);
        if size(start, start + most) <= room {
            return most;
        }
        // The largest number of rows that fits, by bisection: sizes only grow with rows.
        let (mut fits, mut too_many) = (0, most);
        while fits + 1 < too_many {
            let middle = fits + (too_many - fits) / 2;
            if size(start, start + middle) <= room {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        if fits == 0 && self.rows == 0 { 1 } else { fits }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(texts: &[String]) -> RecordBatch {
        let array: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("text", array)]).unwrap()
    }

    fn cut(batches: &[RecordBatch], rows: usize, bytes: usize) -> Vec<Vec<String>> {
        let mut blocks = Blocks::new(rows, bytes);
        let mut cut = Vec::new();
        for batch in batches {
            cut.extend(blocks.push(batch).unwrap());
        }
        cut.extend(blocks.take().unwrap());
        let texts = |block: &RecordBatch| {
            let array = block.column(0).as_string::<i32>();
            array.iter().flatten().map(str::to_owned).collect()
        };
        cut.iter().map(texts).collect()
    }

    #[test]
    fn blocks_are_full_and_the_last_has_the_rest() {
        let texts: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        let sizes = |batches: &[RecordBatch]| -> Vec<usize> {
            cut(batches, 4, 1 << 20).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(&[batch(&texts)]), [4, 4, 2]);
        assert_eq!(sizes(&[batch(&texts[..3]), batch(&texts[3..])]), [4, 4, 2]);
        assert!(sizes(&[batch(&[])]).is_empty());
    }

    #[test]
    fn a_batch_that_is_a_block_is_not_copied() {
        let texts: Vec<_> = (0..4).map(|number| number.to_string()).collect();
        let batch = batch(&texts);
        let block = Blocks::new(4, 1 << 20).push(&batch).unwrap().remove(0);
        let address = |batch: &RecordBatch| batch.column(0).as_string::<i32>().values().as_ptr();
        assert_eq!(address(&block), address(&batch));
    }

    #[test]
    fn a_row_larger_than_a_block_is_a_block_of_its_own() {
        let texts: Vec<_> = [1, 50, 1, 1].iter().map(|length| "x".repeat(*length)).collect();
        let lengths: Vec<_> = cut(&[batch(&texts)], 100, 20).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, 2]);
    }

    proptest! {
        #[test]
        fn blocks_depend_on_the_rows_and_not_on_their_batches(
            lengths in proptest::collection::vec(0usize..40, 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..6),
            rows in 1usize..20,
            bytes in 0usize..200,
        ) {
            let texts: Vec<_> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(texts.len())).collect();
            cuts.extend([0, texts.len()]);
            cuts.sort_unstable();
            let batches: Vec<_> = cuts.windows(2).map(|w| batch(&texts[w[0]..w[1]])).collect();
            let blocks = cut(&batches, rows, bytes);
            prop_assert_eq!(&blocks, &cut(&[batch(&texts)], rows, bytes));
            prop_assert_eq!(blocks.concat(), texts);
            prop_assert!(blocks.iter().all(|block| !block.is_empty() && block.len() <= rows));
        }
    }
}
