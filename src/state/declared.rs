//! What a topology declares in the database of the state store.
//!
//! Responsible for: tables, views and statements as values.
//! Not responsible for: making or comparing them; each store does that in its dialect.

/// Portable type of a declared column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Double,
    /// Boolean.
    Bool,
    /// Calendar day.
    Date,
    /// Point in time, UTC.
    Instant,
    /// JSON document.
    Json,
}

/// Whose rows a declared table holds, which decides the columns the engine adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableOwner {
    /// A member's: `_manifest`, `_member`, `_digest`. Readers see accepted digests only.
    Member,
    /// A manifest's: `_manifest`; written through its announcing record.
    Manifest,
    /// Actions'; these columns are the primary key.
    Key(Vec<String>),
}

/// A declared table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredTable {
    /// Its name.
    pub name: String,
    /// Whose rows it holds.
    pub owner: TableOwner,
    /// Its columns, in order.
    pub columns: Vec<(String, ColumnType)>,
}

/// A declared view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredView {
    /// Its name.
    pub name: String,
    /// Its query.
    pub query: String,
}

/// Everything a topology declares in the store's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declarations {
    /// Tables.
    pub tables: Vec<DeclaredTable>,
    /// Views, in the order in which they are created.
    pub views: Vec<DeclaredView>,
    /// Statements of `sql` actions, prepared at start so that mistakes show before any record.
    pub statements: Vec<String>,
    /// Queries of `retire` actions, prepared at start like the statements. They may read
    /// `tidemill_object`, the catalogue of objects.
    pub queries: Vec<String>,
}
