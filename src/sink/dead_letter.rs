//! Dead letters: source records that failed for good, kept with why.
//!
//! **Role** produces the source record to the dead-letter topic and settles the obligation when
//! the broker has acked the copy.
//! **Owns** nothing; records in flight belong to the producer.
//! **Receives** [`Failed`] from stages, calls and sinks.
//! **Sends** records to the producer.
//! **On failure** it is rebuilt on the same inbox; a record in its hands is abandoned, read again
//! and fails again.
//!
//! Responsible for: the form of a dead letter: original bytes, key and headers, and provenance in
//! further headers.
//! Not responsible for: the limit of dead letters (`progress::dead_letters`), or reading and
//! replaying them (`ops::dead_letters`); `model::letter` has the names of the headers.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::{BrokerError, Producer, ProducerRecord, QueueFull};
use crate::model::event::{FailureFact, MemberFacts};
use crate::model::{Headers, Outcome, PipelineName, Topic, letter};
use crate::runtime::clock::SharedClock;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::inbox::Inbox;
use crate::runtime::node::Failed;

/// Longest error text in a header, in bytes; the topic has 64 KiB to spare for all headers.
const MAX_WHY: usize = 4 << 10;
/// How long a full producer is left alone before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(50);

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub struct DeadLetterContext {
    /// The topic of dead letters.
    pub topic: Topic,
    /// The pipeline they come from.
    pub pipeline: PipelineName,
    /// Produces them.
    pub producer: Arc<dyn Producer>,
    /// Stamps the time of the failure.
    pub clock: SharedClock,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// Signalled at each delivery: there is room in the producer again.
    pub room: Arc<Notify>,
}

/// The record to be produced for a failure.
fn dead_letter(context: &DeadLetterContext, failed: &Failed) -> ProducerRecord {
    let source = failed.source.record();
    let mut headers = own_headers(context, &source.headers);
    let mut add = |name: &str, value: &str| {
        headers.push((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    };
    let (meta, now) = (&failed.meta, context.clock.unix_millis());
    let (replay, origin) = (meta.replay.as_deref(), failed.source.origin());
    add(letter::PIPELINE, context.pipeline.as_str());
    add(letter::NODE, failed.node.as_str());
    for (name, value) in [
        (letter::SOURCE, meta.source.as_ref().map(|source| source.as_str())),
        (letter::MANIFEST, meta.manifest.as_ref().map(|manifest| manifest.as_str())),
        (letter::MEMBER, meta.member.as_ref().map(|member| member.as_str())),
        (letter::REPLAY_OF, replay.map(|replay| replay.of.as_str())),
    ] {
        value.into_iter().for_each(|value| add(name, value));
    }
    let class = failed.failure.class().map_or("unavailable", |class| class.as_str());
    add(letter::CLASS, class);
    add(letter::ERROR, shorten(failed.failure.why()));
    let before = replay.map_or(0, |replay| replay.attempts);
    add(letter::ATTEMPTS, &before.saturating_add(failed.attempts).to_string());
    add(letter::FAILED_AT, &now.to_string());
    if let Some(first) = replay.and_then(|replay| replay.first_failed_at) {
        add(letter::FIRST_FAILED_AT, &first.to_string());
    }
    add(letter::TOPIC, origin.topic.as_str());
    add(letter::PARTITION, &origin.partition.to_string());
    add(letter::OFFSET, &failed.source.offset().to_string());
    ProducerRecord {
        topic: context.topic.clone(),
        partition: None,
        key: source.key.clone(),
        value: source.value.clone(),
        headers,
        timestamp: source.timestamp,
    }
}

/// The headers that the record came with. A letter of this pipeline that somebody put into a
/// source topic by hand keeps only its newest provenance.
fn own_headers(context: &DeadLetterContext, headers: &Headers) -> Headers {
    let (own, added) = letter::split(headers, letter::PIPELINE);
    let is_ours = letter::text(added, letter::PIPELINE) == Some(context.pipeline.as_str());
    if is_ours { own.to_vec() } else { headers.clone() }
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_WHY);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl DeadLetterContext {
    async fn produce(self, failed: Failed) {
        tracing::warn!(
            node = %failed.node,
            partition = %failed.source.origin(),
            offset = %failed.source.offset(),
            error = %failed.failure,
            "record failed for good"
        );
        crash_point(Point::LetterSend);
        let mut record = dead_letter(&self, &failed);
        let (room, escalation) = (self.room.clone(), self.escalation.clone());
        let topic = self.topic.clone();
        let mut delivery: crate::broker::Delivery = Box::new(move |result| {
            settle(result.map(|_| ()), failed, &topic, &escalation);
            room.notify_one();
        });
        while let Err(QueueFull(back, again)) = self.producer.send(record, delivery) {
            (record, delivery) = (back, again);
            // The producer is shared, so the room may come from somebody else's delivery.
            let _ = tokio::time::timeout(FULL_WAIT, self.room.notified()).await;
        }
    }
}

fn settle(result: Result<(), BrokerError>, failed: Failed, topic: &Topic, end: &Escalation) {
    match result {
        Ok(()) => {
            crash_point(Point::LetterAcked);
            let class = failed.failure.class().map_or("unavailable", |class| class.as_str());
            let fact = FailureFact {
                node: failed.node,
                class: class.to_owned(),
                why: shorten(failed.failure.why()).to_owned(),
            };
            failed.duty.note(MemberFacts { failure: Some(fact), ..MemberFacts::default() });
            failed.duty.settle(Outcome::DeadLettered);
        }
        // Closed over it: whoever comes next reads the record again.
        Err(BrokerError::Unavailable(_)) => drop(failed.duty),
        Err(error) => {
            let (partition, offset) = (failed.source.origin(), failed.source.offset());
            end.raise(
                Ending::Dependency,
                format!(
                    "the dead letter of {partition} offset {offset} cannot be kept in {topic}: \
                     {error}; give the topic room for the largest source record plus 64 KiB"
                ),
            );
            drop(failed.duty);
        }
    }
}

/// The actor.
pub struct DeadLetters {
    /// The same for every incarnation.
    context: DeadLetterContext,
    /// Filled by whoever gives a record up.
    failures: Inbox<Failed>,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl DeadLetters {
    /// An incarnation that reads from `failures`.
    pub fn new(context: DeadLetterContext, failures: Inbox<Failed>, lifeline: Lifeline) -> Self {
        Self { context, failures, _lifeline: lifeline }
    }
}

impl Actor for DeadLetters {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.failures.attach::<Self>(ctx);
    }
}

impl StreamHandler<Failed> for DeadLetters {
    fn handle(&mut self, failed: Failed, ctx: &mut Self::Context) {
        ctx.wait(self.context.clone().produce(failed).into_actor(self));
    }
}

#[cfg(test)]
mod tests;
