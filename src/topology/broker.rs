//! `[broker]`: the cluster, or the embedded log.
//!
//! Responsible for: addresses, login and TLS, and properties that are handed to the Kafka client;
//! refusing those that the engine's promises depend on, and what this build cannot do.
//! Not responsible for: connecting.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::DeValue;

use crate::broker::kafka::{Certificate, Login, Mechanism, Security, Tls};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};

/// Which log a topology runs on.
#[derive(Clone, Default)]
pub struct BrokerSection {
    /// `host:port[,host:port…]`; `None`: the embedded log.
    pub bootstrap: Option<String>,
    /// Properties of the Kafka client, as librdkafka names them.
    pub properties: BTreeMap<String, String>,
    /// Login and TLS.
    pub security: Security,
}

/// Shows the names of the properties only: values may be meant for nobody else.
impl fmt::Debug for BrokerSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerSection")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.keys())
            .field("security", &self.security)
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

/// How the names of properties begin for which there are keys, and those keys.
const SECURITY: [(&str, &str); 6] = [
    ("security.", "it is `security`"),
    ("sasl.", "it is `mechanism`, `username` and `password`"),
    ("ssl", "it is `ca_file`, `certificate_file` and `key_file`"),
    ("enable.ssl.", "certificates are always checked"),
    ("enable.sasl.", "logins are always checked"),
    ("https.", "nothing is fetched to log in"),
];

/// Keys that mean something with a login or TLS only.
const SECURITY_KEYS: [&str; 6] =
    ["mechanism", "username", "password", "ca_file", "certificate_file", "key_file"];

/// What `security` says: login, encryption.
const PROTOCOLS: [(&str, (bool, bool)); 4] = [
    ("plaintext", (false, false)),
    ("ssl", (false, true)),
    ("sasl_plaintext", (true, false)),
    ("sasl_ssl", (true, true)),
];

const MECHANISMS: [(&str, Mechanism); 3] = [
    ("SCRAM-SHA-256", Mechanism::ScramSha256),
    ("SCRAM-SHA-512", Mechanism::ScramSha512),
    ("PLAIN", Mechanism::Plain),
];

/// Reads `[broker]`; without it the log is the embedded one.
pub(super) fn read(section: Section<'_>) -> Option<BrokerSection> {
    let enabled = section.or("enabled", true, Value::boolean);
    let bootstrap = section.value("bootstrap");
    let properties = section.or("properties", BTreeMap::new(), properties);
    let security = security(&section, cfg!(feature = "kafka-tls"));
    section.finish();
    let (enabled, properties, security) = (enabled?, properties?, security?);
    let bootstrap = match bootstrap {
        Some(value) if enabled => addresses(&value)?,
        _ => None,
    };
    Some(BrokerSection { bootstrap, properties, security })
}

/// Login and TLS. `openssl`: whether this build has it. Keys that `security` makes no use of are
/// not looked at: which of them it is may be left to a variable.
fn security(section: &Section<'_>, openssl: bool) -> Option<Security> {
    // All are asked for, so that none of them counts as unknown.
    let given: Vec<Value<'_>> =
        SECURITY_KEYS.into_iter().filter_map(|key| section.value(key)).collect();
    let Some(value) = section.value("security") else {
        let Some(given) = given.first() else { return Some(Security::default()) };
        let message = format!("`{}` has no effect without `security`", given.key());
        let help = "say `security = \"sasl_ssl\"`, or another of plaintext, ssl, sasl_plaintext";
        let diagnostic = Diagnostic::new(message).at(given.key_span()).help(help.to_owned());
        return given.fail(diagnostic);
    };
    let (with_login, with_tls) = value.choice(&PROTOCOLS)?;
    let login = if with_login { login(section).map(Some) } else { Some(None) };
    let tls = if with_tls { tls(section).map(Some) } else { Some(None) };
    let security = Security { login: login?, tls: tls? };
    if let Some(needs) = security.needs_openssl().filter(|_| !openssl) {
        let place = if with_tls { value } else { section.value("mechanism")? };
        let message = format!("{needs} needs a build with the feature `kafka-tls`");
        let help = "this program was built without it; `cargo build --release --features \
                    kafka-tls` has it, and so do the images that are deployed";
        return place.fail(Diagnostic::new(message).help(help.to_owned()));
    }
    Some(security)
}

fn login(section: &Section<'_>) -> Option<Login> {
    let mechanism = section.need("mechanism", |value| value.choice(&MECHANISMS));
    let username = section.need("username", Value::word);
    let password = section.need("password", Value::secret);
    Some(Login { mechanism: mechanism?, username: username?, password: password? })
}

fn tls(section: &Section<'_>) -> Option<Tls> {
    let ca_file = section.maybe("ca_file", file).map(Option::flatten);
    let certificate_file = section.maybe("certificate_file", file).map(Option::flatten);
    let key_file = section.maybe("key_file", file).map(Option::flatten);
    let certificate = match (certificate_file?, key_file?) {
        (Some(certificate_file), Some(key_file)) => {
            Some(Certificate { certificate_file, key_file })
        }
        (None, None) => None,
        (one, _) => {
            let (there, missing) = match one {
                Some(_) => ("certificate_file", "key_file"),
                None => ("key_file", "certificate_file"),
            };
            let message = format!("`{there}` is of no use without `{missing}`");
            return section.value(there)?.fail(Diagnostic::new(message));
        }
    };
    Some(Tls { ca_file: ca_file?, certificate })
}

/// `None` within if it is empty: the variable for it was left so.
fn file(value: &Value<'_>) -> Option<Option<String>> {
    let path = value.text()?;
    Some((!path.is_empty()).then_some(path))
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
    if let Some((_, why)) = SECURITY.iter().find(|(begin, _)| name.starts_with(begin)) {
        // Without a place: that would show the line, and what is in it may be a secret.
        let message = format!("`{name}` cannot be a property of [broker.properties]: {why}");
        entry.context().report.push(Diagnostic::new(message));
        return None;
    }
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
    Some((name.to_owned(), value))
}
