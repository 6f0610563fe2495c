//! Responsible for: what is visible of an object when, in a folder; reading it back; parts.
//! Not responsible for: buckets, which are tried on a server (`tests/it/s3.rs`).

use std::io::Cursor;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::{PutResult, UploadPart};

use super::*;

async fn put(root: &ObjectRoot, path: &str, bytes: &[u8]) -> Result<(), RootError> {
    root.put(path, bytes.len() as u64, Cursor::new(bytes.to_vec())).await
}

fn lake(folder: &tempfile::TempDir) -> ObjectRoot {
    ObjectRoot::open(folder.path().join("lake").to_str().unwrap(), None).unwrap()
}

async fn read(root: &ObjectRoot, path: &str) -> Result<Vec<u8>, RootError> {
    let (mut reader, mut whole) = (root.reader(path).await?, Vec::new());
    while let Some(piece) = reader.next().await? {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(reader.bytes(), whole.len() as u64);
    Ok(whole)
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
    let root = lake(&folder);
    let large: Vec<u8> = (0..PART_BYTES + 12_345).map(|index| (index % 249) as u8).collect();
    for bytes in [&b"PAR1"[..], &large] {
        put(&root, "a=%2F/x.parquet", bytes).await.unwrap();
        let file = folder.path().join("lake/a=%2F/x.parquet");
        assert!(std::fs::read(file).unwrap() == bytes, "the later one replaces it");
        assert_eq!(names(&folder.path().join("lake/a=%2F")), ["x.parquet"]);
    }
}

#[tokio::test]
async fn what_a_killed_upload_left_is_never_an_object_and_goes_with_the_next_put() {
    let folder = tempfile::tempdir().unwrap();
    let root = lake(&folder);
    let left = folder.path().join("lake/x.parquet#1");
    std::fs::write(&left, b"half").unwrap();
    put(&root, "x.parquet", b"whole").await.unwrap();
    assert_eq!(names(&folder.path().join("lake")), ["x.parquet"]);
}

#[tokio::test]
async fn a_store_that_fails_leaves_nothing_visible() {
    let folder = tempfile::tempdir().unwrap();
    let root = lake(&folder);
    std::fs::write(folder.path().join("lake/a"), b"in the way").unwrap();
    let error = put(&root, "a/x.parquet", b"x").await.unwrap_err();
    assert!(error.to_string().contains("a/x.parquet"), "{error}");
    assert_eq!(names(&folder.path().join("lake")), ["a"]);
}

#[tokio::test]
async fn objects_are_deleted_by_their_url_and_only_below_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = lake(&folder);
    put(&root, "a/x.parquet", b"x").await.unwrap();
    let url = root.url_of("a/x.parquet");
    assert!(url.starts_with("file:///") && url.ends_with("/lake/a/x.parquet"), "{url}");
    assert!(root.delete(&url).await.unwrap());
    assert!(!root.delete(&url).await.unwrap(), "deleting again changes nothing");
    let beside = ["../x", "a//b", "/a/x.parquet", "a/x.parquet/", ""].map(|path| root.url_of(path));
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
    // Three parts, and the request that ends them.
    for (requests_left, whole) in [(0, false), (1, false), (3, false), (4, true)] {
        let aborted = Arc::new(AtomicBool::new(false));
        let upload = Box::new(Breaking { requests_left, aborted: aborted.clone() });
        let sent = send(upload, &mut Cursor::new([7_u8; 25]), 10).await;
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
    let error = ObjectRoot::open("s3://lake/cost", None).unwrap_err().to_string();
    assert!(error.contains("a bucket needs `region` and keys"), "{error}");
}

#[tokio::test]
async fn objects_are_read_back_in_pieces_and_a_missing_one_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = lake(&folder);
    let large: Vec<u8> = (0..2 * PART_BYTES + 7).map(|index| (index % 251) as u8).collect();
    for bytes in [&b""[..], b"PAR1", &large] {
        put(&root, "a/x", bytes).await.unwrap();
        assert!(read(&root, "a/x").await.unwrap() == bytes, "{} bytes", bytes.len());
    }
    let missing = read(&root, "a/y").await.unwrap_err();
    assert!(matches!(missing, RootError::Missing { .. }), "{missing:?}");
    assert_eq!(io::Error::from(missing).kind(), io::ErrorKind::NotFound);
    assert!(root.has("a/x").await.unwrap() && !root.has("a/y").await.unwrap());
}

#[tokio::test]
async fn an_object_that_is_cut_short_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let root = lake(&folder);
    put(&root, "x", b"whole").await.unwrap();
    let mut reader = root.reader("x").await.unwrap();
    std::fs::write(folder.path().join("lake/x"), b"wh").unwrap();
    let ended = loop {
        match reader.next().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert!(matches!(ended, Err(RootError::Store { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_list_shows_what_is_wanted_of_one_folder_and_whether_there_is_more() {
    let folder = tempfile::tempdir().unwrap();
    let root = lake(&folder);
    for path in ["in/a", "in/b", "in/c", "beside/d"] {
        put(&root, path, b"x").await.unwrap();
    }
    std::fs::write(folder.path().join("lake/in/e#1"), b"half").unwrap();
    let names = async |most, wanted: fn(&Listed) -> bool| {
        let (found, more) = root.list("in", most, wanted).await.unwrap();
        let mut names: Vec<String> = found.into_iter().map(|listed| listed.name).collect();
        names.sort();
        (names.concat(), more)
    };
    assert_eq!(names(9, |_| true).await, ("abc".to_owned(), false));
    assert_eq!(names(9, |listed| listed.name.as_str() > "a").await, ("bc".to_owned(), false));
    assert!(names(2, |_| true).await.1 && !names(3, |_| true).await.1);
    assert_eq!(names(9, |listed| listed.put_at > i64::MAX / 2).await, (String::new(), false));
    assert_eq!(root.list("nowhere", 9, |_| true).await.unwrap(), (Vec::new(), false));
}
