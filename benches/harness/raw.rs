//! Clients of Kafka without the engine.
//!
//! Responsible for: a bare consumer and a bare producer with the settings that the engine gives
//! to its own.
//! Not responsible for: topics and what is in them (`logs`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList};
use tidemill::runtime::clock::{Clock as _, SystemClock};

use super::logs::{PARTITIONS, PREFETCH, bootstrap, unique};
use super::{PATIENCE, Setting, Tried};

/// How long to wait for acks, or for room in a full queue.
const FULL: Duration = Duration::from_millis(1);

/// A client without the engine, at the beginning of all partitions of a topic.
pub fn raw_consumer(setting: &Setting, topic: &str) -> Tried<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap(setting)?)
        .set("group.id", unique("raw"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("check.crcs", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", (PREFETCH / 1024).to_string())
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// Polls so many values one by one; `start` is called with the first of them.
pub fn poll_values(
    consumer: &BaseConsumer,
    count: u64,
    mut start: impl FnMut() -> Tried,
    mut take: impl FnMut(&[u8]) -> Tried,
) -> Tried {
    let wait = Duration::from_secs(1);
    let mut idle = Duration::ZERO;
    let mut read = 0;
    while read < count {
        let Some(message) = consumer.poll(wait) else {
            idle += wait;
            if idle > PATIENCE {
                return Err(format!("only {read} of {count} records came").into());
            }
            continue;
        };
        let message = message?;
        if read == 0 {
            start()?;
        }
        take(message.payload().unwrap_or_default())?;
        read += 1;
    }
    Ok(())
}

/// A producer without the engine. Whoever has it looks for acks, by polling it.
pub type RawProducer = BaseProducer<Acks>;

/// Counts what became of records.
#[derive(Default)]
pub struct Acks {
    acked: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let counter = if result.is_ok() { &self.acked } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A producer with the settings of the engine.
pub fn raw_producer(setting: &Setting) -> Tried<RawProducer> {
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

/// Sends a record; waits while the producer is full.
pub fn send_raw(producer: &RawProducer, topic: &str, key: &[u8], value: &[u8]) -> Tried {
    let mut next: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(topic).key(key).payload(value);
    while let Err((error, back)) = producer.send(next) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        producer.poll(FULL);
        next = back;
    }
    Ok(())
}

/// Waits until `sent` records are acked. No flush: that one looks for acks every 100 ms only.
pub fn await_acks(producer: &RawProducer, sent: u64) -> Tried {
    let (clock, acks) = (SystemClock::new(), producer.context());
    while acks.acked.load(Ordering::Relaxed) < sent {
        let failed = acks.failed.load(Ordering::Relaxed);
        if failed > 0 || clock.now().0 > PATIENCE {
            return Err(format!("{failed} of {sent} records failed, others were not acked").into());
        }
        producer.poll(FULL);
    }
    Ok(())
}
