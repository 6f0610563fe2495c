//! How an owner begins: the lease, the position, the deadlines.
//!
//! Responsible for: taking the shard over for as long as it takes, finding out where it begins and
//! how far the topic reaches, and ordering the poll thread to begin there.
//! Not responsible for: the work that follows (`owner`).
//!
//! The state store decides where a shard begins. Only a shard to which nothing was ever applied
//! begins at the first record of its partition.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::broker::BrokerError;
use crate::broker::group::PartitionBuffer;
use crate::completion::aggregator::ledger::Ledger;
use crate::completion::aggregator::owner::{Owner, Ownership};
use crate::completion::aggregator::{AggregatorContext, Ended, drain_requested};
use crate::completion::patience::until_answered;
use crate::model::{Offset, TopicPartition};
use crate::progress::deadline::{OwnedTime, ShardClock};
use crate::runtime::escalation::Ending;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::jitter::jitter;
use crate::state::{ManifestFilter, ManifestPhase, ShardKey, StateError, Takeover};

/// Takes the shard over and works until it ends.
pub(super) async fn work(
    context: Arc<AggregatorContext>,
    partition: TopicPartition,
    mut drain: watch::Receiver<bool>,
) -> Ended {
    let owner = tokio::select! {
        // Nothing was taken yet, so nothing has to be finished.
        () = drain_requested(&mut drain) => return Ended::Drained,
        owner = begin(context, partition) => owner,
    };
    match owner {
        Ok(owner) => owner.run(drain).await,
        Err(ended) => ended,
    }
}

/// What an error of the store that stays means to an owner.
pub(super) fn ended_by(error: &StateError, doing: &str) -> Ended {
    match error {
        StateError::Mismatch(why) => {
            Ended::Refused { ending: Ending::Policy, why: format!("cannot {doing}: {why}") }
        }
        StateError::Unavailable(why) | StateError::Fatal(why) => {
            Ended::Failed(format!("cannot {doing}: {why}"))
        }
    }
}

async fn begin(context: Arc<AggregatorContext>, partition: TopicPartition) -> Result<Owner, Ended> {
    let shard = ShardKey { pipeline: context.pipeline.clone(), shard: partition.partition.0 };
    crash_point(Point::TakeoverBegin);
    let Takeover { lease, next } = take_over(&context, &shard).await?;
    crash_point(Point::TakeoverDone);
    let (earliest, end) = watermarks(&context, &partition).await?;
    let next = next.unwrap_or(earliest);
    let mut ledger = Ledger::new(context.pipeline.clone(), shard.shard, context.kinds.clone());
    let persisted = foresee(&context, &shard, &mut ledger).await?;
    let clock = ShardClock::take_over(persisted, context.clock.now().0, next, end);
    let filled = Arc::new(Notify::new());
    let limits = context.settings.buffer;
    let buffer = Arc::new(PartitionBuffer::new(context.mint_epoch(), limits, filled.clone()));
    tracing::info!(%partition, epoch = %lease.epoch, %next, %end, "shard taken over");
    context.orders.begin(partition.clone(), next, buffer.clone());
    let ownership = Ownership { partition, lease, buffer, filled };
    Ok(Owner::new(context, ownership, ledger, clock, next))
}

async fn take_over(context: &AggregatorContext, shard: &ShardKey) -> Result<Takeover, Ended> {
    let AggregatorContext { store, settings, instruments, .. } = context;
    let what = "the takeover of a shard";
    let taking =
        until_answered(what, &settings.backoff, instruments, async || store.take_over(shard).await);
    taking.await.answer.map_err(|error| ended_by(&error, "take a shard over"))
}

/// First readable offset and the end of the partition, for as long as it takes to find out.
pub(super) async fn watermarks(
    context: &AggregatorContext,
    partition: &TopicPartition,
) -> Result<(Offset, Offset), Ended> {
    let mut attempt = 0u32;
    loop {
        let (positions, wanted) = (context.positions.clone(), partition.clone());
        let looked = tokio::task::spawn_blocking(move || positions.watermarks(&wanted)).await;
        let error: BrokerError = match looked {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error,
            Err(panicked) => {
                let why = format!("looking up the end of {partition} failed: {panicked}");
                return Err(Ended::Failed(why));
            }
        };
        if !error.is_transient() {
            return Err(Ended::Failed(format!("cannot find out where {partition} ends: {error}")));
        }
        tracing::warn!(%partition, %error, "cannot look up the end of the partition yet");
        tokio::time::sleep(context.settings.backoff.delay(attempt, jitter())).await;
        attempt = attempt.saturating_add(1);
    }
}

/// Finds the deadlines of manifests that nobody may speak of again; returns the shard's time as
/// it was last stored.
async fn foresee(
    context: &AggregatorContext,
    shard: &ShardKey,
    ledger: &mut Ledger,
) -> Result<OwnedTime, Ended> {
    if !context.kinds.have_deadlines() {
        return Ok(OwnedTime::default());
    }
    let AggregatorContext { store, settings, instruments, .. } = context;
    let filter = ManifestFilter { phase: Some(ManifestPhase::Open), ..ManifestFilter::default() };
    let what = "the deadlines of a shard";
    let listing = until_answered(what, &settings.backoff, instruments, async || {
        store.manifests(&shard.pipeline, &filter).await
    });
    let listed = listing.await.answer.map_err(|error| ended_by(&error, "list open manifests"))?;
    let own = listed.iter().filter(|summary| summary.row.shard == shard.shard);
    Ok(own.map(|summary| ledger.foresee(&summary.row)).max().unwrap_or_default())
}
