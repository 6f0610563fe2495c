//! The smallest topology as a process on a real broker: nothing lost, nothing silent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tempfile::TempDir;
use tidemill::broker::{Broker, ProducerRecord};
use tidemill::model::Topic;

use crate::harness::{
    self, PATIENCE, Reader, Tidemill, bootstrap, create_topic, kafka, produce, unique,
};

/// The topology of `topologies/passthrough.toml` between topics of this test alone.
struct Passthrough {
    directory: TempDir,
    source: Topic,
    sink: Topic,
    dead: Topic,
}

impl Passthrough {
    fn on(broker: &dyn Broker, partitions: i32) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/passthrough.toml");
        let name = unique("passthrough");
        let text = std::fs::read_to_string(shipped).expect("the shipped topology");
        let text = text
            .replace("name = \"passthrough\"", &format!("name = \"{name}\""))
            .replace("\"orders\"\ndecode", &format!("\"{name}.orders\"\ndecode"))
            .replace("\"orders.paid\"", &format!("\"{name}.paid\""));
        assert!(text.contains(&format!("{name}.orders")) && text.contains(&format!("{name}.paid")));
        let directory = tempfile::tempdir().expect("a folder");
        std::fs::write(directory.path().join("topology.toml"), text).expect("the topology");
        let source = create_topic(broker, &format!("{name}.orders"), partitions);
        let sink = create_topic(broker, &format!("{name}.paid"), partitions);
        let dead = Topic::from(format!("{name}.dead-letters"));
        Self { directory, source, sink, dead }
    }

    /// Begins a new group somewhere else than at the beginning.
    fn begin_at(&self, start: &str) {
        let path = self.directory.path().join("topology.toml");
        let text = std::fs::read_to_string(&path).expect("the topology");
        let begun =
            text.replace("decode = \"json\"", &format!("decode = \"json\"\nstart = \"{start}\""));
        assert_ne!(text, begun);
        std::fs::write(&path, begun).expect("the topology");
    }

    fn start(&self) -> Tidemill {
        self.start_with(&[])
    }

    fn start_with(&self, environment: &[(String, String)]) -> Tidemill {
        let bootstrap = bootstrap();
        let arguments = ["run", "topology.toml", "--bootstrap", &bootstrap];
        Tidemill::start_with(&arguments, self.directory.path(), environment)
    }

    fn order(&self, id: u32, status: &str) -> ProducerRecord {
        let value = format!(r#"{{"id":"o{id}","status":"{status}","qty":"{id}"}}"#);
        let mut record = ProducerRecord::new(self.source.clone(), value);
        record.key = Some(Bytes::from(format!("k{}", id % 100)));
        record
    }
}

/// What the sink has to hold for the orders of these ids.
fn expected(ids: impl Iterator<Item = u32>) -> BTreeSet<String> {
    ids.map(|id| format!(r#"{{"id":"o{id}","total":{}}}"#, id * 3)).collect()
}

fn distinct(reader: &Reader) -> BTreeSet<String> {
    reader.values().into_iter().collect()
}

#[test]
fn keeps_paid_orders_and_a_clean_stop_replays_nothing() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 3);
    let orders = (0..5_000).map(|id| job.order(id, if id % 5 == 0 { "open" } else { "paid" }));
    produce(&*broker, orders);

    let first = job.start();
    let mut reader = Reader::new(&*broker, &job.sink);
    let wanted = expected((0..5_000).filter(|id| id % 5 != 0));
    reader.read_until("all paid orders", |read| read.len() >= wanted.len());
    first.signal("TERM");
    let (status, log) = first.wait();
    assert!(status.success(), "{log}");

    produce(&*broker, (5_000..5_100).map(|id| job.order(id, "paid")));
    let second = job.start();
    reader.read_until("the later orders", |read| read.len() >= wanted.len() + 100);
    reader.read_until_quiet(Duration::from_secs(1));
    second.signal("TERM");
    assert!(second.wait().0.success());

    let all: BTreeSet<_> = wanted.into_iter().chain(expected(5_000..5_100)).collect();
    assert_eq!(distinct(&reader), all);
    assert_eq!(reader.records.len(), all.len(), "nothing was produced twice");
}

#[test]
fn a_kill_in_the_middle_loses_nothing() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 3);
    produce(&*broker, (0..30_000).map(|id| job.order(id, "paid")));
    let mut reader = Reader::new(&*broker, &job.sink);
    for part in 1..=3 {
        let process = job.start();
        reader.read_until("some output", |read| read.len() >= part * 5_000);
        process.signal("KILL");
        assert!(!process.wait().0.success());
    }
    let last = job.start();
    let wanted = expected(0..30_000);
    harness::wait_for("all orders", || {
        reader.read_until_quiet(Duration::from_millis(200));
        (distinct(&reader).len() >= wanted.len()).then_some(())
    });
    assert_eq!(distinct(&reader), wanted);
    last.signal("TERM");
    assert!(last.wait().0.success());
}

#[test]
fn records_of_one_key_keep_their_order() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 3);
    produce(&*broker, (0..10_000).map(|id| job.order(id, "paid")));
    let process = job.start();
    let mut reader = Reader::new(&*broker, &job.sink);
    reader.read_until("all orders", |read| read.len() >= 10_000);
    process.signal("TERM");
    assert!(process.wait().0.success());

    // The sink's key is the order's id, so orders of one source key are spread over partitions:
    // within each of them they have to come in order.
    let mut last = BTreeMap::new();
    for (partition, record) in &reader.records {
        let fields: serde_json::Value =
            serde_json::from_slice(record.value.as_ref().expect("a value")).expect("json");
        let id: u32 = fields["id"].as_str().expect("an id")[1..].parse().expect("a number");
        let key = id % 100;
        if let Some(before) = last.insert((partition, key), id) {
            assert!(before < id, "key {key}: {id} came after {before}");
        }
    }
}

#[test]
fn poison_goes_to_the_dead_letters_with_its_bytes_and_everything_else_passes() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 1);
    let mut poison = ProducerRecord::new(job.source.clone(), &b"{\"id\": \xff not json"[..]);
    poison.key = Some(Bytes::from_static(b"poison"));
    poison.headers = vec![("trace".to_owned(), Bytes::from_static(b"t1"))];
    let records = (0..50).map(|id| job.order(id, "paid"));
    produce(
        &*broker,
        records.chain([poison.clone()]).chain((50..100).map(|id| job.order(id, "paid"))),
    );

    let process = job.start();
    let mut reader = Reader::new(&*broker, &job.sink);
    reader.read_until("the good orders", |read| read.len() >= 100);
    let mut letters = Reader::new(&*broker, &job.dead);
    letters.read_until("the dead letter", |read| !read.is_empty());
    process.signal("TERM");
    assert!(process.wait().0.success());

    assert_eq!(distinct(&reader), expected(0..100));
    let letter = &letters.records[0].1;
    assert_eq!((&letter.key, &letter.value), (&poison.key, &poison.value));
    let header = |name: &str| {
        let found = letter.headers.iter().find(|(header, _)| header == name);
        String::from_utf8(found.expect(name).1.to_vec()).expect("text")
    };
    assert_eq!(header("trace"), "t1");
    assert_eq!(header("tidemill-error-class"), "undecodable");
    assert_eq!(header("tidemill-topic"), job.source.as_str());
    assert_eq!(header("tidemill-offset"), "50");
}

#[test]
fn two_replicas_share_the_partitions_and_a_leaving_one_hands_over_cleanly() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 4);
    produce(&*broker, (0..2_000).map(|id| job.order(id, "paid")));
    let mut reader = Reader::new(&*broker, &job.sink);
    let first = job.start();
    reader.read_until("the first orders", |read| read.len() >= 2_000);
    let second = Tidemill::start(
        &["--config", "second.toml", "run", "topology.toml", "--bootstrap", &bootstrap()],
        {
            let data = "[data]\ndir = \"second\"\n";
            std::fs::write(job.directory.path().join("second.toml"), data).expect("the settings");
            job.directory.path()
        },
    );
    second.wait_for_log("partition begins");
    produce(&*broker, (2_000..4_000).map(|id| job.order(id, "paid")));
    reader.read_until("orders from both", |read| read.len() >= 4_000);
    first.signal("TERM");
    assert!(first.wait().0.success());
    produce(&*broker, (4_000..5_000).map(|id| job.order(id, "paid")));
    reader.read_until("orders from the other", |read| read.len() >= 5_000);
    reader.read_until_quiet(Duration::from_secs(1));
    second.signal("TERM");
    assert!(second.wait().0.success());
    assert_eq!(distinct(&reader), expected(0..5_000));
    assert_eq!(reader.records.len(), 5_000, "a clean hand-over repeats nothing");
}

/// The marker at the end of a transaction is an offset without a record: to a consumer it looks
/// like a record that never comes.
#[test]
fn a_partition_that_stands_still_is_begun_anew_once_and_nothing_comes_twice() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("transactional.id", unique("transaction"))
        .create()
        .expect("a producer of transactions");
    producer.init_transactions(PATIENCE).expect("an id of its own");
    producer.begin_transaction().expect("a transaction");
    for id in 0..100 {
        let order = job.order(id, "paid");
        let (key, value) = (order.key.unwrap_or_default(), order.value.unwrap_or_default());
        let record = BaseRecord::to(job.source.as_str()).key(&key[..]).payload(&value[..]);
        producer.send(record).map_err(|(error, _)| error).expect("room for the record");
    }
    producer.commit_transaction(PATIENCE).expect("a commit");

    let limit = [("TIDEMILL_CONSUMER_STALL_LIMIT".to_owned(), "1s".to_owned())];
    let process = job.start_with(&limit);
    let mut reader = Reader::new(&*broker, &job.sink);
    reader.read_until("the orders of the transaction", |read| read.len() >= 100);
    process.wait_for_log("stands still at offset 100 of 101");
    produce(&*broker, (100..200).map(|id| job.order(id, "paid")));
    reader.read_until("the orders behind the marker", |read| read.len() >= 200);
    reader.read_until_quiet(Duration::from_secs(3));
    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
    assert_eq!(log.matches("stands still").count(), 1, "it has learned: {log}");
    assert_eq!(distinct(&reader), expected(0..200));
    assert_eq!(reader.records.len(), 200, "nothing was produced twice");
}

#[test]
fn a_new_group_begins_at_the_end_if_told_to_and_a_known_one_where_it_was() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 3);
    job.begin_at("latest");
    produce(&*broker, (0..300).map(|id| job.order(id, "paid")));
    let first = job.start();
    let begun = |log: &str| log.matches("partition begins").count();
    harness::wait_for("all partitions", || (begun(&first.log()) >= 3).then_some(()));
    produce(&*broker, (300..600).map(|id| job.order(id, "paid")));
    let mut reader = Reader::new(&*broker, &job.sink);
    reader.read_until("what came after the start", |read| read.len() >= 300);
    first.signal("TERM");
    assert!(first.wait().0.success());

    // Nobody reads meanwhile: a known group goes on, whatever the topology says of new ones.
    produce(&*broker, (600..900).map(|id| job.order(id, "paid")));
    let second = job.start();
    reader.read_until("what came meanwhile", |read| read.len() >= 600);
    reader.read_until_quiet(Duration::from_secs(1));
    second.signal("TERM");
    assert!(second.wait().0.success());
    assert_eq!(distinct(&reader), expected(300..900));
}

#[test]
fn a_new_group_begins_at_a_point_in_time_in_every_partition() {
    let broker = kafka();
    let job = Passthrough::on(&*broker, 3);
    job.begin_at("2026-01-02T03:04:05Z");
    let at = 1_767_323_045_000;
    let stamped = |id: u32, timestamp: i64| {
        let mut record = job.order(id, "paid");
        record.timestamp = Some(timestamp);
        record
    };
    let before = (0..300).map(|id| stamped(id, at - 1_000));
    let since = (300..600).map(|id| stamped(id, at + i64::from(id) - 300));
    produce(&*broker, before.chain(since));
    let process = job.start();
    let mut reader = Reader::new(&*broker, &job.sink);
    reader.read_until("what came since", |read| read.len() >= 300);
    reader.read_until_quiet(Duration::from_secs(1));
    process.signal("TERM");
    assert!(process.wait().0.success());
    assert_eq!(distinct(&reader), expected(300..600));
}
