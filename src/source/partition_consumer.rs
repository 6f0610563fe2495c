//! One assigned partition: from its buffer to the lanes, and from outcomes to commits.
//!
//! **Role** hands out the records of one partition and commits what is done, without a gap.
//! **Owns** the offset tracker of its epoch, the buffer, and the batches that are still open.
//! **Receives** [`PartitionMessage`]s; wakes from the buffer and from closed scopes; a tick.
//! **Sends** batches to the lanes of the first stage; begin and commit orders to the poll thread.
//! **On failure** its supervisor builds a new one, which begins again under a new epoch at the
//! committed offset. An abandoned record is such a failure: somebody has to read it again.
//!
//! Responsible for: intake within the limits, and when outcomes are moved into the tracker.
//! Not responsible for: what is open of a batch (`open_batch`), which offset may be committed
//! (`progress::tracker`), where to begin (`progress::positions`), or when a dead-letter limit is
//! reached (`progress::dead_letters`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::sync::{Notify, oneshot};

use crate::broker::group::{
    BufferBudget, BufferLimits, Drained, InFlight, Lags, PartitionBuffer, PartitionLag,
    PartitionMessage, PollOrders,
};
use crate::model::{Epoch, Offset, TopicPartition};
use crate::progress::dead_letters::DeadLetterLimit;
use crate::progress::lag::Glance;
use crate::progress::obligation::Wake;
use crate::progress::tracker::OffsetTracker;
use crate::runtime::clock::SharedClock;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{self, Guard};
use crate::runtime::inbox::{Address, Inbox};
use crate::runtime::lanes::{LaneBatch, Lanes};
use crate::source::open_batch::{Collected, OpenBatch, Taken};
use crate::source::replay::Intake;
use crate::source::start::{Beginning, StartResolver};
use crate::source::watchdog::{EmptyTails, LOOK_EVERY, Seen, Watchdog};
use crate::telemetry::Instruments;

/// How often outcomes of batches that are not yet whole are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Limits and times of a source.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Most records of one batch.
    pub batch_records: usize,
    /// Most bytes of one batch.
    pub batch_bytes: usize,
    /// Most records of one partition without an outcome.
    pub in_flight_records: usize,
    /// High marks of a partition's buffer.
    pub buffer: BufferLimits,
    /// How long a partition may stand still without a reason.
    pub stall_limit: Duration,
}

/// What all partition consumers of a source share.
pub struct SourceContext {
    /// Limits and times.
    pub settings: SourceSettings,
    /// What the buffers of all partitions may hold together.
    pub buffers: Arc<BufferBudget>,
    /// Finds out where a partition begins.
    pub starts: Arc<StartResolver>,
    /// Orders to the poll thread.
    pub orders: Arc<PollOrders>,
    /// The lanes of the first stage.
    pub lanes: Arc<Lanes>,
    /// Which entry of that stage this source's records take.
    pub entry: u16,
    /// What the records are: those of the source's topic, or replayed dead letters.
    pub intake: Intake,
    /// Time.
    pub clock: SharedClock,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// The pipeline's limit of dead letters.
    pub dead_letter_limit: Arc<Mutex<DeadLetterLimit>>,
    /// Mints epochs; shared by all partitions so that no two are alike.
    pub epochs: Arc<AtomicU64>,
    /// What the watchdogs have learned.
    pub tails: EmptyTails,
    /// How far the partitions are behind.
    pub lags: Arc<Lags>,
    /// Names of nodes that no record of this source comes by: it waits for none of them.
    pub strangers: Arc<BTreeSet<String>>,
}

impl SourceContext {
    fn mint_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Ordering::Relaxed)).next()
    }

    /// Whether anything is away that records of this source depend on.
    fn is_unavailable(&self) -> bool {
        self.instruments.unavailable.any(|node| !self.strangers.contains(node))
    }
}

/// Which batches are looked at for outcomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Those that are closed, which is what wakes are about.
    Closed,
    /// All, so that a slow record holds back no outcome before it for longer than a tick.
    Everything,
}

/// What exists once the beginning is known.
struct Running {
    buffer: Arc<PartitionBuffer>,
    tracker: OffsetTracker,
    open: VecDeque<OpenBatch>,
}

/// The actor.
pub struct PartitionConsumer {
    /// The partition.
    partition: TopicPartition,
    /// Shared with the other partitions of the source.
    context: Arc<SourceContext>,
    /// Filled by the assignment.
    messages: Inbox<PartitionMessage>,
    /// Tells the supervisor how this incarnation ended.
    lifeline: Lifeline,
    /// Signalled by the buffer and by closing scopes.
    activity: Arc<Activity>,
    /// `None` until the beginning is known.
    running: Option<Running>,
    /// A batch is on its way to full lanes: no intake meanwhile.
    sending: bool,
    /// Set once nothing more is to be taken.
    drain: Option<oneshot::Sender<Drained>>,
    watchdog: Watchdog,
    /// Read by the metrics.
    lag: Arc<PartitionLag>,
}

/// Wakes the actor.
#[derive(Default)]
pub struct Activity(Arc<Notify>);

impl Wake for Activity {
    fn wake(&self) {
        self.0.notify_one();
    }
}

impl PartitionConsumer {
    /// A consumer that begins when it is started.
    pub fn new(
        partition: TopicPartition,
        context: Arc<SourceContext>,
        messages: Inbox<PartitionMessage>,
        lifeline: Lifeline,
    ) -> Self {
        let lag = context.lags.of(&partition);
        let watchdog = Watchdog::new(context.settings.stall_limit);
        Self {
            partition,
            context,
            messages,
            lifeline,
            activity: Arc::default(),
            running: None,
            sending: false,
            drain: None,
            watchdog,
            lag,
        }
    }

    fn begin(&mut self, beginning: Beginning, ctx: &mut Context<Self>) {
        let offset = match beginning {
            Beginning::At(offset) => offset,
            Beginning::Refused { ending, why } => {
                self.context.escalation.raise(ending, why);
                ctx.stop();
                return;
            }
        };
        let epoch = self.context.mint_epoch();
        let limits = self.context.settings.buffer;
        let (budget, filled) = (&self.context.buffers, self.activity.0.clone());
        let buffer = Arc::new(PartitionBuffer::sharing(epoch, limits, budget, filled));
        self.running = Some(Running {
            buffer: buffer.clone(),
            tracker: OffsetTracker::new(epoch, offset),
            open: VecDeque::new(),
        });
        self.context.orders.begin(self.partition.clone(), offset, buffer);
        self.step(Look::Closed, ctx);
    }

    /// One round: outcomes in, commits out, then as much intake as the limits allow.
    fn step(&mut self, look: Look, ctx: &mut Context<Self>) {
        self.collect(look, ctx);
        self.commit();
        self.finish_drain(ctx);
        if look == Look::Everything {
            self.look_at_lag();
        }
        if !self.sending && self.drain.is_none() {
            self.take_in(ctx);
        }
    }

    fn collect(&mut self, look: Look, ctx: &mut Context<Self>) {
        let Some(running) = &mut self.running else { return };
        let mut collected = Collected::default();
        for open in &mut running.open {
            if look == Look::Everything || open.is_closed() {
                open.collect(&mut running.tracker, &mut collected);
            }
        }
        running.open.retain(|open| !open.is_collected());
        if running.tracker.abandoned() {
            self.context.instruments.abandoned.add(1);
            self.lifeline.fail(format!(
                "a record of {} was let go unfinished, reading again from the committed offset",
                self.partition
            ));
            ctx.stop();
        }
        self.observe(&collected);
    }

    fn observe(&self, collected: &Collected) {
        if collected.tally().total() == 0 {
            return;
        }
        self.lag.settled(collected.tally());
        self.context.instruments.outcomes(collected.tally());
        if self.context.intake.is_replay() {
            return;
        }
        let limit = &self.context.dead_letter_limit;
        let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exceeded) = collected.observe(&mut limit) {
            self.context.escalation.raise(Ending::Policy, exceeded.to_string());
        }
    }

    fn look_at_lag(&self) {
        let Some(running) = &self.running else { return };
        let oldest = running.open.front();
        let since = oldest.map(OpenBatch::since);
        let first = oldest.and_then(OpenBatch::first).or_else(|| running.buffer.first());
        let glance = Glance { first, position: running.tracker.position() };
        let in_flight = InFlight { records: running.tracker.in_flight() as u64, since };
        self.lag.look(glance, in_flight, self.context.clock.unix_millis());
    }

    fn commit(&mut self) {
        let Some(running) = &mut self.running else { return };
        let committable = if fault::is_off(Guard::ContiguousOffsets) {
            Some(running.tracker.position())
        } else {
            running.tracker.take_committable()
        };
        if let Some(offset) = committable {
            self.context.orders.commit(self.partition.clone(), offset);
        }
    }

    fn finish_drain(&mut self, ctx: &mut Context<Self>) {
        let idle = !self.sending
            && self.running.as_ref().is_none_or(|running| running.tracker.in_flight() == 0);
        if idle && let Some(reply) = self.drain.take() {
            // Whoever asked may have given up waiting.
            let _ = reply.send(Drained);
            self.running = None;
            self.lifeline.finish();
            ctx.stop();
        }
    }

    fn take_in(&mut self, ctx: &mut Context<Self>) {
        let Some(running) = &mut self.running else { return };
        let settings = &self.context.settings;
        let room = settings.in_flight_records.saturating_sub(running.tracker.in_flight());
        let want = room.min(settings.batch_records);
        if want == 0 {
            return;
        }
        let records = running.buffer.take(want, settings.batch_bytes);
        if records.is_empty() {
            return;
        }
        running.tracker.track(records.iter().map(|record| record.offset));
        let taken = Taken {
            intake: &self.context.intake,
            entry: self.context.entry,
            partition: &self.partition,
            epoch: running.buffer.epoch(),
            since: self.context.clock.unix_millis(),
        };
        let by_lane = self.context.lanes.split_log(records);
        let (open, batches) = OpenBatch::open(&taken, by_lane, self.activity.clone());
        running.open.push_back(open);
        // Where only replays for other sources came, all of it is closed by now, which wakes us.
        if !batches.is_empty() {
            self.send(batches, ctx);
        }
    }

    /// Looks up the end of the partition, then whether it stands still.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let (positions, partition) = (self.context.starts.positions(), self.partition.clone());
        let end = tokio::task::spawn_blocking(move || positions.watermarks(&partition));
        ctx.spawn(end.into_actor(self).map(|end, actor, ctx| {
            // A broker that is away is no stall; it shows as such elsewhere.
            if let Ok(Ok((_, latest))) = end {
                actor.judge(latest, ctx);
            }
        }));
    }

    fn judge(&mut self, latest: Offset, ctx: &mut Context<Self>) {
        self.lag.see_end(latest, self.context.clock.unix_millis());
        let Some(running) = self.running.as_ref().filter(|_| self.drain.is_none()) else { return };
        let seen = Seen {
            position: running.tracker.position(),
            latest,
            held_back: self.sending
                || running.tracker.in_flight() > 0
                || !running.buffer.is_empty(),
            unavailable: self.context.is_unavailable(),
        };
        let now = self.context.clock.now().0;
        let stalled = self.watchdog.look(&self.partition, seen, &self.context.tails, now);
        if let Some(end) = self.context.tails.end_of(&self.partition, seen.position) {
            self.lag.is_hollow(seen.position, end);
        }
        if let Some(since) = stalled {
            self.context.instruments.stalls.add(1);
            self.lifeline.fail(format!(
                "{} stands still at offset {} of {latest} for {since:?} without a reason",
                self.partition, seen.position
            ));
            ctx.stop();
        }
    }

    fn send(&mut self, batches: Vec<(Address<LaneBatch>, LaneBatch)>, ctx: &mut Context<Self>) {
        self.sending = true;
        // All at once: a lane that has room does not wait for one that is full.
        let sending = batches.into_iter().map(|(lane, batch)| async move {
            // Closed means that the pipeline is stopping: the batch is abandoned with it.
            let _ = lane.send(batch).await;
        });
        ctx.spawn(join_all(sending).into_actor(self).map(|_, actor, ctx| {
            actor.sending = false;
            actor.step(Look::Closed, ctx);
        }));
    }
}

impl Actor for PartitionConsumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.messages.attach::<Self>(ctx);
        let notify = self.activity.0.clone();
        ctx.add_stream(stream::unfold(notify, |notify| async move {
            notify.notified().await;
            Some((Woken, notify))
        }));
        ctx.run_interval(TICK, |actor, ctx| actor.step(Look::Everything, ctx));
        let look_every = LOOK_EVERY.min(self.context.settings.stall_limit);
        ctx.run_interval(look_every, |actor, ctx| actor.watch(ctx));
        let resolved = self.context.starts.clone().resolve(self.partition.clone());
        ctx.spawn(resolved.into_actor(self).map(|beginning, actor, ctx| {
            actor.begin(beginning, ctx);
        }));
    }
}

/// Something happened in the buffer or to a scope.
struct Woken;

impl StreamHandler<Woken> for PartitionConsumer {
    fn handle(&mut self, _: Woken, ctx: &mut Self::Context) {
        self.step(Look::Closed, ctx);
    }
}

impl StreamHandler<PartitionMessage> for PartitionConsumer {
    fn handle(&mut self, message: PartitionMessage, ctx: &mut Self::Context) {
        match message {
            PartitionMessage::Drain { reply } => {
                self.drain = Some(reply);
                self.step(Look::Closed, ctx);
            }
        }
    }

    fn finished(&mut self, _ctx: &mut Self::Context) {
        // The assignment let go of the inbox: there is nobody left to drain for, but records in
        // flight still have to be settled, so the actor stays until it is stopped.
    }
}
