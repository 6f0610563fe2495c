//! Settings of sources and of the ingress, validated.
//!
//! Responsible for: saying completely what a source does, without the text it was read from.
//! Not responsible for: parsing or error messages (`topology`).

use crate::broker::{Assignor, Start};
use crate::expr::Program;
use crate::model::Topic;
use crate::spool::objects::ObjectPlace;

/// What one source does.
#[derive(Clone, Debug)]
pub enum Config {
    /// Reads a topic of the broker.
    Kafka(KafkaSource),
}

/// `type = "kafka"`.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// The topic.
    pub topic: Topic,
    /// Consumer group; `<pipeline>` if the topology names none.
    pub group: String,
    /// Where a new group begins.
    pub start: Start,
    /// How values become fields.
    pub decode: Decode,
    /// How partitions are spread over the group.
    pub assignor: Assignor,
}

/// How the value of a record becomes its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// A JSON document.
    Json,
    /// UTF-8 text in the field `message`.
    Text,
}

/// `[ingress.NAME]`: takes uploads over HTTP and announces them on a topic.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// Path of the endpoint.
    pub path: String,
    /// Names under which the multipart body may carry the file.
    pub parts: Vec<String>,
    /// Largest upload in bytes.
    pub max_bytes: u64,
    /// Regular expression over the part's content type; its named groups are `%match`.
    pub content_type: Option<String>,
    /// Topic of the announcements.
    pub topic: Topic,
    /// Headers of an announcement, by name.
    pub headers: Vec<(String, Program)>,
    /// Program that makes the announcement; its failure is a 400.
    pub announce: Program,
    /// Program for the body of the 202; without it `{"request_id": …}`.
    pub reply: Option<Program>,
    /// Where uploads lie that any replica can hand out and announce. Without it they lie with the
    /// replica that takes them.
    pub spool: Option<ObjectPlace>,
}
