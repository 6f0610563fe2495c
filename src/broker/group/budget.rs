//! The bytes that the buffers of all partitions of a source share.
//!
//! Responsible for: counting what buffers hold beyond their own part, by whichever thread fills
//! or empties them, and giving it back with the buffer.
//! Not responsible for: the rule (`progress::buffer_share`), or the marks of a single buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::progress::buffer_share::BufferShare;

/// A total for the buffers of all partitions of a source.
#[derive(Debug)]
pub struct BufferBudget {
    total: usize,
    /// Buffers that there are.
    buffers: AtomicUsize,
    /// What they hold beyond their own parts, together. An own part changes with the number of
    /// buffers; each buffer counts by the new one when it is filled or emptied the next time.
    borrowed: AtomicUsize,
}

impl BufferBudget {
    /// A budget of `total` bytes of keys, values and headers.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, buffers: AtomicUsize::new(0), borrowed: AtomicUsize::new(0) })
    }

    /// The part of one more buffer; it is counted until it is dropped.
    pub(super) fn part(self: &Arc<Self>) -> Part {
        self.buffers.fetch_add(1, Ordering::Relaxed);
        Part { budget: self.clone(), borrowed: 0 }
    }

    fn share(&self) -> BufferShare {
        BufferShare { total: self.total, partitions: self.buffers.load(Ordering::Relaxed) }
    }
}

/// What one buffer has of the budget.
#[derive(Debug)]
pub(super) struct Part {
    budget: Arc<BufferBudget>,
    /// What it is counted with.
    borrowed: usize,
}

impl Part {
    /// The buffer holds `held` bytes now.
    pub(super) fn hold(&mut self, held: usize) {
        let borrowed = self.budget.share().borrowed(held);
        if borrowed == self.borrowed {
            return;
        }
        // Two steps, so that the sum is never short of what is held.
        self.budget.borrowed.fetch_add(borrowed, Ordering::Relaxed);
        self.budget.borrowed.fetch_sub(self.borrowed, Ordering::Relaxed);
        self.borrowed = borrowed;
    }

    /// Whether a buffer that holds `held` bytes has too many, as matters stand.
    pub(super) fn is_full(&self, held: usize) -> bool {
        self.budget.share().is_full(held, self.budget.borrowed.load(Ordering::Relaxed))
    }

    /// Whether a partition that was paused may be resumed.
    pub(super) fn has_room(&self, held: usize) -> bool {
        self.budget.share().has_room(held, self.budget.borrowed.load(Ordering::Relaxed))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.borrowed.fetch_sub(self.borrowed, Ordering::Relaxed);
        self.budget.buffers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_buffer_borrows_another_has_to_do_without() {
        let budget = BufferBudget::new(400);
        let (mut one, mut other) = (budget.part(), budget.part());
        // An own part is 100, and 200 are common.
        one.hold(299);
        assert!(!one.is_full(299) && !other.is_full(101));
        one.hold(300);
        assert!(one.is_full(300));
        other.hold(100);
        assert!(!other.is_full(100), "its own part is its own");
        other.hold(101);
        assert!(other.is_full(101));
        assert!(!other.has_room(101) && other.has_room(50));
    }

    #[test]
    fn a_buffer_that_goes_gives_everything_back() {
        let budget = BufferBudget::new(400);
        let (mut one, other) = (budget.part(), budget.part());
        one.hold(1_000);
        assert!(other.is_full(101));
        drop(one);
        assert_eq!(budget.borrowed.load(Ordering::Relaxed), 0);
        assert!(!other.is_full(200), "half of the total is its own now");
    }

    #[test]
    fn an_own_part_that_shrinks_is_counted_when_the_buffer_is_used_again() {
        let budget = BufferBudget::new(400);
        let mut one = budget.part();
        one.hold(200);
        assert_eq!(budget.borrowed.load(Ordering::Relaxed), 0);
        let _other = budget.part();
        one.hold(190);
        assert_eq!(budget.borrowed.load(Ordering::Relaxed), 90);
    }
}
