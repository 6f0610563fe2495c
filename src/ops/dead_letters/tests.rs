//! Operating on the dead letters of a log in memory.

use super::*;
use crate::broker::embedded::EmbeddedLog;
use crate::model::event::MemberState;
use crate::ops::audit::AuditRecord;
use crate::ops::explanation::explain_with_letters;
use crate::ops::fixture::{self, Filled, LAST, dead_letter, failed, manifest, member};

const FAILED: i64 = LAST - 1_000;

fn asked() -> Asked {
    Asked { who: "ann".to_owned(), why: "the schema is mended".to_owned() }
}

fn by_id(ids: &[&str]) -> DeadLetterFilter {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    DeadLetterFilter { ids, ..DeadLetterFilter::default() }
}

fn waiting() -> DeadLetterFilter {
    DeadLetterFilter { state: Some(LetterState::Waiting), ..DeadLetterFilter::default() }
}

fn ids(lines: &[LetterLine]) -> Vec<&str> {
    lines.iter().map(|line| line.id.as_str()).collect()
}

/// An operator with the letters 0-0 (a, the newest), 0-1 (b) and 0-2 (c).
async fn with_letters() -> (std::sync::Arc<EmbeddedLog>, Operator) {
    let log = fixture::log();
    let operator = fixture::operator(&log, None);
    for (member, age) in [("a", 0), ("b", 20), ("c", 10)] {
        fixture::put(&operator, dead_letter("orders", member, FAILED - age)).await;
    }
    (log, operator)
}

fn audit(log: &EmbeddedLog) -> Vec<(String, String, String)> {
    let records = fixture::records(log, &"sales.audit".into()).into_iter();
    let read = records.map(|record| serde_json::from_slice(&record.value.unwrap()).unwrap());
    read.map(|record: AuditRecord| (record.what, record.target, record.result)).collect()
}

#[tokio::test]
async fn letters_are_listed_newest_failure_first_with_what_went_wrong() {
    let (_log, operator) = with_letters().await;
    let listing = operator.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!((ids(&listing.letters), listing.total), (vec!["0-0", "0-2", "0-1"], 3));
    let line = &listing.letters[0];
    assert_eq!((line.state, line.attempts, line.bytes), (LetterState::Waiting, 2, 5));
    assert_eq!(line.failed_at, Some(Time(FAILED)));
    let told = [&line.node, &line.class, &line.error, &line.source, &line.manifest, &line.member];
    let told = told.map(|text| text.as_deref().unwrap());
    assert_eq!(told, ["rows", "unmatched", "no schema fits", "orders", "m", "a"]);
    let one = DeadLetterFilter { limit: 1, ..DeadLetterFilter::default() };
    let listing = operator.dead_letters(&one).await.unwrap();
    assert_eq!((ids(&listing.letters), listing.more), (vec!["0-0"], true));
    let of_b = DeadLetterFilter { member: Some("b".to_owned()), ..DeadLetterFilter::default() };
    assert_eq!(ids(&operator.dead_letters(&of_b).await.unwrap().letters), ["0-1"]);
}

#[tokio::test]
async fn one_letter_is_shown_with_the_headers_and_bytes_of_its_record() {
    let (_log, operator) = with_letters().await;
    let details = operator.dead_letter("0-1").await.unwrap();
    assert_eq!(details.letter.member.as_deref(), Some("b"));
    assert_eq!(details.value.as_ref().map(|value| value.shown.as_str()), Some("of b"));
    assert_eq!(details.value_bytes().unwrap(), b"of b");
    let names: Vec<_> = details.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, ["trace"], "provenance is no header of the record");
    assert!(matches!(operator.dead_letter("0-7").await, Err(OpsError::Unknown(_))));
    assert!(matches!(operator.dead_letter("seven").await, Err(OpsError::Invalid(_))));
}

#[tokio::test]
async fn a_replay_goes_to_its_source_alone_and_is_remembered_in_the_audit() {
    let (log, operator) = with_letters().await;
    let dry = operator.replay(&waiting(), &asked(), true).await.unwrap();
    assert_eq!(ids(&dry), ["0-1", "0-2", "0-0"], "oldest failure first");
    assert!(audit(&log).is_empty());

    let replayed = operator.replay(&by_id(&["0-1"]), &asked(), false).await.unwrap();
    assert_eq!((replayed.len(), replayed[0].state), (1, LetterState::Replayed));
    let sent = fixture::records(&log, &"sales.replay".into());
    assert_eq!(sent.len(), 1);
    let restored = crate::model::letter::restore(&sent[0]).unwrap();
    assert_eq!((restored.source, restored.record.offset.0), ("orders".into(), 42));
    assert_eq!(restored.record.value.as_deref(), Some(&b"of b"[..]));
    assert_eq!(restored.record.headers.len(), 1);
    assert_eq!((restored.replay.of.as_str(), restored.replay.attempts), ("0-1", 2));
    assert_eq!(restored.replay.member, Some("b".into()));
    let entry = |result: &str| (REPLAYED.to_owned(), "0-1".to_owned(), result.to_owned());
    assert_eq!(audit(&log), [entry("asked"), entry("done")]);

    let left = operator.dead_letters(&waiting()).await.unwrap();
    assert_eq!(ids(&left.letters), ["0-0", "0-2"]);
    let shown = operator.dead_letter("0-1").await.unwrap().letter;
    assert_eq!(shown.mark.map(|mark| (mark.who, mark.at)), Some(("ann".to_owned(), Time(LAST))));
    let again = operator.replay(&by_id(&["0-1"]), &asked(), false).await.unwrap();
    assert_eq!(again.len(), 1, "named by id it is replayed once more");
}

const REPLAYED: &str = "dead_letter.replay";

#[tokio::test]
async fn many_letters_are_replayed_each_once() {
    let log = fixture::log();
    let operator = fixture::operator(&log, None);
    for number in 0..150 {
        let letter = dead_letter("returns", &format!("member-{number}"), FAILED + number);
        fixture::put(&operator, letter).await;
    }
    let by_node = DeadLetterFilter { node: Some("rows".to_owned()), ..DeadLetterFilter::default() };
    let replayed = operator.replay(&by_node, &asked(), false).await.unwrap();
    assert!(replayed.iter().all(|line| line.state == LetterState::Replayed));
    let sent = fixture::records(&log, &"sales.replay".into());
    let values: std::collections::BTreeSet<_> =
        sent.iter().map(|record| record.value.clone()).collect();
    assert_eq!((replayed.len(), sent.len(), values.len()), (150, 150, 150));
    assert!(operator.dead_letters(&waiting()).await.unwrap().letters.is_empty());
}

#[tokio::test]
async fn a_discarded_letter_waits_no_longer_and_sends_nothing() {
    let (log, operator) = with_letters().await;
    let of_c = DeadLetterFilter { member: Some("c".to_owned()), ..DeadLetterFilter::default() };
    operator.discard(&of_c, &asked(), true).await.unwrap();
    assert_eq!(operator.dead_letters(&waiting()).await.unwrap().total, 3);
    let discarded = operator.discard(&of_c, &asked(), false).await.unwrap();
    assert_eq!((ids(&discarded), discarded[0].state), (vec!["0-2"], LetterState::Discarded));
    assert_eq!(operator.dead_letters(&waiting()).await.unwrap().total, 2);
    assert!(fixture::records(&log, &"sales.replay".into()).is_empty());
    assert!(operator.discard(&of_c, &asked(), false).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_makes_no_sense_changes_nothing() {
    let (log, operator) = with_letters().await;
    fixture::put(&operator, dead_letter("films", "d", FAILED)).await;
    let nobody = Asked { who: " ".to_owned(), ..asked() };
    let everything = DeadLetterFilter::default();
    assert!(matches!(
        operator.replay(&by_id(&["0-1"]), &nobody, false).await,
        Err(OpsError::Invalid(_))
    ));
    assert!(matches!(
        operator.replay(&everything, &asked(), false).await,
        Err(OpsError::Invalid(_))
    ));
    let missing = operator.replay(&by_id(&["0-1", "0-9"]), &asked(), false).await;
    assert!(matches!(missing, Err(OpsError::Unknown(why)) if why.contains("dead letter 0-9")));
    let foreign = operator.replay(&by_id(&["0-1", "0-3"]), &asked(), false).await;
    assert!(matches!(foreign, Err(OpsError::Refused(why)) if why.contains("source films")));
    assert!(audit(&log).is_empty());
    assert!(fixture::records(&log, &"sales.replay".into()).is_empty());
}

#[tokio::test]
async fn an_explanation_names_the_letters_of_members_that_failed() {
    let (_log, operator) = with_letters().await;
    let mut filled = Filled::new().await;
    let members = [failed("a", "no schema fits"), member("b", MemberState::Done)];
    filled.put(manifest("m"), &members).await;
    let operator = Operator { store: Some(filled.reader()), ..operator };
    let explanation = explain_with_letters(&operator, &"m".into(), Time(LAST)).await.unwrap();
    assert_eq!(explanation.failed.first[0].dead_letters, ["0-0"]);
    assert!(explanation.to_string().contains("no schema fits; dead letter 0-0"), "{explanation}");
    operator.discard(&by_id(&["0-0"]), &asked(), false).await.unwrap();
    let explanation = explain_with_letters(&operator, &"m".into(), Time(LAST)).await.unwrap();
    assert!(explanation.failed.first[0].dead_letters.is_empty());
}
