//! What the records of a partition are to the source that reads it: its own, or replayed dead
//! letters.
//!
//! Responsible for: turning a replay back into the record that failed, as it lay in its topic at
//! first, so that programs see the coordinates of the first time; passing over the replays of
//! other sources.
//! Not responsible for: the headers of a replay (`model::letter`), or asking for one (`ops`).
//!
//! All sources of a pipeline read the same replay topic, each in a group of its own. A replay for
//! another source is *filtered* here; one that nobody understands stays in its topic, and is
//! reported.

use std::sync::Arc;

use crate::model::{Metadata, NodeName, SourceBatch, SourceRef, letter};

/// What the records of a partition are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Records of the topic of this source.
    Topic(NodeName),
    /// Replayed dead letters, those of this source among them.
    Replays(NodeName),
}

impl Intake {
    /// Whether the records are dead letters that are tried again: the limit of dead letters does
    /// not count them a second time.
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Replays(_))
    }

    /// What records are part of before any node has seen them.
    pub(super) fn metadata(&self) -> Arc<Metadata> {
        let (Self::Topic(source) | Self::Replays(source)) = self;
        Arc::new(Metadata { source: Some(source.clone()), ..Metadata::default() })
    }

    /// Record number `index` of `batch` for the first stage, `None` if it is not for this source.
    /// `meta` is that of all records.
    pub(super) fn open(
        &self,
        batch: &Arc<SourceBatch>,
        index: u32,
        meta: &Arc<Metadata>,
    ) -> Option<(SourceRef, Arc<Metadata>)> {
        let source = SourceRef::new(batch.clone(), index);
        match self {
            Self::Topic(_) => Some((source, meta.clone())),
            Self::Replays(own) => restored(&source, own, meta),
        }
    }
}

fn restored(
    replayed: &SourceRef,
    own: &NodeName,
    meta: &Arc<Metadata>,
) -> Option<(SourceRef, Arc<Metadata>)> {
    let Some(restored) = letter::restore(replayed.record()) else {
        tracing::warn!(
            partition = %replayed.origin(),
            offset = %replayed.offset(),
            "a record of the replay topic replays no dead letter and is passed over"
        );
        return None;
    };
    if restored.source != *own {
        return None;
    }
    let batch = SourceBatch {
        origin: restored.origin.unwrap_or_else(|| replayed.origin().clone()),
        epoch: replayed.epoch(),
        records: vec![restored.record],
    };
    let replay = Some(Arc::new(restored.replay));
    let meta = Metadata { replay, ..(**meta).clone() };
    Some((SourceRef::new(Arc::new(batch), 0), Arc::new(meta)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Epoch, Headers, LogRecord, Offset, TopicPartition};

    fn batch(headers: Headers) -> Arc<SourceBatch> {
        let record = LogRecord {
            offset: Offset(3),
            timestamp: Some(7),
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers,
        };
        let origin = TopicPartition::new("sales.replay", 0);
        Arc::new(SourceBatch { origin, epoch: Epoch(1), records: vec![record] })
    }

    fn replay_for(source: &str) -> Arc<SourceBatch> {
        let added = [
            (letter::PIPELINE, "sales"),
            (letter::TOPIC, "orders"),
            (letter::PARTITION, "2"),
            (letter::OFFSET, "42"),
        ];
        let headers =
            added.map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes())));
        batch(letter::replay_headers(&headers, "1-5", &source.into()))
    }

    fn opened(intake: &Intake, batch: &Arc<SourceBatch>) -> Option<(SourceRef, Arc<Metadata>)> {
        intake.open(batch, 0, &intake.metadata())
    }

    #[test]
    fn a_record_of_the_topic_is_taken_as_it_lies_and_knows_its_source() {
        let (source, meta) = opened(&Intake::Topic("orders".into()), &replay_for("x")).unwrap();
        assert_eq!((source.origin().topic.as_str(), source.offset()), ("sales.replay", Offset(3)));
        assert_eq!((&meta.source, &meta.replay), (&Some("orders".into()), &None));
    }

    #[test]
    fn a_replay_is_where_it_was_the_first_time() {
        let intake = Intake::Replays("orders".into());
        let (source, meta) = opened(&intake, &replay_for("orders")).unwrap();
        assert_eq!(source.origin(), &TopicPartition::new("orders", 2));
        assert_eq!((source.offset(), source.record().timestamp), (Offset(42), Some(7)));
        assert!(source.record().headers.is_empty(), "{:?}", source.record().headers);
        assert_eq!(meta.source, Some("orders".into()));
        assert_eq!(meta.replay.as_ref().map(|replay| replay.of.as_str()), Some("1-5"));
    }

    #[test]
    fn replays_of_other_sources_and_records_that_are_none_are_passed_over() {
        let intake = Intake::Replays("orders".into());
        assert!(opened(&intake, &replay_for("returns")).is_none());
        assert!(opened(&intake, &batch(Vec::new())).is_none());
    }
}
