//! What the metrics of a pipeline are read from.
//!
//! Responsible for: knowing the partitions, queues, spools and pulses of a running pipeline, and
//! which labelled instrument reads which of them.
//! Not responsible for: declaring instruments (`telemetry::catalogue`) or exporting them
//! (`telemetry::metrics`).
//!
//! Nothing here keeps a part running: what has ended is no longer shown, or shown as empty.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::ArbiterHandle;

use crate::broker::group::{Lags, PartitionReading};
use crate::engine::Context;
use crate::progress::invariants::{Invariant, violations};
use crate::runtime::clock::SharedClock;
use crate::runtime::heartbeat::{Monitor, Pulse};
use crate::runtime::inbox::Address;
use crate::spool::DiskBudget;
use crate::state::Backlog;
use crate::telemetry::catalogue::{
    BUILD_INFO, COMPLETION_CHECKS, COMPLETION_SUCCESSES, IN_FLIGHT, LAG_RECORDS, LAG_SECONDS,
    MANIFESTS_BLOCKED, MANIFESTS_OPEN, MESSAGES_FAILED, MESSAGES_PROCESSED, NODE_UNAVAILABLE,
    OLDEST_IN_FLIGHT, OUTBOX_FAILING, OUTBOX_OLDEST, OUTBOX_UNDELIVERED, PROGRESS_LAG_RECORDS,
    PROGRESS_LAG_SECONDS, QUEUE_CAPACITY, QUEUE_DEPTH, SPOOL_LIMIT, SPOOL_USED, VIOLATIONS,
};
use crate::telemetry::{Declared, Metrics, MetricsError};

/// How often an arbiter shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// How long it may be silent: nothing on it may block.
const SILENCE: Duration = Duration::from_secs(30);

/// The parts that are read.
#[derive(Default)]
pub struct Observed {
    /// How far the partitions of sources are behind.
    pub lags: Arc<Lags>,
    /// How far the partitions of the progress topic are behind.
    pub progress_lags: Arc<Lags>,
    /// Who shows that it is alive.
    pub monitor: Monitor,
    queues: Mutex<Vec<Queue>>,
    spools: Mutex<Vec<DiskBudget>>,
    /// As the state store counted it last.
    backlog: Mutex<Backlog>,
}

struct Queue {
    name: String,
    capacity: usize,
    depth: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Observed {
    /// Shows how full a queue is.
    pub fn queue<M: Send + 'static>(&self, address: &Address<M>) {
        let (name, capacity) = (address.name().to_owned(), address.capacity());
        lock(&self.queues).push(Queue { name, capacity, depth: address.depth() });
    }

    /// Shows how much of a spool's disk is in use.
    pub fn spool(&self, budget: &DiskBudget) {
        lock(&self.spools).push(budget.clone());
    }

    /// Shows whether an arbiter is stuck.
    pub fn arbiter(&self, name: &str, arbiter: &ArbiterHandle, clock: &SharedClock) {
        let pulse = self.monitor.watch(format!("arbiter of {name}"), SILENCE);
        // One that has stopped already has nothing to show.
        arbiter.spawn(beat(pulse, clock.clone()));
    }

    /// Shows what is not done yet.
    pub fn backlog(&self, backlog: Backlog) {
        *lock(&self.backlog) = backlog;
    }

    fn spooled(&self, of: fn(&DiskBudget) -> u64) -> f64 {
        lock(&self.spools).iter().map(of).sum::<u64>() as f64
    }
}

/// Beats until the arbiter ends.
async fn beat(pulse: Pulse, clock: SharedClock) {
    pulse.busy(clock.now());
    loop {
        tokio::time::sleep(BEAT).await;
        pulse.beat(clock.now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The metrics of a pipeline.
///
/// # Errors
/// The exporter cannot be set up.
pub fn metrics(context: &Context) -> Result<Metrics, MetricsError> {
    let metrics = Metrics::new(&context.pipeline, context.instruments.clone())?;
    partitions(&metrics, context);
    counted(&metrics, context);
    rooms(&metrics, &context.observed);
    progress(&metrics, context);
    backlog(&metrics, context);
    metrics.observe(&BUILD_INFO, |samples| samples.put(&[env!("CARGO_PKG_VERSION")], 1.0));
    metrics.observe(&VIOLATIONS, |samples| {
        for invariant in Invariant::ALL {
            samples.put(&[invariant.name()], violations(invariant) as f64);
        }
    });
    Ok(metrics)
}

/// Instruments with the labels of a partition.
fn partitions(metrics: &Metrics, context: &Context) {
    type Value = fn(&PartitionReading) -> f64;
    let instruments: [(&'static Declared, Value); 6] = [
        (&MESSAGES_PROCESSED, |partition| partition.processed as f64),
        (&MESSAGES_FAILED, |partition| partition.failed as f64),
        (&LAG_SECONDS, |partition| seconds(partition.behind.millis)),
        (&LAG_RECORDS, |partition| partition.behind.records as f64),
        (&IN_FLIGHT, |partition| partition.in_flight as f64),
        (&OLDEST_IN_FLIGHT, |partition| seconds(partition.in_flight_millis)),
    ];
    for (declared, value) in instruments {
        let (lags, clock) = (context.observed.lags.clone(), context.clock.clone());
        metrics.observe(declared, move |samples| {
            for reading in lags.read(clock.unix_millis()) {
                let number = reading.partition.partition.to_string();
                samples.put(&[reading.partition.topic.as_str(), &number], value(&reading));
            }
        });
    }
}

/// What is counted under a name of its own as well, and what is shown of it in more detail.
fn counted(metrics: &Metrics, context: &Context) {
    let instruments = context.instruments.clone();
    metrics.observe(&COMPLETION_CHECKS, move |samples| {
        samples.put(&[], instruments.progress_events.get() as f64);
    });
    let instruments = context.instruments.clone();
    metrics.observe(&COMPLETION_SUCCESSES, move |samples| {
        samples.put(&[], instruments.completions.get() as f64);
    });
    let (unavailable, clock) = (context.instruments.unavailable.clone(), context.clock.clone());
    metrics.observe(&NODE_UNAVAILABLE, move |samples| {
        let now = clock.unix_millis();
        for away in unavailable.nodes() {
            let millis = now.saturating_sub(away.since).max(1);
            samples.put(&[&away.node], seconds(millis.unsigned_abs()));
        }
    });
}

/// Queues and spools.
fn rooms(metrics: &Metrics, observed: &Arc<Observed>) {
    let read = observed.clone();
    metrics.observe(&QUEUE_DEPTH, move |samples| {
        for queue in &*lock(&read.queues) {
            samples.put(&[&queue.name], (queue.depth)() as f64);
        }
    });
    let read = observed.clone();
    metrics.observe(&QUEUE_CAPACITY, move |samples| {
        for queue in &*lock(&read.queues) {
            samples.put(&[&queue.name], queue.capacity as f64);
        }
    });
    let read = observed.clone();
    metrics.observe(&SPOOL_USED, move |samples| {
        samples.put(&[], read.spooled(|budget| budget.total().saturating_sub(budget.free())));
    });
    let read = observed.clone();
    metrics.observe(&SPOOL_LIMIT, move |samples| {
        samples.put(&[], read.spooled(DiskBudget::total));
    });
}

/// How far this process is behind in the progress topic.
fn progress(metrics: &Metrics, context: &Context) {
    let (lags, clock) = (context.observed.progress_lags.clone(), context.clock.clone());
    metrics.observe(&PROGRESS_LAG_RECORDS, move |samples| {
        let shards = lags.read(clock.unix_millis());
        let records: u64 = shards.iter().map(|shard| shard.behind.records).sum();
        samples.put(&[], records as f64);
    });
    let (lags, clock) = (context.observed.progress_lags.clone(), context.clock.clone());
    metrics.observe(&PROGRESS_LAG_SECONDS, move |samples| {
        let shards = lags.read(clock.unix_millis());
        let oldest = shards.iter().map(|shard| shard.behind.millis).max();
        samples.put(&[], seconds(oldest.unwrap_or(0)));
    });
}

/// What the whole pipeline has not got done, in all processes.
fn backlog(metrics: &Metrics, context: &Context) {
    type Value = fn(&Backlog) -> u64;
    let counts: [(&'static Declared, Value); 4] = [
        (&OUTBOX_UNDELIVERED, |backlog| backlog.undelivered),
        (&OUTBOX_FAILING, |backlog| backlog.failing),
        (&MANIFESTS_OPEN, |backlog| backlog.open),
        (&MANIFESTS_BLOCKED, |backlog| backlog.blocked),
    ];
    for (declared, value) in counts {
        let observed = context.observed.clone();
        metrics.observe(declared, move |samples| {
            samples.put(&[], value(&lock(&observed.backlog)) as f64);
        });
    }
    let (observed, clock) = (context.observed.clone(), context.clock.clone());
    metrics.observe(&OUTBOX_OLDEST, move |samples| {
        let oldest_at = lock(&observed.backlog).oldest_at;
        let millis = oldest_at.map_or(0, |at| clock.unix_millis().saturating_sub(at).max(0));
        samples.put(&[], seconds(millis.unsigned_abs()));
    });
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}
