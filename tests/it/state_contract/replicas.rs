//! What only Postgres has to do: several replicas at once, connections that break, a schema that
//! others bring up, and texts that it does not keep.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use serde_json::json;
use tidemill::model::{ManifestKey, Offset};
use tidemill::state::postgres::PostgresStore;
use tidemill::state::{
    Applied, Change, CompletionRow, Declarations, Lease, StateError, StateStore, TableRows,
};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::kit::{
    OwnDatabase, SUM, Tested, accepted, change, column, completion, config, declarations, digest,
    done, identity, manifest, mismatch, part, pipeline, shard, view,
};
use crate::faults::proxy::{Cut, Proxy};

const DEADLINE: Duration = Duration::from_secs(20);
const PASSWORD: &str = "hunter2";

/// Waits for a condition of the database.
async fn until(client: &Client, condition: &str) -> Tested {
    let begun = Instant::now();
    while !client.query_one(condition, &[]).await?.try_get::<_, bool>(0)? {
        if begun.elapsed() > DEADLINE {
            return Err(format!("in vain: {condition}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Makes a call until the database is back.
async fn answered<T, F>(call: impl Fn() -> F) -> Result<T, StateError>
where
    F: Future<Output = Result<T, StateError>>,
{
    let begun = Instant::now();
    loop {
        match call().await {
            Err(error) if error.is_transient() && begun.elapsed() < DEADLINE => {}
            answer => return answer,
        }
    }
}

/// Two replicas on one prepared database.
async fn replicas(own: &OwnDatabase) -> Result<[Arc<PostgresStore>; 2], Box<dyn Error>> {
    let stores = [own.store().await?, own.store().await?];
    stores[0].prepare(&identity(), &declarations()).await?;
    Ok(stores)
}

#[tokio::test]
async fn of_many_takeovers_at_once_the_last_one_owns() -> Tested {
    const TAKEOVERS: usize = 16;
    let own = OwnDatabase::create().await?;
    let stores = replicas(&own).await?;
    let mut tasks = JoinSet::new();
    for number in 0..TAKEOVERS {
        let store = stores[number % 2].clone();
        tasks.spawn(async move { store.take_over(&shard(0)).await });
    }
    let mut leases = Vec::new();
    while let Some(task) = tasks.join_next().await {
        leases.push(task??.lease);
    }
    leases.sort_by_key(|lease| lease.epoch);
    leases.dedup_by_key(|lease| lease.epoch);
    assert_eq!(leases.len(), TAKEOVERS, "no epoch twice");
    let last = leases.pop().ok_or("there are leases")?;
    for former in &leases {
        assert_eq!(stores[0].apply(former, change(0, 1)).await?, Applied::Fenced);
    }
    assert_eq!(stores[1].apply(&last, change(0, 1)).await, done());
    own.remove().await
}

/// A change without events leaves the offset where it is, so the offset does not tell a change that
/// arrives late from the one that was sent in its place.
#[tokio::test]
async fn a_change_that_does_not_follow_the_last_one_changes_nothing() -> Tested {
    let own = OwnDatabase::create().await?;
    let [one, other] = replicas(&own).await?;
    let lease = one.take_over(&shard(0)).await?.lease;
    assert_eq!(one.apply(&lease, change(0, 1)).await, done());
    let without_events = |key| Change { manifests: vec![manifest(key)], ..change(1, 1) };
    // Under the same lease, and behind the back of the first store.
    assert_eq!(other.apply(&lease, without_events("sent again")).await, done());
    let late = one.apply(&lease, without_events("late")).await;
    assert!(matches!(&late, Err(StateError::Fatal(why)) if why.contains("follow")), "{late:?}");
    assert_eq!(one.manifest(&pipeline(), &ManifestKey::from("late")).await?, None);
    // It has looked since, and goes on from what is stored.
    assert_eq!(one.apply(&lease, without_events("next")).await, done());
    own.remove().await
}

#[tokio::test]
async fn an_owner_that_is_replaced_while_its_change_waits_is_fenced() -> Tested {
    let own = OwnDatabase::create().await?;
    let [store, _] = replicas(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    let other = own.client().await?;
    let take = "BEGIN; UPDATE tidemill_shard SET epoch = epoch + 1, token = gen_random_uuid()";
    other.batch_execute(take).await?;
    let late = Change { manifests: vec![manifest("a")], ..change(0, 1) };
    let applying = {
        let (store, lease) = (store.clone(), lease.clone());
        tokio::spawn(async move { store.apply(&lease, late).await })
    };
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock')";
    until(&own.client().await?, waits).await?;
    other.batch_execute("COMMIT").await?;
    assert_eq!(applying.await?, Ok(Applied::Fenced));
    assert_eq!(store.manifest(&pipeline(), &ManifestKey::from("a")).await?, None);
    assert_eq!(store.position(&shard(0)).await?, None);
    own.remove().await
}

#[tokio::test]
async fn a_member_that_two_replicas_write_at_once_is_written_once() -> Tested {
    let own = OwnDatabase::create().await?;
    let stores = replicas(&own).await?;
    let rows = part("a", "1", digest(1), &[("x", 1.0), ("y", 2.0)])?;
    let mut tasks = JoinSet::new();
    for number in 0..12 {
        let (store, rows) = (stores[number % 2].clone(), rows.clone());
        tasks.spawn(async move { store.write_rows(rows).await });
    }
    let mut written = 0;
    while let Some(task) = tasks.join_next().await {
        written += usize::from(task??);
    }
    assert_eq!(written, 1);
    let lease = stores[0].take_over(&shard(0)).await?.lease;
    assert_eq!(stores[0].apply(&lease, accepted(0, "a", "1", digest(1))).await, done());
    assert_eq!(column(stores[1].as_ref(), "part", "name").await?, ["x", "y"]);
    own.remove().await
}

#[tokio::test]
async fn a_delivery_is_claimed_by_one_of_many() -> Tested {
    const OWED: usize = 40;
    let own = OwnDatabase::create().await?;
    let stores = replicas(&own).await?;
    let lease = stores[0].take_over(&shard(0)).await?.lease;
    let completions = (0..OWED).map(|number| completion(&format!("m{number}"), 1, &[])).collect();
    let change = Change { completions, ..change(0, 1) };
    assert_eq!(stores[0].apply(&lease, change).await, done());
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let store = stores[number % 2].clone();
        tasks.spawn(async move { store.claim(&pipeline(), 10, 1_000, 5).await });
    }
    let mut claimed = Vec::new();
    while let Some(task) = tasks.join_next().await {
        claimed.extend(task??.into_iter().map(|delivery| delivery.id));
    }
    claimed.extend(stores[0].claim(&pipeline(), 10, 1_000, 100).await?.iter().map(|row| row.id));
    let distinct: BTreeSet<i64> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (OWED, OWED));
    own.remove().await
}

#[tokio::test]
async fn broken_connections_are_replaced() -> Tested {
    let own = OwnDatabase::create().await?;
    let [store, _] = replicas(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    let admin = own.client().await?;
    let others = "FROM pg_stat_activity WHERE datname = current_database() \
                  AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    for from in 0..3 {
        admin.batch_execute(&format!("SELECT pg_terminate_backend(pid) {others}")).await?;
        until(&admin, &format!("SELECT NOT EXISTS (SELECT 1 {others})")).await?;
        let applied = answered(|| store.apply(&lease, change(from, from + 1))).await;
        assert_eq!(applied, done());
    }
    assert_eq!(store.position(&shard(0)).await?, Some(Offset(3)));
    own.remove().await
}

/// A database behind a door that can be slammed at a commit.
async fn behind_proxy(own: &OwnDatabase) -> Result<(Proxy, Arc<PostgresStore>), Box<dyn Error>> {
    let (head, tail) = own.url.rsplit_once(':').ok_or("the url has a port")?;
    let (port, database) = tail.split_once('/').ok_or("the url names a database")?;
    let proxy = Proxy::start(port.parse()?);
    let url = format!("{head}:{}/{database}", proxy.port());
    let store = PostgresStore::connect(config(&url)).await?;
    store.prepare(&identity(), &declarations()).await?;
    Ok((proxy, store))
}

/// A change without events that completes a manifest, as a deadline makes it: only the mark of the
/// shard tells whether it was applied.
fn by_deadline(key: &str) -> Change {
    Change { completions: vec![completion(key, 1, &[SUM])], ..change(0, 0) }
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_applied_once() -> Tested {
    let own = OwnDatabase::create().await?;
    let (proxy, store) = behind_proxy(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    proxy.cut(Cut::After, 1);
    assert_eq!(store.apply(&lease, by_deadline("a")).await, done());
    assert_eq!(proxy.cuts_left(), 0);
    assert_eq!(column(store.as_ref(), "sums", "manifest").await?, ["a"]);
    own.remove().await
}

#[tokio::test]
async fn a_change_that_never_arrived_is_applied_by_the_next_attempt() -> Tested {
    let own = OwnDatabase::create().await?;
    let (proxy, store) = behind_proxy(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    proxy.cut(Cut::Before, 1);
    let lost = store.apply(&lease, by_deadline("a")).await;
    assert!(matches!(&lost, Err(error) if error.is_transient()), "{lost:?}");
    assert_eq!(proxy.cuts_left(), 0);
    assert_eq!(store.apply(&lease, by_deadline("a")).await, done());
    assert_eq!(column(store.as_ref(), "sums", "manifest").await?, ["a"]);
    own.remove().await
}

#[tokio::test]
async fn a_blocked_completion_is_known_even_if_the_answer_is_lost() -> Tested {
    let own = OwnDatabase::create().await?;
    let (proxy, store) = behind_proxy(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    let unbound = "INSERT INTO sums (manifest, n) VALUES (:stranger, 1)";
    let completions = vec![completion("bad", 1, &[unbound]), completion("good", 1, &[SUM])];
    proxy.cut(Cut::After, 1);
    let applied = store.apply(&lease, Change { completions, ..change(0, 1) }).await?;
    assert_eq!(proxy.cuts_left(), 0);
    let Applied::Yes { blocked } = applied else { return Err("it was fenced".into()) };
    let why: Vec<&str> = blocked.iter().map(|blocked| blocked.why.as_str()).collect();
    assert_eq!(why, ["sum: nothing is bound to :stranger"]);
    assert_eq!(column(store.as_ref(), "sums", "manifest").await?, ["good"]);
    own.remove().await
}

#[tokio::test]
async fn stores_that_open_at_once_bring_the_schema_up_once() -> Tested {
    let own = OwnDatabase::create().await?;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let config = config(&own.url);
        tasks.spawn(async move {
            let store = PostgresStore::connect(config).await?;
            store.prepare(&identity(), &declarations()).await
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let steps = "SELECT count(*) = 2 AND max(version) = 2 FROM tidemill_schema_history";
    until(&own.client().await?, steps).await?;
    own.remove().await
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() -> Tested {
    let own = OwnDatabase::create().await?;
    drop(own.store().await?);
    let newer = "INSERT INTO tidemill_schema_history VALUES (1000, 'later', '', '0')";
    own.client().await?.batch_execute(newer).await?;
    for refused in [
        PostgresStore::connect(config(&own.url)).await.map(drop),
        PostgresStore::connect_read_only(config(&own.url)).await.map(drop),
    ] {
        let why = mismatch(refused)?;
        assert!(why.contains("1000") && why.contains("program that wrote it"), "{why}");
    }
    own.remove().await
}

#[tokio::test]
async fn nothing_is_written_through_a_store_that_only_looks() -> Tested {
    let own = OwnDatabase::create().await?;
    let why = mismatch(PostgresStore::connect_read_only(config(&own.url)).await.map(drop))?;
    assert!(why.contains("no state"), "{why}");
    let store = own.store().await?;
    let looking = PostgresStore::connect_read_only(config(&own.url)).await?;
    let prepared = looking.prepare(&identity(), &declarations()).await;
    assert!(matches!(&prepared, Err(StateError::Fatal(why)) if why.contains("read only")));
    assert!(matches!(looking.take_over(&shard(0)).await, Err(StateError::Fatal(_))));
    store.prepare(&identity(), &declarations()).await?;
    assert_eq!(looking.pipelines().await?, [pipeline()]);
    own.remove().await
}

#[tokio::test]
async fn errors_name_the_database_and_never_the_password() -> Tested {
    let own = OwnDatabase::create().await?;
    let (_, place) = own.url.rsplit_once('@').ok_or("the url has a user")?;
    let (server, _) = place.split_once('/').ok_or("the url names a database")?;
    let missing = format!("postgres://postgres:{PASSWORD}@{server}/nowhere");
    let away = format!("postgres://postgres:{PASSWORD}@127.0.0.1:1/state");
    for (url, named) in [(missing, "nowhere"), (away, "127.0.0.1:1/state")] {
        let Err(error) = PostgresStore::connect(config(&url)).await else {
            return Err("there is no such database".into());
        };
        let text = format!("{error} {error:?}");
        assert!(text.contains(named) && !text.contains(PASSWORD), "{text}");
        assert_eq!(error.is_transient(), named.ends_with("state"), "{text}");
    }
    own.remove().await
}

#[tokio::test]
async fn nul_characters_stop_neither_shards_nor_sinks() -> Tested {
    let own = OwnDatabase::create().await?;
    let [store, _] = replicas(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    let mut change = accepted(0, "a", "1", digest(1));
    change.manifests[0].facts.insert("k\0".to_owned(), json!(["\0", "\\u0000"]));
    change.manifests[0].note = Some("a\0b".to_owned());
    change.members[0].1.facts.mended.insert("c\0".to_owned(), 1);
    change.retired = vec![(ManifestKey::from("a"), "u\0".to_owned())];
    change.named = vec!["v\0".to_owned()];
    assert_eq!(store.apply(&lease, change).await, done());
    let stored = store.load(&lease, &[ManifestKey::from("a")]).await?;
    let row = &stored[0].row;
    assert_eq!(json!(row.facts), json!({"k\u{FFFD}": ["\u{FFFD}", "\\u0000"]}));
    assert_eq!(row.note.as_deref(), Some("a\u{FFFD}b"));
    assert_eq!(stored[0].members[0].facts.mended.keys().collect::<Vec<_>>(), ["c\u{FFFD}"]);

    let names: ArrayRef = Arc::new(StringArray::from(vec!["a\0b"]));
    let rows = vec![RecordBatch::try_from_iter([("name", names)])?];
    let rows = TableRows { rows, ..part("a", "1", digest(1), &[])? };
    assert!(store.write_rows(rows).await?);
    assert_eq!(column(store.as_ref(), "part", "name").await?, ["a\u{FFFD}b"]);
    own.remove().await
}

/// Why the one completion of a change is blocked.
async fn blocked_by(
    store: &PostgresStore,
    lease: &Lease,
    completion: CompletionRow,
) -> Result<String, Box<dyn Error>> {
    let change = Change { completions: vec![completion], ..change(0, 0) };
    match store.apply(lease, change).await? {
        Applied::Yes { blocked } if blocked.len() == 1 => Ok(blocked[0].why.clone()),
        other => Err(format!("it is not blocked: {other:?}").into()),
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_blocks_its_completion_and_is_named() -> Tested {
    let own = OwnDatabase::create().await?;
    let [store, _] = replicas(&own).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    let statement = "INSERT INTO sums (manifest, n) VALUES (:manifest, :n)";
    for value in [json!("much"), json!([1]), json!("1\0")] {
        let mut completion = completion("a", 1, &[statement]);
        completion.parameters.insert("n".to_owned(), value);
        let why = blocked_by(&store, &lease, completion).await?;
        assert!(why.starts_with("sum: :n "), "{why}");
    }
    let mut good = completion("a", 1, &[statement]);
    good.parameters.insert("n".to_owned(), json!("1.5"));
    let good = Change { completions: vec![good], ..change(0, 1) };
    assert_eq!(store.apply(&lease, good).await, done());
    assert_eq!(column(store.as_ref(), "sums", "n").await?, ["1.5"]);
    let stored = store.load(&lease, &[ManifestKey::from("a")]).await?;
    assert_eq!(stored[0].row, completion("a", 1, &[]).manifest);
    own.remove().await
}

#[tokio::test]
async fn rows_of_manifests_are_out_of_reach_of_statements() -> Tested {
    let own = OwnDatabase::create().await?;
    let [store, _] = replicas(&own).await?;
    let statements = vec!["DELETE FROM claim".to_owned()];
    let declared = Declarations { statements, ..declarations() };
    let why = mismatch(store.prepare(&identity(), &declared).await)?;
    assert!(why.contains("DELETE FROM claim"), "{why}");
    own.remove().await
}

#[tokio::test]
async fn views_that_read_a_changed_view_are_made_again_unless_they_are_strangers() -> Tested {
    let own = OwnDatabase::create().await?;
    let store = own.store().await?;
    let declared = |query: &str| Declarations {
        views: vec![view("lower_one", query), view("upper_one", "SELECT * FROM lower_one")],
        ..Declarations::default()
    };
    store.prepare(&identity(), &declared("SELECT 1 AS a")).await?;
    store.prepare(&identity(), &declared("SELECT 'x' AS b, 2 AS c")).await?;
    let seen = serde_json::to_value(store.table("upper_one").await?)?;
    assert_eq!(seen, json!([{"b": "x", "c": 2}]));
    let admin = own.client().await?;
    admin.batch_execute("CREATE VIEW dashboard AS SELECT b FROM upper_one").await?;
    let why = mismatch(store.prepare(&identity(), &declared("SELECT 3 AS d")).await)?;
    assert!(why.contains("lower_one") && why.contains("dashboard"), "{why}");
    let seen = serde_json::to_value(store.table("upper_one").await?)?;
    assert_eq!(seen, json!([{"b": "x", "c": 2}]), "it is left alone");
    own.remove().await
}
