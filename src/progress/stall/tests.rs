//! Tests of the stall watch.

use std::time::Duration;

use super::{Movement, Sight, StallWatch};

const BUSY: Sight = Sight { lag: 10, progress: 1, paused: false, unavailable: false };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn watch() -> StallWatch {
    StallWatch::new(at(60))
}

#[test]
fn work_without_movement_is_a_stall_once_the_limit_is_reached() {
    let mut watch = watch();
    assert_eq!(watch.look(BUSY, at(100)), Movement::Moving);
    assert_eq!(watch.look(BUSY, at(159)), Movement::Moving);
    assert_eq!(watch.look(BUSY, at(160)), Movement::Stalled { since: at(60) });
    assert_eq!(watch.look(BUSY, at(170)), Movement::Stalled { since: at(70) });
}

#[test]
fn any_progress_starts_the_time_anew() {
    let mut watch = watch();
    for step in 0..10 {
        let sight = Sight { progress: step, ..BUSY };
        assert_eq!(watch.look(sight, at(step * 59)), Movement::Moving);
    }
}

#[test]
fn a_reason_to_wait_is_no_stall_and_its_time_does_not_count() {
    let reasons = [
        (Sight { lag: 0, ..BUSY }, Movement::Idle),
        (Sight { paused: true, ..BUSY }, Movement::HeldBack),
        (Sight { unavailable: true, ..BUSY }, Movement::HeldBack),
        (Sight { lag: 0, paused: true, unavailable: true, ..BUSY }, Movement::Idle),
    ];
    for (sight, expected) in reasons {
        let mut watch = watch();
        watch.look(BUSY, at(0));
        assert_eq!(watch.look(sight, at(50)), expected);
        assert_eq!(watch.look(sight, at(1_000)), expected);
        assert_eq!(watch.look(BUSY, at(1_001)), Movement::Moving, "{sight:?}");
        assert_eq!(watch.look(BUSY, at(1_060)), Movement::Moving, "{sight:?}");
        assert_eq!(watch.look(BUSY, at(1_061)), Movement::Stalled { since: at(60) });
    }
}

#[test]
fn a_rebuilt_consumer_gets_its_whole_time() {
    let mut watch = watch();
    watch.look(BUSY, at(0));
    assert!(matches!(watch.look(BUSY, at(60)), Movement::Stalled { .. }));
    watch.reset();
    assert_eq!(watch.look(BUSY, at(61)), Movement::Moving);
    assert_eq!(watch.look(BUSY, at(120)), Movement::Moving);
    assert_eq!(watch.look(BUSY, at(121)), Movement::Stalled { since: at(60) });
}

#[test]
fn a_clock_that_steps_back_is_no_stall() {
    let mut watch = watch();
    watch.look(BUSY, at(100));
    assert_eq!(watch.look(BUSY, at(10)), Movement::Moving);
}
