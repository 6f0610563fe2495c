//! What a lane has committed and not yet handed over.
//!
//! Responsible for: keeping it where the lane's next worker finds it, should this one panic or
//! its thread hang before the end of the batch.
//! Not responsible for: sending it; whoever flushes takes it from here.

use std::sync::{Arc, Mutex, PoisonError};

/// Committed output of one writer of one lane; clones share it.
#[derive(Debug)]
pub struct Handover<T>(Arc<Mutex<Vec<T>>>);

impl<T> Handover<T> {
    /// Adds what an input record led to.
    pub fn extend(&self, items: impl IntoIterator<Item = T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(items);
    }

    /// Takes everything, in order.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Default for Handover<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Handover<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
