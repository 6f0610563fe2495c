//! Worker threads with lanes.
//!
//! Responsible for: one thread per lane that works off batches from the lane's bounded inbox, in
//! order (I8); replacing workers that panic and threads that hang; giving each item to the worker,
//! or its claim to somebody else, never both (I7).
//! Not responsible for: what the work is, failures of single records (the worker catches those
//! itself), or asking for the hang check at the right time.
//!
//! ```text
//! Address ─▶ [ bounded inbox ] ─▶ desk: rest of the batch ──▶ worker, on the lane's thread
//!                                       duty of the item at hand ◀─── worker, panic or check
//! ```
//!
//! The batch that is worked on lies on a shared desk, not on the thread's stack. When an item
//! hangs, [`Pool::check`] takes the item's claim from the desk and gives the desk and the inbox to
//! a fresh thread. The old one cannot be killed. When it comes back it finds that the desk is no
//! longer its own: [`Desk::finish`] gives it nothing, and it ends without touching anything.
//!
//! A worker that holds back output until the end of a batch takes it along when it hangs: what it
//! holds is dropped when the thread comes back. If the work before a hung item is not to wait for
//! that, such output has to lie where the next worker of the lane finds it; that one is told of the
//! end of the batch even if nothing was left to do.

mod desk;
mod lane;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use self::desk::{Claim, Claimable, Desk};
use self::lane::{Lane, Shared};
use crate::runtime::clock::{Monotonic, SharedClock};
use crate::runtime::inbox::Address;

/// One lane of a pool: a thread, its inbox and its desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(usize);

impl LaneId {
    /// Number of the lane, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Does the work of a lane. Built on the lane's thread, and again after each panic or hang.
pub trait Worker<J: Claimable>: Send {
    /// Works on one item. Before anything of it becomes visible outside, and in any case before
    /// returning, it has to call [`Desk::finish`]: with the duty it may go on; without one the
    /// item has been settled by somebody else, and everything made from it has to be dropped.
    ///
    /// During long work it calls [`Desk::beat`] now and then, and [`Desk::protect`] around waiting
    /// for others.
    fn item(&mut self, item: J, desk: &Desk<J>);

    /// The batch is at its end: hands on what was held back. May block while whoever takes it is
    /// full; that is never taken for a hang.
    fn end_of_batch(&mut self, desk: &Desk<J>);
}

/// Builds the worker of a lane.
pub type WorkerFactory<J> = Arc<dyn Fn(LaneId) -> Box<dyn Worker<J>> + Send + Sync>;

/// Takes the claim of an item that no worker will settle. Must not block, and not panic.
pub type OnClaim<J> = Arc<dyn Fn(LaneId, Claim<J>) + Send + Sync>;

/// What a pool needs to know.
pub struct PoolSpec<J: Claimable> {
    /// Name for threads, logs and errors.
    pub name: String,
    /// Number of lanes, each with a thread of its own; at least one.
    pub lanes: usize,
    /// Batches that may wait in the inbox of a lane; at least one.
    pub inbox_capacity: usize,
    /// How long an item may go without a beat, from the first [`Pool::check`] that finds it.
    pub hang_limit: Duration,
    /// Hung threads that are put up with at the same time.
    pub max_hung: usize,
    /// Time.
    pub clock: SharedClock,
    /// Builds workers.
    pub worker: WorkerFactory<J>,
    /// Gets the claim of an item whose worker panicked, on the lane's thread.
    pub on_panicked: OnClaim<J>,
    /// Gets the claim of an item that hung, on the thread that called [`Pool::check`].
    pub on_hung: OnClaim<J>,
}

/// What a pool cannot mend by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// So many threads hang that the process has to be given up.
    #[error(
        "{hung} threads of pool {pool} hang, at most {limit} may: find out what they wait for in \
         the logs of the records they hung on, and restart the process"
    )]
    TooManyHung {
        /// The pool.
        pool: String,
        /// Threads that hang now.
        hung: usize,
        /// Threads that may.
        limit: usize,
    },
    /// The operating system gave no thread.
    #[error("lane {lane} of pool {pool} got no thread: {why}")]
    NoThread {
        /// The pool.
        pool: String,
        /// The lane.
        lane: LaneId,
        /// The words of the operating system.
        why: String,
    },
    /// A worker could not be built, or a claim could not be handed over: either panicked.
    #[error("lane {lane} of pool {pool} died: the panic before this in the logs says why")]
    LaneDied {
        /// The pool.
        pool: String,
        /// The lane.
        lane: LaneId,
    },
    /// Work was left when the time for draining was over.
    #[error("{lanes} lanes of pool {pool} were still busy when the drain deadline passed")]
    NotDrained {
        /// The pool.
        pool: String,
        /// Lanes with work left.
        lanes: usize,
    },
}

/// Worker threads, one per lane. Dropping it stops it, without waiting for the threads.
pub struct Pool<J: Claimable> {
    shared: Arc<Shared<J>>,
    lanes: Vec<Arc<Lane<J>>>,
    /// Keyed per process: nobody outside can aim all keys at one lane.
    hasher: RandomState,
    turn: AtomicUsize,
}

impl<J: Claimable> Pool<J> {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`PoolError::NoThread`]; what was started by then is stopped again.
    pub fn start(spec: PoolSpec<J>) -> Result<Self, PoolError> {
        let lane = |id| Arc::new(Lane::new(LaneId(id), &spec));
        let lanes: Vec<_> = (0..spec.lanes.max(1)).map(lane).collect();
        let shared = Arc::new(Shared::new(spec));
        let pool = Self { shared, lanes, hasher: RandomState::new(), turn: AtomicUsize::new(0) };
        for lane in &pool.lanes {
            lane.start(&pool.shared)?;
        }
        Ok(pool)
    }

    /// The lane of an item: always the same for one key; without a key the one with the least to
    /// do. Items without a key that belong together are best sent as one batch.
    pub fn lane_of(&self, key: Option<&[u8]>) -> LaneId {
        let lanes = self.lanes.len();
        if let Some(key) = key {
            return LaneId((self.hasher.hash_one(key) % lanes as u64) as usize);
        }
        // Beginning somewhere else each time makes equally busy lanes take turns.
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % lanes;
        let in_turn = (first..lanes).chain(0..first);
        LaneId(in_turn.min_by_key(|lane| self.lanes[*lane].load()).unwrap_or(first))
    }

    /// Where batches for a lane are sent to.
    ///
    /// # Panics
    /// If the lane is one of another, larger pool.
    pub fn address(&self, lane: LaneId) -> &Address<Vec<J>> {
        self.lanes[lane.0].address()
    }

    /// The addresses of all lanes, in order.
    pub fn addresses(&self) -> Vec<Address<Vec<J>>> {
        self.lanes.iter().map(|lane| lane.address().clone()).collect()
    }

    /// Looks for items that hang, settles them through `on_hung` and replaces their threads. To be
    /// called several times per hang limit, and to be called on while draining.
    ///
    /// # Errors
    /// The first one that cannot be mended, from then on at each call.
    pub fn check(&self, now: Monotonic) -> Result<(), PoolError> {
        for lane in &self.lanes {
            lane.check(&self.shared, now);
        }
        self.error().map_or(Ok(()), Err)
    }

    /// The first error that cannot be mended, if there was one.
    pub fn error(&self) -> Option<PoolError> {
        self.shared.error()
    }

    /// Waits for the first error that cannot be mended.
    pub async fn failed(&self) -> PoolError {
        self.shared.failed().await
    }

    /// Panics of workers so far.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Items that hung so far.
    pub fn hangs(&self) -> u64 {
        self.shared.hangs.load(Ordering::Relaxed)
    }

    /// Threads that hang now.
    pub fn hung_threads(&self) -> usize {
        self.shared.hung_threads()
    }

    /// Takes no more batches. Those that wait are worked off, then the threads end.
    pub fn close(&self) {
        self.lanes.iter().for_each(|lane| lane.close());
    }

    /// Stops: each lane ends after the item at hand; everything else is dropped, and with it
    /// abandoned.
    pub fn stop(&self) {
        self.lanes.iter().for_each(|lane| lane.stop());
    }

    /// Closes the inboxes and waits until everything in them is worked off and the threads have
    /// ended. Threads that hang are not waited for. Needs a tokio timer.
    ///
    /// # Errors
    /// [`PoolError::NotDrained`] after `limit`, in which case it may be called again; or an error
    /// because of which a lane could not go on.
    pub async fn drain(&self, limit: Duration) -> Result<(), PoolError> {
        self.close();
        let in_time = tokio::time::timeout(limit, self.shared.all_ended()).await.is_ok();
        if let Some(error) = self.error() {
            return Err(error);
        }
        if !in_time {
            let lanes = self.shared.live();
            return Err(PoolError::NotDrained { pool: self.shared.spec.name.clone(), lanes });
        }
        // To be counted out was their last act, so joining them does not block.
        self.lanes.iter().for_each(|lane| lane.join());
        Ok(())
    }
}

impl<J: Claimable> Drop for Pool<J> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Works off one batch on the calling thread, with nobody who would replace the worker: for tests
/// under virtual time, which other threads do not share.
pub fn work_inline<J: Claimable>(worker: &mut dyn Worker<J>, batch: Vec<J>, clock: SharedClock) {
    let desk = desk::LaneDesk::new(LaneId(0), clock).present_owner();
    desk.lay_out(batch);
    while let Some(item) = desk.take() {
        worker.item(item, &desk);
    }
    worker.end_of_batch(&desk);
}

#[cfg(test)]
mod tests;
