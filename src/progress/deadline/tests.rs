//! Tests of deadlines and of the time scale they count on.

use std::time::Duration;

use super::{Deadline, DeadlineAction, OwnedTime, ShardClock, Since, Timing};
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

const ALERT: Deadline = Deadline {
    since: Since::Inactivity,
    after: Duration::from_secs(60),
    action: DeadlineAction::Alert,
};
const FAIL: Deadline =
    Deadline { since: Since::First, after: Duration::from_secs(100), action: DeadlineAction::Fail };

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

#[test]
fn a_deadline_acts_once_when_its_time_has_come() {
    let mut timing = Timing::starting(owned(10));
    let deadlines = [FAIL, ALERT];
    assert_eq!(timing.next_due(&deadlines), Some(owned(70)));
    assert_eq!(timing.take_due(&deadlines, owned(69)), None);
    assert_eq!(timing.take_due(&deadlines, owned(70)), Some(ALERT));
    assert_eq!(timing.take_due(&deadlines, owned(70)), None);
    assert_eq!(timing.next_due(&deadlines), Some(owned(110)));
    assert_eq!(timing.take_due(&deadlines, owned(500)), Some(FAIL));
    assert_eq!(timing.next_due(&deadlines), None);
}

#[test]
fn several_deadlines_that_are_due_come_in_the_order_of_their_declaration() {
    let mut timing = Timing::starting(owned(0));
    assert_eq!(timing.take_due(&[FAIL, ALERT], owned(500)), Some(FAIL));
    assert_eq!(timing.take_due(&[FAIL, ALERT], owned(500)), Some(ALERT));
    assert_eq!(timing.take_due(&[FAIL, ALERT], owned(500)), None);
}

#[test]
fn an_event_starts_inactivity_anew_and_nothing_else() {
    let mut timing = Timing::starting(owned(0));
    let deadlines = [ALERT, FAIL];
    assert_eq!(timing.take_due(&deadlines, owned(60)), Some(ALERT));
    timing.touch(owned(90), &deadlines);
    assert_eq!(timing.next_due(&deadlines), Some(owned(100)), "the first event stays the first");
    assert_eq!(timing.take_due(&deadlines, owned(120)), Some(FAIL));
    timing.touch(owned(130), &deadlines);
    assert_eq!(timing.take_due(&deadlines, owned(189)), None, "what counts from the first is done");
    assert_eq!(timing.take_due(&deadlines, owned(190)), Some(ALERT), "a new silence, a new alert");
}

#[test]
fn timing_survives_as_it_is() {
    let mut timing = Timing::starting(owned(3));
    timing.take_due(&[ALERT], owned(100));
    let text = serde_json::to_string(&timing).unwrap();
    assert_eq!(serde_json::from_str::<Timing>(&text).unwrap(), timing);
    assert_eq!(timing.take_due(&[ALERT], owned(200)), None, "it has acted");
}

#[test]
fn a_deadline_beyond_all_time_is_never_due() {
    let never = Deadline { after: Duration::MAX, ..FAIL };
    let mut timing = Timing::starting(owned(1));
    assert_eq!(timing.take_due(&[never], OwnedTime(u64::MAX - 1)), None);
}
