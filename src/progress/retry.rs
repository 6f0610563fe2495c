//! What happens after a failure: another attempt, a dead letter, or waiting for a dependency.
//!
//! Responsible for: the retry policy of a node, the count of attempts at one record, and whether
//! a node's dependency is there ([`Availability`]).
//! Not responsible for: waiting, sending dead letters, or restarts of actors (`restart`).
//!
//! A failure of the dependency never uses up a record's attempts: it is tried again without end,
//! with capped backoff. Delays are those of restarts ([`Backoff`]): jitter spreads the second half
//! of each, so that records that failed together do not come back together, and none at once
//! ("equal jitter" of the AWS Architecture Blog's "Exponential Backoff And Jitter").

use std::time::Duration;

use super::restart::Backoff;
use crate::model::Failure;

/// The longest wait that the other side can impose by asking for it: `Retry-After` is input like
/// any other.
pub const LONGEST_ASKED: Duration = Duration::from_secs(15 * 60);

/// How often and how fast a node tries a record again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts at a record, the first included; 0 counts as 1.
    pub attempts: u32,
    /// Delay after the first failure.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
    /// What each delay is multiplied by to get the next; below 1 counts as 1.
    pub factor: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(200),
            max: Duration::from_secs(30),
            factor: 2.0,
        }
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try this record again after this time.
    RetryAfter(Duration),
    /// No further attempt can help, or there is none left.
    DeadLetter,
    /// The dependency is away: try again after this time, without end.
    Unavailable {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl RetryPolicy {
    /// Decides after a failure. `attempt` is the number of failures of this *kind* in a row, the
    /// present one included: of the record's own failures for [`Failure::Retriable`], of its
    /// dependency for [`Failure::Unavailable`]; [`Attempts`] counts both. `jitter` is a random
    /// number from 0 to 1.
    pub fn decide(&self, failure: &Failure, attempt: u32, jitter: f64) -> RetryDecision {
        match failure {
            Failure::Poison { .. } => RetryDecision::DeadLetter,
            Failure::Unavailable { .. } => {
                RetryDecision::Unavailable { retry_after: self.delay(attempt, jitter) }
            }
            Failure::Retriable { .. } if attempt >= self.attempts => RetryDecision::DeadLetter,
            Failure::Retriable { after, .. } => {
                let asked = after.unwrap_or_default().min(LONGEST_ASKED);
                RetryDecision::RetryAfter(self.delay(attempt, jitter).max(asked))
            }
        }
    }

    /// The delay after failure number `attempt`, from 1: between half of the backoff (`jitter` 0)
    /// and all of it (`jitter` 1).
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let backoff = Backoff { first: self.first, max: self.max, factor: self.factor };
        backoff.delay(attempt.saturating_sub(1), jitter)
    }
}

/// Failures of one record so far, its own and its dependency's apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Failures of the record itself: what the policy's attempts are counted against.
    own: u32,
    /// Failures of the dependency since the record last got through to it.
    unavailable: u32,
}

impl Attempts {
    /// Counts `failure` and decides what happens next.
    pub fn failed(
        &mut self,
        policy: &RetryPolicy,
        failure: &Failure,
        jitter: f64,
    ) -> RetryDecision {
        let attempt = match failure {
            Failure::Unavailable { .. } => &mut self.unavailable,
            Failure::Retriable { .. } | Failure::Poison { .. } => {
                // The dependency answered, if only to say no.
                self.unavailable = 0;
                &mut self.own
            }
        };
        *attempt = attempt.saturating_add(1);
        policy.decide(failure, *attempt, jitter)
    }

    /// Attempts that count: what a dead letter says in its headers.
    pub fn own(&self) -> u32 {
        self.own
    }
}

/// Whether what a node depends on is there, as the metric and `/readyz` show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// As far as is known.
    #[default]
    Available,
    /// Every attempt since then failed.
    Unavailable {
        /// When the first attempt failed.
        since: Duration,
        /// Failed attempts since then, over all records.
        attempts: u64,
    },
}

/// A change of a node's [`Availability`], to be logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It was there before.
    Lost,
    /// It is back.
    Recovered {
        /// How long it was away.
        after: Duration,
        /// Attempts that failed meanwhile.
        attempts: u64,
    },
}

impl Availability {
    /// An attempt failed because of the dependency.
    pub fn failed(&mut self, now: Duration) -> Option<Transition> {
        match self {
            Self::Available => {
                *self = Self::Unavailable { since: now, attempts: 1 };
                Some(Transition::Lost)
            }
            Self::Unavailable { attempts, .. } => {
                *attempts = attempts.saturating_add(1);
                None
            }
        }
    }

    /// An attempt got through to the dependency, whatever it said of the record.
    pub fn reached(&mut self, now: Duration) -> Option<Transition> {
        match std::mem::take(self) {
            Self::Available => None,
            Self::Unavailable { since, attempts } => {
                Some(Transition::Recovered { after: now.saturating_sub(since), attempts })
            }
        }
    }

    /// Whether the node can work.
    pub fn is_available(&self) -> bool {
        matches!(self, Self::Available)
    }
}

#[cfg(test)]
mod tests;
