//! The database file: connections, migrations, errors.
//!
//! Responsible for: how connections are set up (WAL, `synchronous=FULL`: an answer means that it
//! is on disk), bringing the schema up, savepoints, and which errors of SQLite may pass.
//! Not responsible for: who writes when (`writer`), or what.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use crate::state::StateError;

/// The schema, one step after the other; `user_version` counts the steps taken.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_state.sql"),
    include_str!("migrations/0002_retired.sql"),
    include_str!("migrations/0003_backlog.sql"),
];

/// Checkpoints come every 16 MiB of log.
const SET_UP_WRITER: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -32768;
PRAGMA temp_store = MEMORY;
PRAGMA wal_autocheckpoint = 4096;
PRAGMA journal_size_limit = 67108864;";
const SET_UP_READER: &str = "PRAGMA query_only = ON;";

/// Statements that stay prepared: those of the engine, and those of a few topologies.
const PREPARED_STATEMENTS: usize = 256;

/// The one connection that writes, on a database of this version of the schema.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StateError> {
    let connection = Connection::open(path)
        .and_then(|connection| set_up(connection, SET_UP_WRITER))
        .map_err(|error| failed(&format!("open {}", path.display()), &error))?;
    migrate(&connection, path)?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| set_up(connection, SET_UP_READER))
}

/// A connection that reads what another process may be writing. It cannot change the database nor
/// make one; SQLite may put its own `-wal` and `-shm` beside it, which readers share with writers.
pub(super) fn open_observer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| set_up(connection, SET_UP_READER))
}

/// Refuses a database whose schema is another than this program's.
pub(super) fn refuse_other_schema(connection: &Connection, path: &Path) -> Result<(), StateError> {
    let taken = steps_taken(connection, path)?;
    if taken == MIGRATIONS.len() {
        return Ok(());
    }
    Err(StateError::Mismatch(format!(
        "{} has version {taken} of the state schema, this program reads {}: run the pipeline once \
         with this program, which brings the schema up",
        path.display(),
        MIGRATIONS.len()
    )))
}

fn set_up(connection: Connection, pragmas: &str) -> rusqlite::Result<Connection> {
    connection.execute_batch(pragmas)?;
    // A misspelt name in double quotes is an error, not a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    Ok(connection)
}

fn migrate(connection: &Connection, path: &Path) -> Result<(), StateError> {
    let taken = steps_taken(connection, path)?;
    for (script, version) in MIGRATIONS.iter().zip(1..).skip(taken) {
        step(connection, script, version)
            .map_err(|error| failed(&format!("bring its schema to version {version}"), &error))?;
    }
    Ok(())
}

/// How many steps a database has taken; more than there are here is an error.
fn steps_taken(connection: &Connection, path: &Path) -> Result<usize, StateError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| failed("read the version of its schema", &error))?;
    let taken = usize::try_from(found).ok().filter(|taken| *taken <= MIGRATIONS.len());
    taken.ok_or_else(|| {
        StateError::Mismatch(format!(
            "{} has version {found} of the state schema, this program knows {}: use the program \
             that wrote it, or another file",
            path.display(),
            MIGRATIONS.len()
        ))
    })
}

fn step(connection: &Connection, script: &str, version: i64) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(script)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Runs a statement that has neither parameters nor rows.
pub(super) fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute(()).map(|_| ())
}

/// What to do with a savepoint, by its name.
pub(super) struct Savepoint {
    pub(super) open: &'static str,
    pub(super) keep: &'static str,
    pub(super) undo: &'static str,
}

impl Savepoint {
    /// Ends it, with or without what was done in it.
    pub(super) fn close(&self, connection: &Connection, keep: bool) -> rusqlite::Result<()> {
        if !keep {
            run(connection, self.undo)?;
        }
        run(connection, self.keep)
    }
}

/// Says what the store could not do.
pub(super) fn failed(what: &str, error: &Error) -> StateError {
    let text = format!("the state store could not {what}: {}", message(error));
    if may_pass(error) { StateError::Unavailable(text) } else { StateError::Fatal(text) }
}

/// A full disk, a busy file or missing rights may pass; a damaged file or a wrong statement does
/// not.
pub(super) fn may_pass(error: &Error) -> bool {
    error.sqlite_error_code().is_some_and(|code| {
        matches!(
            code,
            ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OperationInterrupted
                | ErrorCode::SchemaChanged
        )
    })
}

/// What SQLite said, without a copy of the statement.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::SqlInputError { msg, .. } => msg.clone(),
        Error::InvalidParameterName(name) => format!("nothing is bound to {name}"),
        other => other.to_string(),
    }
}
