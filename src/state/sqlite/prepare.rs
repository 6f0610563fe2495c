//! What is done once before a pipeline starts.
//!
//! Responsible for: the identity of a pipeline, claims that nobody holds any more, and trying everything that its topology declares,
//! so that mistakes show before any record does.
//! Not responsible for: tables and views one by one (`declare`).

use rusqlite::{Connection, OptionalExtension};

use crate::model::PipelineName;
use crate::state::sqlite::database::{failed, may_pass, message};
use crate::state::sqlite::declare;
use crate::state::{Declarations, PipelineIdentity, StateError, comparison, refusals};

/// Checks and stores the identity, makes or compares tables and views, compiles statements.
pub(super) fn prepare(
    connection: &Connection,
    identity: &PipelineIdentity,
    declared: &Declarations,
) -> Result<(), StateError> {
    check_identity(connection, identity)?;
    release_claims(connection, &identity.pipeline)?;
    for table in &declared.tables {
        declare::table(connection, &identity.pipeline, table)?;
    }
    for view in &declared.views {
        declare::view(connection, &identity.pipeline, view)?;
    }
    for text in &declared.statements {
        refusals::statement(text)?;
        try_out(connection, "statement", text)?;
    }
    for text in &declared.queries {
        refusals::query(text)?;
        try_out(connection, "query", text)?;
    }
    Ok(())
}

/// Makes due what is claimed: whoever claimed it had the file before this process, and is gone.
fn release_claims(connection: &Connection, pipeline: &PipelineName) -> Result<(), StateError> {
    let release = || -> rusqlite::Result<()> {
        for claimed in [
            "UPDATE tidemill_outbox SET not_before = 0 \
             WHERE pipeline = ?1 AND delivered_at IS NULL",
            "UPDATE tidemill_retired SET not_before = 0 \
             WHERE pipeline = ?1 AND deleted_at IS NULL",
        ] {
            connection.execute(claimed, (pipeline.as_str(),))?;
        }
        Ok(())
    };
    release().map_err(|error| failed("release what a former process had claimed", &error))
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
    match select().map_err(|error| failed("read the identity of a pipeline", &error))? {
        None => {
            insert().map(|_| ()).map_err(|error| failed("store the identity of a pipeline", &error))
        }
        Some((group, shards)) => comparison::identity(wanted, (group.as_str(), shards)),
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

fn try_out(connection: &Connection, what: &str, text: &str) -> Result<(), StateError> {
    connection.prepare(text).map(|_| ()).map_err(|error| {
        if may_pass(&error) {
            failed(&format!("prepare a {what}"), &error)
        } else {
            refusals::unusable(what, text, &message(&error))
        }
    })
}
