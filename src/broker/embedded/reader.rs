//! Reading the embedded log beside all groups.
//!
//! Responsible for: ranges of a partition, in pages, on a connection of its own.
//! Not responsible for: groups and what they are entitled to (`consumer`).

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use crate::broker::embedded::Running;
use crate::broker::embedded::database;
use crate::broker::embedded::state::locked;
use crate::broker::{BrokerError, LogReader};
use crate::model::{LogRecord, Offset, TopicPartition};

/// Bytes of records that are in memory at a time, as far as records are no larger.
const PAGE: usize = 1 << 20;

/// A reader of one log.
pub(super) struct EmbeddedReader {
    /// Closed before the log, which is kept open by `log`.
    reader: Arc<Mutex<Connection>>,
    log: Arc<Running>,
}

impl EmbeddedReader {
    /// A reader of `log`.
    pub(super) fn new(log: Arc<Running>) -> Result<Self, BrokerError> {
        log.shared.check_open()?;
        Ok(Self { reader: log.shared.reader()?, log })
    }
}

impl LogReader for EmbeddedReader {
    fn bounds(&mut self, partition: &TopicPartition) -> Result<(Offset, Offset), BrokerError> {
        let (_, head) = self.log.shared.locate(partition)?;
        Ok((head.start, head.end))
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        (from, until): (Offset, Offset),
        take: &mut dyn FnMut(LogRecord) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let (topic, head) = self.log.shared.locate(partition)?;
        let place = (topic, partition.partition.0);
        let until = until.min(head.end);
        let mut next = from.max(head.start);
        while next < until {
            let fetched = database::fetch(&locked(&self.reader), place, (next, until), PAGE)
                .map_err(|error| database::failed("read records", &error))?;
            if next < fetched.start {
                next = fetched.start;
                continue;
            }
            let last = fetched.records.last().map(|record| record.offset.after());
            for record in fetched.records {
                if take(record).is_break() {
                    return Ok(());
                }
            }
            match last {
                Some(after) if !fetched.complete => next = after,
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}
