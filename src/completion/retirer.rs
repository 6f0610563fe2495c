//! The retirer: retired objects go away, and stay away.
//!
//! **Role** deletes objects that were retired, and those of them that were written again.
//! **Owns** the objects it has claimed and not yet marked.
//! **Receives** a nudge after each change that retires or names objects; looks by itself now and
//! then.
//! **Sends** deletions to the stores of objects; marks to the state store.
//! **On failure** it is rebuilt; what it had claimed is due again after a while.
//!
//! Responsible for: deleting what is due, looking for everything that was ever retired at long
//! intervals, and backing off from a store of objects that is away.
//! Not responsible for: which objects are retired (`aggregator`, and the queries of topologies), or
//! how one is deleted ([`ObjectDeleter`]).
//!
//! An object can come back: a replay writes it again, and so does a process that slept through its
//! retirement. The first says so in an event, which makes the object due at once; for the second
//! there is the sweep. Nothing is ever un-retired, so a claim holds however late it is acted upon,
//! and any number of replicas may delete the same object.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use crate::completion::patience::until_answered;
use crate::model::PipelineName;
use crate::progress::restart::Backoff;
use crate::runtime::clock::SharedClock;
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::jitter::jitter;
use crate::runtime::node::BoxFuture;
use crate::state::{RetiredDue, StateError, StateStore};
use crate::telemetry::{Away, Instruments};

/// What waits while the store of objects is away, as metrics and `/readyz` call it.
const NAME: &str = "retirer";
/// How much longer than a deletion may take a claim lasts: time to mark it.
const MARKING: Duration = Duration::from_secs(30);

/// Why an object could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// It lies in no store that the pipeline writes to.
    #[error("{0}")]
    Foreign(String),
    /// Its store is away or refuses; trying again may help.
    #[error("{0}")]
    Unavailable(String),
}

/// Where objects can be deleted.
pub trait ObjectDeleter: Send + Sync {
    /// Deletes the object with this URL; says whether there was one.
    fn delete<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<bool, DeleteError>>;
}

/// Limits and times of the retirer.
#[derive(Clone, Debug)]
pub struct RetirerSettings {
    /// How often it looks without being nudged.
    pub interval: Duration,
    /// How often everything that was retired is looked for once more.
    pub sweep: Duration,
    /// How long one deletion may take.
    pub delete_timeout: Duration,
    /// Deletions at once.
    pub in_flight: usize,
    /// Delays while the store of objects is away; they go on without end.
    pub retry: Backoff,
    /// Delays while the state store is away.
    pub backoff: Backoff,
}

impl Default for RetirerSettings {
    fn default() -> Self {
        let backoff = |first, max| Backoff { first, max, factor: 2.0 };
        Self {
            interval: Duration::from_secs(10),
            sweep: Duration::from_secs(6 * 60 * 60),
            delete_timeout: Duration::from_secs(30),
            in_flight: 64,
            retry: backoff(Duration::from_millis(200), Duration::from_secs(30)),
            backoff: backoff(Duration::from_millis(100), Duration::from_secs(10)),
        }
    }
}

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub struct RetirerContext {
    /// The pipeline whose objects are retired.
    pub pipeline: PipelineName,
    /// Limits and times.
    pub settings: RetirerSettings,
    /// Knows what is retired.
    pub store: Arc<dyn StateStore>,
    /// Deletes objects.
    pub objects: Arc<dyn ObjectDeleter>,
    /// Time.
    pub clock: SharedClock,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
    /// Signalled when objects were retired, or named again.
    pub retired: Arc<Notify>,
}

/// What came of one look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    /// Whether more may be due.
    filled: bool,
    /// Objects that are gone.
    gone: usize,
    /// Why another one is not.
    failed: Option<String>,
    /// An object that lies elsewhere.
    foreign: Option<String>,
}

/// While the store of objects is away.
struct Outage {
    /// Shows it to the world.
    _away: Away,
    attempts: u32,
}

impl RetirerContext {
    /// Deletes until the state store reports an error that stays.
    async fn run(self: Arc<Self>) -> StateError {
        let mut outage: Option<Outage> = None;
        let mut said_foreign = false;
        loop {
            let round = match self.round(outage.is_some()).await {
                Ok(round) => round,
                Err(error) => return error,
            };
            if let Some(why) = round.foreign.filter(|_| !said_foreign) {
                said_foreign = true;
                tracing::error!(why, "a retired object lies elsewhere, somebody has to delete it");
            }
            match round.failed {
                Some(why) if round.gone == 0 => {
                    let outage = outage.get_or_insert_with(|| self.lost(&why));
                    let delay = self.settings.retry.delay(outage.attempts, jitter());
                    outage.attempts = outage.attempts.saturating_add(1);
                    tokio::time::sleep(delay).await;
                    continue;
                }
                Some(why) => tracing::warn!(why, "a retired object cannot be deleted yet"),
                None => {}
            }
            if let Some(outage) = outage.take_if(|_| round.gone > 0) {
                tracing::info!(attempts = outage.attempts, "retired objects can be deleted again");
            }
            if !round.filled {
                self.wait().await;
            }
        }
    }

    /// Deletes what is due: one object, if none could be deleted the last time.
    async fn round(&self, is_away: bool) -> Result<Round, StateError> {
        let limit = if is_away { 1 } else { self.settings.in_flight.max(1) };
        let urls = self.claim(limit).await?;
        self.instruments.retired_checks.add(urls.len() as u64);
        let mut round = Round { filled: urls.len() >= limit, ..Round::default() };
        let deleting = stream::iter(urls).map(|url| async move {
            crash_point(Point::RetireDelete);
            let outcome = self.delete(&url).await;
            crash_point(Point::RetireDeleted);
            (url, outcome)
        });
        let outcomes: Vec<_> = deleting.buffer_unordered(limit).collect().await;
        let mut gone = Vec::new();
        for (url, outcome) in outcomes {
            match outcome {
                Ok(was_there) => {
                    self.instruments.retired_deletions.add(u64::from(was_there));
                    gone.push(url);
                }
                Err(DeleteError::Unavailable(why)) => round.failed = Some(why),
                Err(DeleteError::Foreign(why)) => round.foreign = Some(why),
            }
        }
        round.gone = gone.len();
        self.mark(&gone).await?;
        Ok(round)
    }

    async fn claim(&self, limit: usize) -> Result<Vec<String>, StateError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let now = self.clock.unix_millis();
        let due = RetiredDue {
            now,
            until: now.saturating_add(millis(self.settings.delete_timeout + MARKING)),
            swept_before: now.saturating_sub(millis(self.settings.sweep)),
        };
        let what = "retired objects to be claimed";
        let urls = until_answered(what, &self.settings.backoff, &self.instruments, async || {
            self.store.claim_retired(&self.pipeline, due, limit).await
        });
        urls.await.answer
    }

    async fn delete(&self, url: &str) -> Result<bool, DeleteError> {
        let limit = self.settings.delete_timeout;
        let outcome = tokio::time::timeout(limit, self.objects.delete(url)).await;
        outcome.unwrap_or_else(|_| {
            Err(DeleteError::Unavailable(format!("{url} was not deleted within {limit:?}")))
        })
    }

    async fn mark(&self, gone: &[String]) -> Result<(), StateError> {
        if gone.is_empty() {
            return Ok(());
        }
        let now = self.clock.unix_millis();
        let what = "deleted objects to be marked";
        let marked = until_answered(what, &self.settings.backoff, &self.instruments, async || {
            self.store.objects_deleted(&self.pipeline, gone, now).await
        });
        marked.await.answer
    }

    fn lost(&self, why: &str) -> Outage {
        tracing::warn!(why, "retired objects cannot be deleted, trying on");
        Outage { _away: self.instruments.unavailable.enter(NAME, why), attempts: 0 }
    }

    /// Waits until it is worth looking again.
    async fn wait(&self) {
        tokio::select! {
            () = self.retired.notified() => {}
            () = tokio::time::sleep(self.settings.interval) => {}
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The actor.
pub struct Retirer {
    /// The same for every incarnation.
    context: Arc<RetirerContext>,
    /// Tells the supervisor how this incarnation ended.
    lifeline: Lifeline,
}

impl Retirer {
    /// An incarnation that deletes once it is started.
    pub fn new(context: RetirerContext, lifeline: Lifeline) -> Self {
        Self { context: Arc::new(context), lifeline }
    }
}

impl Actor for Retirer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let running = self.context.clone().run().into_actor(self);
        ctx.spawn(running.map(|error, actor, ctx| {
            actor.lifeline.fail(format!("cannot claim retired objects: {error}"));
            ctx.stop();
        }));
    }
}

#[cfg(test)]
mod tests;
