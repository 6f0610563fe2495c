//! What librdkafka is told.
//!
//! Responsible for: the settings of consumers, the producer and the admin client; refusing
//! properties that the engine's promises rest on, and those that are about login and TLS; saying
//! early what this build cannot do.
//! Not responsible for: reading the engine's configuration file (`config`), or how login and TLS
//! are told (`security`).
//!
//! Names and defaults: librdkafka's `CONFIGURATION.md`, version 2.12.

#[cfg(test)]
mod tests;

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::broker::{Assignor, BrokerError, ConsumerConfig};

use super::{KafkaConfig, fault};

const COMMITS: &str = "an offset is committed only when its records have an outcome";
const POSITIONS: &str = "start positions are resolved by the engine and never reset in silence";
const GROUP: &str = "the topology names the group and how it shares partitions";
const ACKS: &str = "an outcome rests on the acknowledgement of all in-sync replicas";
const WAITS: &str = "records wait for a broker that is away, and keep their order";
const KEYS: &str = "a key belongs on the partition that the java client would choose";
const MEMORY: &str = "the engine's limits bound what the client prefetches";
const TOPICS: &str = "topics are created as the topology declares them, or not at all";
const BOOTSTRAP: &str = "the brokers are named by the setting bootstrap";
const PLUGINS: &str = "no code is loaded at run time";
const SECURITY: &str = "login and TLS have keys of their own: security, mechanism, username, \
                        password, ca_file, certificate_file and key_file of [broker]";

/// How the names of properties begin that are about login and TLS. All are refused, known ones and
/// others: their values may be secrets, and one of them may undo another.
const SECURITY_PREFIXES: [&str; 7] =
    ["security.", "sasl.", "ssl.", "ssl_", "enable.ssl.", "enable.sasl.", "https."];

/// Properties that are refused, with librdkafka's aliases, and why.
const SET_BY_THE_ENGINE: &[(&str, &str)] = &[
    ("acks", ACKS),
    ("allow.auto.create.topics", TOPICS),
    ("auto.commit.enable", COMMITS),
    ("auto.commit.interval.ms", COMMITS),
    ("auto.offset.reset", POSITIONS),
    ("bootstrap.servers", BOOTSTRAP),
    ("delivery.report.only.error", ACKS),
    ("delivery.timeout.ms", WAITS),
    ("enable.auto.commit", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("enable.gapless.guarantee", WAITS),
    ("enable.idempotence", ACKS),
    ("enable.partition.eof", POSITIONS),
    ("fetch.queue.backoff.ms", MEMORY),
    ("group.id", GROUP),
    ("group.protocol", GROUP),
    ("group.remote.assignor", GROUP),
    ("heartbeat.interval.ms", GROUP),
    ("isolation.level", POSITIONS),
    ("max.in.flight", WAITS),
    ("max.in.flight.requests.per.connection", WAITS),
    ("max.poll.interval.ms", GROUP),
    ("message.send.max.retries", WAITS),
    ("message.timeout.ms", WAITS),
    ("metadata.broker.list", BOOTSTRAP),
    ("offset.store.method", COMMITS),
    ("offset.store.path", COMMITS),
    ("partition.assignment.strategy", GROUP),
    ("partitioner", KEYS),
    ("plugin.library.paths", PLUGINS),
    ("queued.max.messages.kbytes", MEMORY),
    ("queuing.strategy", WAITS),
    ("request.required.acks", ACKS),
    ("retries", WAITS),
    ("session.timeout.ms", GROUP),
    ("transactional.id", ACKS),
];

/// Defaults that a property may replace, for every client.
const CLIENT_DEFAULTS: &[(&str, &str)] =
    &[("client.id", "tidemill"), ("socket.keepalive.enable", "true")];

/// The same, for consumers.
const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    ("check.crcs", "true"),
    // A partition that is resumed waits for the fetch that is under way at its broker.
    ("fetch.wait.max.ms", "100"),
    // How long a topic that is created later stays unseen.
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// The same, for the producer.
const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    // Below what a topic takes unless it is told otherwise (1048588).
    ("batch.size", "1000000"),
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    // The topic decides how large a record may be; this only has to leave room in the queue.
    ("message.max.bytes", "33554432"),
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "200000"),
    // How long a topic that was just created may be unknown to some broker.
    ("topic.metadata.propagation.max.ms", "10000"),
];

/// Other names under which librdkafka knows one of the defaults.
const ALIASES: &[(&str, &str)] =
    &[("compression.type", "compression.codec"), ("linger.ms", "queue.buffering.max.ms")];

/// Checks what the user configured. `tls`: whether librdkafka was built with OpenSSL.
pub(super) fn check(config: &KafkaConfig, tls: bool) -> Result<(), BrokerError> {
    if config.bootstrap.trim().is_empty() {
        return Err(BrokerError::Fatal(
            "no kafka brokers are named: set bootstrap to host:port".to_owned(),
        ));
    }
    for name in config.properties.keys() {
        if let Some(why) = refused(name) {
            return Err(BrokerError::Fatal(format!(
                "kafka property {name} is set by the engine and cannot be changed: {why}"
            )));
        }
    }
    if let Some(needs) = config.security.needs_openssl().filter(|_| !tls) {
        return Err(BrokerError::Fatal(format!(
            "the login or encryption of [broker] needs {needs}, which this build does not have: \
             build with --features kafka-tls"
        )));
    }
    let producer = producer(config);
    check_queue(&producer)?;
    producer.create_native_config().map_err(|error| fault::creating("settings", error))?;
    Ok(())
}

/// Why a user may not set this property, if so.
fn refused(name: &str) -> Option<&'static str> {
    if SECURITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(SECURITY);
    }
    SET_BY_THE_ENGINE.iter().find(|(owned, _)| *owned == name).map(|(_, why)| *why)
}

/// A record that can never fit would come back as "queue full" for ever.
fn check_queue(producer: &ClientConfig) -> Result<(), BrokerError> {
    let number = |name: &str| producer.get(name).and_then(|value| value.parse::<u64>().ok());
    let (Some(record), Some(queue)) =
        (number("message.max.bytes"), number("queue.buffering.max.kbytes"))
    else {
        // Not numbers: librdkafka says so, by name.
        return Ok(());
    };
    if record >= queue.saturating_mul(1024) {
        return Err(BrokerError::Fatal(format!(
            "kafka property message.max.bytes = {record} has to be below \
             queue.buffering.max.kbytes = {queue}, or the largest record never fits the queue"
        )));
    }
    Ok(())
}

/// Defaults, then the user's properties.
fn client(config: &KafkaConfig, defaults: &[(&str, &str)]) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (name, value) in CLIENT_DEFAULTS.iter().chain(defaults) {
        let alias = ALIASES.iter().find(|(of, _)| of == name).map(|(_, alias)| *alias);
        // Names are set in no particular order, so an alias must not meet the default.
        if !alias.is_some_and(|alias| config.properties.contains_key(alias)) {
            client.set(*name, *value);
        }
    }
    for (name, value) in &config.properties {
        client.set(name, value);
    }
    client.set("bootstrap.servers", &config.bootstrap);
    config.security.apply(&mut client);
    client
}

/// Settings of one consumer.
pub(super) fn consumer(config: &KafkaConfig, wanted: &ConsumerConfig) -> ClientConfig {
    let mut client = client(config, CONSUMER_DEFAULTS);
    // It bounds a record on the producer, for which it is meant, but a fetch on consumers, where
    // the client otherwise derives the bound from the prefetch limit below.
    client.remove("message.max.bytes");
    let prefetch_kbytes = (wanted.prefetch_bytes / 1024).clamp(1, 2_097_151);
    client
        .set("group.id", &wanted.group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", assignor(wanted.assignor))
        .set("session.timeout.ms", millis(wanted.session_timeout))
        .set("heartbeat.interval.ms", millis(heartbeat(wanted.session_timeout)))
        .set("max.poll.interval.ms", millis(wanted.max_poll_interval))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false")
        // The default of a second idles a consumer that does real work most of the time.
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", prefetch_kbytes.to_string());
    client
}

/// Settings of a reader, which is assigned what it reads. The client wants the name of a group for
/// that; nobody joins it, and nothing is committed for it.
pub(super) fn reader(config: &KafkaConfig) -> ClientConfig {
    let mut client = client(config, CONSUMER_DEFAULTS);
    client.remove("message.max.bytes");
    client
        .set("group.id", "tidemill-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What was removed since the bounds were looked up is left out.
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "16384");
    client
}

/// Settings of the producer.
pub(super) fn producer(config: &KafkaConfig) -> ClientConfig {
    let mut client = client(config, PRODUCER_DEFAULTS);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        .set("allow.auto.create.topics", "false");
    client
}

/// Settings of a producer for topics that take batches of `bytes` only. Nothing is compressed: a
/// record's own size has to decide whether it fits, not what compression makes of its neighbours.
pub(super) fn small_batches(config: &KafkaConfig, bytes: u32) -> ClientConfig {
    let mut client = producer(config);
    client.remove("compression.codec");
    client.set("compression.type", "none").set("batch.size", bytes.to_string());
    client
}

/// Bytes that the producer puts into one batch.
pub(super) fn usual_batch(config: &KafkaConfig) -> u64 {
    let batch = producer(config).get("batch.size").and_then(|bytes| bytes.parse().ok());
    batch.unwrap_or(1_000_000)
}

/// Settings of the admin client.
pub(super) fn admin(config: &KafkaConfig) -> ClientConfig {
    let mut client = client(config, &[]);
    client.set("allow.auto.create.topics", "false");
    // Nobody polls the log queue of an admin client, so lines in it would pile up. What goes
    // wrong is in the answers.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    client
}

fn assignor(assignor: Assignor) -> &'static str {
    match assignor {
        Assignor::Range => "range",
        Assignor::CooperativeSticky => "cooperative-sticky",
    }
}

/// Three heartbeats fit into a session, as Kafka recommends.
fn heartbeat(session: Duration) -> Duration {
    (session / 3).clamp(Duration::from_millis(1), Duration::from_secs(3))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
