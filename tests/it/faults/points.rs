//! A crash at every named point: all of them are documented, all of them are reached, and none of
//! them loses or doubles anything.
//!
//! Responsible for: the points of the suite's own topology. Those of uploads, objects, receipts and
//! retirements are reached in `replicas`, where the cost reports run.
//! Not responsible for: crashes at random (`run`).

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use tidemill::runtime::fault::{Guard, Point};

use super::audit::audit;
use super::evidence::Evidence;
use super::plan::{Mix, Plan};
use super::rig::{Rig, SETTLING};
use super::run::ON_THE_WAY;
use crate::harness::bootstrap;
use crate::{database, replicas};

/// How long a replica may take to come by its point.
const REACH: Duration = Duration::from_secs(45);
/// The signal that ends a process which aborts.
const ABORT: i32 = 6;

/// What `docs/reliability.md` lists in the first column of the table under a heading.
fn documented(heading: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let (_, section) = text.split_once(&format!("## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(str::to_owned).collect()
}

#[test]
fn the_document_lists_every_point_and_every_guard() {
    let points: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(documented("Crash points"), points);
    let guards: Vec<&str> = Guard::ALL.iter().map(|guard| guard.name()).collect();
    assert_eq!(documented("Negative controls"), guards);
}

#[test]
fn every_point_is_reached_by_some_test() {
    let elsewhere = replicas::UPLOADING.iter().chain(&replicas::RETIRING);
    let reached: Vec<&str> = ON_THE_WAY.iter().chain(elsewhere).map(|point| point.name()).collect();
    let distinct: BTreeSet<&str> = reached.iter().copied().collect();
    assert_eq!(reached.len(), distinct.len(), "once is enough");
    let all: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(distinct, all);
}

#[test]
fn a_crash_at_any_point_loses_and_doubles_nothing() {
    super::require_faults();
    let mut rig = Rig::new(&bootstrap(), &database::server(), None);
    let mut plan = Plan::new(5, Mix::SMALL);
    let mut missed = Vec::new();
    for point in ON_THE_WAY {
        rig.produce(&plan.poisoned_wave(3));
        rig.start(0, Some(point.name()));
        match rig.ended(0, REACH) {
            Some(status) => {
                let name = point.name();
                assert_eq!(status.signal(), Some(ABORT), "{name}: it ended with {status}");
            }
            None => {
                missed.push(point.name());
                rig.kill(0);
            }
        }
    }
    assert!(missed.is_empty(), "no replica came by {missed:?}");
    rig.start(0, None);
    rig.wait_until_read();
    let expected = plan.expected();
    rig.finish(expected.lists.len(), SETTLING);
    let findings = audit(&expected, &Evidence::of(&rig));
    assert!(findings.is_clean(), "{findings}");
}
