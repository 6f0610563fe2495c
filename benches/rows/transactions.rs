//! Completions in the embedded state store: durable, one at a time for each of many shards.
//!
//! Responsible for: units of 50 member rows, a manifest, a delivery and the shard's offset through
//! the store's interface, against the same SQL in one connection that commits as many units at
//! once as the engine has callers.
//! Not responsible for: what makes a unit (`aggregate`), or Postgres.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tidemill::model::event::{MemberFacts, MemberState};
use tidemill::model::{Digest, ManifestKey, MemberId, NodeName, Offset, PipelineName};
use tidemill::state::sqlite::SqliteStore;
use tidemill::state::{
    Applied, Change, CompletionRow, Declarations, Lease, ManifestPhase, ManifestRow, MemberRow,
    OutboxRow, OutboxTarget, PipelineIdentity, ShardKey, StateStore,
};
use uuid::Uuid;

use crate::harness::pipeline::runtime;
use crate::harness::process::{Meter, Sample};
use crate::harness::{About, Fixture, Row, Setting, Side, Tried, Unit, folder};

/// Units of one run.
const UNITS: u64 = 10_000;
/// Member rows of a unit.
const MEMBERS: u64 = 50;
/// Events of a unit: its members, and the one that lists them.
const EVENTS: u64 = MEMBERS + 1;
/// The pipeline.
const PIPELINE: &str = "bench";

/// Tables of the store: the baseline writes into the same.
const SCHEMA: &str = include_str!("../../src/state/sqlite/migrations/0001_state.sql");
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

/// The row, with so many shards at once.
pub struct Transactions {
    /// Shards that wait for their commit at the same time; units of one commit by hand.
    pub callers: u64,
}

impl Row for Transactions {
    fn about(&self) -> About {
        About {
            name: format!("state-sqlite-{}", self.callers),
            path: "durable completions of 50 member rows in SQLite; the same SQL, grouped by hand",
            goal: "≥ 0.8",
            unit: Unit::PerSecond("units"),
            needs_kafka: false,
        }
    }

    fn prepare(&self, _setting: &Setting) -> Tried<Fixture> {
        Fixture::folder(folder()?)
    }

    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
        let folder = tempfile::tempdir_in(fixture)?;
        let file = folder.path().join("state.db");
        let rounds = (setting.scaled(UNITS) / self.callers).max(1);
        let sample = match side {
            Side::Engine => runtime()?.block_on(through_the_store(&file, self.callers, rounds))?,
            Side::Baseline => by_hand(&file, self.callers, rounds)?,
        };
        check(&file, sample.items)?;
        Ok(sample)
    }
}

async fn through_the_store(file: &Path, shards: u64, rounds: u64) -> Tried<Sample> {
    let store = SqliteStore::open(file)?;
    let identity = PipelineIdentity {
        pipeline: PipelineName::from(PIPELINE),
        group: PIPELINE.to_owned(),
        shards: i32::try_from(shards)?,
    };
    store.prepare(&identity, &Declarations::default()).await?;
    let mut leases = Vec::new();
    for shard in 0..i32::try_from(shards)? {
        let key = ShardKey { pipeline: PipelineName::from(PIPELINE), shard };
        leases.push(store.take_over(&key).await?.lease);
    }
    let meter = Meter::start()?;
    let owners: Vec<_> = leases
        .into_iter()
        .map(|lease| tokio::spawn(complete_units(store.clone(), lease, rounds)))
        .collect();
    for owner in owners {
        owner.await??;
    }
    meter.stop(shards * rounds, 0)
}

async fn complete_units(store: Arc<SqliteStore>, lease: Lease, rounds: u64) -> Tried {
    for round in 0..rounds {
        match store.apply(&lease, unit(lease.key.shard, round)).await? {
            Applied::Yes { blocked } if blocked.is_empty() => {}
            other => return Err(format!("a unit was not applied: {other:?}").into()),
        }
    }
    Ok(())
}

/// One unit of a shard.
fn unit(shard: i32, round: u64) -> Change {
    let manifest = ManifestKey::from(format!("3e1f6af5-{shard:04}-42a2-8dd7-{round:012}"));
    let at = 1_773_100_000_000 + i64::try_from(round).unwrap_or_default();
    let position = |round: u64| Offset(i64::try_from(round * EVENTS).unwrap_or_default());
    let members = (0..MEMBERS).map(|number| {
        let facts = MemberFacts { rows: 1_000, bytes: 384_000, ..MemberFacts::default() };
        let row = MemberRow {
            member: MemberId::from(format!("openshift_report.{number:03}.csv")),
            expected: true,
            state: MemberState::Done,
            digest: Some(Digest::from_bytes([7; 16])),
            facts,
            settled_at: Some(at),
        };
        (manifest.clone(), row)
    });
    let row = ManifestRow {
        extra: serde_json::Value::Null,
        manifest: manifest.clone(),
        kind: NodeName::from("report"),
        shard,
        phase: ManifestPhase::Complete,
        revision: 1,
        announced: true,
        facts: serde_json::Map::new(),
        first_at: at,
        last_at: at,
        completed_at: Some(at),
        duplicates: 0,
        conflicts: 0,
        late: 0,
        note: None,
    };
    let delivery = OutboxRow {
        manifest: manifest.clone(),
        revision: 1,
        action: "announce".to_owned(),
        part: 0,
        idempotency_key: Uuid::new_v5(&Uuid::NAMESPACE_OID, manifest.as_str().as_bytes()),
        target: OutboxTarget::Kafka {
            topic: "summaries".to_owned(),
            key: None,
            payload: serde_json::json!({ "manifest": manifest.as_str(), "revision": 1 }),
        },
    };
    let completion = CompletionRow {
        manifest: row,
        statements: Vec::new(),
        parameters: BTreeMap::new(),
        outbox: vec![delivery],
    };
    Change {
        from: position(round),
        to: position(round + 1),
        members: members.collect(),
        completions: vec![completion],
        ..Change::default()
    }
}

fn by_hand(file: &Path, shards: u64, rounds: u64) -> Tried<Sample> {
    let connection = Connection::open(file)?;
    connection.execute_batch(SETTINGS)?;
    connection.execute_batch(SCHEMA)?;
    let token = Uuid::new_v4();
    let shards = i32::try_from(shards)?;
    for shard in 0..shards {
        connection.execute(TAKE_OVER, (PIPELINE, shard, token.as_bytes().as_slice()))?;
    }
    let meter = Meter::start()?;
    let mut units = 0;
    for round in 0..rounds {
        let transaction = connection.unchecked_transaction()?;
        for shard in 0..shards {
            write(&transaction, shard, &token, &unit(shard, round))?;
            units += 1;
        }
        transaction.commit()?;
    }
    meter.stop(units, 0)
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

/// A fast store that writes nothing is easy to build: the rows have to be there.
fn check(file: &Path, units: u64) -> Tried {
    let connection = Connection::open(file)?;
    let counted = connection.query_row(
        "SELECT (SELECT count(*) FROM tidemill_member WHERE state = 'done'), \
         (SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'), \
         (SELECT count(*) FROM tidemill_outbox)",
        (),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
    )?;
    let units = i64::try_from(units)?;
    let wanted = (units * i64::try_from(MEMBERS)?, units, units);
    if counted == wanted {
        Ok(())
    } else {
        Err(format!("members, manifests and deliveries are {counted:?}, not {wanted:?}").into())
    }
}
