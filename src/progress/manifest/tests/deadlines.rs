//! Tests of what deadlines and the command extend do to a manifest.

use std::time::Duration;

use super::{after, all_done, command, completion, done, expected};
use crate::model::event::{CommandAction, ProgressEvent};
use crate::progress::deadline::{
    Deadline, DeadlineAction, Extension, Moment, OwnedTime, Since, Upcoming,
};
use crate::progress::manifest::{CompletedBy, Effect, ManifestState, Phase, Rules};

const HOUR: u64 = 3_600;

fn at(millis: u64) -> Moment {
    Moment { owned: OwnedTime(millis), unix_millis: 0 }
}

fn due_at(millis: u64) -> Upcoming {
    Upcoming { owned: Some(OwnedTime(millis)), wall: None }
}

fn with_deadline(since: Since, seconds: u64, action: DeadlineAction) -> Rules {
    let after = Duration::from_secs(seconds);
    Rules { deadlines: vec![Deadline { since, after, action, extension: None }], ..all_done() }
}

/// A list that names a point in time for the first deadline.
fn appointing(ids: &[&str], due: i64) -> ProgressEvent {
    let mut event = expected(ids);
    if let ProgressEvent::Expected(event) = &mut event {
        event.due = vec![Some(due)];
    }
    event
}

fn extend(by_seconds: u64) -> ProgressEvent {
    command(CommandAction::Extend { by_seconds })
}

#[test]
fn a_deadline_alerts_completes_or_fails_once() {
    let table = [
        (DeadlineAction::Alert, Phase::Open),
        (DeadlineAction::Complete, Phase::Complete),
        (DeadlineAction::Fail, Phase::Failed),
    ];
    for (action, phase) in table {
        let rules = with_deadline(Since::First, 60, action);
        let (mut state, _) = after(&rules, &[expected(&["a", "b"]), done("a")]);
        assert_eq!(state.next_due(&rules), due_at(61_000));
        assert_eq!(state.expire(&rules, at(60_999)), None);
        let applied = state.expire(&rules, at(61_000)).unwrap();
        assert!(applied.head_changed);
        assert_eq!(state.head().phase, phase);
        assert_eq!(applied.effect == Effect::Alert, action == DeadlineAction::Alert);
        assert_eq!(applied.effect == Effect::Failed, action == DeadlineAction::Fail);
        let why = completion(&applied).map(|completion| completion.why);
        let wanted = (action == DeadlineAction::Complete).then_some(CompletedBy::Deadline);
        assert_eq!(why, wanted);
        assert_eq!(state.expire(&rules, at(u64::MAX)), None);
        assert_eq!(state.next_due(&rules), Upcoming::default());
    }
}

#[test]
fn every_event_of_an_open_manifest_puts_inactivity_off() {
    let rules = with_deadline(Since::Inactivity, 60, DeadlineAction::Fail);
    let mut state = ManifestState::new(at(0));
    for (index, event) in [done("a"), done("a"), expected(&["a", "b"])].iter().enumerate() {
        let now = 50_000 * (index as u64 + 1);
        assert!(state.apply(event, &rules, at(now)).head_changed);
        assert_eq!(state.next_due(&rules), due_at(now + 60_000));
    }
}

#[test]
fn a_reopened_manifest_gets_its_whole_time() {
    let rules = with_deadline(Since::First, 60, DeadlineAction::Fail);
    let (mut state, _) = after(&rules, &[expected(&["a"])]);
    assert!(state.expire(&rules, at(61_000)).is_some());
    state.apply(&command(CommandAction::Reopen), &rules, at(90_000));
    assert_eq!(state.next_due(&rules), due_at(150_000));
}

#[test]
fn a_deadline_that_is_put_off_says_so_and_acts_in_the_end() {
    let extension = Some(Extension { by: Duration::from_secs(10), most: 1 });
    let mut rules = with_deadline(Since::First, 60, DeadlineAction::Complete);
    rules.deadlines[0].extension = extension;
    let (mut state, _) = after(&rules, &[expected(&["a"])]);
    let put_off = state.expire(&rules, at(61_000)).unwrap();
    assert_eq!((put_off.effect, put_off.head_changed), (Effect::PutOff, true));
    assert_eq!((state.head().phase, state.next_due(&rules)), (Phase::Open, due_at(71_000)));
    let acted = state.expire(&rules, at(71_000)).unwrap();
    assert_eq!(completion(&acted).map(|completion| completion.why), Some(CompletedBy::Deadline));
}

#[test]
fn a_point_in_time_comes_with_the_list_and_acts_whatever_the_shard_has_seen_of_it() {
    let rules = with_deadline(Since::Appointment, 0, DeadlineAction::Fail);
    let (mut state, _) = after(&rules, &[done("a"), appointing(&["a", "b"], 5_000)]);
    let now = |unix_millis| Moment { owned: OwnedTime(1_000), unix_millis };
    assert_eq!(state.next_due(&rules), Upcoming { owned: None, wall: Some(5_000) });
    assert_eq!(state.expire(&rules, now(4_999)), None);
    assert_eq!(state.expire(&rules, now(5_000)).map(|gone| gone.effect), Some(Effect::Failed));
}

#[test]
fn an_amendment_after_its_point_in_time_is_not_given_up_at_once() {
    let rules = with_deadline(Since::Appointment, 0, DeadlineAction::Fail);
    let (mut state, _) = after(&rules, &[appointing(&["a"], 5_000), done("a")]);
    let late = Moment { owned: OwnedTime(2_000), unix_millis: 9_000 };
    let amended = state.apply(&expected(&["b"]), &rules, late);
    assert!(amended.reopened);
    assert_eq!(state.expire(&rules, late), None);
    assert_eq!(state.head().phase, Phase::Open);
}

#[test]
fn extend_puts_deadlines_off_where_there_are_some_and_the_manifest_is_open() {
    let rules = with_deadline(Since::First, HOUR, DeadlineAction::Fail);
    let open = vec![expected(&["a"])];
    let complete = vec![expected(&["a"]), done("a")];
    let cancelled = vec![expected(&["a"]), command(CommandAction::Cancel)];
    // Rules, events before, whether it is refused.
    let table = [
        (&rules, &open, false),
        (&all_done(), &open, true),
        (&rules, &complete, true),
        (&rules, &cancelled, true),
    ];
    for (rules, before, refused) in table {
        let (mut state, _) = after(rules, before);
        let due = state.next_due(rules);
        let applied = state.apply(&extend(2 * HOUR), rules, at(1_000));
        assert_eq!(applied.refused.is_some(), refused, "{rules:?} {before:?}");
        assert_eq!(applied.effect == Effect::PutOff, !refused, "{rules:?} {before:?}");
        let wanted = if refused { due } else { due_at(1_000 + 2 * HOUR * 1_000) };
        assert_eq!(state.next_due(rules), wanted, "{rules:?} {before:?}");
    }
}

#[test]
fn an_extension_says_from_now_on_so_that_a_repetition_adds_nothing() {
    let rules = with_deadline(Since::First, HOUR, DeadlineAction::Fail);
    let (mut state, _) = after(&rules, &[expected(&["a"]), extend(2 * HOUR), extend(2 * HOUR)]);
    assert_eq!(state.next_due(&rules), due_at(1_000 + 2 * HOUR * 1_000));
    state.apply(&extend(60), &rules, at(1_000));
    assert_eq!(state.next_due(&rules), due_at(1_000 + 2 * HOUR * 1_000), "nor does a shorter one");
}
