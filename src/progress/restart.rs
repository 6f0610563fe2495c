//! Restart intensity: how often something may die before somebody else has to deal with it.
//!
//! Responsible for: deciding, at each death, between another restart (and after what delay) and
//! escalation.
//! Not responsible for: restarting (`runtime::supervisor`), and for which ends are deaths
//! (`runtime::exit`).
//!
//! The idea is that of the supervisors of Erlang/OTP (`intensity` and `period`), with a delay that
//! grows with the number of restarts in the period and is spread by jitter ("equal jitter": half of
//! it is fixed, half is random).

use std::collections::VecDeque;
use std::time::Duration;

/// Delays that grow from attempt to attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// Delay before the first restart, without jitter.
    pub first: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// By how much each delay is longer than the one before; below 1 counts as 1.
    pub factor: f64,
}

impl Backoff {
    /// The delay after `earlier` attempts. `jitter` between 0 and 1 chooses within the upper half
    /// of it: 0 gives half the delay, 1 all of it.
    pub fn delay(&self, earlier: u32, jitter: f64) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(earlier).unwrap_or(i32::MAX);
        let grown = self.first.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let capped = grown.min(self.max.as_secs_f64());
        let spread = capped * (0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Duration::try_from_secs_f64(spread).unwrap_or(self.max).min(self.max)
    }
}

/// How often something may be restarted, and how fast.
///
/// The delays of `max_restarts` restarts together have to stay well below `within`; otherwise old
/// restarts are forgotten before the limit is reached, and nothing ever escalates.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// Restarts that are fine within the period; at 0 the first death escalates.
    pub max_restarts: u32,
    /// The period. A restart that lies this long back no longer counts.
    pub within: Duration,
    /// Delays before restarts.
    pub backoff: Backoff,
}

impl Default for RestartPolicy {
    /// 5 restarts in 60 s, after 100 ms at first and 5 s at most.
    fn default() -> Self {
        Self {
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(5),
                factor: 2.0,
            },
        }
    }
}

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Restart after this delay.
    RestartAfter(Duration),
    /// Leave it to whoever is above.
    Escalate {
        /// Restarts that lie within the period.
        restarts: u32,
        /// The period.
        within: Duration,
    },
}

/// The deaths of one child so far, as far as they count.
#[derive(Clone, Debug)]
pub struct RestartIntensity {
    policy: RestartPolicy,
    /// When it was restarted, within the period; at most `max_restarts`.
    restarts: VecDeque<Duration>,
}

impl RestartIntensity {
    /// Nothing has died yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, restarts: VecDeque::new() }
    }

    /// The child died at `now`, on any clock that does not go back. `jitter` is a random number
    /// between 0 and 1.
    pub fn on_exit(&mut self, now: Duration, jitter: f64) -> Decision {
        self.forget(now);
        let restarts = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if restarts >= self.policy.max_restarts {
            return Decision::Escalate { restarts, within: self.policy.within };
        }
        self.restarts.push_back(now);
        Decision::RestartAfter(self.policy.backoff.delay(restarts, jitter))
    }

    fn forget(&mut self, now: Duration) {
        while let Some(oldest) = self.restarts.front()
            && now.saturating_sub(*oldest) >= self.policy.within
        {
            self.restarts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(max_restarts: u32, within: u64) -> RestartPolicy {
        RestartPolicy {
            max_restarts,
            within: Duration::from_millis(within),
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(1),
                factor: 2.0,
            },
        }
    }

    #[test]
    fn delays_grow_up_to_the_longest_one() {
        let backoff = policy(0, 0).backoff;
        let table = [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (u32::MAX, 1000)];
        for (earlier, millis) in table {
            let full = Duration::from_millis(millis);
            assert_eq!(backoff.delay(earlier, 1.0), full, "after {earlier}");
            assert_eq!(backoff.delay(earlier, 0.0), full / 2, "after {earlier}");
        }
    }

    #[test]
    fn no_delay_stays_no_delay() {
        let backoff = Backoff { first: Duration::ZERO, max: Duration::MAX, factor: 1e300 };
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::ZERO);
    }

    #[test]
    fn decides_as_the_table_says() {
        use Decision::{Escalate, RestartAfter};

        let within = Duration::from_millis(1000);
        // Time of death in milliseconds, and what follows.
        let table = [
            (0, RestartAfter(Duration::from_millis(100))),
            (500, RestartAfter(Duration::from_millis(200))),
            (999, Escalate { restarts: 2, within }),
            // The restart at 0 no longer counts.
            (1000, RestartAfter(Duration::from_millis(200))),
            (1499, Escalate { restarts: 2, within }),
            // A quiet period, and it is as if nothing had happened.
            (9000, RestartAfter(Duration::from_millis(100))),
        ];
        let mut intensity = RestartIntensity::new(policy(2, 1000));
        for (at, expected) in table {
            assert_eq!(intensity.on_exit(Duration::from_millis(at), 1.0), expected, "at {at}");
        }
    }

    #[test]
    fn without_restarts_the_first_death_escalates() {
        let within = Duration::from_millis(1000);
        let mut intensity = RestartIntensity::new(policy(0, 1000));
        let decision = intensity.on_exit(Duration::ZERO, 0.0);
        assert_eq!(decision, Decision::Escalate { restarts: 0, within });
    }

    proptest! {
        /// A model that remembers everything: escalation is right when, and only when, the period
        /// before a death holds as many restarts as are allowed.
        #[test]
        fn restarts_exactly_while_the_period_has_room(
            max_restarts in 0_u32..6,
            within in 1_u64..2000,
            deaths in prop::collection::vec((0_u64..700, 0.0_f64..1.0), 1..60),
        ) {
            let policy = policy(max_restarts, within);
            let mut intensity = RestartIntensity::new(policy.clone());
            let mut restarted: Vec<u64> = Vec::new();
            let mut now = 0;
            for (gap, jitter) in deaths {
                now += gap;
                let recent = restarted.iter().filter(|at| now - **at < within).count() as u32;
                match intensity.on_exit(Duration::from_millis(now), jitter) {
                    Decision::RestartAfter(delay) => {
                        prop_assert!(recent < max_restarts);
                        prop_assert!(delay >= policy.backoff.first / 2);
                        prop_assert!(delay <= policy.backoff.max);
                        restarted.push(now);
                    }
                    Decision::Escalate { restarts, within } => {
                        prop_assert!(recent >= max_restarts);
                        prop_assert_eq!(restarts, recent);
                        prop_assert_eq!(within, policy.within);
                    }
                }
            }
        }

        /// Whatever the settings, a delay is a delay: no panic, and never above the longest one.
        #[test]
        fn a_delay_is_never_longer_than_allowed(
            first in 0_u64..u64::MAX,
            max in 0_u64..u64::MAX,
            factor in prop::num::f64::ANY,
            earlier in any::<u32>(),
            jitter in prop::num::f64::ANY,
        ) {
            let (first, max) = (Duration::from_nanos(first), Duration::from_nanos(max));
            let backoff = Backoff { first, max, factor };
            prop_assert!(backoff.delay(earlier, jitter) <= backoff.max);
        }
    }
}
