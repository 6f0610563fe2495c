//! When the deadlines of one manifest are due, and which have acted.
//!
//! Responsible for: the persisted times of a manifest, points in time that it names, extensions,
//! and that each deadline acts once.
//! Not responsible for: what the action does (`manifest`), or the time scale (`deadline`).
//!
//! A deadline that was put off is due on the shard's scale from then on, whatever it counted from:
//! the time somebody was given does not run out while nobody can work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Deadline, DeadlineAction, MOST_DEADLINES, Moment, OwnedTime, Since};

/// The times of one open manifest, persisted with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Its first event, or its re-opening.
    pub first: OwnedTime,
    /// Its latest event.
    pub last: OwnedTime,
    /// Deadlines that have acted, one bit each in the order of their declaration.
    pub acted: u32,
    /// Nothing acts before this: an operator wanted it so.
    pub not_before: OwnedTime,
    /// What is known of single deadlines, by their number; short where nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    own: Vec<Own>,
}

/// What a manifest knows of one of its deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Own {
    /// The point in time that the manifest names, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    appointment: Option<i64>,
    /// How often it was put off.
    extensions: u32,
    /// When it is due after all, once it was put off.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<OwnedTime>,
}

/// When a deadline is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// On the shard's scale.
    Owned(OwnedTime),
    /// By the wall clock, in milliseconds since the Unix epoch.
    Wall(i64),
}

/// What happens when a deadline is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is put off.
    PutOff,
    /// It acts.
    Acts(DeadlineAction),
}

/// When to look at the deadlines of a manifest again, on each scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upcoming {
    /// On the shard's scale.
    pub owned: Option<OwnedTime>,
    /// By the wall clock, in milliseconds since the Unix epoch.
    pub wall: Option<i64>,
}

impl Timing {
    /// Begins with the first event.
    pub fn starting(at: OwnedTime) -> Self {
        Self { first: at, last: at, ..Self::default() }
    }

    /// Begins anew with a re-opening: the manifest gets its whole time, and points in time that
    /// have passed stay passed.
    pub fn restart(&mut self, now: Moment, deadlines: &[Deadline]) {
        let mut anew = Self::starting(now.owned);
        let kept = |own: &Own| Own { appointment: own.appointment, ..Own::default() };
        anew.own = self.own.iter().map(kept).collect();
        for (number, deadline) in numbered(deadlines) {
            let due = anew.due(number, deadline);
            if matches!(due, Some(Due::Wall(at)) if at <= now.unix_millis) {
                anew.acted |= bit(number);
            }
        }
        *self = anew;
    }

    /// An event arrived: inactivity begins anew, and its deadlines may act again.
    pub fn touch(&mut self, at: OwnedTime, deadlines: &[Deadline]) {
        self.last = self.last.max(at);
        for (number, deadline) in numbered(deadlines) {
            if deadline.since != Since::Inactivity {
                continue;
            }
            self.acted &= !bit(number);
            if let Some(own) = self.own.get_mut(number) {
                *own = Own::default();
            }
        }
    }

    /// An event names points in time, by the number of their deadline. What is known stays, unless
    /// the event `replaces` it; a new time is a new deadline.
    pub fn appoint(&mut self, appointments: &[Option<i64>], replaces: bool) {
        for (number, at) in appointments.iter().take(MOST_DEADLINES).enumerate() {
            let known = self.own(number).appointment;
            if at.is_none() || known == *at || (known.is_some() && !replaces) {
                continue;
            }
            *self.own_mut(number) = Own { appointment: *at, ..Own::default() };
            self.acted &= !bit(number);
        }
    }

    /// An operator wants nothing to act for so long. Alerts that were given come again after it.
    pub fn put_off(&mut self, by: Duration, now: OwnedTime, deadlines: &[Deadline]) {
        self.not_before = self.not_before.max(now.plus(by));
        for (number, deadline) in numbered(deadlines) {
            if deadline.action == DeadlineAction::Alert {
                self.acted &= !bit(number);
            }
        }
    }

    /// The turn of the first declared deadline that is due at `now` and has not acted. It counts
    /// as taken from here on.
    pub fn take_due(&mut self, deadlines: &[Deadline], now: Moment) -> Option<Turn> {
        for (number, deadline) in numbered(deadlines) {
            if !self.has_acted(number) && self.is_due(number, deadline, now) {
                return Some(self.take(number, deadline, now));
            }
        }
        None
    }

    /// When the next deadline is due that has not acted: when to look again.
    pub fn next_due(&self, deadlines: &[Deadline]) -> Upcoming {
        let mut next = Upcoming::default();
        for (number, deadline) in numbered(deadlines) {
            if self.has_acted(number) {
                continue;
            }
            match self.due(number, deadline) {
                Some(Due::Owned(at)) => next.owned = sooner(next.owned, at),
                Some(Due::Wall(at)) => next.wall = sooner(next.wall, at),
                None => {}
            }
        }
        next
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.own.capacity() * size_of::<Own>()
    }

    fn has_acted(&self, number: usize) -> bool {
        self.acted & bit(number) != 0
    }

    fn own(&self, number: usize) -> Own {
        self.own.get(number).copied().unwrap_or_default()
    }

    fn own_mut(&mut self, number: usize) -> &mut Own {
        if self.own.len() <= number {
            self.own.resize(number + 1, Own::default());
        }
        &mut self.own[number]
    }

    fn due(&self, number: usize, deadline: &Deadline) -> Option<Due> {
        let own = self.own(number);
        let at = match (own.until, deadline.since) {
            (Some(until), _) => until,
            (None, Since::First) => self.first.plus(deadline.after),
            (None, Since::Inactivity) => self.last.plus(deadline.after),
            (None, Since::Appointment) => {
                return own.appointment.map(|at| Due::Wall(later(at, deadline.after)));
            }
        };
        Some(Due::Owned(at.max(self.not_before)))
    }

    fn is_due(&mut self, number: usize, deadline: &Deadline, now: Moment) -> bool {
        match self.due(number, deadline) {
            None => false,
            Some(Due::Owned(at)) => at <= now.owned,
            Some(Due::Wall(at)) if at > now.unix_millis => false,
            Some(Due::Wall(_)) if self.not_before > now.owned => {
                self.own_mut(number).until = Some(self.not_before);
                false
            }
            Some(Due::Wall(_)) => true,
        }
    }

    fn take(&mut self, number: usize, deadline: &Deadline, now: Moment) -> Turn {
        let extensions = self.own(number).extensions;
        if let Some(extension) = deadline.extension
            && extensions < extension.most
        {
            let own = self.own_mut(number);
            own.extensions = extensions + 1;
            own.until = Some(now.owned.plus(extension.by));
            return Turn::PutOff;
        }
        self.acted |= bit(number);
        Turn::Acts(deadline.action)
    }
}

fn numbered(deadlines: &[Deadline]) -> impl Iterator<Item = (usize, &Deadline)> {
    deadlines.iter().take(MOST_DEADLINES).enumerate()
}

fn bit(number: usize) -> u32 {
    1 << number
}

fn sooner<T: Ord>(known: Option<T>, other: T) -> Option<T> {
    match known {
        Some(known) => Some(known.min(other)),
        None => Some(other),
    }
}

fn later(unix_millis: i64, after: Duration) -> i64 {
    let millis = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    unix_millis.saturating_add(millis)
}

#[cfg(test)]
mod tests;
