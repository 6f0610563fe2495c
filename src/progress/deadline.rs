//! Deadlines of manifests that survive the process.
//!
//! Responsible for: the time scale of a shard, which goes on only while the shard has an owner
//! that can work; what a deadline is; when it is due, and that it acts once (`timing`).
//! Not responsible for: what a deadline does to a manifest (`manifest`), or waking up for it.
//!
//! A deadline says how long to wait for events. While nobody reads the progress topic, or while
//! what was produced before the takeover is still being read, silence means nothing: the event
//! waited for may lie in the topic. So time is counted as [`OwnedTime`], which stands still
//! without an owner and is persisted with the shard, and deadlines are looked at only once the
//! shard has [caught up](ShardClock::due_time). A crash loses what passed since the scale was last
//! persisted: a deadline may come late, never early. Wall clocks take no part in that.
//!
//! One sort is different: a deadline at a point in time that the manifest itself names. It is
//! judged by the wall clock, so downtime counts, and acts at the first moment at which an owner
//! has caught up.

mod timing;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Offset;

pub use timing::{Timing, Turn, Upcoming};

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

/// A moment, on both scales that deadlines know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// On the shard's scale.
    pub owned: OwnedTime,
    /// By the wall clock, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
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
    /// A point in time, by the wall clock, that the manifest's *expected* event names. Where it
    /// names none, the deadline never acts.
    Appointment,
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

/// How a deadline is put off before it acts. Each time is said like an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// How long each time, counted on the shard's scale from when it was due.
    pub by: Duration,
    /// How often at most.
    pub most: u32,
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
    /// How it is put off before that.
    pub extension: Option<Extension>,
}

/// The most deadlines a manifest can have: one bit of [`Timing::acted`] each.
pub const MOST_DEADLINES: usize = u32::BITS as usize;

#[cfg(test)]
mod tests;
