//! The producer.
//!
//! Responsible for: an idempotent producer whose queue holds records for as long as the broker is
//! away, calling each record's delivery exactly once, on a thread of the producer, and giving a
//! record back when the queue is full. Topics that take small batches only have a client of their
//! own, so that a record that is too large is refused alone.
//! Not responsible for: retrying a record, or waiting until the queue has room.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message};
use tracing::{debug, error, trace};

use crate::broker::{BrokerError, Delivery, Producer, ProducerRecord, QueueFull};
use crate::model::{Headers, Offset, Partition, Topic, TopicPartition};

use super::limits::Limits;
use super::refusals::Refusals;
use super::{KafkaConfig, fault, log_client_line, settings};

/// How long the producer's thread waits for acknowledgements before it looks around.
const POLL: Duration = Duration::from_millis(50);

/// Records that were refused on the spot and whose delivery has not been called yet. Beyond that
/// the queue counts as full.
const MAX_REFUSED: usize = 1024;

/// What a delivery is called with.
type Outcome = Result<(TopicPartition, Offset), BrokerError>;

/// What travels through librdkafka with a record.
struct Sent {
    topic: Topic,
    /// Bytes of key, value and headers.
    size: usize,
    /// In a mutex only because librdkafka asks for `Sync`.
    delivery: Mutex<Delivery>,
}

/// What the producer shares with its thread.
#[derive(Default)]
struct Shared {
    /// The producer was dropped: the thread ends.
    stopped: AtomicBool,
    /// Records whose delivery has not returned yet.
    pending: AtomicUsize,
    /// Guards the wait for `pending` to become zero.
    gate: Mutex<()>,
    idle: Condvar,
    /// Refused by `send`; the thread calls their deliveries.
    refused: Mutex<Vec<(Delivery, BrokerError)>>,
}

impl Shared {
    fn hand_over(&self, delivery: Delivery, outcome: Outcome) {
        // A panic must not take the thread along on which every other delivery depends.
        if catch_unwind(AssertUnwindSafe(|| delivery(outcome))).is_err() {
            error!("the delivery of a record panicked, its outcome is unknown");
        }
        self.settled();
    }

    fn settled(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _gate = lock(&self.gate);
            self.idle.notify_all();
        }
    }

    fn hand_over_refused(&self) {
        let refused = std::mem::take(&mut *lock(&self.refused));
        for (delivery, why) in refused {
            self.hand_over(delivery, Err(why));
        }
    }
}

/// librdkafka's side of [`Shared`].
struct Context {
    shared: Arc<Shared>,
    /// Where it leaves why it could not connect.
    refusals: Arc<Refusals>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_client_line(level, facility, text);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        trace!(bytes = statistics.len(), "statistics of the kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.refusals.note(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            error!(%error, reason, "the producer cannot go on");
        } else {
            debug!(%error, reason, "the producer will try again");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let Sent { topic, size, delivery } = *sent;
        let outcome = match result {
            Ok(message) => {
                let partition = TopicPartition { topic, partition: Partition(message.partition()) };
                Ok((partition, Offset(message.offset())))
            }
            Err((error, _)) => Err(fault::delivery(&topic, size, error)),
        };
        let delivery = delivery.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.shared.hand_over(delivery, outcome);
    }
}

/// librdkafka's producer, polled by a thread of its own.
type Client = Arc<BaseProducer<Context>>;

/// The producer, as those who send see it.
pub(super) struct KafkaProducer {
    config: KafkaConfig,
    /// Which topics take small batches only.
    limits: Arc<Limits>,
    /// Why brokers do not let it in.
    refusals: Arc<Refusals>,
    /// For all other topics.
    usual: Client,
    /// For those, by the bytes of a batch; made when the first record needs it.
    small: Mutex<BTreeMap<u32, Client>>,
    /// The same that the threads have.
    shared: Arc<Shared>,
}

impl KafkaProducer {
    pub(super) fn new(
        config: &KafkaConfig,
        limits: &Arc<Limits>,
        refusals: &Arc<Refusals>,
    ) -> Result<Self, BrokerError> {
        let shared = Arc::new(Shared::default());
        Ok(Self {
            config: config.clone(),
            limits: Arc::clone(limits),
            refusals: Arc::clone(refusals),
            usual: start(&settings::producer(config), &shared, refusals)?,
            small: Mutex::default(),
            shared,
        })
    }

    /// Whether a fatal error ended it.
    pub(super) fn is_dead(&self) -> bool {
        let is_dead = |client: &Client| client.client().fatal_error().is_some();
        is_dead(&self.usual) || lock(&self.small).values().any(is_dead)
    }

    /// The client for `topic`: one topic has one, or its records would lose their order.
    fn client_for(&self, topic: &Topic) -> Result<Client, BrokerError> {
        let Some(bytes) = self.limits.small_batch(topic) else {
            return Ok(Arc::clone(&self.usual));
        };
        let mut small = lock(&self.small);
        if let Some(client) = small.get(&bytes) {
            return Ok(Arc::clone(client));
        }
        let settings = settings::small_batches(&self.config, bytes);
        let client = start(&settings, &self.shared, &self.refusals)?;
        small.insert(bytes, Arc::clone(&client));
        Ok(client)
    }

    /// Leaves the delivery of a record that cannot be sent to a thread of the producer, since the
    /// caller may hold what the delivery needs.
    fn refuse(
        &self,
        record: ProducerRecord,
        delivery: Delivery,
        why: BrokerError,
    ) -> Result<(), QueueFull> {
        let mut refused = lock(&self.shared.refused);
        if refused.len() < MAX_REFUSED {
            refused.push((delivery, why));
            return Ok(());
        }
        drop(refused);
        self.give_back(record, delivery)
    }

    fn give_back(&self, record: ProducerRecord, delivery: Delivery) -> Result<(), QueueFull> {
        self.shared.settled();
        Err(QueueFull(record, delivery))
    }
}

/// Makes a client and its thread.
fn start(
    settings: &ClientConfig,
    shared: &Arc<Shared>,
    refusals: &Arc<Refusals>,
) -> Result<Client, BrokerError> {
    let context = Context { shared: Arc::clone(shared), refusals: Arc::clone(refusals) };
    let client: BaseProducer<Context> = settings
        .create_with_context(context)
        .map_err(|error| fault::creating("producer", error))?;
    let client = Arc::new(client);
    let (served, state) = (Arc::clone(&client), Arc::clone(shared));
    // Nobody joins the thread: the producer may be dropped by a delivery, so on it.
    thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(move || serve(&served, &state))
        .map_err(|error| {
            BrokerError::Unavailable(format!("no thread for the kafka producer: {error}"))
        })?;
    Ok(client)
}

/// A thread of the producer. The last owner of its client purges it, so that what is still queued
/// is reported as undelivered.
fn serve(client: &BaseProducer<Context>, shared: &Shared) {
    while !shared.stopped.load(Ordering::Acquire) {
        client.poll(POLL);
        shared.hand_over_refused();
    }
    shared.hand_over_refused();
}

impl Producer for KafkaProducer {
    fn send(&self, record: ProducerRecord, delivery: Delivery) -> Result<(), QueueFull> {
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        let client = match self.client_for(&record.topic) {
            Ok(client) => client,
            Err(error) => return self.refuse(record, delivery, error),
        };
        let sent = Box::new(Sent {
            topic: record.topic.clone(),
            size: size(&record),
            delivery: Mutex::new(delivery),
        });
        let message: BaseRecord<'_, [u8], [u8], Box<Sent>> = BaseRecord {
            topic: record.topic.as_str(),
            partition: record.partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp,
            headers: headers(&record.headers),
            delivery_opaque: sent,
        };
        let (error, sent) = match client.send(message) {
            Ok(()) => return Ok(()),
            Err((error, message)) => (error, message.delivery_opaque),
        };
        let Sent { topic, size, delivery } = *sent;
        let delivery = delivery.into_inner().unwrap_or_else(PoisonError::into_inner);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            return self.give_back(record, delivery);
        }
        self.refuse(record, delivery, fault::delivery(&topic, size, &error))
    }

    fn flush(&self, timeout: Duration) -> bool {
        let shared = &self.shared;
        let gate = lock(&shared.gate);
        let is_busy = |(): &mut ()| shared.pending.load(Ordering::Acquire) != 0;
        let (_gate, result) = shared
            .idle
            .wait_timeout_while(gate, timeout, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
    }
}

fn headers(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(empty, |all, (name, value)| {
        all.insert(Header { key: name, value: Some(&value[..]) })
    }))
}

fn size(record: &ProducerRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, bytes::Bytes::len)
        + record.value.as_ref().map_or(0, bytes::Bytes::len)
        + headers
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
