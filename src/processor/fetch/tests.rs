//! Responsible for: proving that bodies end in the spool under its budget, that own payloads are
//! read in place, and which failure is whose fault.
//! Not responsible for: URLs (`net::policy`) and HTTP (`net::client`).

use std::io::{Read, Write};

use super::*;
use crate::model::{
    Epoch, Fields, LogRecord, Metadata, NodeName, Offset, SourceBatch, SourceRef, TopicPartition,
};
use crate::net::stub::{Answer, Stub};
use crate::spool::DiskBudget;

const KIB: u64 = 1024;
const CAP: u64 = 64 * KIB;

struct Setup {
    _folder: tempfile::TempDir,
    spool: Spool,
}

fn setup(budget: u64) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path(), DiskBudget::new(budget)).unwrap();
    Setup { _folder: folder, spool }
}

fn settings(stub: &Stub) -> FetchSettings {
    let origin = stub.origin();
    FetchSettings {
        allow: vec![
            Allow::Ingress(NodeName::from("uploads")),
            Allow::Origin {
                scheme: origin.scheme,
                host: origin.host,
                port: origin.port,
                private: origin.private,
            },
        ],
        max_bytes: CAP,
        timeout: Duration::from_secs(20),
    }
}

fn fetcher(setup: &Setup, stub: &Stub) -> Fetcher {
    Fetcher::new(settings(stub), setup.spool.clone(), None).unwrap()
}

fn bytes(blob: &Blob) -> Vec<u8> {
    let mut bytes = Vec::new();
    blob.open().read_to_end(&mut bytes).unwrap();
    bytes
}

fn record() -> Record {
    let record = LogRecord {
        offset: Offset(0),
        timestamp: None,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let batch = SourceBatch {
        origin: TopicPartition::new("uploads", 0),
        epoch: Epoch(1),
        records: vec![record],
    };
    Record::from_source(
        SourceRef::new(Arc::new(batch), 0),
        Arc::new(Metadata::default()),
        Fields::Raw(Bytes::from_static(b"{}")),
    )
}

/// Payloads of `len` bytes: those below `shared/` in a store, the others in files.
struct Own {
    len: usize,
}

impl LocalPayloads for Own {
    fn find<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Option<Result<LocalPayload, Failure>>> {
        let found = url.strip_prefix("http://own/").map(|path| match path {
            "gone?sig=canary" => {
                let class = FailureClass::NOT_FOUND;
                Err(Failure::Retriable { class, why: "gone".to_owned(), after: None })
            }
            path if path.starts_with("shared/") => {
                Ok(LocalPayload::Remote(Box::new(Stored { len: self.len, sent: 0 })))
            }
            _ => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&vec![b'p'; self.len]).unwrap();
                Ok(LocalPayload::File(file))
            }
        });
        Box::pin(async move { found })
    }
}

/// A payload in a store that breaks off after 64 KiB.
struct Stored {
    len: usize,
    sent: usize,
}

impl Pieces for Stored {
    fn length(&self) -> Option<u64> {
        Some(self.len as u64)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        let piece = vec![b's'; (self.len - self.sent).min(10_000)];
        self.sent += piece.len();
        let next = if self.sent > CAP as usize {
            Err(Failure::unavailable("the store is away"))
        } else {
            Ok((!piece.is_empty()).then(|| Bytes::from(piece)))
        };
        Box::pin(async move { next })
    }
}

#[tokio::test]
async fn the_record_goes_on_with_a_body_that_keeps_only_what_it_uses() {
    let body: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
    let served = body.clone();
    let stub = Stub::serve(move |_| Answer::body(&served)).await;
    let setup = setup(CAP);
    let url = stub.url("/a.tar.gz");
    let node = FetchNode::new(Box::new(move |_| Ok(url.clone())), fetcher(&setup, &stub));
    let done = node.call(record()).await.unwrap();
    let Body::Blob(blob) = &done.body else { panic!("{:?}", done.body) };
    assert!(bytes(blob) == body);
    assert_eq!(setup.spool.budget().free(), CAP - 40 * KIB, "40000 bytes are 40 units");
    drop(done);
    assert_eq!(setup.spool.budget().free(), CAP);
}

#[tokio::test]
async fn a_second_fetch_of_a_record_does_not_wait_for_the_room_of_its_first() {
    let stub = Stub::serve(|_| Answer::body(b"12345")).await;
    let setup = setup(CAP);
    let url = stub.url("/a");
    let node = FetchNode::new(Box::new(move |_| Ok(url.clone())), fetcher(&setup, &stub));
    let once = node.call(record()).await.unwrap();
    // The whole budget is reserved again: this ends only if the first body was let go.
    let twice = node.call(once).await.unwrap();
    assert!(matches!(twice.body, Body::Blob(_)));
}

#[tokio::test]
async fn failures_are_sorted_by_whose_fault_they_are_and_give_their_room_back() {
    let stub = Stub::serve(|head| match head.split(' ').nth(1) {
        Some("/missing") => Answer::status(404, "content-length: 0\r\n", b""),
        Some("/denied") => Answer::status(403, "content-length: 0\r\n", b""),
        Some("/ill") => Answer::status(503, "content-length: 0\r\n", b""),
        Some("/huge") => Answer::status(200, "content-length: 70000\r\n", b"x"),
        Some("/endless") => Answer::status(200, "", &[b'x'; 70_000]),
        _ => Answer::status(200, "content-length: 10\r\n", b"12345"),
    })
    .await;
    let setup = setup(CAP);
    let fetcher = fetcher(&setup, &stub);
    let table = [
        ("/missing", Some(FailureClass::NOT_FOUND)),
        ("/denied", Some(FailureClass::REJECTED)),
        ("/huge", Some(FailureClass::TOO_LARGE)),
        ("/endless", Some(FailureClass::TOO_LARGE)),
        ("/ill", None),
        ("/cut", None),
    ];
    for (path, class) in table {
        let failure = fetcher.fetch(&stub.url(path)).await.unwrap_err();
        assert_eq!(failure.class(), class.as_ref(), "{path}: {failure}");
        // The writer thread may still hold the permit; this waits until it is gone.
        drop(setup.spool.budget().reserve(CAP).await);
    }
    let missing = fetcher.fetch(&stub.url("/missing")).await.unwrap_err();
    assert!(matches!(missing, Failure::Retriable { .. }), "{missing:?}");
    let forbidden = fetcher.fetch("https://evil.org/a?sig=canary").await.unwrap_err();
    assert_eq!(forbidden.class(), Some(&FailureClass::FORBIDDEN));
    assert!(!forbidden.why().contains("canary"), "{forbidden}");
}

#[tokio::test]
async fn own_payloads_are_read_in_place_without_room_or_request() {
    let stub = Stub::serve(|_| Answer::body(b"over http")).await;
    let setup = setup(CAP);
    let own = Arc::new(Own { len: 5 });
    let fetcher = Fetcher::new(settings(&stub), setup.spool.clone(), Some(own)).unwrap();
    let blob = fetcher.fetch("http://own/1").await.unwrap();
    assert_eq!(bytes(&blob), b"ppppp");
    assert_eq!(setup.spool.budget().free(), CAP);
    assert_eq!(stub.requests(), 0);
    let gone = fetcher.fetch("http://own/gone?sig=canary").await.unwrap_err();
    assert_eq!(gone.class(), Some(&FailureClass::NOT_FOUND));
    assert_eq!(bytes(&fetcher.fetch(&stub.url("/a")).await.unwrap()), b"over http");
}

#[tokio::test]
async fn payloads_of_a_shared_store_are_copied_and_take_the_room_of_their_length() {
    let stub = Stub::serve(|_| Answer::body(b"")).await;
    let setup = setup(CAP);
    let fetch = async |len: usize| {
        let own = Arc::new(Own { len });
        let fetcher = Fetcher::new(settings(&stub), setup.spool.clone(), Some(own)).unwrap();
        fetcher.fetch("http://own/shared/1?sig=canary").await
    };
    let blob = fetch(40_000).await.unwrap();
    assert!(bytes(&blob) == vec![b's'; 40_000]);
    assert_eq!(setup.spool.budget().free(), CAP - 40 * KIB);
    // Beside it there is no room for a body as large as bodies may be, and none is asked for.
    let small = fetch(1_000).await.unwrap();
    assert_eq!(small.len(), 1_000);
    drop((blob, small));
    assert!(fetch(0).await.unwrap().is_empty());
    let large = fetch(CAP as usize + 1).await.unwrap_err();
    assert_eq!(large.why(), "http://own/shared/1 is larger than 65536 bytes");
    assert_eq!((stub.requests(), setup.spool.budget().free()), (0, CAP));
}

#[tokio::test]
async fn a_shared_store_that_breaks_off_is_away_and_gives_the_room_back() {
    let stub = Stub::serve(|_| Answer::body(b"")).await;
    let setup = setup(CAP * 4);
    let mut settings = settings(&stub);
    settings.max_bytes = CAP * 2;
    let own = Arc::new(Own { len: CAP as usize * 2 });
    let fetcher = Fetcher::new(settings, setup.spool.clone(), Some(own)).unwrap();
    let failure = fetcher.fetch("http://own/shared/1").await.unwrap_err();
    assert_eq!(failure, Failure::unavailable("the store is away"));
    // The writer thread may still hold the permit; this waits until it is gone.
    drop(setup.spool.budget().reserve(CAP * 4).await);
}

/// Claims every URL, and has nothing.
struct HasNothing;

impl LocalPayloads for HasNothing {
    fn find<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, Option<Result<LocalPayload, Failure>>> {
        let class = FailureClass::NOT_FOUND;
        let nothing = Failure::Retriable { class, why: "not here".to_owned(), after: None };
        Box::pin(async move { Some(Err(nothing)) })
    }
}

#[tokio::test]
async fn payloads_that_another_replica_took_are_asked_for_where_that_is_allowed() {
    let stub = Stub::serve(|_| Answer::body(b"over http")).await;
    let setup = setup(CAP);
    let own = Some(Arc::new(HasNothing) as Arc<dyn LocalPayloads>);
    let fetcher = Fetcher::new(settings(&stub), setup.spool.clone(), own).unwrap();
    assert_eq!(bytes(&fetcher.fetch(&stub.url("/a")).await.unwrap()), b"over http");
    let elsewhere = fetcher.fetch("http://127.0.0.1:1/a").await.unwrap_err();
    assert_eq!(elsewhere.class(), Some(&FailureClass::NOT_FOUND), "nobody allowed that origin");
}

#[tokio::test]
async fn own_payloads_are_capped_too_and_the_text_keeps_the_secret() {
    let stub = Stub::serve(|_| Answer::body(b"")).await;
    let setup = setup(CAP);
    let own = Arc::new(Own { len: CAP as usize + 1 });
    let fetcher = Fetcher::new(settings(&stub), setup.spool.clone(), Some(own)).unwrap();
    let failure = fetcher.fetch("http://own/1?sig=canary").await.unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::TOO_LARGE));
    assert_eq!(failure.why(), "http://own/1 is larger than 65536 bytes");
}

#[tokio::test]
async fn own_payloads_need_the_ingress_on_the_allow_list() {
    let stub = Stub::serve(|_| Answer::body(b"")).await;
    let setup = setup(CAP);
    let mut settings = settings(&stub);
    settings.allow.remove(0);
    let own = Arc::new(Own { len: 5 });
    let fetcher = Fetcher::new(settings, setup.spool.clone(), Some(own)).unwrap();
    let failure = fetcher.fetch("http://own/1").await.unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::FORBIDDEN));
}

#[tokio::test]
async fn a_record_without_a_url_fails_before_anything_is_asked() {
    let stub = Stub::serve(|_| Answer::body(b"")).await;
    let setup = setup(CAP);
    let refused = Failure::poison(FailureClass::PROGRAM, "no url");
    let theirs = refused.clone();
    let node = FetchNode::new(Box::new(move |_| Err(theirs.clone())), fetcher(&setup, &stub));
    assert_eq!(node.call(record()).await.unwrap_err(), refused);
    assert_eq!(stub.requests(), 0);
}
