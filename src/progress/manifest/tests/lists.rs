//! Tests of lists of expected members that have versions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    NOW, after, all_done, command, completes, completion, dead, done, expected, settled, under,
};
use crate::model::event::{CommandAction, MemberState, ProgressEvent};
use crate::progress::manifest::{
    CompletedBy, ManifestState, Phase, Policy, Rules, Share, Tally, Verdict,
};

fn versioned() -> Rules {
    Rules { versioned: true, ..all_done() }
}

/// A list under a version; 0 stands for a list without one.
fn list(version: i64, ids: &[&str]) -> ProgressEvent {
    let mut event = expected(ids);
    if let ProgressEvent::Expected(event) = &mut event {
        event.version = (version > 0).then_some(version);
    }
    event
}

fn listed(state: &ManifestState) -> u64 {
    state.members().tally().expected
}

#[test]
fn of_two_lists_the_higher_version_is_left_in_any_order_and_equal_ones_add_up() {
    // Versions of the lists `a b` and `b c`, how many members are expected in the end, how many
    // lists were outdated.
    let table = [
        ((0, 0), 3, 0),
        ((1, 1), 3, 0),
        ((1, 2), 2, 0),
        ((0, 1), 2, 0),
        ((2, 1), 2, 1),
        ((1, 0), 2, 1),
    ];
    for ((one, other), expected, outdated) in table {
        let events = [list(one, &["a", "b"]), list(other, &["b", "c"])];
        let (state, last) = after(&versioned(), &events);
        let case = format!("{one} {other}");
        assert_eq!((listed(&state), state.head().counts.outdated), (expected, outdated), "{case}");
        assert_eq!((last.outdated, last.replaced), (outdated == 1, other > one), "{case}");
        assert_eq!(state.head().version.unwrap_or(0), one.max(other), "{case}");
        assert!(!last.duplicate, "{case}");
    }
}

#[test]
fn versions_mean_nothing_where_none_are_declared() {
    let (state, last) = after(&all_done(), &[list(5, &["a"]), list(1, &["b"]), list(9, &["c"])]);
    assert_eq!(listed(&state), 3);
    assert!(!last.outdated && !last.replaced);
    assert_eq!(state.head().version, None);
}

#[test]
fn a_version_that_is_no_longer_declared_holds_no_list_up() {
    let (mut state, _) = after(&versioned(), &[list(5, &["a"])]);
    let applied = state.apply(&list(1, &["b"]), &all_done(), NOW);
    assert!(!applied.outdated);
    assert_eq!((listed(&state), state.head().version), (2, Some(5)));
}

#[test]
fn who_is_left_out_is_not_waited_for_and_stays_known() {
    let events = [list(1, &["a", "b", "c"]), done("a"), done("b"), list(2, &["a"])];
    let (mut state, last) = after(&versioned(), &events);
    let wanted = Tally { expected: 1, done: 1, unexpected: 1, ..Tally::default() };
    let completion = completion(&last).unwrap();
    assert_eq!((completion.why, completion.tally), (CompletedBy::AllDone, wanted));
    let left_out: Vec<_> = last.members.iter().map(|change| change.member.state).collect();
    assert_eq!(left_out, [MemberState::Done, MemberState::Pending], "b and c, to be stored");
    assert!(last.members.iter().all(|change| change.id.is_none() && !change.first_seen));
    let stray = state.apply(&done("c"), &versioned(), NOW);
    assert!(stray.late && stray.unexpected && !stray.reopened);
    let back = state.apply(&list(3, &["a", "b", "c"]), &versioned(), NOW);
    assert!(back.reopened, "what they came to is known");
    assert_eq!(super::completion(&back).map(|completion| completion.revision), Some(2));
}

#[test]
fn a_list_after_completion_opens_the_next_revision_if_what_was_counted_changes() {
    let done_ab = [list(1, &["a", "b"]), done("a"), done("b")];
    // The list after completion, revision after it, whether it opened it, phase.
    let table = [
        (list(2, &["a", "b", "c"]), 2, true, Phase::Open),
        (list(2, &["a"]), 2, true, Phase::Complete),
        (list(2, &["b", "a"]), 1, false, Phase::Complete),
        (list(1, &["c"]), 2, true, Phase::Open),
        (list(1, &["a"]), 1, false, Phase::Complete),
        (list(0, &["c"]), 1, false, Phase::Complete),
    ];
    for (event, revision, reopened, phase) in table {
        let events = [done_ab.as_slice(), std::slice::from_ref(&event)].concat();
        let (state, last) = after(&versioned(), &events);
        let found = (state.head().revision, last.reopened, state.head().phase);
        assert_eq!(found, (revision, reopened, phase), "{event:?}");
    }
}

#[test]
fn leaving_out_whom_a_completion_did_without_opens_nothing() {
    let rules = Rules { versioned: true, ..under(Policy::Quorum(Share::Members(1))) };
    let events = [list(1, &["a", "b"]), done("a"), list(2, &["a"])];
    let (state, last) = after(&rules, &events);
    assert!(last.replaced && !last.reopened && last.members.len() == 1);
    assert_eq!((state.head().phase, state.head().revision), (Phase::Complete, 1));
}

#[test]
fn an_outdated_list_says_no_more_than_that_it_came() {
    let before = [list(2, &["a"]), done("a")];
    let late = [list(1, &["a", "b"]), list(1, &["a", "b"])];
    let (state, last) = after(&versioned(), &[before, late].concat());
    assert!(last.outdated && !last.duplicate && !last.late && last.members.is_empty());
    assert_eq!(state.head().counts.outdated, 2);
    assert_eq!((state.head().phase, state.head().revision), (Phase::Complete, 1));
}

#[test]
fn an_empty_list_completes_at_once_also_where_it_replaces_another() {
    let events = [list(1, &["a", "b"]), dead("a"), list(2, &[])];
    assert_eq!(completes(&versioned(), &events[..2]), None);
    assert_eq!(completes(&versioned(), &events), Some((1, CompletedBy::AllDone)));
}

#[test]
fn a_list_that_comes_last_finds_what_has_settled() {
    let quorum = under(Policy::Quorum(Share::Hundredths(5_000)));
    // Rules, members done before, why the list completes the manifest.
    let table: [(Rules, &[&str], Option<CompletedBy>); 5] = [
        (all_done(), &["a", "b"], Some(CompletedBy::AllDone)),
        (all_done(), &["a"], None),
        (quorum.clone(), &["a"], Some(CompletedBy::Quorum)),
        (quorum.clone(), &["x"], None),
        (quorum, &[], None),
    ];
    for (rules, before, why) in table {
        let mut events: Vec<_> = before.iter().map(|id| done(id)).collect();
        events.push(expected(&["a", "b"]));
        let found = completes(&rules, &events);
        assert_eq!(found, why.map(|why| (1, why)), "{rules:?} {before:?}");
    }
}

#[test]
fn a_cancelled_manifest_takes_lists_for_a_reopening() {
    let events = [list(1, &["a", "b"]), command(CommandAction::Cancel), list(2, &["a"]), done("a")];
    let (mut state, last) = after(&versioned(), &events);
    assert!(last.late && state.head().counts.late == 2);
    let reopened = state.apply(&command(CommandAction::Reopen), &versioned(), NOW);
    assert_eq!(completion(&reopened).map(|completion| completion.revision), Some(1));
}

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Lists under versions, and one outcome per member, repeated and shuffled.
fn lists_and_outcomes() -> impl Strategy<Value = Vec<ProgressEvent>> {
    let states = [MemberState::Done, MemberState::Empty, MemberState::DeadLettered];
    let list_of = (0i64..4, prop::sample::subsequence(IDS.to_vec(), 0..=IDS.len()))
        .prop_map(|(version, ids)| list(version, &ids));
    let outcomes = prop::collection::vec(prop::option::of(0..states.len()), IDS.len());
    (prop::collection::vec((list_of, 1usize..3), 1..6), outcomes)
        .prop_map(move |(lists, outcomes)| {
            let repeated = lists.into_iter().flat_map(|(list, times)| vec![list; times]);
            let settled = IDS
                .iter()
                .zip(outcomes)
                .filter_map(|(id, state)| state.map(|state| settled(id, states[state], 1)));
            repeated.chain(settled).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

/// The list that is left: everything under the highest version.
fn left(events: &[ProgressEvent]) -> BTreeMap<String, Option<MemberState>> {
    let lists = || {
        events.iter().filter_map(|event| match event {
            ProgressEvent::Expected(event) => Some(event),
            ProgressEvent::Settled(_) | ProgressEvent::Command(_) => None,
        })
    };
    let highest = lists().map(|list| list.version).max().flatten();
    let current = lists().filter(|list| list.version == highest);
    let members = current.flat_map(|list| &list.members);
    let mut left: BTreeMap<_, _> = members.map(|id| (id.as_str().to_owned(), None)).collect();
    for event in events {
        if let ProgressEvent::Settled(event) = event
            && let Some(state) = left.get_mut(event.member.as_str())
        {
            *state = Some(event.state);
        }
    }
    left
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn lists_in_any_order_leave_the_highest_version(
        events in lists_and_outcomes(),
        tolerate in 0u64..3,
    ) {
        let policy = Policy::AllSettled { tolerate: Share::Members(tolerate) };
        let rules = Rules { versioned: true, ..under(policy) };
        let mut state = ManifestState::new(NOW);
        let mut completed = Vec::new();
        for event in &events {
            let applied = state.apply(event, &rules, NOW);
            completed.extend(completion(&applied).map(|completion| completion.revision));
        }
        let left = left(&events);
        let count = |wanted| left.values().filter(|state| **state == wanted).count() as u64;
        let wanted = Tally {
            expected: left.len() as u64,
            pending: count(None),
            dead_lettered: count(Some(MemberState::DeadLettered)),
            empty: count(Some(MemberState::Empty)),
            done: count(Some(MemberState::Done)),
            unexpected: 0,
        };
        let tally = Tally { unexpected: 0, ..state.members().tally() };
        prop_assert_eq!(tally, wanted);
        prop_assert_eq!(state.members().tally(), state.members().recount());
        let is_complete = policy.judge(&wanted) != Verdict::Open;
        prop_assert_eq!(state.head().phase == Phase::Complete, is_complete);
        let in_order: Vec<u32> = (1..).take(completed.len()).collect();
        prop_assert_eq!(&completed, &in_order, "each revision completes once");
    }
}
