//! What a pipeline has not got done yet.
//!
//! Responsible for: counting it.
//! Not responsible for: how often (`engine`), or which rows there are (`columns`).

use tokio_postgres::{Error, Row};

use crate::model::PipelineName;
use crate::state::postgres::pool::Pool;
use crate::state::postgres::values::{Fault, field, number};
use crate::state::{Backlog, StateError};

const DOING: &str = "count what is to be done";

const BACKLOG: &str = "SELECT o.owed, o.failing, o.oldest_at, m.waiting, m.blocked FROM \
     (SELECT count(*) AS owed, count(last_error) AS failing, min(created_at) AS oldest_at \
     FROM tidemill_outbox WHERE pipeline = $1 AND delivered_at IS NULL) AS o, \
     (SELECT count(*) AS waiting, count(*) FILTER (WHERE note LIKE 'blocked:%') AS blocked \
     FROM tidemill_manifest WHERE pipeline = $1 AND phase = 'open') AS m";

/// Counts what a pipeline owes and waits for.
pub(super) async fn read(pool: &Pool, pipeline: &PipelineName) -> Result<Backlog, StateError> {
    let client = pool.get().await?;
    let read = async {
        let statement = client.prepare_cached(BACKLOG).await?;
        client.query_one(&statement, &[&pipeline.as_str()]).await
    };
    let row: Result<Row, Error> = read.await;
    let row = row.map_err(|error| pool.failed(DOING, &error))?;
    backlog(&row).map_err(|fault| pool.corrupt(DOING, fault.as_ref()))
}

fn backlog(row: &Row) -> Result<Backlog, Fault> {
    Ok(Backlog {
        undelivered: number(row, 0)?,
        failing: number(row, 1)?,
        oldest_at: field(row, 2)?,
        open: number(row, 3)?,
        blocked: number(row, 4)?,
    })
}
