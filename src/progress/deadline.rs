//! Deadlines of manifests that survive the process.
//!
//! Responsible for: the time scale of a shard, which goes on only while the shard has an owner
//! that can work; when a deadline is due, and that it acts once.
//! Not responsible for: what a deadline does to a manifest (`manifest`), or waking up for it.
//!
//! A deadline says how long to wait for events. While nobody reads the progress topic, or while
//! what was produced before the takeover is still being read, silence means nothing: the event
//! waited for may lie in the topic. So time is counted as [`OwnedTime`], which stands still
//! without an owner and is persisted with the shard, and deadlines are looked at only once the
//! shard has [caught up](ShardClock::due_time). A crash loses what passed since the scale was last
//! persisted: a deadline may come late, never early. Wall clocks take no part in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Offset;

/// Milliseconds during which a shard had an owner that could work.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct OwnedTime(pub u64);

impl OwnedTime {
    /// This time and `duration` more, in whole milliseconds.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// The time scale of one shard, in the hands of its owner.
#[derive(Clone, Copy, Debug)]
pub struct ShardClock {
    /// Owned time up to `since`.
    before: OwnedTime,
    /// Since when it goes on, on the process's own scale; `None` while it stands still.
    since: Option<Duration>,
    /// The end of the progress partition that has to be reached before deadlines count.
    end: Offset,
    /// The next event to be applied.
    next: Offset,
}

impl ShardClock {
    /// The shard was taken over at `now` with the time that was persisted, to be read from `next`
    /// on; `end` is the offset after the last event at that moment.
    pub fn take_over(persisted: OwnedTime, now: Duration, next: Offset, end: Offset) -> Self {
        Self { before: persisted, since: Some(now), end, next }
    }

    /// The time on the shard's scale, to be stamped on events and persisted with the shard.
    pub fn time(&self, now: Duration) -> OwnedTime {
        match self.since {
            Some(since) => self.before.plus(now.saturating_sub(since)),
            None => self.before,
        }
    }

    /// The time by which deadlines are judged: none while events that were there at the takeover
    /// have not been applied, or while the owner cannot work.
    pub fn due_time(&self, now: Duration) -> Option<OwnedTime> {
        (self.since.is_some() && self.next >= self.end).then(|| self.time(now))
    }

    /// Every event before `next` has been applied, durably.
    pub fn applied(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }

    /// The owner cannot work from `now` on (the state store is away): time stands still.
    pub fn suspend(&mut self, now: Duration) {
        self.before = self.time(now);
        self.since = None;
    }

    /// The owner can work again; `end` is the offset after the last event at this moment, which
    /// has to be reached before deadlines count again.
    pub fn resume(&mut self, now: Duration, end: Offset) {
        self.before = self.time(now);
        self.since = Some(now);
        self.end = self.end.max(end);
    }
}

/// From when a deadline counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The first event of the manifest, or its re-opening.
    First,
    /// The latest event of the manifest.
    Inactivity,
}

/// What a deadline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineAction {
    /// Says so, and leaves the manifest open.
    Alert,
    /// Completes it with what has settled.
    Complete,
    /// Gives it up.
    Fail,
}

/// A declared deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// From when it counts.
    pub since: Since,
    /// How long.
    pub after: Duration,
    /// What happens then.
    pub action: DeadlineAction,
}

/// The times of one open manifest, persisted with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Timing {
    /// Its first event, or its re-opening.
    pub first: OwnedTime,
    /// Its latest event.
    pub last: OwnedTime,
    /// Deadlines that have acted, one bit each in the order of their declaration.
    pub acted: u32,
}

/// The most deadlines a manifest can have: one bit of [`Timing::acted`] each.
pub const MOST_DEADLINES: usize = u32::BITS as usize;

impl Timing {
    /// Begins with the first event, or with a re-opening.
    pub fn starting(at: OwnedTime) -> Self {
        Self { first: at, last: at, acted: 0 }
    }

    /// An event arrived: inactivity begins anew, and its deadlines may act again.
    pub fn touch(&mut self, at: OwnedTime, deadlines: &[Deadline]) {
        self.last = self.last.max(at);
        for (bit, deadline) in numbered(deadlines) {
            if deadline.since == Since::Inactivity {
                self.acted &= !bit;
            }
        }
    }

    /// The first declared deadline that is due at `now` and has not acted; it counts as having
    /// acted from here on.
    pub fn take_due(&mut self, deadlines: &[Deadline], now: OwnedTime) -> Option<Deadline> {
        let (bit, due) = numbered(deadlines)
            .find(|(bit, deadline)| self.acted & bit == 0 && self.at(deadline) <= now)?;
        self.acted |= bit;
        Some(*due)
    }

    /// When the next deadline is due that has not acted: when to look again.
    pub fn next_due(&self, deadlines: &[Deadline]) -> Option<OwnedTime> {
        numbered(deadlines)
            .filter(|(bit, _)| self.acted & bit == 0)
            .map(|(_, deadline)| self.at(deadline))
            .min()
    }

    fn at(&self, deadline: &Deadline) -> OwnedTime {
        let since = match deadline.since {
            Since::First => self.first,
            Since::Inactivity => self.last,
        };
        since.plus(deadline.after)
    }
}

fn numbered(deadlines: &[Deadline]) -> impl Iterator<Item = (u32, &Deadline)> {
    deadlines.iter().take(MOST_DEADLINES).enumerate().map(|(index, deadline)| {
        let bit = 1u32 << index;
        (bit, deadline)
    })
}

#[cfg(test)]
mod tests;
