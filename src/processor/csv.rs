//! `type = "csv"`: delimited text to typed columns.
//!
//! Responsible for: reading a record's body as CSV, emitting its rows as columns on the port of
//! the schema that fits, and the rows that were left out, for people to look at.
//! Not responsible for: reading itself (`columnar`), or what becomes of a file that fits no
//! schema: that is a failure of its record.

use std::io::Read;
use std::sync::Arc;

use bytes::Buf;
use vrl::value::{ObjectMap, Value};

use crate::columnar::plan;
use crate::columnar::rows::RowError;
use crate::columnar::{CsvPlan, CsvReader, CsvSettings, Inspected, PlanError, ReadError, Step};
use crate::model::{Body, Columns, Failure, FailureClass, Fields, Metadata, Record};
use crate::processor::config::{ColumnKind, Csv, CsvSchema, Derived, DerivedFrom, LongRows};
use crate::runtime::node::{Emit, Port, Transform};

/// The node. Ports: one per schema in their order, then `rejected`.
///
/// Rows that were mended as a whole (fields filled in or cut off) leave through `rejected` too,
/// with `kept` set: they are in the columns, and worth a look.
pub struct CsvNode {
    plan: Arc<CsvPlan>,
    names: Vec<Arc<str>>,
    rejected: Port,
    rejected_connected: bool,
}

impl CsvNode {
    /// A node with these settings. Rows to look at are only put together if somebody reads them.
    ///
    /// # Errors
    /// Settings that contradict themselves.
    pub fn new(config: &Csv, rejected_connected: bool) -> Result<Self, PlanError> {
        let plan = Arc::new(CsvPlan::new(settings(config))?);
        let names = plan.settings().schemas.iter().map(|schema| schema.name.clone()).collect();
        let rejected = port(config.schemas.len());
        Ok(Self { plan, names, rejected, rejected_connected })
    }

    fn inspected(&self, row: Inspected, like: &Record, meta: &Arc<Metadata>) -> Record {
        let mut fields = ObjectMap::new();
        let line = i64::try_from(row.line).unwrap_or(i64::MAX);
        fields.insert("line".into(), Value::from(line));
        fields.insert("reason".into(), Value::from(row.reason));
        fields.insert("kept".into(), Value::from(row.kept));
        fields.insert("text".into(), Value::from(row.text));
        let fields = Fields::Tree(Value::Object(fields));
        Record { source: like.source.clone(), meta: meta.clone(), fields, body: Body::Empty }
    }
}

impl Transform for CsvNode {
    fn apply(&mut self, mut record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        let input = text_of(std::mem::take(&mut record.body))?;
        let opened = CsvReader::open(&self.plan, input, self.rejected_connected);
        let Some(mut reader) = opened.map_err(failure)? else { return Ok(()) };
        let schema = reader.layout().schema;
        let name = self.names.get(schema).cloned();
        let meta = Arc::new(Metadata { schema: name, ..(*record.meta).clone() });
        loop {
            let step = reader.step().map_err(failure)?;
            out.progress();
            for row in reader.take_inspected() {
                out.emit(self.rejected, self.inspected(row, &record, &meta))?;
            }
            match step {
                Step::Batch(rows) => {
                    let body = Body::Columns(Columns { rows });
                    let (source, fields) = (record.source.clone(), record.fields.clone());
                    out.emit(port(schema), Record { source, meta: meta.clone(), fields, body })?;
                }
                Step::Going => {}
                Step::End => break,
            }
        }
        out.note(reader.facts());
        Ok(())
    }
}

/// The body as a stream of bytes.
fn text_of(body: Body) -> Result<Box<dyn Read>, Failure> {
    match body {
        Body::Blob(blob) => Ok(Box::new(blob.open())),
        Body::Bytes(bytes) => Ok(Box::new(bytes.reader())),
        Body::Empty | Body::Columns(_) => Err(Failure::poison(
            FailureClass::UNDECODABLE,
            "there is no text in the record's body, read csv behind a node that yields files",
        )),
    }
}

fn failure(error: ReadError) -> Failure {
    let why = error.to_string();
    match error {
        ReadError::Row(RowError::Io(_)) => Failure::unavailable(why),
        ReadError::Row(RowError::TooLarge { .. }) | ReadError::TooManyColumns { .. } => {
            Failure::poison(FailureClass::TOO_LARGE, why)
        }
        ReadError::Unmatched { .. } => Failure::poison(FailureClass::UNMATCHED, why),
        ReadError::Batch(_) => Failure::poison(FailureClass::UNDECODABLE, why),
    }
}

fn port(index: usize) -> Port {
    Port(u8::try_from(index).unwrap_or(u8::MAX))
}

fn settings(config: &Csv) -> CsvSettings {
    CsvSettings {
        schemas: config.schemas.iter().map(schema).collect(),
        delimiter: config.delimiter,
        cut_long_rows: config.long_rows == LongRows::Cut,
        bad_double: config.bad_double,
        instant_format: config.instant_format.clone(),
        derive: config.derive.iter().map(derived).collect(),
        batch_rows: config.batch_rows,
        max_row_bytes: config.max_row_bytes,
    }
}

fn schema(config: &CsvSchema) -> plan::Schema {
    let columns = config.columns.iter().map(|column| plan::Column {
        name: column.name.clone(),
        kind: match column.kind {
            ColumnKind::Text => plan::Kind::Text,
            ColumnKind::Double => plan::Kind::Double,
            ColumnKind::Instant => plan::Kind::Instant,
        },
    });
    let bound = config
        .drop_row
        .as_ref()
        .map(|bound| plan::Bound { above: bound.above, columns: bound.columns.clone() });
    plan::Schema { name: config.name.as_str().into(), columns: columns.collect(), bound }
}

fn derived(config: &Derived) -> plan::Derived {
    let from = match &config.from {
        DerivedFrom::Date { column } => plan::Derivation::Date { column: column.clone() },
        DerivedFrom::Format { column, format } => {
            plan::Derivation::Format { column: column.clone(), format: format.clone() }
        }
    };
    plan::Derived { name: config.name.clone(), from }
}

#[cfg(test)]
mod tests;
