//! Rows by the values of the path's columns.
//!
//! Responsible for: splitting a block of rows into those that belong into one object each, in the
//! order in which their values first appear.
//! Not responsible for: the objects themselves (`run`).

use std::collections::HashMap;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columnar::cell::CellColumn;

/// The rows of a block that have the same values.
#[derive(Debug)]
pub struct Share {
    /// Key of the values.
    pub key: Vec<u8>,
    /// The rows, in the order of the block.
    rows: Vec<u32>,
}

impl Share {
    /// Its first row in the block.
    pub fn first(&self) -> usize {
        self.rows.first().map_or(0, |row| *row as usize)
    }

    /// Its rows, taken out of the block or of other columns of it. Neighbours are not copied.
    pub fn of(&self, block: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let first = self.first();
        let last = self.rows.last().map_or(0, |row| *row as usize);
        if last + 1 - first == self.rows.len() {
            return Ok(block.slice(first, self.rows.len()));
        }
        take_record_batch(block, &UInt32Array::from(self.rows.clone()))
    }
}

/// Splits a block by the values of `columns`.
pub fn split(rows: usize, columns: &[CellColumn<'_>]) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut numbers: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut key = Vec::new();
    let mut last = usize::MAX;
    for row in 0..rows {
        key.clear();
        columns.iter().for_each(|column| column.cell(row).write_key(&mut key));
        // Neighbours mostly have the same values.
        if shares.get(last).is_none_or(|share| share.key != key) {
            last = *numbers.entry(key.clone()).or_insert_with(|| {
                shares.push(Share { key: key.clone(), rows: Vec::new() });
                shares.len() - 1
            });
        }
        if let (Some(share), Ok(row)) = (shares.get_mut(last), u32::try_from(row)) {
            share.rows.push(row);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn shares(days: &[&str]) -> Vec<Vec<i64>> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..days.len() as i64));
        let days: ArrayRef = Arc::new(StringArray::from_iter_values(days));
        let block = RecordBatch::try_from_iter([("day", days), ("n", numbers)]).unwrap();
        let columns = [CellColumn::of(block.column(0)).unwrap()];
        let values = |share: &Share| {
            let rows = share.of(&block).unwrap();
            rows.column(1).as_primitive::<Int64Type>().values().to_vec()
        };
        split(block.num_rows(), &columns).iter().map(values).collect()
    }

    #[test]
    fn rows_of_equal_values_stay_in_order_and_values_in_that_of_their_appearance() {
        assert_eq!(shares(&["b", "a", "b", "b", "a"]), [vec![0, 2, 3], vec![1, 4]]);
        assert_eq!(shares(&["a", "a", "b"]), [vec![0, 1], vec![2]]);
        assert!(shares(&[]).is_empty());
    }

    #[test]
    fn without_columns_a_block_stays_whole() {
        assert_eq!(split(3, &[]).iter().map(|share| share.rows.len()).collect::<Vec<_>>(), [3]);
    }
}
