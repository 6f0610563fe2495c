//! The engine's own tables.
//!
//! Responsible for: bringing the schema up, one replica at a time, and refusing a database that a
//! newer program has brought further; what the server has to be.
//! Not responsible for: declared tables (`declare`).
//!
//! Tables lie in the first schema of the connection's search path. A program whose schema is there
//! already defines nothing, so its role needs no right to.

use deadpool_postgres::{Client, Object};
use refinery::error::Kind;
use refinery::{Migration, Runner};
use tokio_postgres::Error;

use crate::state::StateError;
use crate::state::postgres::pool::Pool;

/// The schema, one step after the other.
const MIGRATIONS: [(&str, &str); 2] = [
    ("V1__state", include_str!("migrations/V1__state.sql")),
    ("V2__backlog", include_str!("migrations/V2__backlog.sql")),
];
/// Where the steps are noted that have been taken.
const HISTORY: &str = "tidemill_schema_history";

/// "tidemill" as a number: whoever holds this lock defines tables and views.
pub(super) const DEFINITION_LOCK: i64 = 0x7469_6465_6d69_6c6c;

/// The oldest server that has what is needed.
const OLDEST_SERVER: i32 = 140_000;

const SERVER: &str = "SELECT CAST(current_setting('server_version_num') AS integer), \
     current_setting('server_version'), current_setting('synchronous_commit')";

const KNOWN: &str = "SELECT to_regclass('tidemill_schema_history') IS NOT NULL";

const VERSION: &str = "SELECT coalesce(max(version), 0) FROM tidemill_schema_history";

/// Refuses servers that are too old, or that lose what they have acknowledged.
pub(super) async fn check_server(pool: &Pool, client: &Client) -> Result<(), StateError> {
    let read = async {
        let row = client.query_one(SERVER, &[]).await?;
        Ok::<_, Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    };
    let (number, version, durability): (i32, String, String) =
        read.await.map_err(|error| pool.failed("read the version of the server", &error))?;
    if number < OLDEST_SERVER {
        let why = format!("runs PostgreSQL {version}, and 14 is the oldest version that will do");
        return Err(pool.mismatch(&why));
    }
    if durability == "off" {
        let why = "has synchronous_commit off, so that a crash loses what was answered: set it to \
                   on for this role or database";
        return Err(pool.mismatch(why));
    }
    Ok(())
}

/// Brings the schema up. Others who come for the same meanwhile wait, and find it done.
pub(super) async fn migrate(pool: &Pool) -> Result<(), StateError> {
    let mut client = pool.get().await?;
    check_server(pool, &client).await?;
    if version(pool, &client).await? == newest() {
        return Ok(());
    }
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&DEFINITION_LOCK]).await;
    let migrated = match locked {
        Ok(_) => steps(pool, &mut client).await,
        Err(error) => Err(pool.failed("wait for others to define tables", &error)),
    };
    // The lock belongs to the connection and ends with it, whatever happened.
    drop(Object::take(client));
    migrated
}

async fn steps(pool: &Pool, client: &mut Client) -> Result<(), StateError> {
    if version(pool, client).await? == newest() {
        return Ok(());
    }
    let steps: Result<Vec<Migration>, refinery::Error> =
        MIGRATIONS.iter().map(|(name, script)| Migration::unapplied(name, script)).collect();
    let steps = steps.map_err(|error| StateError::Fatal(format!("no schema to bring: {error}")))?;
    let mut runner = Runner::new(&steps);
    runner.set_migration_table_name(HISTORY);
    let running = Box::pin(runner.run_async(&mut ***client));
    running.await.map(|_| ()).map_err(|error| refused(pool, &error))
}

fn refused(pool: &Pool, error: &refinery::Error) -> StateError {
    match error.kind() {
        Kind::Connection(_, cause) => match cause.downcast_ref::<Error>() {
            Some(cause) => pool.failed("bring its schema up", cause),
            None => pool.corrupt("bring its schema up", cause.as_ref()),
        },
        other => pool.mismatch(&format!("has another state schema than this program: {other}")),
    }
}

/// Refuses a database whose schema is another than this program's.
pub(super) async fn check(pool: &Pool) -> Result<(), StateError> {
    let client = pool.get().await?;
    let found = version(pool, &client).await?;
    if found == newest() {
        return Ok(());
    }
    let why = match found {
        0 => "has no state: no pipeline with manifests or tables has run on it yet".to_owned(),
        found => format!(
            "has version {found} of the state schema, this program reads {}: run the pipeline once \
             with this program, which brings the schema up",
            newest()
        ),
    };
    Err(pool.mismatch(&why))
}

/// How many steps a database has taken; more than there are here is an error.
async fn version(pool: &Pool, client: &Client) -> Result<i32, StateError> {
    let read = async {
        if !client.query_one(KNOWN, &[]).await?.try_get::<_, bool>(0)? {
            return Ok::<i32, Error>(0);
        }
        client.query_one(VERSION, &[]).await?.try_get(0)
    };
    let found =
        read.await.map_err(|error| pool.failed("read the version of its schema", &error))?;
    if found <= newest() {
        return Ok(found);
    }
    Err(pool.mismatch(&format!(
        "has version {found} of the state schema, this program knows {}: use the program that \
         wrote it, or another database",
        newest()
    )))
}

fn newest() -> i32 {
    MIGRATIONS.len() as i32
}
