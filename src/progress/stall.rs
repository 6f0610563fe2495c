//! Whether a partition is stuck.
//!
//! Responsible for: telling a partition that ought to move and does not from one that has nothing
//! to do, is held back on purpose, or waits for something that is away.
//! Not responsible for: measuring lag, reporting, or rebuilding the consumer (`source`).
//!
//! The signs are those that silent stalls of librdkafka consumers showed in the field: lag, no
//! progress, and no reason for it.

use std::time::Duration;

/// What is seen of a partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Records between the position and the end of the partition.
    pub lag: u64,
    /// Something that changes whenever the partition moves: a sum of records read and settled.
    pub progress: u64,
    /// Whether the partition is paused: held back by what comes after it.
    pub paused: bool,
    /// Whether anything that its records depend on is unavailable.
    pub unavailable: bool,
}

/// What a partition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// It has nothing to do.
    Idle,
    /// It is held back for a reason that is known, and shown elsewhere.
    HeldBack,
    /// It moved within the time limit.
    Moving,
    /// It has work, no reason to wait, and has not moved for this long.
    Stalled {
        /// Time since it last moved or had a reason not to.
        since: Duration,
    },
}

/// Watches one partition.
#[derive(Clone, Copy, Debug)]
pub struct StallWatch {
    /// How long it may stand still.
    limit: Duration,
    /// The progress seen last, and since when it stands there without a reason.
    still: Option<(u64, Duration)>,
}

impl StallWatch {
    /// A watch that lets the partition stand still for `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, still: None }
    }

    /// Looks at the partition. Time counts only while it has work and no reason to wait, and
    /// starts anew after each reason.
    pub fn look(&mut self, sight: Sight, now: Duration) -> Movement {
        let excuse = match sight {
            Sight { lag: 0, .. } => Some(Movement::Idle),
            Sight { paused: true, .. } | Sight { unavailable: true, .. } => {
                Some(Movement::HeldBack)
            }
            _ => None,
        };
        if let Some(movement) = excuse {
            self.still = None;
            return movement;
        }
        match self.still {
            Some((progress, since)) if progress == sight.progress => {
                let since = now.saturating_sub(since);
                if since < self.limit { Movement::Moving } else { Movement::Stalled { since } }
            }
            _ => {
                self.still = Some((sight.progress, now));
                Movement::Moving
            }
        }
    }

    /// Gives the partition its whole time again, after its consumer was rebuilt.
    pub fn reset(&mut self) {
        self.still = None;
    }
}

#[cfg(test)]
mod tests;
