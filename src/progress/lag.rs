//! How far a partition is behind, in records and in time.
//!
//! Responsible for: which record is the oldest without an outcome, since when it waits, and how
//! many there may be from it to the known end.
//! Not responsible for: looking the end up or telling the time (`source`).
//!
//! Lag in seconds is the age of the oldest record without an outcome, so it grows while nothing
//! moves, whether the partition is busy, paused or blocked, and is zero when nothing is
//! outstanding. A record that was fetched is as old as its timestamp. One that was not has no
//! known timestamp: it is as old as the first sight of an end beyond it.
//!
//! Times are milliseconds since the Unix epoch, because timestamps of records are.

use std::collections::VecDeque;

use crate::model::Offset;

/// Sights of ends that are kept; with more, every second one is forgotten.
const MOST_SIGHTS: usize = 64;

/// What is seen of a partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Offset and timestamp of the first record that was fetched and has no outcome.
    pub first: Option<(Offset, Option<i64>)>,
    /// The offset after the last record that was handed out.
    pub position: Offset,
}

/// How far a partition is behind at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Offsets from the oldest record without an outcome to the known end; at least one if there
    /// is such a record.
    pub records: u64,
    /// Age of that record in milliseconds; at least one if there is such a record.
    pub millis: u64,
}

/// The oldest record without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Oldest {
    offset: Offset,
    since: i64,
    /// Outcomes when it was seen: while there are no more, nothing has moved.
    outcomes: u64,
}

/// Remembers what is needed to say how far one partition is behind.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    /// The end as it was seen last.
    end: Option<Offset>,
    /// Ends beyond the oldest record, and when each was seen first; both grow.
    sights: VecDeque<(Offset, i64)>,
    /// A stretch that turned out to hold no records.
    hollow: Option<(Offset, Offset)>,
    /// Outcomes so far.
    outcomes: u64,
    /// The offset after the last record that was handed out.
    position: Offset,
    oldest: Option<Oldest>,
}

impl Lag {
    /// So many records got their outcome.
    pub fn settled(&mut self, count: u64) {
        self.outcomes = self.outcomes.saturating_add(count);
    }

    /// The partition ends at `end` now. An end that goes back is one that the log lost.
    pub fn see_end(&mut self, end: Offset, now: i64) {
        self.end = Some(end);
        while self.sights.back().is_some_and(|(seen, _)| *seen > end) {
            self.sights.pop_back();
        }
        if self.sights.back().is_none_or(|(seen, _)| *seen < end) {
            self.sights.push_back((end, now));
        }
        if self.sights.len() > MOST_SIGHTS {
            self.thin_out();
        }
    }

    /// From `from` to `to` there are no records, only what the log keeps for itself: a consumer
    /// that stands at `from` has nothing to wait for.
    pub fn is_hollow(&mut self, from: Offset, to: Offset) {
        self.hollow = Some((from, to));
    }

    /// Looks at the partition.
    pub fn look(&mut self, glance: Glance, now: i64) {
        self.position = match self.hollow {
            Some((from, to)) if from == glance.position => to,
            _ => glance.position,
        };
        self.oldest = self.outstanding(glance.first).map(|(offset, timestamp)| {
            self.forget_sights_up_to(offset);
            self.age(offset, timestamp, now)
        });
    }

    /// How far it is behind, as it was looked at last.
    pub fn behind(&self, now: i64) -> Behind {
        let Some(oldest) = self.oldest else { return Behind::default() };
        let end = self.end.map_or(self.position, |end| end.max(self.position));
        let records = u64::try_from(end.0.saturating_sub(oldest.offset.0)).unwrap_or(0);
        let millis = u64::try_from(now.saturating_sub(oldest.since)).unwrap_or(0);
        Behind { records: records.max(1), millis: millis.max(1) }
    }

    fn outstanding(&self, first: Option<(Offset, Option<i64>)>) -> Option<(Offset, Option<i64>)> {
        let not_fetched = || self.end.is_some_and(|end| end > self.position);
        first.or_else(|| not_fetched().then_some((self.position, None)))
    }

    fn age(&self, offset: Offset, timestamp: Option<i64>, now: i64) -> Oldest {
        let sight = self.sights.front().map(|(_, seen)| *seen);
        // A producer's clock may be ahead of this one.
        let mut since = timestamp.or(sight).unwrap_or(now).min(now);
        if let Some(before) = self.oldest
            && (before.offset == offset || before.outcomes == self.outcomes)
        {
            since = since.min(before.since);
        }
        Oldest { offset, since, outcomes: self.outcomes }
    }

    fn forget_sights_up_to(&mut self, offset: Offset) {
        while self.sights.front().is_some_and(|(end, _)| *end <= offset) {
            self.sights.pop_front();
        }
    }

    /// The first one stays: the age of the oldest record hangs on it. So does the last.
    fn thin_out(&mut self) {
        let last = self.sights.len() - 1;
        let mut index = 0;
        self.sights.retain(|_| {
            let keep = index % 2 == 0 || index == last;
            index += 1;
            keep
        });
    }
}

#[cfg(test)]
mod tests;
