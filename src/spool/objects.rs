//! Where objects live: the root of a store.
//!
//! Responsible for: opening the root that a URL names, putting whole objects (an object appears
//! whole or not at all), reading and listing them, deleting them by their URL, and sweeping up what
//! a killed upload left behind.
//! Not responsible for: trying again (whoever puts), or which objects there are to be.
//!
//! `object_store`'s local file system writes to `name#1`, syncs, renames and syncs the folder. It
//! does so partly on the calling thread, and what is put is read from a disk, so putting runs on a
//! blocking thread. S3 makes an object visible with the request that ends its upload. Parts of an
//! upload that was killed stay there unseen, until a rule of the bucket
//! (`AbortIncompleteMultipartUpload`) removes them.

pub mod place;
mod reader;
mod s3;

use std::fmt;
use std::io::{self, Read};
use std::path::Path as FilePath;
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use secrecy::SecretString;
use tokio::runtime::Handle;

pub use place::Place;
pub use reader::ObjectReader;

/// Objects up to this size are put at once, larger ones in parts of it.
const PART_BYTES: u64 = 8 << 20;
/// Most parts of an object, as S3 has it.
const MOST_PARTS: u64 = 10_000;
/// Temporary files of one object that are looked for after it was put.
const LEFTOVERS: usize = 8;
/// Below this path nothing ever lies: a list of it is empty, and tells who may use the bucket.
const NOTHING: &str = ".tidemill/probe";

/// A place for objects as a topology names it.
#[derive(Clone, Debug)]
pub struct ObjectPlace {
    /// `file://…` (relative paths allowed) or `s3://bucket/prefix`.
    pub url: String,
    /// How to get into the bucket, if it is one.
    pub s3: Option<S3Access>,
}

/// How to get into an S3 bucket. Nothing is taken from the environment or from the machine.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// Region, which is part of every signature.
    pub region: String,
    /// Where a store other than Amazon's answers.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be spoken to without TLS.
    pub allow_http: bool,
    /// Name of the key pair.
    pub access_key_id: SecretString,
    /// The key that signs requests.
    pub secret_access_key: SecretString,
    /// Goes with keys that expire.
    pub session_token: Option<SecretString>,
}

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A URL that names no store.
    #[error("{url} is no place for objects: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A store that does not let us in, or does not answer.
    #[error("objects cannot be put below {url}: {why}")]
    Unusable {
        /// The root.
        url: String,
        /// What the store said, and what to do.
        why: String,
    },
    /// A URL of an object that does not lie under this root.
    #[error("{url} does not lie under {root}")]
    Foreign {
        /// The URL of the object.
        url: String,
        /// The root.
        root: String,
    },
    /// There is no such object.
    #[error("there is no object {path} below {root}")]
    Missing {
        /// The object.
        path: String,
        /// The root.
        root: String,
    },
    /// The store failed.
    #[error("object {path} below {root}: {why}")]
    Store {
        /// The object.
        path: String,
        /// The root.
        root: String,
        /// What the store said.
        why: String,
    },
}

impl From<RootError> for io::Error {
    fn from(error: RootError) -> Self {
        let kind = match &error {
            RootError::Missing { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// An object as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The last component of its path.
    pub name: String,
    /// When it was put, by the clock of the store, in milliseconds since the Unix epoch.
    pub put_at: i64,
}

/// The root of a store. Cheap to clone.
#[derive(Clone)]
pub struct ObjectRoot {
    store: Arc<dyn ObjectStore>,
    kind: Kind,
    /// Its URL, ending with a slash.
    url: Arc<str>,
}

#[derive(Clone)]
enum Kind {
    /// With the folder of the store.
    Folder(Arc<FilePath>),
    /// With what every key begins with.
    Bucket(Arc<str>),
}

/// The store knows keys, so only the URL is shown.
impl fmt::Debug for ObjectRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectRoot").field("url", &self.url).finish()
    }
}

impl ObjectRoot {
    /// The root that `url` names: `file:///var/lake`, `file://data/lake` or `data/lake`, the last
    /// two relative to the working folder, or `s3://bucket/prefix`, which needs `access`. The URL is
    /// taken as it stands, without percent-decoding. A folder is created if need be, which blocks on
    /// the disk; a bucket is not spoken to yet, see [`ObjectRoot::probe`].
    ///
    /// # Errors
    /// A URL that names no place, a folder that cannot be created, or a bucket without keys.
    pub fn open(url: &str, access: Option<&S3Access>) -> Result<Self, RootError> {
        let bad = |why: String| RootError::Url { url: url.to_owned(), why };
        match Place::parse(url).map_err(|why| bad(why.to_owned()))? {
            Place::Folder(folder) => Self::folder(&folder).map_err(bad),
            Place::Bucket { bucket, prefix } => {
                let none = || bad("a bucket needs `region` and keys".to_owned());
                let store = s3::store(&bucket, access.ok_or_else(none)?)
                    .map_err(|error| bad(error.to_string()))?;
                let url = format!("s3://{bucket}/{prefix}").into();
                Ok(Self { store: Arc::new(store), kind: Kind::Bucket(prefix.into()), url })
            }
        }
    }

    fn folder(folder: &FilePath) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let shown = folder.to_str().ok_or_else(|| "its path is not UTF-8".to_owned())?;
        let url = format!("file://{}/", shown.trim_end_matches('/'));
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| error.to_string())?;
        // Folders that deletions leave empty go as well.
        let store = Arc::new(store.with_fsync(true).with_automatic_cleanup(true));
        Ok(Self { store, kind: Kind::Folder(folder.into()), url: url.into() })
    }

    /// URL of the root, ending with a slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// URL of the object with this path: the root's followed by the path, which is not encoded
    /// again.
    pub fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Asks a bucket whether it is there and these keys may use it; a folder was created already.
    ///
    /// # Errors
    /// What S3 said, and what to do about it; also where nobody answers.
    pub async fn probe(&self) -> Result<(), RootError> {
        if matches!(self.kind, Kind::Folder(_)) {
            return Ok(());
        }
        let unusable = |why: String| RootError::Unusable { url: self.url.to_string(), why };
        let nothing = self.location(NOTHING).map_err(|error| unusable(error.to_string()))?;
        match self.store.list(Some(&nothing)).next().await {
            Some(Err(error)) => Err(unusable(s3::explain(&error.to_string()))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Puts an object of so many bytes, which `content` holds at least. When this returns it is
    /// durable, whole, and the only one under its path.
    ///
    /// # Errors
    /// What the store said; nothing of the object is visible then, unless it was before.
    pub async fn put(
        &self,
        path: &str,
        bytes: u64,
        mut content: impl Read + Send + 'static,
    ) -> Result<(), RootError> {
        let (root, to) = (self.clone(), path.to_owned());
        self.blocking(path, move |handle| {
            let location = root.location(&to).map_err(io::Error::other)?;
            handle.block_on(put(&*root.store, &location, bytes, &mut content))?;
            if let Kind::Folder(folder) = &root.kind {
                sweep(folder, &to);
            }
            Ok(())
        })
        .await
    }

    /// A reader of the object with this path, from its start.
    ///
    /// # Errors
    /// [`RootError::Missing`], or what the store said.
    pub async fn reader(&self, path: &str) -> Result<ObjectReader, RootError> {
        let location = self.location(path).map_err(|error| self.failed(path, &error))?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(&location, options).await {
            Ok(found) => Ok(ObjectReader::new(self, path, location, found.meta.size)),
            Err(error) => Err(self.answered(path, &error)),
        }
    }

    /// Whether there is an object with this path.
    ///
    /// # Errors
    /// What the store said.
    pub async fn has(&self, path: &str) -> Result<bool, RootError> {
        match self.reader(path).await {
            Ok(_) => Ok(true),
            Err(RootError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Objects below `path` for which `wanted` holds, `most` of them, and whether there are more.
    /// S3 lists them by their names, a folder in any order.
    ///
    /// # Errors
    /// What the store said.
    pub async fn list(
        &self,
        path: &str,
        most: usize,
        wanted: impl Fn(&Listed) -> bool,
    ) -> Result<(Vec<Listed>, bool), RootError> {
        let location = self.location(path).map_err(|error| self.failed(path, &error))?;
        let (mut listed, mut found) = (self.store.list(Some(&location)), Vec::new());
        while let Some(object) = listed.next().await {
            let meta = object.map_err(|error| self.answered(path, &error))?;
            let Some(name) = meta.location.filename() else { continue };
            let put_at = meta.last_modified.timestamp_millis();
            let object = Listed { name: name.to_owned(), put_at };
            if !wanted(&object) {
                continue;
            }
            if found.len() == most {
                return Ok((found, true));
            }
            found.push(object);
        }
        Ok((found, false))
    }

    /// Deletes the object with this URL; says whether there was one. S3 does not say, so there it
    /// counts as deleted.
    ///
    /// # Errors
    /// A URL that does not lie under this root, or what the store said. An object that is not
    /// there is none.
    pub async fn delete(&self, url: &str) -> Result<bool, RootError> {
        let foreign = || RootError::Foreign { url: url.to_owned(), root: self.url.to_string() };
        let path = url.strip_prefix(&*self.url).ok_or_else(foreign)?;
        // A slash too many would be dropped in silence, and lead to another object.
        let is_exact = Path::parse(path).is_ok_and(|parsed| parsed.to_string() == path);
        let location = self.location(path).ok().filter(|_| is_exact && !path.is_empty());
        let (store, location) = (self.store.clone(), location.ok_or_else(foreign)?);
        self.blocking(path, move |handle| match handle.block_on(store.delete(&location)) {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(told(&error)),
        })
        .await
    }

    /// Where the object of this path lies in the store.
    fn location(&self, path: &str) -> Result<Path, object_store::path::Error> {
        match &self.kind {
            Kind::Folder(_) => Path::parse(path),
            Kind::Bucket(prefix) => Path::parse(format!("{prefix}{path}")),
        }
    }

    /// What an answer of the store means.
    fn answered(&self, path: &str, error: &object_store::Error) -> RootError {
        match error {
            object_store::Error::NotFound { .. } => {
                RootError::Missing { path: path.to_owned(), root: self.url.to_string() }
            }
            error => self.failed(path, &s3::brief(&error.to_string())),
        }
    }

    fn failed(&self, path: &str, why: &dyn fmt::Display) -> RootError {
        RootError::Store { path: path.to_owned(), root: self.url.to_string(), why: why.to_string() }
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Handle) -> io::Result<T> + Send + 'static,
    ) -> Result<T, RootError> {
        let handle = Handle::current();
        match tokio::task::spawn_blocking(move || work(&handle)).await {
            Ok(result) => result.map_err(|error| self.failed(path, &error)),
            Err(error) => Err(self.failed(path, &error)),
        }
    }
}

/// Removes temporary files that killed uploads of this very object left behind. Another process
/// that is uploading it now loses its file and tries again.
fn sweep(folder: &FilePath, path: &str) {
    for number in 1..=LEFTOVERS {
        if std::fs::remove_file(folder.join(format!("{path}#{number}"))).is_err() {
            return;
        }
    }
}

async fn put(
    store: &dyn ObjectStore,
    to: &Path,
    bytes: u64,
    content: &mut impl Read,
) -> io::Result<()> {
    if bytes <= PART_BYTES {
        let whole = next_part(content, PART_BYTES)?;
        store.put(to, PutPayload::from(whole)).await.map_err(|error| told(&error))?;
        return Ok(());
    }
    let upload = store.put_multipart(to).await.map_err(|error| told(&error))?;
    send(upload, content, part_bytes(bytes)).await
}

/// Sends all parts, or takes back what was sent.
async fn send(
    mut upload: Box<dyn MultipartUpload>,
    content: &mut impl Read,
    bytes: u64,
) -> io::Result<()> {
    let sent = put_parts(&mut *upload, content, bytes).await;
    if sent.is_err() {
        // Best effort: the first error is the one that tells.
        let _ = upload.abort().await;
    }
    sent
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    content: &mut impl Read,
    bytes: u64,
) -> io::Result<()> {
    loop {
        let part = next_part(content, bytes)?;
        if part.is_empty() {
            break;
        }
        upload.put_part(part.into()).await.map_err(|error| told(&error))?;
    }
    upload.complete().await.map_err(|error| told(&error))?;
    Ok(())
}

/// Size of the parts of an object of `total` bytes.
fn part_bytes(total: u64) -> u64 {
    PART_BYTES.max(total.div_ceil(MOST_PARTS))
}

fn next_part(content: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    content.take(bytes).read_to_end(&mut part)?;
    Ok(part)
}

/// The store's own words.
fn told(error: &object_store::Error) -> io::Error {
    io::Error::other(s3::brief(&error.to_string()))
}

#[cfg(test)]
mod tests;
