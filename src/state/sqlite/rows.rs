//! Rows of members and manifests.
//!
//! Responsible for: writing rows once. The registry is asked first, in the same savepoint as the
//! rows: for a member's rows by (table, sink, manifest, member, digest); for a manifest's rows by
//! (table, sink, manifest), because many records may announce one manifest, and all of them bring
//! the same rows: those that come first stay.
//! Not responsible for: which digest counts (`tables`).

use arrow::record_batch::RecordBatch;
use rusqlite::{CachedStatement, Connection};

use crate::sql::SqlType;
use crate::state::sqlite::cells::Cells;
use crate::state::sqlite::database::failed;
use crate::state::sqlite::tables::{self, DIALECT, OWNER_COLUMNS, Owner};
use crate::state::{StateError, TableRows};

const REGISTER: &str = "INSERT INTO tidemill_row_registry \
     (declared_table, sink, manifest, member, digest) VALUES (?1, ?2, ?3, ?4, ?5) \
     ON CONFLICT DO NOTHING";

/// Writes rows, unless they were written before; false then.
pub(super) fn write(connection: &Connection, rows: &TableRows) -> Result<bool, StateError> {
    let owner = owner(connection, rows)?;
    if !register(connection, rows, owner)? {
        return Ok(false);
    }
    let columns = declared_columns(connection, rows, owner)?;
    let insert = insert(&owner.physical(&rows.table), &columns, owner);
    let mut statement = connection
        .prepare_cached(&insert)
        .map_err(|error| failed(&format!("write rows of {}", rows.table), &error))?;
    for batch in &rows.rows {
        write_batch(&mut statement, rows, &columns, batch)?;
    }
    Ok(true)
}

/// Whose rows the table holds, if these can be among them.
fn owner(connection: &Connection, rows: &TableRows) -> Result<Owner, StateError> {
    let Some(known) = tables::registered(connection, &rows.table)? else {
        return Err(refused(rows, "no such table is declared"));
    };
    let owner = if rows.member.is_some() { Owner::Member } else { Owner::Manifest };
    if known.owner == owner.as_str() {
        return Ok(owner);
    }
    if known.owner == Owner::Key.as_str() {
        return Err(refused(rows, "a table with a key is written by actions only"));
    }
    let (wanted, given) = (known.owner, owner.as_str());
    Err(refused(rows, &format!("its rows belong to a {wanted}, these belong to a {given}")))
}

fn register(connection: &Connection, rows: &TableRows, owner: Owner) -> Result<bool, StateError> {
    let digest: &[u8] = match owner {
        Owner::Member => rows.digest.as_bytes().as_slice(),
        Owner::Manifest | Owner::Key => &[],
    };
    let member = rows.member.as_ref().map_or("", |member| member.as_str());
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

fn declared_columns(
    connection: &Connection,
    rows: &TableRows,
    owner: Owner,
) -> Result<Vec<(String, SqlType)>, StateError> {
    let found = tables::columns(connection, &owner.physical(&rows.table))?;
    let declared =
        found.into_iter().filter(|column| !OWNER_COLUMNS.contains(&column.name.as_str()));
    declared
        .map(|column| match column.kind() {
            Some(kind) => Ok((column.name, kind)),
            None => Err(refused(rows, &format!("column {} is not as declared", column.name))),
        })
        .collect()
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
    columns: &[(String, SqlType)],
    batch: &RecordBatch,
) -> Result<(), StateError> {
    let mut cells = Vec::with_capacity(columns.len());
    for (name, kind) in columns {
        let column = batch.column_by_name(name).map_or(Ok(Cells::Absent), Cells::of);
        let column = column.map_err(|error| refused(rows, &format!("column {name}: {error}")))?;
        cells.push((name, *kind, column));
    }
    let cannot = |error: &rusqlite::Error| failed(&format!("write rows of {}", rows.table), error);
    for row in 0..batch.num_rows() {
        for (place, (name, kind, cells)) in (1_usize..).zip(&cells) {
            let value = cells.get(row, *kind).ok_or_else(|| {
                let kind = kind.as_str();
                refused(rows, &format!("column {name}, row {row}: the value is no {kind}"))
            })?;
            statement.raw_bind_parameter(place, value).map_err(|error| cannot(&error))?;
        }
        bind_owner(statement, rows, columns.len() + 1).map_err(|error| cannot(&error))?;
        statement.raw_execute().map_err(|error| cannot(&error))?;
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

fn refused(rows: &TableRows, why: &str) -> StateError {
    let TableRows { table, manifest, sink, .. } = rows;
    StateError::Mismatch(format!(
        "sink {sink} cannot write rows of manifest {manifest} to table {table}: {why}"
    ))
}
