//! Topics of the embedded log.
//!
//! Responsible for: creating and checking topics, describing them, and removing records on demand.
//! Callers do their own writing, between two commits of the writer thread.
//! Not responsible for: what the settings of a topic mean (`settings`), retention (`retention`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, TransactionBehavior};

use crate::broker::embedded::Running;
use crate::broker::embedded::settings::{self, Settings};
use crate::broker::embedded::state::{Head, Shared, TopicState, locked};
use crate::broker::embedded::{database, retention};
use crate::broker::{Admin, BrokerError, TopicInfo, TopicSpec};
use crate::model::{Offset, Topic, TopicPartition};

/// What can be done about a topic that will not do.
const REMEDY: &str = "a topic of the embedded log cannot be changed, give the pipeline another \
                      name or start with an empty data folder";

/// A handle on the topics of one log.
pub(super) struct EmbeddedAdmin {
    log: Arc<Running>,
}

impl EmbeddedAdmin {
    /// A handle on the topics of `log`.
    pub(super) fn new(log: Arc<Running>) -> Self {
        Self { log }
    }
}

impl Admin for EmbeddedAdmin {
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), BrokerError> {
        let shared = &self.log.shared;
        shared.check_open()?;
        let mut connection = locked(&shared.writing);
        for spec in topics {
            if !exists_as_wanted(shared, spec)? {
                let partitions = spec.partitions.unwrap_or_else(|| default_partitions(shared));
                let settings = Settings::parse(&spec.name, spec.settings.clone())?;
                create(shared, &mut connection, &spec.name, partitions, settings)?;
            }
        }
        Ok(())
    }

    fn describe(&self, topics: Option<&[Topic]>) -> Result<Vec<TopicInfo>, BrokerError> {
        let state = self.log.shared.state();
        let info = |name: &Topic, topic: &TopicState| TopicInfo {
            name: name.clone(),
            partitions: topic.heads.len() as i32,
        };
        let Some(names) = topics else {
            return Ok(state.topics.iter().map(|(name, topic)| info(name, topic)).collect());
        };
        let named = names.iter().map(|name| {
            let topic = state.topics.get(name);
            topic
                .map(|topic| info(name, topic))
                .ok_or_else(|| BrokerError::UnknownTopic(name.clone()))
        });
        named.collect()
    }

    fn delete_records(&self, before: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        let shared = &self.log.shared;
        shared.check_open()?;
        for (partition, offset) in before {
            let mut connection = locked(&shared.writing);
            let (topic, head) = shared.locate(partition)?;
            if *offset > head.end {
                return Err(BrokerError::OutOfRange {
                    partition: partition.clone(),
                    offset: *offset,
                    earliest: head.start,
                    latest: head.end,
                });
            }
            if *offset > head.start {
                retention::raise_start(shared, &mut connection, topic, partition, *offset)?;
            }
        }
        Ok(())
    }
}

/// Whether the topic exists; an error if it does, but not as wanted.
fn exists_as_wanted(shared: &Shared, spec: &TopicSpec) -> Result<bool, BrokerError> {
    let state = shared.state();
    let Some(topic) = state.topics.get(&spec.name) else { return Ok(false) };
    let wrong = |setting: &str, found: String, wanted: String| BrokerError::WrongSetting {
        topic: spec.name.clone(),
        setting: setting.to_owned(),
        found,
        wanted,
        remedy: REMEDY.to_owned(),
    };
    let partitions = topic.heads.len() as i32;
    if let Some(wanted) = spec.partitions.filter(|wanted| *wanted != partitions) {
        return Err(wrong("partitions", partitions.to_string(), wanted.to_string()));
    }
    for (name, wanted) in &spec.settings {
        if let Some(found) = topic.settings.differing(name, wanted) {
            return Err(wrong(name, found, wanted.clone()));
        }
    }
    Ok(true)
}

/// Partitions of a topic that nobody declared.
pub(super) fn default_partitions(shared: &Shared) -> i32 {
    shared.default_partitions.load(Ordering::Relaxed)
}

/// Creates a topic. Whoever holds the writing connection has seen that it does not exist.
pub(super) fn create(
    shared: &Shared,
    connection: &mut Connection,
    name: &Topic,
    partitions: i32,
    settings: Settings,
) -> Result<(), BrokerError> {
    settings::check_name(name)?;
    settings::check_partitions(name, partitions)?;
    let declared = serde_json::to_string(settings.declared()).map_err(|error| {
        BrokerError::Fatal(format!("settings of topic {name} cannot be stored: {error}"))
    })?;
    let id = insert(connection, name, partitions, &declared)
        .map_err(|error| database::failed("create a topic", &error))?;
    let empty = Head { start: Offset::ZERO, end: Offset::ZERO };
    let heads = (0..partitions).map(|_| empty).collect();
    shared.update(|state| state.add_topic(name, TopicState { id, settings, heads }));
    tracing::info!(topic = %name, partitions, "topic created");
    Ok(())
}

fn insert(
    connection: &mut Connection,
    name: &Topic,
    partitions: i32,
    declared: &str,
) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT INTO topics (name, settings) VALUES (?1, ?2)",
        (name.as_str(), declared),
    )?;
    let id = transaction.last_insert_rowid();
    {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO partitions (topic_id, part, log_start, next_position, bytes) \
             VALUES (?1, ?2, 0, 0, 0)",
        )?;
        for part in 0..partitions {
            statement.execute((id, part))?;
        }
    }
    transaction.commit()?;
    Ok(id)
}
