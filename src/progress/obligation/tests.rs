//! Tests of obligations: tables, threads, and random trees against a naive fold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;

use super::{FRESH, ONE_PART, Obligation, OnClose, Scope, Wake, WakeTogether, closed, fold};
use crate::model::event::MemberFacts;
use crate::model::{Outcome, Tally};

const OUTCOMES: [Outcome; 4] =
    [Outcome::Abandoned, Outcome::DeadLettered, Outcome::Delivered, Outcome::Filtered];

/// Calls of `on_close`: which scope, with which outcome and how many noted rows.
type Calls = Arc<Mutex<Vec<(usize, Outcome, u64)>>>;

/// Remembers that its scope closed, and settles the parent likewise.
struct Recorder {
    scope: usize,
    calls: Calls,
}

impl OnClose for Recorder {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, facts: MemberFacts) {
        self.calls.lock().unwrap().push((self.scope, outcome, facts.rows));
        parent.settle(outcome);
    }
}

fn recorder(scope: usize, calls: &Calls) -> Box<Recorder> {
    Box::new(Recorder { scope, calls: calls.clone() })
}

fn taken(calls: &Calls) -> Vec<(usize, Outcome, u64)> {
    let mut calls = std::mem::take(&mut *calls.lock().unwrap());
    calls.sort();
    calls
}

fn rows(rows: u64) -> MemberFacts {
    MemberFacts { rows, ..MemberFacts::default() }
}

fn one() -> (Arc<Scope>, Obligation) {
    let (scope, mut duties) = Scope::open(1);
    (scope, duties.pop().unwrap())
}

#[test]
fn folding_takes_a_part_away_and_keeps_the_worst() {
    for first in OUTCOMES {
        assert_eq!(closed(fold(FRESH, first)), Some(first));
        for second in OUTCOMES {
            let half = fold(FRESH + ONE_PART, first);
            assert_eq!(closed(half), None, "{first} leaves one part open");
            assert_eq!(closed(fold(half, second)), Some(first.min(second)), "{first} {second}");
        }
    }
    assert_eq!(closed(FRESH), None);
}

#[test]
fn of_forked_parts_the_worst_wins_in_any_order() {
    for (first, second) in OUTCOMES.iter().flat_map(|a| OUTCOMES.map(|b| (*a, b))) {
        let (scope, duty) = one();
        let part = duty.fork();
        part.settle(first);
        assert_eq!(scope.outcome(0), None);
        duty.settle(second);
        assert_eq!(scope.outcome(0), Some(first.min(second)), "{first} {second}");
    }
}

#[test]
fn a_part_that_is_dropped_is_abandoned() {
    let (scope, duty) = one();
    let part = duty.fork();
    duty.settle(Outcome::Delivered);
    drop(part);
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
}

#[test]
fn a_panic_on_the_way_abandons_what_it_held() {
    let (scope, duty) = one();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = duty;
        panic!("user code");
    }));
    assert!(panicked.is_err());
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
}

#[test]
fn slots_are_settled_on_their_own() {
    let (scope, duties) = Scope::open(3);
    assert_eq!((scope.len(), scope.is_empty(), scope.is_closed()), (3, false, false));
    for (slot, duty) in duties.into_iter().enumerate() {
        assert_eq!(scope.outcome(slot as u32), None);
        duty.settle(OUTCOMES[slot + 1]);
        assert_eq!(scope.outcome(slot as u32), Some(OUTCOMES[slot + 1]));
    }
    assert!(scope.is_closed());
    let (empty, duties) = Scope::open(0);
    assert!(empty.is_empty() && empty.is_closed() && duties.is_empty());
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_tally_counts_the_slots_that_are_closed() {
    let (scope, mut duties) = Scope::open(6);
    assert_eq!(scope.tally(), Tally::default());
    let last = duties.pop();
    for (duty, outcome) in duties.into_iter().zip(OUTCOMES.into_iter().cycle()) {
        duty.settle(outcome);
    }
    let tally = scope.tally();
    assert_eq!(OUTCOMES.map(|outcome| tally.of(outcome)), [2, 1, 1, 1]);
    assert_eq!((tally.good(), tally.total()), (2, 5));
    drop(last);
    assert_eq!(scope.tally().of(Outcome::Abandoned), 3);
}

#[test]
fn scopes_that_wake_together_wake_once_when_the_last_of_them_closes() {
    let count = Arc::new(Count::default());
    let together = Arc::new(WakeTogether::new(3, count.clone()));
    let mut scopes: Vec<_> = (0..3).map(|_| Scope::open_waking(2, together.clone()).1).collect();
    let woken = || count.0.load(Ordering::Relaxed);
    scopes.drain(..2).flatten().for_each(|duty| duty.settle(Outcome::Delivered));
    assert_eq!(woken(), 0, "one scope is open");
    scopes.into_iter().flatten().for_each(|duty| duty.settle(Outcome::Delivered));
    assert_eq!(woken(), 1);
}

#[test]
fn the_source_is_woken_once_when_the_last_slot_closes() {
    let count = Arc::new(Count::default());
    let (_scope, duties) = Scope::open_waking(3, count.clone());
    for duty in duties {
        let part = duty.fork();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        duty.settle(Outcome::Delivered);
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "one part is open");
        part.settle(Outcome::Delivered);
    }
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_nested_scope_hands_its_parent_back_once_with_outcome_and_facts() {
    let calls = Calls::default();
    let (scope, duty) = one();
    let member = duty.nest(recorder(7, &calls), true);
    let part = member.fork();
    part.note(rows(2));
    part.settle(Outcome::DeadLettered);
    assert!(taken(&calls).is_empty());
    assert_eq!(scope.outcome(0), None);
    member.note(rows(3));
    member.settle(Outcome::Delivered);
    assert_eq!(taken(&calls), [(7, Outcome::DeadLettered, 5)]);
    assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));
}

#[test]
fn whoever_closes_a_scope_may_keep_its_parent_open() {
    struct Keep(Arc<Mutex<Option<Obligation>>>);
    impl OnClose for Keep {
        fn close(self: Box<Self>, parent: Obligation, _: Outcome, _: MemberFacts) {
            *self.0.lock().unwrap() = Some(parent);
        }
    }
    let kept = Arc::new(Mutex::new(None));
    let (scope, duty) = one();
    duty.nest(Box::new(Keep(kept.clone())), true).settle(Outcome::DeadLettered);
    assert_eq!(scope.outcome(0), None, "the broker has not acked the event yet");
    let parent = kept.lock().unwrap().take().unwrap();
    parent.settle(Outcome::Delivered);
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered), "a manifest is an outcome boundary");
}

#[test]
fn an_abandoned_scope_abandons_its_parent_and_tells_nobody() {
    let calls = Calls::default();
    let (scope, duty) = one();
    let member = duty.nest(recorder(0, &calls), true);
    let part = member.fork();
    member.settle(Outcome::Delivered);
    drop(part);
    assert!(taken(&calls).is_empty());
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
}

#[test]
fn abandoning_goes_up_through_every_scope() {
    let calls = Calls::default();
    let (scope, duty) = one();
    let outer = duty.nest(recorder(0, &calls), true);
    drop(outer.nest(recorder(1, &calls), false));
    assert!(taken(&calls).is_empty());
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
}

#[test]
fn notes_go_up_to_the_nearest_scope_that_collects() {
    let calls = Calls::default();
    let (_scope, duty) = one();
    duty.note(rows(100));
    let member = duty.nest(recorder(0, &calls), true);
    let receipt = member.fork().nest(recorder(1, &calls), false);
    let inner = receipt.fork().nest(recorder(2, &calls), false);
    inner.note(rows(1));
    receipt.note(rows(10));
    inner.settle(Outcome::Delivered);
    receipt.settle(Outcome::Delivered);
    member.settle(Outcome::Delivered);
    let delivered = Outcome::Delivered;
    assert_eq!(taken(&calls), [(0, delivered, 11), (1, delivered, 0), (2, delivered, 0)]);
}

#[test]
fn a_duty_towards_nobody_can_be_used_like_any_other() {
    let calls = Calls::default();
    let duty = Obligation::detached();
    duty.note(rows(1));
    drop(duty.fork());
    duty.nest(recorder(0, &calls), true).settle(Outcome::Filtered);
    assert_eq!(taken(&calls), [(0, Outcome::Filtered, 0)]);
}

#[test]
fn settled_from_many_threads_at_once_a_scope_closes_exactly_once() {
    const THREADS: usize = 4;
    const PARTS: usize = 50;
    for _ in 0..200 {
        let calls = Calls::default();
        let (scope, duty) = one();
        let member = duty.nest(recorder(0, &calls), true);
        let fork = |_| (1..PARTS).map(|_| member.fork()).collect::<Vec<_>>();
        let mut shares = (0..THREADS).map(fork).collect::<Vec<_>>();
        shares[0].push(member);
        let start = Barrier::new(THREADS);
        std::thread::scope(|threads| {
            for share in shares {
                threads.spawn(|| {
                    start.wait();
                    for part in share {
                        part.note(rows(1));
                        part.settle(Outcome::Delivered);
                    }
                });
            }
        });
        let noted = (THREADS * (PARTS - 1) + 1) as u64;
        assert_eq!(taken(&calls), [(0, Outcome::Delivered, noted)]);
        assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
        assert!(scope.is_closed());
    }
}

/// What happens to an obligation.
#[derive(Clone, Debug)]
enum Tree {
    /// A row is noted, then it is settled; abandoned means dropped.
    Leaf(Outcome),
    /// Split into parts.
    Fork(Vec<Tree>),
    /// Put under a scope, which collects notes or not.
    Nest(bool, Box<Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        1 => Just(Outcome::Abandoned),
        3 => Just(Outcome::DeadLettered),
        9 => Just(Outcome::Delivered),
        9 => Just(Outcome::Filtered),
    ];
    leaf.prop_map(Tree::Leaf).prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..5).prop_map(Tree::Fork),
            (any::<bool>(), inner).prop_map(|(collects, tree)| Tree::Nest(collects, tree.into())),
        ]
    })
}

/// Builds a tree over an obligation. Scopes are numbered in the order in which they are opened.
fn grow(
    duty: Obligation,
    tree: &Tree,
    scopes: &mut usize,
    calls: &Calls,
    leaves: &mut Vec<(Obligation, Outcome)>,
) {
    match tree {
        Tree::Leaf(outcome) => leaves.push((duty, *outcome)),
        Tree::Fork(trees) => {
            for tree in trees {
                grow(duty.fork(), tree, scopes, calls, leaves);
            }
            duty.settle(Outcome::Filtered);
        }
        Tree::Nest(collects, tree) => {
            let nested = duty.nest(recorder(*scopes, calls), *collects);
            *scopes += 1;
            grow(nested, tree, scopes, calls, leaves);
        }
    }
}

/// The outcome of a tree and the rows that it passes up, by recursion; adds the calls that its
/// scopes should have made.
fn naive(
    tree: &Tree,
    scopes: &mut usize,
    calls: &mut Vec<(usize, Outcome, u64)>,
) -> (Outcome, u64) {
    match tree {
        Tree::Leaf(outcome) => (*outcome, 1),
        Tree::Fork(trees) => trees.iter().fold((Outcome::Filtered, 0), |(worst, rows), tree| {
            let (outcome, more) = naive(tree, scopes, calls);
            (worst.min(outcome), rows + more)
        }),
        Tree::Nest(collects, tree) => {
            let scope = *scopes;
            *scopes += 1;
            let (outcome, rows) = naive(tree, scopes, calls);
            let (kept, passed) = if *collects { (rows, 0) } else { (0, rows) };
            if outcome != Outcome::Abandoned {
                calls.push((scope, outcome, kept));
            }
            (outcome, passed)
        }
    }
}

proptest! {
    #[test]
    fn any_tree_settled_in_any_order_agrees_with_a_naive_fold(
        tree in trees(),
        order in prop::collection::vec(any::<u32>(), 64),
    ) {
        let calls = Calls::default();
        let (scope, duty) = one();
        let mut leaves = Vec::new();
        grow(duty, &tree, &mut 0, &calls, &mut leaves);
        let mut leaves: Vec<_> = leaves.into_iter().zip(order.iter().cycle()).collect();
        leaves.sort_by_key(|(_, key)| **key);
        prop_assert!(!scope.is_closed());
        for ((duty, outcome), _) in leaves {
            duty.note(rows(1));
            match outcome {
                Outcome::Abandoned => drop(duty),
                outcome => duty.settle(outcome),
            }
        }
        let mut wanted = Vec::new();
        let (outcome, _) = naive(&tree, &mut 0, &mut wanted);
        wanted.sort();
        prop_assert_eq!(taken(&calls), wanted);
        prop_assert_eq!(scope.outcome(0), Some(outcome));
        prop_assert!(scope.is_closed());
    }
}
