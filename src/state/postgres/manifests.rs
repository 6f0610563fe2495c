//! Manifests and their members, read back.
//!
//! Responsible for: manifests for their owner and for listings.
//! Not responsible for: storing them (`columns`, `apply`).

use std::collections::HashMap;

use tokio_postgres::{Error, IsolationLevel, Row};

use crate::model::{ManifestKey, MemberId, NodeName, PipelineName};
use crate::state::postgres::outbox;
use crate::state::postgres::pool::Pool;
use crate::state::postgres::values::{Fault, digest, field, number, parsed_json};
use crate::state::{
    ManifestDetail, ManifestFilter, ManifestRow, ManifestSummary, MemberRow, ShardKey, StateError,
    StoredManifest, refusals, stored,
};

/// The columns that [`manifest_row`] reads.
macro_rules! manifest_columns {
    () => {
        "manifest, kind, shard, phase, revision, announced, CAST(facts AS text), first_at, \
         last_at, completed_at, duplicates, conflicts, late, note, CAST(extra AS text)"
    };
}

const SELECT: &str = concat!(
    "SELECT ",
    manifest_columns!(),
    " FROM tidemill_manifest WHERE pipeline = $1 AND manifest = ANY($2)"
);

const SELECT_MEMBERS: &str = "SELECT member, expected, state, digest, CAST(facts AS text), \
     settled_at, manifest FROM tidemill_member WHERE pipeline = $1 AND manifest = ANY($2) \
     ORDER BY member COLLATE \"C\"";

/// Counts only the members of the manifests that are listed.
const LIST: &str = concat!(
    "WITH listed AS (SELECT * FROM tidemill_manifest WHERE pipeline = $1 \
     AND ($2::text IS NULL OR phase = $2) AND ($3::text IS NULL OR starts_with(manifest, $3)) \
     ORDER BY last_at DESC, manifest COLLATE \"C\" LIMIT $4) SELECT ",
    manifest_columns!(),
    ", c.expected, c.done, c.dead_lettered, c.rows FROM listed AS l CROSS JOIN LATERAL \
     (SELECT count(*) FILTER (WHERE m.expected) AS expected, \
     count(*) FILTER (WHERE m.expected AND m.state IN ('done', 'empty')) AS done, \
     count(*) FILTER (WHERE m.expected AND m.state = 'dead_lettered') AS dead_lettered, \
     CAST(coalesce(sum(CAST(m.facts ->> 'rows' AS bigint)) FILTER (WHERE m.state <> 'pending'), 0) \
     AS bigint) AS rows FROM tidemill_member AS m \
     WHERE m.pipeline = l.pipeline AND m.manifest = l.manifest) AS c \
     ORDER BY last_at DESC, manifest COLLATE \"C\""
);

/// The stored state of the manifests that are known and belong to `owner`.
pub(super) async fn load(
    pool: &Pool,
    owner: &ShardKey,
    wanted: &[ManifestKey],
) -> Result<Vec<StoredManifest>, StateError> {
    let client = pool.get().await?;
    let keys: Vec<&str> = wanted.iter().map(ManifestKey::as_str).collect();
    let read = async {
        let select = client.prepare_cached(SELECT).await?;
        let select_members = client.prepare_cached(SELECT_MEMBERS).await?;
        let pipeline = owner.pipeline.as_str();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&pipeline, &keys];
        // The owner is the only one who changes them, so both see the same.
        futures_util::future::try_join(
            client.query(&select, &parameters),
            client.query(&select_members, &parameters),
        )
        .await
    };
    let (rows, members) = read.await.map_err(|error| pool.failed("read manifests", &error))?;
    let found = together(&rows, &members);
    let mut found = found.map_err(|fault| pool.corrupt("read manifests", fault.as_ref()))?;
    let known = wanted.iter().filter_map(|manifest| found.remove(manifest.as_str()));
    known
        .map(|stored| match stored.row.shard {
            shard if shard == owner.shard => Ok(stored),
            shard => Err(refusals::foreign(&stored.row.manifest, shard, owner)),
        })
        .collect()
}

/// Manifests with their members, by key.
fn together(rows: &[Row], members: &[Row]) -> Result<HashMap<String, StoredManifest>, Fault> {
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let row = manifest_row(row)?;
        let key = row.manifest.as_str().to_owned();
        found.insert(key, StoredManifest { row, members: Vec::new() });
    }
    for row in members {
        if let Some(manifest) = found.get_mut(field::<&str>(row, 6)?) {
            manifest.members.push(member_row(row)?);
        }
    }
    Ok(found)
}

/// One manifest with all that hangs on it.
pub(super) async fn explain(
    pool: &Pool,
    pipeline: &PipelineName,
    manifest: &ManifestKey,
) -> Result<Option<ManifestDetail>, StateError> {
    let mut client = pool.get().await?;
    let (name, keys) = (pipeline.as_str(), vec![manifest.as_str()]);
    let read = async {
        // All of it as of one moment.
        let snapshot = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let rows = snapshot.query(SELECT, &[&name, &keys]).await?;
        let members = snapshot.query(SELECT_MEMBERS, &[&name, &keys]).await?;
        let deliveries = snapshot.query(outbox::OF_MANIFEST, &[&name, &manifest.as_str()]).await?;
        snapshot.commit().await?;
        Ok::<_, Error>((rows, members, deliveries))
    };
    let (rows, members, deliveries) =
        read.await.map_err(|error| pool.failed("read a manifest", &error))?;
    let detail = || -> Result<Option<ManifestDetail>, Fault> {
        let mut found = together(&rows, &members)?;
        let Some(stored) = found.remove(manifest.as_str()) else { return Ok(None) };
        let deliveries = deliveries.iter().map(outbox::status).collect::<Result<_, Fault>>()?;
        Ok(Some((stored, deliveries)))
    };
    detail().map_err(|fault| pool.corrupt("read a manifest", fault.as_ref()))
}

/// Manifests with the counts of their members, newest event first.
pub(super) async fn list(
    pool: &Pool,
    pipeline: &PipelineName,
    filter: &ManifestFilter,
) -> Result<Vec<ManifestSummary>, StateError> {
    let client = pool.get().await?;
    let phase = filter.phase.map(|phase| phase.as_str());
    let limit = (filter.limit > 0).then_some(i64::from(filter.limit));
    let read = async {
        let statement = client.prepare_cached(LIST).await?;
        client.query(&statement, &[&pipeline.as_str(), &phase, &filter.prefix, &limit]).await
    };
    let rows = read.await.map_err(|error| pool.failed("list manifests", &error))?;
    let summaries = rows.iter().map(summary).collect::<Result<_, Fault>>();
    summaries.map_err(|fault| pool.corrupt("list manifests", fault.as_ref()))
}

fn summary(row: &Row) -> Result<ManifestSummary, Fault> {
    Ok(ManifestSummary {
        row: manifest_row(row)?,
        expected: number(row, 15)?,
        done: number(row, 16)?,
        dead_lettered: number(row, 17)?,
        rows: number(row, 18)?,
    })
}

fn manifest_row(row: &Row) -> Result<ManifestRow, Fault> {
    Ok(ManifestRow {
        manifest: ManifestKey::from(field::<&str>(row, 0)?),
        kind: NodeName::from(field::<&str>(row, 1)?),
        shard: field(row, 2)?,
        phase: stored::phase(field(row, 3)?)?,
        revision: number(row, 4)?,
        announced: field(row, 5)?,
        facts: parsed_json(row, 6)?,
        first_at: field(row, 7)?,
        last_at: field(row, 8)?,
        completed_at: field(row, 9)?,
        duplicates: number(row, 10)?,
        conflicts: number(row, 11)?,
        late: number(row, 12)?,
        note: field(row, 13)?,
        extra: parsed_json(row, 14)?,
    })
}

fn member_row(row: &Row) -> Result<MemberRow, Fault> {
    Ok(MemberRow {
        member: MemberId::from(field::<&str>(row, 0)?),
        expected: field(row, 1)?,
        state: stored::member_state(field(row, 2)?)?,
        digest: digest(row, 3)?,
        facts: parsed_json(row, 4)?,
        settled_at: field(row, 5)?,
    })
}
