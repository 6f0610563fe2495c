//! The audit finds what it is there for: evidence that is wrong in one way each.
//!
//! Responsible for: proving that a run cannot pass because nobody looked.
//! Not responsible for: runs.

use std::collections::{BTreeMap, BTreeSet};

use super::audit::{Findings, audit};
use super::evidence::{Delivery, Done, Evidence, Output};
use super::plan::{Expected, Member};

const LETTER: &[u8] = b"poison";

/// Two good members and one that fails.
fn expected() -> Expected {
    let member = |rows: &[i64], poison| Member { rows: rows.to_vec(), poison };
    let members = [("a", member(&[1, 2], false)), ("b", member(&[3], false))]
        .into_iter()
        .chain([("c", member(&[4], true))])
        .map(|(id, member)| (id.to_owned(), member));
    Expected {
        lists: BTreeMap::from([("m".to_owned(), members.collect())]),
        letters: BTreeSet::from([LETTER.to_vec()]),
        records: 4,
    }
}

fn key(id: &str) -> (String, String) {
    ("m".to_owned(), id.to_owned())
}

fn output(member: &str, total: i64) -> Output {
    Output { list: "m".to_owned(), member: member.to_owned(), total }
}

fn delivery(action: &'static str, key: &str) -> Delivery {
    Delivery { action, list: "m".to_owned(), revision: 1, key: key.to_owned() }
}

/// Everything as it has to be, with repeats where they are allowed.
fn evidence() -> Evidence {
    Evidence {
        outputs: vec![output("a", 3), output("b", 3), output("a", 3)],
        letters: vec![LETTER.to_vec(), LETTER.to_vec()],
        rows: BTreeMap::from([(key("a"), (2, 3)), (key("b"), (1, 3))]),
        done: vec![Done { list: "m".to_owned(), revision: 1, times: 1, members: 2, total: 6 }],
        phases: BTreeMap::from([("m".to_owned(), ("complete".to_owned(), 1))]),
        states: BTreeMap::from([(key("done"), 2), (key("dead_lettered"), 1)]),
        deliveries: vec![delivery("announce", "k"), delivery("call", "l"), delivery("call", "l")],
        alarms: Vec::new(),
    }
}

/// Gives a member so many rows and that sum.
fn rows_of(id: &'static str, rows: (usize, i64)) -> impl Fn(&mut Evidence) {
    move |evidence| {
        evidence.rows.insert(key(id), rows);
    }
}

/// How much of each kind is found once `change` has been made.
fn found(change: impl Fn(&mut Evidence)) -> [usize; 3] {
    let mut evidence = evidence();
    change(&mut evidence);
    let Findings { lost, doubled, strange, .. } = audit(&expected(), &evidence);
    [lost.len(), doubled.len(), strange.len()]
}

#[test]
fn a_run_as_it_has_to_be_is_clean_and_repeats_are_counted() {
    let findings = audit(&expected(), &evidence());
    assert!(findings.is_clean(), "{findings}");
    assert_eq!((findings.once, findings.repeated), (1, 1));
}

#[test]
fn what_is_missing_is_lost() {
    assert_eq!(found(|evidence| drop(evidence.outputs.remove(1))), [1, 0, 0]);
    assert_eq!(found(|evidence| evidence.letters.clear()), [1, 0, 0]);
    assert_eq!(found(rows_of("b", (0, 0))), [1, 0, 0]);
    assert_eq!(found(rows_of("a", (1, 1))), [1, 0, 0]);
    assert_eq!(found(|evidence| evidence.done.clear()), [1, 0, 0]);
    assert_eq!(found(|evidence| evidence.done[0].members = 1), [1, 0, 0]);
    assert_eq!(found(|evidence| evidence.phases.clear()), [1, 0, 0]);
    assert_eq!(found(|evidence| evidence.states.clear()), [1, 0, 0]);
    assert_eq!(found(|evidence| drop(evidence.deliveries.remove(0))), [1, 0, 0]);
}

#[test]
fn an_effect_that_happened_twice_is_found() {
    assert_eq!(found(rows_of("b", (2, 6))), [0, 1, 0]);
    assert_eq!(found(|evidence| evidence.done[0].times = 2), [0, 1, 0]);
    let again = |evidence: &mut Evidence| {
        let second = Done { revision: 2, ..evidence.done[0].clone() };
        evidence.done.push(second);
    };
    assert_eq!(found(again), [0, 1, 0]);
    let revised = |evidence: &mut Evidence| {
        evidence.phases.insert("m".to_owned(), ("complete".to_owned(), 2));
    };
    assert_eq!(found(revised), [0, 1, 0]);
    let other_key = |evidence: &mut Evidence| evidence.deliveries.push(delivery("call", "x"));
    assert_eq!(found(other_key), [0, 1, 0]);
}

#[test]
fn what_nobody_asked_for_is_strange() {
    assert_eq!(found(|evidence| evidence.outputs.push(output("a", 4))), [0, 0, 1]);
    assert_eq!(found(|evidence| evidence.outputs.push(output("c", 4))), [0, 0, 1]);
    assert_eq!(found(|evidence| evidence.letters.push(b"good".to_vec())), [0, 0, 1]);
    assert_eq!(found(rows_of("x", (1, 1))), [0, 0, 1]);
    assert_eq!(found(rows_of("a", (2, 9))), [0, 0, 1]);
    assert_eq!(found(|evidence| evidence.deliveries[1].key = "k".to_owned()), [0, 1, 1]);
    assert_eq!(found(|evidence| evidence.alarms.push("panicked at".to_owned())), [0, 0, 1]);
}
