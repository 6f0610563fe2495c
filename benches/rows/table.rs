//! Rows into a declared table in Postgres.
//!
//! Responsible for: the rows of one member after the other through the store's interface, against
//! binary COPY by hand on one connection into the same table, without the registry that has rows
//! written once.
//! Not responsible for: making the rows (`csv`): both sides read the same batches of columns.
//!
//! Each batch is a transaction of its own on both sides.

use std::pin::pin;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, Date32Array, Float64Array, StringArray};
use arrow::datatypes::{DataType, Date32Type, Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tidemill::model::{Digest, ManifestKey, MemberId, PipelineName};
use tidemill::state::{
    self, ColumnType, Declarations, DeclaredTable, PipelineIdentity, StateStore, TableOwner,
};
use tokio_postgres::Client;

use crate::harness::needs::Need;
use crate::harness::pipeline::runtime;
use crate::harness::postgres::Database;
use crate::harness::process::{Meter, Sample};
use crate::harness::records::Random;
use crate::harness::{About, Row, Setting, Side, Tried, Unit};

/// Batches of one run; each holds the rows of a member.
const BATCHES: u64 = 100;
/// Rows of a batch, as the CSV node makes them.
const ROWS: usize = 8_192;
/// Different batches.
const DISTINCT: u64 = 8;
/// Bytes that are sent at once by hand.
const PIECE: usize = 64 << 10;

/// The declared table.
const TABLE: &str = "pod_usage";
/// Where the store keeps its rows, with whose they are behind the declared columns.
const PHYSICAL: &str = "pod_usage__rows";
const OWNER: [&str; 3] = ["_manifest", "_member", "_digest"];
const COLUMNS: [(&str, ColumnType); 8] = [
    ("usage_date", ColumnType::Date),
    ("namespace", ColumnType::Text),
    ("node", ColumnType::Text),
    ("pod", ColumnType::Text),
    ("pod_labels", ColumnType::Text),
    ("cpu_core_seconds", ColumnType::Double),
    ("memory_byte_seconds", ColumnType::Double),
    ("capacity_core_seconds", ColumnType::Double),
];

/// The manifest of all members.
const MANIFEST: &str = "3e1f6af5-e156-4863-a7a2-8dd7858f596d";
const DIGEST: [u8; 16] = [7; 16];

/// What begins a binary COPY: the signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it: a row of -1 fields.
const TAIL: i16 = -1;
/// Days from the epoch of Unix to that of Postgres.
const EPOCH: i32 = 10_957;

/// The row.
pub struct TableRows;

impl Row for TableRows {
    fn about(&self) -> About {
        About {
            name: "rows-postgres".to_owned(),
            path: "rows of members into a declared table in Postgres; binary COPY by hand",
            goal: "≥ 0.7",
            unit: Unit::PerSecond("rows"),
            needs: Some(Need::Postgres),
        }
    }

    fn run(&self, side: Side, setting: &Setting, _fixture: &str) -> Tried<Sample> {
        let count = setting.scaled(BATCHES).max(1);
        runtime()?.block_on(write(side, count, setting))
    }
}

async fn write(side: Side, count: u64, setting: &Setting) -> Tried<Sample> {
    let database = Database::create(setting).await?;
    let store = database.store().await?;
    let identity = PipelineIdentity {
        pipeline: PipelineName::from("bench"),
        group: "bench".into(),
        shards: 1,
    };
    let declared = Declarations { tables: vec![table()], ..Declarations::default() };
    store.prepare(&identity, &declared).await?;
    let batches = (0..DISTINCT).map(batch).collect::<Tried<Vec<_>>>()?;
    let rows = count * ROWS as u64;
    let client = database.connect().await?;
    let meter = Meter::start()?;
    for (number, batch) in (0..count).zip(batches.iter().cycle()) {
        let member = format!("openshift_report.{number:03}.csv");
        match side {
            Side::Engine => through_the_store(&*store, &member, batch).await?,
            Side::Baseline => copy(&client, &member, batch).await?,
        }
    }
    let sample = meter.stop(rows, 0)?;
    // A fast store that writes nothing is easy to build: the rows have to be there.
    let query = format!("SELECT count(*), count(DISTINCT _member) FROM {PHYSICAL}");
    let counted = client.query_one(&query, &[]).await?;
    let found: (i64, i64) = (counted.try_get(0)?, counted.try_get(1)?);
    let wanted = (i64::try_from(rows)?, i64::try_from(count)?);
    if found != wanted {
        return Err(format!("rows and members are {found:?}, not {wanted:?}").into());
    }
    database.remove().await?;
    Ok(sample)
}

fn table() -> DeclaredTable {
    let columns = COLUMNS.iter().map(|(name, kind)| ((*name).to_owned(), *kind));
    let columns = columns.collect();
    DeclaredTable { name: TABLE.to_owned(), owner: TableOwner::Member, columns }
}

async fn through_the_store(store: &dyn StateStore, member: &str, batch: &RecordBatch) -> Tried {
    let rows = state::TableRows {
        table: TABLE.to_owned(),
        manifest: ManifestKey::from(MANIFEST),
        member: Some(MemberId::from(member)),
        digest: Digest::from_bytes(DIGEST),
        sink: "table".into(),
        rows: vec![batch.clone()],
    };
    if store.write_rows(rows).await? { Ok(()) } else { Err("rows were there before".into()) }
}

async fn copy(client: &Client, member: &str, batch: &RecordBatch) -> Tried {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).chain(OWNER).collect();
    let statement = format!("COPY {PHYSICAL} ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let mut sink = pin!(client.copy_in::<_, Bytes>(&statement).await?);
    let columns: Vec<Column<'_>> =
        batch.columns().iter().map(|one| Column::of(one.as_ref())).collect();
    let mut piece = BytesMut::with_capacity(PIECE + PIECE / 4);
    piece.put_slice(HEAD);
    for row in 0..batch.num_rows() {
        piece.put_i16(names.len() as i16);
        columns.iter().for_each(|column| column.put(row, &mut piece));
        for owner in [MANIFEST.as_bytes(), member.as_bytes(), &DIGEST] {
            put(owner, &mut piece);
        }
        if piece.len() >= PIECE {
            sink.send(piece.split().freeze()).await?;
            piece.reserve(PIECE + PIECE / 4);
        }
    }
    piece.put_i16(TAIL);
    sink.send(piece.freeze()).await?;
    sink.as_mut().finish().await?;
    Ok(())
}

/// A column, downcast once.
enum Column<'a> {
    Text(&'a StringArray),
    Double(&'a Float64Array),
    Date(&'a Date32Array),
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Self {
        match array.data_type() {
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>()),
            _ => Self::Text(array.as_string::<i32>()),
        }
    }

    fn put(&self, row: usize, piece: &mut BytesMut) {
        match self {
            Self::Text(values) => put(values.value(row).as_bytes(), piece),
            Self::Double(values) => put(&values.value(row).to_be_bytes(), piece),
            Self::Date(values) => put(&(values.value(row) - EPOCH).to_be_bytes(), piece),
        }
    }
}

fn put(field: &[u8], piece: &mut BytesMut) {
    piece.put_i32(field.len() as i32);
    piece.put_slice(field);
}

/// Batch number `number`: about 200 bytes a row in the table.
fn batch(number: u64) -> Tried<RecordBatch> {
    let mut random = Random::new(number);
    let fields = COLUMNS.iter().map(|(name, kind)| {
        let kind = match kind {
            ColumnType::Date => DataType::Date32,
            ColumnType::Double => DataType::Float64,
            _ => DataType::Utf8,
        };
        Field::new(*name, kind, false)
    });
    let fields: Vec<Field> = fields.collect();
    let columns = fields.iter().map(|field| column(field, &mut random)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn column(field: &Field, random: &mut Random) -> ArrayRef {
    let rows = 0..ROWS;
    match field.data_type() {
        DataType::Date32 => {
            Arc::new(Date32Array::from_iter_values(rows.map(|row| 20_160 + row as i32 / 512)))
        }
        DataType::Float64 => {
            let values = rows.map(|_| random.below(100_000_000) as f64 / 100.0);
            Arc::new(Float64Array::from_iter_values(values))
        }
        _ => {
            let name = field.name();
            let values = rows.map(|_| format!("{name}-{:08x}", random.below(20_000)));
            Arc::new(StringArray::from_iter_values(values))
        }
    }
}
