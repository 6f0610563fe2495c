//! Declared tables as Postgres knows them.
//!
//! Responsible for: what is known of a table or view by its name, its columns, and reading its
//! rows as JSON.
//! Not responsible for: how tables are laid out (`layout`), making them (`declare`), or writing
//! rows (`rows`).

use serde_json::{Map, Number, Value};
use tokio_postgres::{Client, Error, Row};

use crate::sql::Dialect;
use crate::state::comparison::{Column, Registered};
use crate::state::layout::CATALOGUE;
use crate::state::postgres::pool::Pool;
use crate::state::postgres::values::{Fault, field};
use crate::state::{StateError, TablePage, refusals};

pub(super) const DIALECT: Dialect = Dialect::Postgres;

pub(super) const REGISTERED: &str = "SELECT pipeline, owner FROM tidemill_table WHERE name = $1";

/// Columns of a table or view of our schema, with their places in the primary key.
pub(super) const COLUMNS: &str = "SELECT CAST(a.attname AS text), \
     format_type(a.atttypid, a.atttypmod), \
     coalesce(array_position(k.conkey, a.attnum), 0) \
     FROM pg_catalog.pg_class AS c \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 \
     AND NOT a.attisdropped \
     LEFT JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'p' \
     WHERE n.nspname = current_schema() AND c.relname = CAST($1 AS name) ORDER BY a.attnum";

const NAMES: &str = "SELECT name FROM (SELECT name FROM tidemill_table \
     UNION SELECT name FROM tidemill_view UNION SELECT 'tidemill_object') AS known \
     ORDER BY name COLLATE \"C\"";

const IS_DECLARED: &str = "SELECT EXISTS (SELECT 1 FROM tidemill_table WHERE name = $1 \
     UNION ALL SELECT 1 FROM tidemill_view WHERE name = $1)";

/// What is known of a declared table.
pub(super) async fn registered(client: &Client, name: &str) -> Result<Option<Registered>, Error> {
    client.query_opt(REGISTERED, &[&name]).await?.as_ref().map(registered_row).transpose()
}

/// A row that [`REGISTERED`] finds.
pub(super) fn registered_row(row: &Row) -> Result<Registered, Error> {
    Ok(Registered { pipeline: row.try_get(0)?, owner: row.try_get(1)? })
}

/// The columns of a table or view, in order; none if there is no such thing.
pub(super) async fn columns(client: &Client, name: &str) -> Result<Vec<Column>, Error> {
    client.query(COLUMNS, &[&name]).await?.iter().map(column).collect()
}

/// A row that [`COLUMNS`] finds.
pub(super) fn column(row: &Row) -> Result<Column, Error> {
    let key: i32 = row.try_get(2)?;
    Ok(Column { name: row.try_get(0)?, type_name: row.try_get(1)?, key: key.cast_unsigned() })
}

/// How a column is selected, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Int,
    Double,
    Bool,
    Json,
    /// A number of any size, as text.
    Numeric,
    Text,
}

/// The expression that selects a column of that type.
fn expression(column: &Column) -> (String, Reading) {
    let name = DIALECT.quote_name(&column.name);
    let cast = |kind: &str| format!("CAST({name} AS {kind})");
    match column.type_name.as_str() {
        "bigint" | "integer" | "smallint" => (cast("bigint"), Reading::Int),
        "double precision" | "real" => (cast("double precision"), Reading::Double),
        "boolean" => (name, Reading::Bool),
        "json" | "jsonb" => (cast("text"), Reading::Json),
        "bytea" => (format!("encode({name}, 'hex')"), Reading::Text),
        "timestamp with time zone" => {
            let format = "'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'";
            (format!("to_char({name} AT TIME ZONE 'UTC', {format})"), Reading::Text)
        }
        kind if kind.starts_with("numeric") => (cast("text"), Reading::Numeric),
        _ => (cast("text"), Reading::Text),
    }
}

fn json(row: &Row, index: usize, reading: Reading) -> Result<Value, Fault> {
    let float = |number: f64| Number::from_f64(number).map(Value::Number);
    let value = match reading {
        Reading::Int => field::<Option<i64>>(row, index)?.map(Value::from),
        Reading::Double => field::<Option<f64>>(row, index)?.and_then(float),
        Reading::Bool => field::<Option<bool>>(row, index)?.map(Value::from),
        Reading::Json => match field::<Option<&str>>(row, index)? {
            Some(text) => Some(serde_json::from_str(text)?),
            None => None,
        },
        Reading::Numeric => field::<Option<&str>>(row, index)?.map(numeric),
        Reading::Text => field::<Option<&str>>(row, index)?.map(Value::from),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// An integer where it is one; a text where no number of JSON is near.
fn numeric(text: &str) -> Value {
    let float = || text.parse().ok().and_then(Number::from_f64).map(Value::Number);
    let int = text.parse::<i64>().ok().map(Value::from);
    int.or_else(float).unwrap_or_else(|| Value::from(text))
}

/// The first rows of a declared table or view; with a limit of 0 all of them.
pub(super) async fn read(pool: &Pool, name: &str, limit: u32) -> Result<TablePage, StateError> {
    let client = pool.get().await?;
    let cannot = |error: Error| pool.failed(&format!("read {name}"), &error);
    if !is_declared(&client, name).await.map_err(cannot)? {
        return Err(refusals::undeclared(name));
    }
    let columns = columns(&client, name).await.map_err(cannot)?;
    let (expressions, readings): (Vec<String>, Vec<Reading>) =
        columns.iter().map(expression).unzip();
    let (list, table) = (expressions.join(", "), DIALECT.quote_name(name));
    let query = format!("SELECT {list} FROM {table} LIMIT $1");
    let limit = (limit > 0).then_some(i64::from(limit));
    let rows = client.query(&query, &[&limit]).await.map_err(cannot)?;
    let objects = rows.iter().map(|row| object(row, &columns, &readings));
    let objects = objects.collect::<Result<_, Fault>>();
    let rows = objects.map_err(|fault| pool.corrupt(&format!("read {name}"), fault.as_ref()))?;
    Ok(TablePage { columns: columns.into_iter().map(|column| column.name).collect(), rows })
}

fn object(
    row: &Row,
    columns: &[Column],
    readings: &[Reading],
) -> Result<Map<String, Value>, Fault> {
    let mut object = Map::with_capacity(columns.len());
    for (index, (column, reading)) in columns.iter().zip(readings).enumerate() {
        object.insert(column.name.clone(), json(row, index, *reading)?);
    }
    Ok(object)
}

/// The names under which something can be read.
pub(super) async fn names(pool: &Pool) -> Result<Vec<String>, StateError> {
    let client = pool.get().await?;
    let read = async {
        let rows = client.query(NAMES, &[]).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, Error>>()
    };
    read.await.map_err(|error| pool.failed("list its tables", &error))
}

/// Whether it may be read by name: what topologies declare, and the catalogue of objects.
async fn is_declared(client: &Client, name: &str) -> Result<bool, Error> {
    if name == CATALOGUE {
        return Ok(true);
    }
    client.query_one(IS_DECLARED, &[&name]).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_selected_as_what_json_has() {
        let of = |type_name: &str| {
            let column =
                Column { name: "a\"b".to_owned(), type_name: type_name.to_owned(), key: 0 };
            expression(&column)
        };
        let name = "\"a\"\"b\"";
        let table = [
            ("smallint", format!("CAST({name} AS bigint)"), Reading::Int),
            ("boolean", name.to_owned(), Reading::Bool),
            ("jsonb", format!("CAST({name} AS text)"), Reading::Json),
            ("numeric(10,2)", format!("CAST({name} AS text)"), Reading::Numeric),
            ("bytea", format!("encode({name}, 'hex')"), Reading::Text),
            ("date", format!("CAST({name} AS text)"), Reading::Text),
            ("integer[]", format!("CAST({name} AS text)"), Reading::Text),
        ];
        for (type_name, wanted, reading) in table {
            assert_eq!(of(type_name), (wanted, reading), "{type_name}");
        }
    }

    #[test]
    fn numbers_of_any_size_are_json() {
        let table = [
            ("12", json!(12)),
            ("-0.5", json!(-0.5)),
            ("12.00", json!(12.0)),
            ("1e400", json!("1e400")),
            ("NaN", json!("NaN")),
        ];
        for (text, wanted) in table {
            assert_eq!(numeric(text), wanted);
        }
    }
}
