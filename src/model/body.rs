//! What a record carries beside its fields.
//!
//! Responsible for: bytes, blobs (slices of a spooled file) and columns (an Arrow batch), and
//! reading a blob any number of times, in parallel, without moving its file's cursor.
//! Not responsible for: making the spooled file, or its disk budget (`spool`).

use std::any::Any;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use super::identity::Digest;

/// The body of a record.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing but fields.
    #[default]
    Empty,
    /// Bytes in memory, within a batch's byte budget.
    Bytes(Bytes),
    /// A slice of a file on disk.
    Blob(Blob),
    /// Typed columns.
    Columns(Columns),
}

/// Typed rows of one member.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The rows.
    pub rows: RecordBatch,
}

/// An anonymous file that several blobs share. The last of them frees it, and with it the disk
/// permit (`lease`) that was taken for it.
pub struct SpooledFile {
    file: File,
    /// Held for its `Drop`: gives the file's bytes back to the disk budget.
    _lease: Box<dyn Any + Send + Sync>,
}

impl SpooledFile {
    /// Wraps a file that has no name any more, with what has to be given back when it goes.
    pub fn new(file: File, lease: Box<dyn Any + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { file, _lease: lease })
    }
}

/// A slice of a spooled file: read any number of times, in parallel.
#[derive(Clone)]
pub struct Blob {
    file: Arc<SpooledFile>,
    start: u64,
    len: u64,
    digest: Option<Digest>,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("start", &self.start).field("len", &self.len).finish()
    }
}

impl Blob {
    /// `len` bytes of `file` from `start` on.
    pub fn new(file: Arc<SpooledFile>, start: u64, len: u64) -> Self {
        Self { file, start, len, digest: None }
    }

    /// The same slice with the hash of its content, computed while it was written.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Hash of the content, where the writer computed one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A reader from the start of the slice; readers do not disturb each other.
    pub fn open(&self) -> BlobReader {
        self.open_at(0)
    }

    /// A reader from `offset` of the slice on; behind its end there is nothing.
    pub fn open_at(&self, offset: u64) -> BlobReader {
        BlobReader { blob: self.clone(), at: offset.min(self.len) }
    }
}

/// Reads a [`Blob`] from start to end.
pub struct BlobReader {
    blob: Blob,
    at: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.len - self.at;
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let read = self.blob.file.file.read_at(&mut buffer[..want], self.blob.start + self.at)?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the spooled file ends before the slice does",
            ));
        }
        self.at += read as u64;
        Ok(read)
    }
}
