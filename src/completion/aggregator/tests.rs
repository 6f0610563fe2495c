//! The aggregator between the embedded log in memory and a state store in a file.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;
use crate::broker::embedded::EmbeddedLog;
use crate::broker::group::{Assignment, AssignmentContext, PollSettings, PollThread};
use crate::broker::{Broker, ConsumerConfig, Delivery, Producer, ProducerRecord, TopicSpec};
use crate::completion::config::{Action, ActionKind};
use crate::completion::publisher::encode;
use crate::expr::{Program, Purpose};
use crate::model::event::{
    Command, CommandAction, Expected, MemberFacts, MemberState, ProgressEvent, Settled,
};
use crate::model::{Digest, ManifestKey, NodeName, Topic};
use crate::progress::manifest::Rules;
use crate::progress::restart::RestartPolicy;
use crate::runtime::clock::SystemClock;
use crate::runtime::inbox::inbox;
use crate::runtime::supervisor::{ChildSpec, supervise};
use crate::state::sqlite::SqliteStore;
use crate::state::{
    ColumnType, Declarations, DeclaredTable, ManifestPhase, ManifestRow, OutboxStatus,
    PipelineIdentity, ShardKey, TableOwner,
};

const PATIENCE: Duration = Duration::from_secs(20);
const GROUP: &str = "sales.progress";
const TOPIC: &str = "sales.progress";
const INSERT: &str = "INSERT INTO summary (cluster, manifest) VALUES (:cluster, :manifest)";

struct Running {
    log: Arc<EmbeddedLog>,
    producer: Arc<dyn Producer>,
    store: Arc<SqliteStore>,
    context: Arc<AggregatorContext>,
    thread: PollThread,
    /// Kept for as long as the test runs.
    _assignment: Addr<Assignment>,
    _folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.thread.request_stop();
    }
}

fn kinds() -> Kinds {
    let payload = "[{\"manifest\": .manifest, \"n\": 1}, {\"manifest\": .manifest, \"n\": 2}]";
    let payload = Program::compile(payload, Purpose::Map).unwrap();
    let kafka = ActionKind::Kafka { topic: "done".into(), payload, key: None };
    let sql = ActionKind::Sql { statements: vec![INSERT.to_owned()] };
    let kind = Kind {
        rules: Rules::default(),
        actions: vec![
            Action { name: "sum".to_owned(), kind: sql },
            Action { name: "tell".to_owned(), kind: kafka },
        ],
        facts: vec!["cluster".to_owned()],
        ..Kind::default()
    };
    Kinds::from_iter([(NodeName::from("report"), kind)])
}

async fn store(folder: &TempDir) -> Arc<SqliteStore> {
    let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
    let identity =
        PipelineIdentity { pipeline: "sales".into(), group: GROUP.to_owned(), shards: 1 };
    let columns = ["cluster", "manifest"].map(|name| (name.to_owned(), ColumnType::Text));
    let summary = DeclaredTable {
        name: "summary".to_owned(),
        owner: TableOwner::Key(vec!["cluster".to_owned()]),
        columns: columns.to_vec(),
    };
    let declared = Declarations {
        tables: vec![summary],
        views: Vec::new(),
        statements: vec![INSERT.to_owned()],
        queries: Vec::new(),
    };
    store.prepare(&identity, &declared).await.unwrap();
    store
}

async fn running(settings: AggregatorSettings) -> Running {
    let folder = TempDir::new().unwrap();
    let store = store(&folder).await;
    let log = EmbeddedLog::in_memory(Arc::new(|| 0)).unwrap();
    let topic = TopicSpec { name: TOPIC.into(), partitions: Some(1), settings: BTreeMap::new() };
    log.admin().unwrap().ensure(&[topic]).unwrap();
    let (orders, clock) = (Arc::new(PollOrders::default()), SystemClock::shared());
    let (events, event_inbox) = inbox("assignment", 16);
    let poll = PollSettings {
        consumer: ConsumerConfig::new(GROUP, vec![TOPIC.into()]),
        commit_interval: Duration::from_millis(1),
        drain_deadline: Duration::from_secs(5),
    };
    let instruments = Arc::new(Instruments::default());
    let polled = Arc::new(Instruments::default());
    let thread =
        PollThread::start(&*log, poll, orders.clone(), events, clock.clone(), polled).unwrap();
    let context = Arc::new(AggregatorContext {
        pipeline: "sales".into(),
        settings,
        kinds: Arc::new(kinds()),
        store: store.clone(),
        orders,
        positions: thread.positions(),
        admin: Some(log.admin().unwrap()),
        clock,
        instruments: instruments.clone(),
        lags: Arc::default(),
        skipped: Arc::default(),
        escalation: Arc::default(),
        epochs: Arc::default(),
        completed: Arc::default(),
        retired: Arc::default(),
    });
    let assignment = AssignmentContext {
        actors: actors(context.clone()),
        drain_deadline: Duration::from_secs(5),
        escalation: context.escalation.clone(),
        instruments,
    };
    let assignment = Assignment::new(assignment, event_inbox, Lifeline::detached()).start();
    let producer = log.producer().unwrap();
    let (_assignment, _folder) = (assignment, folder);
    Running { log, producer, store, context, thread, _assignment, _folder }
}

fn actors(context: Arc<AggregatorContext>) -> crate::broker::group::PartitionActors {
    Arc::new(move |partition, messages| {
        let context = context.clone();
        supervise(ChildSpec {
            name: format!("aggregator-{partition}"),
            policy: RestartPolicy::default(),
            clock: context.clock.clone(),
            arbiter: actix::Arbiter::current(),
            factory: move |lifeline| {
                let (partition, messages) = (partition.clone(), messages.clone());
                ManifestAggregator::new(partition, context.clone(), messages, lifeline)
            },
        })
    })
}

fn quick() -> AggregatorSettings {
    AggregatorSettings {
        tick: Duration::from_millis(5),
        look_interval: Duration::from_millis(5),
        delete_interval: Duration::ZERO,
        fenced_grace: Duration::ZERO,
        ..AggregatorSettings::default()
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

fn expected(manifest: &str, cluster: &str, members: &[&str]) -> ProgressEvent {
    ProgressEvent::Expected(Expected {
        kind: "report".into(),
        manifest: manifest.into(),
        members: members.iter().map(|id| (*id).into()).collect(),
        version: None,
        due: Vec::new(),
        facts: Map::from_iter([("cluster".to_owned(), json!(cluster))]),
        at: 1,
    })
}

fn done(manifest: &str, member: &str) -> ProgressEvent {
    ProgressEvent::Settled(Settled {
        kind: "report".into(),
        manifest: manifest.into(),
        member: member.into(),
        state: MemberState::Done,
        digest: Digest::from_bytes([3; 16]),
        facts: MemberFacts { rows: 5, ..MemberFacts::default() },
        at: 2,
    })
}

impl Running {
    fn produce(&self, events: &[ProgressEvent]) {
        events.iter().for_each(|event| self.produce_raw(encode(event)));
    }

    fn produce_raw(&self, value: Vec<u8>) {
        let mut record = ProducerRecord::new(Topic::from(TOPIC), value);
        record.partition = Some(0);
        let acked = Arc::new(Mutex::new(None));
        let answer = acked.clone();
        let delivery: Delivery = Box::new(move |result| {
            *answer.lock().unwrap() = Some(result.is_ok());
        });
        assert!(self.producer.send(record, delivery).is_ok());
        assert!(self.producer.flush(PATIENCE));
        assert_eq!(*acked.lock().unwrap(), Some(true));
    }

    /// The manifest, once `wanted` holds for it.
    async fn manifest(
        &self,
        key: &str,
        wanted: impl Fn(&ManifestRow) -> bool,
    ) -> (ManifestRow, Vec<OutboxStatus>) {
        let (pipeline, key) = ("sales".into(), ManifestKey::from(key));
        let looking = async {
            loop {
                let found = self.store.manifest(&pipeline, &key).await.unwrap();
                if let Some((stored, outbox)) = found
                    && wanted(&stored.row)
                {
                    return (stored.row, outbox);
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("the manifest never came so far")
    }

    async fn complete(&self, key: &str) -> (ManifestRow, Vec<OutboxStatus>) {
        self.manifest(key, |row| row.phase == ManifestPhase::Complete).await
    }

    async fn until(&self, what: &str, wanted: impl Fn() -> bool) {
        let looking = async {
            while !wanted() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect(what);
    }
}

#[actix::test]
async fn events_in_any_order_complete_a_manifest_once_with_all_its_actions() {
    let running = running(quick()).await;
    running.produce(&[done("m", "a"), expected("m", "c", &["a", "b"])]);
    running.produce_raw(b"{ no event".to_vec());
    running.produce(&[done("m", "a"), done("m", "b"), done("m", "b")]);
    let (row, outbox) = running.manifest("m", |row| row.duplicates == 2).await;
    assert_eq!((row.phase, row.revision), (ManifestPhase::Complete, 1));
    assert_eq!(row.note.as_deref(), Some("all_done"));
    assert_eq!(row.facts["cluster"], json!("c"));
    let parts: Vec<_> =
        outbox.iter().map(|status| (status.row.action.as_str(), status.row.part)).collect();
    assert_eq!(parts, [("tell", 0), ("tell", 1)]);
    let summary = running.store.table("summary").await.unwrap();
    let row = [("cluster", json!("c")), ("manifest", json!("m"))];
    assert_eq!(summary, [Map::from_iter(row.map(|(name, value)| (name.to_owned(), value)))]);
    let instruments = &running.context.instruments;
    running.until("counts", || instruments.duplicate_events.get() == 2).await;
    assert_eq!(instruments.completions.get(), 1);
    assert_eq!(instruments.progress_events.get(), 5);
    assert_eq!((instruments.members.get(), instruments.rows_out.get()), (2, 10));
    assert_eq!(running.context.skipped.get(), 1, "what is no event is counted");
}

#[actix::test]
async fn what_was_applied_is_committed_and_removed_from_the_topic() {
    let running = running(quick()).await;
    running.produce(&[expected("m", "c", &[])]);
    running.complete("m").await;
    let positions = running.context.positions.clone();
    let committed = || positions.committed(&[partition()]).is_ok_and(|found| found[0].is_some());
    running.until("a commit", committed).await;
    let removed = || positions.watermarks(&partition()).is_ok_and(|(first, end)| first == end);
    running.until("removal", removed).await;
}

#[actix::test]
async fn another_owner_goes_on_where_the_stored_state_ends() {
    let running = running(quick()).await;
    running.produce(&[expected("m", "c", &["a", "b"]), done("m", "a")]);
    running.until("events", || running.context.instruments.progress_events.get() == 2).await;
    running.log.faults().revoke(GROUP, &[partition()]);
    running.produce(&[done("m", "b"), done("m", "a")]);
    running.log.faults().restore(GROUP, &[partition()]);
    let (_, outbox) = running.complete("m").await;
    assert_eq!(outbox.len(), 2);
    let instruments = &running.context.instruments;
    running.until("events", || instruments.progress_events.get() == 4).await;
    assert_eq!(instruments.completions.get(), 1);
    assert_eq!(running.store.table("summary").await.unwrap().len(), 1);
}

#[actix::test]
async fn an_owner_that_was_fenced_changes_nothing_and_takes_over_again_if_nobody_lets_it_go() {
    let running = running(quick()).await;
    running.produce(&[expected("m", "c", &["a"])]);
    running.until("events", || running.context.instruments.progress_events.get() == 1).await;
    let shard = ShardKey { pipeline: "sales".into(), shard: 0 };
    let other = running.store.take_over(&shard).await.unwrap();
    running.produce(&[done("m", "a")]);
    let (_, outbox) = running.complete("m").await;
    assert_eq!(outbox.len(), 2);
    running.until("events", || running.context.instruments.progress_events.get() == 2).await;
    let now = running.store.take_over(&shard).await.unwrap();
    assert!(now.lease.epoch > other.lease.epoch.next(), "it was taken over in between");
}

#[actix::test]
async fn a_blocked_completion_keeps_nobody_else_from_theirs() {
    let running = running(quick()).await;
    // The key of the summary is the cluster: the second manifest of one cannot be inserted.
    running.produce(&[expected("first", "c", &[]), expected("second", "c", &[])]);
    running.produce(&[expected("third", "other", &[])]);
    running.complete("first").await;
    running.complete("third").await;
    let is_blocked = |row: &ManifestRow| {
        row.note.as_deref().is_some_and(|note| note.starts_with("blocked: sum"))
    };
    let (row, outbox) = running.manifest("second", is_blocked).await;
    assert_eq!((row.phase, row.completed_at), (ManifestPhase::Open, None));
    assert!(outbox.is_empty(), "nothing of a blocked completion is delivered");
    let retry = Command {
        manifest: "second".into(),
        action: CommandAction::Retry,
        who: "ann".into(),
        why: "mended".into(),
        at: 3,
    };
    running.produce(&[ProgressEvent::Command(retry)]);
    running.until("events", || running.context.instruments.progress_events.get() == 4).await;
    assert_eq!(running.context.instruments.completions.get(), 2, "it is blocked again");
}

#[actix::test]
async fn manifests_beyond_the_limit_of_memory_are_loaded_on_demand() {
    let settings = AggregatorSettings { memory_bytes: 1, batch_events: 1, ..quick() };
    let running = running(settings).await;
    for manifest in ["one", "two", "three"] {
        running.produce(&[expected(manifest, manifest, &["a"])]);
    }
    for manifest in ["one", "two", "three"] {
        running.produce(&[done(manifest, "a")]);
    }
    for manifest in ["one", "two", "three"] {
        let (row, _) = running.complete(manifest).await;
        assert_eq!((row.revision, row.duplicates), (1, 0));
    }
}

#[actix::test]
async fn events_that_wait_for_the_store_are_shown_as_lag() {
    let running = running(quick()).await;
    let (lags, clock) = (running.context.lags.clone(), running.context.clock.clone());
    let behind = || lags.read(clock.unix_millis()).first().map(|shard| shard.behind.records);
    running.until("an owner", || behind() == Some(0)).await;
    let file = running._folder.path().join("state.db");
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    running.produce(&[expected("m", "c", &["a"]), done("m", "a")]);
    running.until("the whole lag", || behind() == Some(2)).await;
    other.execute_batch("ROLLBACK").unwrap();
    running.complete("m").await;
    running.until("no lag", || behind() == Some(0)).await;
    assert_eq!(lags.read(clock.unix_millis())[0].processed, 2);
}
