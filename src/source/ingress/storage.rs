//! Where the uploads of one ingress lie, whichever place that is.
//!
//! Responsible for: one face for announcers over the folder of this process and the spool that
//! replicas share; finding a payload in either.
//! Not responsible for: what each of them does (`spool`, `shared`).
//!
//! With a shared spool the folder only receives uploads. What it holds from before that spool was
//! declared is still announced, handed out and removed in its time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::model::NodeName;
use crate::source::ingress::backlog::Backlog;
use crate::source::ingress::shared::SharedSpool;
use crate::source::ingress::spool::{Announcement, IngressSpool, blocking};
use crate::spool::objects::ObjectReader;

/// Where one announcer finds what it is to do.
#[derive(Clone)]
pub(super) enum Storage {
    /// In the folder of this process.
    Folder(Arc<IngressSpool>),
    /// In the spool that replicas share.
    Shared(Arc<SharedSpool>),
}

impl Storage {
    /// Name of the ingress.
    pub(super) fn name(&self) -> &NodeName {
        match self {
            Self::Folder(spool) => spool.name(),
            Self::Shared(spool) => spool.name(),
        }
    }

    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Shared(_) => "shared spool",
        }
    }

    /// How old an announcement of others has to be to be sent from here, if there can be such.
    pub(super) fn adopt_after(&self) -> Option<Duration> {
        match self {
            Self::Folder(_) => None,
            Self::Shared(spool) => Some(spool.adopt_after()),
        }
    }

    /// What waits to be announced.
    pub(super) fn backlog(&self) -> &Backlog {
        match self {
            Self::Folder(spool) => spool.backlog(),
            Self::Shared(spool) => spool.backlog(),
        }
    }

    /// The announcement of a payload, or `None` if it has been sent.
    pub(super) async fn announcement(&self, id: Uuid) -> io::Result<Option<Announcement>> {
        match self.clone() {
            Self::Folder(spool) => blocking(move || spool.announcement(id)).await,
            Self::Shared(spool) => spool.announcement(id).await,
        }
    }

    /// The broker has the announcement.
    pub(super) async fn sent(&self, id: Uuid) -> io::Result<()> {
        match self.clone() {
            Self::Folder(spool) => blocking(move || spool.sent(id)).await,
            Self::Shared(spool) => spool.sent(id).await,
        }
    }

    /// At most `most` payloads that are to be announced, and whether there are more of them.
    pub(super) async fn unsent(&self, most: usize) -> io::Result<(BTreeSet<Uuid>, bool)> {
        match self.clone() {
            Self::Folder(spool) => blocking(move || spool.unsent(most)).await,
            Self::Shared(spool) => spool.unsent(most).await,
        }
    }

    /// Removes what nobody needs any more; says how many payloads that were.
    pub(super) async fn sweep(&self, retain: Duration) -> io::Result<u64> {
        match self.clone() {
            Self::Folder(spool) => blocking(move || spool.sweep(retain)).await,
            Self::Shared(spool) => spool.sweep().await,
        }
    }
}

/// A payload, ready to be read.
#[derive(Debug)]
pub enum Payload {
    /// A file of this machine. It stays readable when its name is removed.
    File(File),
    /// An object of the shared spool.
    Object(ObjectReader),
}

/// The payloads of one ingress. Cheap to clone.
#[derive(Clone)]
pub struct IngressPayloads {
    folder: Arc<IngressSpool>,
    shared: Option<Arc<SharedSpool>>,
}

impl IngressPayloads {
    pub(super) fn new(folder: Arc<IngressSpool>, shared: Option<Arc<SharedSpool>>) -> Self {
        Self { folder, shared }
    }

    /// Name of the ingress.
    pub fn name(&self) -> &NodeName {
        self.folder.name()
    }

    /// The folder of this process.
    pub(super) fn folder(&self) -> &Arc<IngressSpool> {
        &self.folder
    }

    /// The spool that replicas share, if there is one.
    pub(super) fn shared(&self) -> Option<&Arc<SharedSpool>> {
        self.shared.as_ref()
    }

    /// Everywhere that something may wait to be announced.
    pub(super) fn storages(&self) -> impl Iterator<Item = Storage> {
        let shared = self.shared.clone().map(Storage::Shared);
        [Storage::Folder(self.folder.clone())].into_iter().chain(shared)
    }

    /// The payload that `url` names, or `None` if this ingress has not announced that URL: here, or
    /// at any replica where there is a shared spool.
    pub async fn find(&self, url: &str) -> Option<io::Result<Payload>> {
        let (folder, wanted) = (self.folder.clone(), url.to_owned());
        let opened = match blocking(move || Ok(folder.open(&wanted))).await {
            Ok(opened) => opened,
            Err(error) => return Some(Err(error)),
        };
        let is_elsewhere = opened.as_ref().is_none_or(|opened| is_missing(opened.as_ref().err()));
        match self.shared.as_ref().zip(self.folder.id_in(url)).filter(|_| is_elsewhere) {
            Some((shared, id)) => Some(shared.payload(id).await.map(Payload::Object)),
            None => opened.map(|file| file.map(Payload::File)),
        }
    }

    /// The payload with this id.
    pub(super) async fn payload(&self, id: Uuid) -> io::Result<Payload> {
        let folder = self.folder.clone();
        let file = blocking(move || folder.payload(id)).await;
        match &self.shared {
            Some(shared) if is_missing(file.as_ref().err()) => {
                shared.payload(id).await.map(Payload::Object)
            }
            _ => file.map(Payload::File),
        }
    }
}

fn is_missing(error: Option<&io::Error>) -> bool {
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
