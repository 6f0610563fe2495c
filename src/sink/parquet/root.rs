//! Where objects live: the root of a store.
//!
//! Responsible for: opening the root that the sink's URL names, putting whole objects (an object
//! appears whole or not at all), deleting objects by their URL, and sweeping up what a killed
//! upload left behind.
//! Not responsible for: trying again (`upload`), or which objects to delete.
//!
//! `object_store`'s local file system writes to `name#1`, syncs, renames and syncs the folder. It
//! does so, and opens files, partly on the calling thread, and objects are read from the spool, so
//! everything here runs on a blocking thread. S3 makes an object visible with the request that ends
//! its upload. Parts of an upload that was killed stay there unseen, until a rule of the bucket
//! (`AbortIncompleteMultipartUpload`) removes them.

pub mod place;
mod s3;

use std::fmt;
use std::io::{self, Read};
use std::path::Path as FilePath;
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use crate::sink::config::{ParquetSink, S3Access};
use crate::sink::parquet::segments::{Content, ContentReader};

pub use place::Place;

/// Objects up to this size are put at once, larger ones in parts of it.
const PART_BYTES: u64 = 8 << 20;
/// Most parts of an object, as S3 has it.
const MOST_PARTS: u64 = 10_000;
/// Temporary files of one object that are looked for after it was put.
const LEFTOVERS: usize = 8;
/// Below this path nothing ever lies: a list of it is empty, and tells who may use the bucket.
const NOTHING: &str = ".tidemill/probe";

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
    /// The root of a sink. A folder is created if need be, which blocks on the disk; a bucket is
    /// not spoken to yet, see [`ObjectRoot::probe`].
    ///
    /// # Errors
    /// A URL that names no place, a folder that cannot be created, or a bucket without keys.
    pub fn of(sink: &ParquetSink) -> Result<Self, RootError> {
        Self::at(&sink.url, sink.s3.as_deref())
    }

    /// The folder that `url` names: `file:///var/lake`, `file://data/lake` or `data/lake`, the last
    /// two relative to the working folder. It is created if need be. The URL is taken as it
    /// stands, without percent-decoding. Blocks on the disk.
    ///
    /// # Errors
    /// A URL of another kind, or a folder that cannot be created.
    pub fn open(url: &str) -> Result<Self, RootError> {
        Self::at(url, None)
    }

    fn at(url: &str, access: Option<&S3Access>) -> Result<Self, RootError> {
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

    /// Puts an object. When this returns it is durable, whole, and the only one under its path.
    ///
    /// # Errors
    /// What the store said; nothing of the object is visible then, unless it was before.
    pub async fn put(&self, path: &str, content: &Content) -> Result<(), RootError> {
        let (root, to, content) = (self.clone(), path.to_owned(), content.clone());
        self.blocking(path, move |handle| {
            let location = root.location(&to).map_err(io::Error::other)?;
            handle.block_on(put(&*root.store, &location, &content))?;
            if let Kind::Folder(folder) = &root.kind {
                sweep(folder, &to);
            }
            Ok(())
        })
        .await
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

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Handle) -> io::Result<T> + Send + 'static,
    ) -> Result<T, RootError> {
        let handle = Handle::current();
        let done = tokio::task::spawn_blocking(move || work(&handle)).await;
        let failed = |why: String| RootError::Store {
            path: path.to_owned(),
            root: self.url.to_string(),
            why,
        };
        match done {
            Ok(result) => result.map_err(|error| failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
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

async fn put(store: &dyn ObjectStore, to: &Path, content: &Content) -> io::Result<()> {
    let mut reader = content.open();
    if content.bytes() <= PART_BYTES {
        let whole = next_part(&mut reader, PART_BYTES)?;
        store.put(to, PutPayload::from(whole)).await.map_err(|error| told(&error))?;
        return Ok(());
    }
    let upload = store.put_multipart(to).await.map_err(|error| told(&error))?;
    send(upload, &mut reader, part_bytes(content.bytes())).await
}

/// Sends all parts, or takes back what was sent.
async fn send(
    mut upload: Box<dyn MultipartUpload>,
    reader: &mut ContentReader,
    bytes: u64,
) -> io::Result<()> {
    let sent = put_parts(&mut *upload, reader, bytes).await;
    if sent.is_err() {
        // Best effort: the first error is the one that tells.
        let _ = upload.abort().await;
    }
    sent
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    reader: &mut ContentReader,
    bytes: u64,
) -> io::Result<()> {
    loop {
        let part = next_part(reader, bytes)?;
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

fn next_part(reader: &mut ContentReader, bytes: u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    reader.take(bytes).read_to_end(&mut part)?;
    Ok(part)
}

/// The store's own words.
fn told(error: &object_store::Error) -> io::Error {
    io::Error::other(s3::brief(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering};

    use object_store::{PutResult, UploadPart};

    use super::*;
    use crate::sink::parquet::segments::{SegmentWriter, Segments};
    use crate::spool::{DiskBudget, Spool};

    fn content(folder: &FilePath, bytes: &[u8]) -> Content {
        let spool = Spool::new(folder.join("spool"), DiskBudget::new(64 << 20)).unwrap();
        let mut writer = SegmentWriter::new(Segments::new(spool), b"");
        writer.write_all(bytes).unwrap();
        writer.finish().0
    }

    fn names(folder: &FilePath) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn an_object_appears_whole_under_its_name_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = ObjectRoot::open(folder.path().join("lake").to_str().unwrap()).unwrap();
        let large: Vec<u8> = (0..PART_BYTES + 12_345).map(|index| (index % 249) as u8).collect();
        for bytes in [&b"PAR1"[..], &large] {
            root.put("a=%2F/x.parquet", &content(folder.path(), bytes)).await.unwrap();
            let file = folder.path().join("lake/a=%2F/x.parquet");
            assert!(std::fs::read(file).unwrap() == bytes, "the later one replaces it");
            assert_eq!(names(&folder.path().join("lake/a=%2F")), ["x.parquet"]);
        }
    }

    #[tokio::test]
    async fn what_a_killed_upload_left_is_never_an_object_and_goes_with_the_next_put() {
        let folder = tempfile::tempdir().unwrap();
        let root = ObjectRoot::open(folder.path().join("lake").to_str().unwrap()).unwrap();
        let left = folder.path().join("lake/x.parquet#1");
        std::fs::write(&left, b"half").unwrap();
        root.put("x.parquet", &content(folder.path(), b"whole")).await.unwrap();
        assert_eq!(names(&folder.path().join("lake")), ["x.parquet"]);
    }

    #[tokio::test]
    async fn a_store_that_fails_leaves_nothing_visible() {
        let folder = tempfile::tempdir().unwrap();
        let root = ObjectRoot::open(folder.path().join("lake").to_str().unwrap()).unwrap();
        std::fs::write(folder.path().join("lake/a"), b"in the way").unwrap();
        let error = root.put("a/x.parquet", &content(folder.path(), b"x")).await.unwrap_err();
        assert!(error.to_string().contains("a/x.parquet"), "{error}");
        assert_eq!(names(&folder.path().join("lake")), ["a"]);
    }

    #[tokio::test]
    async fn objects_are_deleted_by_their_url_and_only_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = ObjectRoot::open(folder.path().join("lake").to_str().unwrap()).unwrap();
        root.put("a/x.parquet", &content(folder.path(), b"x")).await.unwrap();
        let url = root.url_of("a/x.parquet");
        assert!(url.starts_with("file:///") && url.ends_with("/lake/a/x.parquet"), "{url}");
        assert!(root.delete(&url).await.unwrap());
        assert!(!root.delete(&url).await.unwrap(), "deleting again changes nothing");
        let beside =
            ["../x", "a//b", "/a/x.parquet", "a/x.parquet/", ""].map(|path| root.url_of(path));
        for url in beside.iter().map(String::as_str).chain(["file:///etc/passwd", "s3://a/b"]) {
            assert!(matches!(root.delete(url).await, Err(RootError::Foreign { .. })), "{url}");
        }
    }

    /// Fails at one of its requests.
    #[derive(Debug)]
    struct Breaking {
        requests_left: usize,
        aborted: Arc<AtomicBool>,
    }

    impl Breaking {
        fn request(&mut self) -> object_store::Result<()> {
            let failed = object_store::Error::NotImplemented {
                operation: "this request".to_owned(),
                implementer: "a broken store".to_owned(),
            };
            let left = self.requests_left.checked_sub(1).ok_or(failed)?;
            self.requests_left = left;
            Ok(())
        }
    }

    impl MultipartUpload for Breaking {
        fn put_part(&mut self, _part: PutPayload) -> UploadPart {
            let answer = self.request();
            Box::pin(async move { answer })
        }

        fn complete<'s, 'f>(&'s mut self) -> Answer<'f, PutResult>
        where
            's: 'f,
            Self: 'f,
        {
            let done = PutResult { e_tag: None, version: None, extensions: Default::default() };
            let answer = self.request().map(|()| done);
            Box::pin(async move { answer })
        }

        fn abort<'s, 'f>(&'s mut self) -> Answer<'f, ()>
        where
            's: 'f,
            Self: 'f,
        {
            self.aborted.store(true, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        }
    }

    type Answer<'f, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'f>>;

    #[tokio::test]
    async fn an_upload_that_breaks_off_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let content = content(folder.path(), &[7; 25]);
        // Three parts, and the request that ends them.
        for (requests_left, whole) in [(0, false), (1, false), (3, false), (4, true)] {
            let aborted = Arc::new(AtomicBool::new(false));
            let upload = Box::new(Breaking { requests_left, aborted: aborted.clone() });
            let sent = send(upload, &mut content.open(), 10).await;
            assert_eq!((sent.is_ok(), aborted.load(Ordering::Relaxed)), (whole, !whole));
        }
    }

    #[test]
    fn parts_grow_with_the_object_so_that_they_never_are_too_many() {
        assert_eq!(part_bytes(PART_BYTES + 1), PART_BYTES);
        assert_eq!(part_bytes(PART_BYTES * MOST_PARTS), PART_BYTES);
        let huge: u64 = 5_000 << 30;
        assert!(huge.div_ceil(part_bytes(huge)) <= MOST_PARTS);
    }

    #[test]
    fn a_bucket_without_keys_is_refused_in_words() {
        let error = ObjectRoot::open("s3://lake/cost").unwrap_err().to_string();
        assert!(error.contains("a bucket needs `region` and keys"), "{error}");
    }
}
