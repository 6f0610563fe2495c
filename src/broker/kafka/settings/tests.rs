//! What a user may set, and what clients are told.

use std::collections::BTreeMap;

use super::*;
use crate::broker::kafka::KafkaBroker;

fn config(properties: &[(&str, &str)]) -> KafkaConfig {
    let properties: BTreeMap<String, String> =
        properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    KafkaConfig { bootstrap: "127.0.0.1:9092".to_owned(), properties }
}

fn refusal(properties: &[(&str, &str)], tls: bool) -> String {
    check(&config(properties), tls).unwrap_err().to_string()
}

#[test]
fn every_property_that_the_engine_sets_is_refused_by_name() {
    for (name, why) in SET_BY_THE_ENGINE {
        let text = refusal(&[(*name, "anything")], true);
        assert!(text.contains(name) && text.contains(why), "{text}");
    }
}

#[test]
fn what_the_engine_sets_on_a_client_no_user_can_set() {
    let group = ConsumerConfig::new("g", vec!["orders".into()]);
    let plain = config(&[]);
    let clients = [consumer(&plain, &group), producer(&plain), admin(&plain)];
    let overridable: Vec<&str> = [CLIENT_DEFAULTS, CONSUMER_DEFAULTS, PRODUCER_DEFAULTS]
        .iter()
        .flat_map(|defaults| defaults.iter().map(|(name, _)| *name))
        .collect();
    for name in
        clients.iter().flat_map(|client| client.config_map().into_keys().collect::<Vec<_>>())
    {
        let owned = SET_BY_THE_ENGINE.iter().any(|(owned, _)| *owned == name);
        assert!(owned != overridable.contains(&name), "{name}");
    }
}

#[test]
fn tls_and_scram_without_the_feature_name_the_feature() {
    for property in [
        ("security.protocol", "SASL_SSL"),
        ("security.protocol", "ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("ssl.ca.location", "/etc/ssl/ca.pem"),
        ("enable.ssl.certificate.verification", "true"),
    ] {
        let text = refusal(&[property], false);
        assert!(text.contains("--features kafka-tls") && text.contains(property.0), "{text}");
    }
}

#[test]
fn plain_sasl_needs_no_feature() {
    let properties = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "alice"),
        ("sasl.password", "hunter2"),
    ];
    assert_eq!(check(&config(&properties), false), Ok(()));
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_named() {
    let text = refusal(&[("linger.milliseconds", "5")], false);
    assert!(text.contains("linger.milliseconds"), "{text}");
}

#[test]
fn a_value_that_makes_no_sense_is_refused_without_showing_it() {
    let text = refusal(&[("socket.timeout.ms", "hunter2")], false);
    assert!(text.contains("socket.timeout.ms") && !text.contains("hunter2"), "{text}");
}

#[test]
fn the_largest_record_has_to_fit_the_queue() {
    let text = refusal(&[("queue.buffering.max.kbytes", "1024")], false);
    assert!(text.contains("message.max.bytes"), "{text}");
}

#[test]
fn a_broker_needs_somewhere_to_connect_to() {
    let empty = KafkaConfig { bootstrap: " ".to_owned(), properties: BTreeMap::new() };
    assert!(matches!(KafkaBroker::new(empty), Err(BrokerError::Fatal(_))));
}

#[test]
fn debug_output_shows_no_property_value() {
    let broker = KafkaBroker::new(config(&[("sasl.password", "hunter2")])).unwrap();
    let text = format!("{broker:?}");
    assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
}

#[test]
fn an_alias_replaces_the_default_it_means() {
    let client = producer(&config(&[("compression.codec", "zstd")]));
    assert_eq!(client.get("compression.type"), None);
    assert_eq!(client.get("compression.codec"), Some("zstd"));
}

#[test]
fn small_batches_are_not_compressed_whatever_the_alias() {
    let client = small_batches(&config(&[("compression.codec", "zstd")]), 1024);
    assert_eq!(client.get("compression.codec"), None);
    assert_eq!(client.get("compression.type"), Some("none"));
    assert_eq!(client.get("batch.size"), Some("1024"));
}

#[test]
fn a_consumer_never_resets_or_commits_by_itself() {
    let mut group = ConsumerConfig::new("g", vec!["orders".into()]);
    group.assignor = Assignor::CooperativeSticky;
    group.prefetch_bytes = 4 << 20;
    let client = consumer(&config(&[]), &group);
    assert_eq!(client.get("auto.offset.reset"), Some("error"));
    assert_eq!(client.get("enable.auto.commit"), Some("false"));
    assert_eq!(client.get("enable.auto.offset.store"), Some("false"));
    assert_eq!(client.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    assert_eq!(client.get("queued.max.messages.kbytes"), Some("4096"));
    assert_eq!(client.get("heartbeat.interval.ms"), Some("3000"));
}
