//! `type = "aggregate"`: groups columns per member.
//!
//! Responsible for: holding the groups of a member until it ends, emitting them as one record of
//! columns per schema, and emitting partial groups early where memory asks for it: readers add
//! them up.
//! Not responsible for: how values are put together (`groups`), or where the groups go.
//!
//! Sums are taken in row order, so the same rows give the same bits.

pub mod groups;

use crate::model::{Body, Columns, Failure, FailureClass, Metadata, Record};
use crate::processor::aggregate::groups::{GroupError, Groups};
use crate::processor::config::{Aggregate, AggregateFunction};
use crate::runtime::node::{Emit, Port, Transform};

/// Members and schemas whose groups are held at once. One input record of a stage is a member as
/// a rule; more than a few would multiply the memory that `max_groups` stands for.
const MAX_HELD: usize = 16;

/// The node.
pub struct AggregateNode {
    config: Aggregate,
    /// Whether partial groups cannot be added up by readers.
    indivisible: bool,
    held: Vec<Held>,
}

/// The groups of one member and schema.
struct Held {
    /// What the groups leave as, without a body.
    like: Record,
    groups: Groups,
}

impl AggregateNode {
    /// A node with these settings.
    pub fn new(config: Aggregate) -> Self {
        let indivisible =
            config.columns.iter().any(|column| column.function == AggregateFunction::Distinct);
        Self { config, indivisible, held: Vec::new() }
    }

    /// Where the groups of a record are held.
    fn held_for(
        &mut self,
        record: Record,
        rows: &Columns,
        out: &mut dyn Emit,
    ) -> Result<usize, Failure> {
        let found = self.held.iter().position(|held| {
            same_part(&held.like.meta, &record.meta) && held.groups.fit(&rows.rows)
        });
        if let Some(index) = found {
            return Ok(index);
        }
        let groups = Groups::new(&self.config, &rows.rows).map_err(failure)?;
        if self.held.len() >= MAX_HELD {
            self.check_divisible()?;
            self.held.remove(0).emit(out)?;
        }
        self.held.push(Held { like: record, groups });
        Ok(self.held.len() - 1)
    }

    fn check_divisible(&self) -> Result<(), Failure> {
        if !self.indivisible {
            return Ok(());
        }
        let limit = self.config.max_groups;
        let why = format!(
            "more than {limit} groups, of which different values cannot be counted in parts, \
             raise max_groups or group by fewer columns"
        );
        Err(Failure::poison(FailureClass::TOO_LARGE, why))
    }
}

/// Whether two records belong to the same member and schema.
fn same_part(one: &Metadata, other: &Metadata) -> bool {
    one.manifest == other.manifest && one.member == other.member && one.schema == other.schema
}

fn failure(error: GroupError) -> Failure {
    let why = error.to_string();
    match error {
        GroupError::NoColumn { .. } | GroupError::NoNumber { .. } | GroupError::NoKey { .. } => {
            Failure::poison(FailureClass::UNMATCHED, why)
        }
        GroupError::TooManyValues { .. } => Failure::poison(FailureClass::TOO_LARGE, why),
        GroupError::Batch(_) => Failure::poison(FailureClass::UNDECODABLE, why),
    }
}

impl Held {
    fn emit(self, out: &mut dyn Emit) -> Result<(), Failure> {
        let Self { mut like, mut groups } = self;
        if let Some(rows) = groups.take().map_err(failure)? {
            like.body = Body::Columns(Columns { rows });
            out.emit(Port::FIRST, like)?;
        }
        Ok(())
    }

    fn emit_partial(&mut self, out: &mut dyn Emit) -> Result<(), Failure> {
        if let Some(rows) = self.groups.take().map_err(failure)? {
            let body = Body::Columns(Columns { rows });
            out.emit(Port::FIRST, Record { body, ..self.like.clone() })?;
        }
        Ok(())
    }
}

impl Transform for AggregateNode {
    fn apply(&mut self, mut record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        let Body::Columns(columns) = std::mem::take(&mut record.body) else {
            return Err(Failure::poison(
                FailureClass::REJECTED,
                "there are no columns in the record's body, aggregate behind a node with columns",
            ));
        };
        let index = self.held_for(record, &columns, out)?;
        let mut row = 0;
        loop {
            row = self.held[index].groups.add(&columns.rows, row).map_err(failure)?;
            out.progress();
            if row == columns.rows.num_rows() {
                return Ok(());
            }
            self.check_divisible()?;
            self.held[index].emit_partial(out)?;
        }
    }

    fn finish(&mut self, out: &mut dyn Emit) -> Result<(), Failure> {
        std::mem::take(&mut self.held).into_iter().try_for_each(|held| held.emit(out))
    }

    fn abort(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests;
