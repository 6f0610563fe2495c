//! The desk of a lane: the batch that is being worked on, where others can reach it.
//!
//! Responsible for: deciding, under one lock, who settles the item at hand: its worker, or whoever
//! takes it for hung; and keeping a thread that has lost the desk from touching it.
//! Not responsible for: threads and what follows from a hang (`lane`).
//!
//! Ownership is a generation number: each thread that takes the desk over gets the next one, and
//! everything it does is checked against it. Per item the lock is taken twice, uncontended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::clock::{Monotonic, SharedClock};
use crate::runtime::heartbeat::{Protected, Pulse};
use crate::runtime::pool::LaneId;

/// Something that can be settled without the worker that has it in hand.
pub trait Claimable: Send + 'static {
    /// The right to settle the item, with all that is needed for it. There is one per item: it
    /// lies on the desk while the item is worked on.
    type Claim: Send + 'static;

    /// Takes the claim out of the item, just before the worker gets it. Cheap; must not panic.
    fn claim(&mut self) -> Self::Claim;
}

/// What lies on a desk.
struct Contents<J: Claimable> {
    /// Number of the thread that the desk belongs to.
    generation: u64,
    /// Items of the batch that nobody has touched yet.
    rest: VecDeque<J>,
    /// Claim of the item at hand, until somebody takes it.
    claim: Option<J::Claim>,
    /// Of the thread that the desk belongs to; each has its own, so that a thread that comes back
    /// does not beat for its successor.
    pulse: Pulse,
    /// Whether nothing may be laid out any more.
    stopped: bool,
}

/// A desk, as the thread it belongs to sees it.
pub struct Desk<J: Claimable> {
    lane: LaneId,
    clock: SharedClock,
    contents: Arc<Mutex<Contents<J>>>,
    /// The thread's number.
    generation: u64,
    pulse: Pulse,
}

impl<J: Claimable> Desk<J> {
    /// The lane it belongs to.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// The item at hand is done: returns its claim, and with it the right to let the item have
    /// effects. `None` if somebody else has settled it, or if it was called before.
    #[must_use = "without the claim the item must not have any effect"]
    pub fn finish(&self) -> Option<J::Claim> {
        self.owned()?.claim.take()
    }

    /// Shows that the item at hand makes progress.
    pub fn beat(&self) {
        self.pulse.beat(self.clock.now());
    }

    /// While the guard lives, the item at hand waits for somebody else and does not count as hung.
    #[must_use = "protection ends when the guard is dropped"]
    pub fn protect(&self) -> Protected {
        self.pulse.protect()
    }

    /// Puts a batch on the desk; drops it if the lane was stopped.
    pub(super) fn lay_out(&self, batch: Vec<J>) {
        let Some(mut contents) = self.owned() else { return };
        if contents.stopped {
            // The batch outlives the guard: its drop may wake others, and not under the lock.
            drop(contents);
            drop(batch);
        } else {
            contents.rest.extend(batch);
        }
    }

    /// Takes the next item and leaves its claim on the desk. `None` at the end of the batch, or if
    /// the desk is no longer this thread's.
    pub(super) fn take(&self) -> Option<J> {
        let now = self.clock.now();
        let mut contents = self.owned()?;
        let left_behind = contents.claim.take();
        let mut item = contents.rest.pop_front();
        if let Some(item) = &mut item {
            contents.claim = Some(item.claim());
            self.pulse.busy(now);
        }
        drop(contents);
        // The worker returned without asking for the claim. Dropped here, outside the lock, because
        // that may wake others.
        drop(left_behind);
        item
    }

    /// The batch is worked off and handed on.
    pub(super) fn tidy(&self) {
        self.pulse.idle();
    }

    /// Whether the desk is still this thread's.
    pub(super) fn is_mine(&self) -> bool {
        self.owned().is_some()
    }

    /// What lies on the desk, if it is still this thread's.
    fn owned(&self) -> Option<MutexGuard<'_, Contents<J>>> {
        let contents = lock(&self.contents);
        (contents.generation == self.generation).then_some(contents)
    }
}

/// An item that hung.
pub(super) struct Seized<C> {
    /// The right to settle it.
    pub(super) claim: C,
    /// How long its worker has been silent.
    pub(super) silent: Duration,
}

/// A desk, as its lane sees it.
pub(super) struct LaneDesk<J: Claimable> {
    lane: LaneId,
    clock: SharedClock,
    contents: Arc<Mutex<Contents<J>>>,
}

impl<J: Claimable> LaneDesk<J> {
    /// An empty desk.
    pub(super) fn new(lane: LaneId, clock: SharedClock) -> Self {
        let contents = Contents {
            generation: 0,
            rest: VecDeque::new(),
            claim: None,
            pulse: Pulse::new(),
            stopped: false,
        };
        Self { lane, clock, contents: Arc::new(Mutex::new(contents)) }
    }

    /// The desk as the thread sees it that it belongs to now.
    pub(super) fn present_owner(&self) -> Desk<J> {
        let contents = lock(&self.contents);
        Desk {
            lane: self.lane,
            clock: self.clock.clone(),
            contents: self.contents.clone(),
            generation: contents.generation,
            pulse: contents.pulse.clone(),
        }
    }

    /// If there is an item at hand without a beat for longer than `limit`: takes its claim, and
    /// the desk away from its thread.
    pub(super) fn seize_if_hung(
        &self,
        now: Monotonic,
        limit: Duration,
    ) -> Option<Seized<J::Claim>> {
        let mut contents = lock(&self.contents);
        let silent = contents.pulse.silent_for(now);
        if silent <= limit {
            return None;
        }
        let claim = contents.claim.take()?;
        contents.generation += 1;
        contents.pulse = Pulse::new();
        Some(Seized { claim, silent })
    }

    /// Whether a batch is being worked on.
    pub(super) fn is_busy(&self) -> bool {
        lock(&self.contents).pulse.is_busy()
    }

    /// Drops what nobody has touched yet, now and from now on.
    pub(super) fn stop(&self) {
        let mut contents = lock(&self.contents);
        contents.stopped = true;
        let rest = std::mem::take(&mut contents.rest);
        drop(contents);
        // Outside the lock: dropped duties may wake others.
        drop(rest);
    }
}

fn lock<J: Claimable>(contents: &Mutex<Contents<J>>) -> MutexGuard<'_, Contents<J>> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}
