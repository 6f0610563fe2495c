//! Which offset of a partition may be committed.
//!
//! Responsible for: the offsets in flight of one partition under one epoch, their outcomes in any
//! order, and the position up to which every record has one (I1, I2, I7).
//! Not responsible for: committing (`source`), or what an outcome means.
//!
//! The idea is the acknowledger of broadway_kafka: pending offsets and those seen out of order,
//! per generation. Here the offsets handed out are kept as *runs* of consecutive numbers and the
//! outcomes as one bit per record, in a ring:
//!
//! ```text
//!  offsets   40 41 42 | 57 58 | 90          three runs; 43..=56 and 59..=89 hold no records
//!  ordinals   0  1  2    3  4    5
//!  settled    1  1  0    1  0    1          head = 2: committable is 42
//! ```
//!
//! A record costs one bit and a share of its run. Settling finds the run by binary search over
//! the runs in flight (one run where the log has no gaps) and moves the head over whole words of
//! ones, so the cost per record is constant but for the logarithm of the number of gaps. Gaps
//! that compaction and transaction markers leave hold no bit, so nothing can wait for them.

use std::collections::VecDeque;

use super::invariants::{Invariant, check};
use crate::model::{Epoch, Offset, Outcome};

/// Outcomes in one word of the ring.
const WORD: u64 = u64::BITS as u64;

/// What became of an outcome that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is the record's first outcome under this epoch.
    Applied,
    /// It belongs to another epoch and changes nothing here.
    Late,
    /// The record has its outcome already (or none was ever asked for): nothing changed.
    Duplicate,
}

/// Consecutive offsets that were handed out.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Offset of its first record.
    first: Offset,
    /// Ordinal of its first record.
    ordinal: u64,
    /// Number of records.
    len: u64,
}

impl Run {
    /// How far `offset` lies behind the run's first record; meaningless in front of it.
    fn distance(&self, offset: Offset) -> u64 {
        offset.0.wrapping_sub(self.first.0).cast_unsigned()
    }

    /// The offset of its record with that ordinal.
    fn offset(&self, ordinal: u64) -> Offset {
        Offset(self.first.0.wrapping_add((ordinal - self.ordinal).cast_signed()))
    }
}

/// The offsets of one partition that are in flight under one epoch.
///
/// ```
/// use tidemill::model::{Epoch, Offset, Outcome};
/// use tidemill::progress::tracker::{OffsetTracker, Settled};
///
/// let epoch = Epoch(1);
/// let mut tracker = OffsetTracker::new(epoch, Offset(40));
/// tracker.track([40, 41, 57].map(Offset));
/// assert_eq!(tracker.settle(epoch, Offset(41), Outcome::Delivered), Settled::Applied);
/// assert_eq!(tracker.take_committable(), None, "40 is still in flight");
/// tracker.settle(epoch, Offset(40), Outcome::Filtered);
/// assert_eq!(tracker.take_committable(), Some(Offset(57)), "42..=56 hold no records");
/// ```
#[derive(Debug)]
pub struct OffsetTracker {
    /// The assignment that all offsets here belong to.
    epoch: Epoch,
    /// The offset after the last one handed out.
    position: Offset,
    /// The position given out last by `take_committable`, at first where reading began.
    taken: Offset,
    /// Runs that contain the head or lie behind it, in order.
    runs: VecDeque<Run>,
    /// One bit per record from ordinal `base` on: whether it has its outcome.
    settled: VecDeque<u64>,
    /// Ordinal of the first bit in `settled`.
    base: u64,
    /// Ordinal of the first record without an outcome; `tracked` if there is none.
    head: u64,
    /// Ordinal of the next record to be handed out: the number handed out so far.
    tracked: u64,
    /// Number of outcomes so far.
    outcomes: u64,
    /// The first offset that was abandoned: nothing from it on is committed under this epoch.
    barrier: Option<Offset>,
}

impl OffsetTracker {
    /// A tracker for an assignment that reads from `start` on. What lies before the first tracked
    /// offset from there holds no records.
    pub fn new(epoch: Epoch, start: Offset) -> Self {
        Self {
            epoch,
            position: start,
            taken: start,
            runs: VecDeque::new(),
            settled: VecDeque::new(),
            base: 0,
            head: 0,
            tracked: 0,
            outcomes: 0,
            barrier: None,
        }
    }

    /// The assignment it belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The next offset expected from the log: after the last one tracked.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Records that were handed out and have no outcome yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.tracked - self.outcomes).unwrap_or(usize::MAX)
    }

    /// The first record without an outcome.
    pub fn first_unsettled(&self) -> Option<Offset> {
        self.runs.front().map(|run| run.offset(self.head))
    }

    /// Whether a record was abandoned: from it on, nothing is committed under this epoch, and it
    /// has to be read again under the next one.
    pub fn abandoned(&self) -> bool {
        self.barrier.is_some()
    }

    /// Takes records that are being handed out, in increasing order. Gaps between them hold no
    /// records.
    pub fn track(&mut self, offsets: impl IntoIterator<Item = Offset>) {
        for offset in offsets {
            let forward = offset >= self.position;
            check(
                Invariant::Monotone,
                forward,
                format_args!("offset {offset} tracked, {} was expected", self.position),
            );
            if forward {
                self.track_one(offset);
            }
        }
    }

    fn track_one(&mut self, offset: Offset) {
        match self.runs.back_mut() {
            Some(run) if offset == self.position => run.len += 1,
            _ => self.runs.push_back(Run { first: offset, ordinal: self.tracked, len: 1 }),
        }
        if self.tracked - self.base == self.settled.len() as u64 * WORD {
            self.settled.push_back(0);
        }
        self.tracked += 1;
        self.position = offset.after();
    }

    /// The record at `offset`, handed out under `epoch`, has its outcome.
    pub fn settle(&mut self, epoch: Epoch, offset: Offset, outcome: Outcome) -> Settled {
        if epoch != self.epoch {
            return Settled::Late;
        }
        let Some(ordinal) = self.ordinal(offset) else { return Settled::Duplicate };
        let (word, bit) = self.place(ordinal);
        if self.settled[word] & bit != 0 {
            return Settled::Duplicate;
        }
        self.settled[word] |= bit;
        self.outcomes += 1;
        if outcome == Outcome::Abandoned {
            self.barrier = Some(self.barrier.map_or(offset, |first| first.min(offset)));
        }
        if ordinal == self.head {
            self.advance();
        }
        Settled::Applied
    }

    /// The records at these offsets, in increasing order and handed out under `epoch`, have their
    /// outcomes, none of which is *abandoned*: settles them as one by one would, for less. Returns
    /// to how many it was the first outcome.
    pub fn settle_run(&mut self, epoch: Epoch, offsets: impl IntoIterator<Item = Offset>) -> usize {
        if epoch != self.epoch {
            return 0;
        }
        let before = self.outcomes;
        let mut run: Option<Run> = None;
        let (mut word, mut bits) = (0, 0);
        for offset in offsets {
            let within = run.filter(|run| run.distance(offset) < run.len);
            let Some(found) = within.or_else(|| self.run_of(offset)) else { continue };
            run = Some(found);
            let ordinal = found.ordinal + found.distance(offset);
            if ordinal < self.head {
                continue;
            }
            let (place, bit) = self.place(ordinal);
            if place != word {
                self.mark(word, bits);
                (word, bits) = (place, 0);
            }
            bits |= bit;
        }
        self.mark(word, bits);
        self.advance();
        usize::try_from(self.outcomes - before).unwrap_or(usize::MAX)
    }

    /// Notes outcomes in one word of the ring.
    fn mark(&mut self, word: usize, bits: u64) {
        if let Some(settled) = self.settled.get_mut(word) {
            self.outcomes += u64::from((bits & !*settled).count_ones());
            *settled |= bits;
        }
    }

    /// The ordinal of a record at or behind the head.
    fn ordinal(&self, offset: Offset) -> Option<u64> {
        let run = self.run_of(offset)?;
        let ordinal = run.ordinal + run.distance(offset);
        (ordinal >= self.head).then_some(ordinal)
    }

    /// The run of a record that was handed out, if it is at or behind the head.
    fn run_of(&self, offset: Offset) -> Option<Run> {
        check(
            Invariant::Conservation,
            offset < self.position,
            format_args!("outcome for offset {offset}, reading is at {}", self.position),
        );
        let behind = self.runs.partition_point(|run| run.first <= offset);
        // In front of everything in flight: it has its outcome, and its run may be gone.
        let run = *self.runs.get(behind.checked_sub(1)?)?;
        let known = run.distance(offset) < run.len;
        check(
            Invariant::Conservation,
            known,
            format_args!("outcome for offset {offset}, which was never handed out"),
        );
        known.then_some(run)
    }

    /// Index of the word and mask of the bit that belong to `ordinal`.
    fn place(&self, ordinal: u64) -> (usize, u64) {
        let distance = ordinal - self.base;
        ((distance / WORD) as usize, 1u64 << (distance % WORD))
    }

    /// Moves the head over everything that has an outcome, and forgets it.
    fn advance(&mut self) {
        while let Some(word) = self.settled.front() {
            let within = self.head - self.base;
            let ones = u64::from((word >> within).trailing_ones());
            self.head += ones;
            if self.head - self.base < WORD {
                break;
            }
            self.settled.pop_front();
            self.base += WORD;
        }
        while self.runs.front().is_some_and(|run| run.ordinal + run.len <= self.head) {
            self.runs.pop_front();
        }
        check(
            Invariant::Conservation,
            (self.head == self.tracked) == (self.outcomes == self.tracked),
            format_args!(
                "{} records, {} outcomes, the first {} of them contiguous",
                self.tracked, self.outcomes, self.head
            ),
        );
    }

    /// The position that may be committed, if it is further than the one taken last.
    pub fn committable(&self) -> Option<Offset> {
        let reached = self.first_unsettled().unwrap_or(self.position);
        let reached = self.barrier.map_or(reached, |barrier| barrier.min(reached));
        check(
            Invariant::Monotone,
            reached >= self.taken,
            format_args!("{reached} could be committed after {}", self.taken),
        );
        (reached > self.taken).then_some(reached)
    }

    /// Like [`committable`](Self::committable), and remembers that it was given out.
    pub fn take_committable(&mut self) -> Option<Offset> {
        let offset = self.committable()?;
        check(
            Invariant::NoGap,
            self.first_unsettled().is_none_or(|first| offset <= first),
            format_args!("commit of {offset} past a record in flight"),
        );
        self.taken = offset;
        Some(offset)
    }
}

#[cfg(test)]
mod tests;
