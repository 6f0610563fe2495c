//! What every store refuses, in the same words.
//!
//! Responsible for: the texts of refusals that do not depend on a database, and the checks of
//! statements that need none.
//! Not responsible for: errors of a database; each store has its own.

use crate::model::{ManifestKey, Offset};
use crate::sql::{Statement, StatementKind};
use crate::state::{
    Change, DeclaredView, ManifestPhase, ManifestRow, ShardKey, StateError, TableRows,
};

/// Longest text of an error that is kept, in bytes.
const LONGEST_ERROR: usize = 4096;

/// A call that writes came to a store that was opened to be looked at.
pub(super) fn read_only() -> StateError {
    StateError::Fatal("the state store is open to be read only, nothing can be written".to_owned())
}

/// Refuses a change that ends before it begins.
pub(super) fn check_direction(owner: &ShardKey, change: &Change) -> Result<(), StateError> {
    if change.from <= change.to {
        return Ok(());
    }
    Err(StateError::Fatal(format!(
        "a change of shard {} of pipeline {} goes back from offset {} to {}",
        owner.shard, owner.pipeline, change.from, change.to
    )))
}

/// A change of the shard's owner does not begin where the stored state ends.
pub(super) fn broken_chain(owner: &ShardKey, from: Offset, stored: Option<Offset>) -> StateError {
    StateError::Fatal(format!(
        "a change of shard {} of pipeline {} begins at offset {from}, the stored state ends at {}: \
         take the shard over again and go on from there",
        owner.shard,
        owner.pipeline,
        stored.unwrap_or_default()
    ))
}

/// A manifest belongs to another shard than the one that touched it.
pub(super) fn foreign(manifest: &ManifestKey, shard: i32, owner: &ShardKey) -> StateError {
    StateError::Mismatch(format!(
        "manifest {manifest} of pipeline {} belongs to shard {shard}, and shard {} touched it: \
         the key that shard_by gives for it has changed",
        owner.pipeline, owner.shard
    ))
}

/// A manifest whose completion was rolled back: open as before, and it says why.
pub(super) fn blocked_row(completion: &ManifestRow, why: &str) -> ManifestRow {
    ManifestRow {
        phase: ManifestPhase::Open,
        completed_at: None,
        note: Some(format!("blocked: {why}")),
        ..completion.clone()
    }
}

/// The outbox has no such row.
pub(super) fn unknown_delivery(id: i64) -> StateError {
    StateError::Fatal(format!("the outbox has no delivery {id}"))
}

/// As much of an error as is kept.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_ERROR)]
}

/// Nothing of that name can be read.
pub(super) fn undeclared(name: &str) -> StateError {
    StateError::Mismatch(format!(
        "no table or view called {name} is declared; topologies declare them under [tables] and \
         [[views]]"
    ))
}

/// Rows that a table does not take.
pub(super) fn rows(rows: &TableRows, why: &str) -> StateError {
    let TableRows { table, manifest, sink, .. } = rows;
    StateError::Mismatch(format!(
        "sink {sink} cannot write rows of manifest {manifest} to table {table}: {why}"
    ))
}

/// Reads the statement of an action, which changes rows.
pub(super) fn statement(text: &str) -> Result<Statement, StateError> {
    let wrong = |why: String| unusable("statement", text, &why);
    let statement = Statement::parse(text).map_err(|error| wrong(error.to_string()))?;
    if statement.kind() == StatementKind::Query {
        return Err(wrong("an action changes rows with INSERT, UPDATE or DELETE".to_owned()));
    }
    Ok(statement)
}

/// Reads the query of a `retire` action.
pub(super) fn query(text: &str) -> Result<Statement, StateError> {
    Statement::parse_catalogue_query(text)
        .map_err(|error| unusable("query", text, &error.to_string()))
}

/// A statement or query of a topology that cannot work; its first line tells which one.
pub(super) fn unusable(what: &str, text: &str, why: &str) -> StateError {
    let line = text.trim_start().lines().next().unwrap_or_default();
    StateError::Mismatch(format!("the {what} \"{line}\" cannot be used: {why}"))
}

/// Reads the query of a view, whose name no table has.
pub(super) fn view(view: &DeclaredView, is_table: bool) -> Result<Statement, StateError> {
    let wrong =
        |why: String| StateError::Mismatch(format!("view {} cannot be made: {why}", view.name));
    let query = Statement::parse(&view.query).map_err(|error| wrong(error.to_string()))?;
    if query.kind() != StatementKind::Query || !query.parameters().is_empty() {
        return Err(wrong("its query has to be a SELECT without parameters".to_owned()));
    }
    if is_table {
        return Err(wrong("a table has its name".to_owned()));
    }
    Ok(query)
}

/// A view that the database does not take.
pub(super) fn unusable_view(name: &str, why: &str) -> StateError {
    StateError::Mismatch(format!("view {name} cannot be used: {why}"))
}
