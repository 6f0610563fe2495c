//! A Postgres database of a run's own.
//!
//! Responsible for: making it on the test server, connections to it without the engine, the
//! engine's store in it, and dropping it.
//! Not responsible for: what is in it.

use std::sync::Arc;

use tidemill::state::postgres::{PostgresConfig, PostgresStore};
use tokio_postgres::{Client, NoTls};

use super::logs::unique;
use super::{Setting, Tried};

/// Connections to the database, as the engine's default has it.
pub const CONNECTIONS: usize = 8;

/// A database.
pub struct Database {
    /// Address of the server's own database.
    server: String,
    name: String,
    url: String,
}

impl Database {
    /// Makes one.
    pub async fn create(setting: &Setting) -> Tried<Self> {
        let server = setting.postgres.clone().ok_or("TIDEMILL_TEST_POSTGRES is not set")?;
        let (base, _) = server.rsplit_once('/').ok_or("TIDEMILL_TEST_POSTGRES has no database")?;
        let name = unique("bench");
        let url = format!("{base}/{name}");
        connect(&server).await?.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(Self { server, name, url })
    }

    /// The engine's store in it.
    pub async fn store(&self) -> Tried<Arc<PostgresStore>> {
        let mut config = PostgresConfig::new(self.url.clone().into());
        config.pool_size = CONNECTIONS;
        Ok(PostgresStore::connect(config).await?)
    }

    /// A connection without the engine.
    pub async fn connect(&self) -> Tried<Client> {
        connect(&self.url).await
    }

    /// Drops it, whoever is still connected.
    pub async fn remove(self) -> Tried {
        let statement = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name);
        Ok(connect(&self.server).await?.batch_execute(&statement).await?)
    }
}

async fn connect(url: &str) -> Tried<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with the client.
    tokio::spawn(connection);
    Ok(client)
}
