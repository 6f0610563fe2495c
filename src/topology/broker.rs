//! `[broker]`: the cluster, or the embedded log.
//!
//! Responsible for: addresses, and properties that are handed to the Kafka client; refusing those
//! that the engine's promises depend on.
//! Not responsible for: connecting.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::DeValue;

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};

/// Which log a topology runs on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BrokerSection {
    /// `host:port[,host:port…]`; `None`: the embedded log.
    pub bootstrap: Option<String>,
    /// Properties of the Kafka client, as librdkafka names them.
    pub properties: BTreeMap<String, String>,
}

/// Shows the names of the properties only: values may be passwords.
impl fmt::Debug for BrokerSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerSection")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// Properties that the engine sets itself, and where a user finds what is behind them.
const OWNED: [(&str, &str); 17] = [
    ("acks", "it is always `all`"),
    ("auto.offset.reset", "an offset out of range is an error; see `start` of a source"),
    ("bootstrap.servers", "it is `bootstrap`"),
    ("enable.auto.commit", "offsets are committed once records have an outcome"),
    ("enable.auto.offset.store", "offsets are committed once records have an outcome"),
    ("enable.idempotence", "it is always on"),
    ("enable.partition.eof", "the engine does not use it"),
    ("fetch.queue.backoff.ms", "the engine keeps it low"),
    ("group.id", "it is `group` of a source"),
    ("max.poll.interval.ms", "it is `consumer.max_poll_interval` of the settings"),
    ("metadata.broker.list", "it is `bootstrap`"),
    ("partition.assignment.strategy", "it is `assignor` of a source"),
    ("partitioner", "keys are spread as the Java client does"),
    ("queued.max.messages.kbytes", "it is `consumer.prefetch` of the settings"),
    ("queued.min.messages", "it is `consumer.prefetch` of the settings"),
    ("request.required.acks", "it is always `all`"),
    ("session.timeout.ms", "it is `consumer.session_timeout` of the settings"),
];

/// Reads `[broker]`; without it the log is the embedded one.
pub(super) fn read(section: Section<'_>) -> Option<BrokerSection> {
    let enabled = section.or("enabled", true, Value::boolean);
    let bootstrap = section.value("bootstrap");
    let properties = section.or("properties", BTreeMap::new(), properties);
    section.finish();
    let (enabled, properties) = (enabled?, properties?);
    let bootstrap = match bootstrap {
        Some(value) if enabled => addresses(&value)?,
        _ => None,
    };
    Some(BrokerSection { bootstrap, properties })
}

/// `None` within if no address names a host: the variable for it was left empty.
fn addresses(value: &Value<'_>) -> Option<Option<String>> {
    let text = value.text()?;
    let addresses: Vec<&str> = text.split(',').map(str::trim).collect();
    if addresses.iter().all(|address| address.is_empty() || address.starts_with(':')) {
        return Some(None);
    }
    for address in &addresses {
        if !is_address(address) {
            let message = format!("`{address}` is not an address: host:port is needed");
            return value.fail(Diagnostic::new(message));
        }
    }
    Some(Some(addresses.join(",")))
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = !host.is_empty() && (is_v6 || host.chars().all(is_fit));
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn properties(value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    let mut found = Vec::new();
    flatten(&value.section("[broker.properties]")?, "", &mut found);
    found.into_iter().collect()
}

/// `sasl.username = "x"` without quotes is a table within a table to TOML, and meant as one name.
fn flatten(section: &Section<'_>, prefix: &str, found: &mut Vec<Option<(String, String)>>) {
    for entry in section.entries() {
        let name = format!("{prefix}{}", entry.key());
        if matches!(entry.item(), DeValue::Table(_)) {
            if let Some(inner) = entry.section("[broker.properties]") {
                flatten(&inner, &format!("{name}."), found);
            }
        } else {
            found.push(property(&name, &entry));
        }
    }
}

fn property(name: &str, entry: &Value<'_>) -> Option<(String, String)> {
    let value = match entry.item() {
        DeValue::String(_) => entry.text()?,
        DeValue::Integer(_) => entry.integer(i64::MIN..=i64::MAX)?.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        _ => return entry.wrong("a string, an integer or a boolean"),
    };
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        let message = format!("`{name}` is set by the engine");
        return entry.fail(Diagnostic::new(message).at(entry.key_span()).label(*why));
    }
    if needs_tls(name, &value) && !cfg!(feature = "kafka-tls") {
        let message = format!("`{name} = {value}` needs a build with the feature `kafka-tls`");
        let help = "this program was built without it; the deployed images have it".to_owned();
        return entry.fail(Diagnostic::new(message).help(help));
    }
    Some((name.to_owned(), value))
}

fn needs_tls(name: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match name {
        "security.protocol" => value.ends_with("ssl"),
        "sasl.mechanism" | "sasl.mechanisms" => value.starts_with("scram"),
        _ => false,
    }
}
