//! Connections to the database.
//!
//! Responsible for: a bounded number of connections, opened as they are needed, a deadline for
//! whatever is asked over them, and errors that name the database.
//! Not responsible for: what is asked, or how a connection is set up (`settings`).

use std::error::Error as StdError;
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::{Error, NoTls};

use crate::state::StateError;
use crate::state::postgres::errors::{is_refusal, may_pass, message};
use crate::state::postgres::settings::{PostgresConfig, encryption, place};
use crate::state::postgres::tls;

/// The connections, and where they lead.
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    /// Host, port and database.
    place: String,
    /// How long anything may take: the server ends statements long before, if it is alive.
    patience: Duration,
}

impl Pool {
    /// Connections as they are configured; none is opened yet.
    pub(super) fn new(config: &PostgresConfig, is_read_only: bool) -> Result<Self, StateError> {
        let driver = config.driver(is_read_only)?;
        let place = place(&driver);
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match tls::connector(encryption(&driver), config.ca_file.as_deref())? {
            Some(connector) => Manager::from_config(driver, connector, settings),
            None => Manager::from_config(driver, NoTls, settings),
        };
        let patience = config.statement_timeout * 2;
        let connections = deadpool_postgres::Pool::builder(manager)
            .max_size(config.pool_size.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(patience))
            // A frozen server takes connections and says nothing.
            .create_timeout(Some(config.connect_timeout * 2))
            .build()
            .map_err(|error| StateError::Fatal(format!("no connections can be kept: {error}")))?;
        Ok(Self { connections, place, patience })
    }

    /// A connection that nobody else uses.
    pub(super) async fn get(&self) -> Result<Client, StateError> {
        self.connections.get().await.map_err(|error| match error {
            PoolError::Backend(error) if is_refusal(&error) => {
                StateError::Mismatch(self.text("be opened", &message(&error)))
            }
            PoolError::Backend(error) => self.failed("be reached", &error),
            PoolError::Timeout(_) => {
                StateError::Unavailable(self.text("be reached", "no connection came about in time"))
            }
            other => StateError::Fatal(self.text("be reached", &other.to_string())),
        })
    }

    /// Does `work`, unless it takes longer than anything may.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        match tokio::time::timeout(self.patience, work).await {
            Ok(done) => done,
            Err(_) => Err(self.too_late(what)),
        }
    }

    /// How long anything may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// There was no answer in time.
    pub(super) fn too_late(&self, what: &str) -> StateError {
        let why = format!("there was no answer for {} s", self.patience.as_secs());
        StateError::Unavailable(self.text(what, &why))
    }

    /// Says what the store could not do.
    pub(super) fn failed(&self, what: &str, error: &Error) -> StateError {
        let text = self.text(what, &message(error));
        if may_pass(error) { StateError::Unavailable(text) } else { StateError::Fatal(text) }
    }

    /// Something that is stored cannot have been written by this program.
    pub(super) fn corrupt(&self, what: &str, error: &(dyn StdError + Send + Sync)) -> StateError {
        StateError::Fatal(self.text(what, &error.to_string()))
    }

    /// What is stored does not fit this program.
    pub(super) fn mismatch(&self, why: &str) -> StateError {
        StateError::Mismatch(format!("the state store at {} {why}", self.place))
    }

    fn text(&self, what: &str, why: &str) -> String {
        format!("the state store at {} could not {what}: {why}", self.place)
    }
}
