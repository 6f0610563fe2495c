//! Tests of members of one group, and of scripted rebalances.
//!
//! Responsible for: callbacks, commits at revoke, refused commits, topics that appear later.
//! Not responsible for: shares (`group`).

use super::*;

#[test]
fn a_scripted_revoke_commits_what_the_callback_returns() {
    let log = memory();
    ensure(&log, "t", 2, &[]);
    let mut reader = Reader::new(&log, "t", Some(Offset(5)));
    assert_eq!(reader.event(1), Event::Assigned(vec![part(0), part(1)]));
    log.faults().revoke("group", &[part(1)]);
    assert_eq!(reader.event(2), Event::Revoked(vec![part(1)]));
    let lookups = reader.consumer.positions();
    assert_eq!(lookups.committed(&[part(0), part(1)]).unwrap(), [None, Some(Offset(5))]);
    assert!(reader.consumer.seek(&[(part(1), Offset(0))]).is_err(), "no longer assigned");
    log.faults().restore("group", &[part(1)]);
    assert_eq!(reader.event(3), Event::Assigned(vec![part(1)]));
}

#[test]
fn a_lost_partition_delivers_nothing_and_its_commits_are_refused() {
    let log = memory();
    ensure(&log, "t", 2, &[]);
    let mut reader = Reader::new(&log, "t", Some(Offset(5)));
    reader.event(1);
    for number in [0, 1] {
        reader.read_from(&part(number), 0);
    }
    log.faults().lose("group", &[part(0)]);
    reader.consumer.commit(&[(part(0), Offset(9)), (part(1), Offset(1))]).unwrap();
    assert_eq!(reader.event(2), Event::Lost(vec![part(0)]));
    let lookups = reader.consumer.positions();
    assert_eq!(lookups.committed(&[part(0), part(1)]).unwrap(), [None, Some(Offset(1))]);
    produce(&log, record("t", 0, "nobody's")).unwrap();
    produce(&log, record("t", 1, "mine")).unwrap();
    assert_eq!(reader.values(1), ["mine"]);
    assert!(matches!(reader.consumer.poll(STEP), Ok(Polled::Idle)));
}

#[test]
fn a_dropped_member_leaves_its_partitions_to_the_others() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    let mut first = Reader::new(&log, "t", None);
    first.event(1);
    let mut second = Reader::new(&log, "t", None);
    assert!(matches!(second.consumer.poll(STEP), Ok(Polled::Idle)));
    first.consumer.commit(&[(part(0), Offset(3))]).unwrap();
    drop(first);
    assert_eq!(second.event(1), Event::Assigned(vec![part(0)]));
    let committed = second.consumer.positions().committed(&[part(0)]).unwrap();
    assert_eq!(committed, [Some(Offset(3))], "a commit sent before is seen");
}

#[test]
fn a_topic_that_appears_later_is_assigned() {
    let log = memory();
    let mut reader = Reader::new(&log, "t", None);
    assert!(matches!(reader.consumer.poll(STEP), Ok(Polled::Idle)));
    produce(&log, record("t", 0, "first")).unwrap();
    let all = (0..4).map(part).collect();
    assert_eq!(reader.event(1), Event::Assigned(all));
    reader.read_from(&part(0), 0);
    assert_eq!(reader.values(1), ["first"]);
}

#[test]
fn a_log_that_is_away_delivers_later_what_it_has() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(0), 0);
    log.faults().hold_fetch();
    produce(&log, record("t", 0, "a")).unwrap();
    assert!(matches!(reader.consumer.poll(STEP), Ok(Polled::Idle)));
    log.faults().release_fetch();
    assert_eq!(reader.values(1), ["a"]);
}

#[test]
fn a_waiting_consumer_wakes_for_the_commit_of_a_record() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(0), 0);
    let polling = std::thread::spawn(move || reader.consumer.poll(DEADLINE));
    produce(&log, record("t", 0, "a")).unwrap();
    let polled = polling.join().unwrap();
    assert!(matches!(polled, Ok(Polled::Record(_, _))), "{polled:?}");
}

#[test]
fn a_closed_log_ends_its_consumers_with_an_error() {
    let log = memory();
    let mut reader = Reader::new(&log, "t", None);
    assert!(matches!(reader.consumer.poll(STEP), Ok(Polled::Idle)));
    log.close();
    assert!(matches!(reader.consumer.poll(STEP), Err(BrokerError::Unavailable(_))));
}
