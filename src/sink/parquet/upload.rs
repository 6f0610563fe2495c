//! Uploading what the stages committed.
//!
//! Responsible for: putting each object of a package, without end while the store is away, and
//! settling the package when the last one is durable.
//! Not responsible for: how many packages are in flight (the actor), or how an object is put
//! (`spool::objects`).

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::event::{MemberFacts, ObjectFact};
use crate::model::{NodeName, Outcome};
use crate::progress::retry::{Availability, RetryPolicy, Transition};
use crate::runtime::clock::SharedClock;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::jitter::jitter;
use crate::sink::parquet::object::FinishedObject;
use crate::sink::parquet::writer::ObjectPackage;
use crate::spool::objects::{ObjectRoot, RootError};
use crate::telemetry::{Away, Instruments};

/// What an upload needs; the same for every incarnation of the actor. Cheap to clone.
#[derive(Clone)]
pub struct UploadContext {
    node: NodeName,
    root: ObjectRoot,
    clock: SharedClock,
    instruments: Arc<Instruments>,
    policy: RetryPolicy,
    availability: Arc<Mutex<Availability>>,
    /// There while the store is away.
    away: Arc<Mutex<Option<Away>>>,
}

impl UploadContext {
    /// For the sink `node`, whose objects lie under `root`.
    pub fn new(
        node: NodeName,
        root: ObjectRoot,
        clock: SharedClock,
        instruments: Arc<Instruments>,
    ) -> Self {
        let (policy, availability, away) = Default::default();
        Self { node, root, clock, instruments, policy, availability, away }
    }

    /// Pauses between attempts under another policy.
    #[must_use]
    pub fn with_policy(self, policy: RetryPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Puts all objects of a package, then settles it. Ends only when that is done; dropped before,
    /// it abandons the package.
    pub async fn deliver(&self, package: ObjectPackage) {
        let ObjectPackage { objects, duty } = package;
        let mut facts = MemberFacts::default();
        for object in objects {
            self.put(&object).await;
            facts.rows += object.rows;
            facts.objects.push(self.fact(object));
        }
        self.instruments.objects.add(facts.objects.len() as u64);
        duty.note(facts);
        duty.settle(Outcome::Delivered);
    }

    /// Whether the store answered the last attempt.
    pub fn is_available(&self) -> bool {
        self.availability.lock().unwrap_or_else(PoisonError::into_inner).is_available()
    }

    async fn put(&self, object: &FinishedObject) {
        crash_point(Point::ObjectPut);
        let mut attempt = 0;
        while let Err(error) = self.try_to_put(object).await {
            attempt += 1;
            self.failed(&error);
            tokio::time::sleep(self.policy.delay(attempt, jitter())).await;
        }
        crash_point(Point::ObjectRenamed);
        self.reached();
    }

    async fn try_to_put(&self, object: &FinishedObject) -> Result<(), RootError> {
        let FinishedObject { path, content, .. } = object;
        self.root.put(path, content.bytes(), content.open()).await
    }

    fn fact(&self, object: FinishedObject) -> ObjectFact {
        ObjectFact {
            sink: self.node.clone(),
            url: self.root.url_of(&object.path),
            schema: object.schema.as_deref().map(str::to_owned),
            rows: object.rows,
            bytes: object.content.bytes(),
            partition_values: object.columns,
        }
    }

    fn failed(&self, error: &RootError) {
        let now = self.clock.now().0;
        let mut availability = self.availability.lock().unwrap_or_else(PoisonError::into_inner);
        if availability.failed(now) == Some(Transition::Lost) {
            self.stands(Some(self.instruments.unavailable.enter(self.node.as_str(), error)));
            tracing::warn!(node = %self.node, %error, "object store away, trying on");
        }
    }

    fn stands(&self, away: Option<Away>) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = away;
    }

    fn reached(&self) {
        let now = self.clock.now().0;
        let mut availability = self.availability.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Transition::Recovered { after, attempts }) = availability.reached(now) {
            self.stands(None);
            tracing::warn!(node = %self.node, ?after, attempts, "object store is back");
        }
    }
}

#[cfg(test)]
mod tests;
