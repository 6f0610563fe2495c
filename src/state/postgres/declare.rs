//! Declared tables and views.
//!
//! Responsible for: making what a topology declares and the database lacks, and looking at what is
//! there: tables are never altered, views are made again when their query has changed, and those
//! that read them with them.
//! Not responsible for: what they look like (`layout`), whether what is there is what is wanted
//! (`comparison`), the transaction around it (`prepare`), or rows.

use tokio_postgres::{Client, Error};

use crate::model::PipelineName;
use crate::state::comparison::{self, ViewFate};
use crate::state::layout::{self, Owner};
use crate::state::postgres::errors::{may_pass, message};
use crate::state::postgres::pool::Pool;
use crate::state::postgres::tables::{self, DIALECT};
use crate::state::{DeclaredTable, DeclaredView, StateError, names, refusals};

const STRANGER: &str = "SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' \
     WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' \
     WHEN 'S' THEN 'sequence' ELSE 'relation' END FROM pg_catalog.pg_class AS c \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema() AND lower(CAST(c.relname AS text)) = lower($1) LIMIT 1";

const KNOWN_VIEW: &str = "SELECT pipeline, query FROM tidemill_view WHERE name = $1";

/// A view and all that read it, with the pipelines that declare them.
const READERS: &str = "WITH RECURSIVE reader (oid) AS (SELECT c.oid FROM pg_catalog.pg_class AS c \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema() AND c.relname = CAST($1 AS name) \
     UNION SELECT w.ev_class FROM reader AS r JOIN pg_catalog.pg_depend AS d \
     ON d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = r.oid \
     AND d.classid = CAST('pg_rewrite' AS regclass) \
     JOIN pg_catalog.pg_rewrite AS w ON w.oid = d.objid) \
     SELECT CAST(c.relname AS text), v.pipeline FROM reader AS r \
     JOIN pg_catalog.pg_class AS c ON c.oid = r.oid \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     LEFT JOIN tidemill_view AS v ON v.name = CAST(c.relname AS text) \
     AND n.nspname = current_schema()";

const FORGET_VIEWS: &str = "DELETE FROM tidemill_view WHERE name = ANY($1)";

/// Makes a table, or compares the one that is there.
pub(super) async fn table(
    pool: &Pool,
    client: &Client,
    pipeline: &PipelineName,
    table: &DeclaredTable,
) -> Result<(), StateError> {
    names::check_table(table)?;
    let owner = Owner::of(table);
    match registered(pool, client, &table.name).await? {
        None => create(pool, client, pipeline, table).await?,
        Some(known) => {
            comparison::registered(&table.name, &known, (owner, pipeline))?;
            let wanted = layout::definition(table);
            let found = tables::columns(client, &wanted.name).await;
            let what = format!("read the columns of {}", wanted.name);
            let found = found.map_err(|error| pool.failed(&what, &error))?;
            comparison::columns(DIALECT, &table.name, &wanted, &found)?;
        }
    }
    match owner.reading(DIALECT, pipeline, table) {
        Some(query) => ensure_view(pool, client, pipeline, &table.name, &query).await,
        None => Ok(()),
    }
}

async fn registered(
    pool: &Pool,
    client: &Client,
    name: &str,
) -> Result<Option<comparison::Registered>, StateError> {
    let known = tables::registered(client, name).await;
    known.map_err(|error| pool.failed("look a table up", &error))
}

async fn create(
    pool: &Pool,
    client: &Client,
    pipeline: &PipelineName,
    table: &DeclaredTable,
) -> Result<(), StateError> {
    let owner = Owner::of(table);
    for name in [&table.name, &owner.physical(&table.name)] {
        refuse_stranger(pool, client, name).await?;
    }
    let write = async {
        for statement in layout::making(DIALECT, table) {
            client.batch_execute(&statement).await?;
        }
        let register = "INSERT INTO tidemill_table (name, pipeline, owner) VALUES ($1, $2, $3)";
        client.execute(register, &[&table.name, &pipeline.as_str(), &owner.as_str()]).await
    };
    let what = format!("make table {}", table.name);
    write.await.map(|_| ()).map_err(|error| pool.failed(&what, &error))
}

/// Whatever has that name already was not made by the engine.
async fn refuse_stranger(pool: &Pool, client: &Client, name: &str) -> Result<(), StateError> {
    let found = client.query_opt(STRANGER, &[&name]).await;
    let found = found.and_then(|row| row.map(|row| row.try_get::<_, String>(0)).transpose());
    match found.map_err(|error| pool.failed("look a table up", &error))? {
        None => Ok(()),
        Some(found) => Err(comparison::stranger(&found, name)),
    }
}

/// Makes a declared view, again if its query has changed.
pub(super) async fn view(
    pool: &Pool,
    client: &Client,
    pipeline: &PipelineName,
    view: &DeclaredView,
) -> Result<(), StateError> {
    names::check_name("view", &view.name)?;
    let is_table = registered(pool, client, &view.name).await?.is_some();
    let query = refusals::view(view, is_table)?;
    ensure_view(pool, client, pipeline, &view.name, query.text()).await
}

async fn ensure_view(
    pool: &Pool,
    client: &Client,
    pipeline: &PipelineName,
    name: &str,
    query: &str,
) -> Result<(), StateError> {
    let read = async {
        let row = client.query_opt(KNOWN_VIEW, &[&name]).await?;
        row.map(|row| Ok::<(String, String), Error>((row.try_get(0)?, row.try_get(1)?))).transpose()
    };
    let known = read.await.map_err(|error| pool.failed("look a view up", &error))?;
    match comparison::view(name, known.as_ref(), (pipeline, query))? {
        ViewFate::Same => return probe(pool, client, name).await,
        ViewFate::New => refuse_stranger(pool, client, name).await?,
        ViewFate::Changed => remove(pool, client, pipeline, name).await?,
    }
    let write = async {
        client.batch_execute(&DIALECT.create_view(name, query)).await?;
        let register = "INSERT INTO tidemill_view (name, pipeline, query) VALUES ($1, $2, $3)";
        client.execute(register, &[&name, &pipeline.as_str(), &query]).await
    };
    write.await.map(|_| ()).map_err(|error| unusable(pool, name, &error))
}

/// Somebody may have removed it by hand.
async fn probe(pool: &Pool, client: &Client, name: &str) -> Result<(), StateError> {
    let query = format!("SELECT * FROM {}", DIALECT.quote_name(name));
    let probed = client.prepare(&query).await;
    probed.map(|_| ()).map_err(|error| unusable(pool, name, &error))
}

/// Removes a view and those that read it, as far as they are of this pipeline: those that are
/// still declared are made again, since they are declared behind it.
async fn remove(
    pool: &Pool,
    client: &Client,
    pipeline: &PipelineName,
    name: &str,
) -> Result<(), StateError> {
    let cannot = |error: Error| pool.failed(&format!("remove view {name}"), &error);
    let mut readers: Vec<String> = Vec::new();
    for row in client.query(READERS, &[&name]).await.map_err(cannot)? {
        let reader: String = row.try_get(0).map_err(cannot)?;
        let declared_by: Option<String> = row.try_get(1).map_err(cannot)?;
        if declared_by.as_deref() != Some(pipeline.as_str()) {
            let whose = declared_by.map_or_else(
                || "which this pipeline does not declare".to_owned(),
                |other| format!("which pipeline {other} declares"),
            );
            return Err(StateError::Mismatch(format!(
                "view {name} cannot be made again with another query: {reader} reads it, {whose}; \
                 remove that one first, or choose another name"
            )));
        }
        readers.push(reader);
    }
    if !readers.is_empty() {
        let names = DIALECT.name_list(readers.iter().map(String::as_str));
        client.batch_execute(&format!("DROP VIEW {names}")).await.map_err(cannot)?;
    }
    readers.push(name.to_owned());
    client.execute(FORGET_VIEWS, &[&readers]).await.map(|_| ()).map_err(cannot)
}

fn unusable(pool: &Pool, name: &str, error: &Error) -> StateError {
    if may_pass(error) {
        return pool.failed(&format!("make view {name}"), error);
    }
    refusals::unusable_view(name, &message(error))
}
