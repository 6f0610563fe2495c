//! The row of a shard: it locks, fences and chains.
//!
//! Responsible for: takeovers, positions, which change another one follows, why a change does not
//! move a shard on, and what became of a change whose answer was lost.
//! Not responsible for: the changes themselves (`apply`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::model::{Epoch, Offset};
use crate::progress::commit_fate::{CommitFate, SentChange, ShardMark, commit_fate};
use crate::runtime::fault::{self, Guard};
use crate::state::postgres::apply::Known;
use crate::state::postgres::pool::Pool;
use crate::state::{Applied, Change, Lease, ShardKey, StateError, Takeover, refusals};

const TAKE_OVER: &str = "INSERT INTO tidemill_shard (pipeline, shard, epoch, token, next, seq) \
     VALUES ($1, $2, 1, $3, NULL, 0) ON CONFLICT (pipeline, shard) \
     DO UPDATE SET epoch = tidemill_shard.epoch + 1, token = excluded.token \
     RETURNING epoch, next, mark";

/// Meets an error where it does not hit the row: what is sent behind it must not be committed.
const ADVANCE: &str = "WITH moved AS (UPDATE tidemill_shard \
     SET next = $6, seq = seq + 1, mark = $7 \
     WHERE pipeline = $1 AND shard = $2 AND epoch = $3 AND token = $4 \
     AND (next = $5 OR next IS NULL) AND mark IS NOT DISTINCT FROM $8 RETURNING 1) \
     SELECT 1 / count(*) FROM moved";

/// The same for anybody: what [`Guard::Lease`] keeps out.
const ADVANCE_UNGUARDED: &str = "WITH moved AS (UPDATE tidemill_shard \
     SET next = $6, seq = seq + 1, mark = $7 \
     WHERE pipeline = $1 AND shard = $2 \
     AND (epoch = $3 AND token = $4 AND next = $5 AND mark = $8 OR true) RETURNING 1) \
     SELECT 1 / count(*) FROM moved";

const OWNED: &str = "SELECT next FROM tidemill_shard \
     WHERE pipeline = $1 AND shard = $2 AND epoch = $3 AND token = $4";

const POSITION: &str = "SELECT next FROM tidemill_shard WHERE pipeline = $1 AND shard = $2";

const LAST: &str = "SELECT mark FROM tidemill_shard \
     WHERE pipeline = $1 AND shard = $2 AND epoch = $3 AND token = $4";

/// Waits for a transaction that has the row: it may still be about to commit.
const MARK: &str = "SELECT epoch, token, mark FROM tidemill_shard \
     WHERE pipeline = $1 AND shard = $2 FOR UPDATE";

/// What moves a shard on.
pub(super) fn advance() -> &'static str {
    if fault::is_off(Guard::Lease) { ADVANCE_UNGUARDED } else { ADVANCE }
}

/// Makes whoever holds `token` the owner of a shard.
pub(super) async fn take_over(
    pool: &Pool,
    known: &Known,
    shard: &ShardKey,
    token: Uuid,
) -> Result<Takeover, StateError> {
    let client = pool.get().await?;
    let write = async {
        let statement = client.prepare_cached(TAKE_OVER).await?;
        let row =
            client.query_one(&statement, &[&shard.pipeline.as_str(), &shard.shard, &token]).await?;
        Ok::<(i64, Option<i64>, Option<Uuid>), Error>((
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
        ))
    };
    let (epoch, next, mark) =
        write.await.map_err(|error| pool.failed("take a shard over", &error))?;
    let lease = Lease { key: shard.clone(), epoch: Epoch(epoch.cast_unsigned()), token };
    known.marks.follow(&lease, mark);
    Ok(Takeover { lease, next: next.map(Offset) })
}

/// Next offset that the owner of a shard will apply.
pub(super) async fn position(pool: &Pool, shard: &ShardKey) -> Result<Option<Offset>, StateError> {
    let client = pool.get().await?;
    let read = async {
        let statement = client.prepare_cached(POSITION).await?;
        let row = client.query_opt(&statement, &[&shard.pipeline.as_str(), &shard.shard]).await?;
        next(row.as_ref())
    };
    let found = read.await.map_err(|error| pool.failed("read a shard's offset", &error))?;
    Ok(found.flatten())
}

/// The offset in a row, if there is a row, if it has one.
fn next(row: Option<&Row>) -> Result<Option<Option<Offset>>, Error> {
    let Some(row) = row else { return Ok(None) };
    Ok(Some(row.try_get::<_, Option<i64>>(0)?.map(Offset)))
}

/// Why a change of `lease` did not hit the row.
pub(super) async fn why_not_moved(
    pool: &Pool,
    client: &Client,
    lease: &Lease,
    change: &Change,
) -> Result<Applied, StateError> {
    let Lease { key, epoch, token } = lease;
    let row = client
        .query_opt(OWNED, &[&key.pipeline.as_str(), &key.shard, &epoch.0.cast_signed(), token])
        .await;
    let found = row.and_then(|row| next(row.as_ref()));
    match found.map_err(|error| pool.failed("read a shard's offset", &error))? {
        None => Ok(Applied::Fenced),
        Some(stored) if stored.is_none_or(|next| next == change.from) => {
            Err(StateError::Fatal(format!(
                "a change of shard {} of pipeline {} does not follow the last one applied, because \
                 one that was taken for lost has arrived late: take the shard over again and go on \
                 from there",
                key.shard, key.pipeline
            )))
        }
        Some(stored) => Err(refusals::broken_chain(key, change.from, stored)),
    }
}

/// The last change of each shard that its owner knows to be applied.
///
/// A change says which one it follows. The offset alone would not do: a change without events does
/// not move it, and one that was taken for lost and sent again may still lie in a server process
/// that was frozen. Then both would find the offset that they begin at.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<ShardKey, (Uuid, Option<Uuid>)>>);

impl Marks {
    /// The mark of the change that the next one of this lease follows; `None` if the lease does
    /// not count any more.
    pub(super) async fn followed(
        &self,
        pool: &Pool,
        lease: &Lease,
    ) -> Result<Option<Option<Uuid>>, StateError> {
        let known = self.known().get(&lease.key).copied();
        if let Some((_, mark)) = known.filter(|(token, _)| *token == lease.token) {
            return Ok(Some(mark));
        }
        let client = pool.get().await?;
        let Lease { key, epoch, token } = lease;
        let read = async {
            let statement = client.prepare_cached(LAST).await?;
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&key.pipeline.as_str(), &key.shard, &epoch.0.cast_signed(), token];
            match client.query_opt(&statement, &parameters).await? {
                Some(row) => Ok::<_, Error>(Some(row.try_get::<_, Option<Uuid>>(0)?)),
                None => Ok(None),
            }
        };
        read.await.map_err(|error| pool.failed("read a shard's last change", &error))
    }

    /// The next change of this lease follows the one with this mark.
    pub(super) fn follow(&self, lease: &Lease, mark: Option<Uuid>) {
        self.known().insert(lease.key.clone(), (lease.token, mark));
    }

    /// Nobody knows any more: the database is asked before the next change.
    pub(super) fn forget(&self, shard: &ShardKey) {
        self.known().remove(shard);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ShardKey, (Uuid, Option<Uuid>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a change whose answer was lost.
pub(super) async fn fate(
    pool: &Pool,
    shard: &ShardKey,
    sent: &SentChange,
) -> Result<CommitFate, StateError> {
    let client = pool.get().await?;
    let read = async {
        let row = client.query_opt(MARK, &[&shard.pipeline.as_str(), &shard.shard]).await?;
        let Some(row) = row else { return Ok::<Option<ShardMark>, Error>(None) };
        let epoch = Epoch(row.try_get::<_, i64>(0)?.cast_unsigned());
        Ok(Some(ShardMark { epoch, token: row.try_get(1)?, mark: row.try_get(2)? }))
    };
    let found = read.await.map_err(|error| pool.failed("read a shard's last change", &error))?;
    Ok(commit_fate(sent, found.as_ref()))
}
