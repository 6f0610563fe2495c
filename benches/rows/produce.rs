//! To Kafka, acknowledged by all in-sync replicas, idempotent.
//!
//! Responsible for: the engine's producer with a callback per record against a bare producer with
//! the same settings.
//! Not responsible for: what the broker does with the records.

use std::time::Duration;

use tidemill::broker::Broker as _;
use tidemill::model::Topic;

use crate::harness::logs::{create, kafka, produce, unique};
use crate::harness::needs::Need;
use crate::harness::process::{Meter, Sample};
use crate::harness::raw::{RawProducer, await_acks, raw_producer, send_raw};
use crate::harness::records::{RECORD_BYTES, Records};
use crate::harness::{About, Fixture, Row, Setting, Side, Tried, Unit};

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
            needs: Some(Need::Kafka),
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
                let producer = raw_producer(setting)?;
                send(&producer, fixture, &records, 0, 1)?;
                let meter = Meter::start()?;
                send(&producer, fixture, &records, 1, count)?;
                meter.stop(count, count * RECORD_BYTES as u64)
            }
        }
    }
}

/// Sends so many records and waits for their acks; `before` were sent already.
fn send(producer: &RawProducer, topic: &str, records: &Records, before: u64, count: u64) -> Tried {
    for index in 0..count {
        send_raw(producer, topic, &records.key(index), &records.value(index))?;
        if index % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    await_acks(producer, before + count)
}
