//! The same in SQLite by hand.
//!
//! Responsible for: one connection with the store's settings that commits as many units at once
//! as the engine has shards.
//! Not responsible for: what a unit is.

use std::path::Path;

use rusqlite::Connection;
use tidemill::state::sqlite::SqliteStore;
use tidemill::state::{Change, CompletionRow};
use uuid::Uuid;

use crate::harness::pipeline::runtime;
use crate::harness::process::{Meter, Sample};
use crate::harness::{Side, Tried};
use crate::rows::transactions::{COUNT, Load, PIPELINE, through_the_store, unit};

/// Tables of the store: the baseline writes into the same.
const SCHEMA: &str = include_str!("../../../src/state/sqlite/migrations/0001_state.sql");
/// The store's own settings.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4096; \
     PRAGMA journal_size_limit = 67108864;";

const TAKE_OVER: &str = "INSERT INTO tidemill_shard (pipeline, shard, epoch, token, next, seq) \
     VALUES (?1, ?2, 1, ?3, NULL, 0)";
const ADVANCE: &str = "UPDATE tidemill_shard SET next = ?5, seq = seq + 1 \
     WHERE pipeline = ?1 AND shard = ?2 AND epoch = 1 AND token = ?3 \
     AND (next = ?4 OR next IS NULL)";
const MEMBER: &str = "INSERT INTO tidemill_member \
     (pipeline, manifest, member, expected, state, digest, facts, settled_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
     ON CONFLICT (pipeline, manifest, member) DO UPDATE SET expected = excluded.expected, \
     state = excluded.state, digest = excluded.digest, facts = excluded.facts, \
     settled_at = excluded.settled_at";
const MANIFEST: &str = "INSERT INTO tidemill_manifest (pipeline, manifest, kind, shard, phase, \
     revision, announced, facts, first_at, last_at, completed_at, duplicates, conflicts, late, \
     note, extra) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, 0, 0, NULL, 'null') \
     ON CONFLICT (pipeline, manifest) DO UPDATE SET phase = excluded.phase, \
     revision = excluded.revision, announced = excluded.announced, facts = excluded.facts, \
     last_at = excluded.last_at, completed_at = excluded.completed_at";
const DELIVERY: &str = "INSERT INTO tidemill_outbox \
     (pipeline, manifest, revision, action, part, idempotency_key, target) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
     ON CONFLICT (pipeline, manifest, action, revision, part) DO NOTHING";

/// One side, in a new file in the folder.
pub(super) fn run(side: Side, load: Load, folder: &str) -> Tried<Sample> {
    let folder = tempfile::tempdir_in(folder)?;
    let file = folder.path().join("state.db");
    let sample = match side {
        Side::Engine => {
            let store = SqliteStore::open(&file)?;
            runtime()?.block_on(through_the_store(store, load))?
        }
        Side::Baseline => by_hand(&file, load)?,
    };
    let counted = Connection::open(&file)?
        .query_row(COUNT, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    load.check(counted)?;
    Ok(sample)
}

fn by_hand(file: &Path, load: Load) -> Tried<Sample> {
    let connection = Connection::open(file)?;
    connection.execute_batch(SETTINGS)?;
    connection.execute_batch(SCHEMA)?;
    let token = Uuid::new_v4();
    for shard in 0..load.shards {
        connection.execute(TAKE_OVER, (PIPELINE, shard, token.as_bytes().as_slice()))?;
    }
    let meter = Meter::start()?;
    for round in 0..load.rounds {
        let transaction = connection.unchecked_transaction()?;
        for shard in 0..load.shards {
            write(&transaction, shard, &token, &unit(shard, round))?;
        }
        transaction.commit()?;
    }
    meter.stop(load.units(), 0)
}

/// Writes what the store would write.
fn write(connection: &Connection, shard: i32, token: &Uuid, change: &Change) -> Tried {
    let mut advance = connection.prepare_cached(ADVANCE)?;
    let token = token.as_bytes().as_slice();
    if advance.execute((PIPELINE, shard, token, change.from.0, change.to.0))? != 1 {
        return Err("the shard's offset is not where the unit begins".into());
    }
    let mut member = connection.prepare_cached(MEMBER)?;
    for (manifest, row) in &change.members {
        member.execute((
            PIPELINE,
            manifest.as_str(),
            row.member.as_str(),
            row.expected,
            row.state.as_str(),
            row.digest.as_ref().map(|digest| digest.as_bytes().as_slice()),
            serde_json::to_string(&row.facts)?,
            row.settled_at,
        ))?;
    }
    let mut manifest = connection.prepare_cached(MANIFEST)?;
    let mut delivery = connection.prepare_cached(DELIVERY)?;
    for CompletionRow { manifest: row, outbox, .. } in &change.completions {
        manifest.execute((
            PIPELINE,
            row.manifest.as_str(),
            row.kind.as_str(),
            row.shard,
            row.phase.as_str(),
            row.revision,
            row.announced,
            serde_json::to_string(&row.facts)?,
            row.first_at,
            row.last_at,
            row.completed_at,
        ))?;
        for row in outbox {
            delivery.execute((
                PIPELINE,
                row.manifest.as_str(),
                row.revision,
                row.action.as_str(),
                row.part,
                row.idempotency_key.to_string(),
                serde_json::to_string(&row.target)?,
            ))?;
        }
    }
    Ok(())
}
