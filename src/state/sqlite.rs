//! The state store in an SQLite file: the embedded default, for one process that writes and any
//! number that only look.
//!
//! Responsible for: the store's calls, each handed to the writer or to a reader.
//! Not responsible for: what they do; that is in the modules below, one per subject.
//!
//! ```text
//!  callers ──▶ queue ──▶ writer thread: BEGIN; a savepoint per job; COMMIT (one fsync) ──▶ answers
//!     └──────▶ reader connections, beside the writer (WAL), on threads for blocking work
//! ```
//!
//! WAL and `synchronous=FULL`: what was answered is on disk. Many callers share one commit, so
//! the rate of durable changes does not end at the rate of flushes.

mod apply;
mod backlog;
mod database;
mod declare;
mod lock;
mod manifests;
mod outbox;
mod prepare;
mod readers;
mod retired;
mod rows;
mod tables;
mod values;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::model::{ManifestKey, Offset, PipelineName};
use crate::runtime::node::BoxFuture;
use crate::state::{
    Applied, Backlog, Change, Claimed, Declarations, Lease, ManifestFilter, ManifestSummary,
    OutboxStatus, PipelineIdentity, RetiredDue, ShardKey, StateError, StateStore, StoredManifest,
    TablePage, TableRows, Takeover, refusals,
};

use crate::runtime::file_lock::FileLock;
use readers::Readers;
use writer::Writer;

/// A state store in a file. Dropping it waits for what was asked of it to be written.
pub struct SqliteStore {
    // Dropped first: the last write comes before the file is given back.
    /// `None` if the store was opened to be read only.
    writer: Option<Writer>,
    readers: Arc<Readers>,
    /// Keeps other writing processes away from the file.
    _lock: Option<FileLock>,
}

impl SqliteStore {
    /// Opens the store in the file at `path`, and makes both the file and its folder if they are
    /// missing. Fails if another process has it open (the error names that process), and with
    /// [`StateError::Mismatch`] if a newer program wrote it.
    pub fn open(path: &Path) -> Result<Arc<Self>, StateError> {
        let lock = lock::take(path)?;
        let writer = Writer::start(database::open_writer(path)?)?;
        let readers = Readers::new(path.to_owned());
        Ok(Arc::new(Self { writer: Some(writer), readers, _lock: Some(lock) }))
    }

    /// Opens the store in the file at `path` to look at it, also while another process writes it:
    /// takes no lock, makes no file, and every call that writes is a [`StateError::Fatal`].
    ///
    /// # Errors
    /// [`StateError::Mismatch`] if there is no such file, or if its schema is newer or older than
    /// the one that this program knows.
    pub fn open_read_only(path: &Path) -> Result<Arc<Self>, StateError> {
        let readers = Readers::observing(path.to_owned())?;
        Ok(Arc::new(Self { writer: None, readers, _lock: None }))
    }

    /// Hands `work` to the writer.
    async fn write<T, F>(&self, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StateError> + Send + 'static,
    {
        match &self.writer {
            Some(writer) => writer.run(work).await,
            None => Err(refusals::read_only()),
        }
    }
}

impl StateStore for SqliteStore {
    fn prepare<'a>(
        &'a self,
        identity: &'a PipelineIdentity,
        declared: &'a Declarations,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let (identity, declared) = (identity.clone(), declared.clone());
        Box::pin(self.write(move |connection| prepare::prepare(connection, &identity, &declared)))
    }

    fn take_over<'a>(&'a self, shard: &'a ShardKey) -> BoxFuture<'a, Result<Takeover, StateError>> {
        let (shard, token) = (shard.clone(), Uuid::new_v4());
        Box::pin(self.write(move |connection| apply::take_over(connection, &shard, token)))
    }

    fn position<'a>(
        &'a self,
        shard: &'a ShardKey,
    ) -> BoxFuture<'a, Result<Option<Offset>, StateError>> {
        let shard = shard.clone();
        Box::pin(self.readers.run(move |connection| apply::position(connection, &shard)))
    }

    fn load<'a>(
        &'a self,
        lease: &'a Lease,
        manifests: &'a [ManifestKey],
    ) -> BoxFuture<'a, Result<Vec<StoredManifest>, StateError>> {
        let (owner, manifests) = (lease.key.clone(), manifests.to_vec());
        Box::pin(
            self.readers.run(move |connection| manifests::load(connection, &owner, &manifests)),
        )
    }

    fn apply<'a>(
        &'a self,
        lease: &'a Lease,
        change: Change,
    ) -> BoxFuture<'a, Result<Applied, StateError>> {
        let lease = lease.clone();
        Box::pin(self.write(move |connection| apply::apply(connection, &lease, &change)))
    }

    fn write_rows(&self, rows: TableRows) -> BoxFuture<'_, Result<bool, StateError>> {
        Box::pin(self.write(move |connection| rows::write(connection, &rows)))
    }

    fn claim<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        now: i64,
        until: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, StateError>> {
        let pipeline = pipeline.clone();
        Box::pin(
            self.write(move |connection| outbox::claim(connection, &pipeline, (now, until), limit)),
        )
    }

    fn delivered(&self, id: i64, now: i64) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.write(move |connection| outbox::delivered(connection, id, now)))
    }

    fn failed<'a>(
        &'a self,
        id: i64,
        retry_at: i64,
        error: &'a str,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let error = error.to_owned();
        Box::pin(self.write(move |connection| outbox::fail(connection, id, retry_at, &error)))
    }

    fn claim_retired<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        due: RetiredDue,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<String>, StateError>> {
        let pipeline = pipeline.clone();
        Box::pin(self.write(move |connection| retired::claim(connection, &pipeline, due, limit)))
    }

    fn objects_deleted<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        urls: &'a [String],
        now: i64,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let (pipeline, urls) = (pipeline.clone(), urls.to_vec());
        Box::pin(self.write(move |connection| retired::deleted(connection, &pipeline, &urls, now)))
    }

    fn manifests<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        filter: &'a ManifestFilter,
    ) -> BoxFuture<'a, Result<Vec<ManifestSummary>, StateError>> {
        let (pipeline, filter) = (pipeline.clone(), filter.clone());
        Box::pin(
            self.readers.run(move |connection| manifests::list(connection, &pipeline, &filter)),
        )
    }

    fn manifest<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        manifest: &'a ManifestKey,
    ) -> BoxFuture<'a, Result<Option<(StoredManifest, Vec<OutboxStatus>)>, StateError>> {
        let (pipeline, manifest) = (pipeline.clone(), manifest.clone());
        Box::pin(
            self.readers
                .run(move |connection| manifests::explain(connection, &pipeline, &manifest)),
        )
    }

    fn backlog<'a>(
        &'a self,
        pipeline: &'a PipelineName,
    ) -> BoxFuture<'a, Result<Backlog, StateError>> {
        let pipeline = pipeline.clone();
        Box::pin(self.readers.run(move |connection| backlog::read(connection, &pipeline)))
    }

    fn table<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Map<String, Value>>, StateError>> {
        let name = name.to_owned();
        let reading = self.readers.run(move |connection| tables::read(connection, &name, 0));
        Box::pin(async move { reading.await.map(|page| page.rows) })
    }

    fn table_page<'a>(
        &'a self,
        name: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<TablePage, StateError>> {
        let name = name.to_owned();
        Box::pin(self.readers.run(move |connection| tables::read(connection, &name, limit)))
    }

    fn tables(&self) -> BoxFuture<'_, Result<Vec<String>, StateError>> {
        Box::pin(self.readers.run(tables::names))
    }

    fn pipelines(&self) -> BoxFuture<'_, Result<Vec<PipelineName>, StateError>> {
        Box::pin(self.readers.run(prepare::pipelines))
    }
}

#[cfg(test)]
mod tests;
