//! Questions about a store that another handle has open for writing.

use serde_json::json;

use super::fixture::{self, Filled, completed, delivery, failed, manifest, member};
use super::*;
use crate::model::ManifestKey;
use crate::model::event::MemberState;
use crate::state::{ManifestFilter, ManifestPhase, ManifestRow};

fn unknown<T: std::fmt::Debug>(result: Result<T, OpsError>) -> String {
    match result {
        Err(OpsError::Unknown(why)) => why,
        other => panic!("not unknown: {other:?}"),
    }
}

#[tokio::test]
async fn the_only_pipeline_needs_no_name_and_several_do() {
    let filled = Filled::new().await;
    let reader = filled.reader();
    assert_eq!(pipeline(&*reader, None).await, Ok(fixture::pipeline()));
    filled.also("orders").await;
    let why = unknown(pipeline(&*reader, None).await);
    assert!(why.contains("--pipeline: orders, sales"), "{why}");
    assert_eq!(pipeline(&*reader, Some("orders")).await, Ok("orders".into()));
    let why = unknown(pipeline(&*reader, Some("films")).await);
    assert!(why.contains("films") && why.contains("there are: orders, sales"), "{why}");
}

#[tokio::test]
async fn a_listing_counts_members_and_says_that_there_are_more() {
    let mut filled = Filled::new().await;
    let members =
        [member("a", MemberState::Done), failed("b", "broken"), member("c", MemberState::Pending)];
    for (age, key) in ["m-1", "m-2", "other"].into_iter().enumerate() {
        let last_at = fixture::LAST - age as i64;
        filled.put(ManifestRow { last_at, ..manifest(key) }, &members).await;
    }
    let (reader, name) = (filled.reader(), fixture::pipeline());
    let filter = ManifestFilter { limit: 2, ..ManifestFilter::default() };
    let listing = manifests::list(&*reader, &name, &filter).await.unwrap();
    let keys: Vec<_> = listing.manifests.iter().map(|line| line.manifest.as_str()).collect();
    assert_eq!((keys, listing.more), (vec!["m-1", "m-2"], true));
    let line = serde_json::to_value(&listing.manifests[0]).unwrap();
    let counts = ["expected", "done", "dead_lettered", "missing", "rows"].map(|name| &line[name]);
    assert_eq!(json!(counts), json!([3, 1, 1, 1, 10]));
    assert_eq!((&line["phase"], &line["blocked"]), (&json!("open"), &json!(false)));
    let filter = ManifestFilter { prefix: Some("m-".to_owned()), limit: 2, ..filter };
    assert!(!manifests::list(&*reader, &name, &filter).await.unwrap().more);
    let filter = ManifestFilter { phase: Some(ManifestPhase::Failed), ..ManifestFilter::default() };
    assert!(manifests::list(&*reader, &name, &filter).await.unwrap().manifests.is_empty());
}

#[tokio::test]
async fn details_count_as_a_listing_does_and_name_each_member() {
    let mut filled = Filled::new().await;
    let members = [member("a", MemberState::Done), failed("b", "broken")];
    filled.put(manifest("m"), &members).await;
    filled.complete(completed("m", 1, "tolerated"), &[], vec![delivery("m", 1)]).await;
    let (reader, name) = (filled.reader(), fixture::pipeline());
    let details = manifests::show(&*reader, &name, &"m".into()).await.unwrap();
    let listing = manifests::list(&*reader, &name, &ManifestFilter::default()).await.unwrap();
    assert_eq!(listing.manifests, std::slice::from_ref(&details.line));
    let data = serde_json::to_value(&details).unwrap();
    assert_eq!(data["manifest"], "m");
    assert_eq!(data["members"][1]["facts"]["failure"]["why"], "broken");
    assert_eq!(data["deliveries"][0]["to"], "topic summaries");
    assert_eq!(data["facts"], json!({"cluster": "c1"}));
}

#[tokio::test]
async fn only_expected_members_are_missing() {
    let mut filled = Filled::new().await;
    let members = [
        member("b", MemberState::Pending),
        member("a", MemberState::Pending),
        member("c", MemberState::Done),
        failed("d", "broken"),
    ];
    filled.put(manifest("m"), &members).await;
    let (reader, name) = (filled.reader(), fixture::pipeline());
    let missing = manifests::missing(&*reader, &name, &"m".into()).await.unwrap();
    assert_eq!((missing.expected, missing.missing), (4, vec!["a".to_owned(), "b".to_owned()]));
}

#[tokio::test]
async fn an_unknown_key_is_answered_with_those_that_were_meant() {
    let mut filled = Filled::new().await;
    for key in ["3f2a-report", "9b1c-report"] {
        filled.put(manifest(key), &[]).await;
    }
    let (reader, name) = (filled.reader(), fixture::pipeline());
    let table = [
        ("3f2a", "did you mean 3f2a-report?"),
        ("b1c-re", "did you mean 9b1c-report?"),
        ("3f2a-rpeort", "did you mean 3f2a-report?"),
        ("-report", "did you mean 3f2a-report or 9b1c-report?"),
        ("invoice\u{7}", "`tidemill manifests list` shows those that there are"),
    ];
    for (key, wanted) in table {
        let why = unknown(manifests::show(&*reader, &name, &ManifestKey::from(key)).await);
        assert!(why.ends_with(wanted), "{key}: {why}");
        assert!(!why.contains('\u{7}'), "{why:?}");
    }
}

#[tokio::test]
async fn tables_are_read_by_name_up_to_a_limit() {
    let mut filled = Filled::new().await;
    let insert = "INSERT INTO sums (id, note) VALUES (1, 'one'), (2, NULL), (3, 'three')";
    filled.complete(completed("m", 1, "all_done"), &[insert], Vec::new()).await;
    let reader = filled.reader();
    let all = tables::rows(&*reader, "sums", 0).await.unwrap();
    assert_eq!((all.page.columns, all.page.rows.len(), all.more), (columns(), 3, false));
    let first = tables::rows(&*reader, "sums", 2).await.unwrap();
    assert_eq!((first.page.rows.len(), first.more), (2, true));
    assert!(!tables::rows(&*reader, "sums", 3).await.unwrap().more);
    let why = unknown(tables::rows(&*reader, "tidemill_outbox", 0).await);
    assert!(why.ends_with("there are: sums, tidemill_object"), "{why}");
}

fn columns() -> Vec<String> {
    vec!["id".to_owned(), "note".to_owned()]
}
