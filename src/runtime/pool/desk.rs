//! The desk of a lane: the batch that is being worked on, where others can reach it.
//!
//! Responsible for: deciding, under one lock, who settles the item at hand: its worker, or whoever
//! takes it for hung; and keeping a thread that has lost the desk from touching it.
//! Not responsible for: threads and what follows from a hang (`lane`).
//!
//! Ownership is a generation number: each thread that takes the desk over gets the next one, and
//! everything it does is checked against it. Per item the lock is taken twice, uncontended, and no
//! clock is read: how long an item takes is counted from the first look at it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::clock::{Monotonic, SharedClock};
use crate::runtime::heartbeat::{Protected, Pulse};
use crate::runtime::pool::LaneId;

/// Something that can be settled without the worker that has it in hand.
pub trait Claimable: Send + 'static {
    /// The right to settle the item. There is one per item: it lies on the desk while the item is
    /// worked on.
    type Duty: Send + 'static;

    /// What has to be known of the item to settle it in place of its worker.
    type Origin: Clone + Send + 'static;

    /// Takes the duty out of the item, just before the worker gets it. Cheap; must not panic.
    fn duty(&mut self) -> Self::Duty;

    /// What has to be known of the item.
    fn origin(&self) -> Self::Origin;

    /// Turns the origin of the item before this one into this one's. What both have in common can
    /// stay, so that nothing of it is counted for each item.
    fn renew(&self, origin: &mut Self::Origin) {
        *origin = self.origin();
    }
}

/// The right to settle an item, with all that is needed for it.
pub struct Claim<J: Claimable> {
    /// The right.
    pub duty: J::Duty,
    /// What the item was made from.
    pub origin: J::Origin,
}

/// What lies on a desk.
struct Contents<J: Claimable> {
    /// Number of the thread that the desk belongs to.
    generation: u64,
    /// Items of the batch that nobody has touched yet.
    rest: VecDeque<J>,
    /// Duty of the item at hand, until somebody takes it.
    duty: Option<J::Duty>,
    /// Origin of the item that was taken last, until the end of its batch.
    origin: Option<J::Origin>,
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

    /// The item at hand is done: returns its duty, and with it the right to let the item have
    /// effects. `None` if somebody else has settled it, or if it was called before.
    #[must_use = "without the duty the item must not have any effect"]
    pub fn finish(&self) -> Option<J::Duty> {
        self.owned()?.duty.take()
    }

    /// Like [`Desk::finish`], for an item that failed: with what is needed to say so elsewhere.
    #[must_use = "without the claim the item must not have any effect"]
    pub fn give_up(&self) -> Option<Claim<J>> {
        self.owned()?.claim()
    }

    /// What the item at hand was made from, to try it again; `None` if somebody else has settled
    /// it.
    pub fn origin(&self) -> Option<J::Origin> {
        let contents = self.owned()?;
        contents.duty.as_ref().and(contents.origin.clone())
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

    /// Takes the next item and leaves its duty on the desk. `None` at the end of the batch, or if
    /// the desk is no longer this thread's.
    pub(super) fn take(&self) -> Option<J> {
        let mut guard = self.owned()?;
        let contents = &mut *guard;
        let left_behind = contents.duty.take();
        let mut item = contents.rest.pop_front();
        let mut last = None;
        match (&mut item, &mut contents.origin) {
            (Some(item), Some(origin)) => item.renew(origin),
            (Some(item), none) => *none = Some(item.origin()),
            (None, origin) => last = origin.take(),
        }
        if let Some(item) = &mut item {
            contents.duty = Some(item.duty());
            self.pulse.busy_untimed();
        }
        drop(guard);
        // Outside the lock: a duty that the worker never asked for may wake others when it is
        // dropped, and an origin may be all that keeps a batch.
        drop((left_behind, last));
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

impl<J: Claimable> Contents<J> {
    /// The claim to the item at hand, if nobody has taken its duty.
    fn claim(&mut self) -> Option<Claim<J>> {
        let origin = self.origin.clone()?;
        let duty = self.duty.take()?;
        Some(Claim { duty, origin })
    }
}

/// An item that hung.
pub(super) struct Seized<J: Claimable> {
    /// The right to settle it.
    pub(super) claim: Claim<J>,
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
            duty: None,
            origin: None,
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
    pub(super) fn seize_if_hung(&self, now: Monotonic, limit: Duration) -> Option<Seized<J>> {
        let mut contents = lock(&self.contents);
        let silent = contents.pulse.silent_for(now);
        if silent <= limit {
            return None;
        }
        let claim = contents.claim()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::{Clock, ManualClock};

    const LIMIT: Duration = Duration::from_secs(10);
    const LONGER: Duration = Duration::from_secs(11);

    /// An item that is nothing but its duty; what it was made from is its ten.
    struct Number(u32);

    impl Claimable for Number {
        type Duty = u32;
        type Origin = Arc<u32>;

        fn duty(&mut self) -> u32 {
            self.0
        }

        fn origin(&self) -> Arc<u32> {
            Arc::new(self.0 / 10)
        }

        fn renew(&self, origin: &mut Arc<u32>) {
            if **origin != self.0 / 10 {
                *origin = self.origin();
            }
        }
    }

    #[test]
    fn beats_and_protection_keep_an_item_from_being_taken_for_hung() {
        let clock = Arc::new(ManualClock::default());
        let lane_desk = LaneDesk::<Number>::new(LaneId(0), clock.clone());
        let seized = || lane_desk.seize_if_hung(clock.now(), LIMIT).map(|seized| seized.claim.duty);
        let desk = lane_desk.present_owner();
        desk.lay_out(vec![Number(1)]);
        clock.advance(LONGER);
        assert_eq!(seized(), None, "nothing is at hand yet");

        assert!(desk.take().is_some());
        clock.advance(LONGER);
        assert_eq!(seized(), None, "silence counts from this look on");
        clock.advance(LIMIT);
        assert_eq!(seized(), None, "at the limit is within it");
        desk.beat();
        clock.advance(LIMIT);
        assert_eq!(seized(), None);
        let waiting_for_others = desk.protect();
        clock.advance(LONGER);
        assert_eq!(seized(), None);
        drop(waiting_for_others);
        assert_eq!(seized(), None, "silence counts from this look on");
        clock.advance(LONGER);
        assert_eq!(seized(), Some(1));
    }

    #[test]
    fn a_thread_that_lost_its_desk_cannot_touch_what_its_successor_does() {
        let clock = Arc::new(ManualClock::default());
        let lane_desk = LaneDesk::<Number>::new(LaneId(0), clock.clone());
        let old = lane_desk.present_owner();
        old.lay_out(vec![Number(1), Number(2)]);
        assert!(old.take().is_some());
        let seized = || lane_desk.seize_if_hung(clock.now(), LIMIT).map(|seized| seized.claim.duty);
        assert_eq!(seized(), None, "the first look starts the clock");
        clock.advance(LONGER);
        assert_eq!(seized(), Some(1));

        let new = lane_desk.present_owner();
        assert_eq!(new.take().map(|item| item.0), Some(2));
        assert!(!old.is_mine() && new.is_mine());
        old.lay_out(vec![Number(3)]);
        assert!(old.take().is_none());
        assert_eq!(old.finish(), None, "not its successor's item either");
        assert!(old.origin().is_none());
        assert_eq!(seized(), None);
        clock.advance(LONGER);
        old.beat();
        assert_eq!(seized(), Some(2), "a beat of the old thread is not seen");
        assert_eq!(new.finish(), None, "an item has one claim");
    }

    #[test]
    fn an_origin_is_that_of_the_item_at_hand_and_goes_with_the_batch() {
        let lane_desk = LaneDesk::<Number>::new(LaneId(0), Arc::new(ManualClock::default()));
        let desk = lane_desk.present_owner();
        desk.lay_out([11, 12, 21].map(Number).into());
        assert!(desk.origin().is_none(), "nothing is at hand yet");
        assert!(desk.take().is_some());
        let first = desk.origin().unwrap();
        assert_eq!((*first, desk.finish()), (1, Some(11)));
        assert!(desk.origin().is_none() && desk.give_up().is_none(), "it was finished");

        assert!(desk.take().is_some());
        let claim = desk.give_up().unwrap();
        assert!(Arc::ptr_eq(&claim.origin, &first), "what two items share is made once");
        assert_eq!(claim.duty, 12);
        assert!(desk.take().is_some());
        assert_eq!(desk.give_up().map(|claim| (claim.duty, *claim.origin)), Some((21, 2)));

        drop(claim);
        assert!(desk.take().is_none());
        assert_eq!(Arc::strong_count(&first), 1, "the desk keeps nothing after the batch");
    }
}
