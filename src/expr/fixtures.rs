//! Records for the tests of programs and of the nodes that run them.
//!
//! Responsible for: one source record with every kind of metadata, with fields as given.
//! Not responsible for: batches, obligations or anything that needs a stage.

use std::sync::Arc;

use bytes::Bytes;

use crate::expr::fields;
use crate::model::{
    Epoch, Fields, Headers, LogRecord, Metadata, Offset, Record, SourceBatch, SourceRef,
    TopicPartition,
};

/// A record at `orders[3]`, offset 42, with the header `service: hccm`, whose fields are the
/// unparsed `json`.
pub(crate) fn record(json: &str) -> Record {
    let headers = vec![("service".to_owned(), Bytes::from_static(b"hccm"))];
    record_with(json, Some(b"k-1"), headers)
}

/// The same with another key and other headers.
pub(crate) fn record_with(json: &str, key: Option<&'static [u8]>, headers: Headers) -> Record {
    let value = Bytes::copy_from_slice(json.as_bytes());
    let log = LogRecord {
        offset: Offset(42),
        timestamp: Some(1_700_000_000_123),
        key: key.map(Bytes::from_static),
        value: Some(value.clone()),
        headers,
    };
    let origin = TopicPartition::new("orders", 3);
    let batch = SourceBatch { origin, epoch: Epoch(1), records: vec![log] };
    let source = SourceRef::new(Arc::new(batch), 0);
    Record::from_source(source, Arc::new(Metadata::default()), Fields::Raw(value))
}

/// The fields as JSON, whatever form they have.
pub(crate) fn fields_of(record: &Record) -> String {
    String::from_utf8_lossy(&fields::raw(record)).into_owned()
}
