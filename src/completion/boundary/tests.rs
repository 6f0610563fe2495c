//! What crosses a border, and what a closed scope publishes.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::completion::config::{Deadline, DeadlineDue, Policy, Receipt};
use crate::completion::publisher::{LARGEST_MESSAGE, Publication};
use crate::expr::{Purpose, fixtures};
use crate::model::event::{
    Expected, FailureFact, MemberFacts, MemberState, ProgressEvent, Settled,
};
use crate::model::letter::Replay;
use crate::model::{Fields, Metadata, Outcome};
use crate::progress::deadline::DeadlineAction;
use crate::progress::manifest::Late;
use crate::progress::obligation::{Obligation, Scope};
use crate::runtime::clock::ManualClock;
use crate::runtime::node::Boundary;

const DEFINITION: Digest = Digest::from_bytes([7; 16]);

fn program(source: &str) -> Program {
    Program::compile(source, Purpose::Key).unwrap()
}

fn declared() -> Manifest {
    Manifest {
        announced_by: "index".into(),
        announced_port: None,
        members: "files".into(),
        key: program(".uuid"),
        shard_by: Some(program(".cluster")),
        member: program(".file"),
        expected: program(".files"),
        version: Some(program(".version")),
        facts: vec![("cluster".to_owned(), program(".cluster"))],
        policy: Policy::AllDone,
        accept: vec![FailureClass::UNMATCHED],
        late: Late::Drop,
        deadlines: Vec::new(),
        on_complete: Vec::new(),
    }
}

fn context() -> BoundaryContext {
    BoundaryContext {
        pipeline: "sales".into(),
        progress: Arc::new(ProgressTopic {
            topic: "sales.progress".into(),
            partitions: 4,
            max_bytes: LARGEST_MESSAGE,
        }),
        publisher: Publisher::new(),
        clock: Arc::new(ManualClock::made_at(5_000)),
    }
}

/// Keys in order, as parsed fields are written.
const FIELDS: &str =
    r#"{"cluster":"c","file":"a.csv","files":["a.csv","b.csv","a.csv"],"uuid":"m-1"}"#;

/// A record that crossed `boundary`, the duty below it, and the scope of its source.
fn cross(boundary: &mut dyn Boundary, fields: &str) -> (Record, Obligation, Arc<Scope>) {
    let mut record = fixtures::record(fields);
    let crossing = boundary.cross(&mut record).unwrap();
    let (scope, mut duties) = Scope::open(1);
    let duty = duties.remove(0).nest(crossing.on_close, crossing.collects);
    (record, duty, scope)
}

fn published(context: &BoundaryContext) -> Publication {
    let publication = context.publisher.take().expect("a publication");
    assert!(context.publisher.take().is_none(), "one is enough");
    publication
}

fn event(publication: &Publication) -> ProgressEvent {
    serde_json::from_slice(publication.record.value.as_ref().unwrap()).unwrap()
}

fn failed(class: &str) -> MemberFacts {
    let failure = FailureFact { node: "rows".into(), class: class.into(), why: "no".into() };
    MemberFacts { failure: Some(failure), ..MemberFacts::default() }
}

#[test]
fn a_member_settles_with_what_its_outcome_is_to_the_manifest() {
    let table = [
        (Outcome::Delivered, MemberFacts::default(), MemberState::Done),
        (Outcome::Filtered, MemberFacts::default(), MemberState::Empty),
        (Outcome::DeadLettered, failed("undecodable"), MemberState::DeadLettered),
        (Outcome::DeadLettered, MemberFacts::default(), MemberState::DeadLettered),
        (Outcome::DeadLettered, failed("unmatched"), MemberState::Done),
    ];
    for (outcome, facts, expected) in table {
        let context = context();
        let mut boundary =
            MemberBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
        let (record, duty, scope) = cross(&mut boundary, FIELDS);
        let remark = facts.failure.clone();
        duty.note(facts);
        duty.settle(outcome);
        let publication = published(&context);
        let ProgressEvent::Settled(settled) = event(&publication) else { panic!("not settled") };
        let digest = Digest::of(&DEFINITION, FIELDS.as_bytes());
        let bytes = FIELDS.len() as u64;
        assert_eq!(
            settled,
            Settled {
                kind: "report".into(),
                manifest: "m-1".into(),
                member: "a.csv".into(),
                state: expected,
                digest,
                facts: MemberFacts { bytes, failure: remark, ..MemberFacts::default() },
                at: 5_000,
            }
        );
        assert_eq!(record.meta.digest, Some(digest));
        assert_eq!(record.meta.member, Some("a.csv".into()));
        assert_eq!(scope.outcome(0), None, "the broker has not acked yet");
        publication.duty.settle(publication.outcome);
        assert_eq!(scope.outcome(0), Some(Outcome::Delivered), "a manifest is an outcome boundary");
    }
}

#[test]
fn an_abandoned_member_says_nothing() {
    let context = context();
    let mut boundary =
        MemberBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
    let (_, duty, scope) = cross(&mut boundary, FIELDS);
    drop(duty);
    assert_eq!(context.publisher.waiting(), 0);
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
}

#[test]
fn a_replay_that_names_a_member_means_no_other() {
    let mut boundary = MemberBoundary::new("report".into(), &declared(), DEFINITION, context());
    let mut is_meant = |replay: Option<(&str, &str)>| {
        let replay = replay.map(|(manifest, member)| Replay {
            of: "0-1".to_owned(),
            manifest: (!manifest.is_empty()).then(|| manifest.into()),
            member: (!member.is_empty()).then(|| member.into()),
            attempts: 1,
            first_failed_at: None,
        });
        let mut record = fixtures::record(FIELDS);
        let replay = replay.map(Arc::new);
        record.meta = Arc::new(Metadata { replay, ..(*record.meta).clone() });
        boundary.is_meant(&mut record).unwrap()
    };
    assert!(is_meant(None));
    assert!(is_meant(Some(("m-1", "a.csv"))));
    assert!(is_meant(Some(("m-1", ""))) && is_meant(Some(("", ""))), "all of the record");
    assert!(!is_meant(Some(("m-1", "b.csv"))) && !is_meant(Some(("m-2", "a.csv"))));
}

#[test]
fn a_key_that_is_none_is_poison() {
    let cases = [
        r#"{"uuid":"","cluster":"c","file":"a"}"#,
        r#"{"uuid":7,"cluster":"c","file":"a"}"#,
        r#"{"uuid":"m","cluster":"","file":"a"}"#,
        r#"{"uuid":"m","cluster":"c","file":null}"#,
        r#"{"uuid":"m\u0000","cluster":"c","file":"a"}"#,
        "{nope",
    ];
    for fields in cases {
        let mut boundary = MemberBoundary::new("report".into(), &declared(), DEFINITION, context());
        let failure = boundary.cross(&mut fixtures::record(fields)).err().expect(fields);
        assert!(matches!(failure, Failure::Poison { .. }), "{fields}");
    }
    let long = format!(r#"{{"uuid":"{}","cluster":"c","file":"a"}}"#, "u".repeat(MAX_ID + 1));
    let mut boundary = MemberBoundary::new("report".into(), &declared(), DEFINITION, context());
    assert!(boundary.cross(&mut fixtures::record(&long)).is_err());
}

#[test]
fn facts_that_do_not_fit_are_left_out_and_the_outcome_arrives() {
    let mut context = context();
    let small = ProgressTopic { max_bytes: 600, ..(*context.progress).clone() };
    context.progress = Arc::new(small);
    let mut boundary =
        MemberBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
    let (_, duty, _scope) = cross(&mut boundary, FIELDS);
    let mended = (0..100).map(|column| (format!("column_{column}"), 1)).collect();
    duty.note(MemberFacts { rows: 3, mended, ..MemberFacts::default() });
    duty.settle(Outcome::Delivered);
    let publication = published(&context);
    assert!(publication.record.value.as_ref().unwrap().len() <= 600);
    let ProgressEvent::Settled(settled) = event(&publication) else { panic!("not settled") };
    assert_eq!((settled.state, settled.facts.rows), (MemberState::Done, 3));
}

#[test]
fn an_announcement_names_each_expected_member_once_with_its_facts() {
    let context = context();
    let mut boundary =
        AnnounceBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
    let (record, duty, scope) = cross(&mut boundary, FIELDS);
    assert_eq!(record.meta.manifest, Some("m-1".into()));
    assert_eq!(record.meta.member, None);
    assert_eq!(record.meta.digest, Some(Digest::of(&DEFINITION, FIELDS.as_bytes())));
    assert_eq!(context.publisher.waiting(), 0, "what is below has not settled");
    duty.settle(Outcome::Filtered);
    let publication = published(&context);
    let expected = Expected {
        kind: "report".into(),
        manifest: "m-1".into(),
        members: vec!["a.csv".into(), "b.csv".into()],
        version: None,
        due: Vec::new(),
        facts: serde_json::Map::from_iter([("cluster".to_owned(), "c".into())]),
        at: 5_000,
    };
    assert_eq!(event(&publication), ProgressEvent::Expected(expected));
    publication.duty.settle(publication.outcome);
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
}

#[test]
fn an_announcement_carries_its_version_and_the_points_in_time_it_names() {
    let context = context();
    let due = DeadlineDue::At(program(".cluster"));
    let deadline = Deadline { due, action: DeadlineAction::Alert, extension: None };
    let declared = Manifest { deadlines: vec![deadline], ..declared() };
    let announced = |version: &str, due: &str| {
        let mut boundary =
            AnnounceBoundary::new("report".into(), &declared, DEFINITION, context.clone());
        let fields = format!(r#"{{"cluster":"{due}","files":[],"uuid":"m","version":{version}}}"#);
        let crossing = boundary.cross(&mut fixtures::record(&fields))?;
        let (_scope, mut duties) = Scope::open(1);
        duties.remove(0).nest(crossing.on_close, crossing.collects).settle(Outcome::Delivered);
        let ProgressEvent::Expected(event) = event(&published(&context)) else { panic!() };
        Ok::<_, Failure>((event.version, event.due))
    };
    let at = "1970-01-01T00:00:02Z";
    assert_eq!(announced("7", at).unwrap(), (Some(7), vec![Some(2_000)]));
    assert_eq!(announced("null", at).unwrap(), (None, vec![Some(2_000)]));
    for (version, due) in [("\"7\"", at), ("7.5", at), ("7", "soon")] {
        let failure = announced(version, due).unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::PROGRAM), "{version} {due}");
    }
}

#[test]
fn a_dead_lettered_announcement_still_announces_and_stays_dead_lettered() {
    let context = context();
    let mut boundary =
        AnnounceBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
    let (_, duty, scope) = cross(&mut boundary, FIELDS);
    duty.settle(Outcome::DeadLettered);
    let publication = published(&context);
    assert!(matches!(event(&publication), ProgressEvent::Expected(_)));
    publication.duty.settle(publication.outcome);
    assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));
}

#[test]
fn an_expected_set_that_is_no_list_or_too_large_is_poison() {
    let mut context = context();
    let fields = r#"{"uuid":"m","cluster":"c","files":"a.csv"}"#;
    let mut boundary =
        AnnounceBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
    assert!(boundary.cross(&mut fixtures::record(fields)).is_err());
    context.progress = Arc::new(ProgressTopic { max_bytes: 10, ..(*context.progress).clone() });
    let mut boundary = AnnounceBoundary::new("report".into(), &declared(), DEFINITION, context);
    let failure = boundary.cross(&mut fixtures::record(FIELDS)).err().expect("too large");
    assert_eq!(failure.class(), Some(&FailureClass::TOO_LARGE));
}

fn receipt(payload: &str, context: &BoundaryContext) -> ReceiptBoundary {
    let payload = Program::compile(payload, Purpose::Map).unwrap();
    let declared = Receipt { of: "ours".into(), topic: "validation".into(), payload };
    ReceiptBoundary::new("validation".into(), &declared, context.clone())
}

#[test]
fn a_receipt_says_how_it_went_and_keeps_the_outcome() {
    let context = context();
    let mut boundary =
        receipt(r#"{"id": .uuid, "how": %outcome, "why": %error, "of": %topic}"#, &context);
    let (_, duty, scope) = cross(&mut boundary, FIELDS);
    duty.note(failed("unmatched"));
    duty.settle(Outcome::DeadLettered);
    let publication = published(&context);
    assert_eq!(
        publication.record.value.as_deref(),
        Some(&br#"{"how":"dead_lettered","id":"m-1","of":"orders","why":"no"}"#[..])
    );
    assert_eq!(publication.record.key.as_deref(), Some(&b"k-1"[..]));
    publication.duty.settle(publication.outcome);
    assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));
}

#[test]
fn a_receipt_of_null_or_of_a_failing_program_sends_nothing_and_settles() {
    for payload in ["if %outcome == \"filtered\" { null } else { .uuid }", "int!(.uuid)"] {
        let context = context();
        let (_, duty, scope) = cross(&mut receipt(payload, &context), FIELDS);
        duty.settle(Outcome::Filtered);
        assert_eq!(context.publisher.waiting(), 0, "{payload}");
        assert_eq!(scope.outcome(0), Some(Outcome::Filtered), "{payload}");
    }
}

#[test]
fn what_was_noted_below_a_receipt_reaches_the_member_above() {
    let context = context();
    let mut member = MemberBoundary::new("report".into(), &declared(), DEFINITION, context.clone());
    let (mut record, duty, _scope) = cross(&mut member, FIELDS);
    let crossing = receipt("null", &context).cross(&mut record).unwrap();
    let below = duty.nest(crossing.on_close, crossing.collects);
    below.note(MemberFacts { rows: 9, ..MemberFacts::default() });
    below.settle(Outcome::Delivered);
    let ProgressEvent::Settled(settled) = event(&published(&context)) else { panic!() };
    assert_eq!(settled.facts.rows, 9);
}

proptest! {
    #[test]
    fn the_digest_of_bytes_depends_on_them_and_the_definition_alone(
        content in prop::collection::vec(any::<u8>(), 0..64), other in any::<[u8; 16]>(),
    ) {
        let with = |fields: &str| {
            let mut record = fixtures::record(fields);
            record.body = Body::Bytes(Bytes::from(content.clone()));
            record
        };
        let (digest, bytes) = content_digest(&DEFINITION, &with("{}")).unwrap();
        prop_assert_eq!(bytes, content.len() as u64);
        prop_assert_eq!(digest, content_digest(&DEFINITION, &with(r#"{"a":1}"#)).unwrap().0);
        let other = Digest::from_bytes(other);
        prop_assume!(other != DEFINITION);
        prop_assert_ne!(digest, content_digest(&other, &with("{}")).unwrap().0);
    }

    #[test]
    fn fields_alone_are_the_content_where_there_is_no_body(number in any::<i64>()) {
        let fields = format!("{{\"a\":{number}}}");
        let record = fixtures::record(&fields);
        prop_assert!(matches!(record.fields, Fields::Raw(_)));
        let (digest, _) = content_digest(&DEFINITION, &record).unwrap();
        prop_assert_eq!(digest, Digest::of(&DEFINITION, fields.as_bytes()));
    }
}
