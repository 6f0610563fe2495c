//! How many bytes of disk may be in use.
//!
//! Responsible for: reserving bytes before a file is written, in order of arrival, from tasks and
//! from threads, and taking back what was not used.
//! Not responsible for: measuring the disk. A disk that is fuller than the budget assumes shows up
//! as [`SpoolError::DiskFull`](crate::spool::SpoolError::DiskFull).

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per unit of the semaphore, which counts in `u32`: budgets reach 4 TiB.
const UNIT: u64 = 1024;

/// How often a blocked thread says that it is alive.
const TICK: Duration = Duration::from_millis(100);

/// Bytes of disk that may be in use at once, rounded up to KiB. Cheap to clone: all clones share
/// one budget. Waiters are served in order, so a large reservation is not starved by small ones.
#[derive(Clone, Debug)]
pub struct DiskBudget {
    units: Arc<Semaphore>,
    total: u32,
}

impl DiskBudget {
    /// A budget of `bytes`, at most 4 TiB.
    pub fn new(bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let total = units(bytes).min(most);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Bytes that it spreads over its permits.
    pub fn total(&self) -> u64 {
        u64::from(self.total) * UNIT
    }

    /// Bytes that nobody holds.
    pub fn free(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget is cut down to it:
    /// the permit says how much it covers, and a file that outgrows that is too large.
    pub async fn reserve(&self, bytes: u64) -> DiskPermit {
        let bytes = bytes.min(self.total());
        match self.units.clone().acquire_many_owned(units(bytes)).await {
            Ok(held) => DiskPermit { held, bytes },
            Err(_closed) => unreachable!("nobody can close the semaphore of a disk budget"),
        }
    }

    /// As [`DiskBudget::reserve`], for threads that belong to no runtime. While it waits it calls
    /// `waiting` about ten times a second and gives up, with `None`, when that says false.
    pub fn reserve_blocking(
        &self,
        bytes: u64,
        waiting: &mut dyn FnMut() -> bool,
    ) -> Option<DiskPermit> {
        let mut reserving = pin!(self.reserve(bytes));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(permit) = reserving.as_mut().poll(&mut context) {
                return Some(permit);
            }
            if !waiting() {
                return None;
            }
            thread::park_timeout(TICK);
        }
    }
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Units that cover `bytes`.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Bytes of a [`DiskBudget`], given back when it is dropped. It lives in the lease of the file
/// that was written under it.
#[derive(Debug)]
pub struct DiskPermit {
    held: OwnedSemaphorePermit,
    bytes: u64,
}

impl DiskPermit {
    /// Bytes that may be written under it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what is above `bytes`; a permit never grows.
    pub fn shrink(&mut self, bytes: u64) {
        self.bytes = self.bytes.min(bytes);
        let surplus = self.held.num_permits().saturating_sub(units(self.bytes) as usize);
        drop(self.held.split(surplus));
    }
}
