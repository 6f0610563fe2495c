//! Values out of rows.
//!
//! Responsible for: reading columns, and what stands in them for states, digests and JSON. A value
//! that cannot have been written by this program is an error, never a default.
//! Not responsible for: parameters of topologies (`parameters`), or declared tables (`tables`).

use std::error::Error;

use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::model::Digest;

/// Why a row could not be read.
pub(super) type Fault = Box<dyn Error + Send + Sync>;

/// A column as it is.
pub(super) fn field<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Fault> {
    row.try_get(column).map_err(Fault::from)
}

/// A number that is stored as one with a sign.
pub(super) fn number<T>(row: &Row, column: usize) -> Result<T, Fault>
where
    T: TryFrom<i64>,
    T::Error: Error + Send + Sync + 'static,
{
    T::try_from(field::<i64>(row, column)?).map_err(Fault::from)
}

/// A value that is selected as JSON text.
pub(super) fn parsed_json<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, Fault> {
    serde_json::from_str(field(row, column)?).map_err(Fault::from)
}

/// A digest, or none.
pub(super) fn digest(row: &Row, column: usize) -> Result<Option<Digest>, Fault> {
    let Some(bytes) = field::<Option<&[u8]>>(row, column)? else { return Ok(None) };
    Ok(Some(Digest::from_bytes(bytes.try_into()?)))
}
