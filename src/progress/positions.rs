//! Where an assigned partition begins.
//!
//! Responsible for: deciding, from what the broker says, at which offset the first record is
//! read, and whether that offset has to be committed before it.
//! Not responsible for: asking the broker (`source::partition_consumer`).

use crate::model::Offset;

/// What is known of a partition that was just assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The group's committed offset.
    pub committed: Option<Offset>,
    /// Whether the group has a committed offset on any partition of the topic.
    pub group_is_known: bool,
    /// First offset that can be read.
    pub earliest: Offset,
    /// The offset after the last record.
    pub latest: Offset,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Read from here; the group has committed it already.
    At(Offset),
    /// Read from here, and commit it first: otherwise a crash before the first commit would
    /// resolve the start again, later, and skip what came in between.
    CommitThenRead(Offset),
    /// A new group: the topology's `start` has to be resolved to a number.
    ResolveStart,
    /// The committed offset is outside what the partition holds; never reset in silence.
    OutOfRange(Offset),
}

/// Decides where a partition begins.
pub fn begin(known: Known) -> Begin {
    match known.committed {
        Some(offset) if offset < known.earliest || offset > known.latest => {
            Begin::OutOfRange(offset)
        }
        Some(offset) => Begin::At(offset),
        // The group ran before this partition existed: everything in it is new to the group.
        None if known.group_is_known => Begin::CommitThenRead(known.earliest),
        None => Begin::ResolveStart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(committed: Option<i64>, group_is_known: bool) -> Known {
        Known {
            committed: committed.map(Offset),
            group_is_known,
            earliest: Offset(10),
            latest: Offset(20),
        }
    }

    #[test]
    fn begins_where_the_table_says() {
        let table = [
            (known(Some(15), true), Begin::At(Offset(15))),
            (known(Some(10), true), Begin::At(Offset(10))),
            (known(Some(20), true), Begin::At(Offset(20))),
            (known(Some(9), true), Begin::OutOfRange(Offset(9))),
            (known(Some(21), true), Begin::OutOfRange(Offset(21))),
            (known(None, true), Begin::CommitThenRead(Offset(10))),
            (known(None, false), Begin::ResolveStart),
        ];
        for (given, expected) in table {
            assert_eq!(begin(given), expected, "{given:?}");
        }
    }
}
