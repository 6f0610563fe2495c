//! What always holds, by name.
//!
//! Responsible for: the names I1 to I8, and what happens when one does not hold: a panic where
//! debug assertions are on, an ERROR and a count where they are off.
//! Not responsible for: knowing whether they hold. Whoever owns the state checks it.
//!
//! One module serves the state machines, their tests and the metric that production watches, as
//! Quickwit does with the invariants of its models. Checks stay on in release builds, so they
//! must be cheap; a violated invariant there is counted rather than fatal, because the guards
//! behind it (fencing, idempotence) still stand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// An invariant of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Invariant {
    /// I1: what may be committed is at most the first offset without an outcome.
    NoGap = 0,
    /// I2: within an epoch, positions only go forward.
    Monotone = 1,
    /// I3: a shard has one writer.
    SingleWriter = 2,
    /// I4: a stale epoch changes nothing.
    Fenced = 3,
    /// I5: effects are durable before the offset that covers them is committed.
    EffectsBeforeCommit = 4,
    /// I6: what is in flight is bounded.
    BoundedInFlight = 5,
    /// I7: everything taken gets exactly one outcome.
    Conservation = 6,
    /// I8: records of a lane keep their order.
    KeyOrder = 7,
}

impl Invariant {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::NoGap,
        Self::Monotone,
        Self::SingleWriter,
        Self::Fenced,
        Self::EffectsBeforeCommit,
        Self::BoundedInFlight,
        Self::Conservation,
        Self::KeyOrder,
    ];

    /// The short name, as logs and metrics carry it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoGap => "I1",
            Self::Monotone => "I2",
            Self::SingleWriter => "I3",
            Self::Fenced => "I4",
            Self::EffectsBeforeCommit => "I5",
            Self::BoundedInFlight => "I6",
            Self::Conservation => "I7",
            Self::KeyOrder => "I8",
        }
    }

    /// What it says, in a few words.
    pub fn statement(self) -> &'static str {
        match self {
            Self::NoGap => "no gap",
            Self::Monotone => "monotone within an epoch",
            Self::SingleWriter => "single writer per shard",
            Self::Fenced => "a stale epoch changes nothing",
            Self::EffectsBeforeCommit => "effects before commit",
            Self::BoundedInFlight => "bounded in flight",
            Self::Conservation => "exactly one outcome for everything taken",
            Self::KeyOrder => "key order within a lane",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.statement())
    }
}

/// Violations since the process started, by number of the invariant.
static VIOLATIONS: [AtomicU64; Invariant::ALL.len()] =
    [const { AtomicU64::new(0) }; Invariant::ALL.len()];

/// How often `invariant` did not hold since the process started, for the metric.
pub fn violations(invariant: Invariant) -> u64 {
    VIOLATIONS[invariant as usize].load(Ordering::Relaxed)
}

/// Says that `invariant` must hold here. `detail` (what was found) is formatted only if it does
/// not.
///
/// # Panics
/// With debug assertions on, if `holds` is false. Otherwise it is logged as an ERROR and counted.
#[inline]
pub fn check(invariant: Invariant, holds: bool, detail: fmt::Arguments<'_>) {
    if !holds {
        violated(invariant, detail);
    }
}

#[cold]
fn violated(invariant: Invariant, detail: fmt::Arguments<'_>) {
    VIOLATIONS[invariant as usize].fetch_add(1, Ordering::Relaxed);
    tracing::error!(
        invariant = invariant.name(),
        statement = invariant.statement(),
        %detail,
        "invariant violated"
    );
    if cfg!(debug_assertions) {
        panic!("{invariant} violated: {detail}");
    }
}

#[cfg(test)]
mod tests;
