//! Where uploads lie that all replicas share.
//!
//! Responsible for: making a payload and its announcement durable in a store of objects; finding
//! what a dead replica has left unannounced; retention.
//! Not responsible for: how old is too old (`progress::shared_spool`), receiving uploads (`upload`)
//! or sending announcements (`announcer`).
//!
//! ```text
//! INGRESS/payloads/ID    the upload
//! INGRESS/waiting/ID     its announcement, to be sent (the answer 202 stands behind this object)
//! INGRESS/sent/ID        it was sent; retention counts from when this was put
//! INGRESS/unreadable/ID  an announcement that is damaged, kept for a person to look at
//! ```
//!
//! Every object is put whole and unconditionally, under the upload's id. The payload comes first: a
//! crash in between leaves a payload that nobody knows of, whose client has had no answer. Where
//! the answer of the store to an announcement is lost, it may be there all the same: it is sent
//! later, and the client comes again, so the upload is announced twice.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::model::body::SpooledFile;
use crate::model::{Blob, NodeName};
use crate::progress::shared_spool::{Duty, Place, Times};
use crate::runtime::clock::SharedClock;
use crate::runtime::fault::{Point, crash_point};
use crate::source::ingress::backlog::Backlog;
use crate::source::ingress::spool::{Announcement, parse};
use crate::spool::objects::{Listed, ObjectReader, ObjectRoot, RootError};

/// Most bytes of an announcement that is read back; none is put that has so many.
const MOST_ANNOUNCED: u64 = 8 << 20;
/// Objects that a sweep looks up at once.
const SWEPT_AT_ONCE: usize = 1_000;

const PAYLOADS: &str = "payloads";
const WAITING: &str = "waiting";
const SENT: &str = "sent";
const UNREADABLE: &str = "unreadable";

/// The payloads of one ingress, of all replicas.
pub(super) struct SharedSpool {
    name: NodeName,
    root: ObjectRoot,
    times: Times,
    clock: SharedClock,
    backlog: Backlog,
}

impl SharedSpool {
    /// The part of a store that belongs to the ingress `name`.
    pub(super) fn new(
        name: NodeName,
        root: ObjectRoot,
        times: Times,
        clock: SharedClock,
    ) -> Arc<Self> {
        Arc::new(Self { name, root, times, clock, backlog: Backlog::default() })
    }

    /// Name of the ingress.
    pub(super) fn name(&self) -> &NodeName {
        &self.name
    }

    /// How long an announcement is its own replica's.
    pub(super) fn adopt_after(&self) -> Duration {
        self.times.adopt_after
    }

    /// What waits to be announced by this replica.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Puts a received payload and its announcement. After this returns, neither is lost.
    pub(super) async fn keep(
        &self,
        id: Uuid,
        (file, size): (File, u64),
        announcement: &Announcement,
    ) -> io::Result<()> {
        let json = serde_json::to_vec(announcement)?;
        let payload = Blob::new(SpooledFile::new(file, Box::new(())), 0, size);
        self.root.put(&self.path_of(PAYLOADS, id), size, payload.open()).await?;
        crash_point(Point::IngressSynced);
        self.put(WAITING, id, json).await?;
        crash_point(Point::IngressKept);
        self.backlog.add(id);
        Ok(())
    }

    /// The payload with this id.
    pub(super) async fn payload(&self, id: Uuid) -> io::Result<ObjectReader> {
        Ok(self.root.reader(&self.path_of(PAYLOADS, id)).await?)
    }

    /// The announcement of a payload, or `None` if it has been sent. One that cannot be read as
    /// what it should be is put aside, since it never will be.
    pub(super) async fn announcement(&self, id: Uuid) -> io::Result<Option<Announcement>> {
        let path = self.path_of(WAITING, id);
        let bytes = match self.read(&path).await {
            Ok(bytes) => bytes,
            Err(RootError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match serde_json::from_slice(&bytes) {
            Ok(announcement) => Ok(Some(announcement)),
            Err(error) => {
                tracing::error!(
                    ingress = %self.name, object = %self.root.url_of(&path), %error,
                    "an announcement in the shared spool is damaged, its payload is not announced"
                );
                self.put(UNREADABLE, id, bytes).await?;
                self.delete(WAITING, id).await?;
                Ok(None)
            }
        }
    }

    /// The broker has the announcement: retention counts from now.
    pub(super) async fn sent(&self, id: Uuid) -> io::Result<()> {
        self.put(SENT, id, Vec::new()).await?;
        self.delete(WAITING, id).await
    }

    /// At most `most` payloads that nobody has announced for so long that anybody may, and whether
    /// there are more of them.
    pub(super) async fn unsent(&self, most: usize) -> io::Result<(BTreeSet<Uuid>, bool)> {
        let (found, more) = self.owed(Place::Waiting, Duty::Announce, most).await?;
        Ok((found.into_iter().collect(), more))
    }

    /// Removes payloads that were announced longer than the retention ago, and those that were
    /// never answered; says how many.
    pub(super) async fn sweep(&self) -> io::Result<u64> {
        let mut removed = 0;
        loop {
            let (found, more) = self.owed(Place::Sent, Duty::Remove, SWEPT_AT_ONCE).await?;
            for id in found {
                // The payload goes first: what is left of a crash in between is found again.
                self.delete(PAYLOADS, id).await?;
                self.delete(SENT, id).await?;
                removed += 1;
            }
            if !more {
                break;
            }
        }
        let (old, _) = self.owed(Place::Payload, Duty::RemoveIfUnknown, SWEPT_AT_ONCE).await?;
        for id in old {
            if !self.is_known(id).await? {
                self.delete(PAYLOADS, id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Whether anything but the payload itself tells of an upload.
    async fn is_known(&self, id: Uuid) -> io::Result<bool> {
        for folder in [WAITING, SENT, UNREADABLE] {
            if self.root.has(&self.path_of(folder, id)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Uploads to which `duty` is owed, at most so many, and whether there are more.
    async fn owed(
        &self,
        place: Place,
        duty: Duty,
        most: usize,
    ) -> Result<(Vec<Uuid>, bool), RootError> {
        let now = self.clock.unix_millis();
        let is_owed = |listed: &Listed| {
            let owed = self.times.duty(place, listed.put_at, now);
            owed == Some(duty) && parse(&listed.name).is_some()
        };
        let folder = format!("{}/{}", self.name, folder_of(place));
        let (found, more) = self.root.list(&folder, most, is_owed).await?;
        Ok((found.iter().filter_map(|listed| parse(&listed.name)).collect(), more))
    }

    async fn read(&self, path: &str) -> Result<Vec<u8>, RootError> {
        let (mut reader, mut bytes) = (self.root.reader(path).await?, Vec::new());
        while let Some(piece) = reader.next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > MOST_ANNOUNCED {
                break;
            }
        }
        Ok(bytes)
    }

    async fn put(&self, folder: &str, id: Uuid, bytes: Vec<u8>) -> io::Result<()> {
        let size = bytes.len() as u64;
        Ok(self.root.put(&self.path_of(folder, id), size, Cursor::new(bytes)).await?)
    }

    /// What is gone already may be.
    async fn delete(&self, folder: &str, id: Uuid) -> io::Result<()> {
        let url = self.root.url_of(&self.path_of(folder, id));
        self.root.delete(&url).await?;
        Ok(())
    }

    fn path_of(&self, folder: &str, id: Uuid) -> String {
        format!("{}/{folder}/{id}", self.name)
    }
}

fn folder_of(place: Place) -> &'static str {
    match place {
        Place::Payload => PAYLOADS,
        Place::Waiting => WAITING,
        Place::Sent => SENT,
    }
}

#[cfg(test)]
mod tests;
