//! What a user may set, and what clients are told.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::*;
use crate::broker::kafka::{KafkaBroker, Login, Mechanism, Security, Tls};

fn config(properties: &[(&str, &str)]) -> KafkaConfig {
    let properties: BTreeMap<String, String> =
        properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (bootstrap, security) = ("127.0.0.1:9092".to_owned(), Security::default());
    KafkaConfig { bootstrap, properties, security }
}

/// Settings with a login.
fn logged_in(mechanism: Mechanism, tls: Option<Tls>) -> KafkaConfig {
    let (username, password) = ("alice".to_owned(), SecretString::from("hunter2"));
    let login = Some(Login { mechanism, username, password });
    KafkaConfig { security: Security { login, tls }, ..config(&[]) }
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
    let secured = logged_in(Mechanism::ScramSha256, Some(Tls::default()));
    let clients = [consumer(&secured, &group), producer(&secured), admin(&secured)];
    let overridable: Vec<&str> = [CLIENT_DEFAULTS, CONSUMER_DEFAULTS, PRODUCER_DEFAULTS]
        .iter()
        .flat_map(|defaults| defaults.iter().map(|(name, _)| *name))
        .collect();
    for name in
        clients.iter().flat_map(|client| client.config_map().into_keys().collect::<Vec<_>>())
    {
        assert!(refused(name).is_some() != overridable.contains(&name), "{name}");
    }
}

#[test]
fn login_and_tls_cannot_be_smuggled_in_as_properties() {
    for name in [
        "security.protocol",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.oauthbearer.client.secret",
        "ssl.key.pem",
        "ssl_key",
        "enable.ssl.certificate.verification",
        "enable.sasl.oauthbearer.unsecure.jwt",
        "https.ca.pem",
    ] {
        let text = refusal(&[(name, "hunter2")], true);
        assert!(text.contains(name) && text.contains("of [broker]"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn tls_and_scram_without_the_feature_name_the_feature() {
    for (config, needs) in [
        (logged_in(Mechanism::ScramSha256, None), "SCRAM-SHA-256"),
        (logged_in(Mechanism::ScramSha512, None), "SCRAM-SHA-512"),
        (logged_in(Mechanism::Plain, Some(Tls::default())), "TLS"),
    ] {
        let text = check(&config, false).unwrap_err().to_string();
        assert!(text.contains("--features kafka-tls") && text.contains(needs), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_plain_login_needs_no_feature() {
    assert_eq!(check(&logged_in(Mechanism::Plain, None), false), Ok(()));
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
    let empty = KafkaConfig { bootstrap: " ".to_owned(), ..config(&[]) };
    assert!(matches!(KafkaBroker::new(empty), Err(BrokerError::Fatal(_))));
}

#[test]
fn debug_output_shows_no_property_value_and_no_password() {
    let properties = config(&[("client.id", "hunter2")]).properties;
    let config = KafkaConfig { properties, ..logged_in(Mechanism::Plain, None) };
    let broker = KafkaBroker::new(config).unwrap();
    let text = format!("{broker:?}");
    assert!(text.contains("client.id") && !text.contains("hunter2"), "{text}");
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
