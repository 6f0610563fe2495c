//! `[sinks.NAME]`.
//!
//! Responsible for: what a sink of each type needs.
//! Not responsible for: whether its columns and tables exist (`columns`, `checks`), or writing
//! (`sink`).

use crate::config::document::{Section, Value};
use crate::sink::config::{Config, KafkaSink, ParquetSink, TableSink};
use crate::topology::{names, objects, programs};

/// zstd level where the topology does not say: most of the gain, least of the work.
const DEFAULT_ZSTD: i64 = 1;

/// Rows of a row group where the topology does not say.
const DEFAULT_ROW_GROUP_ROWS: usize = 65_536;

/// Rows of an object where the topology does not say.
const DEFAULT_OBJECT_ROWS: usize = 5_000_000;

/// `type = "kafka"`.
pub(super) fn kafka(section: &Section<'_>) -> Option<Config> {
    let topic = section.need("topic", names::topic);
    let key = section.maybe("key", programs::key);
    let value = section.maybe("value", programs::map);
    Some(Config::Kafka(KafkaSink { topic: topic?, key: key?, value: value? }))
}

/// `type = "parquet"`.
pub(super) fn parquet(section: &Section<'_>) -> Option<Config> {
    let url = section.need("url", objects::place);
    let s3 = objects::s3(section, url.as_ref().map(|(_, place)| place));
    let path = section.need("path", programs::template);
    let omit = section.or("omit", Vec::new(), |value| value.each(Value::word));
    let zstd = section.or("zstd", DEFAULT_ZSTD, |value| value.integer(1..=22));
    let row_group_rows =
        section.or("row_group_rows", DEFAULT_ROW_GROUP_ROWS, |value| value.count(1));
    let object_rows = section.or("object_rows", DEFAULT_OBJECT_ROWS, |value| value.count(1));
    Some(Config::Parquet(ParquetSink {
        url: url?.0,
        s3: s3?.map(Box::new),
        path: path?,
        omit: omit?,
        zstd: i32::try_from(zstd?).ok()?,
        row_group_rows: row_group_rows?,
        object_rows: object_rows? as u64,
        // The catalogue of objects comes with `retire`.
        objects: None,
    }))
}

/// `type = "table"`.
pub(super) fn table(section: &Section<'_>) -> Option<Config> {
    let table = section.need("table", Value::word);
    let set = section.or("set", Vec::new(), |value| {
        programs::named_keys(&value.section("`set`")?, names::identifier)
    });
    Some(Config::Table(TableSink { table: table?, set: set? }))
}
