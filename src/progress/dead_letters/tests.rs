//! Tests of the limit of dead letters.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{DeadLetterLimit, DeadLetterLimits, LimitExceeded, RatioLimit};
use crate::model::Outcome;

fn in_a_row(limit: u64) -> DeadLetterLimit {
    DeadLetterLimit::new(DeadLetterLimits { consecutive: Some(limit), ratio: None })
}

fn share(ratio: f64, sample: u32) -> DeadLetterLimit {
    let ratio = Some(RatioLimit { ratio, sample });
    DeadLetterLimit::new(DeadLetterLimits { consecutive: None, ratio })
}

/// Feeds `count` outcomes, none of which may exceed the limit.
fn feed(limit: &mut DeadLetterLimit, outcome: Outcome, count: u32) {
    for _ in 0..count {
        assert_eq!(limit.observe(outcome), None);
    }
}

#[test]
fn by_default_a_hundred_in_a_row_are_tolerated_and_one_more_is_not() {
    let mut limit = DeadLetterLimit::new(DeadLetterLimits::default());
    feed(&mut limit, Outcome::DeadLettered, 100);
    let exceeded = LimitExceeded::Consecutive { count: 101, limit: 100 };
    assert_eq!(limit.observe(Outcome::DeadLettered), Some(exceeded));
}

#[test]
fn any_other_outcome_starts_the_row_anew_but_an_abandoned_record_does_not() {
    let mut limit = in_a_row(2);
    for outcome in [Outcome::Delivered, Outcome::Filtered] {
        feed(&mut limit, Outcome::DeadLettered, 2);
        feed(&mut limit, outcome, 1);
    }
    feed(&mut limit, Outcome::DeadLettered, 2);
    feed(&mut limit, Outcome::Abandoned, 10);
    assert!(limit.observe(Outcome::DeadLettered).is_some());
}

#[test]
fn a_share_is_not_judged_before_the_sample_is_full() {
    let mut limit = share(0.1, 100);
    feed(&mut limit, Outcome::DeadLettered, 99);
    let exceeded = LimitExceeded::Ratio { dead_lettered: 100, sample: 100, limit: 0.1 };
    assert_eq!(limit.observe(Outcome::DeadLettered), Some(exceeded));
}

#[test]
fn a_long_good_past_allows_no_more_than_a_short_one() {
    let mut limit = share(0.5, 10);
    feed(&mut limit, Outcome::Delivered, 1_000_000);
    feed(&mut limit, Outcome::DeadLettered, 5);
    assert!(limit.observe(Outcome::DeadLettered).is_some());
}

#[test]
fn old_dead_letters_leave_the_sample() {
    let mut limit = share(0.5, 4);
    for _ in 0..100 {
        feed(&mut limit, Outcome::DeadLettered, 2);
        feed(&mut limit, Outcome::Delivered, 2);
    }
}

#[test]
fn without_limits_everything_may_be_dead_lettered() {
    let limits = DeadLetterLimits { consecutive: None, ratio: None };
    feed(&mut DeadLetterLimit::new(limits), Outcome::DeadLettered, 10_000);
}

#[test]
fn the_error_names_the_numbers() {
    let row = LimitExceeded::Consecutive { count: 101, limit: 100 }.to_string();
    assert!(row.starts_with("101 records in a row were dead-lettered, the limit is 100"), "{row}");
    let share = LimitExceeded::Ratio { dead_lettered: 7, sample: 50, limit: 0.1 }.to_string();
    assert!(share.starts_with("7 of the latest 50 records were dead-lettered"), "{share}");
    assert!(share.contains("a share of 0.1"), "{share}");
}

proptest! {
    #[test]
    fn good_outcomes_in_a_row_are_observed_as_they_would_be_one_by_one(
        sample in 1u32..40,
        ratio in 0.0f64..1.0,
        consecutive in 1u64..10,
        rows in prop::collection::vec((0u64..100, 0u64..12), 0..20),
    ) {
        let limits = DeadLetterLimits {
            consecutive: Some(consecutive),
            ratio: Some(RatioLimit { ratio, sample }),
        };
        let (mut whole, mut single) = (DeadLetterLimit::new(limits), DeadLetterLimit::new(limits));
        for (good, dead) in rows {
            whole.observe_good(good);
            (0..good).for_each(|_| assert_eq!(single.observe(Outcome::Delivered), None));
            for _ in 0..dead {
                let expected = single.observe(Outcome::DeadLettered);
                prop_assert_eq!(whole.observe(Outcome::DeadLettered), expected);
            }
        }
    }

    #[test]
    fn the_window_agrees_with_a_list_of_the_latest_outcomes(
        sample in 1u32..200,
        ratio in 0.0f64..1.0,
        outcomes in prop::collection::vec(prop::bool::weighted(0.4), 0..600),
    ) {
        let mut limit = share(ratio, sample);
        let mut latest = VecDeque::new();
        for dead in outcomes {
            latest.push_back(dead);
            if latest.len() > sample as usize {
                latest.pop_front();
            }
            let outcome = if dead { Outcome::DeadLettered } else { Outcome::Delivered };
            let count = latest.iter().filter(|dead| **dead).count() as u32;
            let full = latest.len() == sample as usize;
            let exceeded = dead && full && f64::from(count) > ratio * f64::from(sample);
            prop_assert_eq!(limit.observe(outcome).is_some(), exceeded);
        }
    }
}
