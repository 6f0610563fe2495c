//! What waits to be announced.
//!
//! Responsible for: waking the announcer, and remembering what it is to do, in bounded memory
//! however long the broker is away: a few ids by name, the rest as "look into the folder".
//! Not responsible for: the announcements themselves, which lie in the spool.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// Ids that are remembered by name.
pub(super) const MOST_IDS: usize = 1024;
/// Ids that are handed out at once.
pub(super) const BATCH: usize = 64;

/// What the announcer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Announces these, oldest first.
    Ids(BTreeSet<Uuid>),
    /// Looks into the folder for what is not remembered by name.
    Scan,
}

#[derive(Debug)]
struct Waiting {
    ids: BTreeSet<Uuid>,
    /// Whether the folder may hold more than `ids`.
    more: bool,
}

/// Merges what waits; one announcer takes it.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Default for Backlog {
    /// Nothing is known of the folder yet, so it has to be looked into.
    fn default() -> Self {
        let waiting = Waiting { ids: BTreeSet::new(), more: true };
        Self { waiting: Mutex::new(waiting), changed: Notify::new() }
    }
}

impl Backlog {
    /// A payload is to be announced.
    pub(super) fn add(&self, id: Uuid) {
        self.refill(BTreeSet::from([id]), false);
    }

    /// These are to be announced, and `more` may lie in the folder.
    pub(super) fn refill(&self, ids: BTreeSet<Uuid>, more: bool) {
        let mut waiting = self.lock();
        waiting.more |= more;
        waiting.ids.extend(ids);
        while waiting.ids.len() > MOST_IDS {
            waiting.ids.pop_last();
            waiting.more = true;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for something to do.
    pub(super) async fn next(&self) -> Work {
        loop {
            if let Some(work) = self.take() {
                return work;
            }
            // A change between the look and this is kept for it.
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Work> {
        let mut waiting = self.lock();
        if waiting.ids.is_empty() {
            return std::mem::take(&mut waiting.more).then_some(Work::Scan);
        }
        let rest = waiting.ids.iter().nth(BATCH).copied();
        let rest = rest.map(|first| waiting.ids.split_off(&first)).unwrap_or_default();
        Some(Work::Ids(std::mem::replace(&mut waiting.ids, rest)))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ids(numbers: std::ops::Range<usize>) -> BTreeSet<Uuid> {
        numbers.map(|number| Uuid::from_u128(number as u128)).collect()
    }

    #[test]
    fn a_fresh_backlog_looks_into_the_folder_once() {
        let backlog = Backlog::default();
        assert_eq!(backlog.next().now_or_never(), Some(Work::Scan));
        assert_eq!(backlog.next().now_or_never(), None);
    }

    #[test]
    fn ids_merge_and_come_in_batches_oldest_first() {
        let backlog = Backlog::default();
        backlog.refill(ids(0..BATCH + 2), false);
        backlog.add(Uuid::from_u128(1));
        assert_eq!(backlog.next().now_or_never(), Some(Work::Ids(ids(0..BATCH))));
        assert_eq!(backlog.next().now_or_never(), Some(Work::Ids(ids(BATCH..BATCH + 2))));
        assert_eq!(backlog.next().now_or_never(), Some(Work::Scan));
        assert_eq!(backlog.next().now_or_never(), None);
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_folder() {
        let backlog = Backlog::default();
        assert_eq!(backlog.next().now_or_never(), Some(Work::Scan));
        backlog.refill(ids(0..MOST_IDS + 1), false);
        let mut taken = BTreeSet::new();
        for _ in 0..MOST_IDS / BATCH {
            let Some(Work::Ids(batch)) = backlog.take() else { panic!("nothing more") };
            taken.extend(batch);
        }
        assert_eq!(taken, ids(0..MOST_IDS));
        assert_eq!(backlog.take(), Some(Work::Scan));
    }

    #[tokio::test]
    async fn an_addition_wakes_the_announcer() {
        let backlog = Backlog::default();
        assert_eq!(backlog.next().await, Work::Scan);
        let mut next = Box::pin(backlog.next());
        assert_eq!((&mut next).now_or_never(), None);
        backlog.add(Uuid::from_u128(7));
        assert_eq!(next.await, Work::Ids(ids(7..8)));
    }
}
