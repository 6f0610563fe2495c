//! Responsible for: what survives a restart, when there is none, and how ends are reported, with
//! actors on a real arbiter.
//! Not responsible for: the decision between restart and escalation (`progress::restart`).

use std::panic::resume_unwind;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix::{Arbiter, StreamHandler, System};
use futures_util::FutureExt;

use super::*;
use crate::progress::restart::Backoff;
use crate::runtime::clock::ManualClock;
use crate::runtime::inbox::{Address, Inbox, TrySendError, inbox};

#[derive(Debug, PartialEq)]
enum Order {
    Note(u32),
    Panic,
    Fail,
    Finish,
}

/// Runs a test on one arbiter, and fails it if it hangs.
fn run(test: impl Future<Output = ()>) {
    let in_time = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    System::new().block_on(in_time).unwrap();
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// Does what it is told.
struct Obedient {
    orders: Inbox<Order>,
    /// Orders that it took.
    taken: Arc<AtomicUsize>,
    noted: Arc<Mutex<Vec<u32>>>,
    lifeline: Lifeline,
}

impl Actor for Obedient {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.orders.attach(ctx);
    }
}

impl StreamHandler<Order> for Obedient {
    fn handle(&mut self, order: Order, ctx: &mut Self::Context) {
        self.taken.fetch_add(1, Ordering::SeqCst);
        match order {
            Order::Note(number) => self.noted.lock().unwrap().push(number),
            // Unwinds as a panic does, without the noise of the panic hook.
            Order::Panic => resume_unwind(Box::new("wanted")),
            Order::Fail => {
                self.lifeline.fail("no disk");
                ctx.stop();
            }
            Order::Finish => {
                self.lifeline.finish();
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.lifeline.finish();
        ctx.stop();
    }
}

struct Fixture {
    address: Address<Order>,
    orders: Inbox<Order>,
    taken: Arc<AtomicUsize>,
    noted: Arc<Mutex<Vec<u32>>>,
    built: Arc<AtomicUsize>,
    child: Child,
}

impl Fixture {
    fn noted(&self) -> Vec<u32> {
        self.noted.lock().unwrap().clone()
    }

    fn built(&self) -> usize {
        self.built.load(Ordering::SeqCst)
    }
}

fn policy(max_restarts: u32, backoff: Duration) -> RestartPolicy {
    RestartPolicy {
        max_restarts,
        within: Duration::from_secs(60),
        backoff: Backoff { first: backoff, max: backoff, factor: 1.0 },
    }
}

fn start_on(arbiter: ArbiterHandle, capacity: usize, policy: RestartPolicy) -> Fixture {
    let (address, orders) = inbox("orders", capacity);
    let noted = Arc::new(Mutex::new(Vec::new()));
    let (taken, built) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let child = supervise(ChildSpec {
        name: "obedient".to_owned(),
        policy,
        clock: Arc::new(ManualClock::default()),
        arbiter,
        factory: {
            let (orders, noted) = (orders.clone(), noted.clone());
            let (taken, built) = (taken.clone(), built.clone());
            move |lifeline| {
                built.fetch_add(1, Ordering::SeqCst);
                let (orders, noted, taken) = (orders.clone(), noted.clone(), taken.clone());
                Obedient { orders, taken, noted, lifeline }
            }
        },
    });
    Fixture { address, orders, taken, noted, built, child }
}

/// An actor that is restarted at once.
fn start(capacity: usize, max_restarts: u32) -> Fixture {
    start_on(Arbiter::current(), capacity, policy(max_restarts, Duration::ZERO))
}

async fn send(fixture: &Fixture, orders: impl IntoIterator<Item = Order>) {
    for order in orders {
        fixture.address.send(order).await.unwrap();
    }
}

#[test]
fn messages_behind_a_panic_are_handled_by_the_next_incarnation() {
    run(async {
        let fixture = start(8, 5);
        let orders = [Order::Note(1), Order::Panic, Order::Note(2), Order::Fail, Order::Note(3)];
        send(&fixture, orders).await;
        fixture.orders.close();
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Finished);
        assert_eq!(fixture.noted(), [1, 2, 3]);
        assert_eq!(fixture.built(), 3);
        assert_eq!(fixture.child.restarts(), 2);
        assert_eq!(fixture.child.last_reason().as_deref(), Some("failed: no disk"));
    });
}

#[test]
fn senders_are_held_back_across_restarts_and_see_no_error() {
    const CAPACITY: usize = 2;
    run(async {
        let fixture = start(CAPACITY, 100);
        let mut expected = Vec::new();
        for number in 0..40 {
            let poison = number % 5 == 3;
            let order = if poison { Order::Panic } else { Order::Note(number) };
            fixture.address.send(order).await.unwrap();
            expected.extend((!poison).then_some(number));
            let waiting = number as usize + 1 - fixture.taken.load(Ordering::SeqCst);
            assert!(waiting <= CAPACITY, "{waiting} sent and not taken");
        }
        fixture.orders.close();
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Finished);
        assert_eq!(fixture.noted(), expected);
        assert_eq!(fixture.child.restarts(), 8);
    });
}

#[test]
fn while_nobody_reads_the_queue_fills_and_then_holds_back() {
    run(async {
        let hour = Duration::from_secs(3600);
        let fixture = start_on(Arbiter::current(), 2, policy(5, hour));
        send(&fixture, [Order::Panic]).await;
        until(|| fixture.child.last_reason().is_some()).await;
        send(&fixture, [Order::Note(1), Order::Note(2)]).await;
        assert!(fixture.address.send(Order::Note(3)).now_or_never().is_none());

        // A stop does not wait for the restart that is due in an hour, and leaves the queue be.
        fixture.child.stop();
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Stopped);
        assert_eq!((fixture.built(), fixture.child.restarts()), (1, 0));
        let waiting = fixture.orders.open().await.recv_many(10).await;
        assert_eq!(waiting, [Order::Note(1), Order::Note(2)]);
    });
}

#[test]
fn too_many_deaths_escalate_with_the_last_reason() {
    run(async {
        let fixture = start(8, 2);
        send(&fixture, [Order::Panic, Order::Panic, Order::Fail, Order::Note(1)]).await;
        let end = fixture.child.clone().ended().await;
        let expected = ChildEnd::Escalated {
            name: "obedient".to_owned(),
            reason: "failed: no disk".to_owned(),
            restarts: 2,
        };
        assert_eq!(end, expected);
        assert_eq!(fixture.built(), 3);
        assert!(fixture.noted().is_empty());
        assert_eq!(fixture.address.len(), 1, "what waits is left to whoever comes next");
    });
}

#[test]
fn an_actor_that_has_finished_is_not_restarted() {
    run(async {
        let fixture = start(8, 5);
        send(&fixture, [Order::Note(1), Order::Finish]).await;
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Finished);
        assert_eq!((fixture.built(), fixture.child.restarts()), (1, 0));
        assert_eq!(fixture.child.last_reason(), None);
    });
}

#[test]
fn a_stop_needs_no_room_in_the_inbox() {
    run(async {
        let fixture = start(1, 5);
        fixture.child.stop();
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Stopped);
        // Also the handles that come later hear of it.
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Stopped);
    });
}

#[test]
fn an_actor_without_a_handle_is_stopped() {
    run(async {
        let Fixture { address, orders, child, built, .. } = start(1, 5);
        until(|| built.load(Ordering::SeqCst) == 1).await;
        drop(child);
        // The actor, and with it its factory, let go of the inbox; ours was the last one.
        drop(orders);
        let is_closed = || matches!(address.try_send(Order::Note(1)), Err(TrySendError::Closed(_)));
        until(is_closed).await;
    });
}

#[test]
fn a_factory_that_panics_has_died_too() {
    run(async {
        let mut attempts = 0;
        let child = supervise(ChildSpec {
            name: "late".to_owned(),
            policy: policy(5, Duration::ZERO),
            clock: Arc::new(ManualClock::default()),
            arbiter: Arbiter::current(),
            factory: move |lifeline: Lifeline| {
                attempts += 1;
                if attempts < 3 {
                    resume_unwind(Box::new("wanted"));
                }
                lifeline.finish();
                OneShot { _lifeline: lifeline }
            },
        });
        assert_eq!(child.clone().ended().await, ChildEnd::Finished);
        assert_eq!(child.restarts(), 2);
    });
}

/// Stops as soon as it starts.
struct OneShot {
    _lifeline: Lifeline,
}

impl Actor for OneShot {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[test]
fn deaths_on_another_arbiter_are_seen_and_the_arbiter_goes_on() {
    run(async {
        let arbiter = Arbiter::new();
        let fixture = start_on(arbiter.handle(), 8, policy(5, Duration::ZERO));
        send(&fixture, [Order::Panic, Order::Note(1), Order::Finish]).await;
        assert_eq!(fixture.child.clone().ended().await, ChildEnd::Finished);
        assert_eq!((fixture.noted(), fixture.child.restarts()), (vec![1], 1));
        arbiter.stop();
    });
}

#[test]
fn an_arbiter_that_ends_under_its_actor_does_not_go_unnoticed() {
    run(async {
        let arbiter = Arbiter::new();
        let fixture = start_on(arbiter.handle(), 1, policy(5, Duration::ZERO));
        arbiter.stop();
        let end = fixture.child.clone().ended().await;
        assert!(matches!(end, ChildEnd::Escalated { reason, .. } if reason.contains("arbiter")));
    });
}

#[test]
fn a_group_reports_the_first_escalation_while_the_others_go_on() {
    run(async {
        let (steady, sick) = (start(8, 5), start(8, 0));
        let mut group = Group::new();
        group.add(steady.child.clone());
        group.add(sick.child.clone());

        send(&sick, [Order::Panic]).await;
        assert!(matches!(group.ended().await, GroupEnd::Escalated { restarts: 0, .. }));

        // The other one still works.
        send(&steady, [Order::Note(1)]).await;
        until(|| steady.noted() == [1]).await;
        group.stop();
        assert_eq!(group.ended().await, GroupEnd::AllEnded);
    });
}
