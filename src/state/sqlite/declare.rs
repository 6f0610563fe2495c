//! Declared tables and views.
//!
//! Responsible for: making what a topology declares and the database lacks, and comparing what is
//! there: tables are never altered, views are made again when their query has changed.
//! Not responsible for: rows.

use rusqlite::{Connection, OptionalExtension};

use crate::model::PipelineName;
use crate::sql::statement::ENGINE_PREFIX;
use crate::sql::{ColumnDefinition, Statement, StatementKind, TableDefinition};
use crate::state::sqlite::database::{failed, may_pass, message};
use crate::state::sqlite::tables::{self, Column, DIALECT, OWNER_COLUMNS, Owner, ROWS_SUFFIX};
use crate::state::sqlite::values;
use crate::state::{DeclaredTable, DeclaredView, StateError, TableOwner};

/// Longest name of a table or view, so that the names made from it fit every store.
const LONGEST_NAME: usize = 50;
/// Longest name of a column.
const LONGEST_COLUMN: usize = 63;
/// How names of tables and views cannot begin.
const TAKEN: [&str; 3] = [ENGINE_PREFIX, "sqlite_", "pg_"];

/// Makes a table, or compares the one that is there.
pub(super) fn table(
    connection: &Connection,
    pipeline: &PipelineName,
    table: &DeclaredTable,
) -> Result<(), StateError> {
    check_names(table)?;
    let owner = Owner::of(table);
    let wanted = definition(table, owner);
    match tables::registered(connection, &table.name)? {
        None => create(connection, pipeline, table, &wanted)?,
        Some(known) if known.owner != owner.as_str() => {
            return Err(differs(&table.name, "owner", &known.owner, owner.as_str()));
        }
        Some(known) if owner != Owner::Key && known.pipeline != pipeline.as_str() => {
            return Err(differs(&table.name, "pipeline", &known.pipeline, pipeline.as_str()));
        }
        Some(_) => compare(connection, &table.name, &wanted)?,
    }
    match owner.reading(pipeline, table) {
        Some(query) => ensure_view(connection, pipeline, &table.name, &query),
        None => Ok(()),
    }
}

/// The table in the database that holds the rows.
fn definition(table: &DeclaredTable, owner: Owner) -> TableDefinition {
    let declared = table
        .columns
        .iter()
        .map(|(name, kind)| ColumnDefinition { name: name.clone(), kind: values::sql_type(*kind) });
    let added = owner
        .columns()
        .iter()
        .map(|(name, kind)| ColumnDefinition { name: (*name).to_owned(), kind: *kind });
    let key = match &table.owner {
        TableOwner::Key(columns) => columns.clone(),
        TableOwner::Member | TableOwner::Manifest => Vec::new(),
    };
    let name = owner.physical(&table.name);
    TableDefinition { name, columns: declared.chain(added).collect(), key }
}

fn create(
    connection: &Connection,
    pipeline: &PipelineName,
    table: &DeclaredTable,
    wanted: &TableDefinition,
) -> Result<(), StateError> {
    let owner = Owner::of(table);
    for name in [&table.name, &wanted.name] {
        refuse_stranger(connection, name)?;
    }
    let write = || -> rusqlite::Result<()> {
        connection.execute_batch(&DIALECT.create_table(wanted))?;
        if owner != Owner::Key {
            let name = format!("{}_owner", wanted.name);
            let columns: Vec<&str> = owner.columns().iter().map(|(name, _)| *name).collect();
            connection.execute_batch(&DIALECT.create_index(&name, &wanted.name, &columns))?;
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
        Some(found) => Err(StateError::Mismatch(format!(
            "the state store has a {found} called {name} that is declared as something else or \
             was made by somebody else: choose another name, or remove it"
        ))),
    }
}

fn compare(
    connection: &Connection,
    name: &str,
    wanted: &TableDefinition,
) -> Result<(), StateError> {
    let found = tables::columns(connection, &wanted.name)?;
    for column in &wanted.columns {
        let there = found.iter().find(|other| other.name == column.name);
        let there = there.map_or("nothing", described);
        if there != column.kind.as_str() {
            return Err(column_differs(name, &column.name, there, column.kind.as_str()));
        }
    }
    for column in &found {
        if !wanted.columns.iter().any(|other| other.name == column.name) {
            return Err(column_differs(name, &column.name, described(column), "nothing"));
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

fn described(column: &Column) -> &str {
    column.kind().map_or(column.type_name.as_str(), |kind| kind.as_str())
}

fn column_differs(table: &str, column: &str, found: &str, wanted: &str) -> StateError {
    differs(table, &format!("column {column}"), found, wanted)
}

fn differs(table: &str, what: &str, found: &str, wanted: &str) -> StateError {
    StateError::Mismatch(format!(
        "table {table}, {what}: found {found}, wanted {wanted}; tables are never altered: declare \
         it as it is, choose another name, or migrate it by hand"
    ))
}

fn check_names(table: &DeclaredTable) -> Result<(), StateError> {
    check_name("table", &table.name)?;
    if table.name.to_ascii_lowercase().ends_with(ROWS_SUFFIX) {
        return Err(bad_name("table", &table.name, "names that end so are the engine's"));
    }
    if table.columns.is_empty() {
        return Err(bad_name("table", &table.name, "it needs a column"));
    }
    let column = format!("column of table {}", table.name);
    for (index, (name, _)) in table.columns.iter().enumerate() {
        check_letters(&column, name, LONGEST_COLUMN)?;
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        if table.columns[..index].iter().any(|(other, _)| same(other)) {
            return Err(bad_name(&column, name, "it is there already"));
        }
        if OWNER_COLUMNS.into_iter().any(same) {
            return Err(bad_name(&column, name, "columns of that name are the engine's"));
        }
    }
    let TableOwner::Key(key) = &table.owner else { return Ok(()) };
    let unknown = key.iter().find(|name| !table.columns.iter().any(|(other, _)| other == *name));
    match unknown {
        Some(name) => Err(bad_name("key", name, &format!("{} has no such column", table.name))),
        None if key.is_empty() => Err(bad_name("table", &table.name, "its key has no columns")),
        None => Ok(()),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), StateError> {
    check_letters(what, name, LONGEST_NAME)?;
    let lower = name.to_ascii_lowercase();
    if TAKEN.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(bad_name(what, name, "names that begin so are taken"));
    }
    Ok(())
}

fn check_letters(what: &str, name: &str, longest: usize) -> Result<(), StateError> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if letters && first && name.len() <= longest {
        return Ok(());
    }
    let advice =
        format!("names are letters, digits and _, not a digit first, {longest} characters at most");
    Err(bad_name(what, name, &advice))
}

fn bad_name(what: &str, name: &str, why: &str) -> StateError {
    StateError::Mismatch(format!("no {what} can be called {name:?}: {why}"))
}

/// Makes a declared view, again if its query has changed.
pub(super) fn view(
    connection: &Connection,
    pipeline: &PipelineName,
    view: &DeclaredView,
) -> Result<(), StateError> {
    check_name("view", &view.name)?;
    let wrong =
        |why: String| StateError::Mismatch(format!("view {} cannot be made: {why}", view.name));
    let query = Statement::parse(&view.query).map_err(|error| wrong(error.to_string()))?;
    if query.kind() != StatementKind::Query || !query.parameters().is_empty() {
        return Err(wrong("its query has to be a SELECT without parameters".to_owned()));
    }
    if tables::registered(connection, &view.name)?.is_some() {
        return Err(wrong("a table has its name".to_owned()));
    }
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
    match known {
        None => refuse_stranger(connection, name)?,
        Some((_, same)) if same == query => return probe(connection, name),
        Some((other, _)) if other != pipeline.as_str() => {
            return Err(StateError::Mismatch(format!(
                "view {name} is declared by pipeline {other} with another query: choose another \
                 name"
            )));
        }
        Some(_) => connection
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
    StateError::Mismatch(format!("view {name} cannot be used: {}", message(error)))
}
