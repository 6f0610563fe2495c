//! Tests of the invariants' names and of what a violation does.

use std::collections::BTreeSet;

use super::{Invariant, check, violations};

#[test]
fn an_invariant_that_holds_is_not_counted_and_not_formatted() {
    struct Loud;
    impl std::fmt::Display for Loud {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("formatted although the invariant holds");
        }
    }
    let before = violations(Invariant::SingleWriter);
    check(Invariant::SingleWriter, true, format_args!("{Loud}"));
    assert_eq!(violations(Invariant::SingleWriter), before);
}

#[test]
fn a_violation_is_counted_and_panics_only_where_debug_assertions_are_on() {
    let before = violations(Invariant::KeyOrder);
    let outcome = std::panic::catch_unwind(|| {
        check(Invariant::KeyOrder, false, format_args!("2 after 3"));
    });
    assert!(violations(Invariant::KeyOrder) > before);
    assert_eq!(outcome.is_err(), cfg!(debug_assertions));
    if let Err(payload) = outcome {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        assert_eq!(text, Some("I8 (key order within a lane) violated: 2 after 3"));
    }
}

#[test]
fn names_are_numbered_as_the_design_numbers_them() {
    for (index, invariant) in Invariant::ALL.into_iter().enumerate() {
        assert_eq!(invariant as usize, index);
        assert_eq!(invariant.name(), format!("I{}", index + 1));
    }
    let statements: BTreeSet<_> = Invariant::ALL.map(Invariant::statement).into();
    assert_eq!(statements.len(), Invariant::ALL.len());
}
