//! Events and receipts on their way to the broker.
//!
//! **Role** produces what closed scopes lead to, and settles their parents once it is acked.
//! **Owns** nothing but the publication it is working on; the queue is shared with all borders.
//! **Receives** publications through [`Publisher`], a queue that never makes anybody wait.
//! **Sends** records to the producer; named errors to the escalation.
//! **On failure** it is rebuilt on the same queue; a publication in its hands is abandoned, and
//! its source record read again.
//!
//! Responsible for: the form of progress events and their partition, and for waiting while the
//! producer is full.
//! Not responsible for: what an event says (`boundary`), or retries towards the broker, which the
//! producer does without end.
//!
//! The queue has no limit of its own: every publication holds a part of a source record, and how
//! many of those are in flight is limited where they are taken in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::{BrokerError, Delivery, Producer, ProducerRecord, QueueFull, partitioner};
use crate::model::event::{Command, ProgressEvent};
use crate::model::{Outcome, Topic};
use crate::progress::obligation::Obligation;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{Point, crash_point};

/// How long a full producer is left alone before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(50);

/// Largest event or receipt in bytes where nothing else is set: below Kafka's default limit of
/// 1,048,588 bytes for a message with its key and framing.
pub const LARGEST_MESSAGE: usize = 1_000_000;

/// The topic of progress events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressTopic {
    /// Its name.
    pub topic: Topic,
    /// Its partitions: the shards.
    pub partitions: i32,
    /// Largest event in bytes; [`LARGEST_MESSAGE`] unless the topic takes more.
    pub max_bytes: usize,
}

impl ProgressTopic {
    /// The record that carries an event, encoded already, to the shard of `shard_key`.
    pub fn record(&self, shard_key: &str, event: Vec<u8>) -> ProducerRecord {
        let shard = partitioner::partition_of(shard_key.as_bytes(), self.partitions);
        self.record_to(shard, shard_key, event)
    }

    /// The record that carries an operator's command to the shard that owns its manifest.
    pub fn command(&self, shard: i32, command: Command) -> ProducerRecord {
        let key = command.manifest.clone();
        self.record_to(shard, key.as_str(), encode(&ProgressEvent::Command(command)))
    }

    fn record_to(&self, shard: i32, key: &str, event: Vec<u8>) -> ProducerRecord {
        let mut record = ProducerRecord::new(self.topic.clone(), event);
        record.partition = Some(shard);
        record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
        record
    }
}

/// An event as it lies in the topic.
pub fn encode(event: &ProgressEvent) -> Vec<u8> {
    serde_json::to_vec(event)
        .unwrap_or_else(|error| unreachable!("events have string keys, memory takes all: {error}"))
}

/// A message, and what it settles.
#[derive(Debug)]
pub struct Publication {
    /// The message.
    pub record: ProducerRecord,
    /// Settled once the broker has acked the message.
    pub duty: Obligation,
    /// How it is settled.
    pub outcome: Outcome,
}

/// Where closed scopes put their messages. Clones are handles of the same queue.
#[derive(Clone, Debug, Default)]
pub struct Publisher(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<Publication>>,
    filled: Notify,
}

impl Publisher {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; never waits.
    pub fn publish(&self, publication: Publication) {
        self.lock().push_back(publication);
        self.0.filled.notify_one();
    }

    /// Messages that nobody has taken to the producer yet.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// The oldest message.
    pub(super) fn take(&self) -> Option<Publication> {
        self.lock().pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Publication>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub struct PublisherContext {
    /// The queue that it empties.
    pub publisher: Publisher,
    /// Produces the messages.
    pub producer: Arc<dyn Producer>,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// Signalled at each delivery: there is room in the producer again.
    pub room: Arc<Notify>,
}

impl PublisherContext {
    async fn run(self) {
        loop {
            // First what waits: the incarnation before may have taken the signal with it.
            while let Some(publication) = self.publisher.take() {
                self.produce(publication).await;
            }
            self.publisher.0.filled.notified().await;
        }
    }

    async fn produce(&self, publication: Publication) {
        crash_point(Point::EventSend);
        let Publication { mut record, duty, outcome } = publication;
        let (room, escalation) = (self.room.clone(), self.escalation.clone());
        let topic = record.topic.clone();
        let mut delivery: Delivery = Box::new(move |result| {
            settle(result.map(|_| ()), duty, outcome, &topic, &escalation);
            room.notify_one();
        });
        while let Err(QueueFull(back, again)) = self.producer.send(record, delivery) {
            (record, delivery) = (back, again);
            // The producer is shared, so the room may come from somebody else's delivery.
            let _ = tokio::time::timeout(FULL_WAIT, self.room.notified()).await;
        }
    }
}

fn settle(
    result: Result<(), BrokerError>,
    duty: Obligation,
    outcome: Outcome,
    topic: &Topic,
    escalation: &Escalation,
) {
    match result {
        Ok(()) => {
            crash_point(Point::EventAcked);
            duty.settle(outcome);
        }
        // Closed over it: whoever comes next reads the record again.
        Err(BrokerError::Unavailable(_)) => drop(duty),
        Err(error) => {
            let why = format!("what became of a record cannot be published to {topic}: {error}");
            escalation.raise(Ending::Dependency, why);
            drop(duty);
        }
    }
}

/// The actor.
pub struct EventPublisher {
    /// The same for every incarnation.
    context: PublisherContext,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl EventPublisher {
    /// An incarnation that empties the queue of `context`.
    pub fn new(context: PublisherContext, lifeline: Lifeline) -> Self {
        Self { context, _lifeline: lifeline }
    }
}

impl Actor for EventPublisher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(self.context.clone().run().into_actor(self));
    }
}

#[cfg(test)]
mod tests;
