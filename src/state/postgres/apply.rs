//! The changes that owners of shards make.
//!
//! Responsible for: applying a change in one transaction or not at all, completions that fail
//! alone, and telling what became of it.
//! Not responsible for: the order of its requests (`script`), or what an action is (`actions`).
//!
//! Usually the whole transaction is sent at once, BEGIN and COMMIT included, without savepoints:
//! one round trip. What says no within it (another owner, a broken chain, a foreign manifest) does
//! so with an error, so that nothing is committed. If a statement of a topology fails, nothing is
//! either, and the change is applied once more with each completion in a savepoint of its own: the
//! round trips are paid by those who have such a completion.

use deadpool_postgres::{Client, Object};
use tokio_postgres::Error;
use uuid::Uuid;

use crate::model::ManifestKey;
use crate::progress::commit_fate::{CommitFate, SentChange};
use crate::runtime::fault::{Point, crash_point};
use crate::state::postgres::actions::{Plan, Planned, failed};
use crate::state::postgres::attempts::{Attempt, Attempts};
use crate::state::postgres::columns::{Deliveries, Manifests};
use crate::state::postgres::errors::{is_answer, may_pass, message, says_no};
use crate::state::postgres::pipeline::{Answered, in_order, simple};
use crate::state::postgres::pool::Pool;
use crate::state::postgres::script::{Body, Head, Prepared, Script, Step};
use crate::state::postgres::shard::{Marks, why_not_moved};
use crate::state::{
    Applied, BlockedCompletion, Change, Lease, ManifestRow, ShardKey, StateError, refusals,
};

const DOING: &str = "apply a change";

/// What is known of changes beside the database.
#[derive(Default)]
pub(super) struct Known {
    /// Changes whose answer was lost, until somebody knows.
    attempts: Attempts,
    /// Which change the next one of a shard follows.
    pub(super) marks: Marks,
}

/// Applies a change for the owner of a shard; `mark` is random.
pub(super) async fn apply(
    pool: &Pool,
    known: &Known,
    lease: &Lease,
    change: Change,
    mark: Uuid,
) -> Result<Applied, StateError> {
    check(&lease.key, &change)?;
    let applied = Box::pin(known.apply(pool, lease, change, mark)).await;
    if !matches!(applied, Ok(Applied::Yes { .. })) {
        known.marks.forget(&lease.key);
    }
    applied
}

impl Known {
    async fn apply(
        &self,
        pool: &Pool,
        lease: &Lease,
        change: Change,
        mark: Uuid,
    ) -> Result<Applied, StateError> {
        match self.settle(pool, lease).await? {
            Some((CommitFate::Applied, attempt)) if attempt.change == change => {
                return Ok(Applied::Yes { blocked: attempt.blocked });
            }
            Some((CommitFate::Fenced, _)) => return Ok(Applied::Fenced),
            Some((CommitFate::Applied | CommitFate::Lost, _)) | None => {}
        }
        let Some(follows) = self.marks.followed(pool, lease).await? else {
            return Ok(Applied::Fenced);
        };
        let sent = SentChange { epoch: lease.epoch, token: lease.token, mark };
        let Done { ended, blocked } = transact(pool, lease, &change, (mark, follows)).await?;
        let error = match ended {
            Ended::Committed => {
                self.marks.follow(lease, Some(mark));
                return Ok(Applied::Yes { blocked });
            }
            Ended::Refused(applied) => return Ok(applied),
            Ended::Unknown(error) => error,
        };
        self.attempts.keep(&lease.key, Attempt { sent, change, blocked });
        match self.settle(pool, lease).await? {
            Some((CommitFate::Applied, attempt)) => Ok(Applied::Yes { blocked: attempt.blocked }),
            Some((CommitFate::Fenced, _)) => Ok(Applied::Fenced),
            Some((CommitFate::Lost, _)) | None => Err(error),
        }
    }

    /// What became of the change whose answer was lost, if there is one.
    async fn settle(
        &self,
        pool: &Pool,
        lease: &Lease,
    ) -> Result<Option<(CommitFate, Attempt)>, StateError> {
        let settled = self.attempts.settle(pool, lease).await?;
        if let Some((CommitFate::Applied, attempt)) = &settled {
            self.marks.follow(lease, Some(attempt.sent.mark));
        }
        Ok(settled)
    }
}
/// Refuses what no owner of the shard can mean.
fn check(owner: &ShardKey, change: &Change) -> Result<(), StateError> {
    refusals::check_direction(owner, change)?;
    let completed = change.completions.iter().map(|completion| &completion.manifest);
    match change.manifests.iter().chain(completed).find(|row| row.shard != owner.shard) {
        Some(row) => Err(refusals::foreign(&row.manifest, row.shard, owner)),
        None => Ok(()),
    }
}

/// How a transaction ended that could not simply fail.
enum Ended {
    Committed,
    /// Nothing was changed.
    Refused(Applied),
    /// It may have been committed.
    Unknown(StateError),
}

/// How a change ended, and the completions that are blocked if it was committed.
struct Done {
    ended: Ended,
    blocked: Vec<BlockedCompletion>,
}

/// A change on its way.
struct Work<'a> {
    pool: &'a Pool,
    lease: &'a Lease,
    change: &'a Change,
    head: Head<'a>,
    body: Body<'a>,
    prepared: Prepared,
    plans: Vec<Plan<'a>>,
}

async fn transact(
    pool: &Pool,
    lease: &Lease,
    change: &Change,
    (mark, follows): (Uuid, Option<Uuid>),
) -> Result<Done, StateError> {
    let mut client = pool.get().await?;
    let prepared = async {
        let prepared = Prepared::on(&client).await.map_err(|error| pool.failed(DOING, &error))?;
        let mut plans = Vec::with_capacity(change.completions.len());
        for completion in &change.completions {
            plans.push(Plan::of(pool, &client, &lease.key, completion).await?);
        }
        Ok::<_, StateError>((prepared, plans))
    };
    let (prepared, plans) = pool.within(DOING, prepared).await?;
    let (head, body) = (Head::of(lease, change, mark, follows), Body::of(change)?);
    let work = Work { pool, lease, change, head, body, prepared, plans };
    let tried = match work.at_once(&client).await? {
        Tried::Done(done) => Ok(done),
        Tried::ActionFailed => {
            let mut blocked = Vec::new();
            let careful = work.one_by_one(&mut client, &mut blocked);
            let ended = match tokio::time::timeout(pool.patience(), careful).await {
                Ok(ended) => ended,
                Err(_) => Ok(Ended::Unknown(pool.too_late(DOING))),
            };
            ended.map(|ended| Done { ended, blocked })
        }
    };
    if let Ok(Done { ended: Ended::Unknown(_), .. }) = &tried {
        // Answers may still be on their way to it.
        drop(Object::take(client));
    }
    tried
}

/// How the whole transaction at once ended.
enum Tried {
    Done(Done),
    /// Nothing was changed, because a completion cannot work.
    ActionFailed,
}

impl Work<'_> {
    /// Sends everything in one go.
    async fn at_once(&self, client: &Client) -> Result<Tried, StateError> {
        let rows = self.change.manifests.iter().chain(self.plans.iter().map(Plan::row));
        let manifests = Manifests::of(rows)?;
        let owed = self.plans.iter().filter_map(|plan| match plan {
            Plan::Ready(planned) => Some(planned.completion),
            Plan::Blocked { .. } => None,
        });
        let deliveries = Deliveries::of(owed)?;
        let mut script = Script::new(client, &self.prepared, &self.head);
        script.frame("BEGIN");
        script.change(&manifests, &self.body);
        script.deliveries(&deliveries);
        self.plans.iter().flat_map(Plan::calls).for_each(|call| script.call(call));
        script.frame("COMMIT");
        let Script { steps, requests, .. } = script;
        if !self.plans.is_empty() {
            crash_point(Point::CompletionSend);
        }
        let sending = in_order(requests, Some(simple(client, "ROLLBACK")));
        let Ok(answered) = tokio::time::timeout(self.pool.patience(), sending).await else {
            return Ok(self.tried(Ended::Unknown(self.pool.too_late(DOING))));
        };
        let Answered { error: Some((number, error)), was_complete } = answered else {
            return Ok(self.tried(Ended::Committed));
        };
        if was_complete && !is_answer(&error) {
            return Ok(self.tried(Ended::Unknown(self.pool.failed(DOING, &error))));
        }
        let is_permanent = !may_pass(&error);
        let has_calls = self.plans.iter().any(|plan| !plan.calls().is_empty());
        match steps[number] {
            Step::Action(_) if is_permanent => Ok(Tried::ActionFailed),
            // At the end: a statement left something behind that cannot stay.
            Step::Frame if is_permanent && has_calls => Ok(Tried::ActionFailed),
            step => {
                let refused = self.refused(client, step, &error, manifests.keys());
                refused.await.map(|ended| self.tried(ended))
            }
        }
    }

    /// Applies the change with each completion in a savepoint.
    async fn one_by_one(
        &self,
        client: &mut Client,
        blocked: &mut Vec<BlockedCompletion>,
    ) -> Result<Ended, StateError> {
        let begin = client.transaction().await;
        let transaction = begin.map_err(|error| self.pool.failed(DOING, &error))?;
        let manifests = Manifests::of(self.change.manifests.iter())?;
        if let Some((step, error)) = self.store_change(transaction.client(), &manifests).await {
            // Rolled back: what follows asks for what others have committed.
            drop(transaction);
            return self.refused(client, step, &error, manifests.keys()).await;
        }
        let connection = transaction.client();
        for plan in &self.plans {
            let (row, why) = match plan {
                Plan::Blocked { row, why } => (ManifestRow::clone(row), why.clone()),
                Plan::Ready(planned) => match self.complete(connection, planned).await? {
                    None => continue,
                    Some(why) => (refusals::blocked_row(&planned.completion.manifest, &why), why),
                },
            };
            self.store(connection, &row).await?;
            blocked.push(BlockedCompletion { manifest: row.manifest, why });
        }
        match transaction.commit().await {
            Ok(()) => Ok(Ended::Committed),
            Err(error) if is_answer(&error) => Err(self.pool.failed(DOING, &error)),
            Err(error) => Ok(Ended::Unknown(self.pool.failed(DOING, &error))),
        }
    }

    /// Everything but completions; returns the first error.
    async fn store_change<'a>(
        &'a self,
        connection: &tokio_postgres::Client,
        manifests: &'a Manifests<'a>,
    ) -> Option<(Step<'a>, Error)> {
        let mut script = Script::new(connection, &self.prepared, &self.head);
        script.change(manifests, &self.body);
        let (number, error) = in_order(script.requests, None).await.error?;
        Some((script.steps[number], error))
    }

    /// Runs a completion, or rolls it back alone and says why.
    async fn complete(
        &self,
        connection: &tokio_postgres::Client,
        planned: &Planned<'_>,
    ) -> Result<Option<String>, StateError> {
        let manifests = Manifests::of(std::iter::once(&planned.completion.manifest))?;
        let deliveries = Deliveries::of(std::iter::once(planned.completion))?;
        let mut script = Script::new(connection, &self.prepared, &self.head);
        script.frame("SAVEPOINT tidemill_completion");
        script.manifests(&manifests);
        script.deliveries(&deliveries);
        planned.calls.iter().for_each(|call| script.call(call));
        if let Some(last) = planned.calls.last() {
            script.check_constraints(&last.action);
        }
        script.frame("RELEASE tidemill_completion");
        let Some((number, error)) = in_order(script.requests, None).await.error else {
            return Ok(None);
        };
        let action = match script.steps[number] {
            Step::Action(action) if !may_pass(&error) => action,
            Step::Action(action) => return Err(failed(self.pool, action, &error)),
            step => return Err(self.error(step, &error)),
        };
        let undo = "ROLLBACK TO tidemill_completion; RELEASE tidemill_completion";
        let undone = connection.batch_execute(undo).await;
        undone.map_err(|error| self.pool.failed(DOING, &error))?;
        Ok(Some(format!("{action}: {}", message(&error))))
    }

    /// Stores one manifest.
    async fn store(
        &self,
        connection: &tokio_postgres::Client,
        row: &ManifestRow,
    ) -> Result<(), StateError> {
        let manifests = Manifests::of(std::iter::once(row))?;
        let mut script = Script::new(connection, &self.prepared, &self.head);
        script.manifests(&manifests);
        match in_order(script.requests, None).await.error {
            Some((_, error)) => Err(self.error(Step::Manifests, &error)),
            None => Ok(()),
        }
    }

    /// What an error within the transaction means, which was rolled back.
    async fn refused(
        &self,
        client: &Client,
        step: Step<'_>,
        error: &Error,
        manifests: &[&str],
    ) -> Result<Ended, StateError> {
        match step {
            Step::Advance if says_no(error) => {
                let moved = why_not_moved(self.pool, client, self.lease, self.change);
                self.pool.within(DOING, moved).await.map(Ended::Refused)
            }
            Step::Manifests if says_no(error) => {
                let owner = &self.lease.key;
                let found = foreign(self.pool, client, owner, manifests);
                Err(self.pool.within(DOING, found).await?)
            }
            step => Err(self.error(step, error)),
        }
    }

    /// An error that fails the whole change.
    fn error(&self, step: Step<'_>, error: &Error) -> StateError {
        match step {
            Step::Action(action) => failed(self.pool, action, error),
            Step::Manifests if says_no(error) => touched_meanwhile(&self.lease.key),
            Step::Frame | Step::Advance | Step::Manifests | Step::Rows => {
                self.pool.failed(DOING, error)
            }
        }
    }

    /// How sending everything at once ended: blocked are completions that could not even begin.
    fn tried(&self, ended: Ended) -> Tried {
        let blocked = self.plans.iter().filter_map(|plan| match plan {
            Plan::Ready(_) => None,
            Plan::Blocked { row, why } => {
                Some(BlockedCompletion { manifest: row.manifest.clone(), why: why.clone() })
            }
        });
        Tried::Done(Done { ended, blocked: blocked.collect() })
    }
}

/// The error for the first of these manifests that belongs to another shard.
async fn foreign(
    pool: &Pool,
    client: &Client,
    owner: &ShardKey,
    manifests: &[&str],
) -> Result<StateError, StateError> {
    let query = "SELECT manifest, shard FROM tidemill_manifest WHERE pipeline = $1 \
                 AND manifest = ANY($2) AND shard <> $3 ORDER BY manifest LIMIT 1";
    let read = async {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&owner.pipeline.as_str(), &manifests, &owner.shard];
        let Some(row) = client.query_opt(query, &parameters).await? else {
            return Ok::<_, Error>(None);
        };
        Ok(Some((ManifestKey::from(row.try_get::<_, String>(0)?), row.try_get::<_, i32>(1)?)))
    };
    let found = read.await.map_err(|error| pool.failed("read a manifest", &error))?;
    Ok(match found {
        Some((manifest, shard)) => refusals::foreign(&manifest, shard, owner),
        None => touched_meanwhile(owner),
    })
}

/// Somebody else stores a manifest and takes it back at the same moment.
fn touched_meanwhile(owner: &ShardKey) -> StateError {
    StateError::Unavailable(format!(
        "a manifest of shard {} of pipeline {} is touched by another shard at the same time",
        owner.shard, owner.pipeline
    ))
}
