//! Connections that read.
//!
//! Responsible for: reading beside the writer, on the runtime's threads for blocking work, with a
//! bounded number of connections. A read sees one state of the database: whole commits, and all
//! of those that were answered before it was asked for.
//! Not responsible for: what is read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::state::StateError;
use crate::state::sqlite::database::{failed, open_observer, open_reader, refuse_other_schema};

/// Reads at the same time; more wait.
const AT_ONCE: usize = 4;

/// The connections, opened as they are needed.
pub(super) struct Readers {
    path: PathBuf,
    open: fn(&Path) -> rusqlite::Result<Connection>,
    permits: Arc<Semaphore>,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Connections beside a writer of this process.
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Self::with(path, open_reader, Vec::new())
    }

    /// Connections on a file that another process may be writing. Fails if there is no such file,
    /// or if its schema is not the one that is read here.
    pub(super) fn observing(path: PathBuf) -> Result<Arc<Self>, StateError> {
        let opening = || format!("open {}", path.display());
        match std::fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing(&path)),
            Err(error) => {
                return Err(StateError::Unavailable(format!(
                    "the state store could not {}: {error}",
                    opening()
                )));
            }
        }
        let connection = open_observer(&path).map_err(|error| failed(&opening(), &error))?;
        refuse_other_schema(&connection, &path)?;
        Ok(Self::with(path, open_observer, vec![connection]))
    }

    fn with(
        path: PathBuf,
        open: fn(&Path) -> rusqlite::Result<Connection>,
        idle: Vec<Connection>,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Self { path, open, permits, idle: Mutex::new(idle) })
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
            .map_or_else(|| (self.open)(&self.path), Ok)
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

fn missing(path: &Path) -> StateError {
    StateError::Mismatch(format!(
        "there is no state store at {}: no pipeline with manifests or tables has run on this data \
         folder yet, or it runs on another one (--config names the settings, TIDEMILL_DATA_DIR \
         the folder)",
        path.display()
    ))
}

fn ended(why: &str) -> StateError {
    StateError::Fatal(format!("a read of the state store ended early: {why}"))
}
