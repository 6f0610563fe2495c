//! One Parquet object, from its first row to its name.
//!
//! Responsible for: encoding rows with settings that make equal rows equal bytes, and the digest
//! in the object's name.
//! Not responsible for: which rows belong into it (`run`), or uploading it (`upload`).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Map, Value};

use crate::model::{Failure, FailureClass};
use crate::sink::parquet::segments::{Content, SegmentWriter, Segments, Trouble};

/// Written into every object instead of a version, which would change its bytes.
const CREATED_BY: &str = "tidemill";
/// What an encoder of one column holds beside the bytes that it reports: a compressor, and
/// positions that are not packed yet.
const COLUMN_BYTES: usize = 128 << 10;

/// How rows are encoded.
///
/// # Errors
/// A compression level that zstd does not have.
pub fn properties(zstd: i32, row_group_rows: usize) -> Result<WriterProperties, ParquetError> {
    Ok(WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd)?))
        .set_max_row_group_row_count(Some(row_group_rows.max(1)))
        .set_dictionary_enabled(true)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build())
}

/// What an object is about.
#[derive(Clone, Debug)]
pub struct About {
    /// Its path below the root, without the digest.
    pub path: String,
    /// Declared schema of its rows.
    pub schema: Option<Arc<str>>,
    /// Values of the path's columns.
    pub columns: Map<String, Value>,
}

/// An object that takes rows.
pub struct OpenObject {
    about: About,
    encoder: ArrowWriter<SegmentWriter>,
    trouble: Trouble,
    /// Number of columns in the file.
    width: usize,
    rows: u64,
}

/// An object that only has to be uploaded.
#[derive(Clone, Debug)]
pub struct FinishedObject {
    /// Its path below the root; the digest of its content is part of the name.
    pub path: String,
    /// Its bytes.
    pub content: Content,
    /// Rows in it.
    pub rows: u64,
    /// Declared schema of its rows.
    pub schema: Option<Arc<str>>,
    /// Values of the path's columns.
    pub columns: Map<String, Value>,
}

impl OpenObject {
    /// An object without rows. `identity` says whose it is.
    pub fn create(
        about: About,
        identity: &[u8],
        schema: SchemaRef,
        properties: WriterProperties,
        segments: Segments,
    ) -> Result<Self, Failure> {
        let width = schema.fields().len();
        let writer = SegmentWriter::new(segments, identity);
        let trouble = writer.trouble();
        let encoder = ArrowWriter::try_new(writer, schema, Some(properties))
            .map_err(|error| failure(&trouble, &error))?;
        Ok(Self { about, encoder, trouble, width, rows: 0 })
    }

    /// Rows in it so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        self.encoder.write(rows).map_err(|error| failure(&self.trouble, &error))?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Bytes of memory that rows in it take, as a function of those rows alone.
    pub fn buffered(&self) -> usize {
        if self.encoder.in_progress_rows() == 0 {
            return 0;
        }
        self.encoder.in_progress_size() + self.width * COLUMN_BYTES
    }

    /// Ends its row group, which frees the memory.
    pub fn end_row_group(&mut self) -> Result<(), Failure> {
        self.encoder.flush().map_err(|error| failure(&self.trouble, &error))
    }

    /// Ends it, and gives it its name.
    pub fn finish(self) -> Result<FinishedObject, Failure> {
        let Self { about, encoder, trouble, rows, .. } = self;
        let writer = encoder.into_inner().map_err(|error| failure(&trouble, &error))?;
        let (content, digest) = writer.finish();
        let path = with_digest(&about.path, &digest);
        Ok(FinishedObject { path, content, rows, schema: about.schema, columns: about.columns })
    }
}

/// The encoder passes errors of the disk on as words, so the writer is asked first.
fn failure(trouble: &Trouble, error: &ParquetError) -> Failure {
    trouble.get().cloned().unwrap_or_else(|| {
        let why = format!("rows cannot be encoded as parquet: {error}");
        Failure::poison(FailureClass::REJECTED, why)
    })
}

/// Puts the digest in front of the extension of the last component.
fn with_digest(path: &str, digest: &str) -> String {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name..].rfind('.') {
        Some(dot) if dot > 0 => {
            let (stem, extension) = path.split_at(name + dot);
            format!("{stem}-{digest}{extension}")
        }
        _ => format!("{path}-{digest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_stands_in_front_of_the_extension() {
        let table = [
            ("a/b.parquet", "a/b-00ff.parquet"),
            ("a.b/c", "a.b/c-00ff"),
            ("m-x.csv-0.parquet", "m-x.csv-0-00ff.parquet"),
            ("a/.hidden", "a/.hidden-00ff"),
        ];
        for (path, named) in table {
            assert_eq!(with_digest(path, "00ff"), named);
        }
    }

    #[test]
    fn a_level_that_zstd_does_not_have_is_refused() {
        assert!(properties(1, 1000).is_ok());
        assert!(properties(100, 1000).is_err());
    }
}
