//! The metadata of a record, as programs and templates see it behind `%`.
//!
//! Responsible for: names and types of the metadata, and building only what a program reads.
//! Not responsible for: metadata of places without a record (`%outcome` of receipts, `%match` of
//! the ingress), which their owners build.

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use bytes::Bytes;
use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix};
use vrl::value::{ObjectMap, Value};

use crate::model::{PipelineName, Record};

type Read = fn(&Record, &PipelineName) -> Value;

/// Every name, with how its value is read. A name that does not apply to a record is null.
static NAMES: [(&str, Read); 11] = [
    ("topic", |record, _| Value::from(record.source.origin().topic.as_str())),
    ("partition", |record, _| Value::from(record.source.origin().partition.0)),
    ("offset", |record, _| Value::from(record.source.offset().0)),
    ("key", |record, _| Value::from(record.key().map(text))),
    ("timestamp", |record, _| timestamp(record)),
    ("headers", |record, _| headers(record)),
    ("pipeline", |_, pipeline| Value::from(pipeline.as_str())),
    ("manifest", |record, _| Value::from(record.meta.manifest.as_ref().map(|key| key.as_str()))),
    ("member", |record, _| Value::from(record.meta.member.as_ref().map(|id| id.as_str()))),
    ("schema", |record, _| Value::from(record.meta.schema.as_deref())),
    ("part", |record, _| Value::from(record.meta.part)),
];

/// Which metadata something reads: a set of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataUse(u16);

impl MetadataUse {
    /// Everything.
    pub const ALL: Self = Self(u16::MAX);
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Names that a record does not have (`%outcome`); they still count as used.
    const OTHER: u16 = 1 << 15;

    /// What these queries read; queries of fields do not count.
    pub fn of(queries: &[OwnedTargetPath]) -> Self {
        let metadata = queries.iter().filter(|query| query.prefix == PathPrefix::Metadata);
        let bits = metadata.map(|query| match query.path.segments.first() {
            Some(OwnedSegment::Field(name)) => Self::bit(name.as_str()),
            Some(OwnedSegment::Index(_)) | None => Self::ALL.0,
        });
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Whether nothing is read.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The metadata of `record` as far as it is in this set; see [`metadata_of`].
    pub fn read(self, record: &Record, pipeline: &PipelineName) -> Value {
        let mut object = ObjectMap::new();
        for (index, (name, read)) in NAMES.iter().enumerate() {
            if self.0 & (1 << index) != 0 {
                object.insert((*name).into(), read(record, pipeline));
            }
        }
        Value::Object(object)
    }

    fn bit(name: &str) -> u16 {
        NAMES.iter().position(|(known, _)| *known == name).map_or(Self::OTHER, |index| 1 << index)
    }
}

/// The metadata of `record` in `pipeline`: an object with `topic`, `partition`, `offset`, `key`
/// (text or null), `timestamp` (or null), `headers` (name to text, the last of a repeated name
/// wins), `pipeline`, and `manifest`, `member`, `schema`, `part` (null where the record is part of
/// none). Keys and headers that are not UTF-8 have their bad bytes replaced.
pub fn metadata_of(record: &Record, pipeline: &PipelineName) -> Value {
    MetadataUse::ALL.read(record, pipeline)
}

/// The names of the metadata, as a person would list them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

fn timestamp(record: &Record) -> Value {
    // Out of the calendar's range is as good as absent. By way of arrow, whose calendar type is
    // that of VRL's values.
    let at = record.source.record().timestamp.and_then(timestamp_ms_to_datetime);
    Value::from(at.map(|at| at.and_utc()))
}

fn headers(record: &Record) -> Value {
    let headers = record.source.record().headers.iter();
    Value::Object(headers.map(|(name, value)| (name.as_str().into(), text(value))).collect())
}

/// Bytes as text. Shares their memory where they are UTF-8.
fn text(bytes: &Bytes) -> Value {
    match Value::from_utf8_or_bytes(bytes.clone()) {
        Value::Bytes(bytes) => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::expr::{Program, Purpose, fields, fixtures};
    use crate::model::Metadata;

    fn json(value: &Value) -> String {
        String::from_utf8(fields::to_json(value)).unwrap()
    }

    fn reads(source: &str) -> String {
        let program = Program::compile(source, Purpose::Map).unwrap();
        json(&program.metadata_use().read(&fixtures::record("{}"), &"sales".into()))
    }

    #[test]
    fn a_plain_source_record_has_every_name() {
        let headers = vec![
            ("a".to_owned(), Bytes::from_static(b"1")),
            ("b".to_owned(), Bytes::from_static(b"\xff")),
            ("a".to_owned(), Bytes::from_static(b"2")),
        ];
        let record = fixtures::record_with("{}", Some(b"k\xff"), headers);
        let metadata = metadata_of(&record, &"sales".into());
        assert_eq!(
            json(&metadata),
            concat!(
                "{\"headers\":{\"a\":\"2\",\"b\":\"\u{fffd}\"},\"key\":\"k\u{fffd}\",",
                "\"manifest\":null,\"member\":null,\"offset\":42,\"part\":null,\"partition\":3,",
                "\"pipeline\":\"sales\",\"schema\":null,",
                "\"timestamp\":\"2023-11-14T22:13:20.123Z\",\"topic\":\"orders\"}"
            )
        );
        assert!(metadata.get(vrl::path!("timestamp")).unwrap().is_timestamp());
    }

    #[test]
    fn a_member_has_its_manifest_schema_and_part() {
        let mut record = fixtures::record_with("{}", None, Vec::new());
        record.meta = Arc::new(Metadata {
            manifest: Some("m-1".into()),
            member: Some("a.csv".into()),
            schema: Some("pod_usage".into()),
            part: Some(7),
            ..Metadata::default()
        });
        let metadata = metadata_of(&record, &"sales".into());
        let of = |name: &str| metadata.get(vrl::path!(name)).cloned().unwrap();
        assert_eq!(of("manifest"), Value::from("m-1"));
        assert_eq!(of("member"), Value::from("a.csv"));
        assert_eq!(of("schema"), Value::from("pod_usage"));
        assert_eq!(of("part"), Value::from(7));
        assert_eq!(of("key"), Value::Null, "it has no key");
    }

    #[test]
    fn only_what_a_program_reads_is_built() {
        assert_eq!(reads(".a"), "{}");
        assert_eq!(reads("%topic == .topic"), r#"{"topic":"orders"}"#);
        assert_eq!(reads("%headers.service"), r#"{"headers":{"service":"hccm"}}"#);
        assert_eq!(reads("if .a == 1 { %offset } else { %key }"), r#"{"key":"k-1","offset":42}"#);
        assert_eq!(reads("exists(%part)"), r#"{"part":null}"#);
        assert!(reads("encode_json(%)").contains("pipeline"), "the whole of it");
    }

    #[test]
    fn names_of_other_places_count_as_used() {
        let program = Program::compile("%outcome", Purpose::Map).unwrap();
        assert!(program.uses_metadata());
        assert_eq!(reads("%outcome"), "{}");
    }
}
