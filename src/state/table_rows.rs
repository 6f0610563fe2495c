//! Rows on their way into a declared table.
//!
//! Responsible for: whether a table takes them, the key under which they are written once, and
//! their columns in the order of the table: for a member's rows the key is (table, sink, manifest,
//! member, digest); for a manifest's rows it is (table, sink, manifest), because many records may
//! announce one manifest, and all of them bring the same rows: those that come first stay.
//! Not responsible for: which digest counts (`layout`), or writing (each store does that).

use arrow::record_batch::RecordBatch;

use crate::sql::{Dialect, SqlType};
use crate::state::cells::{Cell, Cells};
use crate::state::comparison::{Column, Registered};
use crate::state::layout::{OWNER_COLUMNS, Owner};
use crate::state::{StateError, TableRows, refusals};

/// Whose rows these are.
pub(super) fn owner_of(rows: &TableRows) -> Owner {
    if rows.member.is_some() { Owner::Member } else { Owner::Manifest }
}

/// Refuses rows that the table of their name does not hold.
pub(super) fn check(rows: &TableRows, known: Option<&Registered>) -> Result<(), StateError> {
    let Some(known) = known else {
        return Err(refusals::rows(rows, "no such table is declared"));
    };
    let given = owner_of(rows).as_str();
    if known.owner == given {
        return Ok(());
    }
    if known.owner == Owner::Key.as_str() {
        return Err(refusals::rows(rows, "a table with a key is written by actions only"));
    }
    let why = format!("its rows belong to a {}, these belong to a {given}", known.owner);
    Err(refusals::rows(rows, &why))
}

/// Member and digest in the registry; both are empty for rows of a manifest.
pub(super) fn registry_key(rows: &TableRows) -> (&str, &[u8]) {
    match &rows.member {
        Some(member) => (member.as_str(), rows.digest.as_bytes().as_slice()),
        None => ("", &[]),
    }
}

/// The declared columns among those that were found.
pub(super) fn declared_columns(
    dialect: Dialect,
    rows: &TableRows,
    found: Vec<Column>,
) -> Result<Vec<(String, SqlType)>, StateError> {
    let declared =
        found.into_iter().filter(|column| !OWNER_COLUMNS.contains(&column.name.as_str()));
    declared
        .map(|column| match column.kind(dialect) {
            Some(kind) => Ok((column.name, kind)),
            None => {
                let why = format!("column {} is not as declared", column.name);
                Err(refusals::rows(rows, &why))
            }
        })
        .collect()
}

/// A batch, column by column as its table has them.
pub(super) struct Batch<'a> {
    rows: &'a TableRows,
    columns: Vec<(&'a str, SqlType, Cells)>,
    /// How many rows there are.
    pub(super) count: usize,
}

impl<'a> Batch<'a> {
    /// Finds the columns by name; missing ones are null.
    pub(super) fn new(
        rows: &'a TableRows,
        columns: &'a [(String, SqlType)],
        batch: &RecordBatch,
    ) -> Result<Self, StateError> {
        let mut cells = Vec::with_capacity(columns.len());
        for (name, kind) in columns {
            let column = batch.column_by_name(name).map_or(Ok(Cells::Absent), Cells::of);
            let column =
                column.map_err(|error| refusals::rows(rows, &format!("column {name}: {error}")))?;
            cells.push((name.as_str(), *kind, column));
        }
        Ok(Self { rows, columns: cells, count: batch.num_rows() })
    }

    /// The cells of a row, in the order of the columns.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = Result<Cell<'_>, StateError>> {
        self.columns.iter().map(move |(name, kind, cells)| {
            cells.get(row, *kind).ok_or_else(|| {
                let kind = kind.as_str();
                let why = format!("column {name}, row {row}: the value is no {kind}");
                refusals::rows(self.rows, &why)
            })
        })
    }
}
