//! A builder of text columns that takes bytes as they come.
//!
//! Responsible for: collecting fields into one buffer, and mending bytes that are no UTF-8 when
//! the column is finished: a whole column is checked at once, which is much cheaper than field by
//! field.
//! Not responsible for: which fields belong to a column.

use std::str::from_utf8;

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

/// Collects the fields of one text column.
#[derive(Debug)]
pub struct TextBuilder {
    bytes: Vec<u8>,
    /// End of each field in `bytes`, after a leading zero.
    ends: Vec<i32>,
}

impl TextBuilder {
    /// A builder with room for `rows` fields.
    pub fn with_rows(rows: usize) -> Self {
        Self { bytes: Vec::new(), ends: fresh_ends(rows) }
    }

    /// Adds a field. Together the fields of a column must stay below 2 GiB, which its caller
    /// ensures by finishing it long before.
    pub fn push(&mut self, field: &[u8]) {
        self.bytes.extend_from_slice(field);
        self.ends.push(end_of(&self.bytes));
    }

    /// The column, and how many of its fields had to be mended. The builder is empty again, with
    /// room for as much as it held.
    pub fn finish(&mut self) -> Result<(StringArray, u64), ArrowError> {
        let rows = self.ends.len() - 1;
        let (room, room_rows) = (self.bytes.len(), rows);
        let mended = self.mend();
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(room));
        let ends = std::mem::replace(&mut self.ends, fresh_ends(room_rows));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok((StringArray::try_new(offsets, Buffer::from_vec(bytes), None)?, mended))
    }

    /// Replaces what is no UTF-8; returns the number of fields that changed.
    fn mend(&mut self) -> u64 {
        if self.bytes.is_ascii() {
            return 0;
        }
        // Two halves of a character in neighbouring fields look whole in the joined buffer, so
        // each field is looked at.
        if self.fields().all(|field| from_utf8(field).is_ok()) {
            return 0;
        }
        let mut mended = 0;
        let mut better = Self::with_rows(self.ends.len());
        for field in self.fields() {
            mended += u64::from(from_utf8(field).is_err());
            better.push(String::from_utf8_lossy(field).as_bytes());
        }
        *self = better;
        mended
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.windows(2).map(|ends| &self.bytes[ends[0] as usize..ends[1] as usize])
    }
}

fn fresh_ends(rows: usize) -> Vec<i32> {
    let mut ends = Vec::with_capacity(rows + 1);
    ends.push(0);
    ends
}

fn end_of(bytes: &[u8]) -> i32 {
    debug_assert!(i32::try_from(bytes.len()).is_ok(), "a text column beyond 2 GiB");
    bytes.len() as i32
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    fn column(fields: &[&[u8]]) -> (Vec<String>, u64) {
        let mut builder = TextBuilder::with_rows(2);
        fields.iter().for_each(|field| builder.push(field));
        let (array, mended) = builder.finish().unwrap();
        (array.iter().flatten().map(str::to_owned).collect(), mended)
    }

    #[test]
    fn fields_come_out_as_they_went_in() {
        let (texts, mended) = column(&[b"a", b"", "grün".as_bytes(), b"00012"]);
        assert_eq!(texts, ["a", "", "grün", "00012"]);
        assert_eq!(mended, 0);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced_and_counted_by_field() {
        let (texts, mended) = column(&[b"ok", b"\xffx", "é".as_bytes(), b"\xfe\xfe"]);
        assert_eq!(texts, ["ok", "\u{fffd}x", "é", "\u{fffd}\u{fffd}"]);
        assert_eq!(mended, 2);
    }

    #[test]
    fn a_character_cut_in_two_by_a_field_border_is_mended_on_both_sides() {
        let (texts, mended) = column(&[b"\xc3", b"\xa9"]);
        assert_eq!(texts, ["\u{fffd}", "\u{fffd}"]);
        assert_eq!(mended, 2);
    }

    #[test]
    fn a_finished_builder_starts_anew() {
        let mut builder = TextBuilder::with_rows(1);
        builder.push(b"first");
        assert_eq!(builder.finish().unwrap().0.len(), 1);
        assert_eq!(builder.finish().unwrap().0.len(), 0);
        builder.push(b"second");
        assert_eq!(builder.finish().unwrap().0.value(0), "second");
    }
}
