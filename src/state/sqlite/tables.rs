//! Declared tables as SQLite knows them.
//!
//! Responsible for: what is known of a table or view by its name, its columns, and reading its
//! rows.
//! Not responsible for: how tables are laid out (`layout`), making them (`declare`), or writing
//! rows (`rows`).

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value};

use crate::sql::Dialect;
use crate::state::comparison::{Column, Registered};
use crate::state::layout::CATALOGUE;
use crate::state::sqlite::database::failed;
use crate::state::sqlite::values;
use crate::state::{StateError, TablePage, refusals};

pub(super) const DIALECT: Dialect = Dialect::Sqlite;

/// What is known of a declared table.
pub(super) fn registered(
    connection: &Connection,
    name: &str,
) -> Result<Option<Registered>, StateError> {
    let select = || {
        let known = "SELECT pipeline, owner FROM tidemill_table WHERE name = ?1";
        connection
            .prepare_cached(known)?
            .query_row((name,), |row| Ok(Registered { pipeline: row.get(0)?, owner: row.get(1)? }))
            .optional()
    };
    select().map_err(|error| failed("look a table up", &error))
}

/// The columns of a table or view, in order; none if there is no such thing.
pub(super) fn columns(connection: &Connection, name: &str) -> Result<Vec<Column>, StateError> {
    let select = || -> rusqlite::Result<Vec<Column>> {
        let mut statement = connection
            .prepare_cached("SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid")?;
        let rows = statement.query_map((name,), |row| {
            Ok(Column { name: row.get(0)?, type_name: row.get(1)?, key: row.get(2)? })
        })?;
        rows.collect()
    };
    select().map_err(|error| failed(&format!("read the columns of {name}"), &error))
}

/// The first rows of a declared table or view; with a limit of 0 all of them.
pub(super) fn read(
    connection: &Connection,
    name: &str,
    limit: u32,
) -> Result<TablePage, StateError> {
    if !is_declared(connection, name)? {
        return Err(refusals::undeclared(name));
    }
    let columns = columns(connection, name)?;
    let kinds: Vec<_> = columns.iter().map(|column| column.kind(DIALECT)).collect();
    let names = DIALECT.name_list(columns.iter().map(|column| column.name.as_str()));
    let query = format!("SELECT {names} FROM {} LIMIT ?1", DIALECT.quote_name(name));
    let limit = if limit == 0 { -1 } else { i64::from(limit) };
    let select = || -> rusqlite::Result<Vec<Map<String, Value>>> {
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map((limit,), |row| {
            let mut object = Map::with_capacity(columns.len());
            for (index, (column, kind)) in columns.iter().zip(&kinds).enumerate() {
                let value = values::json(row.get_ref(index)?, *kind);
                object.insert(column.name.clone(), value);
            }
            Ok(object)
        })?;
        rows.collect()
    };
    let rows = select().map_err(|error| failed(&format!("read {name}"), &error))?;
    Ok(TablePage { columns: columns.into_iter().map(|column| column.name).collect(), rows })
}

/// The names under which something can be read.
pub(super) fn names(connection: &Connection) -> Result<Vec<String>, StateError> {
    let select = || -> rusqlite::Result<Vec<String>> {
        let known = "SELECT name FROM tidemill_table UNION SELECT name FROM tidemill_view \
                     UNION SELECT 'tidemill_object' ORDER BY name";
        let mut statement = connection.prepare_cached(known)?;
        let names = statement.query_map((), |row| row.get(0))?;
        names.collect()
    };
    select().map_err(|error| failed("list its tables", &error))
}

/// Whether it may be read by name: what topologies declare, and the catalogue of objects.
fn is_declared(connection: &Connection, name: &str) -> Result<bool, StateError> {
    if name == CATALOGUE {
        return Ok(true);
    }
    let select = || {
        let known = "SELECT 1 FROM tidemill_table WHERE name = ?1 \
                     UNION ALL SELECT 1 FROM tidemill_view WHERE name = ?1";
        connection.prepare_cached(known)?.exists((name,))
    };
    select().map_err(|error| failed("look a table up", &error))
}
