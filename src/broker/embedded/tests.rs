//! Tests of what only the embedded log does.
//!
//! Responsible for: reopening, the lock of the folder, retention, the bounded queue, scripted
//! rebalances and faults.
//! Not responsible for: what any broker has to do; that is the contract suite.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::broker::{Assignor, Delivery, Polled, Positions, ProducerRecord, QueueFull, TopicSpec};
use crate::model::{LogRecord, Offset, TopicPartition};

mod files;
mod rebalances;

const STEP: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 200;
const DEADLINE: Duration = Duration::from_secs(20);

type Acked = Result<(TopicPartition, Offset), BrokerError>;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn clock(&self) -> Clock {
        let hands = Arc::clone(&self.0);
        Arc::new(move || hands.load(Ordering::SeqCst))
    }

    fn set(&self, milliseconds: i64) {
        self.0.store(milliseconds, Ordering::SeqCst);
    }
}

fn memory() -> Arc<EmbeddedLog> {
    EmbeddedLog::in_memory(Hands::default().clock()).unwrap()
}

fn ensure(log: &EmbeddedLog, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let settings: BTreeMap<_, _> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let spec = TopicSpec { name: Topic::from(topic), partitions: Some(partitions), settings };
    log.admin().unwrap().ensure(&[spec]).unwrap();
}

fn record(topic: &str, part: i32, value: &'static str) -> ProducerRecord {
    let mut record = ProducerRecord::new(Topic::from(topic), value);
    record.partition = Some(part);
    record
}

/// A delivery callback, and the channel over which its answer comes.
fn delivery() -> (Delivery, Receiver<Acked>) {
    let (sender, acked) = sync_channel(1);
    (Box::new(move |result| drop(sender.send(result))), acked)
}

/// Sends a record; `None` if the queue is full.
fn send(log: &EmbeddedLog, record: ProducerRecord) -> Option<Receiver<Acked>> {
    let (delivery, acked) = delivery();
    log.producer().unwrap().send(record, delivery).ok().map(|()| acked)
}

fn produce(log: &EmbeddedLog, record: ProducerRecord) -> Acked {
    send(log, record).unwrap().recv_timeout(DEADLINE).unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    /// Offset that is committed for each partition that is revoked.
    at_revoke: Option<Offset>,
}

impl Rebalance for Recorder {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        locked(&self.events).push(Event::Assigned(partitions.to_vec()));
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        locked(&self.events).push(Event::Revoked(partitions.to_vec()));
        let offsets = partitions.iter().cloned();
        self.at_revoke.map_or_else(Vec::new, |at| offsets.map(|p| (p, at)).collect())
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        locked(&self.events).push(Event::Lost(partitions.to_vec()));
    }
}

struct Reader {
    consumer: Box<dyn Consumer>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Reader {
    fn new(log: &EmbeddedLog, topic: &str, at_revoke: Option<Offset>) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder { events: Arc::clone(&events), at_revoke };
        let config = ConsumerConfig {
            assignor: Assignor::CooperativeSticky,
            ..ConsumerConfig::new("group", vec![Topic::from(topic)])
        };
        Self { consumer: log.consumer(&config, Box::new(recorder)).unwrap(), events }
    }

    /// Polls until that many events have come, and returns the last.
    fn event(&mut self, count: usize) -> Event {
        for _ in 0..ATTEMPTS {
            if let Some(event) = locked(&self.events).get(count - 1) {
                return event.clone();
            }
            assert!(matches!(self.consumer.poll(STEP), Ok(Polled::Idle)));
        }
        panic!("only {:?} within the deadline", locked(&self.events));
    }

    fn read_from(&mut self, partition: &TopicPartition, offset: i64) {
        self.consumer.seek(&[(partition.clone(), Offset(offset))]).unwrap();
        self.consumer.resume(std::slice::from_ref(partition)).unwrap();
    }

    /// The next record, or the error that comes instead.
    fn next(&mut self) -> Result<LogRecord, BrokerError> {
        for _ in 0..ATTEMPTS {
            if let Polled::Record(_, record) = self.consumer.poll(STEP)? {
                return Ok(record);
            }
        }
        panic!("no record within the deadline");
    }

    fn values(&mut self, count: usize) -> Vec<String> {
        let value = |record: LogRecord| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        (0..count).map(|_| value(self.next().unwrap())).collect()
    }
}

fn part(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn positions(log: &EmbeddedLog) -> Arc<dyn Positions> {
    Reader::new(log, "t", None).consumer.positions()
}

#[test]
fn the_first_record_creates_its_topic_with_the_default_partitions() {
    let log = memory();
    log.set_default_partitions(3).unwrap();
    produce(&log, ProducerRecord::new(Topic::from("new"), "x")).unwrap();
    let found = log.admin().unwrap().describe(Some(&[Topic::from("new")])).unwrap();
    assert_eq!(found[0].partitions, 3);
}

#[test]
fn a_record_for_a_partition_that_does_not_exist_fails_alone() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    assert_eq!(
        produce(&log, record("t", 1, "x")),
        Err(BrokerError::UnknownTopic(Topic::from("t")))
    );
    assert!(matches!(produce(&log, record("a b", 0, "x")), Err(BrokerError::Fatal(_))));
    assert_eq!(produce(&log, record("t", 0, "y")), Ok((part(0), Offset(0))));
}

#[test]
fn empty_keys_and_values_are_not_null() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    let empty = ProducerRecord { key: Some(Bytes::new()), ..record("t", 0, "") };
    produce(&log, empty).unwrap();
    produce(&log, ProducerRecord { value: None, ..record("t", 0, "") }).unwrap();
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(0), 0);
    let record = reader.next().unwrap();
    assert_eq!((record.key, record.value), (Some(Bytes::new()), Some(Bytes::new())));
    let record = reader.next().unwrap();
    assert_eq!((record.key, record.value), (None, None));
}

#[test]
fn gaps_in_the_offsets_are_passed() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    for value in ["a", "b", "c", "d"] {
        produce(&log, record("t", 0, value)).unwrap();
    }
    log.faults().compact(&part(0), Offset(1)).unwrap();
    log.faults().compact(&part(0), Offset(3)).unwrap();
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(0), 0);
    assert_eq!(reader.values(2), ["a", "c"]);
    assert!(matches!(reader.consumer.poll(STEP), Ok(Polled::Idle)));
    produce(&log, record("t", 0, "e")).unwrap();
    assert_eq!(reader.next().unwrap().offset, Offset(4));
}

#[test]
fn a_position_out_of_range_is_reported_again_and_again_and_starves_nobody() {
    let log = memory();
    ensure(&log, "t", 2, &[]);
    for _ in 0..2000 {
        assert!(send(&log, record("t", 1, "x")).is_some());
    }
    assert!(log.producer().unwrap().flush(DEADLINE));
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(0), 7);
    reader.read_from(&part(1), 0);
    let (mut records, mut errors) = (0, 0);
    while records < 2000 {
        match reader.next() {
            Ok(_) => records += 1,
            Err(BrokerError::OutOfRange { partition, offset, earliest, latest }) => {
                assert_eq!(partition, part(0));
                assert_eq!((offset, earliest, latest), (Offset(7), Offset(0), Offset(0)));
                errors += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!((2..200).contains(&errors), "{errors} errors among {records} records");
    assert!(reader.next().is_err(), "still reported when all else is read");
    reader.read_from(&part(0), 0);
    produce(&log, record("t", 0, "mended")).unwrap();
    assert_eq!(reader.values(1), ["mended"]);
}

#[test]
fn partitions_take_turns() {
    let log = memory();
    ensure(&log, "t", 2, &[]);
    for number in 0..1000 {
        assert!(send(&log, record("t", number % 2, "x")).is_some());
    }
    assert!(log.producer().unwrap().flush(DEADLINE));
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(0), 0);
    reader.read_from(&part(1), 0);
    let mut seen = [0, 0];
    for _ in 0..200 {
        let Ok(Polled::Record(partition, _)) = reader.consumer.poll(STEP) else {
            panic!("no record where 1000 wait");
        };
        seen[usize::from(partition == part(1))] += 1;
    }
    assert!(seen.iter().all(|count| *count >= 64), "{seen:?}");
}

#[test]
fn a_full_queue_gives_the_record_back_and_takes_it_later() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    log.set_queue_limits(2, 1 << 20);
    log.faults().hold_produce();
    let waiting = ["a", "b"].map(|value| send(&log, record("t", 0, value)).unwrap());
    let third = log.producer().unwrap().send(record("t", 0, "c"), delivery().0);
    let Err(QueueFull(back, _)) = third else { panic!("two records fill the queue") };
    assert_eq!(back, record("t", 0, "c"));
    assert!(!log.producer().unwrap().flush(Duration::ZERO));
    log.faults().release_produce();
    assert!(log.producer().unwrap().flush(DEADLINE));
    let acked = waiting.map(|acked| acked.recv().unwrap());
    assert_eq!(acked, [Ok((part(0), Offset(0))), Ok((part(0), Offset(1)))]);
    assert_eq!(produce(&log, back), Ok((part(0), Offset(2))));
}

#[test]
fn a_queue_is_full_by_bytes_too_but_takes_any_record_alone() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    log.set_queue_limits(100, 4);
    log.faults().hold_produce();
    assert!(send(&log, record("t", 0, "larger than four")).is_some());
    assert!(send(&log, record("t", 0, "x")).is_none());
}

#[test]
fn scripted_failures_hit_the_next_records_of_a_topic_only() {
    let log = memory();
    let error = BrokerError::Fatal("scripted".to_owned());
    log.faults().fail_next(&Topic::from("t"), 2, error.clone());
    assert_eq!(produce(&log, record("t", 0, "a")), Err(error.clone()));
    assert!(produce(&log, record("other", 0, "a")).is_ok());
    assert_eq!(produce(&log, record("t", 0, "b")), Err(error));
    assert_eq!(produce(&log, record("t", 0, "c")), Ok((part(0), Offset(0))));
}

#[test]
fn a_callback_that_panics_does_not_stop_the_log() {
    let log = memory();
    let panics: Delivery = Box::new(|_| panic!("in a delivery"));
    assert!(log.producer().unwrap().send(record("t", 0, "a"), panics).is_ok());
    assert_eq!(produce(&log, record("t", 0, "b")), Ok((part(0), Offset(1))));
}

#[test]
fn records_that_wait_when_the_log_is_closed_are_not_dropped_in_silence() {
    let log = memory();
    log.faults().hold_produce();
    let acked = send(&log, record("t", 0, "a")).unwrap();
    let producer = log.producer().unwrap();
    log.close();
    assert!(matches!(acked.recv().unwrap(), Err(BrokerError::Unavailable(_))));
    let (delivery, late) = delivery();
    assert!(producer.send(record("t", 0, "b"), delivery).is_ok());
    assert!(matches!(late.recv().unwrap(), Err(BrokerError::Unavailable(_))));
}
