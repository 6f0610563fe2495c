//! The dispatcher of the outbox: what completions owe to Kafka and HTTP.
//!
//! **Role** takes due deliveries out of the outbox, makes them, and says how it went.
//! **Owns** the deliveries it has claimed and not yet marked.
//! **Receives** a nudge after each completion; looks by itself now and then.
//! **Sends** messages to the producer and requests to web servers; marks to the state store.
//! **On failure** it is rebuilt; what it had claimed is due again after a while, and may be
//! delivered once more, under the same idempotency key.
//!
//! Responsible for: at-least-once delivery with a stable key, and backing off from receivers that
//! do not take it.
//! Not responsible for: what is delivered (resolved at completion), or the order of revisions,
//! which the store keeps when it hands rows out.
//!
//! Any number of replicas may dispatch: a claim moves a row's due time ahead, so nobody else sees
//! it until then, and no transaction is open while something is delivered.

mod http;
mod kafka;

use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::broker::Producer;
use crate::completion::patience::until_answered;
use crate::model::PipelineName;
use crate::progress::restart::Backoff;
use crate::runtime::clock::SharedClock;
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{self, Guard, Point, crash_point};
use crate::runtime::jitter::jitter;
use crate::state::{Claimed, OutboxTarget, StateError, StateStore};
use crate::telemetry::Instruments;

pub use http::{HttpSender, UnusableClient};

/// How much longer than a delivery may take a claim lasts: time to mark it.
const MARKING: Duration = Duration::from_secs(30);

/// Limits and times of the dispatcher.
#[derive(Clone, Debug)]
pub struct DispatcherSettings {
    /// How often it looks without being nudged.
    pub interval: Duration,
    /// How long one delivery may take before it is due for somebody else.
    pub delivery_timeout: Duration,
    /// Deliveries at once.
    pub in_flight: usize,
    /// Delays between attempts at one delivery; they go on without end.
    pub retry: Backoff,
    /// Delays while the state store is away.
    pub backoff: Backoff,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            delivery_timeout: Duration::from_secs(30),
            in_flight: 64,
            retry: Backoff {
                first: Duration::from_secs(1),
                max: Duration::from_secs(300),
                factor: 2.0,
            },
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(10),
                factor: 2.0,
            },
        }
    }
}

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub struct DispatcherContext {
    /// The pipeline whose outbox it is.
    pub pipeline: PipelineName,
    /// Limits and times.
    pub settings: DispatcherSettings,
    /// Keeps the outbox.
    pub store: Arc<dyn StateStore>,
    /// Delivers messages.
    pub producer: Arc<dyn Producer>,
    /// Delivers requests.
    pub http: HttpSender,
    /// Time.
    pub clock: SharedClock,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
    /// Signalled after a completion.
    pub completed: Arc<Notify>,
}

/// Deliveries on their way; each resolves to the id of its row.
type Going = FuturesUnordered<Pin<Box<dyn Future<Output = i64>>>>;

impl DispatcherContext {
    /// Dispatches until the store reports an error that stays.
    async fn run(self: Arc<Self>) -> StateError {
        let mut going = Going::new();
        let mut claimed = HashSet::new();
        loop {
            let filled = match self.claim(&mut going, &mut claimed).await {
                Ok(filled) => filled,
                Err(error) => return error,
            };
            self.wait(filled, &mut going, &mut claimed).await;
        }
    }

    /// Starts what is due, as far as there is room; whether there may be more.
    async fn claim(
        self: &Arc<Self>,
        going: &mut Going,
        claimed: &mut HashSet<i64>,
    ) -> Result<bool, StateError> {
        let room = self.settings.in_flight.saturating_sub(claimed.len());
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        if limit == 0 {
            return Ok(true);
        }
        let now = self.clock.unix_millis();
        let until = now.saturating_add(millis(self.settings.delivery_timeout + MARKING));
        let what = "deliveries to be claimed";
        let mut rows =
            pin!(until_answered(what, &self.settings.backoff, &self.instruments, async || {
                self.store.claim(&self.pipeline, now, until, limit).await
            }));
        // Deliveries go on meanwhile: each of them may hold the connection that the claim needs.
        let rows = loop {
            tokio::select! {
                Some(id) = going.next() => {
                    claimed.remove(&id);
                }
                rows = &mut rows => break rows.answer?,
            }
        };
        let filled = rows.len() >= room;
        // A delivery that failed may be marked and claimed again before its end is noticed here;
        // it is noticed now, or the claim would be wasted until it runs out.
        while let Some(Some(id)) = going.next().now_or_never() {
            claimed.remove(&id);
        }
        for row in rows {
            // One that the broker has not acked yet may be due again: it is still on its way.
            if claimed.insert(row.id) {
                going.push(Box::pin(self.clone().deliver(row)));
            }
        }
        Ok(filled)
    }

    /// Waits until it is worth looking again, while deliveries go on.
    async fn wait(&self, filled: bool, going: &mut Going, claimed: &mut HashSet<i64>) {
        let mut interval = Box::pin(tokio::time::sleep(self.settings.interval));
        loop {
            tokio::select! {
                Some(id) = going.next() => {
                    claimed.remove(&id);
                    if filled && claimed.len() <= self.settings.in_flight / 2 {
                        return;
                    }
                }
                () = self.completed.notified() => return,
                () = &mut interval => return,
            }
        }
    }

    async fn deliver(self: Arc<Self>, claimed: Claimed) -> i64 {
        let Claimed { id, mut row, attempts } = claimed;
        crash_point(Point::OutboxClaimed);
        if fault::is_off(Guard::StableKeys) {
            row.idempotency_key = Uuid::new_v4();
        }
        let outcome = match &row.target {
            OutboxTarget::Kafka { topic, key, payload } => {
                kafka::produce(&*self.producer, &row, topic, key.as_deref(), payload).await
            }
            OutboxTarget::Http { url, payload } => self.http.post(&row, url, payload).await,
        };
        let what = "a delivery to be marked";
        let (backoff, instruments) = (&self.settings.backoff, &*self.instruments);
        let now = self.clock.unix_millis();
        let marked = match outcome {
            Ok(()) => {
                crash_point(Point::OutboxDelivered);
                tracing::debug!(
                    manifest = %row.manifest, revision = row.revision, action = row.action,
                    part = row.part, "action delivered"
                );
                instruments.actions.add(1);
                let marking = async || self.store.delivered(id, now).await;
                until_answered(what, backoff, instruments, marking).await
            }
            Err(why) => {
                instruments.action_failures.add(1);
                let delay = self.settings.retry.delay(attempts, jitter());
                let retry_at = now.saturating_add(millis(delay));
                tracing::warn!(
                    manifest = %row.manifest, revision = row.revision, action = row.action,
                    part = row.part, attempts = attempts + 1, error = why, ?delay,
                    "action cannot be delivered yet"
                );
                let marking = async || self.store.failed(id, retry_at, &why).await;
                until_answered(what, backoff, instruments, marking).await
            }
        };
        crash_point(Point::OutboxMarked);
        if let Err(error) = marked.answer {
            tracing::error!(manifest = %row.manifest, action = row.action, %error,
                "a delivery cannot be marked and will be made again");
        }
        id
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The actor.
pub struct OutboxDispatcher {
    /// The same for every incarnation.
    context: Arc<DispatcherContext>,
    /// Tells the supervisor how this incarnation ended.
    lifeline: Lifeline,
}

impl OutboxDispatcher {
    /// An incarnation that dispatches once it is started.
    pub fn new(context: DispatcherContext, lifeline: Lifeline) -> Self {
        Self { context: Arc::new(context), lifeline }
    }
}

impl Actor for OutboxDispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let running = self.context.clone().run().into_actor(self);
        ctx.spawn(running.map(|error, actor, ctx| {
            actor.lifeline.fail(format!("cannot claim deliveries: {error}"));
            ctx.stop();
        }));
    }
}

#[cfg(test)]
mod tests;
