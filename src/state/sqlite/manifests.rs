//! Manifests and their members, row by row.
//!
//! Responsible for: writing the rows that changed, reading manifests back for their owner and for
//! listings.
//! Not responsible for: when they are written (`apply`).

use rusqlite::{Connection, OptionalExtension, Row};

use crate::model::{ManifestKey, MemberId, NodeName, PipelineName};
use crate::state::sqlite::database::failed;
use crate::state::sqlite::{outbox, values};
use crate::state::{
    ManifestFilter, ManifestRow, ManifestSummary, MemberRow, OutboxStatus, ShardKey, StateError,
    StoredManifest, refusals, stored,
};

/// The columns that [`manifest_row`] reads.
macro_rules! manifest_columns {
    () => {
        "manifest, kind, shard, phase, revision, announced, facts, first_at, last_at, \
         completed_at, duplicates, conflicts, late, note, extra"
    };
}

const UPSERT: &str = concat!(
    "INSERT INTO tidemill_manifest (pipeline, ",
    manifest_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
     ON CONFLICT (pipeline, manifest) DO UPDATE SET kind = excluded.kind, \
     phase = excluded.phase, revision = excluded.revision, announced = excluded.announced, \
     facts = excluded.facts, first_at = excluded.first_at, last_at = excluded.last_at, \
     completed_at = excluded.completed_at, duplicates = excluded.duplicates, \
     conflicts = excluded.conflicts, late = excluded.late, note = excluded.note, \
     extra = excluded.extra \
     WHERE tidemill_manifest.shard = excluded.shard"
);

const UPSERT_MEMBER: &str = "INSERT INTO tidemill_member \
     (pipeline, manifest, member, expected, state, digest, facts, settled_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
     ON CONFLICT (pipeline, manifest, member) DO UPDATE SET expected = excluded.expected, \
     state = excluded.state, digest = excluded.digest, facts = excluded.facts, \
     settled_at = excluded.settled_at";

const SELECT: &str = concat!(
    "SELECT ",
    manifest_columns!(),
    " FROM tidemill_manifest WHERE pipeline = ?1 AND manifest = ?2"
);

const SELECT_MEMBERS: &str = "SELECT member, expected, state, digest, facts, settled_at \
     FROM tidemill_member WHERE pipeline = ?1 AND manifest = ?2 ORDER BY member";

/// Counts only the members of the manifests that are listed.
const LIST: &str = concat!(
    "WITH listed AS (SELECT * FROM tidemill_manifest WHERE pipeline = ?1 \
     AND (?2 IS NULL OR phase = ?2) AND (?3 IS NULL OR substr(manifest, 1, length(?3)) = ?3) \
     ORDER BY last_at DESC, manifest LIMIT ?4) SELECT ",
    manifest_columns!(),
    ", (SELECT count(*) FROM tidemill_member AS m WHERE m.pipeline = listed.pipeline \
     AND m.manifest = listed.manifest AND m.expected = 1), \
     (SELECT count(*) FROM tidemill_member AS m WHERE m.pipeline = listed.pipeline \
     AND m.manifest = listed.manifest AND m.expected = 1 AND m.state IN ('done', 'empty')), \
     (SELECT count(*) FROM tidemill_member AS m WHERE m.pipeline = listed.pipeline \
     AND m.manifest = listed.manifest AND m.expected = 1 AND m.state = 'dead_lettered'), \
     (SELECT coalesce(sum(m.facts ->> 'rows'), 0) FROM tidemill_member AS m \
     WHERE m.pipeline = listed.pipeline AND m.manifest = listed.manifest \
     AND m.state <> 'pending') FROM listed ORDER BY last_at DESC, manifest"
);

/// Stores a manifest of `owner`; one that belongs to another shard is an error.
pub(super) fn store(
    connection: &Connection,
    owner: &ShardKey,
    row: &ManifestRow,
) -> Result<(), StateError> {
    if row.shard != owner.shard {
        return Err(refusals::foreign(&row.manifest, row.shard, owner));
    }
    let facts = stored::json_text("facts of a manifest", &row.facts)?;
    let extra = stored::json_text("state of a manifest", &row.extra)?;
    let write = || {
        connection.prepare_cached(UPSERT)?.execute((
            owner.pipeline.as_str(),
            row.manifest.as_str(),
            row.kind.as_str(),
            row.shard,
            row.phase.as_str(),
            row.revision,
            row.announced,
            facts,
            row.first_at,
            row.last_at,
            row.completed_at,
            stored::count(row.duplicates),
            stored::count(row.conflicts),
            stored::count(row.late),
            row.note.as_deref(),
            extra,
        ))
    };
    let changed = write().map_err(|error| failed("store a manifest", &error))?;
    if changed == 1 {
        return Ok(());
    }
    let found = read(connection, &owner.pipeline, &row.manifest)?;
    let shard = found.map_or(row.shard, |found| found.shard);
    Err(refusals::foreign(&row.manifest, shard, owner))
}

/// Stores a member.
pub(super) fn store_member(
    connection: &Connection,
    pipeline: &PipelineName,
    manifest: &ManifestKey,
    row: &MemberRow,
) -> Result<(), StateError> {
    let facts = stored::json_text("facts of a member", &row.facts)?;
    let write = || {
        connection.prepare_cached(UPSERT_MEMBER)?.execute((
            pipeline.as_str(),
            manifest.as_str(),
            row.member.as_str(),
            row.expected,
            row.state.as_str(),
            row.digest.as_ref().map(|digest| digest.as_bytes().as_slice()),
            facts,
            row.settled_at,
        ))
    };
    write().map(|_| ()).map_err(|error| failed("store a member", &error))
}

/// The stored state of the manifests that are known and belong to `owner`.
pub(super) fn load(
    connection: &Connection,
    owner: &ShardKey,
    manifests: &[ManifestKey],
) -> Result<Vec<StoredManifest>, StateError> {
    let mut found = Vec::new();
    for manifest in manifests {
        let Some(row) = read(connection, &owner.pipeline, manifest)? else { continue };
        if row.shard != owner.shard {
            return Err(refusals::foreign(manifest, row.shard, owner));
        }
        let members = members(connection, &owner.pipeline, manifest)?;
        found.push(StoredManifest { row, members });
    }
    Ok(found)
}

/// One manifest with all that hangs on it.
pub(super) fn explain(
    connection: &Connection,
    pipeline: &PipelineName,
    manifest: &ManifestKey,
) -> Result<Option<(StoredManifest, Vec<OutboxStatus>)>, StateError> {
    let Some(row) = read(connection, pipeline, manifest)? else { return Ok(None) };
    let members = members(connection, pipeline, manifest)?;
    let deliveries = outbox::of_manifest(connection, pipeline, manifest)?;
    Ok(Some((StoredManifest { row, members }, deliveries)))
}

/// Manifests with the counts of their members, newest event first.
pub(super) fn list(
    connection: &Connection,
    pipeline: &PipelineName,
    filter: &ManifestFilter,
) -> Result<Vec<ManifestSummary>, StateError> {
    let phase = filter.phase.map(|phase| phase.as_str());
    let limit = if filter.limit == 0 { -1 } else { i64::from(filter.limit) };
    let prefix = filter.prefix.as_deref();
    let select = || -> rusqlite::Result<Vec<ManifestSummary>> {
        let mut statement = connection.prepare_cached(LIST)?;
        let rows = statement.query_map((pipeline.as_str(), phase, prefix, limit), |row| {
            Ok(ManifestSummary {
                row: manifest_row(row)?,
                expected: values::count(row, 15)?,
                done: values::count(row, 16)?,
                dead_lettered: values::count(row, 17)?,
                rows: values::count(row, 18)?,
            })
        })?;
        rows.collect()
    };
    select().map_err(|error| failed("list manifests", &error))
}

fn read(
    connection: &Connection,
    pipeline: &PipelineName,
    manifest: &ManifestKey,
) -> Result<Option<ManifestRow>, StateError> {
    let select = || {
        connection
            .prepare_cached(SELECT)?
            .query_row((pipeline.as_str(), manifest.as_str()), manifest_row)
            .optional()
    };
    select().map_err(|error| failed("read a manifest", &error))
}

fn members(
    connection: &Connection,
    pipeline: &PipelineName,
    manifest: &ManifestKey,
) -> Result<Vec<MemberRow>, StateError> {
    let select = || -> rusqlite::Result<Vec<MemberRow>> {
        let mut statement = connection.prepare_cached(SELECT_MEMBERS)?;
        let rows = statement.query_map((pipeline.as_str(), manifest.as_str()), member_row)?;
        rows.collect()
    };
    select().map_err(|error| failed("read the members of a manifest", &error))
}

fn manifest_row(row: &Row<'_>) -> rusqlite::Result<ManifestRow> {
    Ok(ManifestRow {
        manifest: ManifestKey::from(row.get::<_, String>(0)?),
        kind: NodeName::from(row.get::<_, String>(1)?),
        shard: row.get(2)?,
        phase: values::phase(row, 3)?,
        revision: row.get(4)?,
        announced: row.get(5)?,
        facts: values::parsed_json(row, 6)?,
        first_at: row.get(7)?,
        last_at: row.get(8)?,
        completed_at: row.get(9)?,
        duplicates: values::count(row, 10)?,
        conflicts: values::count(row, 11)?,
        late: values::count(row, 12)?,
        note: row.get(13)?,
        extra: values::parsed_json(row, 14)?,
    })
}

fn member_row(row: &Row<'_>) -> rusqlite::Result<MemberRow> {
    Ok(MemberRow {
        member: MemberId::from(row.get::<_, String>(0)?),
        expected: row.get(1)?,
        state: values::member_state(row, 2)?,
        digest: values::digest(row, 3)?,
        facts: values::parsed_json(row, 4)?,
        settled_at: row.get(5)?,
    })
}
