//! The state store in PostgreSQL: for production, for any number of replicas.
//!
//! Responsible for: the store's calls, each over a connection of the pool.
//! Not responsible for: what they do; that is in the modules below, one per subject.
//!
//! ```text
//!  apply:  BEGIN, the shard's row (locks, fences, chains), rows, actions, COMMIT  ─▶ one round trip
//!          an action fails  ─▶ once more, each completion in a savepoint
//!          the answer is lost  ─▶ on another connection: lock the shard's row, read its mark
//! ```
//!
//! What guards a single writer is the row of the shard and nothing else: no session lock, no
//! expiry, no clock. Advisory locks only keep replicas that start at once from defining tables in
//! each other's way.

mod actions;
mod apply;
mod attempts;
mod backlog;
mod columns;
mod declare;
mod errors;
mod manifests;
mod nul;
mod outbox;
mod parameters;
mod pipeline;
mod pool;
mod prepare;
mod retired;
mod rows;
mod schema;
mod script;
mod settings;
mod shard;
mod tables;
mod tls;
mod values;

use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::model::{ManifestKey, Offset, PipelineName};
use crate::runtime::node::BoxFuture;
use crate::state::{
    Applied, Backlog, Change, Claimed, Declarations, Lease, ManifestDetail, ManifestFilter,
    ManifestSummary, PipelineIdentity, RetiredDue, ShardKey, StateError, StateStore,
    StoredManifest, TablePage, TableRows, Takeover, refusals,
};

use apply::Known;
use pool::Pool;

pub use settings::PostgresConfig;

/// A state store in a database.
pub struct PostgresStore {
    pool: Pool,
    /// What is known of changes beside the database.
    known: Known,
    is_read_only: bool,
}

impl PostgresStore {
    /// Connects to a database, and brings the engine's schema up. Several replicas may do so at
    /// once.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] if the database cannot be reached now, [`StateError::Mismatch`]
    /// if the url or the server will not do, or if a newer program wrote the schema.
    pub async fn connect(config: PostgresConfig) -> Result<Arc<Self>, StateError> {
        let pool = Pool::new(&config, false)?;
        pool.within("bring its schema up", schema::migrate(&pool)).await?;
        Ok(Arc::new(Self { pool, known: Known::default(), is_read_only: false }))
    }

    /// Connects to a database to look at it: defines nothing, and every call that writes is a
    /// [`StateError::Fatal`].
    ///
    /// # Errors
    /// Those of [`PostgresStore::connect`], and [`StateError::Mismatch`] if the schema is missing,
    /// or older than the one that this program reads.
    pub async fn connect_read_only(config: PostgresConfig) -> Result<Arc<Self>, StateError> {
        let pool = Pool::new(&config, true)?;
        pool.within("read the version of its schema", schema::check(&pool)).await?;
        Ok(Arc::new(Self { pool, known: Known::default(), is_read_only: true }))
    }

    /// The connections, for a call that writes.
    fn writing(&self) -> Result<&Pool, StateError> {
        if self.is_read_only { Err(refusals::read_only()) } else { Ok(&self.pool) }
    }

    /// Does what writes, unless it takes too long.
    async fn write<'a, T, W>(
        &'a self,
        what: &str,
        work: impl FnOnce(&'a Pool) -> W,
    ) -> Result<T, StateError>
    where
        W: Future<Output = Result<T, StateError>>,
    {
        let pool = self.writing()?;
        pool.within(what, work(pool)).await
    }
}

impl StateStore for PostgresStore {
    fn prepare<'a>(
        &'a self,
        identity: &'a PipelineIdentity,
        declared: &'a Declarations,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let what = "define tables";
        Box::pin(self.write(what, move |pool| prepare::prepare(pool, identity, declared)))
    }

    fn take_over<'a>(&'a self, shard: &'a ShardKey) -> BoxFuture<'a, Result<Takeover, StateError>> {
        let (what, token) = ("take a shard over", Uuid::new_v4());
        Box::pin(self.write(what, move |pool| shard::take_over(pool, &self.known, shard, token)))
    }

    fn position<'a>(
        &'a self,
        shard: &'a ShardKey,
    ) -> BoxFuture<'a, Result<Option<Offset>, StateError>> {
        Box::pin(self.pool.within("read a shard's offset", shard::position(&self.pool, shard)))
    }

    fn load<'a>(
        &'a self,
        lease: &'a Lease,
        manifests: &'a [ManifestKey],
    ) -> BoxFuture<'a, Result<Vec<StoredManifest>, StateError>> {
        let loading = manifests::load(&self.pool, &lease.key, manifests);
        Box::pin(self.pool.within("read manifests", loading))
    }

    fn apply<'a>(
        &'a self,
        lease: &'a Lease,
        change: Change,
    ) -> BoxFuture<'a, Result<Applied, StateError>> {
        // It minds the time itself: whether it ran out before or behind the commit matters.
        Box::pin(async move {
            let mark = Uuid::new_v4();
            apply::apply(self.writing()?, &self.known, lease, change, mark).await
        })
    }

    fn write_rows(&self, rows: TableRows) -> BoxFuture<'_, Result<bool, StateError>> {
        Box::pin(async move { self.write("write rows", |pool| rows::write(pool, &rows)).await })
    }

    fn claim<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        now: i64,
        until: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, StateError>> {
        let times = (now, until);
        Box::pin(
            self.write("claim deliveries", move |pool| outbox::claim(pool, pipeline, times, limit)),
        )
    }

    fn delivered(&self, id: i64, now: i64) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.write("mark a delivery", move |pool| outbox::delivered(pool, id, now)))
    }

    fn failed<'a>(
        &'a self,
        id: i64,
        retry_at: i64,
        error: &'a str,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let what = "mark a delivery";
        Box::pin(self.write(what, move |pool| outbox::fail(pool, id, retry_at, error)))
    }

    fn claim_retired<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        due: RetiredDue,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<String>, StateError>> {
        let what = "claim retired objects";
        Box::pin(self.write(what, move |pool| retired::claim(pool, pipeline, due, limit)))
    }

    fn objects_deleted<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        urls: &'a [String],
        now: i64,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let what = "mark objects as deleted";
        Box::pin(self.write(what, move |pool| retired::deleted(pool, pipeline, urls, now)))
    }

    fn manifests<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        filter: &'a ManifestFilter,
    ) -> BoxFuture<'a, Result<Vec<ManifestSummary>, StateError>> {
        let listing = manifests::list(&self.pool, pipeline, filter);
        Box::pin(self.pool.within("list manifests", listing))
    }

    fn manifest<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        manifest: &'a ManifestKey,
    ) -> BoxFuture<'a, Result<Option<ManifestDetail>, StateError>> {
        let reading = manifests::explain(&self.pool, pipeline, manifest);
        Box::pin(self.pool.within("read a manifest", reading))
    }

    fn backlog<'a>(
        &'a self,
        pipeline: &'a PipelineName,
    ) -> BoxFuture<'a, Result<Backlog, StateError>> {
        let counting = backlog::read(&self.pool, pipeline);
        Box::pin(self.pool.within("count what is to be done", counting))
    }

    fn table<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Map<String, Value>>, StateError>> {
        let reading = self.table_page(name, 0);
        Box::pin(async move { reading.await.map(|page| page.rows) })
    }

    fn table_page<'a>(
        &'a self,
        name: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<TablePage, StateError>> {
        Box::pin(self.pool.within("read a table", tables::read(&self.pool, name, limit)))
    }

    fn tables(&self) -> BoxFuture<'_, Result<Vec<String>, StateError>> {
        Box::pin(self.pool.within("list its tables", tables::names(&self.pool)))
    }

    fn pipelines(&self) -> BoxFuture<'_, Result<Vec<PipelineName>, StateError>> {
        Box::pin(self.pool.within("list its pipelines", prepare::pipelines(&self.pool)))
    }
}
