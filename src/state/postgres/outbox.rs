//! The outbox: deliveries that completions owe.
//!
//! Responsible for: handing deliveries out in the order of revisions of their action, by any
//! replica, each to one of them; due again after a claim that nothing was heard of.
//! Not responsible for: delivering (`completion::dispatcher`), the time, which is an argument, or
//! adding deliveries (`columns`).

use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::model::{ManifestKey, PipelineName};
use crate::state::postgres::nul;
use crate::state::postgres::pool::Pool;
use crate::state::postgres::values::{Fault, field, number, parsed_json};
use crate::state::{Claimed, OutboxRow, OutboxStatus, StateError, refusals};

/// A row that somebody else is claiming at the moment is left to them.
const CLAIM: &str = "WITH due AS MATERIALIZED (SELECT d.id FROM tidemill_outbox AS d \
     WHERE d.pipeline = $1 AND d.delivered_at IS NULL AND d.not_before <= $2 \
     AND NOT EXISTS (SELECT 1 FROM tidemill_outbox AS earlier \
     WHERE earlier.pipeline = d.pipeline AND earlier.manifest = d.manifest \
     AND earlier.action = d.action AND earlier.revision < d.revision \
     AND earlier.delivered_at IS NULL) \
     ORDER BY d.id LIMIT $4 FOR UPDATE OF d SKIP LOCKED) \
     UPDATE tidemill_outbox AS o SET not_before = $3, attempts = o.attempts + 1 \
     FROM due WHERE o.id = due.id \
     RETURNING o.manifest, o.revision, o.action, o.part, o.idempotency_key, \
     CAST(o.target AS text), o.attempts - 1, o.id";

const DELIVERED: &str = "UPDATE tidemill_outbox SET delivered_at = $2, last_error = NULL \
     WHERE id = $1 AND delivered_at IS NULL";

const FAILED: &str = "UPDATE tidemill_outbox SET not_before = $2, last_error = $3 \
     WHERE id = $1 AND delivered_at IS NULL";

/// What a manifest owes and has delivered, oldest first.
pub(super) const OF_MANIFEST: &str = "SELECT manifest, revision, action, part, idempotency_key, \
     CAST(target AS text), attempts, delivered_at, last_error FROM tidemill_outbox \
     WHERE pipeline = $1 AND manifest = $2 ORDER BY id";

/// Takes what is due at `now`; it is due again at `until`.
pub(super) async fn claim(
    pool: &Pool,
    pipeline: &PipelineName,
    (now, until): (i64, i64),
    limit: u32,
) -> Result<Vec<Claimed>, StateError> {
    let client = pool.get().await?;
    let claim = async {
        let statement = client.prepare_cached(CLAIM).await?;
        let limit = i64::from(limit);
        client.query(&statement, &[&pipeline.as_str(), &now, &until, &limit]).await
    };
    let rows = claim.await.map_err(|error| pool.failed("claim deliveries", &error))?;
    let claimed = rows.iter().map(claimed).collect::<Result<Vec<_>, Fault>>();
    let mut claimed = claimed.map_err(|fault| pool.corrupt("claim deliveries", fault.as_ref()))?;
    claimed.sort_by_key(|delivery| delivery.id);
    Ok(claimed)
}

/// A delivery arrived; saying so again changes nothing.
pub(super) async fn delivered(pool: &Pool, id: i64, now: i64) -> Result<(), StateError> {
    let client = pool.get().await?;
    let update = async {
        let statement = client.prepare_cached(DELIVERED).await?;
        let changed = client.execute(&statement, &[&id, &now]).await?;
        is_known(&client, id, changed).await
    };
    marked(pool, id, update.await)
}

/// A delivery failed; one that has arrived since stays delivered.
pub(super) async fn fail(
    pool: &Pool,
    id: i64,
    retry_at: i64,
    error: &str,
) -> Result<(), StateError> {
    let client = pool.get().await?;
    let error = nul::without(refusals::shortened(error));
    let update = async {
        let statement = client.prepare_cached(FAILED).await?;
        let changed = client.execute(&statement, &[&id, &retry_at, &error]).await?;
        is_known(&client, id, changed).await
    };
    marked(pool, id, update.await)
}

/// Whether there is such a delivery, of which `changed` rows were changed.
async fn is_known(
    client: &deadpool_postgres::Client,
    id: i64,
    changed: u64,
) -> Result<bool, Error> {
    if changed > 0 {
        return Ok(true);
    }
    let known = "SELECT EXISTS (SELECT 1 FROM tidemill_outbox WHERE id = $1)";
    let statement = client.prepare_cached(known).await?;
    client.query_one(&statement, &[&id]).await?.try_get(0)
}

fn marked(pool: &Pool, id: i64, is_known: Result<bool, Error>) -> Result<(), StateError> {
    match is_known {
        Ok(true) => Ok(()),
        Ok(false) => Err(refusals::unknown_delivery(id)),
        Err(error) => Err(pool.failed("mark a delivery", &error)),
    }
}

fn claimed(row: &Row) -> Result<Claimed, Fault> {
    Ok(Claimed { id: field(row, 7)?, row: outbox_row(row)?, attempts: number(row, 6)? })
}

/// A delivery as [`OF_MANIFEST`] finds it.
pub(super) fn status(row: &Row) -> Result<OutboxStatus, Fault> {
    Ok(OutboxStatus {
        row: outbox_row(row)?,
        attempts: number(row, 6)?,
        delivered_at: field(row, 7)?,
        last_error: field(row, 8)?,
    })
}

fn outbox_row(row: &Row) -> Result<OutboxRow, Fault> {
    Ok(OutboxRow {
        manifest: ManifestKey::from(field::<&str>(row, 0)?),
        revision: number(row, 1)?,
        action: field(row, 2)?,
        part: number(row, 3)?,
        idempotency_key: field::<Uuid>(row, 4)?,
        target: parsed_json(row, 5)?,
    })
}
