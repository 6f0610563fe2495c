//! Declared tables and views.
//!
//! Responsible for: making what a topology declares and the database lacks, and looking at what is
//! there: tables are never altered, views are made again when their query has changed.
//! Not responsible for: what they look like (`layout`), whether what is there is what is wanted
//! (`comparison`), or rows.

use rusqlite::{Connection, OptionalExtension};

use crate::model::PipelineName;
use crate::state::comparison::{self, ViewFate};
use crate::state::layout::{self, Owner};
use crate::state::sqlite::database::{failed, may_pass, message};
use crate::state::sqlite::tables::{self, DIALECT};
use crate::state::{DeclaredTable, DeclaredView, StateError, names, refusals};

/// Makes a table, or compares the one that is there.
pub(super) fn table(
    connection: &Connection,
    pipeline: &PipelineName,
    table: &DeclaredTable,
) -> Result<(), StateError> {
    names::check_table(table)?;
    let owner = Owner::of(table);
    match tables::registered(connection, &table.name)? {
        None => create(connection, pipeline, table)?,
        Some(known) => {
            comparison::registered(&table.name, &known, (owner, pipeline))?;
            let wanted = layout::definition(table);
            let found = tables::columns(connection, &wanted.name)?;
            comparison::columns(DIALECT, &table.name, &wanted, &found)?;
        }
    }
    match owner.reading(DIALECT, pipeline, table) {
        Some(query) => ensure_view(connection, pipeline, &table.name, &query),
        None => Ok(()),
    }
}

fn create(
    connection: &Connection,
    pipeline: &PipelineName,
    table: &DeclaredTable,
) -> Result<(), StateError> {
    let owner = Owner::of(table);
    for name in [&table.name, &owner.physical(&table.name)] {
        refuse_stranger(connection, name)?;
    }
    let write = || -> rusqlite::Result<()> {
        for statement in layout::making(DIALECT, table) {
            connection.execute_batch(&statement)?;
        }
        let register = "INSERT INTO tidemill_table (name, pipeline, owner) VALUES (?1, ?2, ?3)";
        let known = (table.name.as_str(), pipeline.as_str(), owner.as_str());
        connection.execute(register, known).map(|_| ())
    };
    write().map_err(|error| failed(&format!("make table {}", table.name), &error))
}

/// Whatever has that name already was not made by the engine.
fn refuse_stranger(connection: &Connection, name: &str) -> Result<(), StateError> {
    let select = || {
        let stranger = "SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
        let mut statement = connection.prepare_cached(stranger)?;
        statement.query_row((name,), |row| row.get::<_, String>(0)).optional()
    };
    match select().map_err(|error| failed("look a table up", &error))? {
        None => Ok(()),
        Some(found) => Err(comparison::stranger(&found, name)),
    }
}

/// Makes a declared view, again if its query has changed.
pub(super) fn view(
    connection: &Connection,
    pipeline: &PipelineName,
    view: &DeclaredView,
) -> Result<(), StateError> {
    names::check_name("view", &view.name)?;
    let is_table = tables::registered(connection, &view.name)?.is_some();
    let query = refusals::view(view, is_table)?;
    ensure_view(connection, pipeline, &view.name, query.text())
}

fn ensure_view(
    connection: &Connection,
    pipeline: &PipelineName,
    name: &str,
    query: &str,
) -> Result<(), StateError> {
    let select = || {
        let known = "SELECT pipeline, query FROM tidemill_view WHERE name = ?1";
        let mut statement = connection.prepare_cached(known)?;
        statement.query_row((name,), |row| Ok((row.get(0)?, row.get(1)?))).optional()
    };
    let known: Option<(String, String)> =
        select().map_err(|error| failed("look a view up", &error))?;
    match comparison::view(name, known.as_ref(), (pipeline, query))? {
        ViewFate::New => refuse_stranger(connection, name)?,
        ViewFate::Same => return probe(connection, name),
        ViewFate::Changed => connection
            .execute_batch(&DIALECT.drop_view(name))
            .map_err(|error| failed(&format!("remove view {name}"), &error))?,
    }
    let write = || -> rusqlite::Result<()> {
        connection.execute_batch(&DIALECT.create_view(name, query))?;
        let register = "INSERT INTO tidemill_view (name, pipeline, query) VALUES (?1, ?2, ?3) \
                        ON CONFLICT (name) DO UPDATE SET query = excluded.query";
        connection.execute(register, (name, pipeline.as_str(), query)).map(|_| ())
    };
    write().map_err(|error| unusable(name, &error))?;
    probe(connection, name)
}

/// SQLite looks at what a view reads only when the view is read.
fn probe(connection: &Connection, name: &str) -> Result<(), StateError> {
    let query = format!("SELECT * FROM {}", DIALECT.quote_name(name));
    connection.prepare(&query).map(|_| ()).map_err(|error| unusable(name, &error))
}

fn unusable(name: &str, error: &rusqlite::Error) -> StateError {
    if may_pass(error) {
        return failed(&format!("make view {name}"), error);
    }
    refusals::unusable_view(name, &message(error))
}
