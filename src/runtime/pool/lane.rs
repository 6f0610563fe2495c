//! One lane: its inbox, its desk, and the thread that works it off.
//!
//! Responsible for: the loop of the thread, a fresh worker after a panic, a fresh thread after a
//! hang, and counting threads.
//! Not responsible for: who may settle an item (`desk`), and which lane an item takes (`pool`).
//!
//! The thread holds the inbox only while it waits for a batch, never while it works: a thread that
//! hangs must not keep its successor from the queue.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use crate::runtime::clock::Monotonic;
use crate::runtime::inbox::{Address, Inbox, inbox};
use crate::runtime::pool::desk::{Claimable, Desk, LaneDesk, Seized};
use crate::runtime::pool::{LaneId, PoolError, PoolSpec, Worker};

/// What the lanes of a pool share.
pub(super) struct Shared<J: Claimable> {
    pub(super) spec: PoolSpec<J>,
    /// Panics of workers.
    pub(super) panics: AtomicU64,
    /// Items that hung.
    pub(super) hangs: AtomicU64,
    /// Threads that lost their desk and have not come back. A thread may come back before it is
    /// counted in, so for a moment this can be below zero.
    hung_threads: AtomicIsize,
    /// Lanes that have a thread.
    live: watch::Sender<usize>,
    /// The first error that cannot be mended.
    error: watch::Sender<Option<PoolError>>,
}

impl<J: Claimable> Shared<J> {
    pub(super) fn new(spec: PoolSpec<J>) -> Self {
        Self {
            spec,
            panics: AtomicU64::new(0),
            hangs: AtomicU64::new(0),
            hung_threads: AtomicIsize::new(0),
            live: watch::Sender::new(0),
            error: watch::Sender::new(None),
        }
    }

    pub(super) fn error(&self) -> Option<PoolError> {
        self.error.borrow().clone()
    }

    pub(super) async fn failed(&self) -> PoolError {
        let mut errors = self.error.subscribe();
        loop {
            if let Some(error) = self.error() {
                return error;
            }
            // `self` holds the sender, so there is always something to wait for.
            let _ = errors.changed().await;
        }
    }

    pub(super) fn hung_threads(&self) -> usize {
        usize::try_from(self.hung_threads.load(Ordering::Acquire)).unwrap_or(0)
    }

    pub(super) fn live(&self) -> usize {
        *self.live.borrow()
    }

    /// Waits until no lane has a thread any more.
    pub(super) async fn all_ended(&self) {
        let mut live = self.live.subscribe();
        let _ = live.wait_for(|live| *live == 0).await;
    }

    fn fail(&self, error: PoolError) {
        tracing::error!(pool = %self.spec.name, %error, "pool cannot go on");
        self.error.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(error);
            }
            is_first
        });
    }

    fn thread_began(&self) {
        self.live.send_modify(|live| *live += 1);
    }

    fn thread_ended(&self) {
        self.live.send_modify(|live| *live = live.saturating_sub(1));
    }
}

/// One lane.
pub(super) struct Lane<J: Claimable> {
    id: LaneId,
    address: Address<Vec<J>>,
    inbox: Inbox<Vec<J>>,
    desk: LaneDesk<J>,
    /// The thread that the desk belongs to. Threads that hang are let go of.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<J: Claimable> Lane<J> {
    pub(super) fn new(id: LaneId, spec: &PoolSpec<J>) -> Self {
        let (address, inbox) = inbox(format!("{}-{id}", spec.name), spec.inbox_capacity);
        let desk = LaneDesk::new(id, spec.clock.clone());
        Self { id, address, inbox, desk, thread: Mutex::default() }
    }

    pub(super) fn address(&self) -> &Address<Vec<J>> {
        &self.address
    }

    /// Batches that wait or are being worked on.
    pub(super) fn load(&self) -> usize {
        self.address.len() + usize::from(self.desk.is_busy())
    }

    /// Starts the first thread.
    pub(super) fn start(self: &Arc<Self>, shared: &Arc<Shared<J>>) -> Result<(), PoolError> {
        shared.thread_began();
        self.spawn(shared, false).inspect_err(|_| shared.thread_ended())
    }

    /// Replaces the thread if its item hangs.
    pub(super) fn check(self: &Arc<Self>, shared: &Arc<Shared<J>>, now: Monotonic) {
        let hung = self.desk.seize_if_hung(now, shared.spec.hang_limit);
        let Some(Seized { claim, silent }) = hung else { return };
        shared.hangs.fetch_add(1, Ordering::Relaxed);
        let hung_threads = shared.hung_threads.fetch_add(1, Ordering::AcqRel) + 1;
        let (pool, lane) = (&shared.spec.name, self.id);
        tracing::warn!(%pool, %lane, ?silent, hung_threads, "item hangs, its thread is replaced");
        // Settled before the next thread begins, so that outcomes keep the order of the lane.
        let settled = catch_unwind(AssertUnwindSafe(|| (shared.spec.on_hung)(lane, claim)));
        let replaced = match settled {
            Ok(()) => self.replace(shared, usize::try_from(hung_threads).unwrap_or(0)),
            Err(_) => Err(PoolError::LaneDied { pool: pool.clone(), lane }),
        };
        if let Err(error) = replaced {
            shared.fail(error);
            shared.thread_ended();
        }
    }

    /// Takes no more batches.
    pub(super) fn close(&self) {
        self.inbox.close();
    }

    /// Ends after the item at hand.
    pub(super) fn stop(&self) {
        self.desk.stop();
        self.inbox.close();
    }

    /// Waits for the thread.
    pub(super) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics were caught and counted inside.
            let _ = thread.join();
        }
    }

    fn replace(self: &Arc<Self>, shared: &Arc<Shared<J>>, hung: usize) -> Result<(), PoolError> {
        let limit = shared.spec.max_hung;
        if hung > limit {
            return Err(PoolError::TooManyHung { pool: shared.spec.name.clone(), hung, limit });
        }
        self.spawn(shared, true)
    }

    /// Starts a thread that the desk belongs to. `taken_over`: there was another one before, which
    /// may have left a batch behind.
    fn spawn(self: &Arc<Self>, shared: &Arc<Shared<J>>, taken_over: bool) -> Result<(), PoolError> {
        let (lane, crew, desk) = (self.clone(), shared.clone(), self.desk.present_owner());
        // A zero byte in a thread's name would be a panic.
        let name = self.address.name().replace('\0', "");
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || lane.run(&crew, &desk, taken_over))
            .map_err(|error: io::Error| PoolError::NoThread {
                pool: shared.spec.name.clone(),
                lane: self.id,
                why: error.to_string(),
            })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// The whole life of a thread.
    fn run(&self, shared: &Shared<J>, desk: &Desk<J>, taken_over: bool) {
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(shared, desk, taken_over)));
        let (pool, lane) = (&shared.spec.name, self.id);
        if !desk.is_mine() {
            shared.hung_threads.fetch_sub(1, Ordering::AcqRel);
            tracing::info!(%pool, %lane, "hung thread came back and has ended");
            return;
        }
        if worked.is_err() {
            shared.fail(PoolError::LaneDied { pool: pool.clone(), lane });
        }
        shared.thread_ended();
    }

    fn work(&self, shared: &Shared<J>, desk: &Desk<J>, taken_over: bool) {
        let mut worker = (shared.spec.worker)(self.id);
        let mut batch_is_open = taken_over;
        loop {
            if batch_is_open && !self.work_off(shared, desk, &mut worker) {
                return;
            }
            let Some(batch) = self.inbox.blocking_recv() else { return };
            desk.lay_out(batch);
            batch_is_open = true;
        }
    }

    /// Works off what lies on the desk; false if the desk is no longer this thread's.
    fn work_off(
        &self,
        shared: &Shared<J>,
        desk: &Desk<J>,
        worker: &mut Box<dyn Worker<J>>,
    ) -> bool {
        loop {
            let mut at_end = false;
            // After a panic the worker is thrown away, so nobody sees its broken invariants.
            let worked = catch_unwind(AssertUnwindSafe(|| {
                while let Some(item) = desk.take() {
                    worker.item(item, desk);
                }
                at_end = true;
                if desk.is_mine() {
                    worker.end_of_batch(desk);
                }
            }));
            if !desk.is_mine() {
                return false;
            }
            if worked.is_err() {
                self.replace_worker(shared, desk, worker);
            }
            // A panic at the end is not tried again: it might go on for ever.
            if at_end {
                desk.tidy();
                return true;
            }
        }
    }

    /// The worker panicked: settles the item at hand and builds a new one.
    fn replace_worker(&self, shared: &Shared<J>, desk: &Desk<J>, worker: &mut Box<dyn Worker<J>>) {
        shared.panics.fetch_add(1, Ordering::Relaxed);
        let (pool, lane) = (&shared.spec.name, self.id);
        tracing::error!(%pool, %lane, "worker panicked and is replaced");
        if let Some(claim) = desk.give_up() {
            (shared.spec.on_panicked)(self.id, claim);
        }
        let broken = mem::replace(worker, (shared.spec.worker)(self.id));
        // In whatever state it is, its drop must not take the lane along.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(broken)));
    }
}
