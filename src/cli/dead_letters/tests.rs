//! Arguments of the command, and what is printed of letters.

use clap::Parser;

use super::*;
use crate::ops::dead_letters::{LetterDetails, LetterHeader, Mark, Preview};

/// The command line of the command alone.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parsed(words: &[&str]) -> Result<Command, clap::Error> {
    let words = std::iter::once("dead-letters").chain(words.iter().copied());
    Line::try_parse_from(words).map(|line| line.arguments.command)
}

const NOW: Time = Time(1_741_842_000_000);

fn letter() -> LetterLine {
    let told = serde_json::json!({
        "id": "0-17", "state": "replayed", "failed_at": "2025-03-13T04:00:00.000Z",
        "mark": {"who": "ann", "why": "mended", "at": "2025-03-13T04:58:00.000Z"},
        "first_failed_at": null, "node": "rows", "class": "unmatched",
        "error": "no schema\u{1b}[2J", "attempts": 3, "source": "orders", "manifest": "m",
        "member": "a.csv", "topic": "orders.in", "partition": 3, "offset": 42,
        "replay_of": null, "bytes": 7
    });
    serde_json::from_value(told).unwrap()
}

#[test]
fn a_change_names_letters_and_a_reason() {
    let words = ["replay", "--id", "0-1", "--id", "0-2", "--why", "mended", "--member", "a"];
    let Ok(Command::Replay(change)) = parsed(&words) else { panic!("a replay") };
    let filter = change.like.filter(&change.ids, change.limit, NOW).unwrap();
    assert_eq!((filter.ids.len(), filter.member.as_deref()), (2, Some("a")));
    assert!(parsed(&["discard", "--id", "0-1"]).is_err(), "without a reason");
    assert!(parsed(&["list", "--api", "http://a", "--topology", "x.toml"]).is_err());
}

#[test]
fn a_time_is_an_instant_or_how_long_ago_it_was() {
    assert_eq!(since("2025-03-13T05:00:00Z", NOW).unwrap(), NOW.0);
    assert_eq!(since("1h", NOW).unwrap(), NOW.0 - 3_600_000);
    assert!(since("yesterday", NOW).is_err());
}

#[test]
fn a_listing_is_harmless_for_a_terminal() {
    let text = views::listing(&[letter()]);
    for part in ["0-17", "replayed", "2025-03-13T04:00:00Z", "unmatched", "no schema\\u{1b}[2J"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn details_say_what_was_done_and_where_the_record_came_from() {
    let preview = Preview {
        encoding: crate::ops::dead_letters::Encoding::Text,
        shown: "{}".to_owned(),
        is_cut: false,
        bytes: 2,
    };
    let details = LetterDetails {
        letter: letter(),
        key: None,
        value: Some(preview.clone()),
        headers: vec![LetterHeader { name: "trace".to_owned(), value: preview }],
        key_base64: None,
        value_base64: Some("e30=".to_owned()),
    };
    let mark = Mark { who: "ann".to_owned(), why: "mended".to_owned(), at: Time(NOW.0 - 120_000) };
    assert_eq!(details.letter.mark, Some(mark));
    let text = views::details(&details, NOW);
    for part in [
        "replayed 2025-03-13T04:58:00Z (2 min ago) by ann: mended",
        "orders.in[3] offset 42",
        "trace: {}",
        "value",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_dry_run_says_that_nothing_was_done() {
    assert_eq!(remark(Deed::Replay, 1, true), "1 dead letter would be replayed");
    assert_eq!(remark(Deed::Discard, 2, false), "2 dead letters discarded");
}
