//! The file itself: who may open it, and which versions.

use rusqlite::Connection;

use super::SqliteStore;
use crate::model::PipelineName;
use crate::state::{ShardKey, StateError, StateStore};

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
