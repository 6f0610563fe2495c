//! Retired objects: those that a completion or another attempt has made obsolete.
//!
//! Responsible for: which objects are retired and when their deletion is due. Once retired they
//! stay so: being named again only makes them due again.
//! Not responsible for: deleting them (`completion::retirer`), or the time, which is an argument.
//!
//! `not_before` is 0 until an object is claimed, and again once it is named. So a deletion that
//! was under way when its object was written again does not count as the last one.

use std::borrow::Cow;

use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use crate::model::{ManifestKey, PipelineName};
use crate::state::postgres::columns::Parameters;
use crate::state::postgres::nul;
use crate::state::postgres::pool::Pool;
use crate::state::{RetiredDue, StateError};

/// When it was is for people only, so the database's own clock will do. Rows are locked in the
/// order of their urls: shards that retire the same objects must not wait for each other.
pub(super) const RETIRE: &str = "INSERT INTO tidemill_retired \
     (pipeline, url, manifest, retired_at) SELECT CAST($1 AS text), o.url, o.manifest, \
     CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) \
     FROM unnest(CAST($2 AS text[]), CAST($3 AS text[])) AS o (url, manifest) ORDER BY o.url \
     ON CONFLICT (pipeline, url) DO NOTHING";

pub(super) const NAMED: &str = "UPDATE tidemill_retired SET deleted_at = NULL, not_before = 0 \
     WHERE pipeline = $1 AND url = ANY($2)";

const CLAIM: &str = "WITH due AS MATERIALIZED (SELECT url FROM tidemill_retired \
     WHERE pipeline = $1 AND not_before <= $2 AND (deleted_at IS NULL OR deleted_at < $4) \
     ORDER BY deleted_at NULLS FIRST LIMIT $5 FOR UPDATE SKIP LOCKED) \
     UPDATE tidemill_retired AS taken SET not_before = greatest(CAST($3 AS bigint), 1) FROM due \
     WHERE taken.pipeline = $1 AND taken.url = due.url RETURNING taken.url";

const DELETED: &str = "UPDATE tidemill_retired SET deleted_at = $3 \
     WHERE pipeline = $1 AND url = ANY($2) AND not_before > 0";

/// Objects to be retired, column by column.
#[derive(Default)]
pub(super) struct Objects<'a> {
    url: Vec<Cow<'a, str>>,
    manifest: Vec<&'a str>,
}

impl<'a> Objects<'a> {
    pub(super) fn of(objects: &'a [(ManifestKey, String)]) -> Self {
        let mut columns = Self::default();
        for (manifest, url) in objects {
            columns.url.push(nul::without(url));
            columns.manifest.push(manifest.as_str());
        }
        columns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.url.is_empty()
    }

    pub(super) fn parameters<'b>(&'b self, pipeline: &'b (dyn ToSql + Sync)) -> Parameters<'b> {
        vec![pipeline, &self.url, &self.manifest]
    }
}

/// Pipeline and manifest, behind the parameters of the query itself.
pub(super) const ADDED_BY_RETIRING: usize = 2;

/// Retires what a query of a topology names in its first column, which sees what statements before
/// it have changed; the query has `count` parameters of its own.
pub(super) fn retiring(query: &str, count: usize) -> String {
    let (pipeline, manifest) = (count + 1, count + 2);
    format!(
        "INSERT INTO tidemill_retired (pipeline, url, manifest, retired_at) \
         SELECT CAST(${pipeline} AS text), CAST(o.url AS text), CAST(${manifest} AS text), \
         CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) \
         FROM ({query}) AS o (url) ORDER BY 2 ON CONFLICT (pipeline, url) DO NOTHING"
    )
}

/// Takes objects whose deletion is due.
pub(super) async fn claim(
    pool: &Pool,
    pipeline: &PipelineName,
    due: RetiredDue,
    limit: u32,
) -> Result<Vec<String>, StateError> {
    let RetiredDue { now, until, swept_before } = due;
    let (pipeline, limit) = (pipeline.as_str(), i64::from(limit));
    let client = pool.get().await?;
    let claim = async {
        let statement = client.prepare_cached(CLAIM).await?;
        let rows =
            client.query(&statement, &[&pipeline, &now, &until, &swept_before, &limit]).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, Error>>()
    };
    claim.await.map_err(|error| pool.failed("claim retired objects", &error))
}

/// The objects are gone, except those that were named since they were claimed.
pub(super) async fn deleted(
    pool: &Pool,
    pipeline: &PipelineName,
    urls: &[String],
    now: i64,
) -> Result<(), StateError> {
    let client = pool.get().await?;
    let mark = async {
        let statement = client.prepare_cached(DELETED).await?;
        client.execute(&statement, &[&pipeline.as_str(), &urls, &now]).await
    };
    let marked = mark.await.map_err(|error| pool.failed("mark objects as deleted", &error));
    marked.map(|_| ())
}
