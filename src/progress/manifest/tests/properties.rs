//! Properties of manifests that hold for any order and any repetition of their events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{NOW, after, all_done, completion, expected, settled, tolerating};
use crate::model::event::{MemberState, ProgressEvent};
use crate::progress::manifest::{ManifestState, Member, MemberHash, Phase, Rules};

/// Attempts at one member.
type Attempts = Vec<MemberState>;

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("part-{number}")).collect()
}

fn list(ids: &[String]) -> ProgressEvent {
    expected(&ids.iter().map(String::as_str).collect::<Vec<_>>())
}

fn settled_state() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        6 => Just(MemberState::Done),
        2 => Just(MemberState::Empty),
        2 => Just(MemberState::DeadLettered),
    ]
}

/// One state per member, and its events repeated and shuffled: the list and every outcome come at
/// least once.
fn one_attempt_each() -> impl Strategy<Value = (Vec<MemberState>, Vec<ProgressEvent>)> {
    prop::collection::vec((settled_state(), 1usize..4), 0..30)
        .prop_flat_map(|members| (Just(members), 1usize..4))
        .prop_flat_map(|(members, lists)| {
            let ids = ids(members.len());
            let mut events = vec![list(&ids); lists];
            for (id, (state, times)) in ids.iter().zip(&members) {
                events.extend(vec![settled(id, *state, 1); *times]);
            }
            let states = members.into_iter().map(|(state, _)| state).collect::<Vec<_>>();
            (Just(states), Just(events).prop_shuffle())
        })
}

/// Several attempts at each member, of which one is done in the end, shuffled.
fn attempts_until_done() -> impl Strategy<Value = (usize, Vec<ProgressEvent>)> {
    let attempts = prop::collection::vec(settled_state(), 0..4);
    prop::collection::vec(attempts, 1..15).prop_flat_map(|members: Vec<Attempts>| {
        let ids = ids(members.len());
        let mut events = vec![list(&ids), list(&ids)];
        for (id, attempts) in ids.iter().zip(&members) {
            events.push(settled(id, MemberState::Done, 1));
            events.extend(attempts.iter().map(|state| settled(id, *state, 1)));
        }
        (Just(members.len()), Just(events).prop_shuffle())
    })
}

fn content(state: &ManifestState) -> BTreeMap<MemberHash, (bool, MemberState)> {
    let known = |(hash, member): (MemberHash, Member)| (hash, (member.expected, member.state));
    state.members().iter().map(known).collect()
}

/// The states of the members that the events so far name, best attempt first, and whether the
/// list was among them.
fn naive(events: &[ProgressEvent]) -> (bool, BTreeMap<String, MemberState>) {
    let mut announced = false;
    let mut best = BTreeMap::new();
    for event in events {
        match event {
            ProgressEvent::Expected(_) => announced = true,
            ProgressEvent::Settled(event) => {
                let state = best.entry(event.member.as_str().to_owned()).or_insert(event.state);
                *state = (*state).max(event.state);
            }
            ProgressEvent::Command(_) => {}
        }
    }
    (announced, best)
}

/// Applies the events, and returns the position of each event that completed a revision.
fn completions(rules: &Rules, events: &[ProgressEvent]) -> (ManifestState, Vec<(usize, u32)>) {
    let mut state = ManifestState::new(NOW);
    let mut completed = Vec::new();
    for (position, event) in events.iter().enumerate() {
        let applied = state.apply(event, rules, NOW);
        completed.extend(completion(&applied).map(|done| (position, done.revision)));
    }
    (state, completed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_completes_once_exactly_when_the_last_missing_event_has_come(
        (states, events) in one_attempt_each(),
        tolerate in 0u64..6,
    ) {
        let rules = tolerating(tolerate);
        let dead = states.iter().filter(|state| **state == MemberState::DeadLettered).count();
        let holds = dead as u64 <= tolerate;
        let ready = (0..events.len()).find(|position| {
            let (announced, best) = naive(&events[..=*position]);
            announced && best.len() == states.len()
        });
        let (state, completed) = completions(&rules, &events);
        let wanted = ready.filter(|_| holds).map(|position| (position, 1));
        prop_assert_eq!(completed, wanted.into_iter().collect::<Vec<_>>());
        let phase = if holds { Phase::Complete } else { Phase::Open };
        prop_assert_eq!((state.head().phase, state.head().revision), (phase, 1));
        let needed = states.len() as u64 + 1;
        prop_assert_eq!(state.head().counts.duplicates, events.len() as u64 - needed);
        prop_assert_eq!(state.head().counts.conflicts + state.head().counts.late, 0);
    }

    #[test]
    fn any_order_ends_in_the_same_members(
        (states, events) in one_attempt_each(),
        tolerate in 0u64..6,
    ) {
        let mut sorted = vec![list(&ids(states.len()))];
        for (id, state) in ids(states.len()).iter().zip(&states) {
            sorted.push(settled(id, *state, 1));
        }
        let (one, _) = after(&tolerating(tolerate), &events);
        let (other, _) = after(&tolerating(tolerate), &sorted);
        prop_assert_eq!(content(&one), content(&other));
        prop_assert_eq!(one.members().tally(), other.members().tally());
        prop_assert_eq!(one.head().phase, other.head().phase);
    }

    #[test]
    fn where_all_have_to_be_done_attempts_before_do_not_complete_it(
        (count, events) in attempts_until_done(),
    ) {
        let ready = (0..events.len()).find(|position| {
            let (announced, best) = naive(&events[..=*position]);
            let good = best.values().filter(|state| **state > MemberState::DeadLettered).count();
            announced && good == count
        });
        let (state, completed) = completions(&all_done(), &events);
        prop_assert_eq!(completed.first().copied(), ready.map(|position| (position, 1)));
        let revisions: BTreeSet<_> = completed.iter().map(|(_, revision)| *revision).collect();
        prop_assert_eq!(revisions.len(), completed.len(), "a revision completed twice");
        prop_assert_eq!(state.head().phase, Phase::Complete);
        prop_assert_eq!(state.members().tally().done, count as u64);
    }

    #[test]
    fn reloading_after_any_event_changes_nothing(
        (_, events) in one_attempt_each(),
        at in any::<prop::sample::Index>(),
    ) {
        let cut = at.index(events.len());
        let (before, _) = after(&tolerating(2), &events[..cut]);
        let mut reloaded = ManifestState::load(before.head().clone(), before.members().iter());
        let (straight, _) = after(&tolerating(2), &events);
        for event in &events[cut..] {
            reloaded.apply(event, &tolerating(2), NOW);
        }
        prop_assert_eq!(content(&reloaded), content(&straight));
        prop_assert_eq!(reloaded.head(), straight.head());
    }
}
