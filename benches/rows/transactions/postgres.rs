//! The same in Postgres by hand.
//!
//! Responsible for: as many connections as the store keeps, each with one unit on its way. All of
//! a unit's statements are sent at once, `BEGIN` and `COMMIT` among them: one round trip.
//! Not responsible for: what a unit is, or the schema, which is the store's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{try_join, try_join5};
use tidemill::state::{Change, CompletionRow, Lease, MemberRow};
use tokio_postgres::{Client, Statement};

use crate::harness::postgres::{CONNECTIONS, Database};
use crate::harness::process::{Meter, Sample};
use crate::harness::{Setting, Side, Tried};
use crate::rows::transactions::{COUNT, Load, PIPELINE, take_over, through_the_store, unit};

/// Divides by zero where it does not hit the row, so that nothing of what follows is committed.
const ADVANCE: &str = "WITH moved AS (UPDATE tidemill_shard SET next = $6, seq = seq + 1 \
     WHERE pipeline = $1 AND shard = $2 AND epoch = $3 AND token = $4 \
     AND (next = $5 OR next IS NULL) RETURNING 1) SELECT 1 / count(*) FROM moved";
const MEMBERS: &str = "INSERT INTO tidemill_member \
     (pipeline, manifest, member, expected, state, digest, facts, settled_at) \
     SELECT CAST($1 AS text), CAST($2 AS text), m.member, m.expected, m.state, m.digest, \
     CAST(m.facts AS jsonb), m.settled_at \
     FROM unnest(CAST($3 AS text[]), CAST($4 AS boolean[]), CAST($5 AS text[]), \
     CAST($6 AS bytea[]), CAST($7 AS text[]), CAST($8 AS bigint[])) \
     AS m (member, expected, state, digest, facts, settled_at) \
     ON CONFLICT (pipeline, manifest, member) DO UPDATE SET expected = excluded.expected, \
     state = excluded.state, digest = excluded.digest, facts = excluded.facts, \
     settled_at = excluded.settled_at";
const MANIFEST: &str = "INSERT INTO tidemill_manifest (pipeline, manifest, kind, shard, phase, \
     revision, announced, facts, first_at, last_at, completed_at, duplicates, conflicts, late, \
     note, extra) VALUES ($1, $2, $3, $4, $5, $6, $7, CAST(CAST($8 AS text) AS jsonb), $9, $10, \
     $11, 0, 0, 0, NULL, 'null') \
     ON CONFLICT (pipeline, manifest) DO UPDATE SET phase = excluded.phase, \
     revision = excluded.revision, announced = excluded.announced, facts = excluded.facts, \
     last_at = excluded.last_at, completed_at = excluded.completed_at \
     WHERE tidemill_manifest.shard = excluded.shard";
const DELIVERY: &str = "INSERT INTO tidemill_outbox \
     (pipeline, manifest, revision, action, part, idempotency_key, target) \
     VALUES ($1, $2, $3, $4, $5, $6, CAST(CAST($7 AS text) AS json)) \
     ON CONFLICT (pipeline, manifest, action, revision, part) DO NOTHING";

/// One side, in a new database.
pub(super) async fn run(side: Side, load: Load, setting: &Setting) -> Tried<Sample> {
    let database = Database::create(setting).await?;
    let sample = match side {
        Side::Engine => through_the_store(database.store().await?, load).await?,
        Side::Baseline => by_hand(&database, load).await?,
    };
    let row = database.connect().await?.query_one(COUNT, &[]).await?;
    load.check((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))?;
    database.remove().await?;
    Ok(sample)
}

/// Shards that nobody works for at the moment, each with its next round. Those that had their
/// turn go to the end.
type Waiting = Mutex<VecDeque<(Lease, u64)>>;

async fn by_hand(database: &Database, load: Load) -> Tried<Sample> {
    let leases = take_over(&*database.store().await?, load.shards).await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS.min(leases.len()) {
        connections.push(Connection::prepare(database.connect().await?).await?);
    }
    let waiting = leases.into_iter().map(|lease| (lease, 0)).collect();
    let waiting: Arc<Waiting> = Arc::new(Mutex::new(waiting));
    let meter = Meter::start()?;
    let workers: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::spawn(complete_units(connection, waiting.clone(), load.rounds)))
        .collect();
    for worker in workers {
        worker.await??;
    }
    meter.stop(load.units(), 0)
}

async fn complete_units(connection: Connection, waiting: Arc<Waiting>, rounds: u64) -> Tried {
    let queue = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some((lease, round)) = queue().pop_front() else { return Ok(()) };
        connection.write(&lease, &unit(lease.key.shard, round)).await?;
        if round + 1 < rounds {
            queue().push_back((lease, round + 1));
        }
    }
}

/// A connection and what is prepared on it.
struct Connection {
    client: Client,
    advance: Statement,
    members: Statement,
    manifest: Statement,
    delivery: Statement,
}

impl Connection {
    async fn prepare(client: Client) -> Tried<Self> {
        Ok(Self {
            advance: client.prepare(ADVANCE).await?,
            members: client.prepare(MEMBERS).await?,
            manifest: client.prepare(MANIFEST).await?,
            delivery: client.prepare(DELIVERY).await?,
            client,
        })
    }

    /// Writes what the store would write.
    async fn write(&self, lease: &Lease, change: &Change) -> Tried {
        let [CompletionRow { manifest: row, outbox, .. }] = &change.completions[..] else {
            return Err("a unit is one completion".into());
        };
        let [delivery] = &outbox[..] else { return Err("a unit owes one delivery".into()) };
        let (client, members) = (&self.client, Members::of(change)?);
        let (key, shard, epoch) = (row.manifest.as_str(), row.shard, lease.epoch.0.cast_signed());
        let (facts, revision) = (serde_json::to_string(&row.facts)?, i64::from(row.revision));
        let (target, part) = (serde_json::to_string(&delivery.target)?, i64::from(delivery.part));
        // Each is sent when it is polled for the first time, which is in this order.
        try_join(
            try_join5(
                client.batch_execute("BEGIN"),
                client.execute(
                    &self.advance,
                    &[&PIPELINE, &shard, &epoch, &lease.token, &change.from.0, &change.to.0],
                ),
                client.execute(
                    &self.members,
                    &[
                        &PIPELINE,
                        &key,
                        &members.member,
                        &members.expected,
                        &members.state,
                        &members.digest,
                        &members.facts,
                        &members.settled_at,
                    ],
                ),
                client.execute(
                    &self.manifest,
                    &[
                        &PIPELINE,
                        &key,
                        &row.kind.as_str(),
                        &shard,
                        &row.phase.as_str(),
                        &revision,
                        &row.announced,
                        &facts,
                        &row.first_at,
                        &row.last_at,
                        &row.completed_at,
                    ],
                ),
                client.execute(
                    &self.delivery,
                    &[
                        &PIPELINE,
                        &key,
                        &revision,
                        &delivery.action,
                        &part,
                        &delivery.idempotency_key,
                        &target,
                    ],
                ),
            ),
            client.batch_execute("COMMIT"),
        )
        .await?;
        Ok(())
    }
}

/// Members of a unit, column by column.
#[derive(Default)]
struct Members<'a> {
    member: Vec<&'a str>,
    expected: Vec<bool>,
    state: Vec<&'static str>,
    digest: Vec<Option<&'a [u8]>>,
    facts: Vec<String>,
    settled_at: Vec<Option<i64>>,
}

impl<'a> Members<'a> {
    fn of(change: &'a Change) -> Tried<Self> {
        let mut columns = Self::default();
        for (_, MemberRow { member, expected, state, digest, facts, settled_at }) in &change.members
        {
            columns.member.push(member.as_str());
            columns.expected.push(*expected);
            columns.state.push(state.as_str());
            columns.digest.push(digest.as_ref().map(|digest| digest.as_bytes().as_slice()));
            columns.facts.push(serde_json::to_string(facts)?);
            columns.settled_at.push(*settled_at);
        }
        Ok(columns)
    }
}
