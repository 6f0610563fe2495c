//! Declared tables as they lie in a database.
//!
//! Responsible for: where rows of a declared table lie and under which columns, and the query
//! under which they are read.
//!
//! Rows of a member or a manifest lie in `NAME__rows`, with the columns of their owner; the name
//! itself is a view of those that count. Rows of a member count if their digest is the one that
//! was accepted, and the member is done: a dead-lettered attempt has no content, even if one of
//! its sinks was faster than the failure of another. Rows of a manifest were written under the
//! first digest only, so all of them count.
//! Not responsible for: names (`names`), or what is there already (`comparison`).

use crate::model::PipelineName;
use crate::sql::{ColumnDefinition, Dialect, SqlType, TableDefinition};
use crate::state::{ColumnType, DeclaredTable, TableOwner};

/// Ends the name of the table behind the view of an owned table.
pub(super) const ROWS_SUFFIX: &str = "__rows";

/// The view that lists the objects of settled members; it can be read like a declared one.
pub(super) use crate::sql::statement::CATALOGUE;

/// Columns of the owner; declared columns have other names.
const MANIFEST: &str = "_manifest";
const MEMBER: &str = "_member";
const DIGEST: &str = "_digest";
pub(super) const OWNER_COLUMNS: [&str; 3] = [MANIFEST, MEMBER, DIGEST];

/// Whose rows a table holds, without the columns of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Member,
    Manifest,
    Key,
}

impl Owner {
    pub(super) fn of(table: &DeclaredTable) -> Self {
        match table.owner {
            TableOwner::Member => Self::Member,
            TableOwner::Manifest => Self::Manifest,
            TableOwner::Key(_) => Self::Key,
        }
    }

    /// The word in the registry of tables.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Manifest => "manifest",
            Self::Key => "key",
        }
    }

    /// Its columns behind the declared ones.
    pub(super) fn columns(self) -> &'static [(&'static str, SqlType)] {
        const MEMBERS: [(&str, SqlType); 3] =
            [(MANIFEST, SqlType::Text), (MEMBER, SqlType::Text), (DIGEST, SqlType::Bytes)];
        const MANIFESTS: [(&str, SqlType); 2] =
            [(MANIFEST, SqlType::Text), (DIGEST, SqlType::Bytes)];
        match self {
            Self::Member => &MEMBERS,
            Self::Manifest => &MANIFESTS,
            Self::Key => &[],
        }
    }

    /// The name of the table that holds the rows of declared table `name`.
    pub(super) fn physical(self, name: &str) -> String {
        match self {
            Self::Member | Self::Manifest => format!("{name}{ROWS_SUFFIX}"),
            Self::Key => name.to_owned(),
        }
    }

    /// The query of the view that is read as declared table `table`, if it is a view.
    pub(super) fn reading(
        self,
        dialect: Dialect,
        pipeline: &PipelineName,
        table: &DeclaredTable,
    ) -> Option<String> {
        let (owner, rest) = match self {
            Self::Key => return None,
            Self::Manifest => (&[MANIFEST][..], all_of_them(dialect).to_owned()),
            Self::Member => (&[MANIFEST, MEMBER][..], accepted(dialect, pipeline)),
        };
        let declared = table.columns.iter().map(|(name, _)| name.as_str());
        let names = declared.chain(owner.iter().copied());
        let columns: Vec<String> = names
            .map(|name| dialect.quote_name(name))
            .map(|name| format!("r.{name} AS {name}"))
            .collect();
        let rows = dialect.quote_name(&self.physical(&table.name));
        Some(format!("SELECT {} FROM {rows} AS r{rest}", columns.join(", ")))
    }
}

/// Postgres lets rows of a view over one table be deleted, and then the registry would lie: a
/// view over two things cannot be changed.
fn all_of_them(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => " CROSS JOIN (SELECT 1) AS read_only",
    }
}

fn accepted(dialect: Dialect, pipeline: &PipelineName) -> String {
    let pipeline = dialect.quote_text(pipeline.as_str());
    format!(
        " JOIN tidemill_member AS m ON m.pipeline = {pipeline} AND m.manifest = r.\"{MANIFEST}\" \
         AND m.member = r.\"{MEMBER}\" AND m.digest = r.\"{DIGEST}\" \
         WHERE m.state IN ('done', 'empty')"
    )
}

/// The table in the database that holds the rows.
pub(super) fn definition(table: &DeclaredTable) -> TableDefinition {
    let owner = Owner::of(table);
    let declared = table
        .columns
        .iter()
        .map(|(name, kind)| ColumnDefinition { name: name.clone(), kind: sql_type(*kind) });
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

/// What makes a declared table, one statement after the other.
pub(super) fn making(dialect: Dialect, table: &DeclaredTable) -> Vec<String> {
    let (owner, wanted) = (Owner::of(table), definition(table));
    let mut statements = vec![dialect.create_table(&wanted)];
    if owner != Owner::Key {
        let name = format!("{}_owner", wanted.name);
        let columns: Vec<&str> = owner.columns().iter().map(|(name, _)| *name).collect();
        statements.push(dialect.create_index(&name, &wanted.name, &columns));
    }
    statements
}

/// The type in definitions of a declared column.
fn sql_type(kind: ColumnType) -> SqlType {
    match kind {
        ColumnType::Text => SqlType::Text,
        ColumnType::Int => SqlType::Int,
        ColumnType::Double => SqlType::Double,
        ColumnType::Bool => SqlType::Bool,
        ColumnType::Date => SqlType::Date,
        ColumnType::Instant => SqlType::Instant,
        ColumnType::Json => SqlType::Json,
    }
}
