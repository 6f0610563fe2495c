//! Announces payloads.
//!
//! **Role** sends the announcement of every kept payload to its topic, and removes payloads once
//! nobody needs them.
//! **Owns** nothing that matters: what is to be done lies in the spool.
//! **Receives** ids through the backlog, which merges.
//! **Sends** records to the producer.
//! **On failure** it is rebuilt and looks into the spool; an announcement that was on its way is
//! sent again.
//!
//! Responsible for: announcing at least once, in the order of uploads as far as nothing fails; a
//! batch is marked as sent only when the broker has acked it. What the broker refuses stays in the
//! spool and is tried again, with growing pauses, beside everything else. In a spool that replicas
//! share it looks again and again for what a dead one has left.
//! Not responsible for: what an announcement says (`announcement`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::{BrokerError, Delivery, Producer, ProducerRecord, QueueFull};
use crate::model::Topic;
use crate::progress::restart::Backoff;
use crate::runtime::clock::{Monotonic, SharedClock};
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::jitter::jitter;
use crate::source::ingress::backlog::{MOST_IDS, Work};
use crate::source::ingress::spool::Announcement;
use crate::source::ingress::storage::Storage;

/// How long a full producer is left alone before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(50);
/// How often payloads are looked through for those that nobody needs any more.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How often a shared spool is looked through for what others have left, at most.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pauses before refused announcements are tried again.
const RETRY: Backoff =
    Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30), factor: 2.0 };

/// What the broker said of one announcement.
type Answer = oneshot::Receiver<Result<(), BrokerError>>;

/// Announcements that failed, waiting for their next attempt.
#[derive(Debug, Default)]
struct Deferred {
    ids: BTreeSet<Uuid>,
    due: Monotonic,
    attempts: u32,
}

impl Deferred {
    /// Adds what failed at `now`; `delay` says how long to wait after so many attempts.
    fn add(&mut self, ids: BTreeSet<Uuid>, now: Monotonic, delay: impl FnOnce(u32) -> Duration) {
        if ids.is_empty() {
            return;
        }
        if self.ids.is_empty() {
            self.due = now + delay(self.attempts);
            self.attempts = self.attempts.saturating_add(1);
        }
        self.ids.extend(ids);
    }

    /// Everything that waits.
    fn take(&mut self) -> BTreeSet<Uuid> {
        std::mem::take(&mut self.ids)
    }

    /// Whether the topic refuses so much that nothing new is worth an attempt.
    fn is_full(&self) -> bool {
        self.ids.len() >= MOST_IDS
    }
}

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub(super) struct AnnouncerContext {
    pub(super) storage: Storage,
    pub(super) producer: Arc<dyn Producer>,
    pub(super) clock: SharedClock,
    pub(super) retain: Duration,
}

impl AnnouncerContext {
    async fn announce(self) {
        let mut deferred = Deferred::default();
        loop {
            let pause = deferred.due - self.clock.now();
            let (work, again) = tokio::select! {
                work = self.storage.backlog().next(), if !deferred.is_full() => (work, false),
                () = tokio::time::sleep(pause), if !deferred.ids.is_empty() => {
                    (Work::Ids(deferred.take()), true)
                }
            };
            match work {
                Work::Scan => self.scan(&deferred).await,
                Work::Ids(ids) => {
                    let failed = self.send(ids).await;
                    if again && failed.is_empty() {
                        deferred.attempts = 0;
                    }
                    let delay = |attempts| RETRY.delay(attempts, jitter());
                    deferred.add(failed, self.clock.now(), delay);
                }
            }
        }
    }

    /// Puts what lies in the spool into the backlog, but for what is deferred.
    async fn scan(&self, deferred: &Deferred) {
        // So that what is deferred cannot hide the rest.
        let most = MOST_IDS + deferred.ids.len();
        match self.storage.unsent(most).await {
            Ok((mut ids, more)) => {
                ids.retain(|id| !deferred.ids.contains(id));
                if !ids.is_empty() {
                    self.storage.backlog().refill(ids, more);
                }
            }
            Err(error) => {
                tracing::error!(
                    ingress = %self.storage.name(), spool = self.storage.kind(), %error,
                    "cannot read the spool"
                );
                tokio::time::sleep(RETRY.max).await;
                self.storage.backlog().refill(BTreeSet::new(), true);
            }
        }
    }

    /// Sends announcements, waits for all answers, and says which have failed.
    async fn send(&self, ids: BTreeSet<Uuid>) -> BTreeSet<Uuid> {
        let (mut failed, mut waiting) = (BTreeSet::new(), Vec::with_capacity(ids.len()));
        for id in ids {
            match self.storage.announcement(id).await {
                Ok(Some(announcement)) => waiting.push((id, self.produce(announcement).await)),
                Ok(None) => {}
                Err(error) => self.failed(id, &error, &mut failed),
            }
        }
        for (id, answer) in waiting {
            match answer.await {
                Ok(Ok(())) => self.acked(id, &mut failed).await,
                Ok(Err(error)) => self.failed(id, &error, &mut failed),
                Err(gone) => self.failed(id, &gone, &mut failed),
            }
        }
        failed
    }

    async fn produce(&self, announcement: Announcement) -> Answer {
        crash_point(Point::IngressAnnounce);
        let (tell, answer) = oneshot::channel();
        let mut waiting = record(announcement);
        // An announcer that has died in between does not hear it, and another one sends again.
        let mut delivery: Delivery = Box::new(move |result| {
            let _ = tell.send(result.map(|_| ()));
        });
        while let Err(QueueFull(record, back)) = self.producer.send(waiting, delivery) {
            (waiting, delivery) = (record, back);
            tokio::time::sleep(FULL_WAIT).await;
        }
        answer
    }

    async fn acked(&self, id: Uuid, failed: &mut BTreeSet<Uuid>) {
        crash_point(Point::IngressAnnounced);
        if let Err(error) = self.storage.sent(id).await {
            self.failed(id, &error, failed);
        }
    }

    fn failed(&self, id: Uuid, error: &dyn std::error::Error, failed: &mut BTreeSet<Uuid>) {
        tracing::error!(
            ingress = %self.storage.name(), spool = self.storage.kind(), %id, %error,
            "cannot announce an upload, it stays in the spool and is tried again"
        );
        failed.insert(id);
    }

    async fn sweep(self) {
        loop {
            let (ingress, spool) = (self.storage.name(), self.storage.kind());
            match self.storage.sweep(self.retain).await {
                Ok(0) => {}
                Ok(payloads) => tracing::info!(%ingress, spool, payloads, "old payloads removed"),
                Err(error) => tracing::warn!(%ingress, spool, %error, "cannot remove old payloads"),
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    /// Has the spool looked through now and then, if others put something there. Not at the same
    /// time as they do: then all of them would find the same.
    async fn look_around(self) {
        let Some(adopt_after) = self.storage.adopt_after() else { return };
        let every = adopt_after.min(LOOK_EVERY);
        loop {
            tokio::time::sleep(every / 2 + every.mul_f64(jitter())).await;
            self.storage.backlog().refill(BTreeSet::new(), true);
        }
    }
}

fn record(announcement: Announcement) -> ProducerRecord {
    let Announcement { topic, headers, value } = announcement;
    let headers = headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
    let record = ProducerRecord::new(Topic::from(topic), Bytes::from(value.to_string()));
    ProducerRecord { headers, ..record }
}

/// The actor.
pub(super) struct Announcer {
    /// The same for all incarnations.
    context: AnnouncerContext,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl Announcer {
    /// An incarnation.
    pub(super) fn new(context: AnnouncerContext, lifeline: Lifeline) -> Self {
        // What its predecessor had taken out of the backlog is still in the spool.
        context.storage.backlog().refill(BTreeSet::new(), true);
        Self { context, _lifeline: lifeline }
    }
}

impl Actor for Announcer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(self.context.clone().announce().into_actor(self));
        ctx.spawn(self.context.clone().sweep().into_actor(self));
        ctx.spawn(self.context.clone().look_around().into_actor(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_announcement_waits_longer_each_time_and_others_join_it() {
        let second = Duration::from_secs(1);
        let ids = |number| BTreeSet::from([Uuid::from_u128(number)]);
        let mut deferred = Deferred::default();
        let delay = |attempts: u32| second * (attempts + 1);
        deferred.add(BTreeSet::new(), Monotonic::ZERO, delay);
        assert!(deferred.ids.is_empty());
        deferred.add(ids(1), Monotonic::ZERO, delay);
        assert_eq!(deferred.due, Monotonic::ZERO + second);
        deferred.add(ids(2), Monotonic::ZERO + second, delay);
        assert_eq!(deferred.due, Monotonic::ZERO + second, "the first one does not wait for it");
        assert_eq!(deferred.take().len(), 2);
        deferred.add(ids(1), Monotonic::ZERO, delay);
        assert_eq!(deferred.due, Monotonic::ZERO + second * 2);
    }

    #[test]
    fn the_record_carries_what_the_spool_holds() {
        let announcement = Announcement {
            topic: "announcements".to_owned(),
            headers: vec![("service".to_owned(), "hccm".to_owned())],
            value: serde_json::json!({"size": 42}),
        };
        let record = record(announcement);
        assert_eq!(record.topic, Topic::from("announcements"));
        assert_eq!(record.headers, [("service".to_owned(), Bytes::from("hccm"))]);
        assert_eq!(record.value, Some(Bytes::from(r#"{"size":42}"#)));
    }
}
