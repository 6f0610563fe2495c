//! From the moment a record was to be sent to its copy in the topic of a sink, at a fixed rate.
//!
//! Responsible for: a whole pipeline of a source, a filter and a sink, as `tidemill run` starts it,
//! against a bare loop of a consumer and a producer with the same settings.
//! Not responsible for: how many records a second there could be (`dispatch`, `produce`).
//!
//! Records are due one after the other, whatever became of those before: the time of each counts
//! from when it was due, not from when the producer came to it, so nothing that holds the producer
//! up goes unnoticed. It ends when a consumer of the sink's topic has the copy, which is after the
//! broker has acked it. All of that is in one process and on one clock, and its CPU time is in the
//! figure of both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use actix::System;
use rdkafka::Message as _;
use rdkafka::consumer::BaseConsumer;
use tidemill::config::Config;
use tidemill::engine::{self, Ended};
use tidemill::runtime::clock::{Clock as _, Monotonic, SystemClock};
use tidemill::runtime::shutdown::Shutdown;
use tidemill::topology;

use crate::harness::logs::{bootstrap, create, kafka, unique};
use crate::harness::needs::Need;
use crate::harness::process::{Meter, Percentiles, Sample};
use crate::harness::raw::{RawProducer, await_acks, raw_consumer, raw_producer, send_raw};
use crate::harness::records::{RECORD_BYTES, Records};
use crate::harness::{About, PATIENCE, Row, Setting, Side, Tried, Unit, folder};

/// Time from one record to the next: 50,000 records in a second.
const INTERVAL: Duration = Duration::from_micros(20);
/// Records of one run: 15 seconds.
const RECORDS: u64 = 750_000;
/// Share of them whose times do not count, so that caches and the broker are warm: one third.
const WARM_UP: u64 = 3;
/// Records that are sent before, to know that everything is connected.
const PROBES: u64 = 1_200;
/// How long the producer rests where nothing is due.
const REST: Duration = Duration::from_micros(500);
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(10);
/// Records after which the bare loop looks for acks.
const POLL_EVERY: u64 = 100;

/// The row.
pub struct Latency;

impl Row for Latency {
    fn about(&self) -> About {
        About {
            name: "latency-kafka".to_owned(),
            path: "kafka, filter, kafka at 50 k records/s, p50 / p99 / p99.9; a bare loop",
            goal: "none",
            unit: Unit::Latency,
            needs: Some(Need::Kafka),
        }
    }

    fn run(&self, side: Side, setting: &Setting, _fixture: &str) -> Tried<Sample> {
        let course = Course::lay(setting)?;
        let sample = match side {
            Side::Engine => System::new().block_on(through_the_engine(course))?,
            Side::Baseline => by_hand(&course)?,
        };
        Ok(sample.with_note("p50 / p99 / p99.9; the ratio is that of p99".to_owned()))
    }
}

/// What the records of one run go through.
#[derive(Clone)]
struct Course {
    setting: Setting,
    input: String,
    output: String,
    /// Records at the given rate.
    count: u64,
}

impl Course {
    fn lay(setting: &Setting) -> Tried<Self> {
        let broker = kafka(setting)?;
        let topic = || Tried::Ok(create(&*broker, &unique("bench"))?.as_str().to_owned());
        let count = setting.scaled(RECORDS);
        Ok(Self { setting: setting.clone(), input: topic()?, output: topic()?, count })
    }

    /// The filter keeps everything: each record has to arrive.
    fn topology(&self) -> Tried<String> {
        let Self { setting, input, output, .. } = self;
        Ok(format!(
            "version = 1\n\
             name = \"{}\"\n\
             [broker]\n\
             bootstrap = \"{}\"\n\
             [sources.orders]\n\
             type = \"kafka\"\n\
             topic = \"{input}\"\n\
             [processors.kept]\n\
             type = \"filter\"\n\
             inputs = [\"orders\"]\n\
             condition = '.status != \"lost\"'\n\
             [sinks.out]\n\
             type = \"kafka\"\n\
             inputs = [\"kept\"]\n\
             topic = \"{output}\"\n",
            unique("bench"),
            bootstrap(setting)?,
        ))
    }
}

async fn through_the_engine(course: Course) -> Tried<Sample> {
    let folder = folder()?;
    let topology = topology::parse("the bench's topology", &course.topology()?, &|_| None)
        .map_err(|errors| errors.to_string())?;
    let mut config = Config::default();
    config.data.dir = folder.path().to_owned();
    let shutdown = Shutdown::new();
    let running = engine::start(topology, config, &shutdown).await?;
    let ended = actix::spawn(running.ended());
    let sample = tokio::task::spawn_blocking(move || measure(&course)).await?;
    shutdown.drain();
    match ended.await?? {
        Ended { complete: true } => sample,
        Ended { complete: false } => Err("records were left in flight".into()),
    }
}

fn by_hand(course: &Course) -> Tried<Sample> {
    let stop = Arc::new(AtomicBool::new(false));
    let (own, stopped) = (course.clone(), stop.clone());
    let forwarder = thread::spawn(move || forward(&own, &stopped));
    let sample = measure(course);
    stop.store(true, Ordering::Relaxed);
    forwarder.join().map_err(|_| "the bare loop panicked")??;
    sample
}

/// Copies every record from one topic to the other.
fn forward(course: &Course, stop: &AtomicBool) -> Tried {
    let consumer = raw_consumer(&course.setting, &course.input)?;
    let producer = raw_producer(&course.setting)?;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let message = consumer.poll(POLL).transpose()?;
        if let Some(message) = &message {
            let (key, value) = (message.key(), message.payload());
            let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
            send_raw(&producer, &course.output, key, value)?;
            sent += 1;
        }
        if message.is_none() || sent % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    await_acks(&producer, sent)
}

/// Sends the records, and waits for their copies.
fn measure(course: &Course) -> Tried<Sample> {
    let records = Records::new()?;
    let producer = raw_producer(&course.setting)?;
    let consumer = raw_consumer(&course.setting, &course.output)?;
    let clock = SystemClock::new();
    let mut arrivals = Arrivals { at: vec![None; usize::try_from(PROBES + course.count)?], all: 0 };
    for probe in 0..PROBES {
        send(&producer, &course.input, &records, probe)?;
    }
    await_acks(&producer, PROBES)?;
    arrivals.await_copies(&consumer, &clock, PROBES)?;

    let start = clock.now() + REST;
    let (input, count) = (course.input.clone(), course.count);
    let meter = Meter::start()?;
    let sender =
        thread::spawn(move || send_at_rate(&producer, &input, &records, count, &clock, start));
    let arrived = arrivals.await_copies(&consumer, &clock, PROBES + count);
    let sample = meter.stop(count, count * RECORD_BYTES as u64)?;
    sender.join().map_err(|_| "the sending thread panicked")??;
    arrived?;
    let latency = Percentiles::of(arrivals.times(start, count / WARM_UP));
    Ok(sample.with_latency(latency.ok_or("no record was timed")?))
}

/// When record number `index` after the probes is due.
fn due(start: Monotonic, index: u64) -> Monotonic {
    start + Duration::from_nanos(index * INTERVAL.subsec_nanos() as u64)
}

fn send_at_rate(
    producer: &RawProducer,
    topic: &str,
    records: &Records,
    count: u64,
    clock: &SystemClock,
    start: Monotonic,
) -> Tried {
    for index in 0..count {
        while clock.now() < due(start, index) {
            producer.poll(Duration::ZERO);
            thread::park_timeout(REST);
        }
        send(producer, topic, records, PROBES + index)?;
    }
    await_acks(producer, PROBES + count)
}

/// Sends record number `number`, whose key says so.
fn send(producer: &RawProducer, topic: &str, records: &Records, number: u64) -> Tried {
    send_raw(producer, topic, &number.to_be_bytes(), &records.value(number))
}

/// When the copies came.
struct Arrivals {
    /// By the number of the record.
    at: Vec<Option<Monotonic>>,
    all: u64,
}

impl Arrivals {
    /// Reads until there are so many. One that comes twice is an error.
    fn await_copies(&mut self, consumer: &BaseConsumer, clock: &SystemClock, count: u64) -> Tried {
        let mut last = clock.now();
        while self.all < count {
            let message = consumer.poll(POLL).transpose()?;
            let now = clock.now();
            if let Some(message) = message {
                self.note(message.key().unwrap_or_default(), now)?;
                last = now;
            } else if now - last > PATIENCE {
                return Err(format!("only {} of {count} records came", self.all).into());
            }
        }
        Ok(())
    }

    fn note(&mut self, key: &[u8], now: Monotonic) -> Tried {
        let number = u64::from_be_bytes(key.try_into()?);
        let place = self.at.get_mut(usize::try_from(number)?);
        let place = place.ok_or("a record came that nobody sent")?;
        if place.replace(now).is_some() {
            return Err(format!("record {number} came twice").into());
        }
        self.all += 1;
        Ok(())
    }

    /// Times of the records after the probes but for the first `without`.
    fn times(&self, start: Monotonic, without: u64) -> Vec<Duration> {
        let after_probes = self.at.iter().flatten().skip(PROBES as usize);
        let numbered = (0..).zip(after_probes);
        let counted = numbered.skip(without as usize);
        counted.map(|(index, at)| *at - due(start, index)).collect()
    }
}
