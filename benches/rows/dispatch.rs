//! From the log to a worker that only settles, at least once and in order.
//!
//! Responsible for: the engine's poll thread, buffers, partition consumers and lanes against a
//! bare poll loop that copies each value.
//! Not responsible for: work on the records (`mapping`).
//!
//! The baseline reads with the settings of the engine. On the embedded log it is a bare poll loop
//! on that log.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill::broker::embedded::EmbeddedLog;
use tidemill::broker::{Broker, ConsumerConfig, Polled, Rebalance};
use tidemill::model::{Offset, Outcome, Topic, TopicPartition};
use tidemill::progress::obligation::Owed;
use tidemill::runtime::clock::{Clock, SystemClock};
use tidemill::runtime::lanes::Input;
use tidemill::runtime::pool::{Desk, LaneId, Worker};

use crate::harness::logs::{PARTITIONS, PREFETCH, fill, kafka, unique};
use crate::harness::needs::Need;
use crate::harness::process::{Meter, Sample};
use crate::harness::raw::{poll_values, raw_consumer};
use crate::harness::{About, Fixture, PATIENCE, Row, Setting, Side, Tried, Unit, folder, pipeline};

/// Records read from Kafka in one run.
const KAFKA_RECORDS: u64 = 500_000;
/// Records read from the embedded log in one run.
const EMBEDDED_RECORDS: u64 = 200_000;
/// Topic in the embedded log.
const TOPIC: &str = "orders";

/// The row, on either log.
pub enum Dispatch {
    /// On a Kafka broker.
    Kafka,
    /// On the embedded log.
    Embedded,
}

impl Row for Dispatch {
    fn about(&self) -> About {
        let (name, path, goal) = match self {
            Self::Kafka => (
                "dispatch-kafka",
                "consume, batch, worker, at least once and in order; raw poll and copy",
                "≥ 0.7, ≤ 1.3 CPU-s, RSS ≤ 2.5 × queue limit + 40 MB",
            ),
            Self::Embedded => (
                "dispatch-embedded",
                "the same on the embedded log; a bare poll loop on it",
                "≥ 0.7",
            ),
        };
        let unit = Unit::PerSecond("records");
        let needs = matches!(self, Self::Kafka).then_some(Need::Kafka);
        About { name: name.to_owned(), path, goal, unit, needs }
    }

    fn prepare(&self, setting: &Setting) -> Tried<Fixture> {
        match self {
            Self::Kafka => {
                let topic = fill(&*kafka(setting)?, &unique("bench"), self.records(setting))?;
                Ok(Fixture::named(topic.as_str().to_owned()))
            }
            Self::Embedded => {
                let folder = folder()?;
                let log = embedded(folder.path())?;
                fill(&*log, TOPIC, self.records(setting))?;
                log.close();
                Fixture::folder(folder)
            }
        }
    }

    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
        let count = self.records(setting);
        match (self, side) {
            (Self::Kafka, Side::Engine) => {
                dispatch(&*kafka(setting)?, &Topic::from(fixture), count)
            }
            (Self::Kafka, Side::Baseline) => poll_and_copy(setting, fixture, count),
            (Self::Embedded, Side::Engine) => {
                dispatch(&*embedded(Path::new(fixture))?, &Topic::from(TOPIC), count)
            }
            (Self::Embedded, Side::Baseline) => {
                poll_embedded(&*embedded(Path::new(fixture))?, count)
            }
        }
    }
}

impl Dispatch {
    fn records(&self, setting: &Setting) -> u64 {
        setting.scaled(match self {
            Self::Kafka => KAFKA_RECORDS,
            Self::Embedded => EMBEDDED_RECORDS,
        })
    }
}

fn embedded(folder: &Path) -> Tried<Arc<EmbeddedLog>> {
    let clock = SystemClock::new();
    Ok(EmbeddedLog::open(folder, Arc::new(move || clock.unix_millis()))?)
}

/// Settles each record, and counts those that came out of order.
struct Settle {
    /// Of each partition, the offset seen last on this lane.
    last: Vec<i64>,
    disordered: Arc<AtomicU64>,
}

impl Worker<Owed<Input>> for Settle {
    fn item(&mut self, item: Owed<Input>, desk: &Desk<Owed<Input>>) {
        let source = &item.value.record.source;
        let partition = usize::try_from(source.origin().partition.0).ok();
        let last = partition.and_then(|partition| self.last.get_mut(partition));
        let offset = source.offset().0;
        if last.is_none_or(|last| std::mem::replace(last, offset) >= offset) {
            self.disordered.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(duty) = desk.finish() {
            duty.settle(Outcome::Delivered);
        }
    }

    fn end_of_batch(&mut self, _desk: &Desk<Owed<Input>>) {}
}

fn dispatch(broker: &dyn Broker, topic: &Topic, count: u64) -> Tried<Sample> {
    let disordered = Arc::new(AtomicU64::new(0));
    let seen = disordered.clone();
    let worker = move |_: LaneId| -> Box<dyn Worker<Owed<Input>>> {
        Box::new(Settle { last: vec![-1; PARTITIONS as usize], disordered: disordered.clone() })
    };
    let sample = pipeline::consume(broker, topic, count, Arc::new(worker))?;
    match seen.load(Ordering::Relaxed) {
        0 => Ok(sample),
        disordered => Err(format!("{disordered} records came out of order").into()),
    }
}

fn poll_and_copy(setting: &Setting, topic: &str, count: u64) -> Tried<Sample> {
    let consumer = raw_consumer(setting, topic)?;
    let mut meter = None;
    let mut bytes = 0;
    poll_values(
        &consumer,
        count,
        || {
            meter = Some(Meter::start()?);
            Ok(())
        },
        |value| {
            bytes += value.len() as u64;
            black_box(value.to_vec());
            Ok(())
        },
    )?;
    meter.ok_or("there was nothing to read")?.stop(count, bytes)
}

/// What is assigned and does not deliver yet.
struct Assigned(Arc<Mutex<Vec<TopicPartition>>>);

impl Rebalance for Assigned {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        let mut assigned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assigned.extend_from_slice(partitions);
    }

    fn revoked(&mut self, _partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        Vec::new()
    }

    fn lost(&mut self, _partitions: &[TopicPartition]) {}
}

fn poll_embedded(log: &EmbeddedLog, count: u64) -> Tried<Sample> {
    let assigned = Arc::new(Mutex::new(Vec::new()));
    let topics = vec![Topic::from(TOPIC)];
    let config =
        ConsumerConfig { prefetch_bytes: PREFETCH, ..ConsumerConfig::new(unique("raw"), topics) };
    let mut consumer = log.consumer(&config, Box::new(Assigned(assigned.clone())))?;
    let wait = Duration::from_millis(10);
    let mut idle = Duration::ZERO;
    let mut meter = None;
    let (mut read, mut bytes) = (0, 0);
    while read < count {
        let fresh = std::mem::take(&mut *assigned.lock().unwrap_or_else(PoisonError::into_inner));
        if !fresh.is_empty() {
            let positions: Vec<_> = fresh.iter().map(|one| (one.clone(), Offset::ZERO)).collect();
            consumer.seek(&positions)?;
            consumer.resume(&fresh)?;
        }
        let Polled::Record(_, record) = consumer.poll(wait)? else {
            idle += wait;
            if idle > PATIENCE {
                return Err(format!("only {read} of {count} records came").into());
            }
            continue;
        };
        if meter.is_none() {
            meter = Some(Meter::start()?);
        }
        let value = record.value.unwrap_or_default();
        bytes += value.len() as u64;
        black_box(value.to_vec());
        read += 1;
    }
    meter.ok_or("there was nothing to read")?.stop(count, bytes)
}
