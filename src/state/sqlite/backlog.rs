//! What a pipeline has not got done yet.
//!
//! Responsible for: counting it as of one moment.
//! Not responsible for: how often (`engine`), or which rows there are (`outbox`, `manifests`).

use rusqlite::{Connection, Row};

use crate::model::PipelineName;
use crate::state::sqlite::database::failed;
use crate::state::sqlite::values::count;
use crate::state::{Backlog, StateError};

const OWED: &str = "SELECT count(*), count(last_error), min(created_at) FROM tidemill_outbox \
     WHERE pipeline = ?1 AND delivered_at IS NULL";

const OPEN: &str = "SELECT count(*), count(*) FILTER (WHERE note LIKE 'blocked:%') \
     FROM tidemill_manifest WHERE pipeline = ?1 AND phase = 'open'";

/// Counts what a pipeline owes and waits for.
pub(super) fn read(
    connection: &Connection,
    pipeline: &PipelineName,
) -> Result<Backlog, StateError> {
    let name = (pipeline.as_str(),);
    let read = || -> rusqlite::Result<Backlog> {
        let owed = connection.prepare_cached(OWED)?.query_row(name, owed_row)?;
        let (undelivered, failing, oldest_at) = owed;
        let (open, blocked) = connection.prepare_cached(OPEN)?.query_row(name, open_row)?;
        Ok(Backlog { undelivered, failing, oldest_at, open, blocked })
    };
    read().map_err(|error| failed("count what is to be done", &error))
}

fn owed_row(row: &Row<'_>) -> rusqlite::Result<(u64, u64, Option<i64>)> {
    Ok((count(row, 0)?, count(row, 1)?, row.get(2)?))
}

fn open_row(row: &Row<'_>) -> rusqlite::Result<(u64, u64)> {
    Ok((count(row, 0)?, count(row, 1)?))
}
