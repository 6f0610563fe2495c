//! Rows of the engine's tables, column by column.
//!
//! Responsible for: many rows as arrays, so that one statement stores all of them. A key that
//! comes twice keeps its later row, as if the rows had been stored one after the other.
//! Not responsible for: sending them (`apply`).

use std::borrow::Cow;
use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::model::{ManifestKey, MemberId};
use crate::state::postgres::nul;
use crate::state::{CompletionRow, ManifestRow, MemberRow, StateError, stored};

/// Parameters of a statement.
pub(super) type Parameters<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Meets an error if a manifest belongs to another shard: what is sent with it must not be
/// committed.
pub(super) const STORE_MANIFESTS: &str = "WITH stored AS (INSERT INTO tidemill_manifest \
     (pipeline, shard, manifest, kind, phase, revision, announced, facts, first_at, last_at, \
     completed_at, duplicates, conflicts, late, note, extra) \
     SELECT CAST($1 AS text), CAST($2 AS integer), m.manifest, m.kind, m.phase, m.revision, \
     m.announced, CAST(m.facts AS jsonb), m.first_at, m.last_at, m.completed_at, m.duplicates, \
     m.conflicts, m.late, m.note, CAST(m.extra AS json) \
     FROM unnest(CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), \
     CAST($6 AS bigint[]), CAST($7 AS boolean[]), CAST($8 AS text[]), CAST($9 AS bigint[]), \
     CAST($10 AS bigint[]), CAST($11 AS bigint[]), CAST($12 AS bigint[]), \
     CAST($13 AS bigint[]), CAST($14 AS bigint[]), CAST($15 AS text[]), CAST($16 AS text[])) \
     AS m (manifest, kind, phase, revision, announced, facts, first_at, last_at, completed_at, \
     duplicates, conflicts, late, note, extra) \
     ON CONFLICT (pipeline, manifest) DO UPDATE SET kind = excluded.kind, \
     phase = excluded.phase, revision = excluded.revision, announced = excluded.announced, \
     facts = excluded.facts, first_at = excluded.first_at, last_at = excluded.last_at, \
     completed_at = excluded.completed_at, duplicates = excluded.duplicates, \
     conflicts = excluded.conflicts, late = excluded.late, note = excluded.note, \
     extra = excluded.extra WHERE tidemill_manifest.shard = excluded.shard RETURNING 1) \
     SELECT 1 / CAST(count(*) = cardinality(CAST($3 AS text[])) AS integer) FROM stored";

pub(super) const STORE_MEMBERS: &str = "INSERT INTO tidemill_member \
     (pipeline, manifest, member, expected, state, digest, facts, settled_at) \
     SELECT CAST($1 AS text), m.manifest, m.member, m.expected, m.state, m.digest, \
     CAST(m.facts AS jsonb), m.settled_at \
     FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS boolean[]), \
     CAST($5 AS text[]), CAST($6 AS bytea[]), CAST($7 AS text[]), CAST($8 AS bigint[])) \
     AS m (manifest, member, expected, state, digest, facts, settled_at) \
     ON CONFLICT (pipeline, manifest, member) DO UPDATE SET expected = excluded.expected, \
     state = excluded.state, digest = excluded.digest, facts = excluded.facts, \
     settled_at = excluded.settled_at";

/// Ids are given in the order of the rows.
pub(super) const ADD_DELIVERIES: &str = "INSERT INTO tidemill_outbox \
     (pipeline, manifest, revision, action, part, idempotency_key, target, created_at) \
     SELECT CAST($1 AS text), o.manifest, o.revision, o.action, o.part, o.idempotency_key, \
     CAST(o.target AS json), o.created_at \
     FROM unnest(CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[]), \
     CAST($5 AS bigint[]), CAST($6 AS uuid[]), CAST($7 AS text[]), CAST($8 AS bigint[])) \
     WITH ORDINALITY AS o (manifest, revision, action, part, idempotency_key, target, created_at, \
     place) ORDER BY o.place \
     ON CONFLICT (pipeline, manifest, action, revision, part) DO NOTHING";

/// Rows of manifests.
#[derive(Default)]
pub(super) struct Manifests<'a> {
    manifest: Vec<&'a str>,
    kind: Vec<&'a str>,
    phase: Vec<&'static str>,
    revision: Vec<i64>,
    announced: Vec<bool>,
    facts: Vec<String>,
    first_at: Vec<i64>,
    last_at: Vec<i64>,
    completed_at: Vec<Option<i64>>,
    duplicates: Vec<i64>,
    conflicts: Vec<i64>,
    late: Vec<i64>,
    note: Vec<Option<Cow<'a, str>>>,
    extra: Vec<String>,
}

impl<'a> Manifests<'a> {
    pub(super) fn of(rows: impl Iterator<Item = &'a ManifestRow>) -> Result<Self, StateError> {
        let mut columns = Self::default();
        for row in last_of_each(rows, |row| &row.manifest) {
            columns.push(row)?;
        }
        Ok(columns)
    }

    fn push(&mut self, row: &'a ManifestRow) -> Result<(), StateError> {
        let facts = stored::json_text("facts of a manifest", &row.facts)?;
        self.facts.push(nul::without_escaped(&facts).into_owned());
        self.extra.push(stored::json_text("state of a manifest", &row.extra)?);
        self.manifest.push(row.manifest.as_str());
        self.kind.push(row.kind.as_str());
        self.phase.push(row.phase.as_str());
        self.revision.push(i64::from(row.revision));
        self.announced.push(row.announced);
        self.first_at.push(row.first_at);
        self.last_at.push(row.last_at);
        self.completed_at.push(row.completed_at);
        self.duplicates.push(stored::count(row.duplicates));
        self.conflicts.push(stored::count(row.conflicts));
        self.late.push(stored::count(row.late));
        self.note.push(row.note.as_deref().map(nul::without));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.manifest.is_empty()
    }

    /// Their keys.
    pub(super) fn keys(&self) -> &[&'a str] {
        &self.manifest
    }

    pub(super) fn parameters<'b>(
        &'b self,
        pipeline: &'b (dyn ToSql + Sync),
        shard: &'b i32,
    ) -> Parameters<'b> {
        vec![
            pipeline,
            shard,
            &self.manifest,
            &self.kind,
            &self.phase,
            &self.revision,
            &self.announced,
            &self.facts,
            &self.first_at,
            &self.last_at,
            &self.completed_at,
            &self.duplicates,
            &self.conflicts,
            &self.late,
            &self.note,
            &self.extra,
        ]
    }
}

/// Rows of members.
#[derive(Default)]
pub(super) struct Members<'a> {
    manifest: Vec<&'a str>,
    member: Vec<&'a str>,
    expected: Vec<bool>,
    state: Vec<&'static str>,
    digest: Vec<Option<&'a [u8]>>,
    facts: Vec<String>,
    settled_at: Vec<Option<i64>>,
}

impl<'a> Members<'a> {
    pub(super) fn of(rows: &'a [(ManifestKey, MemberRow)]) -> Result<Self, StateError> {
        let mut columns = Self::default();
        let key = |row: &'a (ManifestKey, MemberRow)| -> (&'a ManifestKey, &'a MemberId) {
            (&row.0, &row.1.member)
        };
        for (manifest, row) in last_of_each(rows.iter(), key) {
            let facts = stored::json_text("facts of a member", &row.facts)?;
            columns.facts.push(nul::without_escaped(&facts).into_owned());
            columns.manifest.push(manifest.as_str());
            columns.member.push(row.member.as_str());
            columns.expected.push(row.expected);
            columns.state.push(row.state.as_str());
            columns.digest.push(row.digest.as_ref().map(|digest| digest.as_bytes().as_slice()));
            columns.settled_at.push(row.settled_at);
        }
        Ok(columns)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.member.is_empty()
    }

    pub(super) fn parameters<'b>(&'b self, pipeline: &'b (dyn ToSql + Sync)) -> Parameters<'b> {
        vec![
            pipeline,
            &self.manifest,
            &self.member,
            &self.expected,
            &self.state,
            &self.digest,
            &self.facts,
            &self.settled_at,
        ]
    }
}

/// Rows of the outbox.
#[derive(Default)]
pub(super) struct Deliveries<'a> {
    manifest: Vec<&'a str>,
    revision: Vec<i64>,
    action: Vec<&'a str>,
    part: Vec<i64>,
    idempotency_key: Vec<Uuid>,
    target: Vec<String>,
    created_at: Vec<Option<i64>>,
}

impl<'a> Deliveries<'a> {
    pub(super) fn of(
        completions: impl Iterator<Item = &'a CompletionRow>,
    ) -> Result<Self, StateError> {
        let mut columns = Self::default();
        let rows = completions.flat_map(|completion| {
            let completed_at = completion.manifest.completed_at;
            completion.outbox.iter().map(move |row| (row, completed_at))
        });
        for (row, completed_at) in rows {
            columns.created_at.push(completed_at);
            columns.target.push(stored::json_text("the target of a delivery", &row.target)?);
            columns.manifest.push(row.manifest.as_str());
            columns.revision.push(i64::from(row.revision));
            columns.action.push(&row.action);
            columns.part.push(i64::from(row.part));
            columns.idempotency_key.push(row.idempotency_key);
        }
        Ok(columns)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.manifest.is_empty()
    }

    pub(super) fn parameters<'b>(&'b self, pipeline: &'b (dyn ToSql + Sync)) -> Parameters<'b> {
        vec![
            pipeline,
            &self.manifest,
            &self.revision,
            &self.action,
            &self.part,
            &self.idempotency_key,
            &self.target,
            &self.created_at,
        ]
    }
}

/// The rows in order, without those whose key comes again.
fn last_of_each<'a, T, K: std::hash::Hash + Eq>(
    rows: impl Iterator<Item = &'a T>,
    key: impl Fn(&'a T) -> K,
) -> Vec<&'a T> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut kept: Vec<&'a T> = Vec::new();
    for row in rows {
        let place = *places.entry(key(row)).or_insert(kept.len());
        if place == kept.len() {
            kept.push(row);
        } else {
            kept[place] = row;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::last_of_each;

    #[test]
    fn a_later_row_takes_the_place_of_an_earlier_one() {
        let rows = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)];
        let kept = last_of_each(rows.iter(), |row| row.0);
        assert_eq!(kept, [&("a", 3), &("b", 5), &("c", 4)]);
    }
}
