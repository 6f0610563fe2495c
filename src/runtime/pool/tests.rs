//! Responsible for: conservation, order and endings of pools, with real threads under a clock that
//! moves when it is told to.
//! Not responsible for: the rules of the desk (`desk`), heartbeats (`runtime::heartbeat`) and
//! queues (`runtime::inbox`).

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex};
use std::thread;

use super::*;
use crate::runtime::clock::{Clock, ManualClock, SystemClock};

const LIMIT: Duration = Duration::from_secs(10);
const LONGER: Duration = Duration::from_secs(11);
const MINUTE: Duration = Duration::from_secs(60);

/// How an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Worked,
    Panicked,
    Hung,
    Abandoned,
}

/// What happened to all items, and to the threads that worked on them.
#[derive(Default)]
struct Ledger {
    ends: Mutex<Vec<(u32, End)>>,
    /// Threads that are, or were, stuck.
    stuck: AtomicUsize,
    /// Threads that came back to find that their item had been settled.
    late: AtomicUsize,
    flushes: AtomicUsize,
    /// Set to let stuck threads go on.
    open: Mutex<bool>,
    opened: Condvar,
}

impl Ledger {
    fn ends(&self) -> Vec<(u32, End)> {
        self.ends.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.ends.lock().unwrap().len()
    }

    fn with(&self, end: End) -> Vec<u32> {
        let mut ids: Vec<_> =
            self.ends().into_iter().filter(|(_, how)| *how == end).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    fn get_stuck(&self) {
        self.stuck.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn release(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// The right to say how an item ended; nothing said means abandoned.
struct Ticket {
    id: u32,
    end: End,
    ledger: Arc<Ledger>,
}

impl Ticket {
    fn settle(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ledger.ends.lock().unwrap().push((self.id, self.end));
    }
}

#[derive(Clone, Copy)]
enum Deed {
    Work,
    Panic,
    GetStuck,
    /// Works, and makes the end of the batch panic.
    SpoilTheEnd,
    /// Returns without asking for the claim.
    Forget,
}

struct Job {
    deed: Deed,
    ticket: Option<Ticket>,
}

impl Claimable for Job {
    type Duty = Option<Ticket>;
    type Origin = ();

    fn duty(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    fn origin(&self) {}
}

struct Clerk {
    ledger: Arc<Ledger>,
    spoilt: bool,
}

impl Worker<Job> for Clerk {
    fn item(&mut self, job: Job, desk: &Desk<Job>) {
        match job.deed {
            Deed::Work => {}
            Deed::SpoilTheEnd => self.spoilt = true,
            // Unwinds as a panic does, without the noise of the panic hook.
            Deed::Panic => resume_unwind(Box::new("wanted")),
            Deed::GetStuck => self.ledger.get_stuck(),
            Deed::Forget => return,
        }
        match desk.finish() {
            Some(ticket) => settle(ticket, End::Worked),
            None => {
                self.ledger.late.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn end_of_batch(&mut self, _desk: &Desk<Job>) {
        if self.spoilt {
            resume_unwind(Box::new("wanted"));
        }
        self.ledger.flushes.fetch_add(1, Ordering::SeqCst);
    }
}

fn settle(ticket: Option<Ticket>, end: End) {
    ticket.unwrap().settle(end);
}

struct Fixture {
    pool: Pool<Job>,
    ledger: Arc<Ledger>,
    clock: Arc<ManualClock>,
}

impl Fixture {
    fn new(lanes: usize, max_hung: usize) -> Self {
        let ledger = Arc::new(Ledger::default());
        let for_worker = ledger.clone();
        let worker = Arc::new(move |_: LaneId| -> Box<dyn Worker<Job>> {
            Box::new(Clerk { ledger: for_worker.clone(), spoilt: false })
        });
        Self::with(lanes, max_hung, ledger, worker)
    }

    fn with(
        lanes: usize,
        max_hung: usize,
        ledger: Arc<Ledger>,
        worker: WorkerFactory<Job>,
    ) -> Self {
        let clock = Arc::new(ManualClock::default());
        let pool = Pool::start(PoolSpec {
            name: "test".to_owned(),
            lanes,
            inbox_capacity: 64,
            hang_limit: LIMIT,
            max_hung,
            clock: clock.clone(),
            worker,
            on_panicked: Arc::new(|_, claim: Claim<Job>| settle(claim.duty, End::Panicked)),
            on_hung: Arc::new(|_, claim: Claim<Job>| settle(claim.duty, End::Hung)),
        });
        Self { pool: pool.unwrap(), ledger, clock }
    }

    fn job(&self, id: u32, deed: Deed) -> Job {
        let ticket = Ticket { id, end: End::Abandoned, ledger: self.ledger.clone() };
        Job { deed, ticket: Some(ticket) }
    }

    fn send(&self, lane: usize, jobs: impl IntoIterator<Item = (u32, Deed)>) {
        let batch = jobs.into_iter().map(|(id, deed)| self.job(id, deed)).collect();
        self.pool.address(LaneId(lane)).blocking_send(batch).unwrap();
    }

    /// Lets items hang that are stuck; all others have to be settled already. The first look
    /// finds them, the second one finds them where they were.
    fn check_later(&self) -> Result<(), PoolError> {
        self.pool.check(self.clock.now())?;
        self.clock.advance(LONGER);
        self.pool.check(self.clock.now())
    }

    fn stuck(&self, threads: usize) {
        eventually("threads get stuck", || self.ledger.stuck.load(Ordering::SeqCst) == threads);
    }

    fn settled(&self, items: usize) {
        eventually("items are settled", || self.ledger.count() == items);
    }

    fn drain(&self, limit: Duration) -> Result<(), PoolError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.pool.drain(limit))
    }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.now() < Monotonic(MINUTE), "in time: {what}");
        thread::yield_now();
    }
}

#[test]
fn every_item_is_worked_or_claimed_once_whatever_panics_and_hangs() {
    let fixture = Fixture::new(3, 3);
    let deed = |id| match id {
        13 | 55 | 250 => Deed::Panic,
        27 | 150 | 199 => Deed::GetStuck,
        _ => Deed::Work,
    };
    for lane in 0..3 {
        for batch in 0..10 {
            let first = lane * 100 + batch * 10;
            fixture.send(lane as usize, (first..first + 10).map(|id| (id, deed(id))));
        }
    }
    // What lies before the stuck items of lanes 0 and 1, and all of lane 2.
    fixture.stuck(2);
    fixture.settled(27 + 50 + 100);
    fixture.check_later().unwrap();
    assert_eq!(fixture.ledger.with(End::Hung), [27, 150]);

    // Fresh threads go on, up to the last item of lane 1.
    fixture.stuck(3);
    fixture.settled(299);
    fixture.check_later().unwrap();
    assert_eq!(fixture.ledger.with(End::Hung), [27, 150, 199]);
    assert_eq!((fixture.pool.hung_threads(), fixture.pool.hangs()), (3, 3));

    // What comes back late changes nothing.
    let before = fixture.ledger.ends();
    fixture.ledger.release();
    eventually("hung threads come back", || fixture.pool.hung_threads() == 0);
    fixture.drain(MINUTE).unwrap();
    assert_eq!(fixture.ledger.late.load(Ordering::SeqCst), 3);
    assert_eq!(fixture.ledger.ends(), before);

    assert_eq!(fixture.ledger.with(End::Panicked), [13, 55, 250]);
    assert_eq!(fixture.pool.panics(), 3);
    let mut ids: Vec<u32> = before.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    assert!(fixture.ledger.with(End::Abandoned).is_empty());
}

#[test]
fn a_key_keeps_its_order_across_panics_and_hangs() {
    let fixture = Fixture::new(3, 1);
    let lane_of = |id: u32| fixture.pool.lane_of(Some(&(id % 10).to_be_bytes()));
    let stuck = 503;
    let deed = |id: u32| match id {
        _ if id == stuck => Deed::GetStuck,
        _ if id.is_multiple_of(97) => Deed::Panic,
        _ => Deed::Work,
    };
    let mut by_lane: BTreeMap<LaneId, Vec<(u32, Deed)>> = BTreeMap::new();
    for id in 0..1000 {
        by_lane.entry(lane_of(id)).or_default().push((id, deed(id)));
    }
    for (lane, items) in &by_lane {
        // Small enough for the inbox, so that the test is never held back.
        items.chunks(20).for_each(|batch| fixture.send(lane.index(), batch.iter().copied()));
    }
    fixture.stuck(1);
    let held_up = by_lane[&lane_of(stuck)].iter().filter(|(id, _)| *id >= stuck).count();
    fixture.settled(1000 - held_up);
    fixture.check_later().unwrap();
    fixture.settled(1000);

    let mut by_key: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (id, _) in fixture.ledger.ends() {
        by_key.entry(id % 10).or_default().push(id);
    }
    for (key, ids) in by_key {
        assert!(ids.is_sorted(), "key {key}: {ids:?}");
        assert_eq!(ids.len(), 100);
    }
    fixture.ledger.release();
}

#[test]
fn items_without_a_key_go_where_least_is_to_do() {
    let fixture = Fixture::new(2, 1);
    let all: Vec<usize> = (0..4).map(|_| fixture.pool.lane_of(None).index()).collect();
    assert_eq!(all, [0, 1, 0, 1], "equally busy lanes take turns");
    fixture.send(0, [(0, Deed::GetStuck)]);
    fixture.stuck(1);
    assert!((0..10).all(|_| fixture.pool.lane_of(None).index() == 1));
    fixture.ledger.release();
    fixture.drain(MINUTE).unwrap();
}

#[test]
fn draining_works_everything_off_and_ends_the_threads() {
    let fixture = Fixture::new(2, 1);
    for batch in 0..20 {
        fixture.send(batch % 2, (0..5).map(|item| (batch as u32 * 5 + item, Deed::Work)));
    }
    fixture.drain(MINUTE).unwrap();
    assert_eq!(fixture.ledger.with(End::Worked), (0..100).collect::<Vec<_>>());
    assert_eq!(fixture.ledger.flushes.load(Ordering::SeqCst), 20, "one for each batch");
    assert_eq!(fixture.pool.shared.live(), 0);
    let late = vec![fixture.job(100, Deed::Work)];
    assert!(fixture.pool.address(LaneId(0)).blocking_send(late).is_err());
}

#[test]
fn a_drain_gives_up_at_its_deadline_and_can_be_taken_up_again() {
    let fixture = Fixture::new(2, 1);
    fixture.send(1, [(0, Deed::GetStuck), (1, Deed::Work)]);
    fixture.stuck(1);
    let error = fixture.drain(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, PoolError::NotDrained { .. }), "{error}");
    fixture.ledger.release();
    fixture.drain(MINUTE).unwrap();
    assert_eq!(fixture.ledger.with(End::Worked), [0, 1]);
}

#[test]
fn a_stop_finishes_the_item_at_hand_and_abandons_the_rest() {
    let fixture = Fixture::new(1, 1);
    fixture.send(0, [(0, Deed::GetStuck), (1, Deed::Work)]);
    fixture.send(0, [(2, Deed::Work)]);
    fixture.stuck(1);
    fixture.pool.stop();
    assert_eq!(fixture.ledger.with(End::Abandoned), [1]);
    fixture.ledger.release();
    fixture.drain(MINUTE).unwrap();
    assert_eq!(fixture.ledger.with(End::Worked), [0]);
    assert_eq!(fixture.ledger.with(End::Abandoned), [1, 2]);
}

#[test]
fn more_hung_threads_than_allowed_are_an_error_that_stays() {
    let fixture = Fixture::new(2, 1);
    fixture.send(0, [(0, Deed::GetStuck)]);
    fixture.send(1, [(1, Deed::GetStuck)]);
    fixture.stuck(2);
    let expected = PoolError::TooManyHung { pool: "test".to_owned(), hung: 2, limit: 1 };
    assert_eq!(fixture.check_later(), Err(expected.clone()));
    assert_eq!(fixture.ledger.with(End::Hung), [0, 1], "their items are settled all the same");
    fixture.ledger.release();
    eventually("hung threads come back", || fixture.pool.hung_threads() == 0);
    assert_eq!(fixture.pool.error(), Some(expected.clone()));
    assert_eq!(fixture.drain(MINUTE), Err(expected));
}

#[test]
fn a_panic_at_the_end_of_a_batch_costs_the_worker_and_not_the_lane() {
    let fixture = Fixture::new(1, 1);
    fixture.send(0, [(0, Deed::SpoilTheEnd)]);
    fixture.send(0, [(1, Deed::Work)]);
    fixture.drain(MINUTE).unwrap();
    assert_eq!(fixture.ledger.with(End::Worked), [0, 1]);
    assert_eq!(fixture.pool.panics(), 1);
}

#[test]
fn an_item_that_its_worker_forgets_is_abandoned() {
    let fixture = Fixture::new(1, 1);
    fixture.send(0, [(0, Deed::Forget), (1, Deed::Work), (2, Deed::Forget)]);
    fixture.drain(MINUTE).unwrap();
    let ends = fixture.ledger.ends();
    assert_eq!(ends, [(0, End::Abandoned), (1, End::Worked), (2, End::Abandoned)]);
}

#[test]
fn a_lane_without_a_worker_does_not_die_in_silence() {
    let ledger = Arc::new(Ledger::default());
    let worker =
        Arc::new(|_: LaneId| -> Box<dyn Worker<Job>> { resume_unwind(Box::new("wanted")) });
    let fixture = Fixture::with(1, 1, ledger, worker);
    let expected = PoolError::LaneDied { pool: "test".to_owned(), lane: LaneId(0) };
    eventually("the death is seen", || fixture.pool.error() == Some(expected.clone()));
    assert_eq!(fixture.drain(MINUTE), Err(expected));
}

#[test]
fn the_inline_mode_works_a_batch_off_on_the_calling_thread() {
    let ledger = Arc::new(Ledger::default());
    let ticket = |id| Ticket { id, end: End::Abandoned, ledger: ledger.clone() };
    let job = |id| Job { deed: Deed::Work, ticket: Some(ticket(id)) };
    let batch: Vec<Job> = (0..3).map(job).collect();
    let mut clerk = Clerk { ledger: ledger.clone(), spoilt: false };
    work_inline(&mut clerk, batch, Arc::new(ManualClock::default()));
    assert_eq!(ledger.with(End::Worked), [0, 1, 2]);
    assert_eq!(ledger.flushes.load(Ordering::SeqCst), 1);
}
