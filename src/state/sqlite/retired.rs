//! Retired objects: those that a completion or another attempt has made obsolete.
//!
//! Responsible for: which objects are retired and when their deletion is due. Once retired they
//! stay so: being named again only makes them due again.
//! Not responsible for: deleting them (`completion::retirer`), or the time, which is an argument.
//!
//! `not_before` is 0 until an object is claimed, and again once it is named. So a deletion that
//! was under way when its object was written again does not count as the last one.

use rusqlite::Connection;

use crate::model::{ManifestKey, PipelineName};
use crate::state::sqlite::database::failed;
use crate::state::{RetiredDue, StateError};

/// When it was is for people only, so the database's own clock will do.
const INSERT: &str = "INSERT INTO tidemill_retired (pipeline, url, manifest, retired_at) \
     VALUES (?1, ?2, ?3, CAST(unixepoch('subsec') * 1000 AS INTEGER)) \
     ON CONFLICT (pipeline, url) DO NOTHING";

const NAMED: &str = "UPDATE tidemill_retired SET deleted_at = NULL, not_before = 0 \
     WHERE pipeline = ?1 AND url = ?2";

const DUE: &str = "SELECT url FROM tidemill_retired \
     WHERE pipeline = ?1 AND deleted_at IS NULL AND not_before <= ?2 \
     UNION ALL SELECT url FROM tidemill_retired \
     WHERE pipeline = ?1 AND deleted_at < ?3 AND not_before <= ?2 LIMIT ?4";

const CLAIM: &str = "UPDATE tidemill_retired SET not_before = max(?3, 1) \
     WHERE pipeline = ?1 AND url = ?2";

const DELETED: &str = "UPDATE tidemill_retired SET deleted_at = ?3 \
     WHERE pipeline = ?1 AND url = ?2 AND not_before > 0";

/// Retires objects; those that are retired already stay as they are.
pub(super) fn retire<'a>(
    connection: &Connection,
    pipeline: &PipelineName,
    objects: impl IntoIterator<Item = (&'a ManifestKey, &'a str)>,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(INSERT)?;
    for (manifest, url) in objects {
        insert.execute((pipeline.as_str(), url, manifest.as_str()))?;
    }
    Ok(())
}

/// Makes those of the objects due again that are retired.
pub(super) fn named(
    connection: &Connection,
    pipeline: &PipelineName,
    urls: &[String],
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(NAMED)?;
    for url in urls {
        update.execute((pipeline.as_str(), url.as_str()))?;
    }
    Ok(())
}

/// Takes objects whose deletion is due.
pub(super) fn claim(
    connection: &Connection,
    pipeline: &PipelineName,
    due: RetiredDue,
    limit: u32,
) -> Result<Vec<String>, StateError> {
    let claim = || -> rusqlite::Result<Vec<String>> {
        let RetiredDue { now, until, swept_before } = due;
        let mut select = connection.prepare_cached(DUE)?;
        let parameters = (pipeline.as_str(), now, swept_before, limit);
        let rows = select.query_map(parameters, |row| row.get::<_, String>(0))?;
        let urls: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
        let mut take = connection.prepare_cached(CLAIM)?;
        for url in &urls {
            take.execute((pipeline.as_str(), url.as_str(), until))?;
        }
        Ok(urls)
    };
    claim().map_err(|error| failed("claim retired objects", &error))
}

/// The objects are gone, except those that were named since they were claimed.
pub(super) fn deleted(
    connection: &Connection,
    pipeline: &PipelineName,
    urls: &[String],
    now: i64,
) -> Result<(), StateError> {
    let update = || -> rusqlite::Result<()> {
        let mut mark = connection.prepare_cached(DELETED)?;
        for url in urls {
            mark.execute((pipeline.as_str(), url.as_str(), now))?;
        }
        Ok(())
    };
    update().map_err(|error| failed("mark objects as deleted", &error))
}
