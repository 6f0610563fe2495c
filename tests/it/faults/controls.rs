//! Negative controls: with a guard taken away, the same scenario that passes with it has to fail.
//!
//! Responsible for: one scenario for each guard, made so that nothing else can do the guard's work.
//! Not responsible for: the guards (`tidemill::runtime::fault`), or what they protect.

use std::io::Write;
use std::time::Duration;

use tidemill::runtime::fault::Guard;

use super::audit::{Findings, audit};
use super::evidence::Evidence;
use super::plan::{Mix, Plan};
use super::rig::{REFUSED, Rig, SETTLING};
use crate::database;
use crate::harness::{await_within, bootstrap, wait_for, wait_within};

/// How long lists may take to complete once all records are read; with a guard off some never do.
const COMPLETION: Duration = Duration::from_secs(20);
/// How long a commit that must not happen is waited for: many times the interval of commits.
const COMMIT: Duration = Duration::from_secs(6);

/// Runs a scenario with the guard, which has to pass, and without it, which must not.
fn control(guard: Guard, scenario: fn(&mut Rig, &mut Plan)) {
    super::require_faults();
    let held = judged(None, scenario);
    assert!(held.is_clean(), "with all guards on:\n{held}");
    let off = judged(Some(guard), scenario);
    // Even when it goes well: docs/reliability.md quotes it.
    let _ = writeln!(std::io::stderr(), "faults: without {}:\n{off}", guard.name());
    assert!(!off.is_clean(), "nothing depends on {}", guard.name());
}

fn judged(off: Option<Guard>, scenario: fn(&mut Rig, &mut Plan)) -> Findings {
    let mut rig = Rig::new(&bootstrap(), &database::server(), None);
    if let Some(guard) = off {
        rig.set("TIDEMILL_FAULT_DISABLE", guard.name());
    }
    let mut plan = Plan::new(7, Mix::SMALL);
    scenario(&mut rig, &mut plan);
    rig.wait_until_read();
    let expected = plan.expected();
    rig.finish(expected.lists.len(), COMPLETION);
    audit(&expected, &Evidence::of(&rig))
}

/// A replica stands still when it is about to complete a list; another one takes over and
/// completes it; then the first one goes on.
fn an_owner_wakes_after_it_was_replaced(rig: &mut Rig, plan: &mut Plan) {
    rig.start(0, Some("completion.send:1:freeze"));
    let wave = plan.wave();
    rig.produce(&wave);
    rig.wait_until_frozen(0);
    rig.start(1, None);
    let lists = Mix::SMALL.lists;
    wait_within(SETTLING, "the other to complete all lists", || {
        (rig.done() >= lists).then_some(())
    });
    rig.thaw(0);
    // What it was about to send went out before it could learn that it was replaced.
    wait_for("the first one to be refused, or to learn that it was replaced", || {
        let log = rig.replica(0).log();
        (log.contains(REFUSED) || log.contains("partitions lost")).then_some(())
    });
}

/// Nobody can write rows, so nothing that was handed out has its effect; then the process dies.
fn a_process_dies_while_its_rows_wait(rig: &mut Rig, plan: &mut Plan) {
    rig.start(0, None);
    let wave = plan.wave();
    rig.produce(&wave);
    // From here on the table is there and the group is known.
    let lists = Mix::SMALL.lists;
    wait_within(SETTLING, "the first lists", || (rig.done() >= lists).then_some(()));
    rig.wait_until_read();
    let locked = rig.lock_rows();
    let wave = plan.wave();
    rig.produce(&wave);
    // With all guards on this never comes, which is the point.
    let _ = await_within(COMMIT, || (rig.behind() == Some(0)).then_some(()));
    rig.kill(0);
    drop(locked);
    rig.start(0, None);
}

/// A process dies when rows are committed and nobody knows; they come again.
fn a_process_dies_after_it_wrote_rows(rig: &mut Rig, plan: &mut Plan) {
    dies_at(rig, plan, "rows.written:3");
}

/// A process dies when a delivery was made and nobody knows; it is made again.
fn a_process_dies_after_a_delivery(rig: &mut Rig, plan: &mut Plan) {
    dies_at(rig, plan, "outbox.delivered:1");
}

fn dies_at(rig: &mut Rig, plan: &mut Plan, order: &str) {
    rig.start(0, Some(order));
    let wave = plan.wave();
    rig.produce(&wave);
    assert!(rig.ended(0, SETTLING).is_some(), "the process reaches {order}");
    rig.start(0, None);
}

#[test]
fn without_its_lease_a_replaced_owner_completes_lists_again() {
    control(Guard::Lease, an_owner_wakes_after_it_was_replaced);
}

#[test]
fn without_contiguous_offsets_records_in_flight_are_lost() {
    control(Guard::ContiguousOffsets, a_process_dies_while_its_rows_wait);
}

#[test]
fn without_effects_before_commits_rows_are_lost() {
    control(Guard::EffectsBeforeCommit, a_process_dies_while_its_rows_wait);
}

#[test]
fn without_the_registry_rows_are_written_twice() {
    control(Guard::RowRegistry, a_process_dies_after_it_wrote_rows);
}

#[test]
fn without_stable_keys_a_repeated_delivery_looks_like_another_one() {
    control(Guard::StableKeys, a_process_dies_after_a_delivery);
}
