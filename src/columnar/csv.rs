//! A CSV file as typed batches.
//!
//! Responsible for: header, schema, batches, and a bounded collection of the rows that a person
//! may want to look at.
//! Not responsible for: who reads the batches, or what an unmatched file means to them.

use std::io::Read;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columnar::batch::{BatchBuilder, Verdict};
use crate::columnar::layout::{Layout, MAX_COLUMNS};
use crate::columnar::plan::CsvPlan;
use crate::columnar::rows::{Row, RowError, RowReader};
use crate::model::event::MemberFacts;

/// Rows kept for inspection per file; further ones are counted only.
pub const MAX_INSPECTED: usize = 1000;
/// Bytes kept of each of them.
pub const MAX_INSPECTED_BYTES: usize = 4 << 10;
/// Rows read in one step, so that a file of nothing but bad rows still shows progress.
const STEP_ROWS: usize = 64 << 10;
/// Bytes of column names in an error text, and characters of each.
const MAX_NAMED_BYTES: usize = 1000;
const MAX_NAME_CHARS: usize = 100;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its bytes cannot be had, or a row is too large.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Its header has too many columns.
    #[error("the header has {columns} columns, at most {limit} are read", limit = MAX_COLUMNS)]
    TooManyColumns {
        /// Number of columns.
        columns: usize,
    },
    /// Its columns fit no schema.
    #[error("no declared schema fits the columns {columns}")]
    Unmatched {
        /// Names of the columns, shortened.
        columns: String,
    },
    /// A batch cannot be put together, which is a fault of the reader.
    #[error("building a batch of columns failed: {0}")]
    Batch(#[from] ArrowError),
}

/// A row that was left out or mended as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Line in which it begins, from 1.
    pub line: u64,
    /// What is the matter with it.
    pub reason: &'static str,
    /// Whether it is in the batches nevertheless.
    pub kept: bool,
    /// Its text, shortened.
    pub text: String,
}

/// What reading on led to.
#[derive(Debug)]
pub enum Step {
    /// A batch, which has at least one row.
    Batch(RecordBatch),
    /// Rows were read, none of which fills a batch yet.
    Going,
    /// The file is at its end.
    End,
}

/// Reads one file.
pub struct CsvReader<R> {
    rows: RowReader<R>,
    batch: BatchBuilder,
    delimiter: u8,
    /// Whether rows are kept for inspection, and those that nobody has taken yet.
    inspect: bool,
    inspected: Vec<Inspected>,
    inspected_count: usize,
    ended: bool,
}

impl<R: Read> CsvReader<R> {
    /// Reads the header of `input`; `None` if there is nothing in it. With `inspect`, rows that
    /// are left out or mended as a whole are kept for [`CsvReader::take_inspected`].
    pub fn open(plan: &Arc<CsvPlan>, input: R, inspect: bool) -> Result<Option<Self>, ReadError> {
        let settings = plan.settings();
        let delimiter = settings.delimiter;
        let mut rows = RowReader::new(input, delimiter, settings.max_row_bytes);
        let Some(row) = rows.next_row()? else { return Ok(None) };
        if row.len() > MAX_COLUMNS {
            return Err(ReadError::TooManyColumns { columns: row.len() });
        }
        let header: Vec<String> =
            row.fields().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let layout = Layout::of(settings, &header)
            .ok_or_else(|| ReadError::Unmatched { columns: named(&header) })?;
        let batch = BatchBuilder::new(plan.clone(), layout)?;
        let inspected = Vec::new();
        let (inspected_count, ended) = (0, false);
        Ok(Some(Self { rows, batch, delimiter, inspect, inspected, inspected_count, ended }))
    }

    /// The columns of the file and the schema that fits them.
    pub fn layout(&self) -> &Layout {
        self.batch.layout()
    }

    /// Reads on until a batch is full, or many rows led to none.
    pub fn step(&mut self) -> Result<Step, ReadError> {
        let mut read = 0;
        while !self.ended && !self.batch.is_full() && read < STEP_ROWS {
            let Some(row) = self.rows.next_row()? else {
                self.ended = true;
                break;
            };
            read += 1;
            let (reason, kept) = match self.batch.push(row) {
                Verdict::Kept => continue,
                Verdict::Mended(reason) => (reason, true),
                Verdict::Rejected(reason) => (reason, false),
            };
            if self.inspect && self.inspected_count < MAX_INSPECTED {
                self.inspected_count += 1;
                let text = text_of(row, self.delimiter);
                self.inspected.push(Inspected { line: row.line, reason, kept, text });
            }
        }
        if self.batch.rows() > 0 && (self.ended || self.batch.is_full()) {
            return Ok(Step::Batch(self.batch.finish()?));
        }
        Ok(if self.ended { Step::End } else { Step::Going })
    }

    /// The rows to look at since the last call.
    pub fn take_inspected(&mut self) -> Vec<Inspected> {
        std::mem::take(&mut self.inspected)
    }

    /// What was left out and mended, complete at the end of the file.
    pub fn facts(&self) -> MemberFacts {
        self.batch.facts()
    }
}

/// The row as text again, quoted where it has to be.
fn text_of(row: Row<'_>, delimiter: u8) -> String {
    let mut text = Vec::new();
    for (index, field) in row.fields().enumerate() {
        if text.len() > MAX_INSPECTED_BYTES {
            break;
        }
        if index > 0 {
            text.push(delimiter);
        }
        let field = &field[..field.len().min(MAX_INSPECTED_BYTES)];
        if field.iter().any(|byte| [delimiter, b'"', b'\r', b'\n'].contains(byte)) {
            text.push(b'"');
            for byte in field {
                if *byte == b'"' {
                    text.push(b'"');
                }
                text.push(*byte);
            }
            text.push(b'"');
        } else {
            text.extend_from_slice(field);
        }
    }
    text.truncate(MAX_INSPECTED_BYTES);
    String::from_utf8_lossy(&text).into_owned()
}

fn named(header: &[String]) -> String {
    let mut names = String::new();
    for (index, name) in header.iter().enumerate() {
        if names.len() > MAX_NAMED_BYTES {
            names.push_str(&format!(" and {} more", header.len() - index));
            break;
        }
        if index > 0 {
            names.push_str(", ");
        }
        names.extend(name.chars().take(MAX_NAME_CHARS));
    }
    names
}

#[cfg(test)]
mod tests;
