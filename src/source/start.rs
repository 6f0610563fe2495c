//! Finding out where an assigned partition begins, off the poll thread.
//!
//! Responsible for: asking the broker for what `progress::positions` decides on, for as long as
//! the broker is away, and committing a start before its first record is read.
//! Not responsible for: the decision, and for seeking there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::{Admin, BrokerError, Positions, Start};
use crate::model::{Offset, Partition, TopicPartition};
use crate::progress::positions::{Begin, Known, begin};
use crate::progress::restart::Backoff;
use crate::runtime::escalation::Ending;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::jitter::jitter;

/// Where a partition begins, or why it cannot.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Read from here.
    At(Offset),
    /// The pipeline has to stop.
    Refused {
        /// What kind of end it is.
        ending: Ending,
        /// What is wrong and what to do.
        why: String,
    },
}

/// Resolves the start positions of one source.
pub struct StartResolver {
    positions: Arc<dyn Positions>,
    admin: Arc<dyn Admin>,
    group: String,
    start: Start,
    retry: Backoff,
    turn: Mutex<()>,
}

impl StartResolver {
    /// Resolves for `group`, which begins at `start` when it is new.
    pub fn new(
        positions: Arc<dyn Positions>,
        admin: Arc<dyn Admin>,
        group: String,
        start: Start,
        retry: Backoff,
    ) -> Self {
        Self { positions, admin, group, start, retry, turn: Mutex::default() }
    }

    /// Look-ups through the source's consumer.
    pub fn positions(&self) -> Arc<dyn Positions> {
        self.positions.clone()
    }

    /// Finds out where `partition` begins; tries for as long as the broker is away.
    pub async fn resolve(self: Arc<Self>, partition: TopicPartition) -> Beginning {
        for attempt in 0.. {
            let resolver = self.clone();
            let wanted = partition.clone();
            let tried = tokio::task::spawn_blocking(move || resolver.look_up(&wanted)).await;
            match tried {
                Ok(Ok(beginning)) => return beginning,
                Ok(Err(error)) if error.is_transient() => {
                    tracing::warn!(%partition, %error, "cannot look up the start position yet");
                    tokio::time::sleep(self.delay(attempt)).await;
                }
                Ok(Err(error)) => {
                    return Beginning::Refused {
                        ending: Ending::Dependency,
                        why: format!("cannot find out where {partition} begins: {error}"),
                    };
                }
                Err(panicked) => {
                    return Beginning::Refused {
                        ending: Ending::Internal,
                        why: format!("looking up the start of {partition} failed: {panicked}"),
                    };
                }
            }
        }
        unreachable!("the attempts are endless")
    }

    fn delay(&self, attempt: u32) -> Duration {
        self.retry.delay(attempt, jitter())
    }

    fn look_up(&self, partition: &TopicPartition) -> Result<Beginning, BrokerError> {
        // One at a time: the first look-up of a new group settles the start of all partitions,
        // and the others have to see that.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (earliest, latest) = self.positions.watermarks(partition)?;
        let all = self.partitions_of(partition)?;
        let committed = self.positions.committed(&all)?;
        let own = all.iter().position(|other| other == partition);
        let known = Known {
            committed: own.and_then(|own| committed[own]),
            group_is_known: committed.iter().any(Option::is_some),
            earliest,
            latest,
        };
        match begin(known) {
            Begin::At(offset) => Ok(Beginning::At(offset)),
            Begin::CommitThenRead(offset) => {
                self.positions.commit(&[(partition.clone(), offset)])?;
                Ok(Beginning::At(offset))
            }
            Begin::ResolveStart => self.start_group(partition, &all),
            Begin::OutOfRange(offset) => Ok(Beginning::Refused {
                ending: Ending::Policy,
                why: format!(
                    "group {} has committed offset {offset} of {partition}, but the partition \
                     holds {earliest}..{latest}: records were removed before they were read, or \
                     the topic was made anew; set the group's offset by hand to go on",
                    self.group
                ),
            }),
        }
    }

    /// Commits the start of *all* partitions of the topic at once: whoever gets the others finds
    /// a known group, and would otherwise begin them at their beginning.
    fn start_group(
        &self,
        partition: &TopicPartition,
        all: &[TopicPartition],
    ) -> Result<Beginning, BrokerError> {
        let mut starts = Vec::with_capacity(all.len());
        for each in all {
            let offset = match self.start {
                Start::Earliest => self.positions.watermarks(each)?.0,
                Start::Latest => self.positions.watermarks(each)?.1,
                Start::Timestamp(at) => self.positions.offset_at(each, at)?,
            };
            starts.push((each.clone(), offset));
        }
        crash_point(Point::StartCommit);
        self.positions.commit(&starts)?;
        crash_point(Point::StartCommitted);
        let own = starts.iter().find(|(each, _)| each == partition);
        own.map(|(_, offset)| Beginning::At(*offset))
            .ok_or_else(|| BrokerError::Unavailable(format!("{partition} is not described yet")))
    }

    fn partitions_of(&self, one: &TopicPartition) -> Result<Vec<TopicPartition>, BrokerError> {
        let described = self.admin.describe(Some(std::slice::from_ref(&one.topic)))?;
        let count = described.first().map_or(0, |info| info.partitions);
        let numbered = (0..count).map(|number| TopicPartition {
            topic: one.topic.clone(),
            partition: Partition(number),
        });
        Ok(numbered.collect())
    }
}
