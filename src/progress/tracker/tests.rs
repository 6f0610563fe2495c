//! Tests of the offset tracker: tables, and a model that recomputes everything each time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{OffsetTracker, Settled};
use crate::model::{Epoch, Offset, Outcome};

const EPOCH: Epoch = Epoch(7);

fn tracker(start: i64, offsets: &[i64]) -> OffsetTracker {
    let mut tracker = OffsetTracker::new(EPOCH, Offset(start));
    tracker.track(offsets.iter().copied().map(Offset));
    tracker
}

fn deliver(tracker: &mut OffsetTracker, offset: i64) -> Settled {
    tracker.settle(EPOCH, Offset(offset), Outcome::Delivered)
}

#[test]
fn nothing_is_committable_before_the_first_record_has_an_outcome() {
    let mut tracker = tracker(5, &[5, 6, 7]);
    assert_eq!(tracker.committable(), None);
    deliver(&mut tracker, 6);
    deliver(&mut tracker, 7);
    assert_eq!(tracker.committable(), None);
    assert_eq!(tracker.first_unsettled(), Some(Offset(5)));
    assert_eq!(tracker.in_flight(), 1);
}

#[test]
fn an_outcome_out_of_order_is_covered_once_those_before_it_have_theirs() {
    let mut tracker = tracker(5, &[5, 6, 7, 8]);
    deliver(&mut tracker, 7);
    deliver(&mut tracker, 5);
    assert_eq!(tracker.take_committable(), Some(Offset(6)));
    deliver(&mut tracker, 6);
    assert_eq!(tracker.take_committable(), Some(Offset(8)));
    deliver(&mut tracker, 8);
    assert_eq!(tracker.take_committable(), Some(Offset(9)));
    assert_eq!(tracker.first_unsettled(), None);
}

#[test]
fn a_position_is_given_out_once() {
    let mut tracker = tracker(0, &[0, 1]);
    deliver(&mut tracker, 0);
    assert_eq!(tracker.committable(), Some(Offset(1)), "looking does not take");
    assert_eq!(tracker.take_committable(), Some(Offset(1)));
    assert_eq!(tracker.committable(), None);
    assert_eq!(tracker.take_committable(), None);
}

#[test]
fn gaps_hold_nothing_back() {
    let mut tracker = tracker(0, &[10, 11, 4_000_000_000]);
    assert_eq!(tracker.take_committable(), Some(Offset(10)), "0..=9 hold no records");
    deliver(&mut tracker, 10);
    deliver(&mut tracker, 11);
    assert_eq!(tracker.take_committable(), Some(Offset(4_000_000_000)));
    deliver(&mut tracker, 4_000_000_000);
    assert_eq!(tracker.take_committable(), Some(Offset(4_000_000_001)));
    tracker.track([Offset(5_000_000_000)]);
    assert_eq!(tracker.take_committable(), Some(Offset(5_000_000_000)));
}

#[test]
fn another_epoch_changes_nothing() {
    let mut tracker = tracker(0, &[0]);
    for epoch in [Epoch(6), Epoch(8)] {
        assert_eq!(tracker.settle(epoch, Offset(0), Outcome::Abandoned), Settled::Late);
        assert_eq!(tracker.settle(epoch, Offset(99), Outcome::Delivered), Settled::Late);
    }
    assert_eq!(tracker.in_flight(), 1);
    assert!(!tracker.abandoned());
    assert_eq!(tracker.committable(), None);
}

#[test]
fn a_second_outcome_is_a_duplicate_wherever_the_record_lies() {
    let mut tracker = tracker(0, &[0, 1, 2]);
    assert_eq!(deliver(&mut tracker, 2), Settled::Applied);
    assert_eq!(deliver(&mut tracker, 2), Settled::Duplicate, "behind the head");
    assert_eq!(deliver(&mut tracker, 0), Settled::Applied);
    assert_eq!(deliver(&mut tracker, 0), Settled::Duplicate, "in front of it, same run");
    assert_eq!(deliver(&mut tracker, 1), Settled::Applied);
    assert_eq!(deliver(&mut tracker, 1), Settled::Duplicate, "nothing is in flight");
    assert_eq!(tracker.in_flight(), 0);
    assert_eq!(tracker.take_committable(), Some(Offset(3)));
}

#[test]
fn a_duplicate_does_not_turn_into_an_abandonment() {
    let mut tracker = tracker(0, &[0, 1]);
    deliver(&mut tracker, 1);
    let again = tracker.settle(EPOCH, Offset(1), Outcome::Abandoned);
    assert_eq!(again, Settled::Duplicate);
    deliver(&mut tracker, 0);
    assert_eq!(tracker.take_committable(), Some(Offset(2)));
}

#[test]
fn an_abandoned_record_blocks_commits_from_its_offset_on() {
    let mut tracker = tracker(0, &[0, 1, 2, 3]);
    for offset in [3, 2] {
        assert_eq!(tracker.settle(EPOCH, Offset(offset), Outcome::Abandoned), Settled::Applied);
    }
    assert!(tracker.abandoned());
    deliver(&mut tracker, 1);
    deliver(&mut tracker, 0);
    assert_eq!(tracker.take_committable(), Some(Offset(2)));
    tracker.track([Offset(4)]);
    deliver(&mut tracker, 4);
    assert_eq!(tracker.take_committable(), None);
    assert_eq!(tracker.in_flight(), 0);
    assert_eq!(tracker.position(), Offset(5));
}

#[test]
fn what_is_settled_takes_no_memory() {
    let mut tracker = OffsetTracker::new(EPOCH, Offset(0));
    for round in 0..100 {
        let offsets = (0..1_000).map(|n| Offset(round * 2_000 + n * 2));
        tracker.track(offsets.clone());
        for offset in offsets {
            assert_eq!(tracker.settle(EPOCH, offset, Outcome::Delivered), Settled::Applied);
        }
        assert!(tracker.runs.is_empty());
        assert!(tracker.settled.len() <= 1);
    }
    assert_eq!(tracker.take_committable(), Some(tracker.position()));
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "I7")]
fn an_outcome_for_a_record_never_handed_out_is_a_violation() {
    deliver(&mut tracker(0, &[0, 5]), 3);
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "I2")]
fn handing_out_backwards_is_a_violation() {
    tracker(0, &[5]).track([Offset(4)]);
}

#[test]
fn a_run_settles_what_is_open_and_passes_over_the_rest() {
    let offsets: Vec<i64> = (0..200).chain(300..400).collect();
    let mut tracker = tracker(0, &offsets);
    deliver(&mut tracker, 70);
    let even = || offsets.iter().filter(|offset| *offset % 2 == 0).map(|offset| Offset(*offset));
    assert_eq!(tracker.settle_run(Epoch(6), even()), 0, "another epoch");
    assert_eq!(tracker.settle_run(EPOCH, even()), 149, "one of 150 has its outcome already");
    assert_eq!(tracker.settle_run(EPOCH, even()), 0);
    assert_eq!(tracker.take_committable(), Some(Offset(1)));
    assert_eq!(tracker.settle_run(EPOCH, offsets.iter().copied().map(Offset)), 150);
    assert_eq!((tracker.in_flight(), tracker.take_committable()), (0, Some(Offset(400))));
    assert_eq!(tracker.settle_run(EPOCH, even()), 0, "nothing is in flight");
    assert!(tracker.runs.is_empty());
}

/// What a tracker says, recomputed from a plain map each time.
#[derive(Default)]
struct Model {
    records: BTreeMap<i64, Option<Outcome>>,
    position: i64,
    taken: i64,
}

impl Model {
    fn settle(&mut self, offset: i64, outcome: Outcome) -> Settled {
        match self.records.get_mut(&offset) {
            Some(slot) if slot.is_none() => {
                *slot = Some(outcome);
                Settled::Applied
            }
            _ => Settled::Duplicate,
        }
    }

    fn first(&self, wanted: impl Fn(Option<Outcome>) -> bool) -> Option<i64> {
        self.records.iter().find(|(_, outcome)| wanted(**outcome)).map(|(offset, _)| *offset)
    }

    fn take_committable(&mut self) -> Option<Offset> {
        let blocked = self.first(|outcome| matches!(outcome, None | Some(Outcome::Abandoned)));
        let reached = blocked.unwrap_or(self.position);
        if reached <= self.taken {
            return None;
        }
        self.taken = reached;
        Some(Offset(reached))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Hand out this many records, each so far behind the one before.
    Track(Vec<i64>),
    /// Settle one of the records handed out so far, chosen by this number.
    Settle(prop::sample::Index, Outcome),
    /// Settle every so many of the records from one of them to another, as a run.
    Run(prop::sample::Index, prop::sample::Index, usize),
    /// The same under a former epoch.
    Late(prop::sample::Index),
    Take,
}

fn steps(abandons: u32) -> impl Strategy<Value = Vec<Step>> {
    let gap = prop_oneof![8 => Just(0i64), 1 => 1i64..4, 1 => 1_000_000i64..2_000_000];
    let outcome = prop_oneof![
        60 => Just(Outcome::Delivered),
        20 => Just(Outcome::Filtered),
        10 => Just(Outcome::DeadLettered),
        abandons => Just(Outcome::Abandoned),
    ];
    let index = any::<prop::sample::Index>();
    let step = prop_oneof![
        2 => prop::collection::vec(gap, 0..90).prop_map(Step::Track),
        20 => (index, outcome).prop_map(|(index, outcome)| Step::Settle(index, outcome)),
        3 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..4)
            .prop_map(|(from, to, every)| Step::Run(from, to, every)),
        1 => any::<prop::sample::Index>().prop_map(Step::Late),
        3 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..300)
}

fn agree(start: i64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut tracker = OffsetTracker::new(EPOCH, Offset(start));
    let mut model = Model { position: start, taken: start, ..Model::default() };
    let mut handed_out = Vec::new();
    for step in steps {
        match step {
            Step::Track(gaps) => {
                let mut batch = Vec::new();
                for gap in gaps {
                    batch.push(Offset(model.position + gap));
                    model.records.insert(model.position + gap, None);
                    handed_out.push(model.position + gap);
                    model.position += gap + 1;
                }
                tracker.track(batch);
            }
            Step::Settle(index, outcome) if !handed_out.is_empty() => {
                let offset = *index.get(&handed_out);
                let expected = model.settle(offset, outcome);
                prop_assert_eq!(tracker.settle(EPOCH, Offset(offset), outcome), expected);
            }
            Step::Late(index) if !handed_out.is_empty() => {
                let offset = Offset(*index.get(&handed_out));
                let late = tracker.settle(Epoch(EPOCH.0 - 1), offset, Outcome::Delivered);
                prop_assert_eq!(late, Settled::Late);
            }
            Step::Run(from, to, every) if !handed_out.is_empty() => {
                let ends = [from, to].map(|index| index.index(handed_out.len()));
                let range = ends[0].min(ends[1])..=ends[0].max(ends[1]);
                let offsets: Vec<i64> = handed_out[range].iter().copied().step_by(every).collect();
                let applied = offsets
                    .iter()
                    .filter(|offset| model.settle(**offset, Outcome::Filtered) == Settled::Applied)
                    .count();
                let settled = tracker.settle_run(EPOCH, offsets.into_iter().map(Offset));
                prop_assert_eq!(settled, applied);
            }
            Step::Settle(..) | Step::Run(..) | Step::Late(_) => {}
            Step::Take => {
                prop_assert_eq!(tracker.take_committable(), model.take_committable());
            }
        }
        let open = model.records.values().filter(|outcome| outcome.is_none()).count();
        prop_assert_eq!(tracker.in_flight(), open);
        prop_assert_eq!(tracker.position(), Offset(model.position));
        let first = model.first(|outcome| outcome.is_none()).map(Offset);
        prop_assert_eq!(tracker.first_unsettled(), first);
        let abandoned = model.first(|outcome| outcome == Some(Outcome::Abandoned)).is_some();
        prop_assert_eq!(tracker.abandoned(), abandoned);
    }
    for offset in handed_out {
        let expected = model.settle(offset, Outcome::Delivered);
        prop_assert_eq!(tracker.settle(EPOCH, Offset(offset), Outcome::Delivered), expected);
    }
    prop_assert_eq!(tracker.in_flight(), 0);
    prop_assert_eq!(tracker.take_committable(), model.take_committable());
    if !tracker.abandoned() {
        prop_assert_eq!(tracker.take_committable(), None);
        prop_assert_eq!(tracker.taken, tracker.position());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_agrees_with_the_model_in_any_interleaving(
        start in 0i64..1_000,
        script in steps(0),
    ) {
        agree(start, script)?;
    }

    #[test]
    fn it_agrees_with_the_model_when_records_are_abandoned(
        start in 0i64..1_000,
        script in steps(2),
    ) {
        agree(start, script)?;
    }
}
