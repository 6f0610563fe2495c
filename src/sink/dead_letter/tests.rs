//! The form of a dead letter, and what its delivery settles.

use bytes::Bytes;

use super::*;
use crate::broker::Delivery;
use crate::model::letter::Replay;
use crate::model::{
    Epoch, Failure, FailureClass, LogRecord, Metadata, Offset, SourceBatch, SourceRef,
    TopicPartition,
};
use crate::progress::obligation::Scope;
use crate::runtime::clock::ManualClock;

struct NoProducer;

impl Producer for NoProducer {
    fn send(&self, record: ProducerRecord, delivery: Delivery) -> Result<(), QueueFull> {
        Err(QueueFull(record, delivery))
    }

    fn flush(&self, _timeout: Duration) -> bool {
        true
    }
}

fn context() -> DeadLetterContext {
    DeadLetterContext {
        topic: "orders.dead".into(),
        pipeline: "passthrough".into(),
        producer: Arc::new(NoProducer),
        clock: Arc::new(ManualClock::default()),
        escalation: Arc::default(),
        room: Arc::default(),
    }
}

fn failed(headers: Headers, why: &str) -> (Arc<Scope>, Failed) {
    let record = LogRecord {
        offset: Offset(42),
        timestamp: Some(5),
        key: Some(Bytes::from_static(b"k\xff")),
        value: Some(Bytes::from_static(b"\x00not json")),
        headers,
    };
    let batch = SourceBatch {
        origin: TopicPartition::new("orders", 3),
        epoch: Epoch(1),
        records: vec![record],
    };
    let (scope, mut duties) = Scope::open(1);
    let failed = Failed {
        source: SourceRef::new(Arc::new(batch), 0),
        meta: Arc::new(Metadata {
            member: Some("a.csv".into()),
            source: Some("orders".into()),
            ..Metadata::default()
        }),
        node: "slim".into(),
        failure: Failure::poison(FailureClass::UNDECODABLE, why),
        attempts: 2,
        duty: duties.remove(0),
    };
    (scope, failed)
}

fn header(record: &ProducerRecord, name: &str) -> Vec<String> {
    let named = record.headers.iter().filter(|(header, _)| header == name);
    named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

#[test]
fn a_letter_holds_the_source_record_byte_for_byte_and_where_it_came_from() {
    let own = vec![("trace".to_owned(), Bytes::from_static(b"\x01"))];
    let (_scope, failed) = failed(own.clone(), "expected value at line 1 column 1");
    let letter = dead_letter(&context(), &failed);
    assert_eq!(letter.key.as_deref(), Some(&b"k\xff"[..]));
    assert_eq!(letter.value.as_deref(), Some(&b"\x00not json"[..]));
    assert_eq!(letter.headers[0], own[0]);
    let expected = [
        ("tidemill-topic", "orders"),
        ("tidemill-partition", "3"),
        ("tidemill-offset", "42"),
        ("tidemill-node", "slim"),
        ("tidemill-source", "orders"),
        ("tidemill-member", "a.csv"),
        ("tidemill-error-class", "undecodable"),
        ("tidemill-error", "expected value at line 1 column 1"),
        ("tidemill-attempts", "2"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&letter, name), [value], "{name}");
    }
}

#[test]
fn a_letter_of_a_letter_keeps_only_the_newest_provenance() {
    let named = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    let older = vec![
        named("trace", b"t1"),
        named("tidemill-pipeline", b"passthrough"),
        named("tidemill-node", b"earlier"),
    ];
    let (_scope, failed) = failed(older, "again");
    let letter = dead_letter(&context(), &failed);
    assert_eq!(header(&letter, "tidemill-node"), ["slim"]);
    assert_eq!(header(&letter, "trace"), ["t1"]);
}

#[test]
fn headers_of_others_are_kept_even_if_they_are_called_like_ours() {
    let theirs = vec![
        ("tidemill-manifest".to_owned(), Bytes::from_static(b"of an action")),
        ("tidemill-pipeline".to_owned(), Bytes::from_static(b"another")),
    ];
    let (_scope, failed) = failed(theirs.clone(), "x");
    let letter = dead_letter(&context(), &failed);
    assert_eq!(letter.headers[..2], theirs);
    assert_eq!(header(&letter, "tidemill-pipeline"), ["another", "passthrough"]);
}

#[test]
fn a_replay_that_fails_again_adds_up_its_attempts_and_keeps_the_first_time() {
    let (_scope, mut failed) = failed(Vec::new(), "again");
    let replay = Replay {
        of: "0-7".to_owned(),
        manifest: None,
        member: None,
        attempts: 5,
        first_failed_at: Some(1_000),
    };
    failed.meta = Arc::new(Metadata { replay: Some(Arc::new(replay)), ..Metadata::default() });
    let letter = dead_letter(&context(), &failed);
    assert_eq!(header(&letter, "tidemill-attempts"), ["7"]);
    assert_eq!(header(&letter, "tidemill-first-failed-at"), ["1000"]);
    assert_eq!(header(&letter, "tidemill-replay-of"), ["0-7"]);
}

#[test]
fn a_long_error_is_cut_at_a_character() {
    let (_scope, failed) = failed(Vec::new(), &"ä".repeat(MAX_WHY));
    let error = header(&dead_letter(&context(), &failed), "tidemill-error").remove(0);
    assert_eq!(error.len(), MAX_WHY);
    assert!(error.chars().all(|character| character == 'ä'));
}

#[test]
fn only_an_acked_copy_settles_the_record() {
    let end = Escalation::default();
    let topic = "orders.dead".into();
    let (scope, acked) = failed(Vec::new(), "x");
    settle(Ok(()), acked, &topic, &end);
    assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));

    let (scope, refused) = failed(Vec::new(), "x");
    settle(Err(BrokerError::Fatal("no".into())), refused, &topic, &end);
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
    assert!(end.get().is_some_and(|escalated| escalated.why.contains("64 KiB")));
}
