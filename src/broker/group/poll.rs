//! The poll thread: the only thread that touches the consumer.
//!
//! Responsible for: polling, routing records to the buffers of their partitions, pausing and
//! resuming, seeking where it is told to, handing commits to the client, serving rebalances.
//! Not responsible for: deciding positions or commits; it does as it is told and waits in one
//! place only, the revoke callback, with a deadline.
//!
//! Everything told to it goes through merging slots, so nobody who talks to it ever waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::group::assignment::AssignmentEvent;
use crate::broker::group::buffer::{Fill, PartitionBuffer};
use crate::broker::{Broker, BrokerError, Consumer, ConsumerConfig, Positions, Rebalance, Run};
use crate::model::{Offset, TopicPartition};
use crate::progress::commits::Commits;
use crate::runtime::clock::{Monotonic, SharedClock};
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::heartbeat::Pulse;
use crate::runtime::inbox::Address;
use crate::telemetry::Instruments;

/// How long one poll waits; also the longest time until an order is noticed.
const POLL_WAIT: Duration = Duration::from_millis(10);
/// Records polled in a row before orders are looked at.
const RECORDS_PER_ROUND: usize = 256;
/// How much longer than the drain itself the revoke callback waits for the answer.
const REVOKE_GRACE: Duration = Duration::from_secs(1);

/// An order to deliver a partition from `offset` on.
struct Begin {
    offset: Offset,
    buffer: Arc<PartitionBuffer>,
}

/// The slots through which the poll thread is told what to do. Newer orders replace older ones.
#[derive(Default)]
pub struct PollOrders {
    begins: Mutex<HashMap<TopicPartition, Begin>>,
    has_begins: AtomicBool,
    commits: Mutex<Commits>,
    stop: AtomicBool,
    pulse: Pulse,
}

impl PollOrders {
    /// Deliver `partition` from `offset` on into `buffer`, under the buffer's epoch.
    pub fn begin(&self, partition: TopicPartition, offset: Offset, buffer: Arc<PartitionBuffer>) {
        let mut begins = lock(&self.begins);
        let newer = begins.get(&partition).is_none_or(|held| held.buffer.epoch() < buffer.epoch());
        if newer {
            begins.insert(partition, Begin { offset, buffer });
            self.has_begins.store(true, Ordering::Release);
        }
    }

    /// Commit `offset` of `partition` when the next commit is due.
    pub fn commit(&self, partition: TopicPartition, offset: Offset) {
        lock(&self.commits).offer(partition, offset);
    }

    /// Beats for as long as the poll thread goes round; silent while it serves a rebalance.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Drops what was to be done for partitions that are gone; returns the commits among it.
    fn forget(&self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        let mut begins = lock(&self.begins);
        begins.retain(|partition, _| !partitions.contains(partition));
        drop(begins);
        lock(&self.commits).remove(partitions)
    }
}

/// What the poll thread needs besides the broker.
pub struct PollSettings {
    /// The group and its topics.
    pub consumer: ConsumerConfig,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long a revoke may wait for records in flight.
    pub drain_deadline: Duration,
}

/// A running poll thread.
pub struct PollThread {
    orders: Arc<PollOrders>,
    thread: Option<JoinHandle<()>>,
    positions: Arc<dyn Positions>,
}

impl PollThread {
    /// Joins the group and starts polling. `events` hears of assignments and errors.
    pub fn start(
        broker: &dyn Broker,
        settings: PollSettings,
        orders: Arc<PollOrders>,
        events: Address<AssignmentEvent>,
        clock: SharedClock,
        instruments: Arc<Instruments>,
    ) -> Result<Self, BrokerError> {
        let gone = Arc::new(Mutex::new(Vec::new()));
        let listener = Listener {
            orders: orders.clone(),
            events: events.clone(),
            gone: gone.clone(),
            drain_deadline: settings.drain_deadline,
        };
        let consumer = broker.consumer(&settings.consumer, Box::new(listener))?;
        let positions = consumer.positions();
        let due = clock.now();
        let poller = Poller {
            consumer,
            orders: orders.clone(),
            events,
            gone,
            routes: HashMap::new(),
            runs: Vec::new(),
            commit_interval: settings.commit_interval,
            commit_due: due,
            clock,
            instruments,
        };
        let thread = std::thread::Builder::new()
            .name(format!("poll-{}", settings.consumer.group))
            .spawn(move || poller.run())
            .map_err(|error| {
                BrokerError::Fatal(format!("cannot start the poll thread: {error}"))
            })?;
        Ok(Self { orders, thread: Some(thread), positions })
    }

    /// Look-ups through the same consumer.
    pub fn positions(&self) -> Arc<dyn Positions> {
        self.positions.clone()
    }

    /// Asks the thread to hand in its last commits and leave the group.
    pub fn request_stop(&self) {
        self.orders.stop.store(true, Ordering::Release);
    }

    /// Waits until it has. Blocks.
    pub fn join(mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the poll thread panicked");
        }
    }
}

/// A partition that is being delivered.
struct Route {
    buffer: Arc<PartitionBuffer>,
    paused: bool,
}

/// The state of the poll thread.
struct Poller {
    /// Touched by nobody else.
    consumer: Box<dyn Consumer>,
    /// Filled by partition consumers.
    orders: Arc<PollOrders>,
    /// Read by the assignment actor.
    events: Address<AssignmentEvent>,
    /// Partitions that the listener saw go, to be dropped from the routes.
    gone: Arc<Mutex<Vec<TopicPartition>>>,
    routes: HashMap<TopicPartition, Route>,
    /// What a round brought; empty between two rounds.
    runs: Vec<Run>,
    commit_interval: Duration,
    commit_due: Monotonic,
    clock: SharedClock,
    instruments: Arc<Instruments>,
}

impl Poller {
    fn run(mut self) {
        self.orders.pulse.busy(self.clock.now());
        while !self.orders.stop.load(Ordering::Acquire) {
            self.orders.pulse.beat(self.clock.now());
            self.drop_gone();
            self.begin_ordered();
            self.resume_drained();
            self.commit_if_due();
            self.poll_round();
        }
        self.commit_last();
        self.orders.pulse.idle();
    }

    /// Takes what the client has, up to a limit. It waits for the first record only, so those that
    /// are there are handed over without delay; runs of one partition go over together, because a
    /// lock and a wake per record would cost more than the record.
    fn poll_round(&mut self) {
        let mut runs = std::mem::take(&mut self.runs);
        let polled = self.consumer.poll_runs(POLL_WAIT, RECORDS_PER_ROUND, &mut runs);
        runs.drain(..).for_each(|run| self.route(run));
        self.runs = runs;
        if let Err(error) = polled {
            self.report(error);
        }
    }

    fn route(&mut self, run: Run) {
        let Run { partition, records, bytes } = run;
        let Some(route) = self.routes.get_mut(&partition) else {
            // Between an assignment and its begin nothing is delivered, so these are late: they
            // will be read again under the next begin.
            tracing::trace!(%partition, records = records.len(), "records without a route");
            return;
        };
        self.instruments.records_in.add(records.len() as u64);
        self.instruments.bytes_in.add(bytes as u64);
        if route.buffer.push(records, bytes) == Fill::Full && !route.paused {
            route.paused = true;
            self.instruments.pauses.add(1);
            let paused = self.consumer.pause(std::slice::from_ref(&partition));
            self.log_failed("pause", &partition, paused);
        }
    }

    /// Carries out the orders to begin; those for partitions that went meanwhile fail, which is
    /// how they end.
    fn begin_ordered(&mut self) {
        if !self.orders.has_begins.swap(false, Ordering::AcqRel) {
            return;
        }
        let begins = std::mem::take(&mut *lock(&self.orders.begins));
        for (partition, begin) in begins {
            let epoch = begin.buffer.epoch();
            if self.routes.get(&partition).is_some_and(|route| route.buffer.epoch() > epoch) {
                continue;
            }
            let sought = self.consumer.seek(&[(partition.clone(), begin.offset)]);
            let begun =
                sought.and_then(|()| self.consumer.resume(std::slice::from_ref(&partition)));
            match begun {
                Ok(()) => {
                    tracing::info!(%partition, offset = %begin.offset, %epoch, "partition begins");
                    let route = Route { buffer: begin.buffer, paused: false };
                    self.routes.insert(partition, route);
                }
                Err(error) if error.is_transient() => {
                    tracing::debug!(%partition, %error, "seek failed, trying again");
                    self.orders.begin(partition, begin.offset, begin.buffer);
                }
                Err(error) => tracing::warn!(%partition, %error, "seek refused"),
            }
        }
    }

    fn resume_drained(&mut self) {
        for (partition, route) in &mut self.routes {
            if route.paused && route.buffer.is_below_low_mark() {
                route.paused = false;
                if let Err(error) = self.consumer.resume(std::slice::from_ref(partition)) {
                    tracing::warn!(%partition, %error, "resume failed");
                    route.paused = true;
                }
            }
        }
    }

    fn commit_if_due(&mut self) {
        let now = self.clock.now();
        if now < self.commit_due {
            return;
        }
        self.commit_due = now + self.commit_interval;
        let offsets = lock(&self.orders.commits).take();
        if offsets.is_empty() {
            return;
        }
        self.instruments.commits.add(1);
        crash_point(Point::OffsetsCommit);
        let committed = self.consumer.commit(&offsets);
        crash_point(Point::OffsetsCommitted);
        if let Err(error) = committed {
            tracing::warn!(%error, "commit failed, the next one makes it good");
            let mut commits = lock(&self.orders.commits);
            offsets.into_iter().for_each(|(partition, offset)| commits.offer(partition, offset));
        }
    }

    /// The commits of a clean stop are waited for: a stop under load replays nothing.
    fn commit_last(&mut self) {
        let offsets = lock(&self.orders.commits).take();
        if !offsets.is_empty()
            && let Err(error) = self.consumer.positions().commit(&offsets)
        {
            tracing::warn!(%error, "last commit failed, records will be processed again");
        }
    }

    fn drop_gone(&mut self) {
        let gone = std::mem::take(&mut *lock(&self.gone));
        self.routes.retain(|partition, _| !gone.contains(partition));
    }

    fn report(&mut self, error: BrokerError) {
        if error.is_transient() {
            self.instruments.broker_errors.add(1);
            tracing::warn!(%error, "the broker is away, polling on");
            return;
        }
        if let BrokerError::OutOfRange { partition, .. } = &error {
            // Reported once: the route goes, and with it any further attempt to read there.
            let paused = self.consumer.pause(std::slice::from_ref(partition));
            self.log_failed("pause", partition, paused);
            self.routes.remove(partition);
        }
        if self.events.blocking_send(AssignmentEvent::Failed(error)).is_err() {
            self.orders.stop.store(true, Ordering::Release);
        }
    }

    fn log_failed(&self, what: &str, partition: &TopicPartition, result: Result<(), BrokerError>) {
        if let Err(error) = result {
            tracing::warn!(%partition, %error, "{what} failed");
        }
    }
}

/// Hears of rebalances, inside `poll`.
struct Listener {
    orders: Arc<PollOrders>,
    events: Address<AssignmentEvent>,
    gone: Arc<Mutex<Vec<TopicPartition>>>,
    drain_deadline: Duration,
}

impl Listener {
    fn send(&self, event: AssignmentEvent) -> bool {
        // Closed means that the pipeline has ended, and nobody cares about partitions any more.
        self.events.blocking_send(event).is_ok()
    }

    fn drop_routes(&self, partitions: &[TopicPartition]) {
        lock(&self.gone).extend_from_slice(partitions);
    }
}

impl Rebalance for Listener {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        // A partition can go and come back within one poll: it is no longer gone then, but its
        // old route is, because the consumer of the new assignment brings a buffer of its own.
        self.send(AssignmentEvent::Assigned(partitions.to_vec()));
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let event = AssignmentEvent::Revoked { partitions: partitions.to_vec(), reply };
        if self.send(event) && answer.recv_timeout(self.drain_deadline + REVOKE_GRACE).is_err() {
            tracing::warn!(?partitions, "revoke went on without an answer from the assignment");
        }
        self.drop_routes(partitions);
        self.orders.forget(partitions)
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.send(AssignmentEvent::Lost(partitions.to_vec()));
        self.drop_routes(partitions);
        self.orders.forget(partitions);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
