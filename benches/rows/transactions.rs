//! Completions in a state store: durable, one at a time for each of many shards.
//!
//! Responsible for: units of 50 member rows, a manifest, a delivery and the shard's offset through
//! the store's interface, and that all of it is there afterwards.
//! Not responsible for: the same by hand (`sqlite`, `postgres`), or what makes a unit
//! (`aggregate`).

mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill::model::event::{MemberFacts, MemberState};
use tidemill::model::{Digest, ManifestKey, MemberId, NodeName, Offset, PipelineName};
use tidemill::state::{
    Applied, Change, CompletionRow, Declarations, Lease, ManifestPhase, ManifestRow, MemberRow,
    OutboxRow, OutboxTarget, PipelineIdentity, ShardKey, StateStore,
};
use uuid::Uuid;

use crate::harness::needs::Need;
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
/// Members, manifests and deliveries that are stored as they have to be.
const COUNT: &str = "SELECT (SELECT count(*) FROM tidemill_member WHERE state = 'done'), \
     (SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'), \
     (SELECT count(*) FROM tidemill_outbox)";

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The embedded store.
    Sqlite,
    /// A Postgres server.
    Postgres,
}

/// The row, with so many shards at once.
pub struct Transactions {
    /// Where to.
    pub store: Store,
    /// Shards that wait for their commit at the same time.
    pub callers: u64,
}

impl Row for Transactions {
    fn about(&self) -> About {
        let (store, path, needs) = match self.store {
            Store::Sqlite => (
                "sqlite",
                "durable completions of 50 member rows in SQLite; the same SQL, grouped by hand",
                None,
            ),
            Store::Postgres => (
                "postgres",
                "the same in Postgres, over 8 connections; the same SQL, pipelined by hand",
                Some(Need::Postgres),
            ),
        };
        let name = format!("state-{store}-{}", self.callers);
        About { name, path, goal: "≥ 0.8", unit: Unit::PerSecond("units"), needs }
    }

    fn prepare(&self, _setting: &Setting) -> Tried<Fixture> {
        match self.store {
            Store::Sqlite => Fixture::folder(folder()?),
            Store::Postgres => Ok(Fixture::none()),
        }
    }

    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
        let rounds = (setting.scaled(UNITS) / self.callers).max(1);
        let load = Load { shards: i32::try_from(self.callers)?, rounds };
        match self.store {
            Store::Sqlite => sqlite::run(side, load, fixture),
            Store::Postgres => runtime()?.block_on(postgres::run(side, load, setting)),
        }
    }
}

/// What one run does.
#[derive(Clone, Copy)]
struct Load {
    shards: i32,
    /// Units of each shard, one after the other.
    rounds: u64,
}

impl Load {
    fn units(self) -> u64 {
        u64::from(self.shards.unsigned_abs()) * self.rounds
    }

    /// A fast store that writes nothing is easy to build: the rows have to be there.
    fn check(self, (members, manifests, deliveries): (i64, i64, i64)) -> Tried {
        let units = i64::try_from(self.units())?;
        let wanted = (units * i64::try_from(MEMBERS)?, units, units);
        let found = (members, manifests, deliveries);
        if found == wanted {
            Ok(())
        } else {
            Err(format!("members, manifests and deliveries are {found:?}, not {wanted:?}").into())
        }
    }
}

/// Makes an empty store ready, and this process the owner of all shards.
async fn take_over(store: &dyn StateStore, shards: i32) -> Tried<Vec<Lease>> {
    let pipeline = PipelineName::from(PIPELINE);
    let group = PIPELINE.to_owned();
    let identity = PipelineIdentity { pipeline: pipeline.clone(), group, shards };
    store.prepare(&identity, &Declarations::default()).await?;
    let mut leases = Vec::new();
    for shard in 0..shards {
        let key = ShardKey { pipeline: pipeline.clone(), shard };
        leases.push(store.take_over(&key).await?.lease);
    }
    Ok(leases)
}

async fn through_the_store(store: Arc<dyn StateStore>, load: Load) -> Tried<Sample> {
    let leases = take_over(&*store, load.shards).await?;
    let meter = Meter::start()?;
    let owners: Vec<_> = leases
        .into_iter()
        .map(|lease| tokio::spawn(complete_units(store.clone(), lease, load.rounds)))
        .collect();
    for owner in owners {
        owner.await??;
    }
    meter.stop(load.units(), 0)
}

async fn complete_units(store: Arc<dyn StateStore>, lease: Lease, rounds: u64) -> Tried {
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
        retire: Vec::new(),
    };
    Change {
        from: position(round),
        to: position(round + 1),
        members: members.collect(),
        completions: vec![completion],
        ..Change::default()
    }
}
