//! The outbox: deliveries that completions owe.
//!
//! Responsible for: each delivery once, in the order of revisions of its action, due again after
//! a claim that nothing was heard of.
//! Not responsible for: delivering (`completion::dispatcher`), or the time, which is an argument.

use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::model::{ManifestKey, PipelineName};
use crate::state::sqlite::database::failed;
use crate::state::sqlite::values;
use crate::state::{Claimed, OutboxRow, OutboxStatus, StateError, refusals, stored};

const INSERT: &str = "INSERT INTO tidemill_outbox \
     (pipeline, manifest, revision, action, part, idempotency_key, target, created_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
     ON CONFLICT (pipeline, manifest, action, revision, part) DO NOTHING";

const DUE: &str = "SELECT manifest, revision, action, part, idempotency_key, target, attempts, id \
     FROM tidemill_outbox AS due WHERE pipeline = ?1 AND delivered_at IS NULL \
     AND not_before <= ?2 AND NOT EXISTS (SELECT 1 FROM tidemill_outbox AS earlier \
     WHERE earlier.pipeline = due.pipeline AND earlier.manifest = due.manifest \
     AND earlier.action = due.action AND earlier.revision < due.revision \
     AND earlier.delivered_at IS NULL) ORDER BY id LIMIT ?3";

const CLAIM: &str =
    "UPDATE tidemill_outbox SET not_before = ?2, attempts = attempts + 1 WHERE id = ?1";

const DELIVERED: &str = "UPDATE tidemill_outbox SET delivered_at = ?2, last_error = NULL \
     WHERE id = ?1 AND delivered_at IS NULL";

const FAILED: &str = "UPDATE tidemill_outbox SET not_before = ?2, last_error = ?3 \
     WHERE id = ?1 AND delivered_at IS NULL";

const OF_MANIFEST: &str = "SELECT manifest, revision, action, part, idempotency_key, target, \
     attempts, delivered_at, last_error FROM tidemill_outbox \
     WHERE pipeline = ?1 AND manifest = ?2 ORDER BY id";

/// Adds a delivery, unless it is owed already, of a manifest that completed at `completed_at`.
pub(super) fn add(
    connection: &Connection,
    pipeline: &PipelineName,
    row: &OutboxRow,
    completed_at: Option<i64>,
) -> Result<(), StateError> {
    let target = stored::json_text("the target of a delivery", &row.target)?;
    let insert = || {
        connection.prepare_cached(INSERT)?.execute((
            pipeline.as_str(),
            row.manifest.as_str(),
            row.revision,
            row.action.as_str(),
            row.part,
            row.idempotency_key.to_string(),
            target,
            completed_at,
        ))
    };
    insert().map(|_| ()).map_err(|error| failed("store a delivery", &error))
}

/// Takes what is due at `now`; it is due again at `until`.
pub(super) fn claim(
    connection: &Connection,
    pipeline: &PipelineName,
    (now, until): (i64, i64),
    limit: u32,
) -> Result<Vec<Claimed>, StateError> {
    let claim = || -> rusqlite::Result<Vec<Claimed>> {
        let mut due = connection.prepare_cached(DUE)?;
        let rows = due.query_map((pipeline.as_str(), now, limit), |row| {
            Ok(Claimed { id: row.get(7)?, row: outbox_row(row)?, attempts: row.get(6)? })
        })?;
        let claimed: Vec<Claimed> = rows.collect::<rusqlite::Result<_>>()?;
        let mut take = connection.prepare_cached(CLAIM)?;
        for delivery in &claimed {
            take.execute((delivery.id, until))?;
        }
        Ok(claimed)
    };
    claim().map_err(|error| failed("claim deliveries", &error))
}

/// A delivery arrived; saying so again changes nothing.
pub(super) fn delivered(connection: &Connection, id: i64, now: i64) -> Result<(), StateError> {
    let update = || connection.prepare_cached(DELIVERED)?.execute((id, now));
    mark(connection, id, update)
}

/// A delivery failed; one that has arrived since stays delivered.
pub(super) fn fail(
    connection: &Connection,
    id: i64,
    retry_at: i64,
    error: &str,
) -> Result<(), StateError> {
    let error = refusals::shortened(error);
    let update = || connection.prepare_cached(FAILED)?.execute((id, retry_at, error));
    mark(connection, id, update)
}

fn mark(
    connection: &Connection,
    id: i64,
    update: impl Fn() -> rusqlite::Result<usize>,
) -> Result<(), StateError> {
    let update = || -> rusqlite::Result<bool> {
        let known = "SELECT 1 FROM tidemill_outbox WHERE id = ?1";
        Ok(update()? > 0 || connection.prepare_cached(known)?.exists((id,))?)
    };
    match update() {
        Ok(true) => Ok(()),
        Ok(false) => Err(refusals::unknown_delivery(id)),
        Err(error) => Err(failed("mark a delivery", &error)),
    }
}

/// What a manifest owes and has delivered, oldest first.
pub(super) fn of_manifest(
    connection: &Connection,
    pipeline: &PipelineName,
    manifest: &ManifestKey,
) -> Result<Vec<OutboxStatus>, StateError> {
    let select = || -> rusqlite::Result<Vec<OutboxStatus>> {
        let mut statement = connection.prepare_cached(OF_MANIFEST)?;
        let rows = statement.query_map((pipeline.as_str(), manifest.as_str()), |row| {
            Ok(OutboxStatus {
                row: outbox_row(row)?,
                attempts: row.get(6)?,
                delivered_at: row.get(7)?,
                last_error: row.get(8)?,
            })
        })?;
        rows.collect()
    };
    select().map_err(|error| failed("read deliveries", &error))
}

fn outbox_row(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let key = row.get_ref(4)?.as_str().map_err(|error| values::corrupt(4, error))?;
    Ok(OutboxRow {
        manifest: ManifestKey::from(row.get::<_, String>(0)?),
        revision: row.get(1)?,
        action: row.get(2)?,
        part: row.get(3)?,
        idempotency_key: Uuid::parse_str(key).map_err(|error| values::corrupt(4, error))?,
        target: values::parsed_json(row, 5)?,
    })
}
