//! Values between the store and SQLite.
//!
//! Responsible for: what parameters and cells are bound to, and reading rows back.
//! Not responsible for: what stands for a value in every store (`stored`).

use std::borrow::Cow;
use std::error::Error;

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, Type, Value as SqlValue, ValueRef};
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::model::Digest;
use crate::model::event::MemberState;
use crate::sql::SqlType;
use crate::state::cells::{Cell, instant_text};
use crate::state::{ManifestPhase, stored};

/// What a parameter of a statement is bound to.
pub(super) fn bound(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Bool(value) => SqlValue::Integer(i64::from(*value)),
        Value::Number(number) => {
            let real = || number.as_f64().map(SqlValue::Real);
            let integer = number.as_i64().map(SqlValue::Integer);
            integer.or_else(real).unwrap_or_else(|| SqlValue::Text(number.to_string()))
        }
        Value::String(text) => SqlValue::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => SqlValue::Text(value.to_string()),
    }
}

/// What a cell of a column is bound to; days and instants are text.
pub(super) fn cell(cell: Cell<'_>) -> ToSqlOutput<'_> {
    let owned = |text: String| ToSqlOutput::Owned(SqlValue::Text(text));
    match cell {
        Cell::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        Cell::Text(Cow::Borrowed(text)) | Cell::Json(Cow::Borrowed(text)) => {
            ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
        }
        Cell::Text(Cow::Owned(text)) | Cell::Json(Cow::Owned(text)) => owned(text),
        Cell::Int(number) => ToSqlOutput::Owned(SqlValue::Integer(number)),
        Cell::Double(number) => ToSqlOutput::Owned(SqlValue::Real(number)),
        Cell::Bool(value) => ToSqlOutput::Owned(SqlValue::Integer(i64::from(value))),
        Cell::Date(day) => owned(day.to_string()),
        Cell::Instant(at) => owned(instant_text(at)),
    }
}

/// What a stored value is in JSON, given the type its column was declared with.
pub(super) fn json(value: ValueRef<'_>, kind: Option<SqlType>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) if kind == Some(SqlType::Bool) => Value::Bool(number != 0),
        ValueRef::Integer(number) => Value::from(number),
        ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => {
            let parsed = (kind == Some(SqlType::Json)).then(|| serde_json::from_slice(text).ok());
            let as_text = || Value::String(String::from_utf8_lossy(text).into_owned());
            parsed.flatten().unwrap_or_else(as_text)
        }
        ValueRef::Blob(bytes) => Value::String(stored::hex(bytes)),
    }
}

/// A count that was stored.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let stored: i64 = row.get(column)?;
    u64::try_from(stored).map_err(|error| corrupt(column, error))
}

/// A value that was stored as JSON text.
pub(super) fn parsed_json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|error| corrupt(column, error))?;
    serde_json::from_str(text).map_err(|error| corrupt(column, error))
}

/// A digest that was stored.
pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    let bytes: Option<[u8; 16]> = row.get(column)?;
    Ok(bytes.map(Digest::from_bytes))
}

/// The state of a member that was stored.
pub(super) fn member_state(row: &Row<'_>, column: usize) -> rusqlite::Result<MemberState> {
    let word: String = row.get(column)?;
    stored::member_state(&word).map_err(|why| corrupt(column, why))
}

/// The phase of a manifest that was stored.
pub(super) fn phase(row: &Row<'_>, column: usize) -> rusqlite::Result<ManifestPhase> {
    let word: String = row.get(column)?;
    stored::phase(&word).map_err(|why| corrupt(column, why))
}

/// A stored value that this program cannot have written.
pub(super) fn corrupt(
    column: usize,
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

#[cfg(test)]
mod tests;
