//! The state store, for a command that looks at it.
//!
//! Responsible for: opening it beside whoever writes it, asking, and the exit code where there is
//! no answer.
//! Not responsible for: the questions (`ops`).

use crate::cli::Exit;
use crate::config::Config;
use crate::ops::OpsError;
use crate::ops::time::Time;
use crate::runtime::clock::{Clock, SystemClock};
use crate::state::sqlite::SqliteStore;
use crate::state::{StateError, StateStore};

/// The time that ages are told by.
pub(in crate::cli) fn now() -> Time {
    Time(SystemClock::new().unix_millis())
}

/// Asks the embedded state store that the settings name. Says on standard error why there is no
/// answer.
pub(in crate::cli) fn ask<T>(
    config: &Config,
    question: impl AsyncFnOnce(&dyn StateStore) -> Result<T, OpsError>,
) -> Result<T, Exit> {
    let asking = async {
        let store = SqliteStore::open_read_only(&config.state_path())?;
        let reader: &dyn StateStore = &*store;
        question(reader).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        eprintln!("error: cannot start a runtime: {error}");
        Exit::Internal
    })?;
    runtime.block_on(asking).map_err(|error| {
        eprintln!("error: {error}");
        exit(&error)
    })
}

fn exit(error: &OpsError) -> Exit {
    match error {
        OpsError::Unknown(_) | OpsError::State(StateError::Mismatch(_)) => Exit::Usage,
        OpsError::State(StateError::Unavailable(_) | StateError::Fatal(_)) => Exit::Dependency,
    }
}
