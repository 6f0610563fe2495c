//! Tests of retries: tables of decisions, bounds of delays, transitions of availability.

use std::time::Duration;

use proptest::prelude::*;

use super::{Attempts, Availability, LONGEST_ASKED, RetryDecision, RetryPolicy, Transition};
use crate::model::{Failure, FailureClass};

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 3,
    first: Duration::from_secs(1),
    max: Duration::from_secs(10),
    factor: 3.0,
};

fn retriable(after: Option<Duration>) -> Failure {
    Failure::Retriable { class: FailureClass::NOT_FOUND, why: "404".into(), after }
}

fn after(seconds: u64) -> RetryDecision {
    RetryDecision::RetryAfter(Duration::from_secs(seconds))
}

fn away(seconds: u64) -> RetryDecision {
    RetryDecision::Unavailable { retry_after: Duration::from_secs(seconds) }
}

#[test]
fn decisions_are_those_of_the_table() {
    let poison = Failure::poison(FailureClass::UNDECODABLE, "no JSON");
    let refused = Failure::unavailable("connection refused");
    let asked = |seconds| retriable(Some(Duration::from_secs(seconds)));
    let table = [
        (&poison, 1, RetryDecision::DeadLetter),
        (&retriable(None), 1, after(1)),
        (&retriable(None), 2, after(3)),
        (&retriable(None), 3, RetryDecision::DeadLetter),
        (&retriable(None), 4, RetryDecision::DeadLetter),
        (&asked(60), 1, after(60)),
        (&asked(2), 2, after(3)),
        (&asked(60), 3, RetryDecision::DeadLetter),
        (&asked(1 << 40), 1, RetryDecision::RetryAfter(LONGEST_ASKED)),
        (&refused, 1, away(1)),
        (&refused, 3, away(9)),
        (&refused, 4, away(10)),
        (&refused, 1_000_000, away(10)),
        (&refused, u32::MAX, away(10)),
    ];
    for (failure, attempt, expected) in table {
        assert_eq!(POLICY.decide(failure, attempt, 1.0), expected, "{failure:?} {attempt}");
    }
}

#[test]
fn an_outage_uses_up_no_attempt() {
    let mut attempts = Attempts::default();
    let refused = Failure::unavailable("connection refused");
    assert_eq!(attempts.failed(&POLICY, &retriable(None), 1.0), after(1));
    for expected in [1, 3, 9, 10, 10] {
        assert_eq!(attempts.failed(&POLICY, &refused, 1.0), away(expected));
    }
    assert_eq!(attempts.own(), 1);
    assert_eq!(attempts.failed(&POLICY, &retriable(None), 1.0), after(3));
    assert_eq!(attempts.failed(&POLICY, &refused, 1.0), away(1), "a new outage starts anew");
    assert_eq!(attempts.failed(&POLICY, &retriable(None), 1.0), RetryDecision::DeadLetter);
    assert_eq!(attempts.own(), 3);
}

#[test]
fn a_policy_without_attempts_still_makes_the_first() {
    let policy = RetryPolicy { attempts: 0, ..POLICY };
    assert_eq!(policy.decide(&retriable(None), 1, 0.5), RetryDecision::DeadLetter);
}

#[test]
fn nonsense_in_a_policy_gives_no_nonsense_delay() {
    for factor in [f64::NAN, -2.0, 0.0] {
        let policy = RetryPolicy { factor, ..POLICY };
        assert_eq!(policy.delay(9, 1.0), POLICY.first);
    }
    let policy = RetryPolicy { factor: f64::INFINITY, ..POLICY };
    assert_eq!(policy.delay(2, 1.0), POLICY.max);
    let policy = RetryPolicy { first: Duration::ZERO, ..POLICY };
    assert_eq!(policy.delay(u32::MAX, 1.0), Duration::ZERO);
    assert!(POLICY.delay(1, f64::NAN) <= POLICY.max);
}

#[test]
fn availability_changes_once_per_outage() {
    let at = Duration::from_secs;
    let mut availability = Availability::default();
    assert_eq!(availability.reached(at(1)), None);
    assert_eq!(availability.failed(at(5)), Some(Transition::Lost));
    assert_eq!(availability.failed(at(6)), None);
    assert!(!availability.is_available());
    assert_eq!(availability, Availability::Unavailable { since: at(5), attempts: 2 });
    let recovered = Transition::Recovered { after: at(4), attempts: 2 };
    assert_eq!(availability.reached(at(9)), Some(recovered));
    assert!(availability.is_available());
    assert_eq!(availability.reached(at(10)), None);
}

proptest! {
    #[test]
    fn a_delay_stays_between_half_of_the_backoff_and_the_maximum(
        attempt in any::<u32>(),
        jitter in any::<f64>(),
        first in 1u64..100_000,
        max in 1u64..10_000_000,
        factor in 0.0f64..1e12,
    ) {
        let policy = RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(first),
            max: Duration::from_millis(max),
            factor,
        };
        let delay = policy.delay(attempt, jitter);
        prop_assert!(delay <= policy.max);
        prop_assert!(delay >= policy.first.min(policy.max).mul_f64(0.499));
        let refused = Failure::unavailable("refused");
        let decision = policy.decide(&refused, attempt, jitter);
        prop_assert_eq!(decision, RetryDecision::Unavailable { retry_after: delay });
    }
}
