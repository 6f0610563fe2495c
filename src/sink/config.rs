//! Settings of sinks, validated.
//!
//! Responsible for: saying completely what a sink does, without the text it was read from.
//! Not responsible for: parsing or error messages (`topology`).

use crate::expr::{Program, Template};
use crate::model::Topic;
use crate::spool::objects::S3Access;

/// What one sink does.
#[derive(Clone, Debug)]
pub enum Config {
    /// Produces to a topic.
    Kafka(KafkaSink),
    /// Writes columns as Parquet objects.
    Parquet(ParquetSink),
    /// Writes rows into a declared table of the state store's database.
    Table(TableSink),
}

/// `type = "kafka"`.
#[derive(Clone, Debug)]
pub struct KafkaSink {
    /// Where to.
    pub topic: Topic,
    /// Program for the key; without it the source key stays.
    pub key: Option<Program>,
    /// Program for the value; without it the fields as JSON.
    pub value: Option<Program>,
}

/// `type = "parquet"`.
#[derive(Clone, Debug)]
pub struct ParquetSink {
    /// Root of the store: `file://…` (relative paths allowed) or `s3://bucket/prefix`.
    pub url: String,
    /// How to get into the bucket, if the root is in one.
    pub s3: Option<Box<S3Access>>,
    /// Path of an object below the root. Columns in it cut the rows into objects.
    pub path: Template,
    /// Columns that are in the path and not in the file.
    pub omit: Vec<String>,
    /// zstd level.
    pub zstd: i32,
    /// Rows of one row group.
    pub row_group_rows: usize,
    /// Rows of one object; more make a further part.
    pub object_rows: u64,
    /// Table that lists the objects, if declared.
    pub objects: Option<String>,
}

/// `type = "table"`.
#[derive(Clone, Debug)]
pub struct TableSink {
    /// Name of the declared table.
    pub table: String,
    /// Columns set from programs instead of the record.
    pub set: Vec<(String, Program)>,
}
