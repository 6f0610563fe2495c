//! Single cells of a batch, whatever their type.
//!
//! Responsible for: the types that columns have in this engine, cells as keys (bytes that are
//! equal exactly if the cells are), as text and as JSON, and columns made from cells again.
//! Not responsible for: which cells somebody wants.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::DataType;
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use serde_json::Value;

use crate::columnar::layout::UTC;

/// First byte of a key: there is no value.
const ABSENT: u8 = 0;
/// First byte of a key: a value follows.
const PRESENT: u8 = 1;

/// A column of one of the types that columns have.
#[derive(Clone, Copy, Debug)]
pub enum CellColumn<'a> {
    /// Text.
    Text(&'a StringArray),
    /// Days since the Unix epoch.
    Date(&'a Date32Array),
    /// UTC milliseconds since the Unix epoch.
    Instant(&'a TimestampMillisecondArray),
    /// Doubles.
    Double(&'a Float64Array),
    /// Integers.
    Int(&'a Int64Array),
}

/// A value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// Text.
    Text(&'a str),
    /// Days since the Unix epoch.
    Date(i32),
    /// UTC milliseconds since the Unix epoch.
    Instant(i64),
    /// A double.
    Double(f64),
    /// An integer.
    Int(i64),
}

impl<'a> CellColumn<'a> {
    /// The column, or `None` if it has none of the known types.
    pub fn of(array: &'a ArrayRef) -> Option<Self> {
        let any = array.as_any();
        Some(match array.data_type() {
            DataType::Utf8 => Self::Text(any.downcast_ref()?),
            DataType::Date32 => Self::Date(any.downcast_ref()?),
            DataType::Timestamp(..) => Self::Instant(any.downcast_ref()?),
            DataType::Float64 => Self::Double(any.downcast_ref()?),
            DataType::Int64 => Self::Int(any.downcast_ref()?),
            _ => return None,
        })
    }

    fn array(&self) -> &'a dyn Array {
        match self {
            Self::Text(array) => *array,
            Self::Date(array) => *array,
            Self::Instant(array) => *array,
            Self::Double(array) => *array,
            Self::Int(array) => *array,
        }
    }

    /// The cell of a row.
    pub fn cell(&self, row: usize) -> Cell<'a> {
        if self.array().is_null(row) {
            return Cell::Null;
        }
        match self {
            Self::Text(array) => Cell::Text(array.value(row)),
            Self::Date(array) => Cell::Date(array.value(row)),
            Self::Instant(array) => Cell::Instant(array.value(row)),
            Self::Double(array) => Cell::Double(array.value(row)),
            Self::Int(array) => Cell::Int(array.value(row)),
        }
    }

    /// Bytes that the values of some rows take, roughly: a function of the values alone, however
    /// they lie in memory.
    pub fn bytes(&self, start: usize, end: usize) -> usize {
        let rows = end - start;
        match self {
            Self::Text(array) => {
                let offsets = array.value_offsets();
                (offsets[end] - offsets[start]) as usize + rows * size_of::<i32>()
            }
            _ => rows * size_of::<i64>(),
        }
    }
}

impl Cell<'_> {
    /// Appends the key of the cell. Keys of one column are equal exactly if the cells are, and one
    /// is never the beginning of another, so keys of several columns can stand in a row.
    pub fn write_key(&self, key: &mut Vec<u8>) {
        if *self == Cell::Null {
            key.push(ABSENT);
            return;
        }
        key.push(PRESENT);
        match self {
            Cell::Null => {}
            Cell::Text(text) => {
                key.extend_from_slice(&(text.len() as u64).to_le_bytes());
                key.extend_from_slice(text.as_bytes());
            }
            Cell::Date(days) => key.extend_from_slice(&days.to_le_bytes()),
            Cell::Instant(number) | Cell::Int(number) => {
                key.extend_from_slice(&number.to_le_bytes());
            }
            Cell::Double(number) => {
                // Zero has two signs and one meaning.
                let number = if *number == 0.0 { 0.0 } else { *number };
                key.extend_from_slice(&number.to_bits().to_le_bytes());
            }
        }
    }

    /// The cell as text: dates as `2025-03-10`, instants as RFC 3339; `None` for no value.
    pub fn text(&self) -> Option<String> {
        match self {
            Cell::Null => None,
            Cell::Text(text) => Some((*text).to_owned()),
            Cell::Date(days) => Some(date_text(*days)),
            Cell::Instant(millis) => Some(instant_text(*millis)),
            Cell::Double(number) => Some(number.to_string()),
            Cell::Int(number) => Some(number.to_string()),
        }
    }

    /// The cell as JSON: numbers as numbers, dates and instants as text.
    pub fn json(&self) -> Value {
        match self {
            Cell::Double(number) => Value::from(*number),
            Cell::Int(number) => Value::from(*number),
            other => other.text().map_or(Value::Null, Value::String),
        }
    }
}

fn date_text(days: i32) -> String {
    let day =
        Span::new().try_days(days).and_then(|span| Date::constant(1970, 1, 1).checked_add(span));
    day.map_or_else(|_| days.to_string(), |day| day.to_string())
}

fn instant_text(millis: i64) -> String {
    Timestamp::from_millisecond(millis)
        .map_or_else(|_| millis.to_string(), |instant| instant.to_string())
}

/// Reads the next cell of a column of type `kind` from the front of `key`. `None` if the key was
/// not written by such a column.
pub fn read_key<'k>(kind: &DataType, key: &mut &'k [u8]) -> Option<Cell<'k>> {
    let (tag, rest) = key.split_first()?;
    *key = rest;
    if *tag == ABSENT {
        return Some(Cell::Null);
    }
    Some(match kind {
        DataType::Utf8 => {
            let length = usize::try_from(u64::from_le_bytes(take(key)?)).ok()?;
            let (text, rest) = key.split_at_checked(length)?;
            *key = rest;
            Cell::Text(std::str::from_utf8(text).ok()?)
        }
        DataType::Date32 => Cell::Date(i32::from_le_bytes(take(key)?)),
        DataType::Timestamp(..) => Cell::Instant(i64::from_le_bytes(take(key)?)),
        DataType::Float64 => Cell::Double(f64::from_bits(u64::from_le_bytes(take(key)?))),
        DataType::Int64 => Cell::Int(i64::from_le_bytes(take(key)?)),
        _ => return None,
    })
}

fn take<const N: usize>(key: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = key.split_first_chunk::<N>()?;
    *key = rest;
    Some(*bytes)
}

/// A column of type `kind` with these cells; a cell of another type is taken as no value. `None`
/// if `kind` is none of the known types.
pub fn column<'a>(kind: &DataType, cells: impl Iterator<Item = Cell<'a>>) -> Option<ArrayRef> {
    Some(match kind {
        DataType::Utf8 => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
            Cell::Text(text) => Some(text),
            _ => None,
        }))),
        DataType::Date32 => Arc::new(Date32Array::from_iter(cells.map(|cell| match cell {
            Cell::Date(days) => Some(days),
            _ => None,
        }))),
        DataType::Timestamp(..) => {
            let millis = cells.map(|cell| match cell {
                Cell::Instant(millis) => Some(millis),
                _ => None,
            });
            Arc::new(TimestampMillisecondArray::from_iter(millis).with_timezone(UTC))
        }
        DataType::Float64 => Arc::new(Float64Array::from_iter(cells.map(|cell| match cell {
            Cell::Double(number) => Some(number),
            _ => None,
        }))),
        DataType::Int64 => Arc::new(Int64Array::from_iter(cells.map(|cell| match cell {
            Cell::Int(number) => Some(number),
            _ => None,
        }))),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::columnar::layout::instant_type;

    fn key_of(cells: &[Cell<'_>]) -> Vec<u8> {
        let mut key = Vec::new();
        cells.iter().for_each(|cell| cell.write_key(&mut key));
        key
    }

    #[test]
    fn cells_are_shown_as_people_write_them() {
        let table = [
            (Cell::Null, None),
            (Cell::Text("00012"), Some("00012")),
            (Cell::Date(20_160), Some("2025-03-13")),
            (Cell::Date(-1), Some("1969-12-31")),
            (Cell::Instant(1_741_842_000_000), Some("2025-03-13T05:00:00Z")),
            (Cell::Double(0.5), Some("0.5")),
            (Cell::Int(-7), Some("-7")),
        ];
        for (cell, text) in table {
            assert_eq!(cell.text().as_deref(), text, "{cell:?}");
        }
        assert_eq!(Cell::Date(i32::MAX).text(), Some(i32::MAX.to_string()));
        assert_eq!(Cell::Instant(i64::MAX).text(), Some(i64::MAX.to_string()));
    }

    #[test]
    fn json_keeps_numbers_and_has_null_for_infinity() {
        assert_eq!(Cell::Int(3).json(), serde_json::json!(3));
        assert_eq!(Cell::Double(0.5).json(), serde_json::json!(0.5));
        assert_eq!(Cell::Double(f64::INFINITY).json(), Value::Null);
        assert_eq!(Cell::Date(0).json(), serde_json::json!("1970-01-01"));
        assert_eq!(Cell::Null.json(), Value::Null);
    }

    #[test]
    fn cells_of_neighbouring_columns_do_not_run_into_each_other() {
        let (left, right) =
            ([Cell::Text("ab"), Cell::Text("c")], [Cell::Text("a"), Cell::Text("bc")]);
        assert_ne!(key_of(&left), key_of(&right));
        assert_ne!(key_of(&[Cell::Null]), key_of(&[Cell::Text("")]));
        assert_eq!(key_of(&[Cell::Double(0.0)]), key_of(&[Cell::Double(-0.0)]));
    }

    #[test]
    fn a_key_of_another_type_is_no_cell() {
        let key = key_of(&[Cell::Date(1)]);
        assert_eq!(read_key(&DataType::Utf8, &mut key.as_slice()), None);
        assert_eq!(read_key(&DataType::Boolean, &mut key.as_slice()), None);
        assert_eq!(read_key(&DataType::Utf8, &mut &[][..]), None);
    }

    #[test]
    fn columns_give_their_cells_and_are_made_of_them_again() {
        let kinds = [
            (DataType::Utf8, vec![Cell::Text("a"), Cell::Null, Cell::Text("")]),
            (DataType::Date32, vec![Cell::Date(3), Cell::Null]),
            (instant_type(), vec![Cell::Null, Cell::Instant(5)]),
            (DataType::Float64, vec![Cell::Double(1.5), Cell::Null]),
            (DataType::Int64, vec![Cell::Int(9), Cell::Null]),
        ];
        for (kind, cells) in kinds {
            let array = column(&kind, cells.iter().copied()).unwrap();
            assert_eq!(*array.data_type(), kind);
            let read = CellColumn::of(&array).unwrap();
            assert_eq!((0..cells.len()).map(|row| read.cell(row)).collect::<Vec<_>>(), cells);
        }
        assert!(column(&DataType::Boolean, std::iter::empty()).is_none());
    }

    proptest! {
        #[test]
        fn keys_read_back_as_the_cells_they_were_made_of(
            text in proptest::option::of(".{0,12}"), day in any::<i32>(), at in any::<i64>(),
        ) {
            let cells =
                [text.as_deref().map_or(Cell::Null, Cell::Text), Cell::Date(day), Cell::Instant(at)];
            let key = key_of(&cells);
            let mut rest = key.as_slice();
            for (kind, cell) in [DataType::Utf8, DataType::Date32, instant_type()].iter().zip(cells) {
                prop_assert_eq!(read_key(kind, &mut rest), Some(cell));
            }
            prop_assert!(rest.is_empty());
        }
    }
}
