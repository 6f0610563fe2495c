//! Logs that rows read from and write to.
//!
//! Responsible for: reaching the Kafka broker, and topics full of records.
//! Not responsible for: clients without the engine (`raw`), or what is measured on them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tidemill::broker::kafka::{KafkaBroker, KafkaConfig, Security};
use tidemill::broker::{Broker, Delivery, Producer, ProducerRecord, QueueFull, TopicSpec};
use tidemill::model::Topic;

use super::records::Records;
use super::{PATIENCE, Setting, Tried};

/// Partitions of every topic.
pub const PARTITIONS: i32 = 12;
/// Bytes that a consumer prefetches, as the engine's default has it.
pub const PREFETCH: usize = 16 << 20;
/// How long to wait for room in a full queue.
const FULL: Duration = Duration::from_millis(1);

/// Address of the broker.
pub fn bootstrap(setting: &Setting) -> Tried<&str> {
    setting.kafka.as_deref().ok_or_else(|| "TIDEMILL_TEST_KAFKA is not set".into())
}

/// The broker through the engine.
pub fn kafka(setting: &Setting) -> Tried<Arc<KafkaBroker>> {
    let bootstrap = bootstrap(setting)?.to_owned();
    let (properties, security) = (BTreeMap::new(), Security::default());
    Ok(KafkaBroker::new(KafkaConfig { bootstrap, properties, security })?)
}

/// A name that nobody used before.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// Makes a topic.
pub fn create(broker: &dyn Broker, name: &str) -> Tried<Topic> {
    let topic = Topic::from(name);
    let partitions = Some(PARTITIONS);
    let spec = TopicSpec { name: topic.clone(), partitions, settings: BTreeMap::new() };
    broker.admin()?.ensure(&[spec])?;
    Ok(topic)
}

/// Makes a topic with so many records in it.
pub fn fill(broker: &dyn Broker, name: &str, count: u64) -> Tried<Topic> {
    let topic = create(broker, name)?;
    produce(&*broker.producer()?, &topic, &Records::new()?, count)?;
    Ok(topic)
}

/// Sends so many records and waits for their acks.
pub fn produce(producer: &dyn Producer, topic: &Topic, records: &Records, count: u64) -> Tried {
    let failed = Arc::new(OnceLock::new());
    for index in 0..count {
        let mut next = ProducerRecord::new(topic.clone(), records.value(index));
        next.key = Some(records.key(index));
        let failed = failed.clone();
        let mut delivery: Delivery = Box::new(move |result| {
            if let Err(error) = result {
                // The first error is enough to know.
                let _ = failed.set(error);
            }
        });
        while let Err(QueueFull(record, back)) = producer.send(next, delivery) {
            (next, delivery) = (record, back);
            thread::park_timeout(FULL);
        }
    }
    if !producer.flush(PATIENCE) {
        return Err(format!("{topic}: not everything was acked in time").into());
    }
    failed.get().map_or(Ok(()), |error| Err(error.clone().into()))
}
