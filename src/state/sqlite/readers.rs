//! Connections that read.
//!
//! Responsible for: reading beside the writer, on the runtime's threads for blocking work, with a
//! bounded number of connections. A read sees one state of the database: whole commits, and all
//! of those that were answered before it was asked for.
//! Not responsible for: what is read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::state::StateError;
use crate::state::sqlite::database::{failed, open_reader};

/// Reads at the same time; more wait.
const AT_ONCE: usize = 4;

/// The connections, opened as they are needed.
pub(super) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Self { path, permits, idle: Mutex::new(Vec::new()) })
    }

    /// Runs `work` on one state of the database.
    pub(super) async fn run<T, F>(self: &Arc<Self>, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StateError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| ended("its connections are closed"))?;
        let readers = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let result = readers.read(work);
            drop(permit);
            result
        });
        reading.await.unwrap_or_else(|error| Err(ended(&error.to_string())))
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let idle = self.idle().pop();
        let connection = idle
            .map_or_else(|| open_reader(&self.path), Ok)
            .map_err(|error| failed("open a connection", &error))?;
        let transaction =
            connection.unchecked_transaction().map_err(|error| failed("begin to read", &error))?;
        let result = work(&transaction);
        drop(transaction);
        self.idle().push(connection);
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(why: &str) -> StateError {
    StateError::Fatal(format!("a read of the state store ended early: {why}"))
}
