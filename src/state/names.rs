//! Names of declared tables, views and columns.
//!
//! Responsible for: names that every database takes as they are, and that nobody else has.
//! Not responsible for: whether something of that name is there already (`comparison`).

use crate::sql::statement::ENGINE_PREFIX;
use crate::state::layout::{OWNER_COLUMNS, ROWS_SUFFIX};
use crate::state::{DeclaredTable, StateError, TableOwner};

/// Longest name of a table or view, so that the names made from it fit every store.
const LONGEST_NAME: usize = 50;
/// Longest name of a column.
const LONGEST_COLUMN: usize = 63;
/// How names of tables and views cannot begin.
const TAKEN: [&str; 3] = [ENGINE_PREFIX, "sqlite_", "pg_"];

/// Checks the names of a table, of its columns and of its key.
pub(super) fn check_table(table: &DeclaredTable) -> Result<(), StateError> {
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

/// Checks the name of a table or view; `what` says which.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), StateError> {
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
