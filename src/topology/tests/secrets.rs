//! Secrets, and what they are for: logins to Kafka, keys of buckets.

use secrecy::ExposeSecret;

use super::*;
use crate::sink::config::{Config as Sink, ParquetSink};

/// The environment of these tests.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "PASSWORD" => "hunter2",
        "KEY_ID" => "AKIAEXAMPLE",
        "OTHER_PASSWORD" => "hunter3",
        _ => return None,
    };
    Some(value.to_owned())
}

const VARS: &str = r#"[vars]
password = { env = "PASSWORD", type = "secret" }
id = { env = "KEY_ID", type = "secret" }
unset = { env = "NOBODY_SETS_THIS", type = "secret", default = "" }
name = { default = "alice" }
"#;

/// The passthrough topology with variables and these lines in `[broker]`.
fn with_broker(lines: &str) -> String {
    let vars = format!("name = \"passthrough\"\n{VARS}\n[broker]\nbootstrap = \"a:1\"\n{lines}\n");
    with(PASSTHROUGH, "name = \"passthrough\"\n", &vars)
}

/// The large topology with a lake in a bucket and these lines in its sink.
fn with_lake(lines: &str) -> String {
    let vars = VARS.trim_start_matches("[vars]");
    let text = with(COST_MANAGEMENT, "[vars]\n", &format!("[vars]{vars}"));
    with(&text, "url = \"${lake}\"\n", &format!("url = \"s3://lake/cost\"\n{lines}\n"))
}

fn read(text: &str) -> Topology {
    parse("t.toml", text, &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(text: &str) -> String {
    let shown = match parse("t.toml", text, &env) {
        Ok(_) => panic!("no error was found in:\n{text}"),
        Err(errors) => errors.to_string(),
    };
    assert!(!shown.contains("hunter"), "{shown}");
    shown
}

fn lake(topology: &Topology) -> &ParquetSink {
    let NodeKind::Sink(Sink::Parquet(sink)) = &node(topology, "lake").kind else {
        panic!("lake is no parquet sink");
    };
    sink
}

const KEYS: &str = "access_key_id = \"${id}\"\nsecret_access_key = \"${password}\"";

#[test]
fn a_plain_login_needs_its_three_keys_and_no_feature() {
    let keys = "mechanism = \"PLAIN\"\nusername = \"${name}\"\npassword = \"${password}\"";
    let topology = read(&with_broker(&format!("security = \"sasl_plaintext\"\n{keys}")));
    let login = topology.broker.security.login.as_ref().unwrap();
    assert_eq!((login.username.as_str(), login.password.expose_secret()), ("alice", "hunter2"));
    assert_eq!(topology.broker.security.protocol(), "sasl_plaintext");
    assert!(!format!("{topology:?}").contains("hunter2"));
    for key in ["mechanism", "username", "password"] {
        let fewer: Vec<&str> = keys.lines().filter(|line| !line.starts_with(key)).collect();
        let text = with_broker(&format!("security = \"sasl_plaintext\"\n{}", fewer.join("\n")));
        let shown = refused(&text);
        assert!(shown.contains(&format!("`{key}` is missing in [broker]")), "{shown}");
    }
}

#[test]
fn mistakes_about_login_and_tls_say_what_is_wrong() {
    let table = [
        ("username = \"alice\"", "`username` has no effect without `security`"),
        ("security = \"tls\"", "`tls` is not known as `security`"),
        (
            "security = \"ssl\"\ncertificate_file = \"me.pem\"",
            "`certificate_file` is of no use without `key_file`",
        ),
        (
            "security = \"sasl_plaintext\"\nmechanism = \"PLAIN\"\nusername = \"a\"\n\
             password = \"hunter2\"",
            "`password` has to come from a secret variable",
        ),
        (
            "security = \"sasl_plaintext\"\nmechanism = \"PLAIN\"\nusername = \"${password}\"\n\
             password = \"${password}\"",
            "variable `password` is secret, `username` is not",
        ),
        (
            "[broker.properties]\nsasl.password = \"hunter2\"",
            "`sasl.password` cannot be a property of [broker.properties]: it is `mechanism`",
        ),
        (
            "[broker.properties]\n\"security.protocol\" = \"ssl\"",
            "`security.protocol` cannot be a property of [broker.properties]: it is `security`",
        ),
        (
            "[broker.properties]\nenable.ssl.certificate.verification = false",
            "certificates are always checked",
        ),
    ];
    for (lines, words) in table {
        let shown = refused(&with_broker(lines));
        assert!(shown.contains(words), "no {words:?} in:\n{shown}");
    }
}

#[test]
fn keys_that_are_not_needed_may_be_left_to_variables() {
    let keys = "mechanism = \"SCRAM-SHA-512\"\nusername = \"\"\npassword = \"${unset}\"";
    let topology = read(&with_broker(&format!("security = \"plaintext\"\n{keys}")));
    assert_eq!(topology.broker.security.protocol(), "plaintext");
    let text = with(&with_lake("access_key_id = \"${unset}\""), "s3://lake/cost", "file://lake");
    assert!(lake(&read(&text)).s3.is_none());
}

/// What needs OpenSSL is refused by a build that has none, and accepted by one that has.
#[test]
fn scram_and_tls_are_for_builds_that_have_them() {
    let login = |mechanism: &str| {
        format!("mechanism = \"{mechanism}\"\nusername = \"alice\"\npassword = \"${{password}}\"\n")
    };
    let table = [
        (format!("security = \"sasl_plaintext\"\n{}", login("SCRAM-SHA-256")), "SCRAM-SHA-256"),
        (format!("security = \"sasl_ssl\"\n{}", login("SCRAM-SHA-512")), "TLS"),
        ("security = \"ssl\"\nca_file = \"ca.pem\"\n".to_owned(), "TLS"),
    ];
    for (lines, needs) in table {
        let text = with_broker(&lines);
        if cfg!(feature = "kafka-tls") {
            assert_eq!(read(&text).broker.security.needs_openssl(), Some(needs));
        } else {
            let shown = refused(&text);
            assert!(shown.contains("needs a build with the feature `kafka-tls`"), "{shown}");
            assert!(shown.contains("cargo build --release --features kafka-tls"), "{shown}");
            assert!(shown.contains(needs) && shown.contains("t.toml:"), "{shown}");
        }
    }
}

#[test]
fn a_bucket_has_keys_a_region_and_perhaps_an_endpoint() {
    let topology = read(&with_lake(&format!("region = \"eu-west-1\"\n{KEYS}")));
    let access = lake(&topology).s3.as_ref().unwrap();
    assert_eq!((access.region.as_str(), access.endpoint.as_deref()), ("eu-west-1", None));
    assert_eq!(access.access_key_id.expose_secret(), "AKIAEXAMPLE");
    assert_eq!(access.secret_access_key.expose_secret(), "hunter2");
    assert!(!format!("{topology:?}").contains("hunter2"));
    let capacities = describe::Capacities::from(&crate::config::Limits::default());
    assert!(!describe::text(&topology, &capacities).contains("hunter2"));

    let endpoint = "endpoint = \"http://127.0.0.1:9000\"\nallow_http = true";
    let topology = read(&with_lake(&format!("{endpoint}\n{KEYS}")));
    let access = lake(&topology).s3.as_ref().unwrap();
    assert_eq!(access.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
}

#[test]
fn mistakes_about_buckets_say_what_is_wrong() {
    let table = [
        (KEYS.to_owned(), "`region` is missing in [sinks.lake]"),
        ("region = \"eu-west-1\"".to_owned(), "`access_key_id` is missing in [sinks.lake]"),
        (format!("endpoint = \"http://h:1\"\n{KEYS}"), "`endpoint` is not encrypted"),
        (format!("endpoint = \"h:1\"\n{KEYS}"), "`endpoint` has to be a URL"),
        (format!("endpoint = \"https://a:b@h\"\n{KEYS}"), "`endpoint` has to be a URL"),
        (
            "region = \"r\"\naccess_key_id = \"AKIAEXAMPLE\"\nsecret_access_key = \"hunter2\""
                .to_owned(),
            "`secret_access_key` has to come from a secret variable",
        ),
        (format!("region = \"r\"\nregoin = \"r\"\n{KEYS}"), "unknown key `regoin`"),
    ];
    for (lines, words) in table {
        let shown = refused(&with_lake(&lines));
        assert!(shown.contains(words), "no {words:?} in:\n{shown}");
    }
    let text = with(&with_lake(KEYS), "s3://lake/cost", "s3://Lake");
    let shown = refused(&text);
    assert!(shown.contains("`s3://Lake` is not a place for objects"), "{shown}");
}

#[test]
fn a_secret_has_no_default_that_everybody_could_read() {
    let vars = VARS.replace("default = \"\"", "default = \"hunter4\"");
    let text = with(&with_broker(""), VARS, &vars);
    let shown = refused(&text);
    assert!(shown.contains("the `default` of the secret `unset` is not empty"), "{shown}");
    let text = with(&with_broker(""), ", default = \"\" }", " }");
    let shown = refused(&text);
    assert!(shown.contains("environment variable NOBODY_SETS_THIS is not set"), "{shown}");
}

#[test]
fn another_password_changes_no_definition() {
    let lines = format!("region = \"eu-west-1\"\n{KEYS}");
    let before = read(&with_lake(&lines));
    let after = read(&with(&with_lake(&lines), "env = \"PASSWORD\"", "env = \"OTHER_PASSWORD\""));
    let secret =
        |topology: &Topology| lake(topology).s3.as_ref().unwrap().secret_access_key.clone();
    assert_ne!(secret(&before).expose_secret(), secret(&after).expose_secret());
    assert_eq!(node(&before, "lake").definition, node(&after, "lake").definition);
}

/// The large topology whose uploads lie in a spool that replicas share.
fn with_spool(spool: &str) -> String {
    let vars = VARS.trim_start_matches("[vars]");
    let text = with(COST_MANAGEMENT, "[vars]\n", &format!("[vars]{vars}"));
    with(&text, "[ingress.uploads]\n", &format!("[ingress.uploads]\nspool = {{ {spool} }}\n"))
}

#[test]
fn a_spool_that_replicas_share_is_a_folder_or_a_bucket_with_its_keys() {
    let keys = KEYS.replace('\n', ", ");
    let topology = read(&with_spool(&format!("url = \"s3://inbox/up\", region = \"r\", {keys}")));
    let spool = topology.ingresses[0].1.spool.as_ref().unwrap();
    let access = spool.s3.as_ref().unwrap();
    assert_eq!((spool.url.as_str(), access.region.as_str()), ("s3://inbox/up", "r"));
    assert_eq!(access.secret_access_key.expose_secret(), "hunter2");
    assert!(!format!("{topology:?}").contains("hunter2"));

    let topology = read(&with_spool("url = \"file:///shared\", access_key_id = \"${unset}\""));
    let spool = topology.ingresses[0].1.spool.as_ref().unwrap();
    assert!(spool.url == "file:///shared" && spool.s3.is_none());
    let unset = read(&with_spool("url = \"\", access_key_id = \"${unset}\""));
    assert!(unset.ingresses[0].1.spool.is_none(), "the variable for it was left empty");
}

#[test]
fn mistakes_about_shared_spools_say_what_is_wrong() {
    let table = [
        ("", "`url` is missing in `spool` of [ingress.uploads]"),
        ("url = \"gs://in\"", "`gs://in` is not a place for objects"),
        ("url = \"s3://uploads\", region = \"r\"", "`access_key_id` is missing in `spool` of"),
        (
            "url = \"file://in\", path = \"up\"",
            "unknown key `path` in `spool` of [ingress.uploads]",
        ),
        (
            "url = \"s3://uploads\", region = \"r\", secret_access_key = \"${password}\", \
             access_key_id = \"hunter2\"",
            "`access_key_id` has to come from a secret variable",
        ),
    ];
    for (spool, words) in table {
        let shown = refused(&with_spool(spool));
        assert!(shown.contains(words), "no {words:?} in:\n{shown}");
    }
}

#[test]
fn uploads_that_stay_with_their_replica_are_worth_a_note_where_there_may_be_several() {
    let mut own = read(COST_MANAGEMENT);
    assert!(notes(&own).is_empty(), "the embedded log has one replica");
    own.broker.bootstrap = Some("kafka:9092".to_owned());
    assert_eq!(notes(&own).len(), 1);
    assert!(notes(&own)[0].contains("[ingress.uploads]"), "{:?}", notes(&own));
    let mut shared = read(&with_spool("url = \"file:///shared\""));
    shared.broker.bootstrap = own.broker.bootstrap;
    assert!(notes(&shared).is_empty());
}
