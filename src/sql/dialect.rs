//! What the engine itself writes, in the dialect of a store.
//!
//! Responsible for: quoting, the types that stand for portable ones, and definitions of tables,
//! indexes and views. A definition names the portable type, so that a table can be compared with
//! what a topology declares without any other source: SQLite takes the type of a column from the
//! words it finds in it (`BOOLEAN INTEGER` stores integers), and passes the name on to views.
//! Postgres has a type of its own for each, and calls it by the name that is written here.
//! Not responsible for: which tables and columns there are (`state`).

/// Type of a column, as definitions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlType {
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
    /// Point in time, UTC, in milliseconds.
    Instant,
    /// JSON document.
    Json,
    /// Bytes; the engine's own columns only.
    Bytes,
}

impl SqlType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Text,
        Self::Int,
        Self::Double,
        Self::Bool,
        Self::Date,
        Self::Instant,
        Self::Json,
        Self::Bytes,
    ];

    /// The word that topologies use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Double => "double",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::Instant => "instant",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }
}

/// A column of a table to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: SqlType,
}

/// A table to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<ColumnDefinition>,
    /// Columns of its primary key, which hold no nulls; empty if it has none.
    pub key: Vec<String>,
}

/// How a database writes SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// A name in quotes.
    pub fn quote_name(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// A string in quotes.
    pub fn quote_text(self, text: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("'{}'", text.replace('\'', "''")),
        }
    }

    /// The name of a type in definitions.
    pub fn type_name(self, kind: SqlType) -> &'static str {
        match self {
            Self::Sqlite => match kind {
                SqlType::Text => "TEXT",
                SqlType::Int => "INTEGER",
                SqlType::Double => "REAL",
                SqlType::Bool => "BOOLEAN INTEGER",
                SqlType::Date => "DATE TEXT",
                SqlType::Instant => "INSTANT TEXT",
                SqlType::Json => "JSON TEXT",
                SqlType::Bytes => "BLOB",
            },
            Self::Postgres => match kind {
                SqlType::Text => "text",
                SqlType::Int => "bigint",
                SqlType::Double => "double precision",
                SqlType::Bool => "boolean",
                SqlType::Date => "date",
                SqlType::Instant => "timestamp with time zone",
                SqlType::Json => "jsonb",
                SqlType::Bytes => "bytea",
            },
        }
    }

    /// The type that a name found in the database stands for, if it is one of ours.
    pub fn type_of(self, name: &str) -> Option<SqlType> {
        SqlType::ALL.into_iter().find(|kind| self.type_name(*kind).eq_ignore_ascii_case(name))
    }

    /// Names in quotes, with commas between them.
    pub fn name_list<'a>(self, names: impl IntoIterator<Item = &'a str>) -> String {
        let quoted: Vec<String> = names.into_iter().map(|name| self.quote_name(name)).collect();
        quoted.join(", ")
    }

    /// Makes a table.
    pub fn create_table(self, table: &TableDefinition) -> String {
        let mut parts: Vec<String> =
            table.columns.iter().map(|column| self.column(table, column)).collect();
        if !table.key.is_empty() {
            let key = self.name_list(table.key.iter().map(String::as_str));
            parts.push(format!("PRIMARY KEY ({key})"));
        }
        let name = self.quote_name(&table.name);
        let suffix = match self {
            // Without this, SQLite would number rows whose only key is an integer.
            Self::Sqlite if !table.key.is_empty() => " WITHOUT ROWID",
            Self::Sqlite | Self::Postgres => "",
        };
        format!("CREATE TABLE {name} ({}){suffix}", parts.join(", "))
    }

    fn column(self, table: &TableDefinition, column: &ColumnDefinition) -> String {
        let not_null = if table.key.contains(&column.name) { " NOT NULL" } else { "" };
        let name = self.quote_name(&column.name);
        format!("{name} {}{not_null}", self.type_name(column.kind))
    }

    /// Makes an index over columns of a table.
    pub fn create_index(self, name: &str, table: &str, columns: &[&str]) -> String {
        let columns = self.name_list(columns.iter().copied());
        let (name, table) = (self.quote_name(name), self.quote_name(table));
        format!("CREATE INDEX {name} ON {table} ({columns})")
    }

    /// Makes a view.
    pub fn create_view(self, name: &str, query: &str) -> String {
        format!("CREATE VIEW {} AS {query}", self.quote_name(name))
    }

    /// Removes a view.
    pub fn drop_view(self, name: &str) -> String {
        format!("DROP VIEW {}", self.quote_name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{ColumnDefinition, Dialect, SqlType, TableDefinition};

    #[test]
    fn every_type_is_found_again_by_its_name() {
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            for kind in SqlType::ALL {
                assert_eq!(dialect.type_of(dialect.type_name(kind)), Some(kind));
            }
            assert_eq!(dialect.type_of("VARCHAR(10)"), None);
        }
    }

    #[test]
    fn a_keyed_table_has_no_nulls_in_its_key() {
        let column = |name: &str, kind| ColumnDefinition { name: name.to_owned(), kind };
        let table = TableDefinition {
            name: "odd \"name\"".to_owned(),
            columns: vec![column("id", SqlType::Int), column("on", SqlType::Date)],
            key: vec!["id".to_owned()],
        };
        assert_eq!(
            Dialect::Sqlite.create_table(&table),
            "CREATE TABLE \"odd \"\"name\"\"\" (\"id\" INTEGER NOT NULL, \"on\" DATE TEXT, \
             PRIMARY KEY (\"id\")) WITHOUT ROWID"
        );
        assert_eq!(
            Dialect::Postgres.create_table(&table),
            "CREATE TABLE \"odd \"\"name\"\"\" (\"id\" bigint NOT NULL, \"on\" date, \
             PRIMARY KEY (\"id\"))"
        );
    }

    #[test]
    fn text_is_quoted_with_its_quotes_doubled() {
        assert_eq!(Dialect::Sqlite.quote_text("it's"), "'it''s'");
    }
}
