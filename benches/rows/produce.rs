//! To Kafka, acknowledged by all in-sync replicas, idempotent.
//!
//! Responsible for: the engine's producer with a callback per record against a bare producer with
//! the same settings.
//! Not responsible for: what the broker does with the records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use tidemill::broker::Broker as _;
use tidemill::model::Topic;

use crate::harness::logs::{bootstrap, create, kafka, produce, unique};
use crate::harness::process::{Meter, Sample};
use crate::harness::records::{RECORD_BYTES, Records};
use crate::harness::{About, Fixture, PATIENCE, Row, Setting, Side, Tried, Unit};

/// Records of one run.
const RECORDS: u64 = 300_000;
/// Records after which the bare producer looks for acks.
const POLL_EVERY: u64 = 100;

/// The row.
pub struct Produce;

impl Row for Produce {
    fn about(&self) -> About {
        About {
            name: "produce-kafka".to_owned(),
            path: "produce, acks=all, idempotent, lz4; a bare producer",
            goal: "≥ 0.8",
            unit: Unit::PerSecond("records"),
            needs_kafka: true,
        }
    }

    fn prepare(&self, setting: &Setting) -> Tried<Fixture> {
        let topic = create(&*kafka(setting)?, &unique("bench"))?;
        Ok(Fixture::named(topic.as_str().to_owned()))
    }

    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
        let count = setting.scaled(RECORDS);
        let records = Records::new()?;
        match side {
            Side::Engine => {
                let producer = kafka(setting)?.producer()?;
                let topic = Topic::from(fixture);
                // Connects, and gets its producer id.
                produce(&*producer, &topic, &records, 1)?;
                let meter = Meter::start()?;
                produce(&*producer, &topic, &records, count)?;
                meter.stop(count, count * RECORD_BYTES as u64)
            }
            Side::Baseline => {
                let producer = bare_producer(setting)?;
                send(&producer, fixture, &records, 1)?;
                let meter = Meter::start()?;
                send(&producer, fixture, &records, count)?;
                let sample = meter.stop(count, count * RECORD_BYTES as u64)?;
                let acked = producer.context().acked.load(Ordering::Relaxed);
                if acked > count { Ok(sample) } else { Err("a record was not acked".into()) }
            }
        }
    }
}

/// Counts acks.
#[derive(Default)]
struct Acks {
    acked: AtomicU64,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if result.is_ok() {
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer without the engine, with its settings.
fn bare_producer(setting: &Setting) -> Tried<BaseProducer<Acks>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap(setting)?)
        .set("acks", "all")
        .set("batch.size", "1000000")
        .set("compression.type", "lz4")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", "65536")
        .set("queue.buffering.max.messages", "200000")
        .create_with_context(Acks::default())?)
}

/// Sends so many records and waits for their acks.
fn send(producer: &BaseProducer<Acks>, topic: &str, records: &Records, count: u64) -> Tried {
    for index in 0..count {
        let (key, value) = (records.key(index), records.value(index));
        let mut next: BaseRecord<'_, [u8], [u8], ()> =
            BaseRecord::to(topic).key(&key[..]).payload(&value[..]);
        while let Err((error, back)) = producer.send(next) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(1));
            next = back;
        }
        if index % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    Ok(producer.flush(PATIENCE)?)
}
