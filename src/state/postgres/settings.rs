//! How a database is reached.
//!
//! Responsible for: settings of connections, what the url says, and what every connection is told
//! at its start: timeouts, so that an owner that freezes within a transaction cannot hold a
//! takeover for ever, and the same time zone everywhere.
//! Not responsible for: opening connections (`pool`), or TLS (`tls`).

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::state::StateError;

const DEFAULT_PORT: u16 = 5432;
/// A connection that nothing was heard of for so long is asked whether it still lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Settings of a store in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`. With `?sslmode=require` the connection is
    /// encrypted, and the certificate and its host name are checked (`verify-ca` and
    /// `verify-full` mean the same); with `disable` it is not encrypted; without it is if the
    /// server can.
    pub url: SecretString,
    /// Certificates, as PEM, that the server's has to lead to; otherwise those that the operating
    /// system trusts.
    pub ca_file: Option<PathBuf>,
    /// Connections at most.
    pub pool_size: usize,
    /// Longest time that a statement may take.
    pub statement_timeout: Duration,
    /// Longest time that a statement waits for a lock.
    pub lock_timeout: Duration,
    /// Longest time that a transaction may wait for its next statement: how long an owner that
    /// freezes can hold up the next one.
    pub idle_in_transaction_timeout: Duration,
    /// Longest time for a connection to come about, per address.
    pub connect_timeout: Duration,
}

impl PostgresConfig {
    /// The database at `url`, with defaults for the rest: 8 connections, 30 s per statement, 10 s
    /// per lock, 30 s idle in a transaction, 5 s to connect.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            ca_file: None,
            pool_size: 8,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// What the driver needs to connect.
    pub(super) fn driver(&self, is_read_only: bool) -> Result<Config, StateError> {
        let mut driver = parsed(self.url.expose_secret()).ok_or_else(unreadable)?;
        if driver.get_hosts().is_empty() && driver.get_hostaddrs().is_empty() {
            return Err(StateError::Mismatch(
                "the url of the state store names no host".to_owned(),
            ));
        }
        let mut options = driver.get_options().map(str::to_owned).unwrap_or_default();
        for (name, value) in self.session(is_read_only) {
            options.push_str(&format!(" -c {name}={value}"));
        }
        driver
            .options(options.trim_start())
            .application_name("tidemill")
            .connect_timeout(self.connect_timeout)
            .tcp_user_timeout(self.statement_timeout)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        Ok(driver)
    }

    /// Settings of every session. Waiting for ever is never meant, so there are no zeros.
    fn session(&self, is_read_only: bool) -> Vec<(&'static str, String)> {
        let millis = |timeout: Duration| timeout.as_millis().max(1).to_string();
        let mut settings = vec![
            ("statement_timeout", millis(self.statement_timeout)),
            ("lock_timeout", millis(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(self.idle_in_transaction_timeout)),
            ("TimeZone", "UTC".to_owned()),
            ("DateStyle", "ISO".to_owned()),
        ];
        if is_read_only {
            settings.push(("default_transaction_read_only", "on".to_owned()));
        }
        settings
    }
}

/// The url may hold a password, and the driver's errors quote it.
fn unreadable() -> StateError {
    StateError::Mismatch(
        "the url of the state store cannot be read; it is written \
         postgres://user:password@host:port/database?sslmode=require, with special characters \
         percent-encoded and sslmode one of disable, prefer, require, verify-ca, verify-full"
            .to_owned(),
    )
}

fn parsed(url: &str) -> Option<Config> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return None;
    }
    let url = match url.rsplit_once('?') {
        Some((place, query)) => {
            let known: Vec<&str> = query.split('&').map(known_to_driver).collect();
            format!("{place}?{}", known.join("&"))
        }
        None => url.to_owned(),
    };
    url.parse().ok()
}

/// Certificates are always checked to the full, so there is one word for it.
fn known_to_driver(parameter: &str) -> &str {
    match parameter {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
        other => other,
    }
}

/// Host, port and database, for people; nothing of it is secret.
pub(super) fn place(driver: &Config) -> String {
    let ports = driver.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
    let named = driver.get_hosts().iter().enumerate().map(|(index, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(index)),
        #[cfg(unix)]
        Host::Unix(folder) => format!("{}:{}", folder.display(), port(index)),
    });
    let mut hosts: Vec<String> = named.collect();
    if hosts.is_empty() {
        let addresses = driver.get_hostaddrs().iter().enumerate();
        hosts = addresses.map(|(index, address)| format!("{address}:{}", port(index))).collect();
    }
    let database = driver.get_dbname().or(driver.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

/// Whether a connection may be, and has to be, encrypted.
pub(super) fn encryption(driver: &Config) -> Encryption {
    match driver.get_ssl_mode() {
        SslMode::Disable => Encryption::Never,
        SslMode::Require => Encryption::Always,
        _ => Encryption::IfPossible,
    }
}

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    Never,
    IfPossible,
    Always,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> PostgresConfig {
        PostgresConfig::new(SecretString::from(url))
    }

    #[test]
    fn a_place_is_named_without_its_secrets() {
        let table = [
            ("postgres://me:hunter2@db.example:6000/state", "db.example:6000/state"),
            ("postgresql://me:hunter2@one,two:7/state?sslmode=disable", "one:5432,two:7/state"),
            ("postgres://me@%2Fvar%2Frun/state", "/var/run:5432/state"),
            ("postgres://me:hunter2@db.example", "db.example:5432/me"),
        ];
        for (url, wanted) in table {
            assert_eq!(place(&config(url).driver(false).unwrap()), wanted);
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        let urls = [
            "postgrse://me:hunter2@db/state?sslmode=disable",
            "postgres://me:hunter2@db:port/state",
            "postgres://me:hunter2@db/state?sslmode=maybe",
            "postgres://me:hunter2@db/state?hunter2=1",
            "host=db password=hunter2",
            "postgres:///state?password=hunter2",
        ];
        for url in urls {
            let error = config(url).driver(false).unwrap_err();
            assert!(matches!(&error, StateError::Mismatch(_)), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?}", config(urls[0])).contains("hunter2"));
    }

    #[test]
    fn the_url_says_whether_connections_are_encrypted() {
        let table = [
            ("", Encryption::IfPossible),
            ("?sslmode=prefer", Encryption::IfPossible),
            ("?sslmode=disable", Encryption::Never),
            ("?sslmode=require", Encryption::Always),
            ("?connect_timeout=3&sslmode=verify-full", Encryption::Always),
            ("?sslmode=verify-ca&keepalives=1", Encryption::Always),
        ];
        for (query, wanted) in table {
            let driver = config(&format!("postgres://db/state{query}")).driver(false).unwrap();
            assert_eq!(encryption(&driver), wanted, "{query}");
        }
    }

    #[test]
    fn timeouts_are_told_to_every_session_beside_what_the_url_says() {
        let mut config = config("postgres://db/state?options=-csearch_path%3Dours");
        config.lock_timeout = Duration::ZERO;
        let options = config.driver(true).unwrap().get_options().unwrap().to_owned();
        assert!(options.starts_with("-csearch_path=ours -c statement_timeout=30000"), "{options}");
        for wanted in [
            "-c lock_timeout=1",
            "-c idle_in_transaction_session_timeout=30000",
            "-c TimeZone=UTC",
            "-c default_transaction_read_only=on",
        ] {
            assert!(options.contains(wanted), "{options}");
        }
    }
}
