//! An edge from one stage to the next, or to a node that does I/O.
//!
//! Responsible for: turning fields back into bytes (trees do not cross threads), and holding
//! back what an input record led to until it is committed.
//! Not responsible for: which lane a record takes (`runtime::lanes`).

use std::sync::Arc;

use crate::expr::fields;
use crate::model::{Failure, Record};
use crate::progress::obligation::Owed;
use crate::runtime::handover::Handover;
use crate::runtime::inbox::Address;
use crate::runtime::lanes::{Input, LaneBatch, Lanes};
use crate::runtime::node::{Duties, ScopeId, Stopped, Writer};

/// Where an edge leads.
#[derive(Clone)]
pub enum Target {
    /// An entry of another stage.
    Stage {
        /// Its lanes.
        lanes: Arc<Lanes>,
        /// Which of its entries.
        entry: u16,
    },
    /// A node that does I/O.
    Call(Address<LaneBatch>),
}

impl Target {
    /// Which entry of its stage it takes.
    pub fn entry(&self) -> u16 {
        match self {
            Self::Stage { entry, .. } => *entry,
            Self::Call(_) => 0,
        }
    }

    /// Hands over a batch; blocks while the other side is full.
    fn blocking_send(&self, batch: LaneBatch) -> Result<(), Stopped> {
        match self {
            Self::Stage { lanes, .. } => lanes
                .split(batch)
                .into_iter()
                .try_for_each(|(lane, part)| lane.blocking_send(part).map_err(|_| Stopped)),
            Self::Call(address) => address.blocking_send(batch).map_err(|_| Stopped),
        }
    }

    /// Hands over a batch; waits while the other side is full.
    pub async fn send(&self, batch: LaneBatch) -> Result<(), Stopped> {
        match self {
            Self::Stage { lanes, .. } => {
                for (lane, part) in lanes.split(batch) {
                    lane.send(part).await.map_err(|_| Stopped)?;
                }
                Ok(())
            }
            Self::Call(address) => address.send(batch).await.map_err(|_| Stopped),
        }
    }
}

/// The writing end of an edge.
pub struct EdgeWriter {
    target: Target,
    entry: u16,
    /// Made from the current input record.
    accepted: Vec<(Record, ScopeId)>,
    committed: Handover<Owed<Input>>,
}

impl EdgeWriter {
    /// An edge to `target`; `committed` is the lane's.
    pub fn new(target: Target, committed: Handover<Owed<Input>>) -> Self {
        let entry = target.entry();
        Self { target, entry, accepted: Vec::new(), committed }
    }
}

impl Writer for EdgeWriter {
    fn accept(&mut self, mut record: Record, scope: ScopeId) -> Result<(), Failure> {
        fields::freeze(&mut record);
        self.accepted.push((record, scope));
        Ok(())
    }

    fn commit(&mut self, duties: &Duties) {
        let entry = self.entry;
        self.committed.extend(
            self.accepted
                .drain(..)
                .map(|(record, scope)| Owed::new(Input { entry, record }, duties.part(scope))),
        );
    }

    fn abort(&mut self) {
        self.accepted.clear();
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let batch = self.committed.take();
        if batch.is_empty() {
            return Ok(());
        }
        self.target.blocking_send(batch)
    }
}
