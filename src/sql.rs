//! SQL as topologies write it, and as the engine writes it.
//!
//! Responsible for: reading a statement as far as the engine has to understand it (its `:name`
//! parameters, what it does, whether it is one statement), and the text of definitions of tables
//! and views in the dialect of a store.
//! Not responsible for: running anything (`state`), or which columns a declared table has.

pub mod dialect;
pub mod statement;
mod tokens;

pub use dialect::{ColumnDefinition, Dialect, SqlType, TableDefinition};
pub use statement::{Statement, StatementKind};

/// What is wrong with a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// Where, in bytes from the start of the text.
    pub at: usize,
    /// What, and what to write instead.
    pub message: String,
}

impl SqlError {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}
