//! Tests of the settings.

use super::*;

const SHIPPED: &str = include_str!("../../config/tidemill.toml");

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, Diagnostics> {
    Config::parse("tidemill.toml", text, &no_env)
}

#[test]
fn the_shipped_file_says_exactly_what_the_defaults_are() {
    assert_eq!(parse(SHIPPED).unwrap_or_else(|errors| panic!("{errors}")), Config::default());
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn the_shipped_file_has_every_key_and_a_comment_above_it() {
    let mut section = String::new();
    let mut before = "";
    let mut found = Vec::new();
    for line in SHIPPED.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(before.starts_with('#'), "{section}.{key} has no comment");
            found.push(format!("{section}.{key}"));
        }
        before = line;
    }
    assert_eq!(found, Config::keys());
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = |name: &str| match name {
        "TIDEMILL_LIMITS_BATCH_RECORDS" => Some("64".to_owned()),
        "TIDEMILL_CONSUMER_ASSIGNOR" => Some("cooperative-sticky".to_owned()),
        _ => None,
    };
    let text = "[limits]\nbatch_records = 32\nlane_batches = 3\n";
    let config = Config::parse("t.toml", text, &env).unwrap();
    assert_eq!(config.limits.batch_records, 64);
    assert_eq!(config.limits.lane_batches, 3);
    assert_eq!(config.consumer.assignor, Assignor::CooperativeSticky);
}

#[test]
fn errors_of_file_and_environment_come_together() {
    let env = |name: &str| (name == "TIDEMILL_INGRESS_LISTEN").then(|| "here".to_owned());
    let text = "[limits]\nspool_bytes = \"lots\"\nlane_batchs = 3\n[telemetri]\n";
    let shown = Config::parse("t.toml", text, &env).unwrap_err().to_string();
    for expected in [
        "environment variable TIDEMILL_INGRESS_LISTEN has to be an address",
        "it is `here`",
        "t.toml:2:15",
        "`spool_bytes` has to be a size",
        "t.toml:3:1",
        "unknown key `lane_batchs` in [limits]",
        "did you mean `lane_batches`?",
        "t.toml:4:2",
        "did you mean `telemetry`?",
        "4 errors in t.toml",
    ] {
        assert!(shown.contains(expected), "{expected:?} is missing in:\n{shown}");
    }
}

#[test]
fn a_drain_may_take_half_of_the_poll_interval_and_no_more() {
    let text = |deadline: &str| {
        format!("[consumer]\nmax_poll_interval = \"60s\"\nrevoke_drain_deadline = \"{deadline}\"\n")
    };
    assert!(parse(&text("30s")).is_ok());
    let shown = parse(&text("31s")).unwrap_err().to_string();
    assert!(shown.contains("tidemill.toml:3:25"), "{shown}");
    assert!(shown.contains("more than half of `max_poll_interval`"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_is_an_error_that_names_it() {
    let missing = Path::new("no/such/tidemill.toml");
    let shown = Config::load(Some(missing), &no_env).unwrap_err().to_string();
    assert!(shown.contains("cannot read no/such/tidemill.toml"), "{shown}");
    assert_eq!(Config::load(None, &no_env).unwrap(), Config::default());
}

#[test]
fn relative_paths_of_the_state_store_lie_in_the_data_folder() {
    let relative = parse("[data]\ndir = \"/var/lib/tm\"\n").unwrap();
    assert_eq!(relative.state_path(), Path::new("/var/lib/tm/state.db"));
    let absolute = parse("[state]\npath = \"/srv/state.db\"\n").unwrap();
    assert_eq!(absolute.state_path(), Path::new("/srv/state.db"));
}

#[test]
fn no_error_shows_a_secret() {
    let env =
        |name: &str| (name == "TIDEMILL_STATE_URL").then(|| "mysql://me:hunter2@db".to_owned());
    let text = "[state]\nurl = \"hunter2\"\n";
    for shown in [
        Config::parse("t.toml", text, &env).unwrap_err().to_string(),
        parse(text).unwrap_err().to_string(),
    ] {
        assert!(shown.contains("postgres://"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn an_empty_address_of_a_database_is_none() {
    assert_eq!(parse("[state]\nurl = \"\"\n").unwrap().state.url, None);
}

#[test]
fn an_api_that_others_can_reach_needs_a_token_and_never_shows_it() {
    let listen = "[api]\nlisten = \"0.0.0.0:7410\"\n";
    let shown = parse(listen).unwrap_err().to_string();
    assert!(shown.contains("tidemill.toml:2:10"), "{shown}");
    assert!(shown.contains("has no `token`"), "{shown}");

    let env = |name: &str| (name == "TIDEMILL_API_TOKEN").then(|| "hunter2-hunter2-".to_owned());
    let config = Config::parse("t.toml", listen, &env).unwrap();
    assert!(config.api.token.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(parse(&format!("{listen}enabled = false\n")).is_ok());

    let short = parse("[api]\ntoken = \"hunter2\"\n").unwrap_err().to_string();
    assert!(short.contains("16 or more") && !short.contains("hunter2"), "{short}");
}
