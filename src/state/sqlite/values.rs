//! Values between the store and SQLite.
//!
//! Responsible for: what stands for numbers, states, digests and JSON in a row, and reading them
//! back; a value that cannot have been written by this program is an error, never a default.
//! Not responsible for: Arrow columns (`cells`).

use std::error::Error;

use rusqlite::Row;
use rusqlite::types::{Type, Value as SqlValue, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::model::Digest;
use crate::model::event::MemberState;
use crate::sql::SqlType;
use crate::state::{ColumnType, ManifestPhase, StateError};

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
        ValueRef::Blob(bytes) => {
            Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
    }
}

/// The type in definitions of a declared column.
pub(super) fn sql_type(kind: ColumnType) -> SqlType {
    match kind {
        ColumnType::Text => SqlType::Text,
        ColumnType::Int => SqlType::Int,
        ColumnType::Double => SqlType::Double,
        ColumnType::Bool => SqlType::Bool,
        ColumnType::Date => SqlType::Date,
        ColumnType::Instant => SqlType::Instant,
        ColumnType::Json => SqlType::Json,
    }
}

/// A count as SQLite stores it.
pub(super) fn stored_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that was stored.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let stored: i64 = row.get(column)?;
    u64::try_from(stored).map_err(|error| corrupt(column, error))
}

/// A value as JSON text. `what` names it in the error.
pub(super) fn json_text(what: &str, value: &impl Serialize) -> Result<String, StateError> {
    serde_json::to_string(value)
        .map_err(|error| StateError::Fatal(format!("{what} cannot be stored as JSON: {error}")))
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
    let states =
        [MemberState::Pending, MemberState::DeadLettered, MemberState::Empty, MemberState::Done];
    let text: String = row.get(column)?;
    let found = states.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| corrupt(column, format!("no state of a member is called {text}")))
}

/// The phase of a manifest that was stored.
pub(super) fn phase(row: &Row<'_>, column: usize) -> rusqlite::Result<ManifestPhase> {
    let phases = [
        ManifestPhase::Open,
        ManifestPhase::Complete,
        ManifestPhase::Cancelled,
        ManifestPhase::Failed,
    ];
    let text: String = row.get(column)?;
    let found = phases.into_iter().find(|phase| phase.as_str() == text);
    found.ok_or_else(|| corrupt(column, format!("no phase of a manifest is called {text}")))
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
