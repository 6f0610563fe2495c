//! The SQLite database of the embedded log.
//!
//! Responsible for: connections and how they are set up, the schema and its version, the reading
//! statements, and which errors of SQLite may pass. `WITHOUT ROWID` tables keep the records of a
//! partition together in offset order; one writer appends, readers see whole commits (WAL).
//! Not responsible for: what is written when (`writer`, `retention`, `admin`).
//!
//! There is no index over time stamps, which would cost each append: a look-up by time reads from
//! the start of the partition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};

use crate::broker::BrokerError;
use crate::broker::embedded::headers;
use crate::broker::embedded::settings::Settings;
use crate::broker::embedded::state::{Head, TopicState};
use crate::model::{LogRecord, Offset, Topic};

const FILE: &str = "log.db";
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
BEGIN IMMEDIATE;
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    settings TEXT NOT NULL
) STRICT;
CREATE TABLE partitions (
    topic_id INTEGER NOT NULL,
    part INTEGER NOT NULL,
    log_start INTEGER NOT NULL,
    next_position INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (topic_id, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    topic_id INTEGER NOT NULL,
    part INTEGER NOT NULL,
    position INTEGER NOT NULL,
    stamped INTEGER NOT NULL,
    record_key BLOB,
    record_value BLOB,
    headers BLOB,
    PRIMARY KEY (topic_id, part, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE group_offsets (
    group_name TEXT NOT NULL,
    topic_id INTEGER NOT NULL,
    part INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic_id, part)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;";

/// Pages hold several records of a kilobyte; checkpoints come every 32 MiB of log.
const SET_UP_WRITER: &str = "
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -32768;
PRAGMA temp_store = MEMORY;
PRAGMA wal_autocheckpoint = 4096;
PRAGMA journal_size_limit = 67108864;";
const SET_UP_READER: &str = "PRAGMA query_only = ON;";

/// Records that one read brings at most, so that it stays short.
const MOST_RECORDS: i64 = 4096;
/// What a record takes in memory beside its bytes.
const OVERHEAD: usize = 128;

/// Where the database lies.
pub(super) enum Location {
    /// In a file; readers have connections of their own.
    File(PathBuf),
    /// In memory, behind the one connection that everybody shares.
    Memory(Arc<Mutex<Connection>>),
}

impl Location {
    /// Another connection to read with.
    pub(super) fn reader(&self) -> Result<Arc<Mutex<Connection>>, BrokerError> {
        match self {
            Self::File(path) => {
                let open = || -> rusqlite::Result<Arc<Mutex<Connection>>> {
                    let connection = Connection::open(path)?;
                    connection.execute_batch(SET_UP_READER)?;
                    Ok(Arc::new(Mutex::new(connection)))
                };
                open().map_err(|error| failed("open another connection", &error))
            }
            Self::Memory(connection) => Ok(Arc::clone(connection)),
        }
    }
}

/// Opens the database in `folder`, or one in memory, and brings its schema up.
pub(super) fn open(
    folder: Option<&Path>,
) -> Result<(Arc<Mutex<Connection>>, Location), BrokerError> {
    let path = folder.map(|folder| folder.join(FILE));
    let opened = path.as_ref().map_or_else(Connection::open_in_memory, Connection::open);
    let connection = opened.map_err(|error| failed("open its database", &error))?;
    connection
        .execute_batch(SET_UP_WRITER)
        .map_err(|error| failed("set up its database", &error))?;
    bring_up(&connection)?;
    let shared = Arc::new(Mutex::new(connection));
    let location = path.map_or_else(|| Location::Memory(Arc::clone(&shared)), Location::File);
    Ok((shared, location))
}

fn bring_up(connection: &Connection) -> Result<(), BrokerError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| failed("read the version of its schema", &error))?;
    match found {
        SCHEMA_VERSION => Ok(()),
        0 => connection.execute_batch(SCHEMA).map_err(|error| failed("create its tables", &error)),
        other => Err(BrokerError::Fatal(format!(
            "the embedded log has schema version {other}, this program knows {SCHEMA_VERSION}: \
             use the program that wrote it, or another folder"
        ))),
    }
}

/// All topics with the heads of their partitions.
pub(super) fn topics(connection: &Connection) -> Result<BTreeMap<Topic, TopicState>, BrokerError> {
    let read = || -> rusqlite::Result<Vec<(i64, String, String)>> {
        let mut statement = connection.prepare("SELECT id, name, settings FROM topics")?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect()
    };
    let rows = read().map_err(|error| failed("read its topics", &error))?;
    let mut topics = BTreeMap::new();
    for (id, name, settings) in rows {
        let name = Topic::from(name);
        let declared = serde_json::from_str(&settings).map_err(|error| {
            BrokerError::Fatal(format!("stored settings of topic {name} are broken: {error}"))
        })?;
        let settings = Settings::parse(&name, declared)?;
        let heads = heads(connection, id).map_err(|error| failed("read its topics", &error))?;
        topics.insert(name, TopicState { id, settings, heads });
    }
    Ok(topics)
}

fn heads(connection: &Connection, topic: i64) -> rusqlite::Result<Vec<Head>> {
    let mut statement = connection.prepare_cached(
        "SELECT log_start, next_position FROM partitions WHERE topic_id = ?1 ORDER BY part",
    )?;
    let rows = statement.query_map((topic,), |row| {
        Ok(Head { start: Offset(row.get(0)?), end: Offset(row.get(1)?) })
    })?;
    rows.collect()
}

/// What one read of a partition brought.
pub(super) struct Fetched {
    /// First position that can be read, at the time of the read.
    pub(super) start: Offset,
    /// The records, in offset order.
    pub(super) records: Vec<LogRecord>,
    /// Whether the range asked for holds no more.
    pub(super) complete: bool,
}

/// Reads records of a partition in `from..end`, until they take `budget` bytes; at least one.
///
/// Start and records are of one snapshot: records removed meanwhile cannot look like a gap.
pub(super) fn fetch(
    connection: &Connection,
    (topic, part): (i64, i32),
    (from, end): (Offset, Offset),
    budget: usize,
) -> rusqlite::Result<Fetched> {
    let snapshot = connection.unchecked_transaction()?;
    let start = snapshot
        .prepare_cached("SELECT log_start FROM partitions WHERE topic_id = ?1 AND part = ?2")?
        .query_row((topic, part), |row| row.get(0).map(Offset))?;
    let mut fetched = Fetched { start, records: Vec::new(), complete: true };
    if from >= start {
        let mut statement = snapshot.prepare_cached(
            "SELECT position, stamped, record_key, record_value, headers FROM records \
             WHERE topic_id = ?1 AND part = ?2 AND position >= ?3 AND position < ?4 \
             ORDER BY position LIMIT ?5",
        )?;
        let mut rows = statement.query((topic, part, from.0, end.0, MOST_RECORDS))?;
        let mut taken = 0;
        while let Some(row) = rows.next()? {
            let record = record(row)?;
            taken += cost(&record);
            fetched.records.push(record);
            if taken >= budget {
                fetched.complete = false;
                break;
            }
        }
        fetched.complete &= (fetched.records.len() as i64) < MOST_RECORDS;
    }
    snapshot.finish()?;
    Ok(fetched)
}

/// Bytes that a record takes in a prefetch buffer.
pub(super) fn cost(record: &LogRecord) -> usize {
    record.size() + OVERHEAD
}

/// Key, value and headers are copied out of SQLite once, into one allocation.
fn record(row: &Row<'_>) -> rusqlite::Result<LogRecord> {
    let key = row.get_ref(2)?.as_blob_or_null()?;
    let value = row.get_ref(3)?.as_blob_or_null()?;
    let headers = row.get_ref(4)?.as_blob_or_null()?;
    let key_end = key.map_or(0, <[u8]>::len);
    let value_end = key_end + value.map_or(0, <[u8]>::len);
    let mut copy = Vec::with_capacity(value_end + headers.map_or(0, <[u8]>::len));
    for part in [key, value, headers].into_iter().flatten() {
        copy.extend_from_slice(part);
    }
    let copy = Bytes::from(copy);
    let headers = headers::decode(copy.slice(value_end..)).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(4, Type::Blob, "malformed headers".into())
    })?;
    Ok(LogRecord {
        offset: Offset(row.get(0)?),
        timestamp: Some(row.get(1)?),
        key: key.map(|_| copy.slice(..key_end)),
        value: value.map(|_| copy.slice(key_end..value_end)),
        headers,
    })
}

/// Position of the first record from `from` on that is stamped at or after `timestamp`.
pub(super) fn first_stamped(
    connection: &Connection,
    (topic, part): (i64, i32),
    from: Offset,
    timestamp: i64,
) -> rusqlite::Result<Option<Offset>> {
    connection
        .prepare_cached(
            "SELECT position FROM records WHERE topic_id = ?1 AND part = ?2 AND position >= ?3 \
             AND stamped >= ?4 ORDER BY position LIMIT 1",
        )?
        .query_row((topic, part, from.0, timestamp), |row| row.get(0).map(Offset))
        .optional()
}

/// The committed offset of a group.
pub(super) fn committed(
    connection: &Connection,
    group: &str,
    (topic, part): (i64, i32),
) -> rusqlite::Result<Option<Offset>> {
    connection
        .prepare_cached(
            "SELECT position FROM group_offsets \
             WHERE group_name = ?1 AND topic_id = ?2 AND part = ?3",
        )?
        .query_row((group, topic, part), |row| row.get(0).map(Offset))
        .optional()
}

/// Says what the log could not do. A full disk, a busy file or missing rights may pass; a damaged
/// file does not.
pub(super) fn failed(what: &str, error: &rusqlite::Error) -> BrokerError {
    let text = format!("the embedded log could not {what}: {error}");
    let may_pass = error.sqlite_error_code().is_some_and(|code| {
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
        )
    });
    if may_pass { BrokerError::Unavailable(text) } else { BrokerError::Fatal(text) }
}
