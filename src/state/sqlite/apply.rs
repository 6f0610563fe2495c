//! Takeovers of shards, and the changes their owners make.
//!
//! Responsible for: the order of DESIGN section 5: one row locks, fences and chains; then the
//! rows that changed; then each completion in a savepoint. Under one writer the row needs no
//! lock, but fencing and chaining are those of the other stores (I3, I4).
//! Not responsible for: the transaction around it (`writer`), or what is in a change.

use rusqlite::{Connection, OptionalExtension, Statement};
use uuid::Uuid;

use crate::model::{Epoch, Offset};
use crate::state::sqlite::database::{Savepoint, failed, may_pass, message, run};
use crate::state::sqlite::{manifests, outbox, retired, values};
use crate::state::{
    Applied, BlockedCompletion, Change, CompletionRow, Lease, Parameters, ShardKey, StateError,
    Takeover, refusals,
};

const TAKE_OVER: &str = "INSERT INTO tidemill_shard (pipeline, shard, epoch, token, next, seq) \
     VALUES (?1, ?2, 1, ?3, NULL, 0) ON CONFLICT (pipeline, shard) \
     DO UPDATE SET epoch = epoch + 1, token = excluded.token RETURNING epoch, next";

const ADVANCE: &str = "UPDATE tidemill_shard SET next = ?6, seq = seq + 1 \
     WHERE pipeline = ?1 AND shard = ?2 AND epoch = ?3 AND token = ?4 \
     AND (next = ?5 OR next IS NULL)";

const OWNED: &str = "SELECT next FROM tidemill_shard \
     WHERE pipeline = ?1 AND shard = ?2 AND epoch = ?3 AND token = ?4";

const POSITION: &str = "SELECT next FROM tidemill_shard WHERE pipeline = ?1 AND shard = ?2";

const COMPLETION: Savepoint = Savepoint {
    open: "SAVEPOINT tidemill_completion",
    keep: "RELEASE tidemill_completion",
    undo: "ROLLBACK TO tidemill_completion",
};

/// Makes whoever holds `token` the owner of a shard.
pub(super) fn take_over(
    connection: &Connection,
    shard: &ShardKey,
    token: Uuid,
) -> Result<Takeover, StateError> {
    let write = || -> rusqlite::Result<(i64, Option<i64>)> {
        connection
            .prepare_cached(TAKE_OVER)?
            .query_row((shard.pipeline.as_str(), shard.shard, token.as_bytes().as_slice()), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
    };
    let (epoch, next) = write().map_err(|error| failed("take a shard over", &error))?;
    let lease = Lease { key: shard.clone(), epoch: Epoch(epoch.cast_unsigned()), token };
    Ok(Takeover { lease, next: next.map(Offset) })
}

/// Applies a change for the owner of a shard.
pub(super) fn apply(
    connection: &Connection,
    lease: &Lease,
    change: &Change,
) -> Result<Applied, StateError> {
    if !advance(connection, lease, change)? {
        return Ok(Applied::Fenced);
    }
    for row in &change.manifests {
        manifests::store(connection, &lease.key, row)?;
    }
    for (manifest, row) in &change.members {
        manifests::store_member(connection, &lease.key.pipeline, manifest, row)?;
    }
    retire(connection, &lease.key, change)?;
    let mut blocked = Vec::new();
    for completion in &change.completions {
        if let Some(why) = complete(connection, &lease.key, completion)? {
            let manifest = completion.manifest.manifest.clone();
            blocked.push(BlockedCompletion { manifest, why });
        }
    }
    Ok(Applied::Yes { blocked })
}

/// Next offset that the owner of a shard will apply.
pub(super) fn position(
    connection: &Connection,
    shard: &ShardKey,
) -> Result<Option<Offset>, StateError> {
    let read = || -> rusqlite::Result<Option<Option<i64>>> {
        connection
            .prepare_cached(POSITION)?
            .query_row((shard.pipeline.as_str(), shard.shard), |row| row.get(0))
            .optional()
    };
    let next = read().map_err(|error| failed("read a shard's offset", &error))?;
    Ok(next.flatten().map(Offset))
}

/// Retires what a change says, and looks again for what it names.
fn retire(connection: &Connection, owner: &ShardKey, change: &Change) -> Result<(), StateError> {
    let objects = change.retired.iter().map(|(manifest, url)| (manifest, url.as_str()));
    retired::retire(connection, &owner.pipeline, objects)
        .and_then(|()| retired::named(connection, &owner.pipeline, &change.named))
        .map_err(|error| failed("retire objects", &error))
}

/// Moves the shard's offset on; false if the lease is not the shard's any more.
fn advance(connection: &Connection, lease: &Lease, change: &Change) -> Result<bool, StateError> {
    let Lease { key, epoch, token } = lease;
    refusals::check_direction(key, change)?;
    let owner =
        (key.pipeline.as_str(), key.shard, epoch.0.cast_signed(), token.as_bytes().as_slice());
    let update = || {
        let (pipeline, shard, epoch, token) = owner;
        let (from, to) = (change.from.0, change.to.0);
        let mut statement = connection.prepare_cached(ADVANCE)?;
        statement.execute((pipeline, shard, epoch, token, from, to))
    };
    if update().map_err(|error| failed("move a shard's offset on", &error))? == 1 {
        return Ok(true);
    }
    let read = || -> rusqlite::Result<Option<Option<i64>>> {
        let mut statement = connection.prepare_cached(OWNED)?;
        statement.query_row(owner, |row| row.get(0)).optional()
    };
    match read().map_err(|error| failed("read a shard's offset", &error))? {
        None => Ok(false),
        Some(next) => Err(refusals::broken_chain(key, change.from, next.map(Offset))),
    }
}

/// Why a completion could not be applied.
enum Refused {
    /// This completion's own fault, now and ever.
    Blocked(String),
    /// The change fails as a whole.
    Change(StateError),
}

/// Applies a completion, or stores it as blocked and says why.
fn complete(
    connection: &Connection,
    owner: &ShardKey,
    completion: &CompletionRow,
) -> Result<Option<String>, StateError> {
    let savepoint = |error| failed("keep a completion apart", &error);
    run(connection, COMPLETION.open).map_err(savepoint)?;
    let why = match carry_out(connection, owner, completion) {
        Ok(()) => None,
        Err(Refused::Blocked(why)) => Some(why),
        Err(Refused::Change(error)) => return Err(error),
    };
    COMPLETION.close(connection, why.is_none()).map_err(savepoint)?;
    if let Some(why) = &why {
        manifests::store(connection, owner, &refusals::blocked_row(&completion.manifest, why))?;
    }
    Ok(why)
}

fn carry_out(
    connection: &Connection,
    owner: &ShardKey,
    completion: &CompletionRow,
) -> Result<(), Refused> {
    manifests::store(connection, owner, &completion.manifest).map_err(Refused::Change)?;
    for row in &completion.outbox {
        outbox::add(connection, &owner.pipeline, row, completion.manifest.completed_at)
            .map_err(Refused::Change)?;
    }
    for (action, statement) in &completion.statements {
        execute(connection, statement, &completion.parameters)
            .map_err(|error| refused(action, &error))?;
    }
    for (action, query) in &completion.retire {
        let retire = || {
            let urls = select(connection, query, &completion.parameters)?;
            let objects = urls.iter().map(|url| (&completion.manifest.manifest, url.as_str()));
            retired::retire(connection, &owner.pipeline, objects)
        };
        retire().map_err(|error| refused(action, &error))?;
    }
    Ok(())
}

fn refused(action: &str, error: &rusqlite::Error) -> Refused {
    if may_pass(error) {
        Refused::Change(failed(&format!("run action {action}"), error))
    } else {
        Refused::Blocked(format!("{action}: {}", message(error)))
    }
}

/// Runs a statement of a topology to its end.
fn execute(
    connection: &Connection,
    statement: &str,
    parameters: &Parameters,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(statement)?;
    bind(&mut statement, parameters)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// The first column of each row that a query of a topology finds.
fn select(
    connection: &Connection,
    query: &str,
    parameters: &Parameters,
) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(query)?;
    bind(&mut statement, parameters)?;
    let urls = statement.raw_query().mapped(|row| row.get::<_, String>(0));
    urls.collect()
}

fn bind(statement: &mut Statement<'_>, parameters: &Parameters) -> rusqlite::Result<()> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).unwrap_or_default();
        let value = parameters.get(name.trim_start_matches(':')).map(values::bound);
        let unbound = || rusqlite::Error::InvalidParameterName(name.to_owned());
        let value = value.ok_or_else(unbound)?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}
