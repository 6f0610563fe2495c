//! Events and deadlines in, rows out, without a store.

mod rules;

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::*;
use crate::completion::config::{Action, ActionKind};
use crate::expr::{Program, Purpose};
use crate::model::Digest;
use crate::model::event::{Expected, FailureFact, MemberFacts, MemberState, ObjectFact, Settled};
use crate::progress::deadline::{Deadline, DeadlineAction, Since};
use crate::progress::manifest::{MemberHash, Policy, Rules};
use crate::state::{ManifestPhase, MemberRow, OutboxTarget};

fn kinds(policy: Policy, deadlines: Vec<Deadline>, payload: &str) -> Arc<Kinds> {
    let payload = Program::compile(payload, Purpose::Map).unwrap();
    let kind = ActionKind::Http { url: "http://127.0.0.1/done".into(), payload };
    let kind = Kind {
        rules: Rules { policy, deadlines, ..Rules::default() },
        actions: vec![Action { name: "tell".into(), kind }],
        facts: vec!["cluster".into()],
        ..Kind::default()
    };
    Arc::new(Kinds::from_iter([(NodeName::from("report"), kind)]))
}

fn ledger(kinds: Arc<Kinds>) -> Ledger {
    Ledger::new("sales".into(), 0, kinds)
}

fn at(millis: u64) -> Moment {
    Moment { owned: OwnedTime(millis), unix_millis: 1_000_000 + millis.cast_signed() }
}

fn expected(members: &[&str]) -> ProgressEvent {
    ProgressEvent::Expected(Expected {
        kind: "report".into(),
        manifest: "m".into(),
        members: members.iter().map(|id| MemberId::from(*id)).collect(),
        version: None,
        due: Vec::new(),
        facts: Map::from_iter([("cluster".to_owned(), Value::from("c"))]),
        at: 1,
    })
}

fn settled(member: &str, state: MemberState) -> ProgressEvent {
    ProgressEvent::Settled(Settled {
        kind: "report".into(),
        manifest: "m".into(),
        member: member.into(),
        state,
        digest: Digest::from_bytes([1; 16]),
        facts: MemberFacts { rows: 7, ..MemberFacts::default() },
        at: 2,
    })
}

fn command(action: CommandAction) -> ProgressEvent {
    ProgressEvent::Command(Command {
        manifest: "m".into(),
        action,
        who: "ann".into(),
        why: "because".into(),
        at: 3,
    })
}

/// Applies events in one change that begins at offset 0.
fn change(ledger: &mut Ledger, events: &[ProgressEvent], now: Moment) -> Drafted {
    let mut draft = Draft::default();
    for event in events {
        ledger.apply(event, now, &mut draft).unwrap();
    }
    finish(ledger, draft, now)
}

fn finish(ledger: &mut Ledger, draft: Draft, now: Moment) -> Drafted {
    let drafted = ledger.finish(draft, (Offset(0), Offset(9)), now.owned);
    ledger.stored(&drafted, usize::MAX);
    drafted
}

fn member<'a>(drafted: &'a Drafted, id: &str) -> &'a MemberRow {
    let found = drafted.change.members.iter().find(|(_, row)| row.member.as_str() == id);
    &found.unwrap().1
}

#[test]
fn a_manifest_completes_with_its_actions_resolved() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), ".manifest"));
    let events = [expected(&["a"]), settled("a", MemberState::Done)];
    let drafted = change(&mut ledger, &events, at(5));
    assert!(drafted.change.manifests.is_empty(), "the completion's row is the only one");
    let [completion] = drafted.change.completions.as_slice() else { panic!("one completion") };
    assert_eq!(completion.manifest.phase, ManifestPhase::Complete);
    assert_eq!(completion.manifest.note.as_deref(), Some("all_done"));
    assert_eq!(completion.manifest.completed_at, Some(1_000_005));
    assert_eq!(completion.parameters["cluster"], json!("c"));
    let OutboxTarget::Http { payload, .. } = &completion.outbox[0].target else { panic!() };
    assert_eq!(payload, &json!("m"));
    assert_eq!(member(&drafted, "a").state, MemberState::Done);
}

#[test]
fn what_a_member_brought_early_is_not_lost_when_it_is_expected_later() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    change(&mut ledger, &[settled("a", MemberState::Done)], at(0));
    let drafted = change(&mut ledger, &[expected(&["a", "b"])], at(1));
    let row = member(&drafted, "a");
    assert!(row.expected);
    assert_eq!((row.facts.rows, row.settled_at), (7, Some(2)));
    assert_eq!(member(&drafted, "b").settled_at, None);
}

#[test]
fn a_manifest_that_was_stored_and_loaded_goes_on_as_if_it_had_never_left() {
    let deadlines = vec![deadline(Since::First, DeadlineAction::Alert)];
    let kinds = kinds(Policy::AllDone, deadlines, "null");
    let mut stayed = ledger(kinds.clone());
    let events = [
        settled("early", MemberState::Done),
        expected(&["a", "b"]),
        settled("b", MemberState::DeadLettered),
        settled("b", MemberState::DeadLettered),
    ];
    let drafted = change(&mut stayed, &events, at(5));
    let row = drafted.change.manifests[0].clone();
    let members = drafted.change.members.into_iter().map(|(_, row)| row).collect();
    let mut loaded = ledger(kinds);
    loaded.load(StoredManifest { row, members });
    assert_eq!(loaded.next_due(), stayed.next_due());
    let events = [expected(&["early"]), settled("a", MemberState::Done), command(FORCE)];
    let (one, other) = (change(&mut stayed, &events, at(9)), change(&mut loaded, &events, at(9)));
    assert_eq!(one.change, other.change);
    assert_eq!(one.change.completions.len(), 1);
}

fn deadline(since: Since, action: DeadlineAction) -> Deadline {
    Deadline { since, after: Duration::from_secs(3600), action, extension: None }
}

const FORCE: CommandAction = CommandAction::Force;

#[test]
fn a_deadline_completes_with_what_has_settled_and_names_the_failed() {
    let deadlines = vec![deadline(Since::Inactivity, DeadlineAction::Complete)];
    let payload = r#"{"failed": .failed, "why": .why, "pending": .members.pending}"#;
    let mut ledger = ledger(kinds(Policy::AllDone, deadlines, payload));
    let events = [expected(&["a", "b"]), settled("b", MemberState::DeadLettered)];
    change(&mut ledger, &events, at(0));
    let hour = 3_600_000;
    assert!(ledger.due(at(hour - 1), 9).is_empty());
    assert_eq!(ledger.due(at(hour), 9), [ManifestKey::from("m")]);
    let mut draft = Draft::default();
    ledger.expire(&"m".into(), at(hour), &mut draft);
    let drafted = finish(&mut ledger, draft, at(hour));
    let OutboxTarget::Http { payload, .. } = &drafted.change.completions[0].outbox[0].target else {
        panic!()
    };
    assert_eq!(payload, &json!({"failed": ["b"], "why": "deadline", "pending": 1}));
    assert!(ledger.due(at(u64::MAX), 9).is_empty(), "a complete manifest has none");
}

#[test]
fn the_deadlines_of_manifests_in_the_store_are_known_from_their_rows() {
    let deadlines = vec![deadline(Since::First, DeadlineAction::Fail)];
    let kinds = kinds(Policy::AllDone, deadlines, "null");
    let drafted = change(&mut ledger(kinds.clone()), &[expected(&["a"])], at(500));
    let mut fresh = ledger(kinds);
    assert_eq!(fresh.foresee(&drafted.change.manifests[0]), OwnedTime(500));
    assert!(fresh.due(at(3_600_499), 9).is_empty());
    assert_eq!(fresh.due(at(3_600_500), 9).len(), 1);
    assert!(!fresh.knows(&"m".into()), "the manifest itself is not loaded");
}

#[test]
fn a_payload_that_fails_blocks_the_completion_and_a_retry_keeps_its_reason() {
    let broken = kinds(Policy::AllDone, Vec::new(), "int!(.manifest)");
    let mut ledger_before = ledger(broken);
    let events = [expected(&["a"]), settled("a", MemberState::DeadLettered), command(FORCE)];
    let drafted = change(&mut ledger_before, &events, at(1));
    assert!(drafted.change.completions.is_empty());
    let row = &drafted.change.manifests[0];
    assert_eq!(row.phase, ManifestPhase::Open);
    assert!(row.note.as_deref().is_some_and(|note| note.starts_with("blocked: tell: ")));
    assert_eq!(ledger_before.blocked(), 1);

    let mut mended = ledger(kinds(Policy::AllDone, Vec::new(), ".why"));
    let members = drafted.change.members.iter().map(|(_, row)| row.clone()).collect();
    mended.load(StoredManifest { row: row.clone(), members });
    assert_eq!(mended.blocked(), 1);
    let drafted = change(&mut mended, &[command(CommandAction::Retry)], at(2));
    let completion = &drafted.change.completions[0];
    assert_eq!(completion.manifest.note.as_deref(), Some("forced"));
    let OutboxTarget::Http { payload, .. } = &completion.outbox[0].target else { panic!() };
    assert_eq!(payload, &json!("forced"));
    assert_eq!(mended.blocked(), 0);
}

#[test]
fn a_completion_that_the_store_rolled_back_is_open_and_counts_as_blocked() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let drafted = change(&mut ledger, &[expected(&["a"]), settled("a", MemberState::Done)], at(1));
    assert!(drafted.completed.contains_key(&ManifestKey::from("m")));
    let blocked = [BlockedCompletion { manifest: "m".into(), why: "no such column".into() }];
    let mut draft = Draft::default();
    ledger.reopen_blocked(&blocked, &drafted, &mut draft);
    let drafted = finish(&mut ledger, draft, at(1));
    let row = &drafted.change.manifests[0];
    assert_eq!(row.phase, ManifestPhase::Open);
    assert_eq!(row.note.as_deref(), Some("blocked: no such column"));
    assert_eq!(ledger.blocked(), 1);
}

#[test]
fn one_member_has_one_row_per_change_and_the_last_word_counts() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let failed = settled("a", MemberState::DeadLettered);
    let events = [expected(&["a", "b"]), failed, settled("a", MemberState::Done)];
    let drafted = change(&mut ledger, &events, at(1));
    assert_eq!(drafted.change.members.len(), 2);
    assert_eq!(member(&drafted, "a").state, MemberState::Done);
}

#[test]
fn what_cannot_be_applied_leaves_no_trace() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let mut draft = Draft::default();
    let mut other = settled("a", MemberState::Done);
    if let ProgressEvent::Settled(event) = &mut other {
        event.kind = "undeclared".into();
    }
    for event in [command(FORCE), other, settled("a", MemberState::Pending)] {
        assert!(ledger.apply(&event, at(0), &mut draft).is_err(), "{event:?}");
    }
    assert!(!ledger.knows(&"m".into()));
    let drafted = finish(&mut ledger, draft, at(0));
    assert!(drafted.change.manifests.is_empty());
}

#[test]
fn an_id_that_no_database_keeps_is_not_storable() {
    assert!(is_storable(&expected(&["a"])));
    assert!(!is_storable(&expected(&["a", ""])));
    assert!(!is_storable(&settled("a\0", MemberState::Done)));
}

#[test]
fn the_failure_of_a_member_is_kept_with_it() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let mut event = settled("a", MemberState::DeadLettered);
    let failure = FailureFact { node: "rows".into(), class: "unmatched".into(), why: "no".into() };
    if let ProgressEvent::Settled(event) = &mut event {
        event.facts.failure = Some(failure.clone());
    }
    let drafted = change(&mut ledger, &[event], at(0));
    let row = member(&drafted, "a");
    assert_eq!(row.facts.failure, Some(failure));
    assert_eq!(MemberHash::of(&row.member), MemberHash::of(&"a".into()));
}

/// An attempt at member `a` that wrote an object.
fn wrote(state: MemberState, digest: u8, url: &str) -> ProgressEvent {
    let mut event = settled("a", state);
    if let ProgressEvent::Settled(event) = &mut event {
        event.digest = Digest::from_bytes([digest; 16]);
        event.facts.objects = vec![ObjectFact {
            sink: "lake".into(),
            url: url.to_owned(),
            schema: None,
            rows: 7,
            bytes: 70,
            partition_values: Map::new(),
        }];
    }
    event
}

fn retired(url: &str) -> (ManifestKey, String) {
    (ManifestKey::from("m"), url.to_owned())
}

#[test]
fn an_attempt_with_other_content_is_retired_and_named_with_every_repetition() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let events = [expected(&["a"]), wrote(MemberState::Done, 1, "one")];
    let drafted = change(&mut ledger, &events, at(0));
    assert!(drafted.change.retired.is_empty() && !drafted.concerns_objects());
    for millis in [1, 2] {
        let again = wrote(MemberState::Done, 2, "two");
        let drafted = change(&mut ledger, &[again], at(millis));
        assert_eq!(drafted.change.retired, [retired("two")]);
        assert_eq!(drafted.change.named, ["two"], "it has been written again");
        assert!(drafted.concerns_objects());
    }
}

#[test]
fn objects_of_a_repetition_are_named_and_stay() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let event = wrote(MemberState::Done, 1, "one");
    change(&mut ledger, &[expected(&["a"]), event.clone()], at(0));
    let drafted = change(&mut ledger, &[event], at(1));
    assert!(drafted.change.retired.is_empty());
    assert_eq!(drafted.change.named, ["one"]);
}

#[test]
fn objects_of_a_failed_attempt_go_once_other_content_is_accepted_and_not_before() {
    for is_reloaded in [false, true] {
        let kinds = kinds(Policy::AllDone, Vec::new(), "null");
        let mut ledger = Ledger::new("sales".into(), 0, kinds.clone());
        let events = [expected(&["a", "b"]), wrote(MemberState::DeadLettered, 1, "one")];
        let drafted = change(&mut ledger, &events, at(0));
        assert!(drafted.change.retired.is_empty(), "the same content may be accepted yet");
        if is_reloaded {
            let row = drafted.change.manifests[0].clone();
            let members = drafted.change.members.into_iter().map(|(_, row)| row).collect();
            ledger = Ledger::new("sales".into(), 0, kinds);
            ledger.load(StoredManifest { row, members });
        }
        let drafted = change(&mut ledger, &[wrote(MemberState::Done, 2, "two")], at(1));
        assert_eq!(drafted.change.retired, [retired("one")]);
        assert!(drafted.change.named.is_empty(), "the event changed something");
    }
}

#[test]
fn objects_of_a_failed_attempt_stay_if_the_same_content_is_accepted() {
    let mut ledger = ledger(kinds(Policy::AllDone, Vec::new(), "null"));
    let failed = wrote(MemberState::DeadLettered, 1, "one");
    let events = [expected(&["a", "b"]), failed, wrote(MemberState::Done, 1, "one")];
    let drafted = change(&mut ledger, &events, at(0));
    assert!(drafted.change.retired.is_empty());
    assert_eq!(member(&drafted, "a").facts.objects.len(), 1);
}
