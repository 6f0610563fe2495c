//! Where objects live: the root of a store.
//!
//! Responsible for: reading the sink's URL, putting whole objects (an object appears whole or not
//! at all), deleting objects by their URL, and sweeping up what a killed upload left behind.
//! Not responsible for: trying again (`upload`), or which objects to delete.
//!
//! `object_store`'s local file system writes to `name#1`, syncs, renames and syncs the folder. It
//! does so, and opens files, partly on the calling thread, so everything here runs on a blocking
//! thread.

use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use crate::sink::parquet::segments::Content;

/// Objects up to this size are put at once, larger ones in parts of it.
const PART_BYTES: usize = 8 << 20;
/// Temporary files of one object that are looked for after it was put.
const LEFTOVERS: usize = 8;

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
#[derive(Clone, Debug)]
pub struct ObjectRoot {
    store: Arc<dyn ObjectStore>,
    /// Folder of a local store.
    folder: Arc<FilePath>,
    /// Its URL, ending with a slash.
    url: Arc<str>,
}

impl ObjectRoot {
    /// The root that `url` names: `file:///var/lake`, `file://data/lake` or `data/lake`, the last
    /// two relative to the working folder. It is created if need be. The URL is taken as it
    /// stands, without percent-decoding. Blocks on the disk.
    ///
    /// # Errors
    /// A URL of another kind, or a folder that cannot be created.
    pub fn open(url: &str) -> Result<Self, RootError> {
        let bad = |why: String| RootError::Url { url: url.to_owned(), why };
        let folder = folder_of(url).map_err(|why| bad(why.to_owned()))?;
        std::fs::create_dir_all(&folder).map_err(|error| bad(error.to_string()))?;
        let folder = folder.canonicalize().map_err(|error| bad(error.to_string()))?;
        let shown = folder.to_str().ok_or_else(|| bad("its path is not UTF-8".to_owned()))?;
        let url = format!("file://{}/", shown.trim_end_matches('/'));
        let store =
            LocalFileSystem::new_with_prefix(&folder).map_err(|error| bad(error.to_string()))?;
        let store = Arc::new(store.with_fsync(true));
        Ok(Self { store, folder: folder.into(), url: url.into() })
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

    /// Puts an object. When this returns it is durable, whole, and the only one under its path.
    ///
    /// # Errors
    /// What the store said; nothing of the object is visible then, unless it was before.
    pub async fn put(&self, path: &str, content: &Content) -> Result<(), RootError> {
        let (root, to, content) = (self.clone(), path.to_owned(), content.clone());
        self.blocking(path, move |handle| {
            let location = Path::parse(&to).map_err(io::Error::other)?;
            handle.block_on(put(&*root.store, &location, &content))?;
            root.sweep(&to);
            Ok(())
        })
        .await
    }

    /// Deletes the object with this URL; says whether there was one.
    ///
    /// # Errors
    /// A URL that does not lie under this root, or what the store said.
    pub async fn delete(&self, url: &str) -> Result<bool, RootError> {
        let foreign = || RootError::Foreign { url: url.to_owned(), root: self.url.to_string() };
        let path = url.strip_prefix(&*self.url).ok_or_else(foreign)?;
        let (store, location) = (self.store.clone(), Path::parse(path).map_err(|_| foreign())?);
        self.blocking(path, move |handle| match handle.block_on(store.delete(&location)) {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        })
        .await
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

    /// Removes temporary files that killed uploads of this very object left behind. Another
    /// process that is uploading it now loses its file and tries again.
    fn sweep(&self, path: &str) {
        for number in 1..=LEFTOVERS {
            if std::fs::remove_file(self.folder.join(format!("{path}#{number}"))).is_err() {
                return;
            }
        }
    }
}

/// The folder that a URL names.
fn folder_of(url: &str) -> Result<PathBuf, &'static str> {
    let folder = match url.split_once("://") {
        Some(("file", rest)) => match rest.strip_prefix("localhost/") {
            Some(absolute) => format!("/{absolute}"),
            None => rest.to_owned(),
        },
        Some(_) => return Err("only file:// is supported"),
        None => url.to_owned(),
    };
    if folder.is_empty() { Err("it names no folder") } else { Ok(folder.into()) }
}

async fn put(store: &dyn ObjectStore, to: &Path, content: &Content) -> io::Result<()> {
    let mut reader = content.open();
    if content.bytes() <= PART_BYTES as u64 {
        let whole = next_part(&mut reader)?;
        store.put(to, PutPayload::from(whole)).await.map_err(io::Error::other)?;
        return Ok(());
    }
    let mut upload = store.put_multipart(to).await.map_err(io::Error::other)?;
    loop {
        let sent = match next_part(&mut reader) {
            Ok(part) if part.is_empty() => break,
            Ok(part) => upload.put_part(part.into()).await.map_err(io::Error::other),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            // Best effort: the first error is the one that tells.
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    upload.complete().await.map_err(io::Error::other)?;
    Ok(())
}

fn next_part(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    reader.take(PART_BYTES as u64).read_to_end(&mut part)?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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

    #[test]
    fn urls_name_folders() {
        let table = [
            ("file:///var/lake", Ok("/var/lake")),
            ("file://localhost/var/lake", Ok("/var/lake")),
            ("file://data/lake", Ok("data/lake")),
            ("data/lake", Ok("data/lake")),
            ("s3://bucket/lake", Err("only file:// is supported")),
            ("file://", Err("it names no folder")),
        ];
        for (url, folder) in table {
            assert_eq!(folder_of(url), folder.map(PathBuf::from), "{url}");
        }
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
        for url in ["file:///etc/passwd", &root.url_of("../x"), &root.url_of("a//b")] {
            assert!(matches!(root.delete(url).await, Err(RootError::Foreign { .. })), "{url}");
        }
    }
}
