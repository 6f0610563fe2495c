//! Retired objects: what is retired, when its deletion is due, and that it never counts again.

use serde_json::{Map, json};
use tidemill::model::event::ObjectFact;
use tidemill::model::{ManifestKey, NodeName, Offset, PipelineName};
use tidemill::state::{
    Applied, Change, CompletionRow, Declarations, RetiredDue, StateError, StateStore,
};

use super::kit::{
    Database, Tested, accepted, change, column, completion, declarations, digest, done, identity,
    mismatch, owned, pipeline, prepared, shard,
};

const INSERT: &str = "INSERT INTO sums (manifest, n) VALUES (:manifest, 1)";

/// Objects of one day of all manifests but those that have a sum.
const OTHERS: &str = "SELECT o.url FROM tidemill_object o \
     WHERE o.pipeline = :pipeline AND o.schema = 'pod_usage' \
     AND o.partition_values ->> 'usage_date' = '2025-03-10' \
     AND o.manifest NOT IN (SELECT manifest FROM sums)";

/// A change in which a member settled that has an object.
fn wrote(from: i64, key: &str, url: &str, day: &str) -> Change {
    let mut change = accepted(from, key, url, digest(1));
    let partition_values = Map::from_iter([("usage_date".to_owned(), json!(day))]);
    change.members[0].1.facts.objects = vec![ObjectFact {
        sink: NodeName::from("lake"),
        url: url.to_owned(),
        schema: Some("pod_usage".to_owned()),
        rows: 12,
        bytes: 999,
        partition_values,
    }];
    change
}

/// A change that completes a manifest, with the queries of action `drop`.
fn retiring(from: i64, key: &str, queries: &[&str]) -> Change {
    let retire = queries.iter().map(|query| ("drop".to_owned(), (*query).to_owned())).collect();
    let mut completion = CompletionRow { retire, ..completion(key, 1, &[INSERT]) };
    completion.parameters.insert("pipeline".to_owned(), json!(pipeline().as_str()));
    Change { completions: vec![completion], ..change(from, from + 1) }
}

/// A change that retires objects of manifest `a`.
fn retired(from: i64, urls: &[&str]) -> Change {
    let retired = urls.iter().map(|url| (ManifestKey::from("a"), (*url).to_owned())).collect();
    Change { retired, ..change(from, from + 1) }
}

fn named(from: i64, urls: &[&str]) -> Change {
    Change { named: owned_texts(urls), ..change(from, from + 1) }
}

fn owned_texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What is due at `now`, sorted; it is due again at `until`.
async fn claimed(
    store: &dyn StateStore,
    (now, until): (i64, i64),
    swept_before: i64,
) -> Result<Vec<String>, StateError> {
    let due = RetiredDue { now, until, swept_before };
    let mut urls = store.claim_retired(&pipeline(), due, 100).await?;
    urls.sort();
    Ok(urls)
}

async fn deleted(store: &dyn StateStore, urls: &[&str], now: i64) -> Result<(), StateError> {
    store.objects_deleted(&pipeline(), &owned_texts(urls), now).await
}

pub(super) async fn a_completion_retires_what_its_query_names(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let written = [("old", "u1", "2025-03-10"), ("old", "u2", "2025-03-11")];
    let written = written.into_iter().chain([("new", "u3", "2025-03-10")]);
    for (from, (key, url, day)) in (0..).zip(written) {
        assert_eq!(store.apply(&lease, wrote(from, key, url, day)).await, done());
    }
    assert_eq!(column(store.as_ref(), "tidemill_object", "url").await?, ["u1", "u2", "u3"]);
    // Its own objects stay, because its statement has run before: the query sees the sum.
    assert_eq!(store.apply(&lease, retiring(3, "new", &[OTHERS])).await, done());
    assert_eq!(column(store.as_ref(), "tidemill_object", "url").await?, ["u2", "u3"]);
    assert_eq!(claimed(store.as_ref(), (10, 20), 0).await?, ["u1"]);

    // Whatever the manifest says later: what is retired stays retired.
    assert_eq!(store.apply(&lease, wrote(4, "old", "u1", "2025-03-10")).await, done());
    assert_eq!(column(store.as_ref(), "tidemill_object", "url").await?, ["u2", "u3"]);
    Ok(())
}

pub(super) async fn a_completion_that_is_rolled_back_retires_nothing(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.apply(&lease, wrote(0, "old", "u1", "2025-03-10")).await, done());
    let broken = retiring(1, "new", &[OTHERS, "SELECT url FROM elsewhere"]);
    let Applied::Yes { blocked } = store.apply(&lease, broken).await? else {
        return Err("the owner was fenced".into());
    };
    assert_eq!(blocked.len(), 1);
    assert!(blocked[0].why.starts_with("drop: "), "{}", blocked[0].why);
    assert!(claimed(store.as_ref(), (10, 20), 0).await?.is_empty());
    assert_eq!(column(store.as_ref(), "tidemill_object", "url").await?, ["u1"]);
    Ok(())
}

pub(super) async fn queries_that_cannot_work_are_refused_at_start(
    database: Box<dyn Database>,
) -> Tested {
    let store = database.store();
    let with = |query: &str| Declarations { queries: vec![query.to_owned()], ..declarations() };
    store.prepare(&identity(), &with(OTHERS)).await?;
    for (query, word) in [
        ("SELECT nothing FROM tidemill_object", "nothing"),
        ("SELECT url FROM elsewhere", "elsewhere"),
        ("SELECT url FROM tidemill_member", "tidemill_"),
        ("DELETE FROM sums", "SELECT"),
    ] {
        let why = mismatch(store.prepare(&identity(), &with(query)).await)?;
        assert!(why.contains(query) && why.contains(word), "{why}");
    }
    Ok(())
}

pub(super) async fn an_object_is_due_until_it_is_deleted_and_again_once_it_is_named(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.apply(&lease, retired(0, &["u1", "u2"])).await, done());
    let due = RetiredDue { now: 10, until: 100, swept_before: 0 };
    let first = store.claim_retired(&pipeline(), due, 1).await?;
    assert_eq!(first.len(), 1, "no more than asked for");
    let second = store.claim_retired(&pipeline(), due, 1).await?;
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    assert!(claimed(store.as_ref(), (99, 200), 0).await?.is_empty(), "they are claimed");
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    assert_eq!(claimed(store.as_ref(), (100, 200), 0).await?, ["u1", "u2"], "nothing was heard");
    deleted(store.as_ref(), &["u1", "u2"], 150).await?;
    assert!(claimed(store.as_ref(), (1_000, 2_000), 0).await?.is_empty());
    assert_eq!(store.apply(&lease, retired(1, &["u2"])).await, done());
    assert!(claimed(store.as_ref(), (1_000, 2_000), 0).await?.is_empty(), "it was retired already");
    assert_eq!(store.apply(&lease, named(2, &["u1", "never-retired"])).await, done());
    assert_eq!(claimed(store.as_ref(), (1_000, 2_000), 0).await?, ["u1"]);
    Ok(())
}

pub(super) async fn a_sweep_takes_what_was_deleted_long_ago(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.apply(&lease, retired(0, &["u1", "u2"])).await, done());
    assert_eq!(claimed(store.as_ref(), (10, 20), 0).await?.len(), 2);
    deleted(store.as_ref(), &["u1"], 15).await?;
    deleted(store.as_ref(), &["u2"], 500).await?;
    assert!(claimed(store.as_ref(), (1_000, 2_000), 15).await?.is_empty());
    assert_eq!(claimed(store.as_ref(), (1_000, 2_000), 16).await?, ["u1"]);
    assert!(claimed(store.as_ref(), (1_999, 3_000), 16).await?.is_empty(), "it is claimed");
    deleted(store.as_ref(), &["u1"], 1_500).await?;
    assert_eq!(claimed(store.as_ref(), (2_000, 3_000), 1_000).await?, ["u2"]);
    Ok(())
}

pub(super) async fn an_object_that_is_named_while_it_is_deleted_stays_due(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.apply(&lease, retired(0, &["u1", "u2"])).await, done());
    assert_eq!(claimed(store.as_ref(), (10, 100), 0).await?, ["u1", "u2"]);
    // It has been written again, and nobody knows whether before or after its deletion.
    assert_eq!(store.apply(&lease, named(1, &["u1"])).await, done());
    deleted(store.as_ref(), &["u1", "u2"], 20).await?;
    assert_eq!(claimed(store.as_ref(), (21, 200), 0).await?, ["u1"]);
    deleted(store.as_ref(), &["u1"], 30).await?;
    assert!(claimed(store.as_ref(), (1_000, 2_000), 0).await?.is_empty());
    Ok(())
}

pub(super) async fn objects_of_another_pipeline_are_left_alone(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.apply(&lease, retired(0, &["u1"])).await, done());
    let films = PipelineName::from("films");
    let due = RetiredDue { now: 10, until: 100, swept_before: 0 };
    assert!(store.claim_retired(&films, due, 10).await?.is_empty());
    store.objects_deleted(&films, &owned_texts(&["u1"]), 10).await?;
    assert_eq!(claimed(store.as_ref(), (10, 100), 0).await?, ["u1"]);
    Ok(())
}

pub(super) async fn the_position_of_a_shard_is_where_its_last_change_ended(
    database: Box<dyn Database>,
) -> Tested {
    let store = prepared(database.as_ref()).await?;
    assert_eq!(store.position(&shard(0)).await?, None, "nobody has owned it yet");
    let lease = store.take_over(&shard(0)).await?.lease;
    assert_eq!(store.position(&shard(0)).await?, None, "nothing was applied yet");
    assert_eq!(store.apply(&lease, change(7, 9)).await, done());
    assert_eq!(store.position(&shard(0)).await?, Some(Offset(9)));
    assert_eq!(store.position(&shard(1)).await?, None);
    Ok(())
}
