//! What is done once before a pipeline starts.
//!
//! Responsible for: the identity of a pipeline, and trying everything that its topology declares,
//! so that mistakes show before any record does.
//! Not responsible for: tables and views one by one (`declare`).

use rusqlite::{Connection, OptionalExtension};

use crate::model::PipelineName;
use crate::sql::{Statement, StatementKind};
use crate::state::sqlite::database::{failed, may_pass, message};
use crate::state::sqlite::declare;
use crate::state::{Declarations, PipelineIdentity, StateError};

/// Checks and stores the identity, makes or compares tables and views, compiles statements.
pub(super) fn prepare(
    connection: &Connection,
    identity: &PipelineIdentity,
    declared: &Declarations,
) -> Result<(), StateError> {
    check_identity(connection, identity)?;
    for table in &declared.tables {
        declare::table(connection, &identity.pipeline, table)?;
    }
    for view in &declared.views {
        declare::view(connection, &identity.pipeline, view)?;
    }
    for statement in &declared.statements {
        compile(connection, statement)?;
    }
    Ok(())
}

fn check_identity(connection: &Connection, wanted: &PipelineIdentity) -> Result<(), StateError> {
    let select = || -> rusqlite::Result<Option<(String, i32)>> {
        let known = "SELECT consumer_group, shards FROM tidemill_pipeline WHERE pipeline = ?1";
        let mut statement = connection.prepare_cached(known)?;
        let name = wanted.pipeline.as_str();
        statement.query_row((name,), |row| Ok((row.get(0)?, row.get(1)?))).optional()
    };
    let insert = || {
        let new = "INSERT INTO tidemill_pipeline (pipeline, consumer_group, shards) \
                   VALUES (?1, ?2, ?3)";
        connection.execute(new, (wanted.pipeline.as_str(), wanted.group.as_str(), wanted.shards))
    };
    let known = select().map_err(|error| failed("read the identity of a pipeline", &error))?;
    let pipeline = &wanted.pipeline;
    match known {
        None => {
            insert().map(|_| ()).map_err(|error| failed("store the identity of a pipeline", &error))
        }
        Some((group, _)) if group != wanted.group => Err(StateError::Mismatch(format!(
            "pipeline {pipeline} has state of consumer group {group}, and now has group {}: its \
             offsets are those of {group}; set the group back, or give the pipeline another name",
            wanted.group
        ))),
        Some((_, shards)) if shards != wanted.shards => Err(StateError::Mismatch(format!(
            "pipeline {pipeline} has state of {shards} shards, and its progress topic now has {} \
             partitions: manifests would change their shard; set the count back, or give the \
             pipeline another name",
            wanted.shards
        ))),
        Some(_) => Ok(()),
    }
}

/// The pipelines that have been prepared.
pub(super) fn pipelines(connection: &Connection) -> Result<Vec<PipelineName>, StateError> {
    let select = || -> rusqlite::Result<Vec<PipelineName>> {
        let known = "SELECT pipeline FROM tidemill_pipeline ORDER BY pipeline";
        let mut statement = connection.prepare_cached(known)?;
        let names =
            statement.query_map((), |row| row.get::<_, String>(0).map(PipelineName::from))?;
        names.collect()
    };
    select().map_err(|error| failed("list its pipelines", &error))
}

fn compile(connection: &Connection, text: &str) -> Result<(), StateError> {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let wrong = |why: String| {
        StateError::Mismatch(format!("the statement \"{line}\" cannot be used: {why}"))
    };
    let statement = Statement::parse(text).map_err(|error| wrong(error.to_string()))?;
    if statement.kind() == StatementKind::Query {
        return Err(wrong("an action changes rows with INSERT, UPDATE or DELETE".to_owned()));
    }
    connection.prepare(text).map(|_| ()).map_err(|error| {
        if may_pass(&error) {
            failed("prepare a statement", &error)
        } else {
            wrong(message(&error))
        }
    })
}
