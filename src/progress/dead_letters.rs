//! When there are too many dead letters to go on.
//!
//! Responsible for: the limit on dead letters in a row and on their share of the latest records.
//! Not responsible for: producing dead letters, or stopping the pipeline.
//!
//! The share is taken over a sliding window of the latest outcomes, one bit each, and not judged
//! before the window is full: a pipeline that ran well for a month must not be allowed a month's
//! worth of dead letters.

use crate::model::Outcome;

/// When a pipeline has to stop instead of draining its sources into the dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadLetterLimits {
    /// Most dead letters in a row; `None` sets no such limit.
    pub consecutive: Option<u64>,
    /// Largest share of dead letters; `None` sets no such limit.
    pub ratio: Option<RatioLimit>,
}

impl Default for DeadLetterLimits {
    fn default() -> Self {
        Self { consecutive: Some(100), ratio: None }
    }
}

/// Largest share of dead letters among the latest records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioLimit {
    /// The share, from 0 to 1.
    pub ratio: f64,
    /// Number of latest records it is taken over; before there are so many it is not judged.
    /// Takes one bit of memory each; 0 counts as 1.
    pub sample: u32,
}

/// A pipeline produced more dead letters than its topology allows.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LimitExceeded {
    /// Too many in a row.
    #[error(
        "{count} records in a row were dead-lettered, the limit is {limit}: look at the dead \
         letters, mend the cause, then start the pipeline again and replay them"
    )]
    Consecutive {
        /// Dead letters in a row.
        count: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Too large a share.
    #[error(
        "{dead_lettered} of the latest {sample} records were dead-lettered, the limit is a share \
         of {limit}: look at the dead letters, mend the cause, then start the pipeline again and \
         replay them"
    )]
    Ratio {
        /// Dead letters in the sample.
        dead_lettered: u32,
        /// Size of the sample.
        sample: u32,
        /// What is allowed, from 0 to 1.
        limit: f64,
    },
}

/// Watches the outcomes of a pipeline.
#[derive(Debug)]
pub struct DeadLetterLimit {
    limits: DeadLetterLimits,
    /// Dead letters since the last other outcome.
    in_a_row: u64,
    /// The latest outcomes, where a ratio is limited.
    window: Option<Window>,
}

impl DeadLetterLimit {
    /// Starts without a past.
    pub fn new(limits: DeadLetterLimits) -> Self {
        Self { limits, in_a_row: 0, window: limits.ratio.map(Window::new) }
    }

    /// Takes the next outcome, and says if that is one dead letter too many. An abandoned record
    /// has no outcome yet: it is not counted.
    pub fn observe(&mut self, outcome: Outcome) -> Option<LimitExceeded> {
        let dead = match outcome {
            Outcome::Abandoned => return None,
            Outcome::DeadLettered => true,
            Outcome::Delivered | Outcome::Filtered => false,
        };
        self.in_a_row = if dead { self.in_a_row.saturating_add(1) } else { 0 };
        let share = self.window.as_mut().and_then(|window| window.push(dead));
        match self.limits.consecutive {
            Some(limit) if self.in_a_row > limit => {
                Some(LimitExceeded::Consecutive { count: self.in_a_row, limit })
            }
            _ => share,
        }
    }

    /// Takes so many outcomes in a row that are no dead letters.
    pub fn observe_good(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        self.in_a_row = 0;
        if let Some(window) = &mut self.window {
            // After that many nothing else is left in it.
            for _ in 0..count.min(u64::from(window.limit.sample)) {
                window.push(false);
            }
        }
    }
}

/// The latest outcomes, as bits in a ring.
#[derive(Debug)]
struct Window {
    limit: RatioLimit,
    bits: Box<[u64]>,
    /// Where the next outcome goes; once around, that is where the oldest lies.
    next: u32,
    /// Whether it was once around.
    full: bool,
    /// Dead letters in it.
    dead: u32,
}

impl Window {
    fn new(limit: RatioLimit) -> Self {
        let limit = RatioLimit { sample: limit.sample.max(1), ..limit };
        let words = limit.sample.div_ceil(u64::BITS) as usize;
        Self { limit, bits: vec![0u64; words].into_boxed_slice(), next: 0, full: false, dead: 0 }
    }

    fn push(&mut self, dead: bool) -> Option<LimitExceeded> {
        let word = &mut self.bits[(self.next / u64::BITS) as usize];
        let bit = 1u64 << (self.next % u64::BITS);
        if *word & bit != 0 {
            self.dead -= 1;
            *word &= !bit;
        }
        if dead {
            self.dead += 1;
            *word |= bit;
        }
        let RatioLimit { ratio, sample } = self.limit;
        self.next += 1;
        if self.next == sample {
            self.next = 0;
            self.full = true;
        }
        // Only a dead letter can be the one too many.
        let exceeded = dead && self.full && f64::from(self.dead) > ratio * f64::from(sample);
        exceeded.then_some(LimitExceeded::Ratio { dead_lettered: self.dead, sample, limit: ratio })
    }
}

#[cfg(test)]
mod tests;
