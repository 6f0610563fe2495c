//! Reading topics from their beginning to their present end.
//!
//! Responsible for: going through the partitions beside all groups, on a thread that may block.
//! Not responsible for: what is made of the records.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::broker::{Broker, BrokerError};
use crate::model::{LogRecord, Offset, Topic, TopicPartition};
use crate::ops::OpsError;
use crate::ops::dead_letters::letter::LetterId;

/// Which part of each partition is read.
pub(super) struct Ranges(Option<BTreeMap<i32, (Offset, Offset)>>);

impl Ranges {
    /// All of it.
    pub(super) fn all() -> Self {
        Self(None)
    }

    /// From the first to the last of these.
    pub(super) fn around<'i>(ids: impl IntoIterator<Item = &'i LetterId>) -> Self {
        let mut ranges: BTreeMap<i32, (Offset, Offset)> = BTreeMap::new();
        for id in ids {
            let (first, after) = (Offset(id.offset), Offset(id.offset).after());
            let range = ranges.entry(id.partition).or_insert((first, after));
            *range = (range.0.min(first), range.1.max(after));
        }
        Self(Some(ranges))
    }

    fn of(&self, partition: i32) -> Option<(Offset, Offset)> {
        match &self.0 {
            None => Some((Offset::ZERO, Offset(i64::MAX))),
            Some(ranges) => ranges.get(&partition).copied(),
        }
    }
}

/// Shows the records of `topic` to `visit` until it breaks off. A topic that is not there has no
/// records: it is made when the pipeline starts for the first time. Blocks.
pub(super) fn scan(
    broker: &dyn Broker,
    topic: &Topic,
    ranges: &Ranges,
    visit: &mut dyn FnMut(LetterId, LogRecord) -> ControlFlow<()>,
) -> Result<(), BrokerError> {
    let described = match broker.admin()?.describe(Some(std::slice::from_ref(topic))) {
        Ok(described) => described,
        Err(BrokerError::UnknownTopic(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut reader = broker.reader()?;
    for number in 0..described.first().map_or(0, |info| info.partitions) {
        let Some(range) = ranges.of(number) else { continue };
        let mut flow = ControlFlow::Continue(());
        let partition = TopicPartition::new(topic.clone(), number);
        reader.read(&partition, range, &mut |record| {
            let id = LetterId { partition: number, offset: record.offset.0 };
            flow = visit(id, record);
            flow
        })?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// Does something on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, OpsError> {
    let worked = tokio::task::spawn_blocking(work).await;
    let worked = worked.map_err(|error| OpsError::Internal(error.to_string()))?;
    Ok(worked?)
}
