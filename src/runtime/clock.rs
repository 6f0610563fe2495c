//! Time, as an argument.
//!
//! Responsible for: the only calls of the standard clocks, and a clock for tests that moves when
//! it is told to.
//! Not responsible for: timers; actors use those of actix and tokio.

use std::ops::{Add, Sub};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time that never goes back: the time since the clock was made. Points of different
/// clocks have nothing to do with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// When the clock was made.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Time that has passed since `earlier`; zero if that is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Saturates at the end of time.
impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, passed: Duration) -> Self {
        Self(self.0.saturating_add(passed))
    }
}

/// Saturates at the beginning of time.
impl Sub<Duration> for Monotonic {
    type Output = Self;

    fn sub(self, passed: Duration) -> Self {
        Self(self.0.saturating_sub(passed))
    }
}

/// Time between two points; zero if the other one is later.
impl Sub for Monotonic {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, for measuring how long things take.
    fn now(&self) -> Monotonic;

    /// Now, in milliseconds since the Unix epoch, for people and for other systems. It may jump.
    fn unix_millis(&self) -> i64;
}

/// A clock that parts of the engine share.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    made: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn new() -> Self {
        Self { made: Instant::now() }
    }

    /// A clock that starts at zero now, to be shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Monotonic {
        Monotonic(self.made.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn unix_millis(&self) -> i64 {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    made_unix_millis: i64,
    passed: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that was made at this time, in milliseconds since the Unix epoch.
    pub fn made_at(unix_millis: i64) -> Self {
        Self { made_unix_millis: unix_millis, passed: Mutex::default() }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        *passed = passed.saturating_add(by);
    }

    fn passed(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Monotonic {
        Monotonic(self.passed())
    }

    fn unix_millis(&self) -> i64 {
        self.made_unix_millis.saturating_add(millis(self.passed()))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_saturate_at_both_ends() {
        let second = Duration::from_secs(1);
        let early = Monotonic::ZERO + second;
        let late = early + second;
        assert_eq!(late - early, second);
        assert_eq!(early - late, Duration::ZERO);
        assert_eq!(late - second, early);
        assert_eq!(early - (second + second), Monotonic::ZERO);
        assert_eq!(Monotonic(Duration::MAX) + second, Monotonic(Duration::MAX));
    }

    #[test]
    fn a_manual_clock_moves_when_told_and_not_otherwise() {
        let clock = ManualClock::made_at(1_000);
        assert_eq!((clock.now(), clock.unix_millis()), (Monotonic::ZERO, 1_000));
        clock.advance(Duration::from_millis(250));
        let expected = Monotonic(Duration::from_millis(250));
        assert_eq!((clock.now(), clock.unix_millis()), (expected, 1_250));
        assert_eq!((clock.now(), clock.unix_millis()), (expected, 1_250));
    }

    #[test]
    fn the_system_clock_never_goes_back_and_knows_the_century() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
        let start_of_2020 = 1_577_836_800_000;
        assert!(clock.unix_millis() > start_of_2020);
    }
}
