//! What became of a change whose answer was lost.
//!
//! Responsible for: telling, from the row of a shard, whether a change that was sent to be
//! committed is durable.
//! Not responsible for: reading that row. Whoever reads it has to lock it, and so wait for a
//! transaction that the database has not ended yet.
//!
//! Each change leaves a mark of its own in the row. The count of changes would not do: a whole
//! transaction is sent at once, before anybody knows which count it leads to, and a change without
//! events does not move the offset. A takeover keeps the mark, so that a change that was durable
//! before somebody else took over is known as such, too.
//!
//! What was lost cannot come back later: each change also names the mark of the one before it, so a
//! first sending that arrives after its repetition does not fit any more (`progress::shard_model`).

use uuid::Uuid;

use crate::model::Epoch;

/// A change that was sent, by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentChange {
    /// Epoch of the sender's lease.
    pub epoch: Epoch,
    /// Token of the sender's lease.
    pub token: Uuid,
    /// The mark that the change leaves.
    pub mark: Uuid,
}

/// The row of a shard, as far as it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMark {
    /// Epoch of the lease that counts.
    pub epoch: Epoch,
    /// Its token.
    pub token: Uuid,
    /// Mark of the change that was applied last; `None` if none ever was.
    pub mark: Option<Uuid>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFate {
    /// It is durable.
    Applied,
    /// It changed nothing and may be sent again.
    Lost,
    /// Somebody else owns the shard, and the change is not the last one applied.
    Fenced,
}

/// Decides on a change, given the shard's row; no row is nobody's shard.
pub fn commit_fate(sent: &SentChange, found: Option<&ShardMark>) -> CommitFate {
    match found {
        Some(found) if found.mark == Some(sent.mark) => CommitFate::Applied,
        Some(found) if (found.epoch, found.token) == (sent.epoch, sent.token) => CommitFate::Lost,
        Some(_) | None => CommitFate::Fenced,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> Uuid {
        Uuid::from_u128(u128::from(number))
    }

    #[test]
    fn decides_as_the_table_says() {
        let sent = SentChange { epoch: Epoch(3), token: id(3), mark: id(70) };
        let row = |epoch, token, mark: Option<u64>| {
            Some(ShardMark { epoch: Epoch(epoch), token: id(token), mark: mark.map(id) })
        };
        let table = [
            (row(3, 3, Some(70)), CommitFate::Applied),
            (row(3, 3, Some(69)), CommitFate::Lost),
            (row(3, 3, None), CommitFate::Lost),
            // Taken over since: before or after the change.
            (row(4, 4, Some(70)), CommitFate::Applied),
            (row(4, 4, Some(69)), CommitFate::Fenced),
            // A restored backup has the epoch, but never the token.
            (row(3, 9, Some(69)), CommitFate::Fenced),
            (row(3, 9, None), CommitFate::Fenced),
            (None, CommitFate::Fenced),
        ];
        for (found, wanted) in table {
            assert_eq!(commit_fate(&sent, found.as_ref()), wanted, "{found:?}");
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        TakeOver,
        /// By the owner, or by a former one; its commit may never reach the database.
        Change {
            former: bool,
            reaches: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::TakeOver),
            4 => (any::<bool>(), any::<bool>())
                .prop_map(|(former, reaches)| Step::Change { former, reaches }),
        ]
    }

    proptest! {
        /// A database that fences, and owners who ask right after each of their changes.
        #[test]
        fn whoever_asks_at_once_is_told_what_happened(
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let mut row = ShardMark { epoch: Epoch(1), token: id(1), mark: None };
            let mut former = row;
            for (number, step) in (100..).zip(steps) {
                let (is_former, reaches) = match step {
                    Step::TakeOver => {
                        former = row;
                        (row.epoch, row.token) = (row.epoch.next(), id(number));
                        continue;
                    }
                    Step::Change { former, reaches } => (former, reaches),
                };
                let owner = if is_former { former } else { row };
                let sent = SentChange { epoch: owner.epoch, token: owner.token, mark: id(number) };
                let owns = (owner.epoch, owner.token) == (row.epoch, row.token);
                if owns && reaches {
                    row.mark = Some(sent.mark);
                }
                let wanted = match (owns, reaches) {
                    (true, true) => CommitFate::Applied,
                    (true, false) => CommitFate::Lost,
                    (false, _) => CommitFate::Fenced,
                };
                prop_assert_eq!(commit_fate(&sent, Some(&row)), wanted);
            }
        }
    }
}
