//! The work of a shard's owner: batches of events in, durable changes out.
//!
//! Responsible for: the order of things: look manifests up, apply, store, and only then commit,
//! count, nudge and remove; calls that wait for the store; the shard's clock.
//! Not responsible for: what an event does (`ledger`), or who the owner is (`takeover`).
//!
//! A change that meets an outage is tried again as it is: the store chains changes by offset, so
//! it cannot be applied twice. Should the lost answer have been a yes, the chain refuses the
//! second attempt; then the shard is taken over afresh and goes on after it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::broker::group::{InFlight, PartitionBuffer, PartitionLag};
use crate::completion::aggregator::draft::{Draft, Drafted};
use crate::completion::aggregator::ledger::{Ledger, is_storable, manifests_of};
use crate::completion::aggregator::takeover::{ended_by, watermarks};
use crate::completion::aggregator::{AggregatorContext, Ended, drain_requested};
use crate::completion::patience::{Answered, until_answered};
use crate::model::event::ProgressEvent;
use crate::model::{LogRecord, ManifestKey, Offset, TopicPartition};
use crate::progress::deadline::{Moment, ShardClock};
use crate::progress::lag::Glance;
use crate::runtime::clock::Monotonic;
use crate::runtime::escalation::Ending;
use crate::runtime::fault::{Point, crash_point};
use crate::state::{Applied, BlockedCompletion, Change, Lease, StateError, StoredManifest};

/// How often the shard's time is stored while no event does.
const KEEP_TIME: Duration = Duration::from_secs(60);

/// What an owner owns.
pub(super) struct Ownership {
    /// The partition.
    pub(super) partition: TopicPartition,
    /// The lease on the shard.
    pub(super) lease: Lease,
    /// Filled by the poll thread.
    pub(super) buffer: Arc<PartitionBuffer>,
    /// Signalled when it is.
    pub(super) filled: Arc<Notify>,
}

/// An event, and the offset after it; none where the record holds no event.
struct Incoming {
    offset: Offset,
    event: Option<ProgressEvent>,
}

/// The owner of a shard.
pub(super) struct Owner {
    context: Arc<AggregatorContext>,
    own: Ownership,
    ledger: Ledger,
    clock: ShardClock,
    /// Where the next change begins.
    next: Offset,
    /// Up to where events were removed from the topic, and when.
    removed: Offset,
    removed_at: Monotonic,
    removing: Option<JoinHandle<()>>,
    /// When the shard's time was stored last.
    time_kept_at: Monotonic,
    /// How far it is behind, for the metrics.
    lag: Arc<PartitionLag>,
}

impl Owner {
    /// An owner that goes on at `next`.
    pub(super) fn new(
        context: Arc<AggregatorContext>,
        own: Ownership,
        ledger: Ledger,
        clock: ShardClock,
        next: Offset,
    ) -> Self {
        let now = context.clock.now();
        let lag = context.lags.of(&own.partition);
        Self {
            context,
            own,
            ledger,
            clock,
            next,
            removed: next,
            removed_at: now,
            removing: None,
            time_kept_at: now,
            lag,
        }
    }

    /// Works until it is asked to drain, or cannot go on.
    pub(super) async fn run(mut self, mut drain: watch::Receiver<bool>) -> Ended {
        let (filled, tick) = (self.own.filled.clone(), self.context.settings.tick);
        loop {
            tokio::select! {
                () = drain_requested(&mut drain) => return Ended::Drained,
                () = filled.notified() => {}
                () = tokio::time::sleep(tick) => {}
            }
            if let Err(ended) = self.round(&drain).await {
                return ended;
            }
        }
    }

    /// Everything there is to do now.
    async fn round(&mut self, drain: &watch::Receiver<bool>) -> Result<(), Ended> {
        loop {
            if *drain.borrow() {
                return Ok(());
            }
            let settings = &self.context.settings;
            let records = self.own.buffer.take(settings.batch_events, settings.batch_bytes);
            if records.is_empty() {
                break;
            }
            self.apply_records(&records).await?;
        }
        self.expire().await?;
        self.keep_time().await?;
        self.remove_applied();
        self.look_at_lag(&[]);
        Ok(())
    }

    /// Shows how far the shard is behind, before and after what may take long. `taken` are events
    /// that are about to be applied.
    fn look_at_lag(&self, taken: &[LogRecord]) {
        let oldest = taken.first().map(|record| (record.offset, record.timestamp));
        let first = oldest.or_else(|| self.own.buffer.first());
        let position = taken.last().map_or(self.next, |record| record.offset.after());
        let now = self.context.clock.unix_millis();
        self.lag.look(Glance { first, position }, InFlight::default(), now);
    }

    fn moment(&self) -> Moment {
        let clock = &self.context.clock;
        Moment { owned: self.clock.time(clock.now().0), unix_millis: clock.unix_millis() }
    }

    async fn apply_records(&mut self, records: &[LogRecord]) -> Result<(), Ended> {
        self.look_at_lag(records);
        let incoming: Vec<Incoming> = records.iter().map(|record| self.decode(record)).collect();
        let events = incoming.iter().filter_map(|incoming| incoming.event.as_ref());
        let foreign = self.look_up(manifests_of(events)).await?;
        let mut incoming = incoming.into_iter().peekable();
        while incoming.peek().is_some() {
            let (now, mut draft, mut to) = (self.moment(), Draft::default(), self.next);
            // A change ends before an event that comes after its manifest's completion.
            while let Some(next) = incoming.next_if(|next| {
                let goes_on = |event: &ProgressEvent| !draft.completes(event.manifest());
                !draft.is_full() && next.event.as_ref().is_none_or(goes_on)
            }) {
                to = next.offset.after();
                let Some(event) = next.event else { continue };
                let applied = if foreign.contains(event.manifest()) {
                    Err("its manifest belongs to another shard: shard_by has changed".to_owned())
                } else {
                    self.ledger.apply(&event, now, &mut draft)
                };
                if let Err(why) = applied {
                    self.skipped(next.offset, Some(event.manifest()), &why);
                }
            }
            self.store(draft, to, now).await?;
        }
        self.lag.applied(records.len() as u64);
        Ok(())
    }

    fn decode(&self, record: &LogRecord) -> Incoming {
        let value = record.value.as_deref().unwrap_or_default();
        let event = match serde_json::from_slice::<ProgressEvent>(value) {
            Ok(event) if is_storable(&event) => Some(event),
            Ok(event) => {
                let why = "an id in it is empty or has a NUL character";
                self.skipped(record.offset, Some(event.manifest()), why);
                None
            }
            Err(error) => {
                self.skipped(record.offset, None, &format!("it is no progress event: {error}"));
                None
            }
        };
        Incoming { offset: record.offset, event }
    }

    /// An event changes nothing: said once, with where it lies.
    fn skipped(&self, offset: Offset, manifest: Option<&ManifestKey>, why: &str) {
        self.context.skipped.add(1);
        let manifest = manifest.map(ManifestKey::as_str);
        tracing::error!(
            partition = %self.own.partition, %offset, manifest, why, "a progress event is skipped"
        );
    }

    /// Loads manifests that are not in memory; returns those that belong to another shard.
    async fn look_up(
        &mut self,
        manifests: BTreeSet<ManifestKey>,
    ) -> Result<BTreeSet<ManifestKey>, Ended> {
        let missing: Vec<ManifestKey> =
            manifests.into_iter().filter(|manifest| !self.ledger.knows(manifest)).collect();
        let mut foreign = BTreeSet::new();
        if missing.is_empty() {
            return Ok(foreign);
        }
        match self.load(&missing).await? {
            Ok(stored) => stored.into_iter().for_each(|stored| self.ledger.load(stored)),
            // One of them is somebody else's: which one shows only one by one.
            Err(_) => {
                for manifest in missing {
                    match self.load(std::slice::from_ref(&manifest)).await? {
                        Ok(stored) => {
                            stored.into_iter().for_each(|stored| self.ledger.load(stored));
                        }
                        Err(_) => {
                            foreign.insert(manifest);
                        }
                    }
                }
            }
        }
        Ok(foreign)
    }

    /// Reads manifests from the store; a mismatch is left to the caller.
    async fn load(
        &mut self,
        manifests: &[ManifestKey],
    ) -> Result<Result<Vec<StoredManifest>, StateError>, Ended> {
        let began = self.context.clock.now();
        let (context, lease) = (&self.context, &self.own.lease);
        let what = "manifests to be loaded";
        let loading =
            until_answered(what, &context.settings.backoff, &context.instruments, async || {
                context.store.load(lease, manifests).await
            });
        let Answered { answer, was_away } = loading.await;
        if was_away {
            self.back_since(began).await?;
        }
        match answer {
            Err(error @ StateError::Mismatch(_)) => Ok(Err(error)),
            Err(error) => Err(ended_by(&error, "load manifests")),
            Ok(stored) => Ok(Ok(stored)),
        }
    }

    /// Stores what a draft comes to, and what follows from that.
    async fn store(&mut self, draft: Draft, to: Offset, now: Moment) -> Result<(), Ended> {
        let drafted = self.ledger.finish(draft, (self.next, to), now.owned);
        let blocked = self.apply(&drafted).await?;
        self.stored(&drafted, &blocked);
        if blocked.is_empty() {
            return Ok(());
        }
        // The store has opened their manifests again; how they are blocked is kept with them.
        let mut draft = Draft::default();
        self.ledger.reopen_blocked(&blocked, &drafted, &mut draft);
        let drafted = self.ledger.finish(draft, (self.next, self.next), now.owned);
        self.apply(&drafted).await?;
        self.stored(&drafted, &[]);
        Ok(())
    }

    /// Applies a change, for as long as it takes; returns the completions that were rolled back.
    async fn apply(&mut self, drafted: &Drafted) -> Result<Vec<BlockedCompletion>, Ended> {
        let change = &drafted.change;
        if change.from == change.to && drafted.touched.is_empty() {
            return Ok(Vec::new());
        }
        come_by(change, Point::ApplyBegin, Point::CompletionBegin);
        let began = self.context.clock.now();
        let (context, lease) = (&self.context, &self.own.lease);
        let what = "a change of manifests";
        let applying =
            until_answered(what, &context.settings.backoff, &context.instruments, async || {
                context.store.apply(lease, change.clone()).await
            });
        let Answered { answer, was_away } = applying.await;
        if was_away {
            self.back_since(began).await?;
        }
        match answer {
            Ok(Applied::Yes { blocked }) => {
                come_by(change, Point::ApplyDone, Point::CompletionDone);
                Ok(blocked)
            }
            Ok(Applied::Fenced) => Err(Ended::Fenced),
            // After an outage: the first attempt was applied, and its answer was lost.
            Err(StateError::Fatal(why)) if was_away => {
                Err(Ended::Failed(format!("a change met an outage and was refused: {why}")))
            }
            Err(error) => Err(ended_by(&error, "apply a change of manifests")),
        }
    }

    /// The shard's time stood still while the store was away, and goes on once everything is
    /// applied that came meanwhile.
    async fn back_since(&mut self, began: Monotonic) -> Result<(), Ended> {
        self.clock.suspend(began.0);
        let (_, end) = watermarks(&self.context, &self.own.partition).await?;
        self.clock.resume(self.context.clock.now().0, end);
        Ok(())
    }

    /// A change is durable: only now may anybody hear of it.
    fn stored(&mut self, drafted: &Drafted, blocked: &[BlockedCompletion]) {
        let context = &self.context;
        let to = drafted.change.to;
        if to > self.next {
            self.next = to;
            context.orders.commit(self.own.partition.clone(), to);
        }
        self.clock.applied(to);
        if !drafted.touched.is_empty() {
            self.time_kept_at = context.clock.now();
        }
        drafted.counts.publish(&context.instruments);
        let completed = drafted
            .change
            .completions
            .iter()
            .filter(|row| !blocked.iter().any(|other| other.manifest == row.manifest.manifest));
        for completion in completed {
            let row = &completion.manifest;
            tracing::info!(
                manifest = %row.manifest, kind = %row.kind, revision = row.revision,
                why = row.note.as_deref(), "manifest is complete"
            );
            context.instruments.completions.add(1);
            context.completed.notify_one();
        }
        if drafted.concerns_objects() {
            context.retired.notify_one();
        }
        self.ledger.stored(drafted, context.settings.memory_bytes);
        self.stop_if_too_many_are_blocked();
    }

    fn stop_if_too_many_are_blocked(&mut self) {
        let (blocked, limit) = (self.ledger.blocked(), self.context.settings.max_blocked);
        if blocked > limit {
            let why = format!(
                "{blocked} completions of {} are blocked by their actions, and {limit} are the \
                 limit: mend the actions, then retry the manifests by command",
                self.own.partition
            );
            self.context.escalation.raise(Ending::Policy, why);
        }
    }

    /// Lets deadlines act, if the shard has caught up.
    async fn expire(&mut self) -> Result<(), Ended> {
        let limit = self.context.settings.batch_events;
        while self.clock.due_time(self.context.clock.now().0).is_some() {
            let due = self.ledger.due(self.moment(), limit);
            if due.is_empty() {
                break;
            }
            self.look_up(due.iter().cloned().collect()).await?;
            let (now, mut draft) = (self.moment(), Draft::default());
            for manifest in &due {
                if !self.ledger.knows(manifest) {
                    self.ledger.forget_deadline(manifest);
                }
                self.ledger.expire(manifest, now, &mut draft);
                // Also where nothing was due after all: its next deadline is looked up anew.
                self.ledger.touch(manifest, &mut draft);
            }
            self.store(draft, self.next, now).await?;
        }
        Ok(())
    }

    /// Stores the shard's time now and then, with the manifest whose deadline comes next: without
    /// events nothing else would, and a restart would begin to count anew.
    async fn keep_time(&mut self) -> Result<(), Ended> {
        let since = self.context.clock.now().saturating_since(self.time_kept_at);
        let Some(manifest) = self.ledger.next_due().filter(|_| since >= KEEP_TIME) else {
            return Ok(());
        };
        self.look_up(BTreeSet::from([manifest.clone()])).await?;
        let mut draft = Draft::default();
        self.ledger.touch(&manifest, &mut draft);
        let now = self.moment();
        self.store(draft, self.next, now).await
    }

    /// Removes events that were applied from the topic, now and then and on the side.
    fn remove_applied(&mut self) {
        let Some(admin) = self.context.admin.clone() else { return };
        let now = self.context.clock.now();
        let is_due = now.saturating_since(self.removed_at) >= self.context.settings.delete_interval;
        let is_idle = self.removing.as_ref().is_none_or(JoinHandle::is_finished);
        if self.next <= self.removed || !is_due || !is_idle {
            return;
        }
        (self.removed, self.removed_at) = (self.next, now);
        let before = (self.own.partition.clone(), self.next);
        self.removing = Some(tokio::task::spawn_blocking(move || {
            let (partition, offset) = &before;
            if let Err(error) = admin.delete_records(std::slice::from_ref(&before)) {
                tracing::warn!(%partition, %offset, %error, "cannot remove applied events yet");
            }
        }));
    }
}

/// Comes by the crash points on one side of a change.
fn come_by(change: &Change, always: Point, completing: Point) {
    crash_point(always);
    if !change.completions.is_empty() {
        crash_point(completing);
    }
}
