//! What the jobs of one transaction do to each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Waker};

use rusqlite::Connection;

use super::{Writer, run};
use crate::state::StateError;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), StateError>> + 'a>>;

fn writer() -> Writer {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY)").unwrap();
    Writer::start(connection).unwrap()
}

/// Asks without waiting: what is asked for next joins the queue behind it.
fn asked<'a>(
    writer: &'a Writer,
    work: impl Fn(&Connection) -> Result<(), StateError> + Send + 'static,
) -> Answer<'a> {
    let mut answer: Answer<'a> = Box::pin(writer.run(work));
    let pending = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(pending.is_pending(), "nothing is answered before the gate opens");
    answer
}

/// Keeps the thread busy until the gate opens.
fn closed_gate(writer: &Writer) -> (SyncSender<()>, Answer<'_>) {
    let (gate, closed) = sync_channel::<()>(1);
    let answer = asked(writer, move |_| {
        // An error means that the gate is gone, which opens it, too.
        let _ = closed.recv();
        Ok(())
    });
    (gate, answer)
}

fn insert(number: i64) -> impl Fn(&Connection) -> Result<(), StateError> + Send + 'static {
    move |connection| {
        connection
            .execute("INSERT INTO t (a) VALUES (?1)", (number,))
            .map(|_| ())
            .map_err(|error| StateError::Fatal(error.to_string()))
    }
}

async fn numbers(writer: &Writer) -> Vec<i64> {
    let read = |connection: &Connection| -> rusqlite::Result<Vec<i64>> {
        let mut statement = connection.prepare("SELECT a FROM t ORDER BY a")?;
        let rows = statement.query_map((), |row| row.get(0))?;
        rows.collect()
    };
    let read = move |connection: &Connection| {
        read(connection).map_err(|error| StateError::Fatal(error.to_string()))
    };
    writer.run(read).await.unwrap()
}

#[tokio::test]
async fn an_error_undoes_its_own_job_alone() {
    let writer = writer();
    let (gate, first) = closed_gate(&writer);
    let half_done = asked(&writer, |connection| {
        insert(10)(connection)?;
        Err(StateError::Mismatch("no".to_owned()))
    });
    let good = asked(&writer, insert(1));
    let twice = asked(&writer, insert(1));
    let last = asked(&writer, insert(2));
    drop(gate);
    first.await.unwrap();
    assert_eq!(half_done.await, Err(StateError::Mismatch("no".to_owned())));
    good.await.unwrap();
    assert!(matches!(twice.await, Err(StateError::Fatal(_))));
    last.await.unwrap();
    assert_eq!(numbers(&writer).await, [1, 2]);
}

#[tokio::test]
async fn a_job_that_loses_the_transaction_loses_it_for_itself_alone() {
    let writer = writer();
    let (gate, first) = closed_gate(&writer);
    let before = asked(&writer, insert(1));
    let rogue = asked(&writer, |connection| {
        insert(10)(connection)?;
        run(connection, "ROLLBACK").map_err(|error| StateError::Fatal(error.to_string()))?;
        Err(StateError::Unavailable("rolled back".to_owned()))
    });
    let after = asked(&writer, insert(2));
    drop(gate);
    first.await.unwrap();
    before.await.unwrap();
    assert_eq!(rogue.await, Err(StateError::Unavailable("rolled back".to_owned())));
    after.await.unwrap();
    assert_eq!(numbers(&writer).await, [1, 2]);
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_job() {
    let writer = writer();
    let panicked = writer
        .run(|connection| {
            insert(10)(connection)?;
            assert!(connection.is_autocommit(), "always false here");
            Ok(())
        })
        .await;
    assert!(matches!(panicked, Err(StateError::Fatal(_))), "{panicked:?}");
    writer.run(insert(1)).await.unwrap();
    assert_eq!(numbers(&writer).await, [1]);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_before_the_writer_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY)").unwrap();
    let writer = Writer::start(connection).unwrap();
    let (gate, first) = closed_gate(&writer);
    drop(asked(&writer, insert(7)));
    drop(first);
    drop(gate);
    drop(writer);
    let connection = Connection::open(&path).unwrap();
    let found: i64 = connection.query_row("SELECT a FROM t", (), |row| row.get(0)).unwrap();
    assert_eq!(found, 7);
}
