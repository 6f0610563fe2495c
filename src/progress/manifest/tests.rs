//! Tests of the rules of manifests, one by one; `properties` holds those about any order.

mod deadlines;
mod lists;
mod losers;
mod properties;
mod replays;

use super::{
    Applied, CompletedBy, Completion, Effect, Late, ManifestState, MemberHash, Phase, Policy,
    Retire, Rules, Share, Tally,
};
use crate::model::event::{
    Command, CommandAction, Expected, MemberFacts, MemberState, ProgressEvent, Settled,
};
use crate::model::{Digest, ManifestKey, MemberId, NodeName};
use crate::progress::deadline::{Moment, OwnedTime};

const NOW: Moment = Moment { owned: OwnedTime(1_000), unix_millis: 0 };

fn all_done() -> Rules {
    Rules::default()
}

fn tolerating(tolerate: u64) -> Rules {
    under(Policy::AllSettled { tolerate: Share::Members(tolerate) })
}

fn under(policy: Policy) -> Rules {
    Rules { policy, ..Rules::default() }
}

fn expected(ids: &[&str]) -> ProgressEvent {
    ProgressEvent::Expected(Expected {
        kind: NodeName::from("report"),
        manifest: ManifestKey::from("r-1"),
        members: ids.iter().map(|id| MemberId::from(*id)).collect(),
        version: None,
        due: Vec::new(),
        facts: serde_json::Map::new(),
        at: 0,
    })
}

fn settled(id: &str, state: MemberState, digest: u8) -> ProgressEvent {
    ProgressEvent::Settled(Settled {
        kind: NodeName::from("report"),
        manifest: ManifestKey::from("r-1"),
        member: MemberId::from(id),
        state,
        digest: digest_of(digest),
        facts: MemberFacts::default(),
        at: 0,
    })
}

fn done(id: &str) -> ProgressEvent {
    settled(id, MemberState::Done, 1)
}

fn dead(id: &str) -> ProgressEvent {
    settled(id, MemberState::DeadLettered, 1)
}

fn command(action: CommandAction) -> ProgressEvent {
    ProgressEvent::Command(Command {
        manifest: ManifestKey::from("r-1"),
        action,
        who: "ops".to_owned(),
        why: "a test".to_owned(),
        at: 0,
    })
}

fn digest_of(number: u8) -> Digest {
    Digest::from_bytes([number; 16])
}

fn hash(id: &str) -> MemberHash {
    MemberHash::of(&MemberId::from(id))
}

fn completion(applied: &Applied) -> Option<&Completion> {
    match &applied.effect {
        Effect::Completed(completion) => Some(completion),
        _ => None,
    }
}

/// A manifest after these events, and what the last of them did.
fn after(rules: &Rules, events: &[ProgressEvent]) -> (ManifestState, Applied) {
    let mut state = ManifestState::new(NOW);
    let mut last = Applied::default();
    for event in events {
        last = state.apply(event, rules, NOW);
    }
    (state, last)
}

/// Revision and reason of the completion that the last of these events brought.
fn completes(rules: &Rules, events: &[ProgressEvent]) -> Option<(u32, CompletedBy)> {
    let (_, last) = after(rules, events);
    completion(&last).map(|completion| (completion.revision, completion.why))
}

#[test]
fn it_completes_with_the_last_of_its_events_in_any_order() {
    let (a, b, list) = (done("a"), settled("b", MemberState::Empty, 2), expected(&["a", "b"]));
    let orders =
        [[list.clone(), a.clone(), b.clone()], [a.clone(), list.clone(), b.clone()], [b, a, list]];
    for order in orders {
        assert_eq!(completes(&all_done(), &order[..1]), None);
        assert_eq!(completes(&all_done(), &order[..2]), None);
        assert_eq!(completes(&all_done(), &order), Some((1, CompletedBy::AllDone)));
    }
}

#[test]
fn a_completion_counts_its_members_and_names_the_dead_lettered_ones() {
    let events = [
        expected(&["a", "b", "c", "d"]),
        done("a"),
        settled("b", MemberState::Empty, 1),
        dead("c"),
        done("stray"),
        dead("d"),
    ];
    let (_, last) = after(&tolerating(2), &events);
    let tally =
        Tally { expected: 4, pending: 0, dead_lettered: 2, empty: 1, done: 1, unexpected: 1 };
    let dead_lettered = vec![hash("c"), hash("d")];
    let wanted = Completion { why: CompletedBy::Tolerated, revision: 1, tally, dead_lettered };
    assert_eq!(completion(&last), Some(&wanted));
}

#[test]
fn an_empty_list_completes_at_once() {
    let (state, last) = after(&all_done(), &[expected(&[])]);
    assert_eq!(completion(&last).map(|completion| completion.tally), Some(Tally::default()));
    assert_eq!(state.head().phase, Phase::Complete);
    assert!(last.head_changed);
}

#[test]
fn what_is_tolerated_is_a_number_of_dead_lettered_members_once_all_are_settled() {
    let list = expected(&["a", "b"]);
    let table = [
        (all_done(), vec![list.clone(), done("a"), dead("b")], None),
        (tolerating(0), vec![list.clone(), done("a"), dead("b")], None),
        (
            tolerating(1),
            vec![list.clone(), done("a"), dead("b")],
            Some((1, CompletedBy::Tolerated)),
        ),
        (tolerating(1), vec![list.clone(), dead("a"), dead("b")], None),
        (tolerating(9), vec![list.clone(), dead("a")], None),
        (tolerating(9), vec![list, done("a"), done("b")], Some((1, CompletedBy::AllDone))),
    ];
    for (rules, events, wanted) in table {
        assert_eq!(completes(&rules, &events), wanted, "{rules:?} {events:?}");
    }
}

#[test]
fn members_that_nobody_expects_are_kept_and_never_complete_it() {
    let (state, last) = after(&all_done(), &[expected(&["a"]), done("x")]);
    assert!(last.unexpected && !last.late && last.members[0].first_seen);
    assert_eq!(last.effect, Effect::None);
    assert_eq!(state.members().tally().unexpected, 1);
}

#[test]
fn lists_add_up() {
    let events = [expected(&["a"]), expected(&["b"]), done("a"), done("b")];
    assert_eq!(completes(&all_done(), &events[..3]), None);
    assert_eq!(completes(&all_done(), &events), Some((1, CompletedBy::AllDone)));
}

#[test]
fn what_was_said_before_is_counted_and_changes_nothing() {
    let events = [expected(&["a", "b"]), done("a")];
    for again in events.clone() {
        let (mut state, _) = after(&all_done(), &events);
        let members = format!("{:?}", state.members());
        let applied = state.apply(&again, &all_done(), NOW);
        assert!(applied.duplicate && applied.members.is_empty() && applied.retire.is_empty());
        assert_eq!(state.head().counts.duplicates, 1);
        assert_eq!(format!("{:?}", state.members()), members);
    }
}

#[test]
fn a_list_that_names_a_member_twice_expects_it_once() {
    let (state, last) = after(&all_done(), &[expected(&["a", "a"])]);
    assert_eq!(last.members.len(), 1);
    assert_eq!(state.members().tally().expected, 1);
}

/// First attempt, second attempt, and what is left: state and digest, conflict, what is retired.
#[test]
fn of_two_attempts_the_better_wins_and_at_the_same_state_the_first() {
    use MemberState::{DeadLettered, Done, Empty};
    let table = [
        ((DeadLettered, 1), (Done, 1), (Done, 1), false, None),
        ((DeadLettered, 1), (Done, 2), (Done, 2), false, Some(1)),
        ((DeadLettered, 1), (Empty, 2), (Empty, 2), false, None),
        ((Empty, 1), (Done, 2), (Done, 2), false, Some(1)),
        ((Done, 1), (Done, 1), (Done, 1), false, None),
        ((Done, 1), (Done, 2), (Done, 1), true, Some(2)),
        ((Done, 1), (Empty, 2), (Done, 1), true, Some(2)),
        ((Done, 1), (DeadLettered, 2), (Done, 1), false, Some(2)),
        ((Done, 1), (DeadLettered, 1), (Done, 1), false, None),
        ((Empty, 1), (Empty, 2), (Empty, 1), true, None),
        ((DeadLettered, 1), (DeadLettered, 2), (DeadLettered, 1), false, None),
    ];
    for (first, second, left, conflict, retired) in table {
        let events = [
            expected(&["a", "b"]),
            settled("a", first.0, first.1),
            settled("a", second.0, second.1),
        ];
        let (state, last) = after(&all_done(), &events);
        let member = state.members().get(hash("a")).unwrap();
        let context = format!("{first:?} {second:?}");
        assert_eq!((member.state, member.digest), (left.0, Some(digest_of(left.1))), "{context}");
        assert_eq!(last.conflict, conflict, "{context}");
        let retired = retired
            .map(|digest| Retire { member: hash("a"), digest: digest_of(digest) })
            .into_iter();
        assert_eq!(last.retire, retired.collect::<Vec<_>>(), "{context}");
        assert_eq!(state.head().counts.conflicts, u64::from(conflict), "{context}");
    }
}

#[test]
fn a_member_that_a_completion_did_without_is_dropped_and_counted_by_default() {
    let forced = [expected(&["a", "b"]), done("a"), command(CommandAction::Force)];
    let (mut state, last) = after(&all_done(), &forced);
    assert_eq!(completion(&last).map(|completion| completion.why), Some(CompletedBy::Forced));
    let late = state.apply(&settled("b", MemberState::Done, 9), &all_done(), NOW);
    assert!(late.late && late.members.is_empty() && !late.reopened);
    assert_eq!(late.effect, Effect::None);
    assert!(late.retire.is_empty(), "a re-opened manifest may accept it after all");
    assert_eq!(state.head().counts.late, 1);
    assert_eq!(state.members().tally().pending, 1);
}

#[test]
fn a_dead_lettered_member_that_is_mended_completes_the_next_revision() {
    let events = [expected(&["a", "b"]), done("a"), dead("b"), done("b")];
    let (state, last) = after(&tolerating(1), &events);
    assert!(last.reopened && !last.late);
    let completion = completion(&last).unwrap();
    assert_eq!((completion.revision, completion.why), (2, CompletedBy::AllDone));
    assert!(completion.dead_lettered.is_empty());
    assert_eq!(state.head().revision, 2);
}

#[test]
fn a_mended_member_waits_for_the_others_where_the_policy_wants_all_done() {
    let mut state = ManifestState::new(NOW);
    for event in [expected(&["a", "b"]), dead("a"), dead("b"), command(CommandAction::Force)] {
        state.apply(&event, &all_done(), NOW);
    }
    let first = state.apply(&done("a"), &all_done(), NOW);
    assert!(first.reopened && completion(&first).is_none());
    assert_eq!((state.head().phase, state.head().revision), (Phase::Open, 2));
    let second = state.apply(&done("b"), &all_done(), NOW);
    assert!(!second.reopened);
    assert_eq!(completion(&second).map(|completion| completion.revision), Some(2));
}

#[test]
fn a_member_that_a_completion_did_without_opens_the_next_revision_where_that_is_declared() {
    let rules = Rules { late: Late::Revision, ..under(Policy::Quorum(Share::Members(1))) };
    let before = [expected(&["a", "b"]), done("a")];
    assert_eq!(completes(&rules, &before), Some((1, CompletedBy::Quorum)));
    let late = [before[0].clone(), done("a"), done("b")];
    assert_eq!(completes(&rules, &late), Some((2, CompletedBy::AllDone)));
    let (state, last) = after(&rules, &late);
    assert!(last.reopened && !last.late && last.members.len() == 1);
    assert_eq!((state.head().revision, state.head().counts.late), (2, 0));
    let again = [late.as_slice(), &[done("b"), dead("b")]].concat();
    let (state, last) = after(&rules, &again);
    assert!(last.duplicate && !last.reopened);
    assert_eq!((state.head().revision, state.head().counts.duplicates), (2, 2));
}

#[test]
fn a_late_member_nobody_expects_opens_nothing_under_any_declaration() {
    for late in [Late::Drop, Late::Revision] {
        let rules = Rules { late, ..all_done() };
        let (state, last) = after(&rules, &[expected(&["a"]), done("a"), done("x")]);
        assert!(last.late && last.unexpected && !last.reopened, "{late:?}");
        assert_eq!(state.head().revision, 1);
    }
}

#[test]
fn a_predicate_is_asked_once_announced_and_its_answer_completes_once() {
    let rules = under(Policy::Predicate);
    let (mut state, early) = after(&rules, &[done("a")]);
    assert!(!early.ask && state.decide(true).is_none(), "nobody has announced it");
    let listed = state.apply(&expected(&["a", "b"]), &rules, NOW);
    assert!(listed.ask && listed.effect == Effect::None);
    assert_eq!(state.decide(false), None);
    let again = state.apply(&done("a"), &rules, NOW);
    assert!(again.ask && again.duplicate, "facts may have come with it");
    let completion = state.decide(true).unwrap();
    assert_eq!((completion.revision, completion.why), (1, CompletedBy::Predicate));
    assert_eq!((completion.tally.done, completion.tally.pending), (1, 1));
    assert_eq!(state.decide(true), None, "it is complete");
    assert!(!state.apply(&done("a"), &rules, NOW).ask);
}

#[test]
fn a_forced_completion_needs_no_predicate() {
    let events = [expected(&["a"]), command(CommandAction::Force)];
    let (_, last) = after(&under(Policy::Predicate), &events);
    assert!(!last.ask);
    assert_eq!(completion(&last).map(|completion| completion.why), Some(CompletedBy::Forced));
}

#[test]
fn a_repetition_after_completion_is_a_duplicate_and_not_late() {
    let events = [expected(&["a"]), done("a"), done("a")];
    let (state, last) = after(&all_done(), &events);
    assert!(last.duplicate && !last.late && !last.reopened);
    let (_, last) = after(&all_done(), &[expected(&["a"]), done("a"), expected(&["a"])]);
    assert!(last.duplicate && !last.late && !last.reopened);
    assert_eq!(state.head().revision, 1);
}

#[test]
fn members_added_after_completion_open_the_next_revision() {
    let events = [expected(&["a"]), done("a"), expected(&["a", "b"]), done("b")];
    let (state, amended) = after(&all_done(), &events[..3]);
    assert!(amended.reopened && !amended.duplicate);
    assert_eq!((state.head().phase, state.head().revision), (Phase::Open, 2));
    assert_eq!(completes(&all_done(), &events), Some((2, CompletedBy::AllDone)));
}

#[test]
fn an_added_member_that_settled_before_it_was_expected_completes_at_once() {
    let events = [expected(&["a"]), done("a"), done("b"), expected(&["b"])];
    let (_, stray) = after(&all_done(), &events[..3]);
    assert!(stray.late && stray.unexpected && stray.retire.is_empty());
    let (_, amended) = after(&all_done(), &events);
    assert!(amended.reopened);
    assert_eq!(completion(&amended).map(|completion| completion.revision), Some(2));
}

#[test]
fn commands_do_what_the_table_says() {
    use CommandAction::{Cancel, Force, Reopen, Retry};
    let open = vec![expected(&["a"])];
    let complete = vec![expected(&["a"]), done("a")];
    let cancelled = vec![expected(&["a"]), command(Cancel)];
    // Events before, command, phase and revision after, whether it was refused.
    let table = [
        (&open, Force, Phase::Complete, 1, false),
        (&open, Cancel, Phase::Cancelled, 1, false),
        (&open, Reopen, Phase::Open, 1, false),
        (&open, Retry, Phase::Open, 1, true),
        (&complete, Force, Phase::Complete, 1, false),
        (&complete, Cancel, Phase::Complete, 1, true),
        (&complete, Reopen, Phase::Complete, 2, false),
        (&complete, Retry, Phase::Complete, 1, false),
        (&cancelled, Force, Phase::Cancelled, 1, true),
        (&cancelled, Cancel, Phase::Cancelled, 1, false),
        (&cancelled, Reopen, Phase::Open, 1, false),
        (&cancelled, Retry, Phase::Cancelled, 1, true),
    ];
    for (before, action, phase, revision, refused) in table {
        let (mut state, _) = after(&all_done(), before);
        let applied = state.apply(&command(action), &all_done(), NOW);
        let found = (state.head().phase, state.head().revision, applied.refused.is_some());
        assert_eq!(found, (phase, revision, refused), "{before:?} {action:?}");
        let completed = completion(&applied).map(|completion| completion.revision);
        let wanted = match (action, before.len()) {
            (Force, 1) => Some(1),
            (Reopen, _) if phase == Phase::Complete => Some(2),
            _ => None,
        };
        assert_eq!(completed, wanted, "{before:?} {action:?}");
    }
}

#[test]
fn retry_asks_for_the_actions_again_and_cancel_says_so() {
    let (_, retried) = after(&all_done(), &[expected(&[]), command(CommandAction::Retry)]);
    assert_eq!(retried.effect, Effect::RetryActions);
    let (_, cancelled) = after(&all_done(), &[expected(&["a"]), command(CommandAction::Cancel)]);
    assert_eq!(cancelled.effect, Effect::Cancelled);
}

#[test]
fn a_cancelled_manifest_never_completes_but_remembers_for_a_reopening() {
    let events =
        [expected(&["a"]), command(CommandAction::Cancel), done("a"), expected(&["b"]), done("b")];
    let (mut state, last) = after(&all_done(), &events);
    assert!(last.late && last.effect == Effect::None);
    assert_eq!((state.head().phase, state.head().counts.late), (Phase::Cancelled, 3));
    let reopened = state.apply(&command(CommandAction::Reopen), &all_done(), NOW);
    assert!(reopened.reopened);
    assert_eq!(completion(&reopened).map(|completion| completion.revision), Some(1));
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing_to_persist() {
    let commands = [CommandAction::Force, CommandAction::Cancel, CommandAction::Reopen];
    let nonsense = commands.map(command).into_iter();
    for event in nonsense.chain([settled("a", MemberState::Pending, 1)]) {
        let (state, applied) = after(&all_done(), &[event]);
        assert!(applied.refused.is_some() && !applied.head_changed && applied.members.is_empty());
        assert_eq!(applied.effect, Effect::None);
        assert!(state.members().is_empty());
    }
}

#[test]
fn it_goes_on_from_the_store_where_it_was() {
    let (state, _) = after(&tolerating(1), &[expected(&["a", "b", "c"]), done("a"), dead("b")]);
    let mut loaded = ManifestState::load(state.head().clone(), state.members().iter());
    assert_eq!(loaded.members().tally(), state.members().tally());
    let last = loaded.apply(&done("c"), &tolerating(1), NOW);
    let completion = completion(&last).unwrap();
    assert_eq!((completion.revision, completion.why), (1, CompletedBy::Tolerated));
    assert_eq!(completion.dead_lettered, [hash("b")]);
}
