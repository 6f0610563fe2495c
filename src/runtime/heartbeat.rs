//! Heartbeats: who is busy, and has shown no progress for too long.
//!
//! Responsible for: [`Pulse`], which the watched one touches as it works, and [`Monitor`], which
//! tells who has gone silent.
//! Not responsible for: asking at the right time, or doing anything about it.
//!
//! Silence counts only while somebody is busy, and not while they wait for someone else (*protect
//! zones*, an idea of Quickwit's actors): whoever is held back by a full queue is not stuck.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::runtime::clock::Monotonic;

/// Stands for a beat whose time is not known: the clock starts when somebody looks.
const UNTIMED: u64 = u64::MAX;

#[derive(Debug)]
struct State {
    /// Nanoseconds on the monotonic clock, or [`UNTIMED`].
    last_beat: AtomicU64,
    busy: AtomicBool,
    /// Guards that are alive.
    protections: AtomicU32,
}

/// Shows that somebody is alive. Clones show the same; touching it costs an atomic store.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<State>);

impl Pulse {
    /// Somebody who has nothing to do yet.
    pub fn new() -> Self {
        Self(Arc::new(State {
            last_beat: AtomicU64::new(UNTIMED),
            busy: AtomicBool::new(false),
            protections: AtomicU32::new(0),
        }))
    }

    /// There was progress.
    pub fn beat(&self, now: Monotonic) {
        self.0.last_beat.store(nanos(now), Ordering::Relaxed);
    }

    /// Something to do came in: from now on silence counts.
    pub fn busy(&self, now: Monotonic) {
        self.beat(now);
        self.0.busy.store(true, Ordering::Release);
    }

    /// Something to do came in, and nobody looked at the clock: silence counts from the next look
    /// on. For those who get something to do far more often than anybody looks.
    pub fn busy_untimed(&self) {
        self.0.last_beat.store(UNTIMED, Ordering::Relaxed);
        self.0.busy.store(true, Ordering::Release);
    }

    /// Nothing to do any more: silence is fine.
    pub fn idle(&self) {
        self.0.busy.store(false, Ordering::Release);
    }

    /// Whether there is something to do.
    pub fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Acquire)
    }

    /// Waiting for someone else begins; silence does not count until the guard is dropped, and
    /// then counts from the next look on.
    #[must_use = "protection ends when the guard is dropped"]
    pub fn protect(&self) -> Protected {
        self.0.protections.fetch_add(1, Ordering::AcqRel);
        Protected(self.clone())
    }

    /// Time without a sign of life; zero for whoever is idle or protected.
    pub fn silent_for(&self, now: Monotonic) -> Duration {
        if !self.is_busy() || self.0.protections.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let last_beat = self.0.last_beat.load(Ordering::Relaxed);
        if last_beat == UNTIMED {
            // If a real beat comes in between, it stays.
            let _ = self.0.last_beat.compare_exchange(
                UNTIMED,
                nanos(now),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            return Duration::ZERO;
        }
        now.saturating_since(Monotonic(Duration::from_nanos(last_beat)))
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

fn nanos(at: Monotonic) -> u64 {
    // 584 years fit in; the largest value is taken.
    u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX).min(UNTIMED - 1)
}

/// Keeps silence from counting while it lives.
#[derive(Debug)]
pub struct Protected(Pulse);

impl Drop for Protected {
    fn drop(&mut self) {
        let state = &self.0.0;
        // First the beat, then the end of protection: whoever sees the second sees the first.
        state.last_beat.store(UNTIMED, Ordering::Relaxed);
        state.protections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Somebody who is busy and has been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Name under which they are watched.
    pub name: Arc<str>,
    /// How long they have been silent.
    pub silent: Duration,
    /// How long they may be.
    pub limit: Duration,
}

#[derive(Debug)]
struct Watched {
    name: Arc<str>,
    /// Weak: whoever is gone is not stalled, and is forgotten.
    state: Weak<State>,
    limit: Duration,
}

/// Watches pulses. Holds no timer: it answers when it is asked.
#[derive(Debug, Default)]
pub struct Monitor {
    watched: Mutex<Vec<Watched>>,
}

impl Monitor {
    /// Watches nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new pulse, watched until its last clone is dropped. It may be silent for `limit`.
    pub fn watch(&self, name: impl Into<Arc<str>>, limit: Duration) -> Pulse {
        let pulse = Pulse::new();
        self.add(name, limit, &pulse);
        pulse
    }

    /// Watches a pulse that somebody has already.
    pub fn add(&self, name: impl Into<Arc<str>>, limit: Duration, pulse: &Pulse) {
        let watched = Watched { name: name.into(), state: Arc::downgrade(&pulse.0), limit };
        self.lock().push(watched);
    }

    /// Who is stalled now, in the order in which they came under watch.
    pub fn stalled(&self, now: Monotonic) -> Vec<Stalled> {
        let mut stalled = Vec::new();
        self.lock().retain(|watched| {
            let Some(state) = watched.state.upgrade() else { return false };
            let silent = Pulse(state).silent_for(now);
            if silent > watched.limit {
                stalled.push(Stalled { name: watched.name.clone(), silent, limit: watched.limit });
            }
            true
        });
        stalled
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn names(stalled: &[Stalled]) -> Vec<&str> {
        stalled.iter().map(|stalled| &*stalled.name).collect()
    }

    #[test]
    fn only_the_busy_and_silent_are_stalled() {
        let monitor = Monitor::new();
        let silent = monitor.watch("silent", LIMIT);
        let beating = monitor.watch("beating", LIMIT);
        let done = monitor.watch("done", LIMIT);
        let _unused = monitor.watch("unused", LIMIT);
        for pulse in [&silent, &beating, &done] {
            pulse.busy(at(0));
        }
        beating.beat(at(5));
        done.idle();
        assert!(monitor.stalled(at(10)).is_empty(), "at the limit is within it");
        assert_eq!(
            monitor.stalled(at(11)),
            [Stalled { name: "silent".into(), silent: Duration::from_secs(11), limit: LIMIT }]
        );
        assert_eq!(names(&monitor.stalled(at(16))), ["silent", "beating"]);
        silent.beat(at(16));
        assert_eq!(names(&monitor.stalled(at(16))), ["beating"]);
    }

    #[test]
    fn waiting_for_someone_else_does_not_count_and_is_not_held_against_anyone_later() {
        let monitor = Monitor::new();
        let pulse = monitor.watch("held back", LIMIT);
        pulse.busy(at(0));
        let (outer, inner) = (pulse.protect(), pulse.protect());
        assert!(monitor.stalled(at(100)).is_empty());
        drop(inner);
        assert!(monitor.stalled(at(200)).is_empty(), "one guard is left");
        drop(outer);
        assert!(monitor.stalled(at(300)).is_empty(), "silence starts to count with this look");
        assert!(monitor.stalled(at(310)).is_empty());
        assert_eq!(names(&monitor.stalled(at(311))), ["held back"]);
    }

    #[test]
    fn whoever_gets_something_to_do_without_the_time_is_silent_from_the_next_look_on() {
        let monitor = Monitor::new();
        let pulse = monitor.watch("worker", LIMIT);
        pulse.busy_untimed();
        assert!(monitor.stalled(at(100)).is_empty(), "silence starts to count with this look");
        assert!(monitor.stalled(at(110)).is_empty());
        assert_eq!(names(&monitor.stalled(at(111))), ["worker"]);
        pulse.busy_untimed();
        assert!(monitor.stalled(at(112)).is_empty(), "it has something else to do");
    }

    #[test]
    fn whoever_is_gone_is_forgotten() {
        let monitor = Monitor::new();
        let pulse = monitor.watch("gone", LIMIT);
        pulse.busy(at(0));
        drop(pulse);
        assert!(monitor.stalled(at(100)).is_empty());
        assert!(monitor.lock().is_empty());
    }

    #[test]
    fn a_look_with_an_older_time_sees_no_silence() {
        let pulse = Pulse::new();
        pulse.busy(at(10));
        assert_eq!(pulse.silent_for(at(5)), Duration::ZERO);
    }
}
