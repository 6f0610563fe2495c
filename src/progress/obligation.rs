//! Obligations: the duty to settle a record, as a value that cannot be forgotten.
//!
//! Responsible for: counting the open parts of each record, folding their outcomes (the worst
//! wins), telling whoever opened the scope when it is closed, and turning a dropped part into
//! *abandoned*.
//! Not responsible for: offsets (`tracker`) or what a closed scope leads to (its [`OnClose`]).
//!
//! A source opens one [`Scope`] per batch and lane with one slot per record, so there is no
//! allocation per record. Fan-out forks a part; a manifest member or a receipt nests a scope of its own under a
//! part. The idea of acknowledgement as a value with `Drop` is Vector's "finalizers"; slots, the
//! order of outcomes and nesting are ours.
//!
//! ```
//! use tidemill::model::Outcome;
//! use tidemill::progress::obligation::Scope;
//!
//! let (scope, mut duties) = Scope::open(1);
//! let first = duties.pop().unwrap();
//! let second = first.fork();
//! first.settle(Outcome::Delivered);
//! assert_eq!(scope.outcome(0), None, "one part is still open");
//! second.settle(Outcome::DeadLettered);
//! assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered), "the worst part wins");
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::event::MemberFacts;
use crate::model::{Outcome, Tally};

/// Bits of a slot that hold the worst outcome so far; the rest counts open parts.
const OUTCOME_BITS: u32 = 2;
const ONE_PART: u32 = 1 << OUTCOME_BITS;
const OUTCOME_MASK: u32 = ONE_PART - 1;
/// One open part, and no outcome worse than the best yet.
const FRESH: u32 = ONE_PART | Outcome::Filtered as u32;

/// Folds the outcome of one part into the state of its slot; pure, so that it can be tested as a
/// table. The part count goes down by one.
fn fold(state: u32, outcome: Outcome) -> u32 {
    let worst = (state & OUTCOME_MASK).min(outcome as u32);
    ((state >> OUTCOME_BITS) - 1) << OUTCOME_BITS | worst
}

/// The outcome of a slot, once no part of it is open.
fn closed(state: u32) -> Option<Outcome> {
    if state >= ONE_PART {
        return None;
    }
    Some(match state {
        0 => Outcome::Abandoned,
        1 => Outcome::DeadLettered,
        2 => Outcome::Delivered,
        _ => Outcome::Filtered,
    })
}

/// What happens when all slots of a scope are closed. Called once, on the thread that settled the
/// last part: it must not block, so it hands over to an actor.
pub trait OnClose: Send + Sync {
    /// The nested scope closed with `outcome` and what its parts noted; `parent` is the part of
    /// the outer scope that has to be settled in turn.
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, facts: MemberFacts);
}

/// Called when the last slot of a source's scope closes, so that the source looks at it again.
pub trait Wake: Send + Sync {
    /// The scope is closed. Cheap, and never blocks.
    fn wake(&self);
}

/// Wakes when all of several scopes are closed, for records that are looked at together.
pub struct WakeTogether {
    open: AtomicUsize,
    wake: Arc<dyn Wake>,
}

impl WakeTogether {
    /// Calls `wake` once it was woken itself by `scopes` scopes.
    pub fn new(scopes: usize, wake: Arc<dyn Wake>) -> Self {
        Self { open: AtomicUsize::new(scopes), wake }
    }
}

impl Wake for WakeTogether {
    fn wake(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake.wake();
        }
    }
}

/// The slots of records that were handed out together.
pub struct Scope {
    slots: Box<[AtomicU32]>,
    open: AtomicUsize,
    wake: Option<Arc<dyn Wake>>,
    nested: Option<Mutex<Nested>>,
}

/// What a nested scope holds until it closes.
struct Nested {
    parent: Option<Obligation>,
    on_close: Option<Box<dyn OnClose>>,
    facts: MemberFacts,
    /// Whether notes stay here or belong to an outer scope.
    collects: bool,
}

impl Scope {
    /// Opens a scope with `count` slots; returns the duty of each, in slot order.
    pub fn open(count: u32) -> (Arc<Self>, Vec<Obligation>) {
        Self::open_with(count, None)
    }

    /// Opens a scope that calls `wake` when its last slot closes.
    pub fn open_waking(count: u32, wake: Arc<dyn Wake>) -> (Arc<Self>, Vec<Obligation>) {
        Self::open_with(count, Some(wake))
    }

    fn open_with(count: u32, wake: Option<Arc<dyn Wake>>) -> (Arc<Self>, Vec<Obligation>) {
        let scope = Arc::new(Self {
            slots: (0..count).map(|_| AtomicU32::new(FRESH)).collect(),
            open: AtomicUsize::new(count as usize),
            wake,
            nested: None,
        });
        let duties =
            (0..count).map(|slot| Obligation { scope: Some(scope.clone()), slot }).collect();
        (scope, duties)
    }

    /// The outcome of a slot, or `None` while a part of it is in flight.
    pub fn outcome(&self, slot: u32) -> Option<Outcome> {
        closed(self.slots[slot as usize].load(Ordering::Acquire))
    }

    /// How those slots ended that are closed.
    pub fn tally(&self) -> Tally {
        self.slots.iter().filter_map(|slot| closed(slot.load(Ordering::Acquire))).collect()
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it was opened without slots.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether every slot has its outcome.
    pub fn is_closed(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    fn fork(&self, slot: u32) {
        self.slots[slot as usize].fetch_add(ONE_PART, Ordering::Relaxed);
    }

    fn settle(&self, slot: u32, outcome: Outcome) {
        let state = &self.slots[slot as usize];
        let mut before = state.load(Ordering::Acquire);
        let after = loop {
            let after = fold(before, outcome);
            match state.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break after,
                Err(now) => before = now,
            }
        };
        if closed(after).is_none() {
            return;
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if let Some(wake) = &self.wake {
            wake.wake();
        }
        if let Some(nested) = &self.nested {
            self.close_nested(nested);
        }
    }

    fn close_nested(&self, nested: &Mutex<Nested>) {
        let (parent, on_close, facts) = {
            let mut nested = nested.lock().unwrap_or_else(PoisonError::into_inner);
            (nested.parent.take(), nested.on_close.take(), std::mem::take(&mut nested.facts))
        };
        let worst = (0..self.slots.len() as u32).filter_map(|slot| self.outcome(slot)).min();
        let (Some(parent), Some(on_close)) = (parent, on_close) else { return };
        match worst {
            // Not an outcome to the world: nobody above hears more than that.
            Some(Outcome::Abandoned) | None => drop(parent),
            Some(outcome) => on_close.close(parent, outcome, facts),
        }
    }

    fn note(&self, facts: MemberFacts) {
        let Some(nested) = &self.nested else { return };
        let mut nested = nested.lock().unwrap_or_else(PoisonError::into_inner);
        if nested.collects {
            nested.facts.merge(facts);
        } else if let Some(parent) = &nested.parent {
            parent.note(facts);
        }
    }
}

/// The duty to settle one part of one record. Dropped unsettled, it is *abandoned*.
pub struct Obligation {
    /// `None` once settled, so that `Drop` has nothing left to do.
    scope: Option<Arc<Scope>>,
    slot: u32,
}

impl Obligation {
    /// A duty towards nobody: for tools and tests that run nodes without a source.
    pub fn detached() -> Self {
        Self { scope: None, slot: 0 }
    }

    /// A further part of the same record: both have to be settled, the worse outcome wins.
    #[must_use]
    pub fn fork(&self) -> Self {
        if let Some(scope) = &self.scope {
            scope.fork(self.slot);
        }
        Self { scope: self.scope.clone(), slot: self.slot }
    }

    /// Puts a scope of its own under this part: once everything below has settled, `on_close`
    /// gets this part back together with the outcome. With `collects`, notes made below stay in
    /// this scope (a member); otherwise they go further up (a receipt).
    #[must_use]
    pub fn nest(self, on_close: Box<dyn OnClose>, collects: bool) -> Self {
        let scope = Arc::new(Scope {
            slots: Box::new([AtomicU32::new(FRESH)]),
            open: AtomicUsize::new(1),
            wake: None,
            nested: Some(Mutex::new(Nested {
                parent: Some(self),
                on_close: Some(on_close),
                facts: MemberFacts::default(),
                collects,
            })),
        });
        Self { scope: Some(scope), slot: 0 }
    }

    /// Leaves facts with the nearest member above.
    pub fn note(&self, facts: MemberFacts) {
        if let Some(scope) = &self.scope {
            scope.note(facts);
        }
    }

    /// This part has its outcome.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(scope) = self.scope.take() {
            scope.settle(self.slot, outcome);
        }
    }
}

impl Drop for Obligation {
    fn drop(&mut self) {
        if let Some(scope) = self.scope.take() {
            scope.settle(self.slot, Outcome::Abandoned);
        }
    }
}

impl fmt::Debug for Obligation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Obligation").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Something that is owed an outcome: a record on its way, together with its duty.
#[derive(Debug)]
pub struct Owed<T> {
    /// The thing itself.
    pub value: T,
    /// The duty to settle it.
    pub duty: Obligation,
}

impl<T> Owed<T> {
    /// Ties `duty` to `value`.
    pub fn new(value: T, duty: Obligation) -> Self {
        Self { value, duty }
    }
}

#[cfg(test)]
mod tests;
