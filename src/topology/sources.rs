//! `[sources.NAME]`.
//!
//! Responsible for: what a source of each type needs.
//! Not responsible for: reading from a broker (`source`).

use crate::broker::{Assignor, Start};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::source::config::{Config, Decode, KafkaSource};
use crate::topology::names;

/// `type = "kafka"`.
pub(super) fn kafka(section: &Section<'_>, group: &str) -> Option<Config> {
    let topic = section.need("topic", names::topic);
    let group = section.or("group", group.to_owned(), Value::word);
    let start = section.or("start", Start::Earliest, start);
    let decode = section.or("decode", Decode::Json, |value| {
        value.choice(&[("json", Decode::Json), ("text", Decode::Text)])
    });
    let assignor = section.or("assignor", Assignor::default(), |value| {
        value.choice(&[
            ("range", Assignor::Range),
            ("cooperative-sticky", Assignor::CooperativeSticky),
        ])
    });
    Some(Config::Kafka(KafkaSource {
        topic: topic?,
        group: group?,
        start: start?,
        decode: decode?,
        assignor: assignor?,
    }))
}

fn start(value: &Value<'_>) -> Option<Start> {
    let text = value.text_or_datetime()?;
    match text.as_str() {
        "earliest" => return Some(Start::Earliest),
        "latest" => return Some(Start::Latest),
        _ => {}
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(instant) => Some(Start::Timestamp(instant.as_millisecond())),
        Err(_) => {
            let message = format!("`{text}` is no place to start");
            let help = "\"earliest\", \"latest\", or an instant such as \"2026-01-01T00:00:00Z\"";
            value.fail(Diagnostic::new(message).help(help.to_owned()))
        }
    }
}
