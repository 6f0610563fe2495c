//! Wrong policies, deadlines, versions and what is late.

use super::*;
use rules::EXPECTED;

const DEADLINE: &str = "inactivity = \"1h\", action = \"alert\"";

/// What is said about a manifest with one more line, and that the caret stands at `caret`.
fn said(line: &str, caret: &str, wanted: &[&str]) {
    let text = with(rules::BATCHES, EXPECTED, &format!("{EXPECTED}{line}\n"));
    let shown = errors(&text).to_string();
    let place = format!("{}\n", place(&text, caret));
    assert!(shown.contains(&place), "no {place:?} in:\n{shown}");
    for wanted in wanted {
        assert!(shown.contains(wanted), "no {wanted:?} in:\n{shown}");
    }
}

#[test]
fn a_policy_that_is_none_is_shown_with_those_there_are() {
    let known = "known: all_done, all_settled, quorum, predicate";
    said("policy = \"majority\"", "\"majority\"", &["`majority` is not known as `policy`", known]);
    said("policy = \"quorums\"", "\"quorums\"", &["did you mean `quorum`?"]);
}

#[test]
fn a_share_that_is_none_is_shown_with_what_is_possible() {
    let (tolerated, quorum) = ("from \"0%\" to \"100%\" of them", "more than \"0%\"");
    // Line, caret, what is said.
    let table = [
        ("tolerate = \"150%\"", "\"150%\"", ["`150%` is not", tolerated]),
        ("tolerate = \"-1%\"", "\"-1%\"", ["`-1%` is not", tolerated]),
        ("tolerate = \"five%\"", "\"five%\"", ["`five%` is not", tolerated]),
        ("tolerate = \"some\"", "\"some\"", ["`some` is not", tolerated]),
        ("tolerate = 0.05", "0.05", ["this is a float", tolerated]),
        ("tolerate = -1", "-1", ["`tolerate` has to be an integer, 0 or more", "`-1` is not"]),
        ("quorum = 0", "0\nfacts", ["`quorum` has to be an integer, 1 or more", "`0` is not"]),
        ("quorum = \"0%\"", "\"0%\"", ["`0%` is not", quorum]),
        ("quorum = \"100.1%\"", "\"100.1%\"", ["`100.1%` is not", quorum]),
    ];
    for (line, caret, wanted) in table {
        said(line, caret, &wanted);
    }
}

#[test]
fn keys_of_different_policies_do_not_go_together() {
    said(
        "tolerate = 1\nquorum = 2",
        "quorum = 2",
        &["`tolerate` and `quorum` belong to different policies", "the other one"],
    );
    said(
        "policy = \"all_done\"\ntolerate = 1",
        "tolerate = 1",
        &["`tolerate` means nothing under the policy `all_done`", "`policy = \"all_settled\"`"],
    );
    said(
        "policy = \"all_settled\"\nquorum = 1",
        "quorum = 1",
        &["`quorum` means nothing under the policy `all_settled`", "`policy = \"quorum\"`"],
    );
}

#[test]
fn a_policy_without_the_key_it_needs_is_refused() {
    for policy in ["quorum", "predicate"] {
        let line = format!("policy = \"{policy}\"");
        let text = with(rules::BATCHES, EXPECTED, &format!("{EXPECTED}{line}\n"));
        let shown = errors(&text).to_string();
        let wanted = format!("`{policy}` is missing in [manifests.batch]");
        assert!(shown.contains(&wanted), "no {wanted:?} in:\n{shown}");
    }
}

#[test]
fn a_predicate_is_shown_at_its_own_characters() {
    let invalid = "the program in `predicate` is not valid";
    said("predicate = '.done >= nonsense(1)'", "nonsense(1)", &[invalid]);
    said("predicate = '.done + 1'", ".done + 1", &[invalid, "a condition must be true or false"]);
    said("predicate = '.facts.closed >= 3'", ".facts.closed >= 3", &[invalid]);
    said("predicate = 'now() == .facts.due'", "now()", &[invalid, "clock or chance"]);
    said("predicate = '.x = true'", ".x = true", &[invalid]);
    said(
        "predicate = '.done == .expcted'",
        ".expcted",
        &["a predicate sees no `.expcted`", "did you mean `expected`?"],
    );
}

#[test]
fn what_is_late_or_in_conflict_has_few_answers() {
    said("late = \"dead_letter\"", "\"dead_letter\"", &["known: drop, revision"]);
    said("conflict = \"last\"", "\"last\"", &["known: first"]);
    said(
        "version = \"nonsense(.version)\"",
        "nonsense(.version)",
        &["the program in `version` is not valid"],
    );
}

#[test]
fn mistakes_of_deadlines_have_a_place_and_say_what_is_possible() {
    let one_thing = "a deadline counts from one thing";
    // What the deadline says, caret, what is said.
    let table = [
        ("action = \"alert\"", "{ action", [one_thing, "a point in time from the facts"]),
        ("first = \"1h\", at = \"due\", action = \"fail\"", "{ first", [one_thing, "`first`"]),
        (
            "at = \"dues\", action = \"fail\"",
            "\"dues\"",
            ["unknown fact `dues`", "did you mean `due`?"],
        ),
        (
            "at = '.dues', action = \"fail\"",
            ".dues",
            ["there is no fact `.dues`", "did you mean `due`?"],
        ),
        (
            "at = 'nonsense(.due)', action = \"fail\"",
            "nonsense(.due)",
            ["the program in `at` is not valid", "undefined function"],
        ),
        (
            "first = \"1h\", action = \"fail\", extend = \"1h\"",
            "{ first",
            ["`max_extensions` is missing in a deadline", "1 error"],
        ),
        (
            "first = \"1h\", action = \"fail\", max_extensions = 1",
            "{ first",
            ["`extend` is missing in a deadline", "1 error"],
        ),
        (
            "first = \"1h\", action = \"fail\", extend = \"1h\", max_extensions = 0",
            "0 }",
            ["`max_extensions` has to be an integer from 1", "`0` is not"],
        ),
        (
            "first = \"1h\", action = \"extend\"",
            "\"extend\"",
            ["`extend` is not known as `action`", "known: alert, complete, fail"],
        ),
    ];
    for (words, caret, wanted) in table {
        let text = with(rules::BATCHES, DEADLINE, words);
        let shown = errors(&text).to_string();
        let place = format!("{}\n", place(&text, caret));
        assert!(shown.contains(&place), "no {place:?} in:\n{shown}");
        for wanted in wanted {
            assert!(shown.contains(wanted), "no {wanted:?} in:\n{shown}");
        }
    }
}

#[test]
fn a_fact_with_errors_does_not_make_its_deadline_one_more() {
    let text = with(rules::BATCHES, "due = \".due\"", "due = \"nonsense(.due)\"");
    let found = errors(&with(&text, DEADLINE, "at = \"due\", action = \"fail\""));
    assert_eq!(found.len(), 1, "{found}");
}

#[test]
fn more_deadlines_than_can_be_kept_are_refused() {
    let many = vec!["{ inactivity = \"1h\", action = \"alert\" }"; 33].join(", ");
    let text = with(rules::BATCHES, &format!("{{ {DEADLINE} }}"), &many);
    assert!(errors(&text).to_string().contains("a manifest has at most 32 deadlines"));
}
