//! Records that were taken in together, until each of them has its outcome.
//!
//! Responsible for: a batch and a scope for each lane's part of the records, moving outcomes into
//! the tracker, and the order in which outcomes count.
//! Not responsible for: how much is taken in, when batches are looked at, or what outcomes lead to
//! (`partition_consumer`); which lane a record takes (`runtime::lanes`).
//!
//! Lanes share nothing of a batch: a counter that two workers use goes from one core to the other
//! with each record. Outcomes are told in the order of offsets all the same.

use std::sync::Arc;

use crate::model::{Epoch, LogRecord, Offset, Outcome, Record, SourceBatch, Tally, TopicPartition};
use crate::progress::dead_letters::{DeadLetterLimit, LimitExceeded};
use crate::progress::obligation::{Owed, Scope, Wake, WakeTogether};
use crate::progress::tracker::OffsetTracker;
use crate::runtime::inbox::Address;
use crate::runtime::lanes::{Input, LaneBatch};
use crate::source::replay::Intake;

/// What all records of a batch have in common.
pub(super) struct Taken<'a> {
    /// What they are to the source.
    pub(super) intake: &'a Intake,
    /// The entry of the first stage that they take.
    pub(super) entry: u16,
    /// Where they lie.
    pub(super) partition: &'a TopicPartition,
    /// The epoch under which they were read.
    pub(super) epoch: Epoch,
    /// When they were taken, in milliseconds since the Unix epoch.
    pub(super) since: i64,
}

/// Records that were handed out together.
pub(super) struct OpenBatch {
    /// One for each lane that got any of them.
    parts: Vec<Part>,
    /// Records whose outcome is not in the tracker yet.
    left: usize,
    /// When they were handed out, in milliseconds since the Unix epoch.
    since: i64,
}

/// The records that went to one lane.
struct Part {
    scope: Arc<Scope>,
    batch: Arc<SourceBatch>,
    /// Slots whose outcome is in the tracker already; empty as long as there are none.
    collected: Vec<bool>,
}

impl OpenBatch {
    /// Opens the records of each lane and makes them ready for the first stage; those that are not
    /// for this source are settled here. `wake` is called once all of them have their outcome.
    pub(super) fn open(
        taken: &Taken<'_>,
        by_lane: Vec<(Address<LaneBatch>, Vec<LogRecord>)>,
        wake: Arc<dyn Wake>,
    ) -> (Self, Vec<(Address<LaneBatch>, LaneBatch)>) {
        let lanes = by_lane.len();
        let wake: Arc<dyn Wake> =
            if lanes > 1 { Arc::new(WakeTogether::new(lanes, wake)) } else { wake };
        let mut open = Self { parts: Vec::with_capacity(lanes), left: 0, since: taken.since };
        let mut batches = Vec::with_capacity(lanes);
        for (lane, records) in by_lane {
            open.left += records.len();
            let (part, batch) = Part::open(taken, records, wake.clone());
            open.parts.push(part);
            // Nothing is left of replays for other sources.
            if !batch.is_empty() {
                batches.push((lane, batch));
            }
        }
        (open, batches)
    }

    /// When they were handed out, in milliseconds since the Unix epoch.
    pub(super) fn since(&self) -> i64 {
        self.since
    }

    /// Whether every record has its outcome.
    pub(super) fn is_closed(&self) -> bool {
        self.parts.iter().all(|part| part.scope.is_closed())
    }

    /// Whether every outcome is in the tracker.
    pub(super) fn is_collected(&self) -> bool {
        self.left == 0
    }

    /// Offset and timestamp of the first record whose outcome is not in the tracker.
    pub(super) fn first(&self) -> Option<(Offset, Option<i64>)> {
        self.parts.iter().filter_map(Part::first).min_by_key(|(offset, _)| *offset)
    }

    /// Moves the outcomes that there are into the tracker, and adds them to `collected`.
    pub(super) fn collect(&mut self, tracker: &mut OffsetTracker, collected: &mut Collected) {
        if self.is_collected() {
            return;
        }
        let is_whole = self.parts.iter().all(|part| part.collected.is_empty()) && self.is_closed();
        if is_whole && self.collect_whole(tracker, collected) {
            return;
        }
        let mut outcomes = Vec::new();
        self.parts.iter_mut().for_each(|part| part.collect(tracker, &mut outcomes));
        self.left -= outcomes.len();
        outcomes.sort_unstable_by_key(|(offset, _)| *offset);
        outcomes.into_iter().for_each(|(_, outcome)| collected.add(outcome));
    }

    /// Collects a batch in which nothing failed; otherwise does nothing and returns false.
    fn collect_whole(&mut self, tracker: &mut OffsetTracker, collected: &mut Collected) -> bool {
        let mut tally = Tally::default();
        self.parts.iter().for_each(|part| tally.merge(&part.scope.tally()));
        if tally.good() < tally.total() {
            return false;
        }
        for part in &self.parts {
            let offsets = part.batch.records.iter().map(|record| record.offset);
            tracker.settle_run(part.batch.epoch, offsets);
        }
        self.left = 0;
        collected.add_good(&tally);
        true
    }
}

impl Part {
    fn open(taken: &Taken<'_>, records: Vec<LogRecord>, wake: Arc<dyn Wake>) -> (Self, LaneBatch) {
        let count = records.len();
        let (origin, epoch) = (taken.partition.clone(), taken.epoch);
        let batch = Arc::new(SourceBatch { origin, epoch, records });
        let (scope, duties) = Scope::open_waking(count as u32, wake);
        let meta = taken.intake.metadata();
        let mut owed = LaneBatch::with_capacity(count);
        for (index, duty) in (0..).zip(duties) {
            let Some((source, meta)) = taken.intake.open(&batch, index, &meta) else {
                duty.settle(Outcome::Filtered);
                continue;
            };
            let record = Record::as_read(source, meta);
            owed.push(Owed::new(Input { entry: taken.entry, record }, duty));
        }
        (Self { scope, batch, collected: Vec::new() }, owed)
    }

    fn is_collected(&self, slot: usize) -> bool {
        self.collected.get(slot).is_some_and(|collected| *collected)
    }

    fn first(&self) -> Option<(Offset, Option<i64>)> {
        let mut slots = self.batch.records.iter().enumerate();
        let (_, record) = slots.find(|(slot, _)| !self.is_collected(*slot))?;
        Some((record.offset, record.timestamp))
    }

    fn collect(&mut self, tracker: &mut OffsetTracker, outcomes: &mut Vec<(Offset, Outcome)>) {
        for (slot, record) in self.batch.records.iter().enumerate() {
            if self.is_collected(slot) {
                continue;
            }
            let Some(outcome) = self.scope.outcome(slot as u32) else { continue };
            self.collected.resize(self.batch.records.len(), false);
            self.collected[slot] = true;
            tracker.settle(self.batch.epoch, record.offset, outcome);
            outcomes.push((record.offset, outcome));
        }
    }
}

/// Outcomes that were moved into the tracker.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// How many of each.
    tally: Tally,
    /// For each dead letter, in order, how many good outcomes came since the one before.
    dead: Vec<u64>,
    /// Good outcomes since the last dead letter.
    good: u64,
}

impl Collected {
    /// How many of each.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Tells them to the limit of dead letters; returns how it was exceeded at first, if it was.
    pub(super) fn observe(&self, limit: &mut DeadLetterLimit) -> Option<LimitExceeded> {
        let mut exceeded = None;
        for good in &self.dead {
            limit.observe_good(*good);
            let one_more = limit.observe(Outcome::DeadLettered);
            exceeded = exceeded.or(one_more);
        }
        limit.observe_good(self.good);
        exceeded
    }

    fn add(&mut self, outcome: Outcome) {
        self.tally.add(outcome, 1);
        match outcome {
            Outcome::Abandoned => {}
            Outcome::DeadLettered => self.dead.push(std::mem::take(&mut self.good)),
            Outcome::Delivered | Outcome::Filtered => self.good += 1,
        }
    }

    fn add_good(&mut self, tally: &Tally) {
        self.tally.merge(tally);
        self.good += tally.good();
    }
}

#[cfg(test)]
mod tests;
