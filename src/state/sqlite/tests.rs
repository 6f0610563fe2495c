//! The file itself: who may open it, and which versions.

use rusqlite::Connection;

use super::SqliteStore;
use crate::model::PipelineName;
use crate::state::{Declarations, PipelineIdentity, ShardKey, StateError, StateStore};

fn error(result: Result<std::sync::Arc<SqliteStore>, StateError>) -> StateError {
    match result {
        Ok(_) => panic!("the store opened"),
        Err(error) => error,
    }
}

#[test]
fn a_second_opener_is_told_who_was_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/down/state.db");
    let first = SqliteStore::open(&path).unwrap();
    let refused = error(SqliteStore::open(&path));
    let holder = format!("process {}", std::process::id());
    assert!(matches!(&refused, StateError::Fatal(why) if why.contains(&holder)), "{refused}");
    drop(first);
    SqliteStore::open(&path).unwrap();
}

#[test]
fn a_file_of_a_newer_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(SqliteStore::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 1_000).unwrap();
    let refused = error(SqliteStore::open(&path));
    assert!(matches!(&refused, StateError::Mismatch(why) if why.contains("1000")), "{refused}");
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(found, 1_000);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "no database, but long enough to be looked at ".repeat(100)).unwrap();
    let refused = error(SqliteStore::open(&path));
    assert!(!refused.is_transient(), "{refused}");
}

#[tokio::test]
async fn a_takeover_is_on_disk_when_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).unwrap();
    let shard = ShardKey { pipeline: PipelineName::from("p"), shard: 3 };
    store.take_over(&shard).await.unwrap();
    // What another connection sees has been committed.
    let other = Connection::open(&path).unwrap();
    let synchronous: i64 = super::database::open_writer(&path)
        .unwrap()
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .unwrap();
    let mode: String = other.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    let epoch: i64 =
        other.query_row("SELECT epoch FROM tidemill_shard", (), |row| row.get(0)).unwrap();
    assert_eq!((epoch, mode.as_str(), synchronous), (1, "wal", 2));
}

fn pipeline(name: &str) -> PipelineIdentity {
    PipelineIdentity { pipeline: name.into(), group: "g".to_owned(), shards: 1 }
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_commits_while_it_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let writer = SqliteStore::open(&path).unwrap();
    let reader = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(reader.pipelines().await, Ok(vec![]));
    for name in ["sales", "orders"] {
        writer.prepare(&pipeline(name), &Declarations::default()).await.unwrap();
    }
    assert_eq!(reader.pipelines().await, Ok(vec!["orders".into(), "sales".into()]));
    // A reader holds nobody up, and the file outlives its writer.
    drop(writer);
    drop(SqliteStore::open(&path).unwrap());
    assert_eq!(reader.pipelines().await.map(|names| names.len()), Ok(2));
}

#[tokio::test]
async fn nothing_is_written_through_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(SqliteStore::open(&path).unwrap());
    let reader = SqliteStore::open_read_only(&path).unwrap();
    let prepared = reader.prepare(&pipeline("sales"), &Declarations::default()).await;
    assert!(matches!(&prepared, Err(StateError::Fatal(why)) if why.contains("read only")));
    let shard = ShardKey { pipeline: "sales".into(), shard: 0 };
    assert!(matches!(reader.take_over(&shard).await, Err(StateError::Fatal(_))));
    assert_eq!(reader.pipelines().await, Ok(vec![]));
    // Nor by the connection itself.
    let connection = super::database::open_observer(&path).unwrap();
    assert!(connection.execute("DELETE FROM tidemill_pipeline", ()).is_err());
}

#[test]
fn a_missing_file_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/state.db");
    let refused = error(SqliteStore::open_read_only(&path));
    let StateError::Mismatch(why) = &refused else { panic!("{refused:?}") };
    assert!(why.contains(&path.display().to_string()) && why.contains("--config"), "{why}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_reader_refuses_every_other_version_of_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(SqliteStore::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    for (version, advice) in [(1_000, "use the program that wrote it"), (0, "run the pipeline")] {
        connection.pragma_update(None, "user_version", version).unwrap();
        let refused = error(SqliteStore::open_read_only(&path));
        assert!(matches!(&refused, StateError::Mismatch(why) if why.contains(advice)), "{refused}");
    }
    let text = folder.path().join("text.db");
    std::fs::write(&text, "no database, but long enough to be looked at ".repeat(100)).unwrap();
    assert!(!error(SqliteStore::open_read_only(&text)).is_transient());
}

#[tokio::test]
async fn what_a_dead_process_had_claimed_is_due_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let pipeline = PipelineName::from("p");
    let identity = PipelineIdentity { pipeline: pipeline.clone(), group: "g".into(), shards: 1 };
    let store = SqliteStore::open(&path).unwrap();
    store.prepare(&identity, &Declarations::default()).await.unwrap();
    let owed = "INSERT INTO tidemill_outbox (pipeline, manifest, revision, action, part, \
                idempotency_key, target) VALUES ('p', 'm', 1, 'tell', 0, \
                '00000000-0000-0000-0000-000000000001', \
                '{\"type\":\"kafka\",\"topic\":\"t\",\"key\":null,\"payload\":1}')";
    Connection::open(&path).unwrap().execute(owed, ()).unwrap();
    assert_eq!(store.claim(&pipeline, 5, 1_000, 10).await.unwrap().len(), 1);
    assert!(store.claim(&pipeline, 6, 1_000, 10).await.unwrap().is_empty(), "it is claimed");
    drop(store);

    let store = SqliteStore::open(&path).unwrap();
    store.prepare(&identity, &Declarations::default()).await.unwrap();
    let claimed = store.claim(&pipeline, 6, 1_000, 10).await.unwrap();
    assert_eq!(claimed.len(), 1, "nobody else can have the file");
    assert_eq!(claimed[0].attempts, 1, "the attempt that was lost counts");
}

#[tokio::test]
async fn a_file_of_an_older_program_is_brought_up_and_what_it_owes_has_no_age() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(SqliteStore::open(&path).unwrap());
    let older = "DROP INDEX tidemill_manifest_open; \
                 ALTER TABLE tidemill_outbox DROP COLUMN created_at; \
                 INSERT INTO tidemill_outbox \
                 (pipeline, manifest, revision, action, part, idempotency_key, target) \
                 VALUES ('sales', 'm', 1, 'tell', 0, 'k', '{}'); PRAGMA user_version = 2;";
    Connection::open(&path).unwrap().execute_batch(older).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let backlog = store.backlog(&PipelineName::from("sales")).await.unwrap();
    assert_eq!((backlog.undelivered, backlog.oldest_at), (1, None));
}
