//! Logins and TLS on a real broker: who is let in, and what is told to whoever is not.
//!
//! The broker of `scripts/test` has three doors: one for everybody, one that asks for a login (user
//! alice), and one that speaks TLS.

use std::time::Duration;

use tempfile::TempDir;
use tidemill::broker::ProducerRecord;

use crate::harness::{Reader, Tidemill, create_topic, kafka, produce, unique};

const PASSWORD: &str = "alice-secret";
const RECORDS: usize = 300;

/// What `scripts/test` says of its servers.
///
/// # Panics
/// Without it, or in a build that cannot get in: the test cannot prove anything.
fn told(name: &str) -> String {
    if !cfg!(feature = "kafka-tls") {
        panic!("built without the feature kafka-tls: run the tests through scripts/test");
    }
    let value = std::env::var(name);
    value.unwrap_or_else(|_| panic!("{name} is not set: run the tests through scripts/test"))
}

/// A topology that copies one topic to another, over the door that these lines lead through.
struct Copying {
    folder: TempDir,
    name: String,
}

impl Copying {
    fn through(address: &str, lines: &str) -> Self {
        let name = unique("secured");
        let text = format!(
            "version = 1\nname = \"{name}\"\n\
             [vars]\npassword = {{ env = \"BROKER_PASSWORD\", type = \"secret\", default = \"\" }}\n\
             [broker]\nbootstrap = \"{address}\"\n{lines}\n\
             [broker.properties]\n\"broker.address.family\" = \"v4\"\n\
             [sources.orders]\ntype = \"kafka\"\ntopic = \"{name}.orders\"\ndecode = \"json\"\n\
             [sinks.out]\ntype = \"kafka\"\ninputs = [\"orders\"]\ntopic = \"{name}.copies\"\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("topology.toml"), text).expect("the topology");
        Self { folder, name }
    }

    fn with_login(mechanism: &str) -> Self {
        let lines = format!(
            "security = \"sasl_plaintext\"\nmechanism = \"{mechanism}\"\nusername = \"alice\"\n\
             password = \"${{password}}\""
        );
        Self::through(&told("TIDEMILL_TEST_KAFKA_SASL"), &lines)
    }

    fn start(&self, password: &str) -> Tidemill {
        let environment = [("BROKER_PASSWORD".to_owned(), password.to_owned())];
        Tidemill::start_with(&["run", "topology.toml"], self.folder.path(), &environment)
    }

    /// Everything comes through, and nothing in the log gives the password away.
    fn works(&self) {
        let broker = kafka();
        let orders = create_topic(&*broker, &format!("{}.orders", self.name), 2);
        let copies = create_topic(&*broker, &format!("{}.copies", self.name), 2);
        let records = (0..RECORDS).map(|id| {
            let mut record = ProducerRecord::new(orders.clone(), format!("{{\"id\":{id}}}"));
            record.key = Some(id.to_string().into());
            record
        });
        produce(&*broker, records);
        let process = self.start(PASSWORD);
        let mut reader = Reader::new(&*broker, &copies);
        reader.read_until("all copies", |read| read.len() >= RECORDS);
        reader.read_until_quiet(Duration::from_millis(500));
        assert_eq!(reader.records.len(), RECORDS);
        process.signal("TERM");
        let (status, log) = process.wait();
        assert!(status.success(), "{log}");
        assert!(!log.contains(PASSWORD), "a secret in:\n{log}");
    }

    /// It ends with the code of a dependency that cannot be used, and these words.
    fn is_refused(&self, password: &str, words: &[&str]) {
        let (status, log) = self.start(password).wait();
        assert_eq!(status.code(), Some(3), "{log}");
        for words in words {
            assert!(log.contains(words), "no {words:?} in:\n{log}");
        }
        assert!(password.is_empty() || !log.contains(password), "a secret in:\n{log}");
    }
}

#[test]
fn logins_of_every_mechanism_are_let_in() {
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        Copying::with_login(mechanism).works();
    }
}

#[test]
fn a_wrong_password_is_told_as_such_and_not_repeated() {
    let words = ["kafka refuses the login", "check `mechanism`, `username` and `password`"];
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        Copying::with_login(mechanism).is_refused("not-the-password", &words);
    }
}

#[test]
fn tls_works_with_the_certificate_that_signs_the_brokers() {
    let lines = format!("security = \"ssl\"\nca_file = \"{}\"", told("TIDEMILL_TEST_KAFKA_CA"));
    Copying::through(&told("TIDEMILL_TEST_KAFKA_SSL"), &lines).works();
}

#[test]
fn a_broker_that_nobody_known_vouches_for_is_not_trusted() {
    let copying = Copying::through(&told("TIDEMILL_TEST_KAFKA_SSL"), "security = \"ssl\"");
    copying.is_refused("", &["no TLS connection to kafka", "`ca_file`"]);
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let lines = "security = \"ssl\"\nca_file = \"no-such-file.pem\"";
    let copying = Copying::through(&told("TIDEMILL_TEST_KAFKA_SSL"), lines);
    copying.is_refused("", &["ssl.ca.location"]);
}
