//! A state store in a folder of its own, filled as the engine fills it.
//!
//! Responsible for: manifests in every standing, written through the store's own calls; an operator
//! on a log in memory, and dead letters to operate on.
//! Not responsible for: what is asked of them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::broker::embedded::EmbeddedLog;
use crate::broker::{Broker, LogReader, ProducerRecord};
use crate::completion::ProgressTopic;
use crate::completion::publisher::LARGEST_MESSAGE;
use crate::model::event::{FailureFact, MemberFacts, MemberState};
use crate::model::{
    Digest, LogRecord, ManifestKey, Offset, PipelineName, Topic, TopicPartition, letter,
};
use crate::ops::{Operator, OperatorTopics, acked};
use crate::runtime::clock::ManualClock;
use crate::state::sqlite::SqliteStore;
use crate::state::{
    Applied, Change, ColumnType, CompletionRow, Declarations, DeclaredTable, Lease, ManifestPhase,
    ManifestRow, MemberRow, OutboxRow, OutboxTarget, Parameters, PipelineIdentity, ShardKey,
    StateStore, TableOwner,
};

/// 2025-03-13T05:00:00Z: the first event of every manifest.
pub(crate) const FIRST: i64 = 1_741_842_000_000;
/// One hour later: the last event.
pub(crate) const LAST: i64 = FIRST + 3_600_000;

/// A store that the pipeline `sales` has open for writing.
pub(crate) struct Filled {
    /// The open store.
    pub(crate) store: Arc<SqliteStore>,
    lease: Lease,
    next: Offset,
    folder: TempDir,
}

impl Filled {
    /// A store with the keyed table `sums (id, note)` and no manifest.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        let columns = [("id", ColumnType::Int), ("note", ColumnType::Text)];
        let sums = DeclaredTable {
            name: "sums".to_owned(),
            owner: TableOwner::Key(vec!["id".to_owned()]),
            columns: columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec(),
        };
        let declared = Declarations { tables: vec![sums], ..Declarations::default() };
        prepare(&store, "sales", &declared).await;
        let shard = ShardKey { pipeline: pipeline(), shard: 0 };
        let lease = store.take_over(&shard).await.unwrap().lease;
        Self { store, lease, next: Offset::ZERO, folder }
    }

    /// The folder of the store, which the settings call `data.dir`.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The same file, opened beside the writer to be read only.
    pub(crate) fn reader(&self) -> Arc<SqliteStore> {
        SqliteStore::open_read_only(&self.folder.path().join("state.db")).unwrap()
    }

    /// Another pipeline with state in the same store.
    pub(crate) async fn also(&self, pipeline: &str) {
        prepare(&self.store, pipeline, &Declarations::default()).await;
    }

    /// Stores a manifest that does not complete.
    pub(crate) async fn put(&mut self, row: ManifestRow, members: &[MemberRow]) {
        let key = row.manifest.clone();
        let members = members.iter().map(|member| (key.clone(), member.clone())).collect();
        self.apply(Change { manifests: vec![row], members, ..Change::default() }).await;
    }

    /// Stores a completion with these statements and deliveries.
    pub(crate) async fn complete(
        &mut self,
        row: ManifestRow,
        statements: &[&str],
        outbox: Vec<OutboxRow>,
    ) {
        let statements =
            statements.iter().map(|text| ("sum".to_owned(), (*text).to_owned())).collect();
        let parameters = Parameters::new();
        let retire = Vec::new();
        let completion = CompletionRow { manifest: row, statements, parameters, outbox, retire };
        self.apply(Change { completions: vec![completion], ..Change::default() }).await;
    }

    async fn apply(&mut self, change: Change) {
        let (from, to) = (self.next, self.next.after());
        let applied = self.store.apply(&self.lease, Change { from, to, ..change }).await;
        assert_eq!(applied, Ok(Applied::Yes { blocked: Vec::new() }));
        self.next = to;
    }
}

async fn prepare(store: &SqliteStore, pipeline: &str, declared: &Declarations) {
    let identity = PipelineIdentity { pipeline: pipeline.into(), group: "g".to_owned(), shards: 1 };
    store.prepare(&identity, declared).await.unwrap();
}

/// The pipeline of the fixture.
pub(crate) fn pipeline() -> PipelineName {
    PipelineName::from("sales")
}

/// An open, announced manifest.
pub(crate) fn manifest(key: &str) -> ManifestRow {
    ManifestRow {
        manifest: ManifestKey::from(key),
        kind: "report".into(),
        shard: 0,
        phase: ManifestPhase::Open,
        revision: 1,
        announced: true,
        facts: Map::from_iter([("cluster".to_owned(), json!("c1"))]),
        first_at: FIRST,
        last_at: LAST,
        completed_at: None,
        duplicates: 0,
        conflicts: 0,
        late: 0,
        note: None,
        extra: extra(0, Value::Null),
    }
}

/// A manifest that is complete for the reason `note` since its last event.
pub(crate) fn completed(key: &str, revision: u32, note: &str) -> ManifestRow {
    ManifestRow {
        phase: ManifestPhase::Complete,
        revision,
        completed_at: Some(LAST),
        note: Some(note.to_owned()),
        ..manifest(key)
    }
}

/// What the aggregator keeps beside a manifest.
pub(crate) fn extra(acted: u32, blocked: Value) -> Value {
    json!({"timing": {"first": 1, "last": 2, "acted": acted}, "owned": 3, "blocked": blocked})
}

/// An expected member.
pub(crate) fn member(id: &str, state: MemberState) -> MemberRow {
    let settled = state != MemberState::Pending;
    MemberRow {
        member: id.into(),
        expected: true,
        state,
        digest: settled.then(|| Digest::from_bytes([7; 16])),
        facts: MemberFacts { rows: u64::from(settled) * 10, ..MemberFacts::default() },
        settled_at: settled.then_some(LAST),
    }
}

/// An expected member that failed.
pub(crate) fn failed(id: &str, why: &str) -> MemberRow {
    let failure =
        FailureFact { node: "rows".into(), class: "unmatched".to_owned(), why: why.to_owned() };
    let facts = MemberFacts { failure: Some(failure), ..MemberFacts::default() };
    MemberRow { facts, ..member(id, MemberState::DeadLettered) }
}

/// A delivery to a topic.
pub(crate) fn delivery(key: &str, revision: u32) -> OutboxRow {
    OutboxRow {
        manifest: key.into(),
        revision,
        action: "tell".to_owned(),
        part: 0,
        idempotency_key: Uuid::from_u128(u128::from(revision)),
        target: OutboxTarget::Kafka {
            topic: "summaries".to_owned(),
            key: None,
            payload: json!({"manifest": key}),
        },
    }
}

/// A log in memory whose topics have one partition each.
pub(crate) fn log() -> Arc<EmbeddedLog> {
    let log = EmbeddedLog::in_memory(Arc::new(|| LAST)).unwrap();
    log.set_default_partitions(1).unwrap();
    log
}

/// An operator of `sales`, whose sources are `orders` and `returns`, at the time [`LAST`].
pub(crate) fn operator(log: &Arc<EmbeddedLog>, store: Option<Arc<dyn StateStore>>) -> Operator {
    Operator {
        pipeline: pipeline(),
        producer: log.producer().unwrap(),
        broker: log.clone(),
        store,
        progress: Some(ProgressTopic {
            topic: "sales.progress".into(),
            partitions: 1,
            max_bytes: LARGEST_MESSAGE,
        }),
        topics: OperatorTopics {
            dead_letters: "sales.dead-letters".into(),
            replay: "sales.replay".into(),
            audit: "sales.audit".into(),
        },
        sources: vec!["orders".into(), "returns".into()],
        clock: Arc::new(ManualClock::made_at(LAST)),
    }
}

/// A dead letter of member `member` of manifest `m`, whose record came from `source`.
pub(crate) fn dead_letter(source: &str, member: &str, failed_at: i64) -> ProducerRecord {
    let failed_at = failed_at.to_string();
    let headers = [
        ("trace", "t1"),
        (letter::PIPELINE, "sales"),
        (letter::NODE, "rows"),
        (letter::SOURCE, source),
        (letter::MANIFEST, "m"),
        (letter::MEMBER, member),
        (letter::CLASS, "unmatched"),
        (letter::ERROR, "no schema fits"),
        (letter::ATTEMPTS, "2"),
        (letter::FAILED_AT, failed_at.as_str()),
        (letter::TOPIC, "orders.in"),
        (letter::PARTITION, "3"),
        (letter::OFFSET, "42"),
    ];
    let owned =
        |(name, value): (&str, &str)| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    let mut record = ProducerRecord::new("sales.dead-letters".into(), format!("of {member}"));
    record.headers = headers.map(owned).to_vec();
    record.key = Some(Bytes::from_static(b"k"));
    record.timestamp = Some(FIRST);
    record
}

/// Produces a record and waits for its ack.
pub(crate) async fn put(operator: &Operator, record: ProducerRecord) {
    acked::one(&*operator.producer, record).await.unwrap();
}

/// Everything in the one partition of a topic; nothing if there is no such topic.
pub(crate) fn records(log: &EmbeddedLog, topic: &Topic) -> Vec<LogRecord> {
    let partition = TopicPartition::new(topic.clone(), 0);
    let mut reader: Box<dyn LogReader> = log.reader().unwrap();
    let mut found = Vec::new();
    if reader.bounds(&partition).is_err() {
        return found;
    }
    let all = (Offset::ZERO, Offset(i64::MAX));
    let read = reader.read(&partition, all, &mut |record| {
        found.push(record);
        std::ops::ControlFlow::Continue(())
    });
    read.unwrap();
    found
}
