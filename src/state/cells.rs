//! Arrow columns as values of declared tables.
//!
//! Responsible for: the cell of a row as the declared type of its column wants it, where that
//! loses nothing: whole doubles as integers, days as instants at midnight, text that says what the
//! type means. Anything else has no value, and the rows are refused.
//! Not responsible for: how a store writes a value, or which columns there are (`layout`).

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType,
};
use arrow::error::ArrowError;
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use serde::de::IgnoredAny;

use crate::sql::SqlType;

/// Doubles below this, and above its negation, are integers of 64 bits if they are whole.
const PAST_INTEGERS: f64 = 9_223_372_036_854_775_808.0;
const SECONDS_OF_A_DAY: i64 = 86_400;

/// A value for one row of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Date(Date),
    Instant(Timestamp),
    /// The text of a JSON document.
    Json(Cow<'a, str>),
}

/// The cells of one column of a batch.
pub(super) enum Cells {
    /// All null.
    Absent,
    Text(StringArray),
    Int(Int64Array),
    Double(Float64Array),
    Bool(BooleanArray),
    Date(Date32Array),
    /// UTC.
    Instant(TimestampMillisecondArray),
}

impl Cells {
    /// The cells of an array; an error if nothing declared can hold its type, or if a number is
    /// out of range.
    pub(super) fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        let Some(common) = common_type(array.data_type()) else {
            let advice = format!("columns of type {} cannot be stored", array.data_type());
            return Err(ArrowError::CastError(advice));
        };
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let array = cast_with_options(array, &common, &strict)?;
        let instants = || {
            let cells = array.as_primitive_opt::<TimestampMillisecondType>().cloned();
            cells.map_or(Self::Absent, Self::Instant)
        };
        Ok(match common {
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>().clone()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().clone()),
            _ => instants(),
        })
    }

    /// The cell of a row; `None` if a column of that type cannot hold it.
    pub(super) fn get(&self, row: usize, kind: SqlType) -> Option<Cell<'_>> {
        match self {
            Self::Absent => Some(Cell::Null),
            Self::Text(cells) => cell(cells, row, || text(cells.value(row), kind)),
            Self::Int(cells) => cell(cells, row, || int(cells.value(row), kind)),
            Self::Double(cells) => cell(cells, row, || double(cells.value(row), kind)),
            Self::Bool(cells) => cell(cells, row, || boolean(cells.value(row), kind)),
            Self::Date(cells) => cell(cells, row, || date(cells.value(row), kind)),
            Self::Instant(cells) => cell(cells, row, || instant(cells.value(row), kind)),
        }
    }
}

fn cell<'a>(
    cells: &dyn Array,
    row: usize,
    value: impl FnOnce() -> Option<Cell<'a>>,
) -> Option<Cell<'a>> {
    if cells.is_null(row) { Some(Cell::Null) } else { value() }
}

/// The type whose cells are read in the place of `kind`.
fn common_type(kind: &DataType) -> Option<DataType> {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => Some(DataType::Int64),
        DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Boolean => Some(DataType::Boolean),
        DataType::Date32 | DataType::Date64 => Some(DataType::Date32),
        DataType::Timestamp(_, zone) => {
            Some(DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))
        }
        DataType::Null => Some(DataType::Null),
        DataType::Dictionary(_, values) => common_type(values),
        _ => None,
    }
}

fn owned<'a>(text: String) -> Option<Cell<'a>> {
    Some(Cell::Text(Cow::Owned(text)))
}

fn document<'a>(text: String) -> Option<Cell<'a>> {
    Some(Cell::Json(Cow::Owned(text)))
}

fn text(text: &str, kind: SqlType) -> Option<Cell<'_>> {
    match kind {
        SqlType::Text => Some(Cell::Text(Cow::Borrowed(text))),
        SqlType::Int => text.parse().ok().map(Cell::Int),
        SqlType::Double => text.parse().ok().map(Cell::Double),
        SqlType::Bool => text.parse().ok().map(Cell::Bool),
        SqlType::Date => text.parse().ok().map(Cell::Date),
        SqlType::Instant => text.parse().ok().map(Cell::Instant),
        SqlType::Json => {
            let is_document = serde_json::from_str::<IgnoredAny>(text).is_ok();
            is_document.then_some(Cell::Json(Cow::Borrowed(text)))
        }
        SqlType::Bytes => None,
    }
}

fn int<'a>(number: i64, kind: SqlType) -> Option<Cell<'a>> {
    match kind {
        SqlType::Int => Some(Cell::Int(number)),
        SqlType::Double => exact_double(number).map(Cell::Double),
        SqlType::Bool => matches!(number, 0 | 1).then_some(Cell::Bool(number == 1)),
        SqlType::Text => owned(number.to_string()),
        SqlType::Json => document(number.to_string()),
        SqlType::Date | SqlType::Instant | SqlType::Bytes => None,
    }
}

/// The double that is this very number, if there is one.
fn exact_double(number: i64) -> Option<f64> {
    let double = number as f64;
    (double as i128 == i128::from(number)).then_some(double)
}

fn double<'a>(number: f64, kind: SqlType) -> Option<Cell<'a>> {
    let whole = number.fract() == 0.0 && (-PAST_INTEGERS..PAST_INTEGERS).contains(&number);
    match kind {
        SqlType::Double => Some(Cell::Double(number)),
        SqlType::Int => whole.then_some(Cell::Int(number as i64)),
        SqlType::Text => owned(number.to_string()),
        SqlType::Json => number.is_finite().then(|| number.to_string()).and_then(document),
        SqlType::Bool | SqlType::Date | SqlType::Instant | SqlType::Bytes => None,
    }
}

fn boolean<'a>(value: bool, kind: SqlType) -> Option<Cell<'a>> {
    match kind {
        SqlType::Bool => Some(Cell::Bool(value)),
        SqlType::Int => Some(Cell::Int(i64::from(value))),
        SqlType::Text => owned(value.to_string()),
        SqlType::Json => document(value.to_string()),
        SqlType::Double | SqlType::Date | SqlType::Instant | SqlType::Bytes => None,
    }
}

fn date<'a>(days: i32, kind: SqlType) -> Option<Cell<'a>> {
    let span = Span::new().try_days(days).ok()?;
    let day = Date::constant(1970, 1, 1).checked_add(span).ok()?;
    match kind {
        SqlType::Date => Some(Cell::Date(day)),
        SqlType::Text => owned(day.to_string()),
        SqlType::Instant => {
            let midnight = Timestamp::from_second(i64::from(days) * SECONDS_OF_A_DAY);
            midnight.ok().map(Cell::Instant)
        }
        SqlType::Json => document(format!("\"{day}\"")),
        SqlType::Int | SqlType::Double | SqlType::Bool | SqlType::Bytes => None,
    }
}

fn instant<'a>(millis: i64, kind: SqlType) -> Option<Cell<'a>> {
    let at = Timestamp::from_millisecond(millis).ok()?;
    match kind {
        SqlType::Instant => Some(Cell::Instant(at)),
        SqlType::Text => owned(instant_text(at)),
        SqlType::Json => document(format!("\"{}\"", instant_text(at))),
        SqlType::Int | SqlType::Double | SqlType::Bool | SqlType::Date | SqlType::Bytes => None,
    }
}

/// UTC with milliseconds, so that texts sort like the instants.
pub(super) fn instant_text(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests;
