//! The aggregator of manifests: the single writer of one shard.
//!
//! **Role** applies the progress events of one partition to manifests, and completes them.
//! **Owns** the manifests of its shard in memory, the lease on the shard, the partition's buffer.
//! **Receives** [`PartitionMessage`]s; wakes from the buffer; a tick, for deadlines.
//! **Sends** changes to the state store; begin and commit orders to the poll thread; a nudge to
//! the dispatcher, and one to the retirer.
//! **On failure** its supervisor builds a new one, which takes the shard over again and goes on
//! where the stored state ends. Being fenced is no failure: somebody else owns the shard, and this
//! one waits to be let go. If nobody does, the shard is still assigned here, and that is one.
//!
//! Responsible for: the life of an owner: taking over, working, draining, being fenced.
//! Not responsible for: what an event does to a manifest (`progress::manifest`), how it is stored
//! (`state`), or delivering actions (`dispatcher`).
//!
//! The order of DESIGN section 5 is kept: the state store decides where a shard begins, a batch of
//! events is applied in one transaction, and only then is its offset committed to the broker.

mod actions;
mod draft;
mod held;
mod judge;
mod kinds;
mod ledger;
mod open;
mod owner;
mod takeover;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Notify, oneshot, watch};

use crate::broker::group::{
    BufferLimits, Drained, Lags, PartitionLag, PartitionMessage, PollOrders,
};
use crate::broker::{Admin, Positions};
use crate::model::{Epoch, PipelineName, TopicPartition};
use crate::progress::restart::Backoff;
use crate::runtime::clock::SharedClock;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::inbox::Inbox;
use crate::state::StateStore;
use crate::telemetry::{Counter, Instruments};

pub use kinds::{Kind, Kinds};

/// Limits and times of aggregators.
#[derive(Clone, Debug)]
pub struct AggregatorSettings {
    /// Most events of one transaction.
    pub batch_events: usize,
    /// Most bytes of the events of one transaction.
    pub batch_bytes: usize,
    /// High marks of the partition's buffer.
    pub buffer: BufferLimits,
    /// Bytes that the manifests of one shard may take in memory; the coldest are loaded on
    /// demand.
    pub memory_bytes: usize,
    /// How often deadlines are looked at.
    pub tick: Duration,
    /// How often the end of the partition is looked up, to see how far the shard is behind.
    pub look_interval: Duration,
    /// Delays while the state store or the broker is away.
    pub backoff: Backoff,
    /// How often events that were applied are removed from the topic, at most.
    pub delete_interval: Duration,
    /// How long a fenced owner waits to be let go before it takes that for an error.
    pub fenced_grace: Duration,
    /// Blocked completions of one shard at which the pipeline stops.
    pub max_blocked: usize,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            batch_events: 1_000,
            batch_bytes: 4 << 20,
            buffer: BufferLimits { bytes: 8 << 20, records: 10_000 },
            memory_bytes: 64 << 20,
            tick: Duration::from_millis(500),
            look_interval: Duration::from_secs(5),
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(10),
                factor: 2.0,
            },
            delete_interval: Duration::from_secs(10),
            fenced_grace: Duration::from_secs(60),
            max_blocked: 100,
        }
    }
}

/// What all aggregators of a pipeline share.
pub struct AggregatorContext {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Limits and times.
    pub settings: AggregatorSettings,
    /// The declared manifests.
    pub kinds: Arc<Kinds>,
    /// Keeps the state.
    pub store: Arc<dyn StateStore>,
    /// Orders to the poll thread of the progress topic.
    pub orders: Arc<PollOrders>,
    /// Look-ups of offsets.
    pub positions: Arc<dyn Positions>,
    /// Removes events that were applied; `None` where others read the topic too.
    pub admin: Option<Arc<dyn Admin>>,
    /// Time.
    pub clock: SharedClock,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
    /// How far the shards are behind.
    pub lags: Arc<Lags>,
    /// Events that could not be applied: undecodable, of an undeclared manifest, refused.
    pub skipped: Arc<Counter>,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// Mints epochs of the consumer; shared by all partitions so that no two are alike.
    pub epochs: Arc<AtomicU64>,
    /// Signalled after a completion: the dispatcher has something to deliver.
    pub completed: Arc<Notify>,
    /// Signalled when objects were retired, or named again: the retirer may have to delete them.
    pub retired: Arc<Notify>,
}

impl AggregatorContext {
    fn mint_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Ordering::Relaxed)).next()
    }
}

/// How an owner's work ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It was asked to drain, and everything it took is applied.
    Drained,
    /// Somebody else has taken the shard over.
    Fenced,
    /// It cannot go on; a fresh takeover may help.
    Failed(String),
    /// The pipeline has to stop.
    Refused {
        /// What kind of end it is.
        ending: Ending,
        /// What is wrong and what to do.
        why: String,
    },
}

/// The actor.
pub struct ManifestAggregator {
    /// The partition of the progress topic.
    partition: TopicPartition,
    /// Shared with the other aggregators.
    context: Arc<AggregatorContext>,
    /// Filled by the assignment.
    messages: Inbox<PartitionMessage>,
    /// Tells the supervisor how this incarnation ended.
    lifeline: Lifeline,
    /// Tells the owner's work to drain.
    drain: watch::Sender<bool>,
    /// Whoever waits for the drain.
    drained: Option<oneshot::Sender<Drained>>,
    /// Whether the shard is somebody else's.
    fenced: bool,
    /// How far the shard is behind; the owner's work notes the rest.
    lag: Arc<PartitionLag>,
}

impl ManifestAggregator {
    /// An aggregator that takes its shard over when it is started.
    pub fn new(
        partition: TopicPartition,
        context: Arc<AggregatorContext>,
        messages: Inbox<PartitionMessage>,
        lifeline: Lifeline,
    ) -> Self {
        let (drain, lag) = (watch::Sender::new(false), context.lags.of(&partition));
        Self { partition, context, messages, lifeline, drain, drained: None, fenced: false, lag }
    }

    /// Looks up the end of the partition, whatever the owner's work waits for.
    fn look_up_end(&self, ctx: &mut Context<Self>) {
        let (positions, partition) = (self.context.positions.clone(), self.partition.clone());
        let end = tokio::task::spawn_blocking(move || positions.watermarks(&partition));
        ctx.spawn(end.into_actor(self).map(|end, actor, _ctx| {
            // A broker that is away shows as such elsewhere.
            if let Ok(Ok((_, end))) = end {
                actor.lag.see_end(end, actor.context.clock.unix_millis());
            }
        }));
    }

    fn ended(&mut self, ended: Ended, ctx: &mut Context<Self>) {
        match ended {
            Ended::Drained => self.finish(ctx),
            Ended::Fenced => self.fenced(ctx),
            Ended::Failed(why) => {
                self.lifeline.fail(why);
                ctx.stop();
            }
            Ended::Refused { ending, why } => {
                self.context.escalation.raise(ending, why);
                ctx.stop();
            }
        }
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        if let Some(reply) = self.drained.take() {
            // Whoever asked may have given up waiting.
            let _ = reply.send(Drained);
        }
        self.lifeline.finish();
        ctx.stop();
    }

    /// Everything in memory is gone with the owner's work; what is left is to be let go.
    fn fenced(&mut self, ctx: &mut Context<Self>) {
        tracing::warn!(partition = %self.partition, "another owner has taken the shard over");
        self.fenced = true;
        if self.drained.is_some() {
            return self.finish(ctx);
        }
        ctx.run_later(self.context.settings.fenced_grace, |actor, ctx| {
            let why = format!(
                "{} was taken over by another owner and is still assigned here: two processes \
                 run this pipeline under different groups, or the group is stuck",
                actor.partition
            );
            tracing::error!(partition = %actor.partition, "{why}, taking it over again");
            actor.lifeline.fail(why);
            ctx.stop();
        });
    }
}

impl Actor for ManifestAggregator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.messages.attach::<Self>(ctx);
        let work =
            takeover::work(self.context.clone(), self.partition.clone(), self.drain.subscribe());
        ctx.spawn(work.into_actor(self).map(|ended, actor, ctx| actor.ended(ended, ctx)));
        let every = self.context.settings.look_interval;
        ctx.run_interval(every, |actor, ctx| actor.look_up_end(ctx));
    }
}

impl StreamHandler<PartitionMessage> for ManifestAggregator {
    fn handle(&mut self, message: PartitionMessage, ctx: &mut Self::Context) {
        match message {
            PartitionMessage::Drain { reply } => {
                self.drained = Some(reply);
                self.drain.send_replace(true);
                if self.fenced {
                    self.finish(ctx);
                }
            }
        }
    }

    fn finished(&mut self, _ctx: &mut Self::Context) {
        // The assignment let go of the inbox: there is nobody left to drain for, and the actor
        // works on until it is stopped.
    }
}

/// Resolves once the owner is to drain.
async fn drain_requested(drain: &mut watch::Receiver<bool>) {
    // An error means that the actor is gone, and this work with it.
    let _ = drain.wait_for(|drain| *drain).await;
}

#[cfg(test)]
mod tests;
