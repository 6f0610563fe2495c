//! CSV to Parquet as one would write it for this file alone.
//!
//! Responsible for: the baseline: one loop over `csv-core`, a builder per column, `ArrowWriter`
//! on a file that is renamed when it is durable.
//! Not responsible for: anything that the engine needs and one job does not: digests, budgets,
//! progress, schemas to choose from.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::str::from_utf8;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Builder, Float64Array, StringArray, TimestampMillisecondBuilder,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use csv_core::ReadRecordResult;
use jiff::fmt::strtime;
use parquet::arrow::ArrowWriter;
use tidemill::processor::config::ColumnKind;
use tidemill::sink::parquet::object::properties;

use crate::harness::Tried;
use crate::rows::csv::{ABOVE, BATCH_ROWS, COLUMNS, DAY, DAY_OF, GROUP_ROWS, INSTANT, is_bounded};

const READ_BYTES: usize = 256 << 10;
const DAY_MILLIS: i64 = 86_400_000;

/// Converts the file; returns the rows in the object.
pub fn convert(report: &Path, object: &Path) -> Tried<u64> {
    let unfinished = object.with_extension("unfinished");
    let properties = properties(1, GROUP_ROWS)?;
    let mut rows = Rows::open(report)?;
    rows.advance()?;
    let mut batch = Batch::new();
    let file = File::create(&unfinished)?;
    let mut writer = ArrowWriter::try_new(file, batch.schema.clone(), Some(properties))?;
    let mut written = 0;
    while rows.advance()? {
        if !batch.push(&rows) {
            continue;
        }
        written += 1;
        if batch.rows == BATCH_ROWS {
            writer.write(&batch.finish()?)?;
        }
    }
    if batch.rows > 0 {
        writer.write(&batch.finish()?)?;
    }
    writer.into_inner()?.sync_all()?;
    fs::rename(&unfinished, object)?;
    let folder = object.parent().ok_or("an object lies in a folder")?;
    File::open(folder)?.sync_all()?;
    Ok(written)
}

/// Splits the file into rows.
struct Rows {
    file: File,
    parser: csv_core::Reader,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    text: Vec<u8>,
    ends: Vec<usize>,
    /// Fields of the current row.
    fields: usize,
}

impl Rows {
    fn open(path: &Path) -> Tried<Self> {
        Ok(Self {
            file: File::open(path)?,
            parser: csv_core::Reader::new(),
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            text: vec![0; 16 << 10],
            ends: vec![0; 64],
            fields: 0,
        })
    }

    /// Reads the next row; false at the end.
    fn advance(&mut self) -> Tried<bool> {
        let mut bytes = 0;
        self.fields = 0;
        loop {
            if self.start == self.end {
                (self.start, self.end) = (0, self.file.read(&mut self.buffer)?);
            }
            let (result, read, written, ended) = self.parser.read_record(
                &self.buffer[self.start..self.end],
                &mut self.text[bytes..],
                &mut self.ends[self.fields..],
            );
            self.start += read;
            bytes += written;
            self.fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => return Ok(true),
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    /// A field of the current row; one that is not there is empty.
    fn field(&self, index: usize) -> &[u8] {
        if index >= self.fields {
            return &[];
        }
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }
}

/// Values of one column.
enum Column {
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Double { values: Vec<f64>, bounded: bool },
    Instant { values: TimestampMillisecondBuilder, last: Vec<u8>, millis: Option<i64> },
}

/// Values of one batch.
struct Batch {
    schema: SchemaRef,
    columns: Vec<Column>,
    days: Date32Builder,
    day_of: usize,
    /// The doubles of the current row.
    doubles: Vec<f64>,
    rows: usize,
}

impl Batch {
    fn new() -> Self {
        let fields = COLUMNS.iter().map(|(name, kind)| match kind {
            ColumnKind::Text => Field::new(*name, DataType::Utf8, false),
            ColumnKind::Double => Field::new(*name, DataType::Float64, false),
            ColumnKind::Instant => {
                let kind = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
                Field::new(*name, kind, true)
            }
        });
        let day = Field::new(DAY, DataType::Date32, true);
        let fields: Vec<Field> = fields.chain([day]).collect();
        let columns = COLUMNS.iter().map(|column| match column.1 {
            ColumnKind::Text => Column::Text { bytes: Vec::new(), ends: vec![0] },
            ColumnKind::Double => {
                Column::Double { values: Vec::new(), bounded: is_bounded(column) }
            }
            ColumnKind::Instant => {
                Column::Instant { values: instants(), last: Vec::new(), millis: None }
            }
        });
        Self {
            schema: Arc::new(Schema::new(fields)),
            columns: columns.collect(),
            days: Date32Builder::with_capacity(BATCH_ROWS),
            day_of: COLUMNS.iter().position(|(name, _)| *name == DAY_OF).unwrap_or(0),
            doubles: Vec::new(),
            rows: 0,
        }
    }

    /// Adds the current row, unless a policy leaves it out.
    fn push(&mut self, rows: &Rows) -> bool {
        if rows.fields > COLUMNS.len() {
            return false;
        }
        self.doubles.clear();
        for (index, column) in self.columns.iter().enumerate() {
            if let Column::Double { bounded, .. } = column {
                let value = double(rows.field(index));
                if *bounded && value > ABOVE {
                    return false;
                }
                self.doubles.push(value);
            }
        }
        let mut doubles = self.doubles.iter();
        for (index, column) in self.columns.iter_mut().enumerate() {
            let field = rows.field(index);
            match column {
                Column::Text { bytes, ends } => {
                    bytes.extend_from_slice(field);
                    ends.push(bytes.len() as i32);
                }
                Column::Double { values, .. } => values.extend(doubles.next()),
                Column::Instant { values, last, millis } => {
                    if field != last.as_slice() {
                        *millis = instant(field);
                        last.clear();
                        last.extend_from_slice(field);
                    }
                    values.append_option(*millis);
                    if index == self.day_of {
                        let day = millis.map(|millis| millis.div_euclid(DAY_MILLIS) as i32);
                        self.days.append_option(day);
                    }
                }
            }
        }
        self.rows += 1;
        true
    }

    fn finish(&mut self) -> Tried<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len() + 1);
        for column in &mut self.columns {
            arrays.push(match column {
                Column::Text { bytes, ends } => Arc::new(texts(bytes, ends)?),
                Column::Double { values, .. } => {
                    let next = Vec::with_capacity(BATCH_ROWS);
                    Arc::new(Float64Array::from(std::mem::replace(values, next)))
                }
                Column::Instant { values, .. } => {
                    Arc::new(std::mem::replace(values, instants()).finish())
                }
            });
        }
        arrays.push(Arc::new(self.days.finish()));
        self.rows = 0;
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

fn instants() -> TimestampMillisecondBuilder {
    TimestampMillisecondBuilder::with_capacity(BATCH_ROWS).with_timezone("UTC")
}

/// A text column; bytes that are no UTF-8 are replaced.
fn texts(bytes: &mut Vec<u8>, ends: &mut Vec<i32>) -> Tried<StringArray> {
    let room = bytes.len();
    let bytes = std::mem::replace(bytes, Vec::with_capacity(room));
    let ends = std::mem::replace(ends, vec![0]);
    if bytes.is_ascii() {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        return Ok(StringArray::try_new(offsets, Buffer::from_vec(bytes), None)?);
    }
    let fields = ends.windows(2).map(|ends| &bytes[ends[0] as usize..ends[1] as usize]);
    Ok(StringArray::from_iter_values(fields.map(String::from_utf8_lossy)))
}

/// A double; what is none counts as zero.
fn double(field: &[u8]) -> f64 {
    let text = from_utf8(field).map_or("", str::trim);
    let value = text.parse::<f64>().unwrap_or_default();
    if value.is_nan() { 0.0 } else { value }
}

fn instant(field: &[u8]) -> Option<i64> {
    let text = from_utf8(field).ok()?.trim();
    let time = strtime::parse(INSTANT, text).ok()?;
    Some(time.to_timestamp().ok()?.as_millisecond())
}
