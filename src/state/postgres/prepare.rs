//! What is done once before a pipeline starts.
//!
//! Responsible for: the identity of a pipeline, and trying everything that its topology declares,
//! so that mistakes show before any record does; all in one transaction, one replica at a time.
//! Not responsible for: tables and views one by one (`declare`).

use tokio_postgres::{Client, Error};

use crate::model::PipelineName;
use crate::sql::Statement;
use crate::state::postgres::actions::{OTHER_PARAMETERS, Runnable};
use crate::state::postgres::declare;
use crate::state::postgres::errors::{may_pass, message};
use crate::state::postgres::pool::Pool;
use crate::state::postgres::schema::DEFINITION_LOCK;
use crate::state::{Declarations, PipelineIdentity, StateError, comparison, refusals};

/// Checks and stores the identity, makes or compares tables and views, prepares statements.
pub(super) async fn prepare(
    pool: &Pool,
    identity: &PipelineIdentity,
    declared: &Declarations,
) -> Result<(), StateError> {
    let mut client = pool.get().await?;
    let begin = client.transaction().await;
    let transaction = begin.map_err(|error| pool.failed("begin to define tables", &error))?;
    let lock = "SELECT pg_advisory_xact_lock($1)";
    let locked = transaction.execute(lock, &[&DEFINITION_LOCK]).await;
    locked.map_err(|error| pool.failed("wait for others to define tables", &error))?;
    define(pool, transaction.client(), identity, declared).await?;
    let commit = transaction.commit().await;
    commit.map_err(|error| pool.failed("define tables", &error))
}

async fn define(
    pool: &Pool,
    client: &Client,
    identity: &PipelineIdentity,
    declared: &Declarations,
) -> Result<(), StateError> {
    check_identity(pool, client, identity).await?;
    for table in &declared.tables {
        declare::table(pool, client, &identity.pipeline, table).await?;
    }
    for view in &declared.views {
        declare::view(pool, client, &identity.pipeline, view).await?;
    }
    for text in &declared.statements {
        try_out(pool, client, ("statement", text), &refusals::statement(text)?).await?;
    }
    for text in &declared.queries {
        try_out(pool, client, ("query", text), &refusals::query(text)?).await?;
    }
    Ok(())
}

async fn check_identity(
    pool: &Pool,
    client: &Client,
    wanted: &PipelineIdentity,
) -> Result<(), StateError> {
    let pipeline = wanted.pipeline.as_str();
    let read = async {
        let known = "SELECT consumer_group, shards FROM tidemill_pipeline WHERE pipeline = $1";
        let row = client.query_opt(known, &[&pipeline]).await?;
        row.map(|row| Ok::<(String, i32), Error>((row.try_get(0)?, row.try_get(1)?))).transpose()
    };
    let known = read.await;
    match known.map_err(|error| pool.failed("read the identity of a pipeline", &error))? {
        Some((group, shards)) => comparison::identity(wanted, (group.as_str(), shards)),
        None => {
            let new = "INSERT INTO tidemill_pipeline (pipeline, consumer_group, shards) \
                       VALUES ($1, $2, $3)";
            let stored = client.execute(new, &[&pipeline, &wanted.group, &wanted.shards]).await;
            let stored = stored.map(|_| ());
            stored.map_err(|error| pool.failed("store the identity of a pipeline", &error))
        }
    }
}

/// The pipelines that have been prepared.
pub(super) async fn pipelines(pool: &Pool) -> Result<Vec<PipelineName>, StateError> {
    let client = pool.get().await?;
    let read = async {
        let known = "SELECT pipeline FROM tidemill_pipeline ORDER BY pipeline COLLATE \"C\"";
        let rows = client.query(known, &[]).await?;
        let names = rows.iter().map(|row| row.try_get::<_, String>(0).map(PipelineName::from));
        names.collect::<Result<Vec<PipelineName>, Error>>()
    };
    read.await.map_err(|error| pool.failed("list its pipelines", &error))
}

/// Has the server look at a statement or query of a topology.
async fn try_out(
    pool: &Pool,
    client: &Client,
    (what, text): (&str, &str),
    parsed: &Statement,
) -> Result<(), StateError> {
    let runnable = Runnable::of(parsed, what == "query");
    match client.prepare(&runnable.text).await {
        Ok(prepared) if prepared.params().len() == runnable.parameters => Ok(()),
        Ok(_) => Err(refusals::unusable(what, text, OTHER_PARAMETERS)),
        Err(error) if may_pass(&error) => Err(pool.failed(&format!("prepare a {what}"), &error)),
        Err(error) => Err(refusals::unusable(what, text, &message(&error))),
    }
}
