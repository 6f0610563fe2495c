//! The headers of dead letters, and of the records that replay them.
//!
//! Responsible for: names, what a replay says of its letter, and giving the original record back.
//! Not responsible for: when a record becomes a letter (`sink::dead_letter`), choosing letters to
//! replay (`ops::dead_letters`), or what a source does with a replay (`source::replay`).
//!
//! A letter keeps the headers of its source record as they are and puts its own behind them, from
//! [`PIPELINE`] on; a replay puts its own behind them from [`REPLAY_OF`] on. So the original is
//! what lies before the last header of that name, whatever a producer may have called its own.

use std::str::FromStr;

use bytes::Bytes;

use super::coordinates::{Offset, TopicPartition};
use super::identity::{ManifestKey, MemberId, NodeName};
use super::record::{Headers, LogRecord};

/// Pipeline of the letter: the first header that a letter adds.
pub const PIPELINE: &str = "tidemill-pipeline";
/// Node that gave the record up.
pub const NODE: &str = "tidemill-node";
/// Node of the source that the record came from.
pub const SOURCE: &str = "tidemill-source";
/// Manifest that the record was part of.
pub const MANIFEST: &str = "tidemill-manifest";
/// Member of that manifest.
pub const MEMBER: &str = "tidemill-member";
/// Failure class.
pub const CLASS: &str = "tidemill-error-class";
/// What failed, for people.
pub const ERROR: &str = "tidemill-error";
/// Attempts made, over all replays.
pub const ATTEMPTS: &str = "tidemill-attempts";
/// When the record failed, milliseconds since the Unix epoch.
pub const FAILED_AT: &str = "tidemill-failed-at";
/// When it failed the first time, if it was replayed since.
pub const FIRST_FAILED_AT: &str = "tidemill-first-failed-at";
/// Topic of the source record.
pub const TOPIC: &str = "tidemill-topic";
/// Partition of the source record.
pub const PARTITION: &str = "tidemill-partition";
/// Offset of the source record.
pub const OFFSET: &str = "tidemill-offset";
/// The letter that is replayed: the first header that a replay adds.
pub const REPLAY_OF: &str = "tidemill-replay-of";
/// The source that has to take the replay.
pub const REPLAY_SOURCE: &str = "tidemill-replay-source";
/// Manifest of the only member that is meant.
pub const REPLAY_MANIFEST: &str = "tidemill-replay-manifest";
/// The only member that is meant.
pub const REPLAY_MEMBER: &str = "tidemill-replay-member";

/// What a replayed record knows of its letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Id of the letter.
    pub of: String,
    /// Manifest of the only member that is meant; without it everything is.
    pub manifest: Option<ManifestKey>,
    /// The only member that is meant.
    pub member: Option<MemberId>,
    /// Attempts made before.
    pub attempts: u32,
    /// When the record failed the first time, milliseconds since the Unix epoch.
    pub first_failed_at: Option<i64>,
}

/// A record of the replay topic, turned back into what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The source that has to take it.
    pub source: NodeName,
    /// Where it lay in the log at first; `None` if the replay does not say so.
    pub origin: Option<TopicPartition>,
    /// The source record. Without an origin its offset is that in the replay topic.
    pub record: LogRecord,
    /// What is known of its letter.
    pub replay: Replay,
}

/// Headers before a place, and those from it on.
pub type Parted<'h> = (&'h [(String, Bytes)], &'h [(String, Bytes)]);

/// Parts headers at the last one called `first`: the original ones, and those that were added.
pub fn split<'h>(headers: &'h [(String, Bytes)], first: &str) -> Parted<'h> {
    let at = headers.iter().rposition(|(name, _)| name == first).unwrap_or(headers.len());
    headers.split_at(at)
}

/// The first header called `name`, if it is text.
pub fn text<'h>(headers: &'h [(String, Bytes)], name: &str) -> Option<&'h str> {
    let found = headers.iter().find(|(header, _)| header == name)?;
    std::str::from_utf8(&found.1).ok()
}

/// The first header called `name`, if it is such a number.
pub fn number<T: FromStr>(headers: &[(String, Bytes)], name: &str) -> Option<T> {
    text(headers, name)?.parse().ok()
}

/// Headers of the replay of a letter with these headers, called `id`, for the source `source`.
pub fn replay_headers(letter: &[(String, Bytes)], id: &str, source: &NodeName) -> Headers {
    let (own, added) = split(letter, PIPELINE);
    let mut headers = own.to_vec();
    let mut add = |name: &str, value: &str| {
        headers.push((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    };
    add(REPLAY_OF, id);
    add(REPLAY_SOURCE, source.as_str());
    let first_failed_at = text(added, FIRST_FAILED_AT).or_else(|| text(added, FAILED_AT));
    let told = [
        (REPLAY_MANIFEST, text(added, MANIFEST)),
        (REPLAY_MEMBER, text(added, MEMBER)),
        (ATTEMPTS, text(added, ATTEMPTS)),
        (FIRST_FAILED_AT, first_failed_at),
        (TOPIC, text(added, TOPIC)),
        (PARTITION, text(added, PARTITION)),
        (OFFSET, text(added, OFFSET)),
    ];
    for (name, value) in told {
        value.into_iter().for_each(|value| add(name, value));
    }
    headers
}

/// The source record that a record of the replay topic stands for; `None` if it names no letter
/// or no source.
pub fn restore(replayed: &LogRecord) -> Option<Restored> {
    let (own, added) = split(&replayed.headers, REPLAY_OF);
    let source = NodeName::from(text(added, REPLAY_SOURCE)?);
    let replay = Replay {
        of: text(added, REPLAY_OF)?.to_owned(),
        manifest: text(added, REPLAY_MANIFEST).map(ManifestKey::from),
        member: text(added, REPLAY_MEMBER).map(MemberId::from),
        attempts: number(added, ATTEMPTS).unwrap_or(0),
        first_failed_at: number(added, FIRST_FAILED_AT),
    };
    let origin = origin(added);
    let offset = origin.as_ref().map_or(replayed.offset, |(_, offset)| *offset);
    let record = LogRecord {
        offset,
        timestamp: replayed.timestamp,
        key: replayed.key.clone(),
        value: replayed.value.clone(),
        headers: own.to_vec(),
    };
    let origin = origin.map(|(partition, _)| partition);
    Some(Restored { source, origin, record, replay })
}

fn origin(added: &[(String, Bytes)]) -> Option<(TopicPartition, Offset)> {
    let topic = text(added, TOPIC)?;
    let (partition, offset) = (number(added, PARTITION)?, number(added, OFFSET)?);
    Some((TopicPartition::new(topic, partition), Offset(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        let owned = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))
        };
        pairs.iter().map(owned).collect()
    }

    /// A letter of a record that brought a header of the same name as one of ours.
    fn letter() -> Headers {
        headers(&[
            ("trace", "t1"),
            (MANIFEST, "of the producer"),
            (PIPELINE, "sales"),
            (NODE, "rows"),
            (SOURCE, "orders"),
            (MANIFEST, "m-1"),
            (MEMBER, "a.csv"),
            (ATTEMPTS, "3"),
            (FAILED_AT, "5000"),
            (TOPIC, "orders.in"),
            (PARTITION, "7"),
            (OFFSET, "42"),
        ])
    }

    fn replayed(headers: Headers) -> LogRecord {
        LogRecord {
            offset: Offset(1),
            timestamp: Some(9),
            key: Some(Bytes::from_static(b"k\xff")),
            value: Some(Bytes::from_static(b"\x00")),
            headers,
        }
    }

    #[test]
    fn a_replay_gives_the_source_record_back_as_it_was() {
        let headers = replay_headers(&letter(), "0-5", &"orders".into());
        let restored = restore(&replayed(headers)).unwrap();
        assert_eq!(restored.source, "orders".into());
        assert_eq!(restored.origin, Some(TopicPartition::new("orders.in", 7)));
        let wanted = LogRecord { offset: Offset(42), ..replayed(letter()[..2].to_vec()) };
        assert_eq!(restored.record, wanted);
        let replay = Replay {
            of: "0-5".to_owned(),
            manifest: Some("m-1".into()),
            member: Some("a.csv".into()),
            attempts: 3,
            first_failed_at: Some(5_000),
        };
        assert_eq!(restored.replay, replay);
    }

    #[test]
    fn the_first_failure_is_remembered_over_replays() {
        let mut again = letter();
        again.extend(headers(&[(FIRST_FAILED_AT, "1000"), (REPLAY_OF, "0-5")]));
        let restored = restore(&replayed(replay_headers(&again, "0-9", &"orders".into()))).unwrap();
        assert_eq!(restored.replay.first_failed_at, Some(1_000));
        assert_eq!(restored.replay.of, "0-9");
        assert_eq!(restored.record.headers.len(), 2, "nothing of the letters is left");
    }

    #[test]
    fn a_record_that_replays_nothing_is_none() {
        let table: [&[(&str, &str)]; 4] =
            [&[], &[("trace", "t")], &[(REPLAY_OF, "0-1")], &[(REPLAY_SOURCE, "a")]];
        for pairs in table {
            assert_eq!(restore(&replayed(headers(pairs))), None, "{pairs:?}");
        }
    }

    #[test]
    fn a_replay_without_coordinates_keeps_its_own() {
        let pairs = [(REPLAY_OF, "0-1"), (REPLAY_SOURCE, "orders"), (OFFSET, "many")];
        let restored = restore(&replayed(headers(&pairs))).unwrap();
        assert_eq!((restored.origin, restored.record.offset), (None, Offset(1)));
    }
}
