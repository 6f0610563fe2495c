//! Names and settings of topics.
//!
//! Responsible for: Kafka's rules for topic names, the settings that the embedded log acts on
//! (`retention.ms`, `retention.bytes`, `max.message.bytes`), their defaults, and comparing what a
//! topic has with what a pipeline wants. Settings that mean nothing to one process, such as
//! `min.insync.replicas`, are kept and compared, so that one topology runs on both brokers.
//! Not responsible for: storing them (`database`) or acting on them (`writer`, `retention`).

use std::collections::BTreeMap;

use crate::broker::BrokerError;
use crate::broker::topic_settings::suffices;
use crate::model::Topic;

/// Kafka's default of `message.max.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: i64 = 1_048_588;
/// SQLite takes rows of up to a billion bytes; half of that leaves room for key and headers.
const LARGEST_MESSAGE_BYTES: i64 = 512 << 20;
/// Longest name that Kafka accepts.
const LONGEST_NAME: usize = 249;
/// More partitions than one process could use; keeps a typing error from filling the disk.
const MOST_PARTITIONS: i32 = 10_000;

/// What a setting is where a topic does not declare it. Retention differs from Kafka's week on
/// purpose: a log that nobody asked to forget keeps everything.
const DEFAULTS: [(&str, &str); 4] = [
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("max.message.bytes", "1048588"),
    ("cleanup.policy", "delete"),
];

/// The settings of one topic.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    declared: BTreeMap<String, String>,
    /// Age in milliseconds at which records go; `None` keeps them.
    pub(super) retention_ms: Option<i64>,
    /// Bytes that a partition keeps; `None` keeps all.
    pub(super) retention_bytes: Option<i64>,
    /// Largest record in bytes of key, value and headers.
    pub(super) max_message_bytes: usize,
}

impl Settings {
    /// Reads the declared settings of `topic`; one that is no number where a number is needed is
    /// an error.
    pub(super) fn parse(
        topic: &Topic,
        declared: BTreeMap<String, String>,
    ) -> Result<Self, BrokerError> {
        let retention_ms = number(topic, &declared, "retention.ms")?.filter(|ms| *ms >= 0);
        let retention_bytes = number(topic, &declared, "retention.bytes")?.filter(|b| *b >= 0);
        let largest = number(topic, &declared, "max.message.bytes")?
            .unwrap_or(DEFAULT_MAX_MESSAGE_BYTES)
            .clamp(0, LARGEST_MESSAGE_BYTES);
        Ok(Self {
            declared,
            retention_ms,
            retention_bytes,
            max_message_bytes: usize::try_from(largest).unwrap_or(usize::MAX),
        })
    }

    /// The settings of a topic that declares none.
    pub(super) fn unset() -> Self {
        Self {
            declared: BTreeMap::new(),
            retention_ms: None,
            retention_bytes: None,
            max_message_bytes: usize::try_from(DEFAULT_MAX_MESSAGE_BYTES).unwrap_or(usize::MAX),
        }
    }

    /// What was declared when the topic was created.
    pub(super) fn declared(&self) -> &BTreeMap<String, String> {
        &self.declared
    }

    /// The value of `name` if it will not do where `wanted` is needed.
    pub(super) fn differing(&self, name: &str, wanted: &str) -> Option<String> {
        let default = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let found = self.declared.get(name).map(String::as_str).or(default).unwrap_or("(unset)");
        (!suffices(name, found, wanted)).then(|| found.to_owned())
    }
}

fn number(
    topic: &Topic,
    declared: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<i64>, BrokerError> {
    let Some(text) = declared.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        BrokerError::Fatal(format!("setting {name} of topic {topic} is not a number: {text:?}"))
    })
}

/// Checks a topic name by Kafka's rules.
pub(super) fn check_name(topic: &Topic) -> Result<(), BrokerError> {
    let name = topic.as_str();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = !name.is_empty() && name.len() <= LONGEST_NAME && name != "." && name != "..";
    if fits && name.bytes().all(legal) {
        return Ok(());
    }
    Err(BrokerError::Fatal(format!(
        "{name:?} is no topic name: use 1 to {LONGEST_NAME} letters, digits, '.', '_' and '-'"
    )))
}

/// Checks the partition count of a new topic.
pub(super) fn check_partitions(topic: &Topic, partitions: i32) -> Result<(), BrokerError> {
    if (1..=MOST_PARTITIONS).contains(&partitions) {
        return Ok(());
    }
    Err(BrokerError::Fatal(format!(
        "topic {topic} cannot have {partitions} partitions, use 1 to {MOST_PARTITIONS}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(declared: &[(&str, &str)]) -> Result<Settings, BrokerError> {
        let declared = declared.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Settings::parse(&Topic::from("t"), declared)
    }

    #[test]
    fn a_setting_left_out_compares_as_its_default() {
        let unset = settings(&[]).unwrap();
        assert_eq!(unset.differing("retention.ms", "-1"), None);
        assert_eq!(unset.differing("max.message.bytes", "1048588"), None);
        assert_eq!(unset.differing("retention.ms", "1000"), Some("-1".to_owned()));
        assert_eq!(unset.differing("min.insync.replicas", "2"), Some("(unset)".to_owned()));
    }

    #[test]
    fn numbers_compare_by_value_and_texts_by_letter() {
        let some = settings(&[("retention.ms", "0100"), ("cleanup.policy", "compact")]).unwrap();
        assert_eq!(some.differing("retention.ms", "100"), None);
        assert_eq!(some.differing("cleanup.policy", "delete"), Some("compact".to_owned()));
    }

    #[test]
    fn a_setting_that_is_no_number_is_refused_by_name() {
        let error = settings(&[("retention.ms", "a week")]).unwrap_err();
        assert!(error.to_string().contains("retention.ms"), "{error}");
    }

    #[test]
    fn names_follow_the_rules_of_kafka() {
        for good in ["a", "orders.paid_2-x"] {
            assert_eq!(check_name(&Topic::from(good)), Ok(()));
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        for bad in ["", ".", "..", "a b", "a/b", "ä", long.as_str()] {
            assert!(check_name(&Topic::from(bad)).is_err(), "{bad}");
        }
    }
}
