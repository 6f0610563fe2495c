//! The one thread that writes.
//!
//! Responsible for: group commits. Whatever waits, up to a cap, runs in one transaction, each job
//! in a savepoint of its own, so that an error undoes that job alone; one commit makes all of
//! them durable, and only then is anybody answered.
//! Not responsible for: what the jobs do, or trying again: whoever asked is told that the store
//! is unavailable, and asks again.
//!
//! Some errors (a full disk, a failed write) make SQLite roll back the whole transaction. Then
//! the jobs of the group run one by one, so that one that cannot succeed does not keep the others
//! from it. After a failed commit they do not: it may have reached the disk, and only those who
//! asked can tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::state::StateError;
use crate::state::sqlite::database::{Savepoint, failed, run};

/// Jobs that wait at most, beside those that run; whoever comes then is held back.
const WAITING: usize = 1024;
/// Jobs of one transaction at most.
const GROUP: usize = 512;

const JOB: Savepoint = Savepoint {
    open: "SAVEPOINT tidemill_job",
    keep: "RELEASE tidemill_job",
    undo: "ROLLBACK TO tidemill_job",
};

/// The sending end of the writer's queue, and its thread.
pub(super) struct Writer {
    /// `None` once the thread was told to end.
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on its connection.
    pub(super) fn start(connection: Connection) -> Result<Self, StateError> {
        let (jobs, queue) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || serve(&connection, queue))
            .map_err(|error| {
                StateError::Fatal(format!("the state store could not start its thread: {error}"))
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` in a transaction; answers when it is durable, or failed and undone. `work` may
    /// run a second time if its first transaction was rolled back. It runs even if nobody waits
    /// for the answer any more.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StateError> + Send + 'static,
    {
        let Some(jobs) = &self.jobs else { return Err(ended()) };
        let (answer, result) = oneshot::channel();
        let task: Box<dyn Job> = Box::new(Task { work, result: None, answer });
        if jobs.send(task).await.is_err() {
            return Err(ended());
        }
        result.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Writer {
    /// Waits for what is queued to be written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the state store panicked");
        }
    }
}

fn ended() -> StateError {
    StateError::Fatal("the writer thread of the state store has ended".to_owned())
}

/// Something to be done in a transaction.
trait Job: Send {
    /// Does it and remembers the result; whether it succeeded.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Tells whoever asked. `transaction` is what became of the transaction it ran in.
    fn answer(self: Box<Self>, transaction: Result<(), StateError>);
}

struct Task<T, F> {
    work: F,
    result: Option<Result<T, StateError>>,
    answer: oneshot::Sender<Result<T, StateError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: Fn(&Connection) -> Result<T, StateError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)(connection)));
        let panicked = || Err(StateError::Fatal("a job of the state store panicked".to_owned()));
        let result = result.unwrap_or_else(|_| panicked());
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn answer(self: Box<Self>, transaction: Result<(), StateError>) {
        let result = match (self.result, transaction) {
            (Some(own), Ok(())) => own,
            (Some(Err(own)), Err(_)) => Err(own),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(ended()),
        };
        // Whoever asked may have stopped waiting.
        drop(self.answer.send(result));
    }
}

/// How a transaction ended.
enum Ended {
    /// Committed, or failed in a way that the jobs cannot have caused.
    Over(Result<(), StateError>),
    /// Rolled back by what a job did, or tried to do.
    RolledBack(StateError),
}

fn serve(connection: &Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::new();
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        match transact(connection, &mut group) {
            Ended::Over(result) => answer(&mut group, &result),
            Ended::RolledBack(error) if group.len() == 1 => answer(&mut group, &Err(error)),
            Ended::RolledBack(error) => {
                tracing::debug!(%error, jobs = group.len(), "transaction rolled back");
                one_by_one(connection, &mut group);
            }
        }
    }
}

fn answer(group: &mut Vec<Box<dyn Job>>, result: &Result<(), StateError>) {
    for job in group.drain(..) {
        job.answer(result.clone());
    }
}

fn one_by_one(connection: &Connection, group: &mut Vec<Box<dyn Job>>) {
    for mut job in group.drain(..) {
        let result = match transact(connection, slice::from_mut(&mut job)) {
            Ended::Over(result) => result,
            Ended::RolledBack(error) => Err(error),
        };
        job.answer(result);
    }
}

fn transact(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Ended {
    if let Err(error) = run(connection, "BEGIN IMMEDIATE") {
        return Ended::Over(Err(failed("begin a transaction", &error)));
    }
    for job in jobs {
        if let Err(error) = in_savepoint(connection, job.as_mut()) {
            roll_back(connection);
            return Ended::RolledBack(failed("keep its transaction", &error));
        }
    }
    let committed = run(connection, "COMMIT").map_err(|error| failed("commit", &error));
    if committed.is_err() {
        roll_back(connection);
    }
    Ended::Over(committed)
}

/// Runs a job; an error means that the transaction is lost.
fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<()> {
    run(connection, JOB.open)?;
    let succeeded = job.run(connection);
    JOB.close(connection, succeeded)
}

fn roll_back(connection: &Connection) {
    if connection.is_autocommit() {
        return;
    }
    if let Err(error) = run(connection, "ROLLBACK") {
        tracing::error!(%error, "state store cannot roll back a transaction");
    }
}

#[cfg(test)]
mod tests;
