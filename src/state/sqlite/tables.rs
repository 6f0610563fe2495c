//! Declared tables as they lie in the database.
//!
//! Responsible for: where rows of a declared table lie and under which columns, what is known of
//! a table or view by its name, and reading its rows.
//!
//! Rows of a member or a manifest lie in `NAME__rows`, with the columns of their owner; the name
//! itself is a view of those that count. Rows of a member count if their digest is the one that
//! was accepted, and the member is done: a dead-lettered attempt has no content, even if one of
//! its sinks was faster than the failure of another. Rows of a manifest were written under the
//! first digest only, so all of them count.
//! Not responsible for: making tables (`declare`), or writing rows (`rows`).

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value};

use crate::model::PipelineName;
use crate::sql::{Dialect, SqlType};
use crate::state::sqlite::database::failed;
use crate::state::sqlite::values;
use crate::state::{DeclaredTable, StateError, TableOwner, TablePage};

pub(super) const DIALECT: Dialect = Dialect::Sqlite;

/// Ends the name of the table behind the view of an owned table.
pub(super) const ROWS_SUFFIX: &str = "__rows";

/// Columns of the owner; declared columns have other names.
pub(super) const MANIFEST: &str = "_manifest";
pub(super) const MEMBER: &str = "_member";
pub(super) const DIGEST: &str = "_digest";
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
    pub(super) fn reading(self, pipeline: &PipelineName, table: &DeclaredTable) -> Option<String> {
        let (owner, condition) = match self {
            Self::Key => return None,
            Self::Manifest => (&[MANIFEST][..], String::new()),
            Self::Member => (&[MANIFEST, MEMBER][..], accepted(pipeline)),
        };
        let declared = table.columns.iter().map(|(name, _)| name.as_str());
        let names = declared.chain(owner.iter().copied());
        let columns: Vec<String> = names
            .map(|name| DIALECT.quote_name(name))
            .map(|name| format!("r.{name} AS {name}"))
            .collect();
        let rows = DIALECT.quote_name(&self.physical(&table.name));
        Some(format!("SELECT {} FROM {rows} AS r{condition}", columns.join(", ")))
    }
}

fn accepted(pipeline: &PipelineName) -> String {
    let pipeline = DIALECT.quote_text(pipeline.as_str());
    format!(
        " JOIN tidemill_member AS m ON m.pipeline = {pipeline} AND m.manifest = r.\"{MANIFEST}\" \
         AND m.member = r.\"{MEMBER}\" AND m.digest = r.\"{DIGEST}\" \
         WHERE m.state IN ('done', 'empty')"
    )
}

/// A declared table that is known here.
pub(super) struct Registered {
    pub(super) pipeline: String,
    /// One of the words of [`Owner::as_str`].
    pub(super) owner: String,
}

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

/// A column that was found in the database.
pub(super) struct Column {
    pub(super) name: String,
    /// Its type, as the definition has it.
    pub(super) type_name: String,
    /// Place in the primary key, from 1; 0 outside of it.
    pub(super) key: u32,
}

impl Column {
    /// Its type, if it is one of ours.
    pub(super) fn kind(&self) -> Option<SqlType> {
        DIALECT.type_of(&self.type_name)
    }
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
        return Err(StateError::Mismatch(format!(
            "no table or view called {name} is declared; topologies declare them under [tables] \
             and [[views]]"
        )));
    }
    let columns = columns(connection, name)?;
    let kinds: Vec<_> = columns.iter().map(Column::kind).collect();
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

/// The view that lists the objects of settled members.
const CATALOGUE: &str = "tidemill_object";

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
