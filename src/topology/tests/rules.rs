//! What `[manifests.NAME]` says of policies, deadlines, versions and what is late.

use std::time::Duration;

use super::*;
use crate::completion::config::{Deadline, DeadlineDue, Policy};
use crate::progress::deadline::{DeadlineAction, Extension};
use crate::progress::manifest::{Late, Share};

/// Lists of parts on one topic, the parts on another.
pub(super) const BATCHES: &str = r#"version = 1
name = "batches"

[sources.lists]
type = "kafka"
topic = "lists"

[sources.parts]
type = "kafka"
topic = "parts"

[processors.known]
type = "filter"
inputs = ["parts"]
condition = "exists(.batch)"

[manifests.batch]
announced_by = "lists"
members = "known"
key = ".batch"
member = ".part"
expected = ".parts"
facts = { due = ".due", closed = ".closed" }
deadlines = [{ inactivity = "1h", action = "alert" }]

[sinks.out]
type = "kafka"
inputs = ["known"]
topic = "out"
"#;

/// The line behind which others are put.
pub(super) const EXPECTED: &str = "expected = \".parts\"\n";

/// The manifest of the topology, with one more line.
fn batch(line: &str) -> Manifest {
    let line = format!("{EXPECTED}{line}\n");
    let text = with(BATCHES, EXPECTED, &line);
    valid(&text).manifests[0].1.clone()
}

/// The only deadline of the manifest, declared in these words.
fn deadline(words: &str) -> Deadline {
    let text = with(BATCHES, "inactivity = \"1h\", action = \"alert\"", words);
    valid(&text).manifests[0].1.deadlines[0].clone()
}

/// What a policy came to, in a word that can be compared.
fn said(policy: &Policy) -> String {
    match policy {
        Policy::AllDone => "all done".to_owned(),
        Policy::AllSettled { tolerate } => format!("{tolerate} may fail"),
        Policy::Quorum(quorum) => format!("{quorum} are enough"),
        Policy::Predicate(program) => format!("if {}", program.source()),
    }
}

#[test]
fn a_policy_is_named_or_follows_from_the_key_that_goes_with_it() {
    let table = [
        ("", "all done"),
        ("policy = \"all_done\"", "all done"),
        ("policy = \"all_settled\"", "0 may fail"),
        ("policy = \"all_settled\"\ntolerate = 3", "3 may fail"),
        ("tolerate = 3", "3 may fail"),
        ("tolerate = \"5%\"", "5% may fail"),
        ("tolerate = \"2.5 %\"", "2.5% may fail"),
        ("tolerate = \"0%\"", "0% may fail"),
        ("policy = \"quorum\"\nquorum = 8", "8 are enough"),
        ("quorum = \"80%\"", "80% are enough"),
        ("quorum = \"100%\"", "100% are enough"),
        ("predicate = \".done >= 2\"", "if .done >= 2"),
        (
            "policy = \"predicate\"\npredicate = '.pending == 0 || .facts.closed == true'",
            "if .pending == 0 || .facts.closed == true",
        ),
    ];
    for (line, wanted) in table {
        assert_eq!(said(&batch(line).policy), wanted, "{line}");
    }
}

#[test]
fn a_share_may_come_from_a_variable() {
    let vars = "\n[vars]\nshare = { default = \"5%\" }\nmany = { type = \"int\", default = 7 }\n";
    for (line, wanted) in
        [("tolerate = \"${share}\"", "5% may fail"), ("tolerate = \"${many}\"", "7 may fail")]
    {
        let text = with(BATCHES, EXPECTED, &format!("{EXPECTED}{line}\n")) + vars;
        assert_eq!(said(&valid(&text).manifests[0].1.policy), wanted);
    }
}

#[test]
fn a_deadline_counts_from_an_event_or_waits_for_a_point_in_time() {
    let found = deadline("first = \"7d\", action = \"complete\"");
    let DeadlineDue::First(after) = found.due else { panic!("{:?}", found.due) };
    assert_eq!(after, Duration::from_secs(7 * 86_400));
    assert_eq!((found.action, found.extension), (DeadlineAction::Complete, None));
    let by_name = deadline("at = \"due\", action = \"fail\"");
    let DeadlineDue::At(program) = &by_name.due else { panic!("{by_name:?}") };
    assert_eq!(program.source(), ".\"due\"");
    let by_program = deadline("at = 'parse_timestamp!(.due, \"%F\")', action = \"fail\"");
    assert!(matches!(by_program.due, DeadlineDue::At(_)));
}

#[test]
fn a_deadline_can_be_put_off_before_it_acts() {
    let found =
        deadline("inactivity = \"1h\", action = \"fail\", extend = \"10m\", max_extensions = 3");
    let wanted = Extension { by: Duration::from_secs(600), most: 3 };
    assert_eq!(found.extension, Some(wanted));
}

#[test]
fn versions_and_what_is_late_are_declared() {
    let plain = batch("");
    assert_eq!((plain.version.is_some(), plain.late), (false, Late::Drop));
    let declared = batch("version = \".version\"\nlate = \"revision\"\nconflict = \"first\"");
    assert_eq!((declared.version.is_some(), declared.late), (true, Late::Revision));
}

#[test]
fn shares_are_shown_as_they_are_declared() {
    let capacities = crate::topology::describe::Capacities::from(&crate::config::Limits::default());
    let table = [
        ("tolerate = \"5%\"", "all settled, 5% may fail"),
        ("quorum = 3", "3 done"),
        ("predicate = \".done > 1\"", "by predicate"),
    ];
    for (line, wanted) in table {
        let topology = valid(&with(BATCHES, EXPECTED, &format!("{EXPECTED}{line}\n")));
        let text = crate::topology::describe::text(&topology, &capacities);
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    assert_eq!(Share::Hundredths(1).to_string(), "0.01%");
}
