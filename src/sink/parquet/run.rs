//! The objects of one member that are being written.
//!
//! Responsible for: giving each row to the object of its values, numbering parts, and bounding
//! what is open at once, all as a function of the rows and their order alone: neither time nor the
//! memory of the process nor the size of batches decides where one object ends and the next
//! begins.
//! Not responsible for: the border between members (`writer`).
//!
//! Rows are taken in blocks of a fixed number. After each block the size of what is encoded and
//! not yet spooled is a function of the rows so far, so it may decide: beyond the limit the
//! largest object ends its row group, and among too many open objects the one that had no row for
//! the longest time is finished; later rows of its values go to its next part.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use crate::columnar::blocks::Blocks;
use crate::columnar::cell::CellColumn;
use crate::expr::template::BAD_PATH;
use crate::expr::{Template, fields, metadata_of};
use crate::model::{Body, Failure, FailureClass, Fields, Metadata, PipelineName, Record};
use crate::runtime::node::ScopeId;
use crate::sink::parquet::object::{About, FinishedObject, OpenObject};
use crate::sink::parquet::partition::{Share, split};
use crate::sink::parquet::segments::Segments;

/// Rows of a block, and of one call of the encoder.
const BLOCK_ROWS: usize = 8192;
/// Bytes of a block.
const BLOCK_BYTES: usize = 16 << 20;
/// Objects open at once.
const MAX_OPEN: usize = 32;
/// Bytes that open objects may hold in memory together.
const MAX_BUFFERED: usize = 48 << 20;
/// Objects of one input record. Each is an open file until it is uploaded, and processes may
/// have few of those.
pub const MAX_OBJECTS: usize = 256;
/// Longest path of an object in bytes, as S3 has it.
const MAX_PATH: usize = 1024;
/// Longest suffix that a finished object's path gets.
const SUFFIX: usize = 32;
/// Stands in the path for a value that is not there or empty, as Hive writes it.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// What all runs of a sink have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pipeline, which paths may name.
    pub pipeline: PipelineName,
    /// Path of an object.
    pub path: Template,
    /// Bytes that the root puts in front of it.
    pub prefix_bytes: usize,
    /// Columns that the path needs.
    pub columns: Vec<String>,
    /// Columns that are left out of the file.
    pub omit: Vec<String>,
    /// Rows of one object.
    pub object_rows: u64,
    /// How rows are encoded.
    pub properties: WriterProperties,
    /// Where bytes lie until they are uploaded.
    pub segments: Segments,
}

/// What outlives a run, until the input record ends.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Parts so far, by scope and path of the first part.
    parts: HashMap<(ScopeId, String), u32>,
    /// Objects so far.
    created: usize,
}

/// An open object and what it is open for.
struct Slot {
    key: Vec<u8>,
    object: OpenObject,
    /// Number of the last share that it got.
    turn: u64,
}

/// Writes the rows of records that follow each other and belong together.
pub struct Run {
    scope: ScopeId,
    /// The first record, without its body.
    like: Record,
    /// Its fields as they came.
    fields: Fields,
    schema: SchemaRef,
    /// Of each column of the path, its index in the rows.
    path_columns: Vec<usize>,
    /// Indexes of the columns that are written.
    kept: Vec<usize>,
    written: SchemaRef,
    blocks: Blocks,
    open: Vec<Slot>,
    turn: u64,
    finished: Vec<FinishedObject>,
}

impl Run {
    /// A run for records like this one.
    pub fn new(
        plan: &Plan,
        scope: ScopeId,
        record: &Record,
        schema: SchemaRef,
    ) -> Result<Self, Failure> {
        let path_columns = plan
            .columns
            .iter()
            .map(|name| column_index(&schema, name))
            .collect::<Result<_, _>>()?;
        let kept: Vec<usize> = (0..schema.fields().len())
            .filter(|index| !plan.omit.contains(schema.field(*index).name()))
            .collect();
        let written = Arc::new(schema.project(&kept).map_err(|error| encoding(&error))?);
        Ok(Self {
            scope,
            like: Record { body: Body::Empty, ..record.clone() },
            fields: record.fields.clone(),
            schema,
            path_columns,
            kept,
            written,
            blocks: Blocks::new(BLOCK_ROWS, BLOCK_BYTES),
            open: Vec::new(),
            turn: 0,
            finished: Vec::new(),
        })
    }

    /// Whether rows of this record go on where the rows before ended.
    pub fn goes_on(&self, scope: ScopeId, record: &Record, schema: &SchemaRef) -> bool {
        self.scope == scope
            && (Arc::ptr_eq(&self.like.meta, &record.meta) || self.like.meta == record.meta)
            && (Arc::ptr_eq(&self.schema, schema) || self.schema == *schema)
            && self.fields == record.fields
    }

    /// Whose rows it writes.
    pub fn scope(&self) -> ScopeId {
        self.scope
    }

    /// Adds rows.
    pub fn push(
        &mut self,
        plan: &Plan,
        ledger: &mut Ledger,
        rows: &RecordBatch,
    ) -> Result<(), Failure> {
        for block in self.blocks.push(rows).map_err(|error| encoding(&error))? {
            self.write_block(plan, ledger, &block)?;
        }
        Ok(())
    }

    /// Ends the run; returns its objects in the order in which they ended.
    pub fn close(
        mut self,
        plan: &Plan,
        ledger: &mut Ledger,
    ) -> Result<Vec<FinishedObject>, Failure> {
        if let Some(block) = self.blocks.take().map_err(|error| encoding(&error))? {
            self.write_block(plan, ledger, &block)?;
        }
        while !self.open.is_empty() {
            self.finish(0)?;
        }
        Ok(self.finished)
    }

    fn write_block(
        &mut self,
        plan: &Plan,
        ledger: &mut Ledger,
        block: &RecordBatch,
    ) -> Result<(), Failure> {
        let columns: Option<Vec<CellColumn<'_>>> =
            self.path_columns.iter().map(|index| CellColumn::of(block.column(*index))).collect();
        let columns = columns.ok_or_else(|| {
            let names = plan.columns.join(", ");
            Failure::poison(BAD_PATH, format!("a path cannot be made of the columns {names}"))
        })?;
        let slim = block.project(&self.kept).map_err(|error| encoding(&error))?;
        for share in split(block.num_rows(), &columns) {
            let rows = share.of(&slim).map_err(|error| encoding(&error))?;
            self.write_share(plan, ledger, &columns, &share, rows)?;
        }
        self.keep_within_memory()
    }

    fn write_share(
        &mut self,
        plan: &Plan,
        ledger: &mut Ledger,
        columns: &[CellColumn<'_>],
        share: &Share,
        mut rows: RecordBatch,
    ) -> Result<(), Failure> {
        while rows.num_rows() > 0 {
            let index = match self.open.iter().position(|slot| slot.key == share.key) {
                Some(index) => index,
                None => self.open_object(plan, ledger, columns, share)?,
            };
            self.turn += 1;
            let slot = &mut self.open[index];
            slot.turn = self.turn;
            let room = plan.object_rows.max(1).saturating_sub(slot.object.rows());
            let now = rows.num_rows().min(usize::try_from(room).unwrap_or(usize::MAX));
            slot.object.write(&rows.slice(0, now))?;
            if slot.object.rows() >= plan.object_rows.max(1) {
                self.finish(index)?;
            }
            rows = rows.slice(now, rows.num_rows() - now);
        }
        Ok(())
    }

    fn open_object(
        &mut self,
        plan: &Plan,
        ledger: &mut Ledger,
        columns: &[CellColumn<'_>],
        share: &Share,
    ) -> Result<usize, Failure> {
        if ledger.created >= MAX_OBJECTS {
            let why = format!(
                "the rows fall into more than {MAX_OBJECTS} objects, cut them by columns with \
                 fewer values or make objects larger"
            );
            return Err(Failure::poison(FailureClass::TOO_LARGE, why));
        }
        if self.open.len() >= MAX_OPEN {
            let oldest = (0..self.open.len()).min_by_key(|index| self.open[*index].turn);
            self.finish(oldest.unwrap_or(0))?;
        }
        let cells: Vec<_> = columns.iter().map(|column| column.cell(share.first())).collect();
        let texts: Vec<String> = cells
            .iter()
            .map(|cell| cell.text().filter(|text| !text.is_empty()))
            .map(|text| text.unwrap_or_else(|| NO_VALUE.to_owned()))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let first = self.path(plan, &texts, 0)?;
        let next = ledger.parts.entry((self.scope, first.clone())).or_insert(0);
        let part = *next;
        *next += 1;
        let path = if part == 0 { first.clone() } else { self.path(plan, &texts, part)? };
        let values = plan.columns.iter().cloned().zip(cells.iter().map(|cell| cell.json()));
        let about = About {
            path,
            schema: self.like.meta.schema.clone(),
            columns: values.collect::<Map<String, Value>>(),
        };
        let identity = identity(&self.like, &first, part);
        let (schema, properties) = (self.written.clone(), plan.properties.clone());
        let object =
            OpenObject::create(about, &identity, schema, properties, plan.segments.clone())?;
        ledger.created += 1;
        self.open.push(Slot { key: share.key.clone(), object, turn: self.turn });
        Ok(self.open.len() - 1)
    }

    /// The path of a part, without its digest.
    fn path(&mut self, plan: &Plan, texts: &[&str], part: u32) -> Result<String, Failure> {
        let meta = Metadata { part: Some(part), ..(*self.like.meta).clone() };
        let plain = std::mem::replace(&mut self.like.meta, Arc::new(meta));
        let metadata = metadata_of(&self.like, &plan.pipeline);
        self.like.meta = plain;
        let bound = plan.path.bind(fields::into_tree(&mut self.like)?, &metadata)?;
        let path = bound.render(texts)?;
        let bytes = plan.prefix_bytes + path.len();
        if bytes + SUFFIX > MAX_PATH {
            let why = format!("the path of an object has {bytes} bytes, {MAX_PATH} at most");
            return Err(Failure::poison(BAD_PATH, why));
        }
        object_store::path::Path::parse(&path)
            .map_err(|error| Failure::poison(BAD_PATH, error.to_string()))?;
        Ok(path)
    }

    fn finish(&mut self, index: usize) -> Result<(), Failure> {
        let slot = self.open.remove(index);
        self.finished.push(slot.object.finish()?);
        Ok(())
    }

    fn keep_within_memory(&mut self) -> Result<(), Failure> {
        let mut sizes: Vec<usize> = self.open.iter().map(|slot| slot.object.buffered()).collect();
        while sizes.iter().sum::<usize>() > MAX_BUFFERED {
            let Some(largest) = (0..sizes.len()).rev().max_by_key(|index| sizes[*index]) else {
                break;
            };
            self.open[largest].object.end_row_group()?;
            sizes[largest] = 0;
        }
        Ok(())
    }
}

fn column_index(schema: &SchemaRef, name: &str) -> Result<usize, Failure> {
    schema.index_of(name).map_err(|_| {
        let why = format!("the rows have no column {name}, which the path of the object names");
        Failure::poison(BAD_PATH, why)
    })
}

/// What tells objects apart whose rows are equal: whose they are, and which part.
fn identity(like: &Record, path: &str, part: u32) -> Vec<u8> {
    let mut identity = Vec::new();
    let mut add = |bytes: &[u8]| {
        identity.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        identity.extend_from_slice(bytes);
    };
    let meta = &like.meta;
    if meta.manifest.is_some() || meta.member.is_some() {
        add(meta.manifest.as_ref().map_or("", |key| key.as_str()).as_bytes());
        add(meta.member.as_ref().map_or("", |id| id.as_str()).as_bytes());
    } else {
        let origin = like.source.origin();
        add(origin.topic.as_str().as_bytes());
        add(&origin.partition.0.to_le_bytes());
        add(&like.source.offset().0.to_le_bytes());
    }
    // Objects of another digest of the member are retired, so they must not be the same objects
    // even where their rows are.
    add(meta.digest.as_ref().map_or(&[][..], |digest| digest.as_bytes().as_slice()));
    add(meta.schema.as_deref().unwrap_or_default().as_bytes());
    add(path.as_bytes());
    add(&part.to_le_bytes());
    identity
}

fn encoding(error: &ArrowError) -> Failure {
    Failure::poison(FailureClass::REJECTED, format!("rows cannot be cut into objects: {error}"))
}
