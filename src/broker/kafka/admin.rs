//! Topics and their settings.
//!
//! Responsible for: creating what is missing, comparing what is there with what was declared,
//! listing topics, removing records from their heads.
//! Not responsible for: altering a topic that exists; a person does that.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tracing::debug;

use crate::broker::topic_settings::suffices;
use crate::broker::{Admin, BrokerError, TopicInfo, TopicSpec};
use crate::model::{Offset, Topic, TopicPartition};

use super::limits::Limits;
use super::refusals::Refusals;
use super::{KafkaConfig, fault, list, settings};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for a connection before asking why there is none: brokers that start may refuse
/// a login at first.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// How often to look whether a new topic is known everywhere,
const SPREAD_LOOKS: u32 = 100;
/// and how far apart.
const SPREAD_PAUSE: Duration = Duration::from_millis(100);

/// The setting that bounds a batch.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Asks for the broker's default, as Kafka spells it.
const BROKER_DEFAULT: i32 = -1;

/// A topic as the cluster describes it.
struct Seen {
    partitions: i32,
    /// Every partition has a leader.
    ready: bool,
}

/// Administration of one cluster.
pub(super) struct KafkaAdmin {
    /// With a thread of its own that receives the answers.
    client: AdminClient<DefaultClientContext>,
    /// Told what the ensured topics take.
    limits: Arc<Limits>,
    /// Tells why there is no connection.
    refusals: Arc<Refusals>,
    /// Where the cluster was asked for, for those who have to change something there.
    bootstrap: String,
}

impl KafkaAdmin {
    pub(super) fn new(
        config: &KafkaConfig,
        limits: &Arc<Limits>,
        refusals: &Arc<Refusals>,
    ) -> Result<Self, BrokerError> {
        let client = settings::admin(config)
            .create()
            .map_err(|error| fault::creating("admin client", error))?;
        let (limits, refusals) = (Arc::clone(limits), Arc::clone(refusals));
        Ok(Self { client, limits, refusals, bootstrap: config.bootstrap.clone() })
    }

    /// What the brokers say of themselves and of all topics. To ask for one topic by name would
    /// create it where brokers create on demand.
    fn metadata(&self) -> Result<Metadata, BrokerError> {
        match self.ask(LOGIN_PATIENCE) {
            Err(error) if error.is_transient() && self.refusals.refusal().is_none() => {
                debug!(%error, "topics not listed yet");
                self.ask(TIMEOUT)
            }
            answer => answer,
        }
    }

    fn ask(&self, patience: Duration) -> Result<Metadata, BrokerError> {
        let error = match self.client.inner().fetch_metadata(None, patience) {
            Ok(metadata) => {
                self.refusals.forget();
                return Ok(metadata);
            }
            Err(error) => error,
        };
        if let Some(refusal) = self.refusals.refusal() {
            return Err(BrokerError::Unavailable(refusal));
        }
        let words = self.refusals.words().map_or_else(String::new, |words| format!(" ({words})"));
        Err(fault::general(&format!("listing topics of {}{words}", self.bootstrap), &error))
    }

    fn seen(&self) -> Result<BTreeMap<String, Seen>, BrokerError> {
        let metadata = self.metadata()?;
        let mut seen = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            let ready = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            seen.insert(topic.name().to_owned(), Seen { partitions, ready });
        }
        Ok(seen)
    }

    fn create(&self, missing: &[&TopicSpec]) -> Result<(), BrokerError> {
        let topics: Vec<NewTopic<'_>> = missing.iter().map(|spec| new_topic(spec)).collect();
        let results = wait_for(self.client.create_topics(&topics, &options()))
            .map_err(|error| fault::general("creating topics", &error))?;
        for result in results {
            match result {
                // Another replica was faster; what it made is checked like any other topic.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(fault::administering(&Topic::from(name), "creation", code));
                }
            }
        }
        Ok(())
    }

    /// Waits until the brokers know the topics that were just created.
    fn wait_until_known(
        &self,
        topics: &[&TopicSpec],
    ) -> Result<BTreeMap<String, Seen>, BrokerError> {
        for _ in 0..SPREAD_LOOKS {
            let seen = self.seen()?;
            if topics.iter().all(|spec| seen.get(spec.name.as_str()).is_some_and(|it| it.ready)) {
                return Ok(seen);
            }
            thread::park_timeout(SPREAD_PAUSE);
        }
        let names: Vec<&str> = topics.iter().map(|spec| spec.name.as_str()).collect();
        Err(BrokerError::Unavailable(format!(
            "the brokers do not know these topics yet, which were just created: {}",
            names.join(", ")
        )))
    }

    /// Compares what was declared, and learns what the topics take at once.
    fn check_settings(&self, topics: &[TopicSpec]) -> Result<(), BrokerError> {
        let found = match self.settings_of(topics) {
            Ok(found) => found,
            // Who may write to a topic may not always read its settings.
            Err(error) if !error.is_transient() && nothing_declared(topics) => {
                debug!(%error, "settings of topics not read, and none declared");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for spec in topics {
            let resource = found.get(spec.name.as_str());
            let limit =
                resource.and_then(|resource| resource.get(MAX_MESSAGE_BYTES)?.value.as_ref());
            if let Some(limit) = limit.and_then(|limit| limit.parse().ok()) {
                self.limits.learn(&spec.name, limit);
            }
            compare(spec, resource, &self.bootstrap)?;
        }
        Ok(())
    }

    fn settings_of(
        &self,
        topics: &[TopicSpec],
    ) -> Result<BTreeMap<String, ConfigResource>, BrokerError> {
        let failed = |error: KafkaError| fault::general("reading the settings of topics", &error);
        let asked: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|spec| ResourceSpecifier::Topic(spec.name.as_str())).collect();
        let results = wait_for(self.client.describe_configs(&asked, &options())).map_err(failed)?;
        let mut found = BTreeMap::new();
        for result in results {
            let resource = result.map_err(|code| failed(KafkaError::AdminOp(code)))?;
            if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                found.insert(name.clone(), resource);
            }
        }
        Ok(found)
    }

    /// What a partition said to DeleteRecords.
    fn not_deleted(
        &self,
        partition: TopicPartition,
        offset: Offset,
        error: &KafkaError,
    ) -> BrokerError {
        let failed = fault::on_topic(&partition.topic, "deletion of records", error);
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::OffsetOutOfRange) {
            return failed;
        }
        let (topic, number) = (partition.topic.as_str(), partition.partition.0);
        match self.client.inner().fetch_watermarks(topic, number, TIMEOUT) {
            Ok((earliest, latest)) => {
                let (earliest, latest) = (Offset(earliest), Offset(latest));
                BrokerError::OutOfRange { partition, offset, earliest, latest }
            }
            Err(_) => failed,
        }
    }
}

impl Admin for KafkaAdmin {
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), BrokerError> {
        if topics.is_empty() {
            return Ok(());
        }
        topics.iter().try_for_each(|spec| list::check_topic(&spec.name))?;
        let mut seen = self.seen()?;
        let missing: Vec<&TopicSpec> =
            topics.iter().filter(|spec| !seen.contains_key(spec.name.as_str())).collect();
        if !missing.is_empty() {
            self.create(&missing)?;
            seen = self.wait_until_known(&missing)?;
        }
        for spec in topics {
            let found = seen.get(spec.name.as_str()).map(|it| it.partitions);
            let found = found.ok_or_else(|| BrokerError::UnknownTopic(spec.name.clone()))?;
            if let Some(wanted) = spec.partitions.filter(|wanted| *wanted != found) {
                let remedy = "declare as many, or let the engine make the topic under another name";
                let (found, wanted) = (found.to_string(), wanted.to_string());
                return Err(wrong(spec, "partitions", found, wanted, remedy.to_owned()));
            }
        }
        self.check_settings(topics)
    }

    fn describe(&self, topics: Option<&[Topic]>) -> Result<Vec<TopicInfo>, BrokerError> {
        let seen = self.seen()?;
        let Some(topics) = topics else {
            let all = seen.into_iter().map(|(name, seen)| TopicInfo {
                name: Topic::from(name),
                partitions: seen.partitions,
            });
            return Ok(all.collect());
        };
        let named = |topic: &Topic| match seen.get(topic.as_str()) {
            Some(seen) => Ok(TopicInfo { name: topic.clone(), partitions: seen.partitions }),
            None => Err(BrokerError::UnknownTopic(topic.clone())),
        };
        topics.iter().map(named).collect()
    }

    fn delete_records(&self, before: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        if before.is_empty() {
            return Ok(());
        }
        let offsets = list::of_offsets(before)?;
        let answer: TopicPartitionList = wait_for(self.client.delete_records(&offsets, &options()))
            .map_err(|error| fault::general("deleting records", &error))?;
        for (partition, offset) in before {
            let entry = answer.find_partition(partition.topic.as_str(), partition.partition.0);
            if let Some(Err(error)) = entry.map(|entry| entry.error()) {
                return Err(self.not_deleted(partition.clone(), *offset, &error));
            }
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    NewTopic {
        name: spec.name.as_str(),
        num_partitions: spec.partitions.unwrap_or(BROKER_DEFAULT),
        replication: TopicReplication::Fixed(BROKER_DEFAULT),
        config: spec.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    }
}

fn nothing_declared(topics: &[TopicSpec]) -> bool {
    topics.iter().all(|spec| spec.settings.is_empty())
}

/// Compares the declared settings of a topic with what the broker at `bootstrap` says.
fn compare(
    spec: &TopicSpec,
    resource: Option<&ConfigResource>,
    bootstrap: &str,
) -> Result<(), BrokerError> {
    for (name, wanted) in &spec.settings {
        let entry = resource.and_then(|resource| resource.get(name));
        let found = entry.and_then(|entry| entry.value.as_deref());
        if !found.is_some_and(|found| suffices(name, found, wanted)) {
            let found = found.unwrap_or("nothing").to_owned();
            let remedy = format!(
                "run kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics \
                 --entity-name {} --add-config {name}={wanted}",
                spec.name
            );
            return Err(wrong(spec, name, found, wanted.clone(), remedy));
        }
    }
    Ok(())
}

fn wrong(
    spec: &TopicSpec,
    setting: &str,
    found: String,
    wanted: String,
    remedy: String,
) -> BrokerError {
    let (topic, setting) = (spec.name.clone(), setting.to_owned());
    BrokerError::WrongSetting { topic, setting, found, wanted, remedy }
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer of the admin client, whose own thread completes it: no runtime is needed,
/// and none may be in the way.
fn wait_for<F: Future>(answer: F) -> F::Output {
    let mut answer = pin!(answer);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match answer.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource};

    use super::*;

    fn spec(settings: &[(&str, &str)]) -> TopicSpec {
        TopicSpec {
            name: Topic::from("progress"),
            partitions: None,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn resource(name: &str, value: Option<&str>) -> ConfigResource {
        ConfigResource {
            specifier: OwnedResourceSpecifier::Topic("progress".to_owned()),
            entries: vec![ConfigEntry {
                name: name.to_owned(),
                value: value.map(str::to_owned),
                source: ConfigSource::DynamicTopic,
                is_read_only: false,
                is_default: false,
                is_sensitive: false,
            }],
        }
    }

    #[test]
    fn a_setting_that_differs_is_told_with_both_values() {
        let declared = spec(&[("retention.ms", "-1")]);
        let same = resource("retention.ms", Some("-1"));
        assert_eq!(compare(&declared, Some(&same), "b:1"), Ok(()));
        let other = resource("retention.ms", Some("604800000"));
        let text = compare(&declared, Some(&other), "b:1").unwrap_err().to_string();
        assert_eq!(
            text,
            "topic progress exists with retention.ms = 604800000, the pipeline needs -1: run \
             kafka-configs.sh --bootstrap-server b:1 --alter --entity-type topics --entity-name \
             progress --add-config retention.ms=-1"
        );
    }

    #[test]
    fn a_topic_may_take_larger_records_than_declared_but_not_smaller_ones() {
        let declared = spec(&[("max.message.bytes", "1114124")]);
        let larger = resource("max.message.bytes", Some("5000000"));
        assert_eq!(compare(&declared, Some(&larger), "b:1"), Ok(()));
        let smaller = resource("max.message.bytes", Some("1048588"));
        assert!(compare(&declared, Some(&smaller), "b:1").is_err());
    }

    #[test]
    fn a_setting_that_the_broker_does_not_name_counts_as_different() {
        let declared = spec(&[("retention.ms", "-1")]);
        let unnamed = resource("retention.ms", None);
        let another = resource("cleanup.policy", Some("delete"));
        for found in [None, Some(&unnamed), Some(&another)] {
            assert!(compare(&declared, found, "b:1").is_err());
        }
    }

    #[test]
    fn an_answer_that_comes_from_another_thread_ends_the_wait() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let teller = thread::spawn(move || tell.send(7));
        assert_eq!(wait_for(told), Ok(7));
        assert_eq!(teller.join().unwrap(), Ok(()));
    }
}
