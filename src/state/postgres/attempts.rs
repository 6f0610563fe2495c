//! Changes whose answer was lost.
//!
//! Responsible for: finding out what became of them, at once or before the shard's next change, so
//! that whoever tries again gets the answer that was lost instead of a second application.
//! Not responsible for: the decision (`progress::commit_fate`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::progress::commit_fate::{CommitFate, SentChange};
use crate::state::postgres::pool::Pool;
use crate::state::postgres::shard::fate;
use crate::state::{BlockedCompletion, Change, Lease, ShardKey, StateError};

/// A change that may have been committed.
pub(super) struct Attempt {
    pub(super) sent: SentChange,
    pub(super) change: Change,
    /// Completions that are blocked in it.
    pub(super) blocked: Vec<BlockedCompletion>,
}

/// At most one for each shard: its owner waits for an answer before it goes on.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<ShardKey, Attempt>>);

impl Attempts {
    /// Nobody knows what became of this one.
    pub(super) fn keep(&self, shard: &ShardKey, attempt: Attempt) {
        self.kept().insert(shard.clone(), attempt);
    }

    /// What became of the change of this lease that was kept, if there is one. It is kept until
    /// the database has said so.
    pub(super) async fn settle(
        &self,
        pool: &Pool,
        lease: &Lease,
    ) -> Result<Option<(CommitFate, Attempt)>, StateError> {
        let Some(sent) = self.kept().get(&lease.key).map(|attempt| attempt.sent) else {
            return Ok(None);
        };
        if (sent.epoch, sent.token) != (lease.epoch, lease.token) {
            // Whoever takes a shard over goes on from what is stored.
            self.kept().remove(&lease.key);
            return Ok(None);
        }
        let fate = pool.within("find out about a change", fate(pool, &lease.key, &sent)).await?;
        Ok(self.kept().remove(&lease.key).map(|attempt| (fate, attempt)))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<ShardKey, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
