//! Removing records.
//!
//! Responsible for: raising the log start of a partition and deleting what lies before it, because
//! somebody asked or because `retention.ms` or `retention.bytes` of the topic say so; and taking
//! single records out for tests. The log start moves first, in a transaction of its own, so that
//! a large deletion runs in small pieces and may be cut short: what is left goes next time.
//! Not responsible for: consumers below the log start; they get an error (`consumer`).

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::broker::BrokerError;
use crate::broker::embedded::database;
use crate::broker::embedded::settings::Settings;
use crate::broker::embedded::state::{Head, Shared, locked};
use crate::model::{Offset, TopicPartition};

const EVERY: Duration = Duration::from_secs(10);
/// Positions that one transaction deletes; the writer waits meanwhile.
const PIECE: i64 = 10_000;
/// Bytes of a record, as SQL; lengths of blobs are read without the blobs.
const SIZE: &str = "coalesce(length(record_key), 0) + coalesce(length(record_value), 0) \
                    + coalesce(length(headers), 0)";

/// When retention is applied next, by the clock of the log.
pub(super) struct Schedule {
    due: i64,
}

impl Schedule {
    /// Due at once.
    pub(super) fn starting(now: i64) -> Self {
        Self { due: now }
    }

    /// Applies the settings of all topics, if it is time to.
    pub(super) fn run_if_due(&mut self, shared: &Shared) {
        let now = shared.now();
        if now < self.due {
            return;
        }
        self.due = now.saturating_add(i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX));
        for limited in limited(shared) {
            let partition = &limited.partition;
            if let Err(error) = apply(shared, &limited, now) {
                tracing::warn!(%partition, %error, "retention failed, will try again");
            }
        }
    }
}

struct Limited {
    partition: TopicPartition,
    topic: i64,
    head: Head,
    settings: Settings,
}

fn limited(shared: &Shared) -> Vec<Limited> {
    let state = shared.state();
    let topics = state.topics.iter().filter(|(_, topic)| {
        topic.settings.retention_ms.is_some() || topic.settings.retention_bytes.is_some()
    });
    let partitions = topics.flat_map(|(name, topic)| {
        topic.heads.iter().zip(0..).map(move |(head, part)| Limited {
            partition: TopicPartition::new(name.clone(), part),
            topic: topic.id,
            head: *head,
            settings: topic.settings.clone(),
        })
    });
    partitions.filter(|limited| limited.head.start < limited.head.end).collect()
}

fn apply(shared: &Shared, limited: &Limited, now: i64) -> Result<(), BrokerError> {
    let mut connection = locked(&shared.writing);
    let to = first_kept(&connection, limited, now)
        .map_err(|error| database::failed("apply retention", &error))?;
    if to <= limited.head.start {
        return Ok(());
    }
    raise_start(shared, &mut connection, limited.topic, &limited.partition, to)
}

/// The larger of what age and size demand.
fn first_kept(connection: &Connection, limited: &Limited, now: i64) -> rusqlite::Result<Offset> {
    let mut kept = limited.head.start;
    let place = (limited.topic, limited.partition.partition.0);
    if let Some(age) = limited.settings.retention_ms {
        let oldest = now.saturating_sub(age);
        let young = database::first_stamped(connection, place, kept, oldest)?;
        kept = young.unwrap_or(limited.head.end);
    }
    if let Some(bytes) = limited.settings.retention_bytes {
        kept = kept.max(first_within(connection, place, limited.head.start, bytes)?);
    }
    Ok(kept.min(limited.head.end))
}

/// As Kafka does, a partition keeps at least `bytes`: what goes is what it does not need for that.
fn first_within(
    connection: &Connection,
    place: (i64, i32),
    start: Offset,
    bytes: i64,
) -> rusqlite::Result<Offset> {
    let mut left: i64 = connection
        .prepare_cached("SELECT bytes FROM partitions WHERE topic_id = ?1 AND part = ?2")?
        .query_row(place, |row| row.get(0))?;
    let mut kept = start;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT position, {SIZE} FROM records \
         WHERE topic_id = ?1 AND part = ?2 AND position >= ?3 ORDER BY position"
    ))?;
    let mut rows = statement.query((place.0, place.1, start.0))?;
    while left > bytes
        && let Some(row) = rows.next()?
    {
        let size: i64 = row.get(1)?;
        if left - size < bytes {
            break;
        }
        left -= size;
        kept = Offset(row.get(0)?).after();
    }
    Ok(kept)
}

/// Moves the log start of a partition up and deletes what lies before it.
pub(super) fn raise_start(
    shared: &Shared,
    connection: &mut Connection,
    topic: i64,
    partition: &TopicPartition,
    to: Offset,
) -> Result<(), BrokerError> {
    let part = partition.partition.0;
    let failed = |error: rusqlite::Error| database::failed("remove records", &error);
    connection
        .execute(
            "UPDATE partitions SET log_start = ?3 WHERE topic_id = ?1 AND part = ?2",
            (topic, part, to.0),
        )
        .map_err(failed)?;
    shared.publish(|state| {
        state.move_head(&partition.topic, part, |head| head.start = to);
    });
    while delete_piece(connection, (topic, part), to).map_err(failed)? {}
    Ok(())
}

fn delete_piece(
    connection: &mut Connection,
    place: (i64, i32),
    to: Offset,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let first: Option<i64> = transaction
        .prepare_cached(
            "SELECT position FROM records WHERE topic_id = ?1 AND part = ?2 AND position < ?3 \
             ORDER BY position LIMIT 1",
        )?
        .query_row((place.0, place.1, to.0), |row| row.get(0))
        .optional()?;
    let Some(first) = first else { return Ok(false) };
    let end = first.saturating_add(PIECE).min(to.0);
    delete(&transaction, place, first, end)?;
    transaction.commit()?;
    Ok(end < to.0)
}

/// Takes one record out, so that offsets have a gap, as compaction leaves them.
pub(super) fn delete_one(
    connection: &mut Connection,
    place: (i64, i32),
    offset: Offset,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    delete(&transaction, place, offset.0, offset.after().0)?;
    transaction.commit()
}

fn delete(
    transaction: &Transaction<'_>,
    (topic, part): (i64, i32),
    from: i64,
    to: i64,
) -> rusqlite::Result<()> {
    let within = "WHERE topic_id = ?1 AND part = ?2 AND position >= ?3 AND position < ?4";
    let bytes: i64 = transaction
        .prepare_cached(&format!("SELECT coalesce(sum({SIZE}), 0) FROM records {within}"))?
        .query_row((topic, part, from, to), |row| row.get(0))?;
    transaction
        .prepare_cached(&format!("DELETE FROM records {within}"))?
        .execute((topic, part, from, to))?;
    transaction
        .prepare_cached(
            "UPDATE partitions SET bytes = max(0, bytes - ?3) WHERE topic_id = ?1 AND part = ?2",
        )?
        .execute((topic, part, bytes))?;
    Ok(())
}
