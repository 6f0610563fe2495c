//! The Parquet sink.
//!
//! **Role** uploads finished objects and settles each package when the last of its objects is
//! durable.
//! **Owns** nothing but permits: packages in flight belong to tasks of their own.
//! **Receives** batches of [`ObjectPackage`] from the stages that end in it.
//! **Sends** nothing; outcomes go through the obligations.
//! **On failure** it is rebuilt on the same inbox; packages that it had not yet started are
//! abandoned and read again, those in flight end as if nothing had happened.
//!
//! Responsible for: bounding packages in flight, so that the inbox stays the only queue.
//! Not responsible for: making objects, which happens in the stage (`writer`), or trying again
//! (`upload`).
//!
//! ```text
//! columns ─▶ blocks ─▶ shares by the path's columns ─▶ open objects ─▶ finished ─▶ package
//!            (of rows)                                 (spool)        (named)      │ commit, flush
//!                                                                                  ▼
//!                          settled ◀─ durable ◀─ put: temporary, sync, rename ◀─ actor
//! ```

pub mod object;
pub mod partition;
pub mod run;
pub mod segments;
pub mod upload;
pub mod writer;

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::Semaphore;

use crate::runtime::exit::Lifeline;
use crate::runtime::inbox::Inbox;

pub use object::FinishedObject;
pub use upload::UploadContext;
pub use writer::{ObjectPackage, PackageBatch, ParquetWriter, UnusableSink};

/// Packages that are uploaded at once: enough to hide the wait for the disk.
pub const CONCURRENCY: usize = 4;

/// The actor.
pub struct ParquetSink {
    /// The same for every incarnation.
    context: UploadContext,
    /// One permit per package in flight; shared by all incarnations, since uploads outlive them.
    permits: Arc<Semaphore>,
    /// Filled by the stages.
    packages: Inbox<PackageBatch>,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl ParquetSink {
    /// An incarnation that reads from `packages`. `permits` are the same for all of them, one for
    /// each package that may be in flight: [`CONCURRENCY`] is a good number.
    pub fn new(
        context: UploadContext,
        permits: Arc<Semaphore>,
        packages: Inbox<PackageBatch>,
        lifeline: Lifeline,
    ) -> Self {
        Self { context, permits, packages, _lifeline: lifeline }
    }
}

impl Actor for ParquetSink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.packages.attach(ctx);
    }
}

impl StreamHandler<PackageBatch> for ParquetSink {
    fn handle(&mut self, batch: PackageBatch, ctx: &mut Self::Context) {
        let (permits, context) = (self.permits.clone(), self.context.clone());
        // Waiting for permits here is the backpressure: the next batch stays in the inbox.
        let admitted = async move {
            for package in batch {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let context = context.clone();
                actix::spawn(async move {
                    context.deliver(package).await;
                    drop(permit);
                });
            }
        };
        ctx.wait(admitted.into_actor(self));
    }
}
