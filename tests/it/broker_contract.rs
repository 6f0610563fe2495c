//! What every broker has to do, tried on each of them.
//!
//! Responsible for: the contract of the traits in `tidemill::broker`, as tests that run on the
//! embedded log and on a real Kafka broker (its address is in `TIDEMILL_TEST_KAFKA`; without it
//! those tests fail).
//! Not responsible for: what only one of them does; that is tested beside its code.

mod kit;

use std::ops::ControlFlow;

use bytes::Bytes;
use tidemill::broker::{BrokerError, ProducerRecord, partitioner};
use tidemill::model::{LogRecord, Offset, Topic};
use uuid::Uuid;

use kit::{
    ATTEMPTS, DEADLINE, EPOCH, Embedded, Event, Journal, Kafka, LogUnderTest, Member, Tested, fill,
    fresh_group, locked, part, produce, record, send, spec,
};

macro_rules! contract {
    ($($behaviour:ident,)*) => {
        mod embedded {
            $(#[test]
            fn $behaviour() -> super::Tested {
                super::$behaviour(&super::Embedded::open()?)
            })*
        }

        mod kafka {
            $(#[test]
            fn $behaviour() -> super::Tested {
                super::$behaviour(&super::Kafka::open()?)
            })*
        }
    };
}

contract! {
    nothing_is_delivered_between_assignment_and_seek_and_resume,
    a_new_group_has_no_committed_offset,
    watermarks_follow_the_records,
    records_of_a_key_keep_their_order_on_its_murmur2_partition,
    headers_nulls_and_bytes_survive,
    pause_stops_and_resume_continues_without_loss_or_repetition,
    runs_bring_what_polls_would,
    seeking_back_replays,
    a_position_out_of_range_is_named_and_mended_by_a_seek,
    a_commit_is_found_by_the_next_consumer_of_the_group_only,
    what_a_revoked_member_returns_is_committed_before_another_gets_the_partition,
    an_offset_is_found_by_time,
    ensure_creates_is_idempotent_and_reports_what_differs,
    a_topic_may_take_larger_records_than_the_pipeline_needs,
    describing_a_topic_that_does_not_exist_is_an_error,
    a_record_that_is_too_large_fails_alone,
    deleted_records_raise_the_low_watermark,
    flush_waits_for_the_acks,
    a_reader_sees_a_range_and_leaves_groups_alone,
    a_reader_stops_when_it_is_told_to,
}

fn nothing_is_delivered_between_assignment_and_seek_and_resume(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    fill(log, &topic, 0, &["a"])?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    member.expect_silence()?;
    member.consumer.seek(&[(part(&topic, 0), Offset(0))])?;
    member.expect_silence()?;
    member.consumer.resume(&[part(&topic, 0)])?;
    assert_eq!(member.values(1)?, ["a"]);
    Ok(())
}

fn a_new_group_has_no_committed_offset(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(2)?;
    fill(log, &topic, 0, &["a"])?;
    let member = Member::alone(log, &fresh_group(), &topic)?;
    let found = member.positions().committed(&[part(&topic, 0), part(&topic, 1)])?;
    assert_eq!(found, [None, None]);
    Ok(())
}

fn watermarks_follow_the_records(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(2)?;
    fill(log, &topic, 0, &["a", "b", "c"])?;
    let member = Member::alone(log, &fresh_group(), &topic)?;
    let positions = member.positions();
    assert_eq!(positions.watermarks(&part(&topic, 0))?, (Offset(0), Offset(3)));
    assert_eq!(positions.watermarks(&part(&topic, 1))?, (Offset(0), Offset(0)));
    Ok(())
}

fn records_of_a_key_keep_their_order_on_its_murmur2_partition(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(5)?;
    let producer = log.broker().producer()?;
    let mut sent = Vec::new();
    for round in 0..20 {
        for key in ["foobar", "21", "abc"] {
            let mut record = ProducerRecord::new(topic.clone(), format!("{key} {round}"));
            record.key = Some(Bytes::from_static(key.as_bytes()));
            sent.push((key, send(producer.as_ref(), record)));
        }
    }
    for (key, acked) in sent {
        let (partition, _) = acked.recv_timeout(DEADLINE)??;
        assert_eq!(partition.partition.0, partitioner::partition_of(key.as_bytes(), 5), "{key}");
    }
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    for partition in member.assigned() {
        member.read_from(&partition, 0)?;
    }
    let values = member.values(60)?;
    for key in ["foobar", "21", "abc"] {
        let of_key: Vec<_> =
            values.iter().filter(|value| value.split(' ').next() == Some(key)).collect();
        let expected: Vec<_> = (0..20).map(|round| format!("{key} {round}")).collect();
        assert_eq!(of_key, expected.iter().collect::<Vec<_>>());
    }
    Ok(())
}

fn headers_nulls_and_bytes_survive(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
    let full = ProducerRecord {
        key: Some(bytes.clone()),
        value: Some(bytes.clone()),
        headers: vec![
            ("twice".to_owned(), bytes.clone()),
            ("ünïcode".to_owned(), Bytes::from_static(b"x")),
            ("twice".to_owned(), Bytes::from_static(b"\0")),
        ],
        timestamp: Some(EPOCH),
        ..record(&topic, 0, "")
    };
    let tombstone = ProducerRecord { value: None, key: Some(bytes), ..record(&topic, 0, "") };
    let keyless = record(&topic, 0, "no key");
    for record in [&full, &tombstone, &keyless] {
        produce(log, record.clone())??;
    }
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    member.read_from(&part(&topic, 0), 0)?;
    let taken = member.take(3)?;
    for (sent, (partition, read)) in [&full, &tombstone, &keyless].into_iter().zip(&taken) {
        assert_eq!(partition, &part(&topic, 0));
        assert_eq!((&read.key, &read.value), (&sent.key, &sent.value));
        assert_eq!(read.headers, sent.headers);
    }
    let offsets: Vec<_> = taken.iter().map(|(_, read)| read.offset).collect();
    assert_eq!(offsets, [Offset(0), Offset(1), Offset(2)]);
    assert_eq!(taken[0].1.timestamp, Some(EPOCH));
    assert!(taken[2].1.timestamp.is_some(), "the producer stamps what has no stamp");
    Ok(())
}

fn pause_stops_and_resume_continues_without_loss_or_repetition(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    let values: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    fill(log, &topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    member.read_from(&part(&topic, 0), 0)?;
    let mut seen = member.values(20)?;
    member.consumer.pause(&[part(&topic, 0)])?;
    member.expect_silence()?;
    member.consumer.resume(&[part(&topic, 0)])?;
    seen.extend(member.values(30)?);
    assert_eq!(seen, values);
    Ok(())
}

fn runs_bring_what_polls_would(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(2)?;
    let values: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    fill(log, &topic, 0, &values)?;
    fill(log, &topic, 1, &values)?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    assert!(member.poll_runs(7)?.is_empty(), "nobody sought");
    member.read_from(&part(&topic, 0), 10)?;
    member.read_from(&part(&topic, 1), 0)?;
    let mut next = [10, 0];
    for _ in 0..ATTEMPTS {
        let runs = member.poll_runs(7)?;
        assert!(runs.iter().map(|run| run.records.len()).sum::<usize>() <= 7);
        for run in runs {
            assert!(!run.records.is_empty());
            assert_eq!(run.bytes, run.records.iter().map(LogRecord::size).sum::<usize>());
            let next = &mut next[usize::try_from(run.partition.partition.0)?];
            for record in run.records {
                assert_eq!(record.offset, Offset(*next));
                assert_eq!(record.value.as_deref(), Some(next.to_string().as_bytes()));
                *next += 1;
            }
        }
        if next == [50, 50] {
            assert!(member.poll_runs(7)?.is_empty(), "there is nothing more");
            return Ok(());
        }
    }
    Err(format!("read up to {next:?} within the deadline").into())
}

fn seeking_back_replays(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    fill(log, &topic, 0, &["a", "b", "c"])?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    member.read_from(&part(&topic, 0), 0)?;
    assert_eq!(member.values(3)?, ["a", "b", "c"]);
    member.consumer.seek(&[(part(&topic, 0), Offset(1))])?;
    assert_eq!(member.values(2)?, ["b", "c"]);
    Ok(())
}

fn a_position_out_of_range_is_named_and_mended_by_a_seek(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(2)?;
    fill(log, &topic, 0, &["a"])?;
    fill(log, &topic, 1, &["b", "c"])?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    member.read_from(&part(&topic, 0), 77)?;
    member.read_from(&part(&topic, 1), 0)?;
    let (mut others, mut error) = (0, None);
    for _ in 0..ATTEMPTS {
        match member.poll() {
            Ok(Some((partition, _))) => {
                assert_eq!(partition, part(&topic, 1), "a position is never reset in silence");
                others += 1;
            }
            Ok(None) => {}
            Err(found) => error = Some(found),
        }
        if others == 2 && error.is_some() {
            break;
        }
    }
    assert_eq!(others, 2, "the other partition goes on");
    match error {
        Some(BrokerError::OutOfRange { partition, offset, .. }) => {
            assert_eq!((partition, offset), (part(&topic, 0), Offset(77)));
        }
        other => return Err(format!("expected a named error, got {other:?}").into()),
    }
    member.read_from(&part(&topic, 0), 0)?;
    for _ in 0..ATTEMPTS {
        match member.poll() {
            Ok(Some((partition, record))) => {
                assert_eq!((partition, record.offset), (part(&topic, 0), Offset(0)));
                return Ok(());
            }
            Ok(None) | Err(BrokerError::OutOfRange { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err("the partition stays silent after the seek".into())
}

fn a_commit_is_found_by_the_next_consumer_of_the_group_only(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(2)?;
    fill(log, &topic, 0, &["a", "b"])?;
    fill(log, &topic, 1, &["c"])?;
    let group = fresh_group();
    let mut first = Member::alone(log, &group, &topic)?;
    first.positions().commit(&[(part(&topic, 0), Offset(2))])?;
    first.consumer.commit(&[(part(&topic, 1), Offset(1))])?;
    let partitions = [part(&topic, 0), part(&topic, 1)];
    let expected = [Some(Offset(2)), Some(Offset(1))];
    let mut found = Vec::new();
    for _ in 0..ATTEMPTS {
        found = first.positions().committed(&partitions)?;
        if found == expected {
            break;
        }
        first.poll()?;
    }
    assert_eq!(found, expected, "a commit that nobody waited for arrives too");
    drop(first);
    let second = Member::alone(log, &group, &topic)?;
    assert_eq!(second.positions().committed(&partitions)?, expected);
    let stranger = Member::alone(log, &fresh_group(), &topic)?;
    assert_eq!(stranger.positions().committed(&partitions)?, [None, None]);
    Ok(())
}

fn what_a_revoked_member_returns_is_committed_before_another_gets_the_partition(
    log: &dyn LogUnderTest,
) -> Tested {
    let topic = log.fresh_topic(2)?;
    fill(log, &topic, 0, &["a", "b"])?;
    fill(log, &topic, 1, &["c", "d"])?;
    let (group, journal) = (fresh_group(), Journal::default());
    let mut first = Member::new(log, ("first", &group), &topic, &journal, Some(Offset(2)))?;
    for _ in 0..ATTEMPTS {
        if first.assigned().len() == 2 {
            break;
        }
        first.poll()?;
    }
    assert_eq!(first.assigned().len(), 2);
    let mut second = Member::new(log, ("second", &group), &topic, &journal, None)?;
    for _ in 0..ATTEMPTS {
        first.poll()?;
        second.poll()?;
        if !second.assigned().is_empty() {
            break;
        }
    }
    let moved = second.assigned();
    assert_eq!(moved.len(), 1, "two members share two partitions");
    let found = second.positions().committed(&moved)?;
    assert_eq!(found, [Some(Offset(2))]);
    let journal = locked(&journal);
    let position = |wanted: (&str, Event)| journal.iter().position(|event| *event == wanted);
    let revoked = position(("first", Event::Revoked(moved[0].clone())));
    let assigned = position(("second", Event::Assigned(moved[0].clone())));
    assert!(revoked.is_some() && revoked < assigned, "{journal:?}");
    Ok(())
}

fn an_offset_is_found_by_time(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    for seconds in [10, 30, 20, 40] {
        let timestamp = Some(EPOCH + seconds * 1000);
        produce(log, ProducerRecord { timestamp, ..record(&topic, 0, "x") })??;
    }
    let member = Member::alone(log, &fresh_group(), &topic)?;
    let positions = member.positions();
    let table = [(0, 0), (10, 0), (11, 1), (30, 1), (31, 3), (40, 3), (41, 4)];
    for (seconds, expected) in table {
        let found = positions.offset_at(&part(&topic, 0), EPOCH + seconds * 1000)?;
        assert_eq!(found, Offset(expected), "at {seconds} s");
    }
    Ok(())
}

fn ensure_creates_is_idempotent_and_reports_what_differs(log: &dyn LogUnderTest) -> Tested {
    let admin = log.broker().admin()?;
    let topic = log.fresh_topic_with(3, &[("max.message.bytes", "5000")])?;
    let found = admin.describe(Some(std::slice::from_ref(&topic)))?;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].name, found[0].partitions), (&topic, 3));
    assert!(admin.describe(None)?.iter().any(|info| info.name == topic));
    let same = [("max.message.bytes", "5000")];
    admin.ensure(&[spec(&topic, 3, &same)])?;
    let Err(BrokerError::WrongSetting { found, wanted, .. }) =
        admin.ensure(&[spec(&topic, 4, &same)])
    else {
        return Err("another partition count passed".into());
    };
    assert_eq!((found.as_str(), wanted.as_str()), ("3", "4"));
    let other = [("max.message.bytes", "6000")];
    let Err(BrokerError::WrongSetting { setting, found, wanted, .. }) =
        admin.ensure(&[spec(&topic, 3, &other)])
    else {
        return Err("another setting passed".into());
    };
    assert_eq!(
        (setting.as_str(), found.as_str(), wanted.as_str()),
        ("max.message.bytes", "5000", "6000")
    );
    Ok(())
}

fn a_topic_may_take_larger_records_than_the_pipeline_needs(log: &dyn LogUnderTest) -> Tested {
    let admin = log.broker().admin()?;
    let topic = log.fresh_topic_with(1, &[("max.message.bytes", "5000")])?;
    admin.ensure(&[spec(&topic, 1, &[("max.message.bytes", "4000")])])?;
    let refused = admin.ensure(&[spec(&topic, 1, &[("max.message.bytes", "6000")])]);
    let Err(BrokerError::WrongSetting { remedy, .. }) = &refused else {
        return Err(format!("a topic that takes too little: {refused:?}").into());
    };
    assert!(!remedy.is_empty(), "somebody has to know what to do");
    Ok(())
}

fn describing_a_topic_that_does_not_exist_is_an_error(log: &dyn LogUnderTest) -> Tested {
    let missing = Topic::from(format!("contract-missing-{}", Uuid::new_v4()));
    let found = log.broker().admin()?.describe(Some(std::slice::from_ref(&missing)));
    assert_eq!(found, Err(BrokerError::UnknownTopic(missing)));
    Ok(())
}

fn a_record_that_is_too_large_fails_alone(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic_with(1, &[("max.message.bytes", "2000")])?;
    // Random, so that compression does not make it fit; one at a time, because a broker refuses
    // whole batches.
    let large: String = (0..200).map(|_| Uuid::new_v4().simple().to_string()).collect();
    assert_eq!(produce(log, record(&topic, 0, "before"))??.1, Offset(0));
    let refused = produce(log, record(&topic, 0, &large))?;
    assert!(matches!(refused, Err(BrokerError::TooLarge { .. })), "{refused:?}");
    assert_eq!(produce(log, record(&topic, 0, "after"))??.1, Offset(1));
    Ok(())
}

fn deleted_records_raise_the_low_watermark(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    fill(log, &topic, 0, &["a", "b", "c"])?;
    log.broker().admin()?.delete_records(&[(part(&topic, 0), Offset(2))])?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    let positions = member.positions();
    assert_eq!(positions.watermarks(&part(&topic, 0))?, (Offset(2), Offset(3)));
    member.read_from(&part(&topic, 0), 2)?;
    assert_eq!(member.values(1)?, ["c"]);
    Ok(())
}

fn flush_waits_for_the_acks(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    let producer = log.broker().producer()?;
    let sent: Vec<_> = (0..100)
        .map(|number| send(producer.as_ref(), record(&topic, 0, &number.to_string())))
        .collect();
    assert!(producer.flush(DEADLINE));
    for acked in sent {
        acked.try_recv().map_err(|error| format!("not delivered after flush: {error}"))??;
    }
    Ok(())
}

fn a_reader_sees_a_range_and_leaves_groups_alone(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(2)?;
    fill(log, &topic, 0, &["a", "b", "c", "d"])?;
    fill(log, &topic, 1, &["e"])?;
    let mut member = Member::alone(log, &fresh_group(), &topic)?;
    member.read_from(&part(&topic, 0), 0)?;
    assert_eq!(member.values(1)?, ["a"]);
    log.broker().admin()?.delete_records(&[(part(&topic, 0), Offset(1))])?;

    let mut reader = log.broker().reader()?;
    assert_eq!(reader.bounds(&part(&topic, 0))?, (Offset(1), Offset(4)));
    let table = [
        (0, (0, i64::MAX), vec![1, 2, 3]),
        (0, (2, 3), vec![2]),
        (0, (2, 2), vec![]),
        (0, (4, 9), vec![]),
        (1, (0, i64::MAX), vec![0]),
    ];
    for (partition, (from, until), expected) in table {
        let mut offsets = Vec::new();
        reader.read(&part(&topic, partition), (Offset(from), Offset(until)), &mut |record| {
            offsets.push(record.offset.0);
            ControlFlow::Continue(())
        })?;
        assert_eq!(offsets, expected, "{from}..{until} of partition {partition}");
    }
    assert_eq!(member.values(3)?, ["b", "c", "d"], "the member of a group keeps its partitions");
    let committed = member.positions().committed(&[part(&topic, 0)])?;
    assert_eq!(committed, [None], "a reader commits nothing");
    Ok(())
}

fn a_reader_stops_when_it_is_told_to(log: &dyn LogUnderTest) -> Tested {
    let topic = log.fresh_topic(1)?;
    fill(log, &topic, 0, &["a", "b", "c"])?;
    let mut reader = log.broker().reader()?;
    for _ in 0..2 {
        let mut taken = 0;
        reader.read(&part(&topic, 0), (Offset(0), Offset(3)), &mut |_| {
            taken += 1;
            if taken == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        assert_eq!(taken, 2, "and begins anew where it is told to");
    }
    Ok(())
}
