//! Objects in a bucket, on an S3 server within this process: the same lake as on a disk, through an
//! outage, and words for whoever is not let in.

use std::io::Cursor;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connection;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use secrecy::SecretString;
use tidemill::spool::objects::{ObjectRoot, RootError, S3Access};
use tokio::runtime::{Builder, Runtime};

use crate::cost::{Job, copied, files, payloads, project, sample, shuffled};
use crate::harness::Tidemill;

const KEY_ID: &str = "AKIATIDEMILLTEST";
const KEY: &str = "correct-horse-battery-staple";
const BUCKET: &str = "lake";

/// An S3 server whose buckets are the folders of one folder.
struct Server {
    root: PathBuf,
    address: SocketAddr,
    /// Gone while the server is away.
    runtime: Option<Runtime>,
}

impl Server {
    fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root.join(BUCKET)).expect("the bucket");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let runtime = Some(serve(root, listener));
        Self { root: root.to_owned(), address, runtime }
    }

    /// Ends the server, and with it every connection.
    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the same port again");
        self.runtime = Some(serve(&self.root, listener));
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The root at `url`, for somebody with this key.
    fn root(&self, url: &str, key: &str) -> ObjectRoot {
        let access = S3Access {
            region: "us-east-1".to_owned(),
            endpoint: Some(self.endpoint()),
            allow_http: true,
            access_key_id: SecretString::from(KEY_ID),
            secret_access_key: SecretString::from(key),
            session_token: None,
        };
        ObjectRoot::open(url, Some(&access)).expect("a root")
    }
}

fn serve(root: &Path, listener: TcpListener) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut service = S3ServiceBuilder::new(FileSystem::new(root).expect("a folder of buckets"));
    service.set_auth(SimpleAuth::from_single(KEY_ID, KEY));
    let service = service.build();
    listener.set_nonblocking(true).expect("a listener that does not block");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let connection = Connection::new(TokioExecutor::new());
                // How a connection ends is told by the side that is tested.
                let _ = connection.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    runtime
}

/// The cost-management topology with its lake in a bucket.
fn topology(job: &Job, server: &Server, url: &str) -> String {
    let shipped = project().join("topologies/cost-management.toml");
    let text = std::fs::read_to_string(shipped).expect("the shipped topology");
    let vars = "[vars]\nkey_id = { env = \"LAKE_KEY_ID\", type = \"secret\" }\n\
                key = { env = \"LAKE_KEY\", type = \"secret\" }\n";
    let sink = format!(
        "url = \"{url}\"\nendpoint = \"{}\"\nallow_http = true\naccess_key_id = \"${{key_id}}\"\n\
         secret_access_key = \"${{key}}\"\n",
        server.endpoint()
    );
    // The test server makes file names of keys, so they have to be shorter than S3 lets them be.
    // A member's id holds its manifest's here.
    let (long, short) = ("{%manifest}-{%member}", "{%member}");
    let text = text.replacen("[vars]\n", vars, 1).replacen("url = \"${lake}\"\n", &sink, 1);
    let text = text.replacen(long, short, 1);
    let replaced = text.contains(vars) && text.contains(&sink) && !text.contains(long);
    assert!(replaced, "the topology is another one by now");
    std::fs::write(job.folder.path().join("s3.toml"), text).expect("the topology");
    "s3.toml".to_owned()
}

fn keys(key: &str) -> [(String, String); 2] {
    [("LAKE_KEY_ID", KEY_ID), ("LAKE_KEY", key)]
        .map(|(name, key)| (name.to_owned(), key.to_owned()))
}

#[test]
fn a_lake_in_a_bucket_is_the_lake_on_a_disk_and_an_outage_is_outlasted() {
    let job = Job::new(None);
    let mut server = Server::start(&job.folder.path().join("data"));
    let topology = topology(&job, &server, "s3://lake/c");
    let running = job.start_on(&topology, &keys(KEY));
    server.stop();
    for payload in shuffled(payloads(&sample("split")), 7) {
        running.upload(&payload);
    }
    running.process.wait_for_log("object store away");
    let lake = job.folder.path().join("data").join(BUCKET);
    assert_eq!(files(&lake, "parquet").len(), 0, "nothing is there, and nothing is settled");
    let complete = "SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'";
    assert_eq!(job.count(complete), Some(0));

    server.start_again();
    job.wait_until_complete(1);
    running.process.wait_for_log("object store is back");
    assert!(!running.process.log().contains(KEY), "a secret in the log");
    running.stop();
    job.check(copied(&["split"]).path());
    let named = "SELECT count(DISTINCT url) FROM tidemill_object \
                 WHERE url LIKE 's3://lake/c/OCP/%'";
    assert_eq!(job.count(named), Some(files(&lake, "parquet").len() as i64));
    let dead = "SELECT count(*) FROM tidemill_member WHERE state = 'dead_lettered'";
    assert_eq!(job.count(dead), Some(0), "an outage is nobody's fault");
    server.stop();
}

#[test]
fn whoever_is_not_let_in_is_told_why_and_what_to_do() {
    let job = Job::new(None);
    let mut server = Server::start(&job.folder.path().join("data"));
    let start = |server: &Server, url: &str, key: &str| {
        let topology = topology(&job, server, url);
        let arguments = ["--config", "tidemill.toml", "run", topology.as_str()];
        let process = Tidemill::start_with(&arguments, job.folder.path(), &keys(key));
        let (status, log) = process.wait();
        assert_eq!(status.code(), Some(3), "{log}");
        assert!(!log.contains(KEY) && !log.contains("another-key"), "a secret in:\n{log}");
        log
    };
    let told = |log: &str, words: &[&str]| {
        for words in words {
            assert!(log.contains(words), "no {words:?} in:\n{log}");
        }
    };
    let log = start(&server, "s3://lake/cost", "another-key");
    told(
        &log,
        &["sink lake: objects cannot be put below s3://lake/cost/", "SignatureDoesNotMatch"],
    );
    told(&log, &["check `access_key_id`, `secret_access_key`"]);
    let log = start(&server, "s3://ocean", KEY);
    told(&log, &["below s3://ocean/", "NoSuchBucket", "create the bucket"]);
    server.stop();
    let log = start(&server, "s3://lake", KEY);
    told(&log, &["below s3://lake/", "check `endpoint`"]);
}

/// Puts an object of so many bytes.
async fn put(root: &ObjectRoot, path: &str, bytes: usize) -> Result<(), RootError> {
    root.put(path, bytes as u64, Cursor::new(content(bytes))).await
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 253) as u8).collect()
}

/// Reads an object back.
async fn read(root: &ObjectRoot, path: &str) -> Result<Vec<u8>, RootError> {
    let (mut reader, mut whole) = (root.reader(path).await?, Vec::new());
    while let Some(piece) = reader.next().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

#[test]
fn large_objects_go_up_in_parts_are_read_back_and_deleted_by_their_url() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path());
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let root = server.root("s3://lake/cost", KEY);
        root.probe().await.expect("a bucket that can be used");
        let path = "month=03/a%2Fb=c/x y.parquet";
        let file = folder.path().join(BUCKET).join("cost").join(path);
        for bytes in [0, 12, 20 << 20, 9 << 20] {
            put(&root, path, bytes).await.expect("an object");
            let stored = std::fs::read(&file).expect("the object");
            assert!(stored == content(bytes), "an object of {bytes} bytes, {}", stored.len());
            assert!(read(&root, path).await.expect("the object") == stored, "{bytes} bytes");
        }
        let missing = read(&root, "nothing").await;
        assert!(matches!(missing, Err(RootError::Missing { .. })), "{missing:?}");
        for name in ["b", "a", "c"] {
            put(&root, &format!("list/{name}"), 1).await.expect("an object");
        }
        let (listed, more) = root.list("list", 2, |_| true).await.expect("a list");
        let names: Vec<&str> = listed.iter().map(|object| object.name.as_str()).collect();
        assert_eq!((names, more), (vec!["a", "b"], true));
        assert!(listed.iter().all(|object| object.put_at > 1_577_836_800_000), "{listed:?}");
        let parts = std::fs::read_dir(folder.path()).expect("the server's folder");
        let left = parts.filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().starts_with(".upload_id")
        });
        assert_eq!(left.count(), 0, "no part is left behind");

        let url = root.url_of(path);
        assert_eq!(url, format!("s3://lake/cost/{path}"));
        root.delete(&url).await.expect("it is deleted");
        assert!(!file.exists());
        root.delete(&url).await.expect("and deleting it again is fine");
        let foreign = root.delete("s3://lake/other/x.parquet").await;
        assert!(matches!(foreign, Err(RootError::Foreign { .. })), "{foreign:?}");
    });
    server.stop();
}

#[test]
fn a_key_that_is_withdrawn_while_objects_are_put_is_an_error_of_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(async {
        let root = server.root("s3://lake", "withdrawn");
        put(&root, "x.parquet", 12).await.expect_err("it is refused")
    });
    assert!(matches!(error, RootError::Store { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("object x.parquet below s3://lake/: SignatureDoesNotMatch"), "{text}");
    assert!(!text.contains("withdrawn"), "{text}");
    server.stop();
}
