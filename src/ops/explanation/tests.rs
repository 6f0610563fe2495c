//! Explanations of manifests as the store has them, read beside the writer.

use serde_json::json;

use super::*;
use crate::model::event::MemberFacts;
use crate::ops::fixture::{
    self, Filled, LAST, completed, delivery, extra, failed, manifest, member,
};
use crate::state::sqlite::SqliteStore;

const NOW: Time = Time(LAST + (3 * 60 + 12) * 60_000);

async fn explained(filled: &Filled, key: &str) -> Explanation {
    let reader = filled.reader();
    let topic = Topic::from("sales.dead-letters");
    explain(&*reader, &fixture::pipeline(), &key.into(), &topic, NOW).await.unwrap()
}

fn lines(explanation: &Explanation) -> Vec<String> {
    explanation.to_string().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_open_manifest_names_who_is_missing_and_since_when_nothing_came() {
    let mut filled = Filled::new().await;
    let pending = (0..12).map(|n| member(&format!("part-{n:02}"), MemberState::Pending));
    let settled = [member("a", MemberState::Done), member("b", MemberState::Empty)];
    let stranger = MemberRow { expected: false, ..member("z", MemberState::Done) };
    let members: Vec<_> = pending.chain(settled).chain([stranger]).collect();
    let row =
        ManifestRow { duplicates: 2, conflicts: 1, extra: extra(1, Value::Null), ..manifest("m") };
    filled.put(row, &members).await;
    let explanation = explained(&filled, "m").await;
    assert_eq!(explanation.standing, Standing::WaitingForMembers);
    assert_eq!((explanation.missing.total, explanation.missing.first.len()), (12, 10));
    let mut wanted = vec![
        "Manifest m (report) of pipeline sales is open, first event 2025-03-13T05:00:00Z \
         (4 h 12 min ago).",
        "2 of 14 members done (1 of them empty), 12 missing.",
        "Nothing has arrived for 3 h 12 min (since 2025-03-13T06:00:00Z). One of its deadlines has \
         passed.",
        "Also counted: 2 duplicates, 1 conflict (other content for a member that had settled: \
         the first was kept).",
        "",
        "Missing (12)",
    ];
    let named: Vec<String> = (0..10).map(|n| format!("  part-{n:02}")).collect();
    wanted.extend(named.iter().map(String::as_str));
    wanted.extend([
        "  … and 2 more",
        "",
        "Settled, but not expected (1)",
        "  z",
        "",
        "Next: Wait, or find out at the sender why they were not sent: `tidemill manifests missing \
         m` lists them all.",
    ]);
    assert_eq!(lines(&explanation), wanted);
}

#[tokio::test]
async fn failures_that_no_policy_tolerates_are_named_with_their_dead_letter_topic() {
    let mut filled = Filled::new().await;
    let members = [
        member("a", MemberState::Done),
        failed("b", "no schema fits\u{1b}[31m"),
        MemberRow { facts: MemberFacts::default(), ..failed("c", "") },
        MemberRow { state: MemberState::Done, ..failed("d", "a kind that nobody knows") },
    ];
    filled.put(manifest("m"), &members).await;
    let explanation = explained(&filled, "m").await;
    assert_eq!(explanation.standing, Standing::TooManyFailures);
    assert_eq!(explanation.dead_letters.as_deref(), Some("sales.dead-letters"));
    let wanted = [
        "2 of 4 members done, 2 failed.",
        "All have settled, but more failed than its policy tolerates.",
        "Nothing has arrived for 3 h 12 min (since 2025-03-13T06:00:00Z).",
        "",
        "Failed; their records are in topic sales.dead-letters (2)",
        "  b: unmatched at rows: no schema fits\\u{1b}[31m",
        "  c: why was not kept, the headers of its dead letter say it",
        "",
        "Failed, but accepted by its declaration; their records are in topic sales.dead-letters \
         (1)",
        "  d: unmatched at rows: a kind that nobody knows",
        "",
        "Next: Mend what made them fail and replay their records: `tidemill dead-letters replay \
         --manifest m --why TEXT`; or complete it without them: `tidemill manifests force m --why \
         TEXT`.",
    ];
    assert_eq!(lines(&explanation)[1..], wanted);
}

#[tokio::test]
async fn a_manifest_that_nobody_announced_is_said_to_be_so() {
    let mut filled = Filled::new().await;
    let members =
        ["a", "b"].map(|id| MemberRow { expected: false, ..member(id, MemberState::Done) });
    filled.put(ManifestRow { announced: false, ..manifest("m") }, &members).await;
    let explanation = explained(&filled, "m").await;
    assert_eq!(explanation.standing, Standing::Unannounced);
    let text = lines(&explanation);
    assert_eq!(
        text[1],
        "It was never announced: no expected event has arrived, so it is not known which members \
         it needs; 2 members settled so far."
    );
    assert!(text.last().unwrap().contains("the node that announces it"), "{text:?}");
}

#[tokio::test]
async fn a_blocked_completion_says_which_error_blocks_it() {
    let mut filled = Filled::new().await;
    let row = ManifestRow {
        note: Some("blocked: sum: no such table: totals".to_owned()),
        extra: extra(0, json!("all_done")),
        ..manifest("m")
    };
    filled.put(row, &[member("a", MemberState::Done)]).await;
    let explanation = explained(&filled, "m").await;
    let wanted = BlockedBy {
        error: "sum: no such table: totals".to_owned(),
        would_complete_by: CompletedBy::AllDone,
    };
    assert_eq!(
        (explanation.standing, explanation.blocked.clone()),
        (Standing::Blocked, Some(wanted))
    );
    let wanted = [
        "Manifest m (report) of pipeline sales is open, first event 2025-03-13T05:00:00Z \
         (4 h 12 min ago): its completion is blocked.",
        "1 of 1 member done.",
        "It was to complete because all its members are done, but an action failed for good: sum: \
         no such table: totals.",
        "Its last event came 2025-03-13T06:00:00Z (3 h 12 min ago).",
        "",
        "Next: Mend the action that failed, or the table that it writes, then: `tidemill \
         manifests retry m --why TEXT`.",
    ];
    assert_eq!(lines(&explanation), wanted);
}

/// Says of the first delivery of the store's manifests what became of it.
async fn delivered_at(store: &SqliteStore, at: i64) {
    let claimed = store.claim(&fixture::pipeline(), 0, 1, 1).await.unwrap();
    store.delivered(claimed[0].id, at).await.unwrap();
}

#[tokio::test]
async fn a_complete_manifest_says_why_and_when_its_deliveries_arrived() {
    let mut filled = Filled::new().await;
    filled.put(manifest("m"), &[member("a", MemberState::Done), failed("b", "broken")]).await;
    filled.complete(completed("m", 1, "tolerated"), &[], vec![delivery("m", 1)]).await;
    delivered_at(&filled.store, LAST + 60_000).await;
    let explanation = explained(&filled, "m").await;
    assert_eq!(explanation.completed_by, Some(CompletedBy::Tolerated));
    let wanted = [
        "Manifest m (report) of pipeline sales is complete since 2025-03-13T06:00:00Z (3 h 12 min \
         ago), 1 h after its first event, revision 1.",
        "1 of 2 members done, 1 failed.",
        "It completed because all its members have settled, and its policy tolerates those that \
         failed.",
        "Its last event came 2025-03-13T06:00:00Z (3 h 12 min ago).",
        "",
        "Failed; their records are in topic sales.dead-letters (1)",
        "  b: unmatched at rows: broken",
        "",
        "Deliveries",
        "  tell revision 1 to topic summaries: delivered 2025-03-13T06:01:00Z (3 h 11 min ago), 1 \
         attempt",
        "",
        "Next: Nothing; or mend what made 1 member fail and replay their records: `tidemill \
         dead-letters replay --manifest m --why TEXT`. What then is done opens the next revision.",
    ];
    assert_eq!(lines(&explanation), wanted);
}

#[tokio::test]
async fn pending_deliveries_say_what_they_wait_for() {
    let mut filled = Filled::new().await;
    for revision in [1, 2] {
        let row = completed("m", revision, "all_done");
        filled.complete(row, &[], vec![delivery("m", revision)]).await;
    }
    let claimed = filled.store.claim(&fixture::pipeline(), 0, 1, 10).await.unwrap();
    filled.store.failed(claimed[0].id, 5, "connection refused").await.unwrap();
    let explanation = explained(&filled, "m").await;
    let waits: Vec<_> =
        explanation.deliveries.iter().map(|delivery| delivery.waits_for_revision).collect();
    assert_eq!(waits, [None, Some(1)]);
    let text = lines(&explanation);
    for wanted in [
        "  tell revision 1 to topic summaries: pending after 1 attempt, last error: connection \
         refused",
        "  tell revision 2 to topic summaries: waits until revision 1 of it has arrived",
        "Next: Mend topic summaries, which refuses action tell: deliveries are tried again until \
         they arrive.",
    ] {
        assert!(text.iter().any(|line| line == wanted), "{wanted}\nin {text:#?}");
    }
}

#[tokio::test]
async fn manifests_that_were_given_up_say_by_whom() {
    let mut filled = Filled::new().await;
    let note = |note: &str| Some(note.to_owned());
    let cancelled = ManifestRow {
        phase: ManifestPhase::Cancelled,
        note: note("cancelled by ops: cluster is gone"),
        ..manifest("cancelled")
    };
    let failed = ManifestRow {
        phase: ManifestPhase::Failed,
        note: note("failed by a deadline"),
        ..manifest("failed")
    };
    for row in [cancelled, failed] {
        filled.put(row, &[member("a", MemberState::Pending)]).await;
    }
    let cancelled = lines(&explained(&filled, "cancelled").await);
    assert!(cancelled[0].contains("is cancelled, first event"), "{cancelled:?}");
    assert_eq!(cancelled[2], "Note: cancelled by ops: cluster is gone.");
    let failed = lines(&explained(&filled, "failed").await);
    assert!(failed[0].contains("was given up by a deadline"), "{failed:?}");
    assert!(failed.last().unwrap().contains("manifests reopen failed"), "{failed:?}");
}

#[tokio::test]
async fn an_explanation_is_data_with_stable_names() {
    let mut filled = Filled::new().await;
    filled.put(manifest("m"), &[member("a", MemberState::Pending)]).await;
    let data = serde_json::to_value(explained(&filled, "m").await).unwrap();
    assert_eq!(data["standing"], "waiting_for_members");
    assert_eq!(data["quiet_ms"], 11_520_000);
    assert_eq!(data["last_at"], "2025-03-13T06:00:00.000Z");
    assert_eq!(data["missing"], json!({"total": 1, "first": ["a"]}));
    assert_eq!(data["members"]["missing"], 1);
    assert_eq!(data["blocked"], Value::Null);
}

#[tokio::test]
async fn a_predicate_that_failed_and_outdated_lists_are_told() {
    let mut filled = Filled::new().await;
    let mut extra = extra(0, Value::Null);
    extra["outdated"] = json!(2);
    let note = Some("its predicate failed: no".to_owned());
    let row = ManifestRow { note, extra, ..manifest("m") };
    filled.put(row, &[member("a", MemberState::Done)]).await;
    let explanation = explained(&filled, "m").await;
    assert_eq!((explanation.standing, explanation.outdated), (Standing::Due, 2));
    let text = lines(&explanation);
    assert_eq!(text[2], "Nothing is missing, but its predicate failed: no.");
    assert!(text.iter().any(|line| line == "Also counted: 2 outdated lists."), "{text:?}");
}
