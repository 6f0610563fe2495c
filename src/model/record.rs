//! Records: what flows between nodes.
//!
//! Responsible for: the record as it lies in the log, the record as nodes see it, and the link
//! from the second back to the first, which a dead letter needs.
//! Not responsible for: the duty to settle it (`progress::obligation::Owed` pairs the two).

use std::sync::Arc;

use bytes::Bytes;

use super::body::Body;
use super::coordinates::{Epoch, Offset, TopicPartition};
use super::identity::{Digest, ManifestKey, MemberId, NodeName};
use super::letter::Replay;

/// Headers in the order in which they were produced; names may repeat.
pub type Headers = Vec<(String, Bytes)>;

/// A record as it lies in the log, whatever the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Position from which it is read.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch, as the broker or the producer stamped it.
    pub timestamp: Option<i64>,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl LogRecord {
    /// Bytes it takes in a buffer: key, value and headers.
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers
    }
}

/// Records that were taken from one partition together, in offset order.
#[derive(Debug)]
pub struct SourceBatch {
    /// Where they come from.
    pub origin: TopicPartition,
    /// The assignment under which they were read.
    pub epoch: Epoch,
    /// The records themselves, unchanged.
    pub records: Vec<LogRecord>,
}

/// One record of a [`SourceBatch`]: keeps the original bytes reachable for as long as anything
/// made from them is in flight, without an allocation per record.
#[derive(Clone, Debug)]
pub struct SourceRef {
    batch: Arc<SourceBatch>,
    index: u32,
}

impl SourceRef {
    /// Points at record number `index` of `batch`.
    ///
    /// # Panics
    /// If the batch has no such record: the reference would be meaningless.
    pub fn new(batch: Arc<SourceBatch>, index: u32) -> Self {
        assert!((index as usize) < batch.records.len(), "no record {index} in the batch");
        Self { batch, index }
    }

    /// The original record.
    pub fn record(&self) -> &LogRecord {
        &self.batch.records[self.index as usize]
    }

    /// The partition it was read from.
    pub fn origin(&self) -> &TopicPartition {
        &self.batch.origin
    }

    /// The epoch under which it was read.
    pub fn epoch(&self) -> Epoch {
        self.batch.epoch
    }

    /// Its offset.
    pub fn offset(&self) -> Offset {
        self.record().offset
    }
}

/// What a record is part of, set by the nodes it came through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Manifest it belongs to (`%manifest`).
    pub manifest: Option<ManifestKey>,
    /// Member of that manifest (`%member`).
    pub member: Option<MemberId>,
    /// What makes two attempts at the member the same.
    pub digest: Option<Digest>,
    /// Declared schema that its columns fit (`%schema`).
    pub schema: Option<Arc<str>>,
    /// Number of the part within its member and schema (`%part`).
    pub part: Option<u32>,
    /// Node of the source that it came from.
    pub source: Option<NodeName>,
    /// The dead letter that it replays.
    pub replay: Option<Arc<Replay>>,
}

/// The fields of a record: a JSON-like object.
///
/// Bytes move between threads, parsed trees do not: a stage parses on the worker that uses the
/// fields and writes them back to bytes at its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Fields {
    /// JSON that nobody has parsed yet.
    Raw(Bytes),
    /// A parsed tree, on the worker that uses it.
    Tree(vrl::value::Value),
}

/// A record as nodes see it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The record of the source that this one was made from.
    pub source: SourceRef,
    /// What it is part of. Children share their parent's.
    pub meta: Arc<Metadata>,
    /// Its fields; children inherit them.
    pub fields: Fields,
    /// What it carries beside its fields.
    pub body: Body,
}

impl Record {
    /// The record as a source hands it out: no manifest yet, fields as given.
    pub fn from_source(source: SourceRef, meta: Arc<Metadata>, fields: Fields) -> Self {
        Self { source, meta, fields, body: Body::Empty }
    }

    /// Key of the source record.
    pub fn key(&self) -> Option<&Bytes> {
        self.source.record().key.as_ref()
    }
}
