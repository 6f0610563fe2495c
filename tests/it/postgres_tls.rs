//! Encrypted connections to the state store, on a real Postgres.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use tidemill::state::postgres::{PostgresConfig, PostgresStore};
use tidemill::state::{StateError, StateStore};
use tokio::runtime::{Builder, Runtime};

use crate::database::Database;
use crate::harness::unique;

/// What `scripts/test` says of its servers.
///
/// # Panics
/// Without it: the test cannot prove anything.
fn told(name: &str) -> String {
    let value = std::env::var(name);
    value.unwrap_or_else(|_| panic!("{name} is not set: run the tests through scripts/test"))
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn connect(url: &str, ca_file: Option<PathBuf>) -> Result<Arc<PostgresStore>, StateError> {
    let config = PostgresConfig { ca_file, ..PostgresConfig::new(SecretString::from(url)) };
    PostgresStore::connect(config).await
}

#[test]
fn the_store_speaks_tls_with_a_server_whose_certificate_it_can_check() {
    let database = Database::create(&told("TIDEMILL_TEST_POSTGRES_TLS"), &unique("tls"));
    let url = format!("{}?sslmode=require", database.url());
    let ca_file = PathBuf::from(told("TIDEMILL_TEST_POSTGRES_CA"));
    let runtime = runtime();
    let store = runtime.block_on(connect(&url, Some(ca_file))).expect("an encrypted connection");
    // Leaves a connection in the pool.
    runtime.block_on(store.pipelines()).expect("an answer");
    let encrypted = "SELECT count(*) > 0 AND bool_and(s.ssl) FROM pg_stat_ssl s \
                     JOIN pg_stat_activity a USING (pid) \
                     WHERE a.application_name = 'tidemill' AND a.datname = current_database()";
    assert_eq!(database.rows(encrypted).expect("an answer"), [["t"]]);
    drop(store);
}

#[test]
fn a_server_that_nobody_known_vouches_for_is_not_trusted() {
    let database = Database::create(&told("TIDEMILL_TEST_POSTGRES_TLS"), &unique("tls"));
    let url = format!("{}?sslmode=require", database.url());
    let refused = runtime().block_on(connect(&url, None));
    let error = refused.err().expect("the certificate is unknown").to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_wanted() {
    let database = Database::create(&told("TIDEMILL_TEST_POSTGRES"), &unique("no-tls"));
    let url = format!("{}?sslmode=require", database.url());
    let ca_file = PathBuf::from(told("TIDEMILL_TEST_POSTGRES_CA"));
    let refused = runtime().block_on(connect(&url, Some(ca_file)));
    let error = refused.err().expect("it does not offer TLS").to_string();
    assert!(error.contains("TLS"), "{error}");
}
