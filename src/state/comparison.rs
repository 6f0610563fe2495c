//! What a store holds, beside what is wanted of it.
//!
//! Responsible for: telling a pipeline, a declared table or a view that is there from the one that
//! is wanted, and saying what differs. Tables are never altered, so a difference is refused.
//! Not responsible for: finding out what is there; each store does that.

use crate::model::PipelineName;
use crate::sql::{Dialect, SqlType, TableDefinition};
use crate::state::layout::Owner;
use crate::state::{PipelineIdentity, StateError};

/// Compares the identity that a pipeline had at its first start.
pub(super) fn identity(
    wanted: &PipelineIdentity,
    (group, shards): (&str, i32),
) -> Result<(), StateError> {
    let pipeline = &wanted.pipeline;
    if group != wanted.group {
        return Err(StateError::Mismatch(format!(
            "pipeline {pipeline} has state of consumer group {group}, and now has group {}: its \
             offsets are those of {group}; set the group back, or give the pipeline another name",
            wanted.group
        )));
    }
    if shards != wanted.shards {
        return Err(StateError::Mismatch(format!(
            "pipeline {pipeline} has state of {shards} shards, and its progress topic now has {} \
             partitions: manifests would change their shard; set the count back, or give the \
             pipeline another name",
            wanted.shards
        )));
    }
    Ok(())
}

/// A declared table that is known to a store.
pub(super) struct Registered {
    pub(super) pipeline: String,
    /// One of the words of [`Owner::as_str`].
    pub(super) owner: String,
}

/// Compares whose table it is.
pub(super) fn registered(
    name: &str,
    known: &Registered,
    (owner, pipeline): (Owner, &PipelineName),
) -> Result<(), StateError> {
    if known.owner != owner.as_str() {
        return Err(differs(name, "owner", &known.owner, owner.as_str()));
    }
    if owner != Owner::Key && known.pipeline != pipeline.as_str() {
        return Err(differs(name, "pipeline", &known.pipeline, pipeline.as_str()));
    }
    Ok(())
}

/// A column that was found in the database.
pub(super) struct Column {
    pub(super) name: String,
    /// Its type, as the database calls it.
    pub(super) type_name: String,
    /// Place in the primary key, from 1; 0 outside of it.
    pub(super) key: u32,
}

impl Column {
    /// Its type, if it is one of ours.
    pub(super) fn kind(&self, dialect: Dialect) -> Option<SqlType> {
        dialect.type_of(&self.type_name)
    }

    fn described(&self, dialect: Dialect) -> &str {
        self.kind(dialect).map_or(self.type_name.as_str(), |kind| kind.as_str())
    }
}

/// Compares the columns and the key of a table.
pub(super) fn columns(
    dialect: Dialect,
    name: &str,
    wanted: &TableDefinition,
    found: &[Column],
) -> Result<(), StateError> {
    let column_differs = |column: &str, found: &str, wanted: &str| {
        Err(differs(name, &format!("column {column}"), found, wanted))
    };
    for column in &wanted.columns {
        let there = found.iter().find(|other| other.name == column.name);
        let there = there.map_or("nothing", |column| column.described(dialect));
        if there != column.kind.as_str() {
            return column_differs(&column.name, there, column.kind.as_str());
        }
    }
    for column in found {
        if !wanted.columns.iter().any(|other| other.name == column.name) {
            return column_differs(&column.name, column.described(dialect), "nothing");
        }
    }
    let mut key: Vec<&Column> = found.iter().filter(|column| column.key > 0).collect();
    key.sort_by_key(|column| column.key);
    let key: Vec<&str> = key.into_iter().map(|column| column.name.as_str()).collect();
    if key != wanted.key {
        return Err(differs(name, "key", &key.join(", "), &wanted.key.join(", ")));
    }
    Ok(())
}

fn differs(table: &str, what: &str, found: &str, wanted: &str) -> StateError {
    StateError::Mismatch(format!(
        "table {table}, {what}: found {found}, wanted {wanted}; tables are never altered: declare \
         it as it is, choose another name, or migrate it by hand"
    ))
}

/// What to do about a view of which a store knows, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewFate {
    /// Make it, if nothing else has its name.
    New,
    /// It is as wanted.
    Same,
    /// Make it again.
    Changed,
}

/// Compares a view with the pipeline and the query it was made for.
pub(super) fn view(
    name: &str,
    known: Option<&(String, String)>,
    (pipeline, query): (&PipelineName, &str),
) -> Result<ViewFate, StateError> {
    match known {
        None => Ok(ViewFate::New),
        Some((_, same)) if same == query => Ok(ViewFate::Same),
        Some((other, _)) if other != pipeline.as_str() => Err(StateError::Mismatch(format!(
            "view {name} is declared by pipeline {other} with another query: choose another name"
        ))),
        Some(_) => Ok(ViewFate::Changed),
    }
}

/// Whatever has a name already was not made by the engine, or as something else.
pub(super) fn stranger(found: &str, name: &str) -> StateError {
    StateError::Mismatch(format!(
        "the state store has a {found} called {name} that is declared as something else or was \
         made by somebody else: choose another name, or remove it"
    ))
}
