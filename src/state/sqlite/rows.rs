//! Rows of members and manifests.
//!
//! Responsible for: writing rows once. The registry is asked first, in the same savepoint as the
//! rows.
//! Not responsible for: under which key, or what fits a column (`table_rows`).

use rusqlite::{CachedStatement, Connection};

use crate::sql::SqlType;
use crate::state::layout::Owner;
use crate::state::sqlite::database::failed;
use crate::state::sqlite::tables::{self, DIALECT};
use crate::state::sqlite::values;
use crate::state::table_rows::{self, Batch};
use crate::state::{StateError, TableRows};

const REGISTER: &str = "INSERT INTO tidemill_row_registry \
     (declared_table, sink, manifest, member, digest) VALUES (?1, ?2, ?3, ?4, ?5) \
     ON CONFLICT DO NOTHING";

/// Writes rows, unless they were written before; false then.
pub(super) fn write(connection: &Connection, rows: &TableRows) -> Result<bool, StateError> {
    table_rows::check(rows, tables::registered(connection, &rows.table)?.as_ref())?;
    if !register(connection, rows)? {
        return Ok(false);
    }
    let owner = table_rows::owner_of(rows);
    let found = tables::columns(connection, &owner.physical(&rows.table))?;
    let columns = table_rows::declared_columns(DIALECT, rows, found)?;
    let insert = insert(&owner.physical(&rows.table), &columns, owner);
    let mut statement = connection
        .prepare_cached(&insert)
        .map_err(|error| failed(&format!("write rows of {}", rows.table), &error))?;
    for batch in &rows.rows {
        write_batch(&mut statement, rows, &Batch::new(rows, &columns, batch)?)?;
    }
    Ok(true)
}

fn register(connection: &Connection, rows: &TableRows) -> Result<bool, StateError> {
    let (member, digest) = table_rows::registry_key(rows);
    let write = || {
        connection.prepare_cached(REGISTER)?.execute((
            rows.table.as_str(),
            rows.sink.as_str(),
            rows.manifest.as_str(),
            member,
            digest,
        ))
    };
    write()
        .map(|changed| changed == 1)
        .map_err(|error| failed(&format!("register rows of {}", rows.table), &error))
}

fn insert(table: &str, columns: &[(String, SqlType)], owner: Owner) -> String {
    let declared = columns.iter().map(|(name, _)| name.as_str());
    let added = owner.columns().iter().map(|(name, _)| *name);
    let names = DIALECT.name_list(declared.chain(added));
    let count = columns.len() + owner.columns().len();
    let places = vec!["?"; count].join(", ");
    format!("INSERT INTO {} ({names}) VALUES ({places})", DIALECT.quote_name(table))
}

fn write_batch(
    statement: &mut CachedStatement<'_>,
    rows: &TableRows,
    batch: &Batch<'_>,
) -> Result<(), StateError> {
    let cannot = |error: rusqlite::Error| failed(&format!("write rows of {}", rows.table), &error);
    for row in 0..batch.count {
        let mut place = 1;
        for cell in batch.row(row) {
            statement.raw_bind_parameter(place, values::cell(cell?)).map_err(cannot)?;
            place += 1;
        }
        bind_owner(statement, rows, place).map_err(cannot)?;
        statement.raw_execute().map_err(cannot)?;
    }
    Ok(())
}

fn bind_owner(
    statement: &mut CachedStatement<'_>,
    rows: &TableRows,
    first: usize,
) -> rusqlite::Result<()> {
    let mut place = first;
    statement.raw_bind_parameter(place, rows.manifest.as_str())?;
    if let Some(member) = &rows.member {
        place += 1;
        statement.raw_bind_parameter(place, member.as_str())?;
    }
    statement.raw_bind_parameter(place + 1, rows.digest.as_bytes().as_slice())
}
