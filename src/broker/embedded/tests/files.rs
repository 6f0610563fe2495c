//! Tests of the log in a folder, and of retention.
//!
//! Responsible for: what is kept, what is removed, and who may open a folder.
//! Not responsible for: crashes; the fault suite kills real processes.

use super::*;

#[test]
fn records_offsets_and_settings_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path(), Hands::default().clock()).unwrap();
    ensure(&log, "t", 2, &[("max.message.bytes", "10")]);
    produce(&log, record("t", 1, "kept")).unwrap();
    positions(&log).commit(&[(part(1), Offset(1))]).unwrap();
    drop(log);

    let log = EmbeddedLog::open(folder.path(), Hands::default().clock()).unwrap();
    let lookups = positions(&log);
    assert_eq!(lookups.watermarks(&part(1)).unwrap(), (Offset(0), Offset(1)));
    assert_eq!(lookups.committed(&[part(0), part(1)]).unwrap(), [None, Some(Offset(1))]);
    assert!(matches!(
        produce(&log, record("t", 1, "more than ten bytes")),
        Err(BrokerError::TooLarge { .. })
    ));
    assert_eq!(produce(&log, record("t", 1, "next")).unwrap().1, Offset(1));
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    reader.read_from(&part(1), 0);
    assert_eq!(reader.values(2), ["kept", "next"]);
}

#[test]
fn a_handle_keeps_the_log_open_and_close_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path(), Hands::default().clock()).unwrap();
    let again = || EmbeddedLog::open(folder.path(), Hands::default().clock());
    log.close();
    assert!(log.admin().is_err());
    let reopened = again().unwrap();
    let producer = reopened.producer().unwrap();
    drop(reopened);
    assert!(again().is_err(), "the producer keeps it open");
    drop(producer);
    assert!(again().is_ok());
}

#[test]
fn a_folder_in_use_is_refused_naming_file_and_process() {
    let folder = tempfile::tempdir().unwrap();
    let _log = EmbeddedLog::open(folder.path(), Hands::default().clock()).unwrap();
    let Err(error) = EmbeddedLog::open(folder.path(), Hands::default().clock()) else {
        panic!("two logs in one folder");
    };
    let text = error.to_string();
    assert!(text.contains("log.lock"), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
}

#[test]
fn a_log_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(EmbeddedLog::open(folder.path(), Hands::default().clock()).unwrap());
    let connection = rusqlite::Connection::open(folder.path().join("log.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let Err(error) = EmbeddedLog::open(folder.path(), Hands::default().clock()) else {
        panic!("opened a schema it does not know");
    };
    assert!(error.to_string().contains("schema version 99"), "{error}");
}

/// Retention runs after each commit that finds it due, so the second answer from now on proves
/// that it has run.
fn let_retention_run(log: &EmbeddedLog) {
    for _ in 0..2 {
        produce(log, record("other", 0, "x")).unwrap();
    }
}

#[test]
fn old_records_go_when_the_topic_says_so() {
    let hands = Hands::default();
    let log = EmbeddedLog::in_memory(hands.clock()).unwrap();
    ensure(&log, "t", 1, &[("retention.ms", "1000")]);
    ensure(&log, "for-ever", 1, &[]);
    produce(&log, record("for-ever", 0, "old")).unwrap();
    for value in ["old", "older"] {
        produce(&log, record("t", 0, value)).unwrap();
    }
    let mut reader = Reader::new(&log, "t", None);
    reader.event(1);
    hands.set(100_000);
    produce(&log, record("t", 0, "young")).unwrap();
    let_retention_run(&log);
    let lookups = positions(&log);
    assert_eq!(lookups.watermarks(&part(0)).unwrap(), (Offset(2), Offset(3)));
    let kept = TopicPartition::new("for-ever", 0);
    assert_eq!(lookups.watermarks(&kept).unwrap(), (Offset(0), Offset(1)));

    reader.read_from(&part(0), 0);
    assert_eq!(
        reader.next(),
        Err(BrokerError::OutOfRange {
            partition: part(0),
            offset: Offset(0),
            earliest: Offset(2),
            latest: Offset(3),
        })
    );
    reader.read_from(&part(0), 2);
    assert_eq!(reader.values(1), ["young"]);
}

#[test]
fn a_partition_keeps_the_bytes_its_topic_says() {
    let hands = Hands::default();
    let log = EmbeddedLog::in_memory(hands.clock()).unwrap();
    ensure(&log, "t", 1, &[("retention.bytes", "8")]);
    for _ in 0..5 {
        produce(&log, record("t", 0, "four")).unwrap();
    }
    hands.set(100_000);
    let_retention_run(&log);
    assert_eq!(positions(&log).watermarks(&part(0)).unwrap(), (Offset(3), Offset(5)));
}

#[test]
fn a_large_removal_runs_in_pieces_and_leaves_nothing() {
    let log = memory();
    ensure(&log, "t", 1, &[]);
    for _ in 0..25_000 {
        assert!(send(&log, record("t", 0, "x")).is_some());
    }
    assert!(log.producer().unwrap().flush(DEADLINE));
    log.admin().unwrap().delete_records(&[(part(0), Offset(24_999))]).unwrap();
    let shared = &log.running.shared;
    let left: (i64, i64) = locked(&shared.writing)
        .query_row(
            "SELECT (SELECT count(*) FROM records), (SELECT bytes FROM partitions)",
            (),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(left, (1, 1));
}
