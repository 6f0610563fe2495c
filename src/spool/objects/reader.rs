//! Reads an object in pieces.
//!
//! Responsible for: requests that are each small enough to end in time, and telling an object that
//! ends early from one that ends.
//! Not responsible for: where the pieces go, or trying again.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use crate::spool::objects::{ObjectRoot, RootError};

/// Bytes that are asked for at once: what one request carries when an object is put, too.
const REQUEST_BYTES: u64 = 8 << 20;

/// An object that is being read, from start to end.
pub struct ObjectReader {
    root: ObjectRoot,
    path: String,
    location: Path,
    bytes: u64,
    /// Where the next piece begins.
    at: u64,
    request: Option<Request>,
}

/// A request under way.
struct Request {
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
    /// Where what was asked for ends.
    until: u64,
}

/// Streams cannot be shown.
impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, bytes, at, .. } = self;
        let mut shown = f.debug_struct("ObjectReader");
        shown.field("path", path).field("bytes", bytes).field("at", at).finish_non_exhaustive()
    }
}

impl ObjectReader {
    pub(super) fn new(root: &ObjectRoot, path: &str, location: Path, bytes: u64) -> Self {
        let (root, path) = (root.clone(), path.to_owned());
        Self { root, path, location, bytes, at: 0, request: None }
    }

    /// Length of the object.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece, or `None` after the last.
    ///
    /// # Errors
    /// What the store said, or that the object ended early. Nothing more can be read then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RootError> {
        while self.at < self.bytes {
            if self.request.as_ref().is_none_or(|request| self.at >= request.until) {
                let until = self.bytes.min(self.at + REQUEST_BYTES);
                let asked = ask(&self.root.store, &self.location, self.at..until).await;
                let pieces = asked.map_err(|error| self.root.answered(&self.path, &error))?;
                self.request = Some(Request { pieces, until });
            }
            let Some(request) = &mut self.request else { continue };
            match request.pieces.next().await {
                Some(Ok(piece)) => {
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Some(Err(error)) => return Err(self.root.answered(&self.path, &error)),
                None => return Err(self.root.failed(&self.path, &"it ended early")),
            }
        }
        Ok(None)
    }
}

async fn ask(
    store: &Arc<dyn ObjectStore>,
    location: &Path,
    range: Range<u64>,
) -> object_store::Result<BoxStream<'static, object_store::Result<Bytes>>> {
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    Ok(store.get_opts(location, options).await?.into_stream())
}
