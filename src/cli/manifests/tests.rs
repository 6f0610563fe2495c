//! The command on a store that another handle has open for writing.

use clap::Parser;

use super::*;
use crate::model::event::MemberState;
use crate::ops::fixture::{self, Filled, LAST, delivery, failed, manifest, member};

/// The command line of the command alone.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parsed(words: &[&str]) -> Arguments {
    let words = std::iter::once("manifests").chain(words.iter().copied());
    Line::try_parse_from(words).unwrap().arguments
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// A store with manifest `m`, and settings that name its folder.
fn filled() -> (Filled, Config) {
    let filled = runtime().block_on(async {
        let mut filled = Filled::new().await;
        let members = [
            member("a", MemberState::Done),
            member("b", MemberState::Pending),
            failed("c", "broken"),
        ];
        filled.put(manifest("m"), &members).await;
        filled
            .complete(fixture::completed("done", 1, "all_done"), &[], vec![delivery("done", 1)])
            .await;
        filled
    });
    let mut config = Config::default();
    config.data.dir = filled.folder();
    (filled, config)
}

/// What is printed, with the remark.
fn printed(config: &Config, words: &[&str]) -> (String, Option<String>) {
    let arguments = parsed(words);
    let now = Time(LAST + 120_000);
    let question = match &arguments.command {
        Command::List(list) => Question::List(list),
        Command::Show(one) => Question::Show(one),
        Command::Missing(one) => Question::Missing(one),
        Command::Explain(one) => Question::Explain(one),
        other => panic!("no question: {other:?}"),
    };
    let asked = stored::ask(config, async |store| {
        let pipeline = ops::pipeline(store, None).await?;
        answer(question, store, &pipeline, config, now).await
    });
    let Answer { text, remark } = asked.unwrap();
    (text, remark)
}

#[test]
fn questions_about_what_there_is_end_well_and_others_with_usage() {
    let (_filled, config) = filled();
    let exit = |words: &[&str]| manifests(&parsed(words), &config);
    for words in [
        &["list"][..],
        &["list", "--pipeline", "sales", "--phase", "open", "--output", "json"],
        &["show", "m"],
        &["missing", "m"],
        &["explain", "m"],
        &["explain", "m", "--output", "json"],
    ] {
        assert_eq!(exit(words), Exit::Ok, "{words:?}");
    }
    for words in [
        &["explain", "n"][..],
        &["list", "--pipeline", "films"],
        &["list", "--topology", "/no/such/topology.toml"],
    ] {
        assert_eq!(exit(words), Exit::Usage, "{words:?}");
    }
}

#[test]
fn a_folder_without_a_store_is_a_matter_of_usage_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.data.dir = folder.path().to_owned();
    assert_eq!(manifests(&parsed(&["list"]), &config), Exit::Usage);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_listing_has_a_line_for_each_manifest_and_says_what_it_leaves_out() {
    let (_filled, config) = filled();
    let (text, remark) = printed(&config, &["list", "--prefix", "m"]);
    for part in ["m", "report", "open", "1 of 3", "2025-03-13T06:00:00Z (2 min ago)"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(remark, None);
    let (text, remark) = printed(&config, &["list", "--limit", "1", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(remark.as_deref(), Some("only the newest 1 manifest shown: --limit 0 shows all"));
    let (text, remark) = printed(&config, &["list", "--phase", "failed"]);
    assert_eq!((text.as_str(), remark.is_some()), ("", true));
    assert_eq!(printed(&config, &["list", "--phase", "failed", "--output", "json"]).0, "[]");
}

#[test]
fn details_name_members_and_deliveries() {
    let (_filled, config) = filled();
    let (text, _) = printed(&config, &["show", "m"]);
    for part in ["shard 0", "facts", "cluster=c1", "dead_lettered", "unmatched at rows: broken"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let (text, _) = printed(&config, &["show", "done"]);
    assert!(text.contains("topic summaries") && text.contains("complete since"), "{text}");
}

#[test]
fn missing_members_are_ids_on_lines_and_nothing_else() {
    let (_filled, config) = filled();
    assert_eq!(printed(&config, &["missing", "m"]), ("b".to_owned(), None));
    let (text, remark) = printed(&config, &["missing", "done"]);
    assert_eq!((text.as_str(), remark.as_deref()), ("", Some("none of its 0 members is missing")));
}

#[test]
fn an_explanation_names_the_dead_letter_topic_of_the_settings() {
    let (_filled, mut config) = filled();
    config.dead_letters.topic_suffix = ".graveyard".to_owned();
    let (text, _) = printed(&config, &["explain", "m"]);
    assert!(text.contains("sales.graveyard"), "{text}");
}

#[test]
fn commands_need_a_reason_and_are_rehearsed_from_what_is_stored() {
    let (_filled, config) = filled();
    let exit = |words: &[&str]| manifests(&parsed(words), &config);
    let why = ["--why", "a test", "--dry-run"];
    let rehearsed = |words: &[&str]| exit(&[words, &why].concat());
    assert_eq!(rehearsed(&["force", "m"]), Exit::Ok);
    assert_eq!(rehearsed(&["reopen", "done", "--output", "json"]), Exit::Ok);
    assert_eq!(rehearsed(&["extend", "m", "--by", "24h"]), Exit::Ok);
    assert_eq!(rehearsed(&["cancel", "done"]), Exit::Usage, "it is complete");
    assert_eq!(rehearsed(&["force", "n"]), Exit::Usage, "there is none");
    let line = ["manifests", "force", "m"];
    assert!(Line::try_parse_from(line).is_err(), "without a reason");
}

#[test]
fn a_command_without_an_engine_to_send_it_to_says_so() {
    let (_filled, mut config) = filled();
    config.api.enabled = false;
    let words = ["force", "m", "--why", "a test", "--who", "ann"];
    assert_eq!(manifests(&parsed(&words), &config), Exit::Usage);
}

#[test]
fn everything_that_is_stored_is_exported() {
    let (_filled, config) = filled();
    for words in [&["export"][..], &["export", "m"], &["export", "--phase", "open"]] {
        assert_eq!(manifests(&parsed(words), &config), Exit::Ok, "{words:?}");
    }
    assert_eq!(manifests(&parsed(&["export", "n"]), &config), Exit::Usage);
}
