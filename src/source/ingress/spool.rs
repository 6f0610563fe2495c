//! Where uploads lie until nobody needs them any more.
//!
//! Responsible for: one folder per ingress, whose file names are its whole state; making a payload
//! and its announcement durable together; finding what was never announced; retention.
//! Not responsible for: receiving uploads (`upload`) or sending announcements (`announcer`).
//!
//! ```text
//! ID.part             being received; removed at start
//! ID + ID.json        durable, not yet announced (the answer 202 stands behind this state)
//! ID + ID.sent        announced; its time of change says when, and retention counts from there
//! ID.json.unreadable  an announcement that the disk has damaged, kept for a person to look at
//! ```
//!
//! The announcement is written before the payload gets its name, and the folder is synced after
//! that: a crash in between leaves a part, whose client has had no answer.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::{Timestamp, Uuid};

use crate::model::NodeName;
use crate::runtime::clock::SharedClock;
use crate::runtime::fault::{Point, crash_point};
use crate::source::ingress::backlog::Backlog;

/// What is sent about a payload, as it lies in the spool: programs are not run again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Announcement {
    /// Topic that it goes to.
    pub(super) topic: String,
    /// Headers of the record.
    pub(super) headers: Vec<(String, String)>,
    /// Value of the record.
    pub(super) value: serde_json::Value,
}

/// A file that is being received. Dropped before it is kept, it is gone.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: Uuid,
    path: PathBuf,
    kept: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished upload");
        }
    }
}

/// The payloads of one ingress that lie with this process. What opens, makes or removes files
/// blocks on the disk.
pub(super) struct IngressSpool {
    name: NodeName,
    folder: PathBuf,
    /// What the URLs begin with that are announced from now on: `http://host:port`.
    base: String,
    /// Path of payloads, with a slash at its end.
    path: String,
    clock: SharedClock,
    backlog: Backlog,
}

impl IngressSpool {
    /// Opens or makes the spool of the ingress `name` in `folder`, and removes what a former
    /// process was receiving when it died.
    pub(super) fn open_folder(
        name: NodeName,
        folder: PathBuf,
        endpoint: &str,
        base: String,
        clock: SharedClock,
    ) -> io::Result<Arc<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let spool = Self {
            name,
            folder,
            base,
            path: payloads_of(endpoint),
            clock,
            backlog: Backlog::default(),
        };
        spool.recover()?;
        Ok(Arc::new(spool))
    }

    /// Name of the ingress.
    pub(super) fn name(&self) -> &NodeName {
        &self.name
    }

    /// The payload that `url` names, or `None` if this ingress has not announced that URL. It is
    /// known by its path, so payloads announced under a former port are found too. The file stays
    /// readable when retention removes its name.
    pub(super) fn open(&self, url: &str) -> Option<io::Result<File>> {
        let (base, id) = url.split_once(&*self.path)?;
        let id = parse(id)?;
        let authority = base.strip_prefix("http://");
        if base != self.base && authority.is_none_or(|authority| authority.contains('/')) {
            return None;
        }
        match self.payload(id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_own(base) => None,
            opened => Some(opened),
        }
    }

    /// The id in a URL under which any replica may have announced a payload: they have addresses
    /// and public names of their own, and the path in common.
    pub(super) fn id_in(&self, url: &str) -> Option<Uuid> {
        let (base, id) = url.split_once(&*self.path)?;
        let is_base = ["http://", "https://"].iter().any(|scheme| base.starts_with(scheme));
        parse(id).filter(|_| is_base)
    }

    /// Whether a URL that begins like this is one of this process, as far as can be told: a former
    /// one may have listened on another port.
    fn is_own(&self, base: &str) -> bool {
        let loopback = |address: SocketAddr| address.ip().is_loopback();
        let authority = base.strip_prefix("http://").unwrap_or_default();
        base == self.base || authority.parse().is_ok_and(loopback)
    }

    /// What waits to be announced.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// URL that a payload is announced under.
    pub(super) fn url_of(&self, id: Uuid) -> String {
        format!("{}{}{id}", self.base, self.path)
    }

    /// Begins a new payload.
    pub(super) fn create(&self) -> io::Result<(Part, File)> {
        let id = self.next_id();
        let path = self.path_of(id, ".part");
        let file = create(&path)?;
        Ok((Part { id, path, kept: false }, file))
    }

    /// A fresh id. Ids sort by the time at which the upload began.
    fn next_id(&self) -> Uuid {
        let now = self.now();
        Uuid::new_v7(Timestamp::from_unix_time(now.as_secs(), now.subsec_nanos(), 0, 0))
    }

    /// Time since the Unix epoch.
    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.unix_millis()).unwrap_or(0))
    }

    /// Makes a received payload and its announcement durable. After this returns, neither is lost.
    pub(super) fn keep(
        &self,
        mut part: Part,
        file: &File,
        announcement: &Announcement,
    ) -> io::Result<()> {
        file.sync_all()?;
        crash_point(Point::IngressSynced);
        let json = self.path_of(part.id, ".json");
        let named = write(&json, &serde_json::to_vec(announcement)?)
            .and_then(|()| fs::rename(&part.path, self.path_of(part.id, "")));
        if let Err(error) = named {
            // Without its payload the announcement is removed at the next start at the latest.
            let _ = fs::remove_file(&json);
            return Err(error);
        }
        part.kept = true;
        File::open(&self.folder)?.sync_all()?;
        crash_point(Point::IngressKept);
        self.backlog.add(part.id);
        Ok(())
    }

    /// The payload with this id.
    pub(super) fn payload(&self, id: Uuid) -> io::Result<File> {
        File::open(self.path_of(id, ""))
    }

    /// The announcement of a payload, or `None` if it has been sent. One that cannot be read as
    /// what it should be is put aside, since it never will be.
    pub(super) fn announcement(&self, id: Uuid) -> io::Result<Option<Announcement>> {
        let path = self.path_of(id, ".json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&bytes) {
            Ok(announcement) => Ok(Some(announcement)),
            Err(error) => {
                tracing::error!(
                    ingress = %self.name, path = %path.display(), %error,
                    "an announcement in the spool is damaged, its payload is not announced"
                );
                fs::rename(&path, self.path_of(id, ".json.unreadable"))?;
                Ok(None)
            }
        }
    }

    /// The broker has the announcement: retention counts from now.
    pub(super) fn sent(&self, id: Uuid) -> io::Result<()> {
        let json = self.path_of(id, ".json");
        File::options().write(true).open(&json)?.set_modified(UNIX_EPOCH + self.now())?;
        fs::rename(&json, self.path_of(id, ".sent"))
    }

    /// The `most` oldest payloads that wait to be announced, and whether there are more of them.
    pub(super) fn unsent(&self, most: usize) -> io::Result<(BTreeSet<Uuid>, bool)> {
        let (mut oldest, mut more) = (BTreeSet::new(), false);
        self.each(|name, _path| {
            if let Some(id) = name.strip_suffix(".json").and_then(parse) {
                oldest.insert(id);
                if oldest.len() > most {
                    oldest.pop_last();
                    more = true;
                }
            }
            Ok(())
        })?;
        Ok((oldest, more))
    }

    /// Removes payloads that were announced longer than `retain` ago; says how many.
    pub(super) fn sweep(&self, retain: Duration) -> io::Result<u64> {
        let Some(before) = self.now().checked_sub(retain) else { return Ok(0) };
        let mut removed = 0;
        self.each(|name, path| {
            let Some(id) = name.strip_suffix(".sent").and_then(parse) else { return Ok(()) };
            if fs::metadata(path)?.modified()? < UNIX_EPOCH + before {
                // The payload goes first: what is left of a crash in between is found again.
                remove(&self.path_of(id, ""))?;
                remove(path)?;
                removed += 1;
            }
            Ok(())
        })?;
        Ok(removed)
    }

    /// Removes what has no answer behind it.
    fn recover(&self) -> io::Result<()> {
        self.each(|name, path| {
            let orphan = match name.strip_suffix(".json").and_then(parse) {
                Some(id) => !self.path_of(id, "").try_exists()?,
                None => name.ends_with(".part"),
            };
            if orphan { remove(path) } else { Ok(()) }
        })
    }

    /// Calls `with` for each file, one at a time: the folder may be large.
    fn each(&self, mut with: impl FnMut(&str, &Path) -> io::Result<()>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str() {
                with(name, &entry.path())?;
            }
        }
        Ok(())
    }

    fn path_of(&self, id: Uuid, suffix: &str) -> PathBuf {
        self.folder.join(format!("{id}{suffix}"))
    }
}

/// Path of the payloads of an endpoint, with a slash at its end.
pub(super) fn payloads_of(endpoint: &str) -> String {
    format!("{}/payloads/", endpoint.trim_end_matches('/'))
}

/// An id in the one form in which it is a file name.
pub(super) fn parse(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.to_string() == text).then_some(id)
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
