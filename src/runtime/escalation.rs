//! The first error that ends a pipeline.
//!
//! Responsible for: carrying a named error from wherever it is found to the engine, once.
//! Not responsible for: restarting anything; what arrives here could not be mended below.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What kind of end it is; the binary turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The topology or the settings do not fit what is there.
    Misconfigured,
    /// Something that the pipeline cannot do without is missing or refuses it.
    Dependency,
    /// A limit that the operator set was reached.
    Policy,
    /// A fault of the engine itself.
    Internal,
}

/// An error that ends the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Escalated {
    /// What kind of end it is.
    pub ending: Ending,
    /// What happened, on what, and what to do.
    pub why: String,
}

/// Where the first such error is put; later ones are consequences and are logged only.
#[derive(Debug, Default)]
pub struct Escalation {
    first: Mutex<Option<Escalated>>,
    raised: Notify,
}

impl Escalation {
    /// Reports an error that ends the pipeline.
    pub fn raise(&self, ending: Ending, why: impl Into<String>) {
        let why = why.into();
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_some() {
            tracing::warn!(%why, "a further error while the pipeline is ending");
            return;
        }
        tracing::error!(%why, "the pipeline cannot go on");
        *first = Some(Escalated { ending, why });
        drop(first);
        self.raised.notify_waiters();
    }

    /// The error, if there is one.
    pub fn get(&self) -> Option<Escalated> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first error.
    pub async fn raised(&self) -> Escalated {
        loop {
            let notified = self.raised.notified();
            tokio::pin!(notified);
            // Registered before looking, so that an error raised in between is not missed.
            notified.as_mut().enable();
            if let Some(escalated) = self.get() {
                return escalated;
            }
            notified.await;
        }
    }
}
