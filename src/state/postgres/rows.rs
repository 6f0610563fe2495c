//! Rows of members and manifests.
//!
//! Responsible for: writing rows once. The registry is asked first, in the transaction of the
//! rows: two replicas that write the same rows at once wait for each other there, and the second
//! finds them written.
//! Not responsible for: under which key, or what fits a column (`table_rows`).

use std::borrow::Cow;
use std::pin::pin;

use bytes::{BufMut, BytesMut};
use futures_util::future::try_join3;
use jiff::civil::Date;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error};

use crate::sql::SqlType;
use crate::state::cells::Cell;
use crate::state::layout::Owner;
use crate::state::postgres::errors::{is_of_value, message};
use crate::state::postgres::nul;
use crate::state::postgres::pool::Pool;
use crate::state::postgres::tables::{COLUMNS, DIALECT, REGISTERED, column, registered_row};
use crate::state::table_rows::{self, Batch};
use crate::state::{StateError, TableRows, refusals};

const REGISTER: &str = "INSERT INTO tidemill_row_registry \
     (declared_table, sink, manifest, member, digest) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT DO NOTHING";

/// What the server counts days and microseconds from.
const SERVER_EPOCH: Date = Date::constant(2000, 1, 1);
const SERVER_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
/// The version of the binary form of a JSON document.
const JSONB_VERSION: u8 = 1;

/// Writes rows, unless they were written before; false then.
pub(super) async fn write(pool: &Pool, rows: &TableRows) -> Result<bool, StateError> {
    let owner = table_rows::owner_of(rows);
    let cannot = |error: Error| failed(pool, rows, &error);
    let mut client = pool.get().await?;
    let prepared = async {
        Ok::<_, Error>((
            client.prepare_cached(REGISTERED).await?,
            client.prepare_cached(COLUMNS).await?,
            client.prepare_cached(REGISTER).await?,
        ))
    };
    let (registered, columns, register) = prepared.await.map_err(cannot)?;
    let transaction = client.transaction().await.map_err(cannot)?;
    let (table, physical) = (rows.table.as_str(), owner.physical(&rows.table));
    let (member, digest) = table_rows::registry_key(rows);
    let (sink, manifest) = (rows.sink.as_str(), rows.manifest.as_str());
    let (known, found, is_new) = try_join3(
        transaction.query_opt(&registered, &[&table]),
        transaction.query(&columns, &[&physical]),
        transaction.execute(&register, &[&table, &sink, &manifest, &member, &digest]),
    )
    .await
    .map_err(cannot)?;
    let known = known.as_ref().map(registered_row).transpose().map_err(cannot)?;
    table_rows::check(rows, known.as_ref())?;
    if is_new == 0 {
        return Ok(false);
    }
    let found = found.iter().map(column).collect::<Result<Vec<_>, Error>>().map_err(cannot)?;
    let columns = table_rows::declared_columns(DIALECT, rows, found)?;
    if rows.rows.iter().any(|batch| batch.num_rows() > 0) {
        copy(pool, transaction.client(), rows, &columns, owner).await?;
    }
    transaction.commit().await.map_err(cannot)?;
    Ok(true)
}

fn failed(pool: &Pool, rows: &TableRows, error: &Error) -> StateError {
    if is_of_value(error) {
        return refusals::rows(rows, &message(error));
    }
    pool.failed(&format!("write rows of {}", rows.table), error)
}

/// Sends the rows; the server checks them as they come.
async fn copy(
    pool: &Pool,
    client: &Client,
    rows: &TableRows,
    columns: &[(String, SqlType)],
    owner: Owner,
) -> Result<(), StateError> {
    let cannot = |error: Error| failed(pool, rows, &error);
    let declared = columns.iter().map(|(name, kind)| (name.as_str(), *kind));
    let (names, kinds): (Vec<&str>, Vec<SqlType>) =
        declared.chain(owner.columns().iter().copied()).unzip();
    let types: Vec<Type> = kinds.into_iter().map(type_of).collect();
    let (table, names) =
        (DIALECT.quote_name(&owner.physical(&rows.table)), DIALECT.name_list(names));
    let statement = format!("COPY {table} ({names}) FROM STDIN (FORMAT binary)");
    let sink = client.copy_in(&statement).await.map_err(cannot)?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let mut replaced = 0_usize;
    for batch in &rows.rows {
        let batch = Batch::new(rows, columns, batch)?;
        for row in 0..batch.count {
            let mut cells = Vec::with_capacity(types.len());
            for cell in batch.row(row) {
                cells.push(Copied::Cell(storable(cell?, &mut replaced)));
            }
            push_owner(&mut cells, rows);
            writer.as_mut().write_raw(cells.iter()).await.map_err(cannot)?;
        }
    }
    writer.as_mut().finish().await.map_err(cannot)?;
    if replaced > 0 {
        let TableRows { table, manifest, sink, .. } = rows;
        tracing::warn!(
            table, %manifest, %sink, replaced, "values had NUL characters, which were replaced"
        );
    }
    Ok(())
}

fn type_of(kind: SqlType) -> Type {
    match kind {
        SqlType::Text => Type::TEXT,
        SqlType::Int => Type::INT8,
        SqlType::Double => Type::FLOAT8,
        SqlType::Bool => Type::BOOL,
        SqlType::Date => Type::DATE,
        SqlType::Instant => Type::TIMESTAMPTZ,
        SqlType::Json => Type::JSONB,
        SqlType::Bytes => Type::BYTEA,
    }
}

/// The cell without NUL characters; counts it if it had any.
fn storable<'a>(cell: Cell<'a>, replaced: &mut usize) -> Cell<'a> {
    let owned = |text: Cow<'_, str>| match text {
        Cow::Owned(text) => Some(Cow::Owned(text)),
        Cow::Borrowed(_) => None,
    };
    let mended = match &cell {
        Cell::Text(text) => owned(nul::without(text)).map(Cell::Text),
        Cell::Json(text) => owned(nul::without_escaped(text)).map(Cell::Json),
        _ => None,
    };
    match mended {
        Some(mended) => {
            *replaced += 1;
            mended
        }
        None => cell,
    }
}

/// A value in the binary form of COPY.
#[derive(Debug)]
enum Copied<'a> {
    Cell(Cell<'a>),
    Bytes(&'a [u8]),
}

/// The columns of the owner, in their order.
fn push_owner<'a>(cells: &mut Vec<Copied<'a>>, rows: &'a TableRows) {
    cells.push(Copied::Cell(Cell::Text(Cow::Borrowed(rows.manifest.as_str()))));
    if let Some(member) = &rows.member {
        cells.push(Copied::Cell(Cell::Text(Cow::Borrowed(member.as_str()))));
    }
    cells.push(Copied::Bytes(rows.digest.as_bytes()));
}

impl ToSql for Copied<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Cell(Cell::Null) => return Ok(IsNull::Yes),
            Self::Cell(Cell::Text(text)) => out.put_slice(text.as_bytes()),
            Self::Cell(Cell::Int(number)) => out.put_i64(*number),
            Self::Cell(Cell::Double(number)) => out.put_f64(*number),
            Self::Cell(Cell::Bool(value)) => out.put_u8(u8::from(*value)),
            Self::Cell(Cell::Date(day)) => out.put_i32(day.since(SERVER_EPOCH)?.get_days()),
            Self::Cell(Cell::Instant(at)) => {
                out.put_i64(at.as_microsecond() - SERVER_EPOCH_MICROSECONDS);
            }
            Self::Cell(Cell::Json(text)) => {
                out.put_u8(JSONB_VERSION);
                out.put_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    /// A cell is made for the type of its column.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(cell: Cell<'_>) -> Vec<u8> {
        let mut out = BytesMut::new();
        assert!(matches!(Copied::Cell(cell).to_sql(&Type::TEXT, &mut out), Ok(IsNull::No)));
        out.to_vec()
    }

    #[test]
    fn days_and_instants_count_from_the_servers_epoch() {
        let day = |text: &str| copied(Cell::Date(text.parse().unwrap()));
        assert_eq!(day("2000-01-01"), 0_i32.to_be_bytes());
        assert_eq!(day("1999-12-31"), (-1_i32).to_be_bytes());
        assert_eq!(day("2025-03-10"), 9_200_i32.to_be_bytes());
        let at = |text: &str| copied(Cell::Instant(text.parse().unwrap()));
        assert_eq!(at("2000-01-01T00:00:00.001Z"), 1_000_i64.to_be_bytes());
        assert_eq!(at("1999-12-31T23:59:59Z"), (-1_000_000_i64).to_be_bytes());
    }

    #[test]
    fn nul_characters_are_replaced_and_counted() {
        let mut replaced = 0;
        let text = |text| Cell::Text(Cow::Borrowed(text));
        assert_eq!(storable(text("a\0"), &mut replaced), text("a\u{FFFD}"));
        assert_eq!(storable(text("a"), &mut replaced), text("a"));
        let document = Cell::Json(Cow::Borrowed("[\"\\u0000\"]"));
        let wanted = Cell::Json(Cow::Borrowed("[\"\u{FFFD}\"]"));
        assert_eq!(storable(document, &mut replaced), wanted);
        assert_eq!(replaced, 2);
    }
}
