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
//! Not responsible for: the limit of dead letters (`progress::dead_letters`).

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::{BrokerError, Producer, ProducerRecord, QueueFull};
use crate::model::event::{FailureFact, MemberFacts};
use crate::model::{Headers, Outcome, PipelineName, Topic};
use crate::runtime::clock::SharedClock;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
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
fn letter(context: &DeadLetterContext, failed: &Failed) -> ProducerRecord {
    let source = failed.source.record();
    let mut headers = source.headers.clone();
    let mut add = |name: &str, value: String| {
        headers.push((format!("tidemill-{name}"), Bytes::from(value)));
    };
    add("pipeline", context.pipeline.to_string());
    add("node", failed.node.to_string());
    if let Some(manifest) = &failed.meta.manifest {
        add("manifest", manifest.to_string());
    }
    if let Some(member) = &failed.meta.member {
        add("member", member.to_string());
    }
    let class = failed.failure.class().map_or("unavailable", |class| class.as_str());
    add("error-class", class.to_owned());
    add("error", shorten(failed.failure.why()).to_owned());
    add("attempts", failed.attempts.to_string());
    add("failed-at", context.clock.unix_millis().to_string());
    add("topic", failed.source.origin().topic.to_string());
    add("partition", failed.source.origin().partition.to_string());
    add("offset", failed.source.offset().to_string());
    ProducerRecord {
        topic: context.topic.clone(),
        partition: None,
        key: source.key.clone(),
        value: source.value.clone(),
        headers: without_older(headers),
        timestamp: source.timestamp,
    }
}

/// A letter that was replayed and failed again keeps only its newest provenance.
fn without_older(headers: Headers) -> Headers {
    let mut kept = Headers::with_capacity(headers.len());
    for (index, (name, value)) in headers.iter().enumerate() {
        let repeated = headers[index + 1..].iter().any(|(later, _)| later == name);
        if !(name.starts_with("tidemill-") && repeated) {
            kept.push((name.clone(), value.clone()));
        }
    }
    kept
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
        let mut record = letter(&self, &failed);
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
