//! What the protocol of a shard's owners holds, and that it does not without its guards.

use proptest::prelude::*;

use super::*;

const OWNERS: usize = 3;

/// A world after these steps.
fn after(guards: Guards, steps: &[Step]) -> World {
    let mut world = World::new(guards, OWNERS, 40);
    steps.iter().for_each(|step| world.step(*step));
    world
}

/// What does not hold without some of the guards, and holds with all of them.
fn violated(without: Guards, steps: &[Step]) -> Vec<Invariant> {
    let guarded = after(Guards::ALL, steps);
    assert!(guarded.violated.is_empty(), "with all guards: {:?}", guarded.violated);
    after(without, steps).violated
}

#[test]
fn an_owner_that_slept_through_a_takeover_changes_nothing() {
    use Step::{Arrive, Send, TakeOver};
    let steps = [TakeOver(0), Send(0, 2), TakeOver(1), Arrive(0)];
    let without = Guards { epoch: false, token: false, ..Guards::ALL };
    assert_eq!(violated(without, &steps), [Invariant::Fenced, Invariant::SingleWriter]);
}

#[test]
fn an_epoch_that_a_restored_backup_gives_out_again_is_not_enough() {
    use Step::{Arrive, BackUp, Restore, Send, TakeOver};
    let steps = [TakeOver(0), BackUp, TakeOver(1), Send(1, 2), Restore, TakeOver(2), Arrive(0)];
    let without = Guards { token: false, ..Guards::ALL };
    assert_eq!(violated(without, &steps), [Invariant::Fenced, Invariant::SingleWriter]);
}

#[test]
fn a_change_whose_first_sending_arrives_late_is_applied_once() {
    use Step::{Arrive, Ask, Send, TakeOver};
    let events = [TakeOver(0), Send(0, 2), Ask(0), Arrive(1), Arrive(0)];
    let without = Guards { chain: false, follows: false, ..Guards::ALL };
    assert_eq!(violated(without, &events), [Invariant::NoGap]);
    let without = Guards { follows: false, ..Guards::ALL };
    assert!(violated(without, &events).is_empty(), "offsets tell events apart");
    let deadline = [TakeOver(0), Send(0, 0), Ask(0), Arrive(1), Arrive(0)];
    assert_eq!(violated(without, &deadline), [Invariant::Conservation]);
}

#[test]
fn a_lost_answer_is_found_out_and_nothing_is_sent_again() {
    use Step::{Arrive, Ask, Miss, Send, TakeOver};
    let world = after(Guards::ALL, &[TakeOver(0), Send(0, 2), Arrive(0), Miss(0), Ask(0)]);
    assert!(world.requests.is_empty() && world.owners[0].waiting.is_none());
    assert_eq!((world.owners[0].next, world.committed), (2, 2));
}

#[test]
fn a_change_that_was_applied_before_a_takeover_is_known_to_be_and_its_sender_goes_no_further() {
    use Step::{Arrive, Ask, Miss, Send, TakeOver};
    let before = [TakeOver(0), Send(0, 2), Arrive(0), Miss(0), TakeOver(1), Ask(0)];
    let world = after(Guards::ALL, &before);
    assert_eq!(world.owners[0].next, 2);
    let more = [before.as_slice(), &[Send(0, 2), Arrive(0)]].concat();
    let world = after(Guards::ALL, &more);
    assert_eq!((world.row.next, world.answers.last().unwrap().2), (2, Answer::Fenced));
}

fn step() -> impl Strategy<Value = Step> {
    let (owner, number) = (0..OWNERS, 0usize..64);
    prop_oneof![
        2 => owner.clone().prop_map(Step::TakeOver),
        12 => (owner.clone(), 0u64..4).prop_map(|(owner, events)| Step::Send(owner, events)),
        12 => number.clone().prop_map(Step::Arrive),
        2 => number.clone().prop_map(Step::Vanish),
        8 => number.clone().prop_map(Step::Hear),
        3 => number.prop_map(Step::Miss),
        6 => owner.clone().prop_map(Step::Ask),
        1 => owner.prop_map(Step::Crash),
        1 => Just(Step::BackUp),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_effect_happens_once_and_in_order_under_any_schedule(
        steps in prop::collection::vec(step(), 0..120),
        last in 0..OWNERS,
    ) {
        let mut world = after(Guards::ALL, &steps);
        prop_assert!(world.violated.is_empty(), "{:?}", world.violated);
        world.settle(last);
        prop_assert!(world.violated.is_empty(), "{:?} in the end", world.violated);
        prop_assert_eq!((world.row.events(), world.row.next), (world.log, world.log));
    }
}
