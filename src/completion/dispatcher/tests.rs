//! Deliveries out of a state store in a file, to a stub of a web server and the embedded log.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::broker::embedded::EmbeddedLog;
use crate::broker::{Broker, BrokerError, Polled, Rebalance};
use crate::broker::{Consumer, ConsumerConfig};
use crate::model::{LogRecord, ManifestKey, Offset, TopicPartition};
use crate::net::stub::{Answer, Stub};
use crate::runtime::clock::SystemClock;
use crate::state::sqlite::SqliteStore;
use crate::state::{
    Change, CompletionRow, Declarations, ManifestPhase, ManifestRow, OutboxRow, OutboxStatus,
    Parameters, PipelineIdentity, ShardKey,
};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: Uuid = Uuid::from_u128(7);

async fn store(folder: &TempDir, target: OutboxTarget) -> Arc<SqliteStore> {
    let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
    let identity = PipelineIdentity { pipeline: "sales".into(), group: "g".into(), shards: 1 };
    store.prepare(&identity, &Declarations::default()).await.unwrap();
    let shard = ShardKey { pipeline: "sales".into(), shard: 0 };
    let lease = store.take_over(&shard).await.unwrap().lease;
    let outbox = OutboxRow {
        manifest: "m".into(),
        revision: 1,
        action: "tell".into(),
        part: 0,
        idempotency_key: KEY,
        target,
    };
    let completion = CompletionRow {
        manifest: manifest(),
        statements: Vec::new(),
        parameters: Parameters::new(),
        outbox: vec![outbox],
        retire: Vec::new(),
    };
    let change = Change { to: Offset(1), completions: vec![completion], ..Change::default() };
    store.apply(&lease, change).await.unwrap();
    store
}

fn manifest() -> ManifestRow {
    ManifestRow {
        manifest: "m".into(),
        kind: "report".into(),
        shard: 0,
        phase: ManifestPhase::Complete,
        revision: 1,
        announced: true,
        facts: Map::new(),
        first_at: 0,
        last_at: 0,
        completed_at: Some(0),
        duplicates: 0,
        conflicts: 0,
        late: 0,
        note: None,
        extra: Value::Null,
    }
}

fn context(store: Arc<SqliteStore>, log: &EmbeddedLog) -> Arc<DispatcherContext> {
    let none = Backoff { first: Duration::ZERO, max: Duration::ZERO, factor: 1.0 };
    let settings = DispatcherSettings {
        interval: Duration::from_millis(1),
        retry: none.clone(),
        backoff: none,
        ..DispatcherSettings::default()
    };
    Arc::new(DispatcherContext {
        pipeline: "sales".into(),
        store,
        producer: log.producer().unwrap(),
        http: HttpSender::new(false, settings.delivery_timeout).unwrap(),
        settings,
        clock: SystemClock::shared(),
        instruments: Arc::default(),
        completed: Arc::default(),
    })
}

async fn delivered(store: &SqliteStore) -> OutboxStatus {
    let (pipeline, key) = ("sales".into(), ManifestKey::from("m"));
    let looking = async {
        loop {
            let found = store.manifest(&pipeline, &key).await.unwrap();
            let (_, mut outbox) = found.unwrap();
            if outbox[0].delivered_at.is_some() {
                return outbox.remove(0);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("never delivered")
}

#[actix::test]
async fn a_request_is_made_until_the_receiver_takes_it_always_with_the_same_key() {
    let (heads, failures) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(2));
    let seen = heads.clone();
    let stub = Stub::serve(move |head| {
        seen.lock().unwrap().push(head.to_ascii_lowercase());
        let left = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() { Answer::status(503, "", b"") } else { Answer::body(b"") }
    })
    .await;
    let folder = TempDir::new().unwrap();
    let target = OutboxTarget::Http { url: stub.url("/done"), payload: json!({"manifest": "m"}) };
    let store = store(&folder, target).await;
    let log = EmbeddedLog::in_memory(Arc::new(|| 0)).unwrap();
    let context = context(store.clone(), &log);
    actix::spawn(context.clone().run());
    let status = delivered(&store).await;
    assert_eq!((status.attempts, stub.requests()), (3, 3));
    assert_eq!(context.instruments.actions.get(), 1);
    for head in heads.lock().unwrap().iter() {
        assert!(head.starts_with("post /done "), "{head}");
        assert!(head.contains(&format!("idempotency-key: {KEY}")), "{head}");
        assert!(head.contains("tidemill-manifest: m"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
    }
}

#[actix::test]
async fn a_redirect_is_not_followed_and_not_taken_for_a_success() {
    let stub = Stub::serve(|_| Answer::status(302, "location: /elsewhere\r\n", b"")).await;
    let sender = HttpSender::new(false, PATIENCE).unwrap();
    let row = OutboxRow {
        manifest: "m".into(),
        revision: 1,
        action: "tell".into(),
        part: 0,
        idempotency_key: KEY,
        target: OutboxTarget::Http { url: stub.url("/done"), payload: json!(1) },
    };
    let error = sender.post(&row, &stub.url("/done"), &json!(1)).await.unwrap_err();
    assert!(error.contains("302"), "{error}");
    assert_eq!(stub.requests(), 1);
}

/// Takes every partition that it is given.
struct Anything(Arc<Mutex<Vec<TopicPartition>>>);

impl Rebalance for Anything {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().extend_from_slice(partitions);
    }

    fn revoked(&mut self, _partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        Vec::new()
    }

    fn lost(&mut self, _partitions: &[TopicPartition]) {}
}

/// The first record of a topic.
fn first_record(log: &EmbeddedLog, topic: &str) -> LogRecord {
    let assigned = Arc::new(Mutex::new(Vec::new()));
    let config = ConsumerConfig::new("reader", vec![topic.into()]);
    let mut consumer = log.consumer(&config, Box::new(Anything(assigned.clone()))).unwrap();
    loop {
        match consumer.poll(Duration::from_millis(10)).unwrap() {
            Polled::Record(_, record) => return record,
            Polled::Idle => begin(&mut *consumer, &mut assigned.lock().unwrap()).unwrap(),
        }
    }
}

fn begin(
    consumer: &mut dyn Consumer,
    assigned: &mut Vec<TopicPartition>,
) -> Result<(), BrokerError> {
    let partitions = std::mem::take(assigned);
    let positions: BTreeMap<_, _> =
        partitions.iter().map(|partition| (partition.clone(), Offset::ZERO)).collect();
    consumer.seek(&positions.into_iter().collect::<Vec<_>>())?;
    consumer.resume(&partitions)
}

#[actix::test]
async fn a_message_carries_its_key_and_is_delivered_once_the_broker_has_acked() {
    let folder = TempDir::new().unwrap();
    let target = OutboxTarget::Kafka {
        topic: "done".into(),
        key: Some("c".into()),
        payload: json!({"manifest": "m"}),
    };
    let store = store(&folder, target).await;
    let log = EmbeddedLog::in_memory(Arc::new(|| 0)).unwrap();
    log.set_default_partitions(1).unwrap();
    actix::spawn(context(store.clone(), &log).run());
    assert_eq!(delivered(&store).await.attempts, 1);
    let record = first_record(&log, "done");
    assert_eq!(record.key.as_deref(), Some(&b"c"[..]));
    assert_eq!(record.value.as_deref(), Some(&br#"{"manifest":"m"}"#[..]));
    let key = record.headers.iter().find(|(name, _)| name == "Idempotency-Key");
    assert_eq!(key.map(|(_, value)| value.as_ref()), Some(KEY.to_string().as_bytes()));
}
