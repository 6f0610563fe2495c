//! Records that break the node which works on them: each is a dead letter, and harms nobody else.
//!
//! Responsible for: nodes that panic, nodes that do not come back, and the end of a process in
//! which too many of them do not.
//! Not responsible for: records that a node refuses; those are poisoned members of `plan`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tidemill::broker::ProducerRecord;
use tidemill::broker::kafka::KafkaBroker;
use tidemill::model::{LogRecord, Topic};
use tidemill::runtime::fault::SABOTAGE;

use super::require_faults;
use crate::harness::{Reader, Tidemill, bootstrap, create_topic, kafka, produce, unique, wait_for};

/// Partitions of the source's topic.
const PARTITIONS: i32 = 4;
/// Records of a round.
const RECORDS: u32 = 3_000;
/// One in so many breaks its node.
const ONE_IN: u32 = 100;

/// A pipeline that copies ids, and its topics.
struct Copying {
    folder: TempDir,
    broker: Arc<KafkaBroker>,
    source: Topic,
    copies: Topic,
    letters: Topic,
}

impl Copying {
    fn new() -> Self {
        let (broker, name) = (kafka(), unique("broken"));
        let topology = format!(
            "version = 1\nname = \"{name}\"\n\n[sources.orders]\ntype = \"kafka\"\n\
             topic = \"{name}.orders\"\ndecode = \"json\"\n\n[processors.slim]\ntype = \"remap\"\n\
             inputs = [\"orders\"]\nprogram = '. = {{\"id\": .id}}'\n\n[sinks.out]\n\
             type = \"kafka\"\ninputs = [\"slim\"]\ntopic = \"{name}.copies\"\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("topology.toml"), topology).expect("the topology");
        let source = create_topic(&*broker, &format!("{name}.orders"), PARTITIONS);
        let copies = create_topic(&*broker, &format!("{name}.copies"), PARTITIONS);
        Self { folder, broker, source, copies, letters: format!("{name}.dead-letters").into() }
    }

    /// Starts a replica and waits until it reads.
    fn start(&self, replica: &str, settings: &[(&str, &str)]) -> Tidemill {
        let data = self.folder.path().join(replica).display().to_string();
        let own = ("TIDEMILL_DATA_DIR", data.as_str());
        let environment: Vec<(String, String)> = settings
            .iter()
            .chain([&own])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let bootstrap = bootstrap();
        let arguments = ["run", "topology.toml", "--bootstrap", &bootstrap];
        let process = Tidemill::start_with(&arguments, self.folder.path(), &environment);
        process.wait_for_log("partition begins");
        process
    }

    /// Produces records with these ids; the harmful ones order `harm`.
    fn produce(&self, ids: impl Iterator<Item = u32>, harm: &str, harmful: impl Fn(u32) -> bool) {
        let records = ids.map(|id| {
            let mut record = ProducerRecord::new(self.source.clone(), value(id));
            record.key = Some(Bytes::from(format!("k{}", id % 50)));
            if harmful(id) {
                let order = Bytes::copy_from_slice(harm.as_bytes());
                record.headers = vec![("trace".to_owned(), Bytes::from_static(b"t"))];
                record.headers.push((SABOTAGE.to_owned(), order));
            }
            record
        });
        produce(&*self.broker, records);
    }

    fn reader(&self, topic: &Topic) -> Reader {
        Reader::new(&*self.broker, topic)
    }
}

fn value(id: u32) -> String {
    format!(r#"{{"id":{id}}}"#)
}

fn header(letter: &LogRecord, name: &str) -> String {
    let found = letter.headers.iter().find(|(header, _)| header == name);
    String::from_utf8(found.expect(name).1.to_vec()).expect("text")
}

/// How often each value was read.
fn counted(reader: &Reader) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for value in reader.values() {
        *counted.entry(value).or_default() += 1;
    }
    counted
}

/// Each of these values once.
fn once(ids: impl Iterator<Item = u32>) -> BTreeMap<String, usize> {
    ids.map(|id| (value(id), 1)).collect()
}

#[test]
fn a_record_over_which_its_node_panics_is_a_dead_letter_and_no_replica_dies() {
    require_faults();
    let job = Copying::new();
    let mut replicas = vec![job.start("first", &[])];
    replicas.push(job.start("second", &[]));
    let harmful = |id: u32| id % ONE_IN == 7;
    job.produce(0..RECORDS, "panic:slim", harmful);

    let mut copies = job.reader(&job.copies);
    let wanted = once((0..RECORDS).filter(|id| !harmful(*id)));
    copies.read_until("all others", |read| read.len() >= wanted.len());
    let mut letters = job.reader(&job.letters);
    let broken = once((0..RECORDS).filter(|id| harmful(*id)));
    letters.read_until("all dead letters", |read| read.len() >= broken.len());
    for mut replica in replicas {
        assert!(replica.ended().is_none(), "a replica died:\n{}", replica.log());
        replica.signal("TERM");
        let (status, log) = replica.wait();
        assert!(status.success() && log.contains("complete=true"), "{log}");
    }
    // Nobody adds to either topic any more.
    copies.read_all(&*job.broker);
    letters.read_all(&*job.broker);
    assert_eq!(counted(&copies), wanted, "each of the others once");
    assert_eq!(counted(&letters), broken, "each of the broken ones once, with its bytes");
    for (_, letter) in &letters.records {
        assert_eq!(header(letter, "tidemill-error-class"), "panicked");
        assert_eq!(header(letter, "tidemill-node"), "slim");
        assert_eq!(header(letter, "tidemill-attempts"), "1");
        assert_eq!(header(letter, "trace"), "t");
    }
}

#[test]
fn a_record_that_does_not_come_back_is_a_dead_letter_and_several_end_the_process() {
    require_faults();
    let job = Copying::new();
    let settings = [
        ("TIDEMILL_LIMITS_RECORD_TIME_LIMIT", "1s"),
        ("TIDEMILL_LIMITS_MAX_HUNG_THREADS", "2"),
        ("TIDEMILL_WORKERS_PER_STAGE", "2"),
        ("TIDEMILL_SHUTDOWN_DRAIN_DEADLINE", "2s"),
    ];
    let mut process = job.start("only", &settings);
    // Two of them, one after the other: as many threads as may hang.
    let mut letters = job.reader(&job.letters);
    let mut copies = job.reader(&job.copies);
    for (round, broken) in [(0, 500), (1, 1_500)] {
        job.produce(round * 1_000..(round + 1) * 1_000, "hang", |id| id == broken);
        let so_far = round as usize + 1;
        letters.read_until("the hung record", |read| read.len() >= so_far);
        copies.read_until("everything around it", |read| read.len() >= so_far * 999);
    }
    assert!(process.ended().is_none(), "two threads may hang:\n{}", process.log());
    let all = once((0..2_000).filter(|id| *id != 500 && *id != 1_500));
    assert_eq!(counted(&copies), all, "everything around them arrived, once");
    for (_, letter) in &letters.records {
        assert_eq!(header(letter, "tidemill-error-class"), "hung");
    }

    job.produce(2_000..2_001, "hang", |_| true);
    let (status, log) = process.wait();
    assert_eq!(status.code(), Some(5), "{log}");
    assert!(log.contains("3 threads of pool") && log.contains("hang, at most 2 may"), "{log}");
}

#[test]
fn a_process_with_a_hung_thread_still_stops_when_it_is_told_to() {
    require_faults();
    let job = Copying::new();
    let settings =
        [("TIDEMILL_LIMITS_RECORD_TIME_LIMIT", "1s"), ("TIDEMILL_WORKERS_PER_STAGE", "1")];
    let process = job.start("only", &settings);
    job.produce(0..100, "hang", |id| id == 50);
    let mut letters = job.reader(&job.letters);
    letters.read_until("the hung record", |read| !read.is_empty());
    let mut copies = job.reader(&job.copies);
    copies.read_until("everything around it", |read| read.len() >= 99);
    wait_for("its thread to be replaced", || {
        process.log().contains("item hangs, its thread is replaced").then_some(())
    });
    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success() && log.contains("complete=true"), "{log}");
}
