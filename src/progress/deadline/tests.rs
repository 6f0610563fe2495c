//! Tests of the time scale that deadlines count on.

use std::time::Duration;

use super::{OwnedTime, ShardClock};
use crate::model::Offset;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn owned(seconds: u64) -> OwnedTime {
    OwnedTime(seconds * 1_000)
}

fn clock(persisted: u64, now: u64) -> ShardClock {
    ShardClock::take_over(owned(persisted), at(now), Offset(0), Offset(0))
}

#[test]
fn time_goes_on_from_what_was_persisted_whatever_passed_without_an_owner() {
    let first = clock(0, 1_000);
    assert_eq!(first.time(at(1_030)), owned(30));
    let second = clock(30, 999_999);
    assert_eq!(second.time(at(999_999)), owned(30));
    assert_eq!(second.time(at(1_000_009)), owned(40));
}

#[test]
fn a_process_whose_scale_starts_lower_does_not_go_back() {
    assert_eq!(clock(500, 3).time(at(0)), owned(500));
}

#[test]
fn deadlines_are_not_judged_before_the_shard_has_caught_up() {
    let mut clock = ShardClock::take_over(owned(5), at(0), Offset(10), Offset(13));
    assert_eq!(clock.due_time(at(1_000)), None);
    clock.applied(Offset(12));
    assert_eq!(clock.due_time(at(1_000)), None);
    clock.applied(Offset(13));
    assert_eq!(clock.due_time(at(1_000)), Some(owned(1_005)));
    clock.applied(Offset(11));
    assert_eq!(clock.due_time(at(1_000)), Some(owned(1_005)), "positions do not go back");
}

#[test]
fn an_outage_of_the_store_stops_time_and_has_to_be_caught_up_with() {
    let mut clock = clock(0, 0);
    clock.suspend(at(10));
    assert_eq!(clock.due_time(at(500)), None);
    assert_eq!(clock.time(at(500)), owned(10));
    clock.suspend(at(600));
    clock.resume(at(1_000), Offset(7));
    assert_eq!(clock.time(at(1_001)), owned(11));
    assert_eq!(clock.due_time(at(1_001)), None);
    clock.applied(Offset(7));
    assert_eq!(clock.due_time(at(1_002)), Some(owned(12)));
    clock.resume(at(1_003), Offset(3));
    assert_eq!(clock.due_time(at(1_003)), Some(owned(13)), "resuming twice counts nothing twice");
}
