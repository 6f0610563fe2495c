//! The state store, for a command that looks at it.
//!
//! Responsible for: opening it beside whoever writes it, asking, and the exit code where there is
//! no answer.
//! Not responsible for: the questions (`ops`).

use std::sync::Arc;

use crate::cli::Exit;
use crate::cli::reach::{Fault, block_on};
use crate::config::Config;
use crate::ops::OpsError;
use crate::ops::time::Time;
use crate::runtime::clock::{Clock, SystemClock};
use crate::state::postgres::PostgresStore;
use crate::state::sqlite::SqliteStore;
use crate::state::{StateError, StateStore};

/// The time that ages are told by.
pub(in crate::cli) fn now() -> Time {
    Time(SystemClock::new().unix_millis())
}

/// Opens the state store that the settings name, to be looked at only.
pub(in crate::cli) async fn open_store_read_only(
    config: &Config,
) -> Result<Arc<dyn StateStore>, StateError> {
    match config.database() {
        Some(database) => Ok(PostgresStore::connect_read_only(database).await?),
        None => Ok(SqliteStore::open_read_only(&config.state_path())?),
    }
}

/// Asks the state store that the settings name. Says on standard error why there is no answer.
pub(in crate::cli) fn ask<T>(
    config: &Config,
    question: impl AsyncFnOnce(&dyn StateStore) -> Result<T, OpsError>,
) -> Result<T, Exit> {
    block_on(async {
        let store = open_store_read_only(config).await.map_err(OpsError::from)?;
        question(&*store).await.map_err(Fault::from)
    })
}
