//! What a pipeline has not got done yet.

use tidemill::model::PipelineName;
use tidemill::state::{Applied, Backlog, Change, CompletionRow};

use super::kit::{Database, Tested, change, completion, done, manifest, named, owned, pipeline};

/// A completion at a certain time.
fn at(completed_at: i64, key: &str, statements: &[&str]) -> CompletionRow {
    let mut row = completion(key, 1, statements);
    row.manifest.completed_at = Some(completed_at);
    row
}

pub(super) async fn the_backlog_counts_what_is_owed_and_what_is_open(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.backlog(&pipeline()).await?, Backlog::default());
    let null_key = "INSERT INTO sums (manifest, n) VALUES (NULL, 1)";
    let completing = Change {
        manifests: vec![manifest("open")],
        completions: vec![at(9_000, "late", &[]), at(4_000, "early", &[])],
        ..change(0, 1)
    };
    assert_eq!(store.apply(&lease, completing).await, done());
    let blocking = Change { completions: vec![at(2_000, "bad", &[null_key])], ..change(1, 2) };
    let applied = store.apply(&lease, blocking).await?;
    assert!(matches!(&applied, Applied::Yes { blocked } if blocked.len() == 1), "{applied:?}");
    let owed = Backlog { undelivered: 2, failing: 0, oldest_at: Some(4_000), open: 2, blocked: 1 };
    assert_eq!(store.backlog(&pipeline()).await?, owed, "what was rolled back owes nothing");

    let claimed = store.claim(&pipeline(), 10, 100, 10).await?;
    assert_eq!(named(&claimed), [("late", 1), ("early", 1)]);
    store.failed(claimed[1].id, 500, "the broker said no").await?;
    assert_eq!(store.backlog(&pipeline()).await?, Backlog { failing: 1, ..owed });
    store.delivered(claimed[1].id, 510).await?;
    let left = Backlog { undelivered: 1, oldest_at: Some(9_000), ..owed };
    assert_eq!(store.backlog(&pipeline()).await?, left);
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    assert_eq!(store.backlog(&pipeline()).await?, left);
    let elsewhere = PipelineName::from("films");
    assert_eq!(store.backlog(&elsewhere).await?, Backlog::default());
    Ok(())
}
