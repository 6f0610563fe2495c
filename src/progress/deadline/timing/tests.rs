//! Tests of when deadlines are due.

use proptest::prelude::*;

use super::*;
use crate::progress::deadline::Extension;

fn owned(seconds: u64) -> OwnedTime {
    OwnedTime(seconds * 1_000)
}

/// So many seconds on the shard's scale, while the wall clock stands still.
fn at(seconds: u64) -> Moment {
    Moment { owned: owned(seconds), unix_millis: 0 }
}

/// So many seconds by the wall clock, and on the shard's scale.
fn wall(seconds: i64, owned_seconds: u64) -> Moment {
    Moment { owned: owned(owned_seconds), unix_millis: seconds * 1_000 }
}

const fn deadline(since: Since, seconds: u64, action: DeadlineAction) -> Deadline {
    Deadline { since, after: Duration::from_secs(seconds), action, extension: None }
}

const fn extended(deadline: Deadline, seconds: u64, most: u32) -> Deadline {
    let by = Duration::from_secs(seconds);
    Deadline { extension: Some(Extension { by, most }), ..deadline }
}

const ALERT: Deadline = deadline(Since::Inactivity, 60, DeadlineAction::Alert);
const FAIL: Deadline = deadline(Since::First, 100, DeadlineAction::Fail);
const APPOINTED: Deadline = deadline(Since::Appointment, 0, DeadlineAction::Complete);

fn turn_of(deadline: Deadline) -> Option<Turn> {
    Some(Turn::Acts(deadline.action))
}

#[test]
fn a_deadline_acts_once_when_its_time_has_come() {
    let mut timing = Timing::starting(owned(10));
    let deadlines = [FAIL, ALERT];
    assert_eq!(timing.next_due(&deadlines), Upcoming { owned: Some(owned(70)), wall: None });
    assert_eq!(timing.take_due(&deadlines, at(69)), None);
    assert_eq!(timing.take_due(&deadlines, at(70)), turn_of(ALERT));
    assert_eq!(timing.take_due(&deadlines, at(70)), None);
    assert_eq!(timing.next_due(&deadlines).owned, Some(owned(110)));
    assert_eq!(timing.take_due(&deadlines, at(500)), turn_of(FAIL));
    assert_eq!(timing.next_due(&deadlines), Upcoming::default());
}

#[test]
fn several_deadlines_that_are_due_come_in_the_order_of_their_declaration() {
    let mut timing = Timing::starting(owned(0));
    assert_eq!(timing.take_due(&[FAIL, ALERT], at(500)), turn_of(FAIL));
    assert_eq!(timing.take_due(&[FAIL, ALERT], at(500)), turn_of(ALERT));
    assert_eq!(timing.take_due(&[FAIL, ALERT], at(500)), None);
}

#[test]
fn an_event_starts_inactivity_anew_and_nothing_else() {
    let mut timing = Timing::starting(owned(0));
    let deadlines = [ALERT, FAIL];
    assert_eq!(timing.take_due(&deadlines, at(60)), turn_of(ALERT));
    timing.touch(owned(90), &deadlines);
    let next = timing.next_due(&deadlines).owned;
    assert_eq!(next, Some(owned(100)), "the first event stays the first");
    assert_eq!(timing.take_due(&deadlines, at(120)), turn_of(FAIL));
    timing.touch(owned(130), &deadlines);
    assert_eq!(timing.take_due(&deadlines, at(189)), None, "what counts from the first is done");
    assert_eq!(timing.take_due(&deadlines, at(190)), turn_of(ALERT), "a new silence, a new alert");
}

#[test]
fn timing_survives_as_it_is_and_as_it_was_stored_before_there_were_extensions() {
    let deadlines = [extended(ALERT, 5, 1), APPOINTED];
    let mut timing = Timing::starting(owned(3));
    timing.appoint(&[None, Some(77_000)], false);
    assert_eq!(timing.take_due(&deadlines, at(100)), Some(Turn::PutOff));
    let text = serde_json::to_string(&timing).unwrap();
    assert_eq!(serde_json::from_str::<Timing>(&text).unwrap(), timing);
    let old: Timing = serde_json::from_str(r#"{"first":3000,"last":4000,"acted":1}"#).unwrap();
    assert_eq!(old, Timing { last: owned(4), acted: 1, ..Timing::starting(owned(3)) });
}

#[test]
fn a_deadline_beyond_all_time_is_never_due() {
    let never = Deadline { after: Duration::MAX, ..FAIL };
    let mut timing = Timing::starting(owned(1));
    let end = Moment { owned: OwnedTime(u64::MAX - 1), unix_millis: i64::MAX };
    assert_eq!(timing.take_due(&[never], end), None);
}

#[test]
fn a_point_in_time_is_judged_by_the_wall_clock_whatever_the_shard_has_seen_of_it() {
    let mut timing = Timing::starting(owned(0));
    assert_eq!(timing.take_due(&[APPOINTED], wall(i64::MAX / 1_000, 0)), None, "none is named");
    timing.appoint(&[Some(500_000)], false);
    assert_eq!(timing.next_due(&[APPOINTED]), Upcoming { owned: None, wall: Some(500_000) });
    assert_eq!(timing.take_due(&[APPOINTED], wall(499, 9_999)), None);
    assert_eq!(timing.take_due(&[APPOINTED], wall(500, 1)), turn_of(APPOINTED));
    assert_eq!(timing.take_due(&[APPOINTED], wall(501, 1)), None, "it acts once");
}

#[test]
fn the_first_point_in_time_stays_unless_a_list_replaces_it() {
    // Known, named, whether it replaces, what is left.
    let table = [
        (None, Some(5), false, Some(5)),
        (Some(5), Some(9), false, Some(5)),
        (Some(5), Some(9), true, Some(9)),
        (Some(5), None, true, Some(5)),
    ];
    for (known, named, replaces, left) in table {
        let mut timing = Timing::starting(owned(0));
        timing.appoint(&[known], false);
        timing.appoint(&[named], replaces);
        assert_eq!(timing.next_due(&[APPOINTED]).wall, left, "{known:?} {named:?} {replaces}");
    }
}

#[test]
fn a_new_point_in_time_is_a_new_deadline() {
    let mut timing = Timing::starting(owned(0));
    timing.appoint(&[Some(1_000)], false);
    assert_eq!(timing.take_due(&[APPOINTED], wall(1, 0)), turn_of(APPOINTED));
    timing.appoint(&[Some(1_000)], true);
    assert_eq!(timing.take_due(&[APPOINTED], wall(1, 0)), None);
    timing.appoint(&[Some(9_000)], true);
    assert_eq!(timing.take_due(&[APPOINTED], wall(9, 0)), turn_of(APPOINTED));
}

#[test]
fn a_deadline_is_put_off_as_often_as_it_may_and_then_acts() {
    let deadlines = [extended(FAIL, 10, 2)];
    let mut timing = Timing::starting(owned(0));
    assert_eq!(timing.take_due(&deadlines, at(100)), Some(Turn::PutOff));
    assert_eq!(timing.take_due(&deadlines, at(109)), None);
    assert_eq!(timing.next_due(&deadlines).owned, Some(owned(110)));
    assert_eq!(timing.take_due(&deadlines, at(115)), Some(Turn::PutOff));
    assert_eq!(timing.take_due(&deadlines, at(124)), None, "it counts from when it was noticed");
    assert_eq!(timing.take_due(&deadlines, at(125)), turn_of(FAIL));
    assert_eq!(timing.take_due(&deadlines, at(999)), None);
}

#[test]
fn an_event_gives_the_extensions_of_a_silence_back() {
    let deadlines = [extended(ALERT, 10, 1)];
    let mut timing = Timing::starting(owned(0));
    assert_eq!(timing.take_due(&deadlines, at(60)), Some(Turn::PutOff));
    timing.touch(owned(65), &deadlines);
    assert_eq!(timing.next_due(&deadlines).owned, Some(owned(125)));
    assert_eq!(timing.take_due(&deadlines, at(125)), Some(Turn::PutOff));
}

#[test]
fn a_point_in_time_that_was_put_off_goes_on_where_downtime_does_not_count() {
    let deadlines = [extended(APPOINTED, 10, 1)];
    let mut timing = Timing::starting(owned(0));
    timing.appoint(&[Some(50_000)], false);
    assert_eq!(timing.take_due(&deadlines, wall(50, 3)), Some(Turn::PutOff));
    assert_eq!(timing.next_due(&deadlines), Upcoming { owned: Some(owned(13)), wall: None });
    assert_eq!(timing.take_due(&deadlines, wall(90_000, 12)), None);
    assert_eq!(timing.take_due(&deadlines, wall(90_001, 13)), turn_of(APPOINTED));
}

#[test]
fn an_operator_puts_every_deadline_off_and_alerts_come_again() {
    let deadlines = [ALERT, FAIL, APPOINTED];
    let mut timing = Timing::starting(owned(0));
    timing.appoint(&[None, None, Some(80_000)], false);
    assert_eq!(timing.take_due(&deadlines, wall(60, 60)), turn_of(ALERT));
    let by = Duration::from_secs(120);
    timing.put_off(by, owned(70), &deadlines);
    assert_eq!(timing.take_due(&deadlines, wall(189, 189)), None);
    let next = Upcoming { owned: Some(owned(190)), wall: None };
    assert_eq!(timing.next_due(&deadlines), next, "the point in time has passed, and waits too");
    for acting in [ALERT, FAIL, APPOINTED] {
        assert_eq!(timing.take_due(&deadlines, wall(190, 190)), turn_of(acting));
    }
    assert_eq!(timing.take_due(&deadlines, wall(9_999, 9_999)), None);
}

#[test]
fn putting_off_twice_is_putting_off_once() {
    let mut timing = Timing::starting(owned(0));
    timing.put_off(Duration::from_secs(500), owned(10), &[FAIL]);
    let once = timing.clone();
    timing.put_off(Duration::from_secs(500), owned(10), &[FAIL]);
    timing.put_off(Duration::from_secs(1), owned(20), &[FAIL]);
    assert_eq!(timing, once);
}

#[test]
fn a_reopening_gives_the_whole_time_again_but_not_points_in_time_that_have_passed() {
    let deadlines = [FAIL, APPOINTED, APPOINTED];
    let mut timing = Timing::starting(owned(0));
    timing.appoint(&[None, Some(10_000), Some(900_000)], false);
    timing.put_off(Duration::from_secs(9_999), owned(0), &deadlines);
    timing.restart(wall(10, 200), &deadlines);
    let next = Upcoming { owned: Some(owned(300)), wall: Some(900_000) };
    assert_eq!(timing.next_due(&deadlines), next);
    assert_eq!(timing.take_due(&deadlines, wall(899, 299)), None);
    assert_eq!(timing.take_due(&deadlines, wall(900, 299)), turn_of(APPOINTED));
}

fn any_deadline() -> impl Strategy<Value = Deadline> {
    let since = prop_oneof![Just(Since::First), Just(Since::Inactivity), Just(Since::Appointment)];
    let extension = prop::option::of((1u64..50, 1u32..3));
    (since, 0u64..100, extension).prop_map(|(since, seconds, extension)| {
        let plain = deadline(since, seconds, DeadlineAction::Alert);
        match extension {
            Some((by, most)) => extended(plain, by, most),
            None => plain,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whoever looks again when `next_due` says so misses nothing, and looking always ends.
    #[test]
    fn looking_when_it_is_said_finds_every_deadline_once(
        deadlines in prop::collection::vec(any_deadline(), 0..6),
        appointments in prop::collection::vec(prop::option::of(0i64..100_000), 0..6),
        put_off in prop::option::of(0u64..200),
        outages in prop::collection::vec(0u64..500, 40),
    ) {
        let mut timing = Timing::starting(owned(0));
        timing.appoint(&appointments, false);
        if let Some(seconds) = put_off {
            timing.put_off(Duration::from_secs(seconds), owned(0), &deadlines);
        }
        let mut now = Moment::default();
        let (mut acts, mut extensions) = (0, 0);
        for outage in outages {
            let next = timing.next_due(&deadlines);
            let wait = next.owned.map(|at| at.0.saturating_sub(now.owned.0));
            let wall = next.wall.map(|at| u64::try_from(at - now.unix_millis).unwrap_or(0));
            let Some(wait) = wait.into_iter().chain(wall).min() else { break };
            let early = timing.clone().take_due(&deadlines, now);
            prop_assert!(wait == 0 || early.is_none(), "{early:?} is due before it was said");
            now.owned = OwnedTime(now.owned.0 + wait);
            // The wall clock goes on without an owner too.
            now.unix_millis += i64::try_from(wait + outage).unwrap();
            while let Some(turn) = timing.take_due(&deadlines, now) {
                match turn {
                    Turn::PutOff => extensions += 1,
                    Turn::Acts(_) => acts += 1,
                }
            }
        }
        let named = |number: usize| appointments.get(number).copied().flatten().is_some();
        let acting = deadlines
            .iter()
            .enumerate()
            .filter(|(number, deadline)| deadline.since != Since::Appointment || named(*number));
        let (mut wanted, mut allowed) = (0, 0);
        for (_, deadline) in acting {
            wanted += 1;
            allowed += deadline.extension.map_or(0, |extension| extension.most);
        }
        prop_assert_eq!((acts, extensions), (wanted, allowed));
        prop_assert_eq!(timing.next_due(&deadlines), Upcoming::default());
    }
}
