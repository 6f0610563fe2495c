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
#[derive(Debug)]
pub struct SourceRef {
    batch: Arc<SourceBatch>,
    index: u32,
}

impl Clone for SourceRef {
    fn clone(&self) -> Self {
        Self { batch: self.batch.clone(), index: self.index }
    }

    /// Counts the batch only if it is another one.
    fn clone_from(&mut self, other: &Self) {
        if !Arc::ptr_eq(&self.batch, &other.batch) {
            self.batch = other.batch.clone();
        }
        self.index = other.index;
    }
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

    /// The record as it lies in the log: its fields are the bytes of the value.
    pub fn as_read(source: SourceRef, meta: Arc<Metadata>) -> Self {
        let value = source.record().value.clone().unwrap_or_default();
        Self::from_source(source, meta, Fields::Raw(value))
    }

    /// Whether it is what [`Record::as_read`] makes of its source and what it is part of. Compares
    /// where the bytes lie, so it costs the same whatever their number.
    pub fn is_as_read(&self) -> bool {
        let (Fields::Raw(fields), Body::Empty) = (&self.fields, &self.body) else { return false };
        match &self.source.record().value {
            Some(value) => fields.as_ptr_range() == value.as_ptr_range(),
            None => fields.is_empty(),
        }
    }

    /// Key of the source record.
    pub fn key(&self) -> Option<&Bytes> {
        self.source.record().key.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(value: Option<Bytes>) -> Arc<SourceBatch> {
        let record =
            LogRecord { offset: Offset(7), timestamp: None, key: None, value, headers: Vec::new() };
        let records = vec![record.clone(), record];
        Arc::new(SourceBatch { origin: TopicPartition::new("orders", 0), epoch: Epoch(1), records })
    }

    fn as_read(value: Option<Bytes>) -> Record {
        Record::as_read(SourceRef::new(batch(value), 0), Arc::default())
    }

    #[test]
    fn a_record_is_as_it_was_read_until_somebody_changes_it() {
        let values = [Some(Bytes::from(vec![1, 2, 3])), Some(Bytes::new()), None];
        assert!(values.map(as_read).iter().all(Record::is_as_read));
        let read = as_read(Some(Bytes::from(vec![1, 2, 3])));
        assert!(read.is_as_read());

        let equal = Fields::Raw(Bytes::from(vec![1, 2, 3]));
        assert!(!Record { fields: equal, ..read.clone() }.is_as_read());
        let shorter = Fields::Raw(read.source.record().value.as_ref().unwrap().slice(..2));
        assert!(!Record { fields: shorter, ..read.clone() }.is_as_read());
        let tree = Fields::Tree(vrl::value::Value::Null);
        assert!(!Record { fields: tree, ..read.clone() }.is_as_read());
        let body = Body::Bytes(Bytes::new());
        assert!(!Record { body, ..read }.is_as_read());
    }

    #[test]
    fn a_reference_that_moves_within_its_batch_counts_nothing() {
        let (one, other) = (batch(None), batch(None));
        let mut reference = SourceRef::new(one.clone(), 0);
        let within = SourceRef::new(one.clone(), 1);
        reference.clone_from(&within);
        assert_eq!((reference.index, Arc::strong_count(&one)), (1, 3));
        reference.clone_from(&SourceRef::new(other.clone(), 0));
        assert_eq!((reference.index, Arc::strong_count(&one)), (0, 2));
        assert!(Arc::ptr_eq(&reference.batch, &other));
    }
}
