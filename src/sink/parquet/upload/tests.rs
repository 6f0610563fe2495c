//! Responsible for: settling on durable objects only, and outlasting an outage.
//! Not responsible for: the store (`spool::objects`).

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::progress::obligation::{Obligation, OnClose, Scope};
use crate::runtime::clock::ManualClock;
use crate::sink::parquet::segments::{Content, SegmentWriter, Segments};
use crate::spool::{DiskBudget, Spool};

/// Keeps what a member's scope closed with.
struct Closing(Arc<Mutex<Option<(Outcome, MemberFacts)>>>);

impl OnClose for Closing {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, facts: MemberFacts) {
        *self.0.lock().unwrap() = Some((outcome, facts));
        parent.settle(outcome);
    }
}

fn content(folder: &Path, bytes: &[u8]) -> Content {
    let spool = Spool::new(folder.join("spool"), DiskBudget::new(8 << 20)).unwrap();
    let mut writer = SegmentWriter::new(Segments::new(spool), b"");
    writer.write_all(bytes).unwrap();
    writer.finish().0
}

fn object(folder: &Path, path: &str, rows: u64) -> FinishedObject {
    FinishedObject {
        path: path.to_owned(),
        content: content(folder, b"PAR1"),
        rows,
        schema: Some("pods".into()),
        columns: serde_json::Map::from_iter([("month".to_owned(), "03".into())]),
    }
}

fn context(folder: &Path) -> (UploadContext, Arc<Instruments>) {
    let root = ObjectRoot::open(folder.join("lake").to_str().unwrap(), None).unwrap();
    let instruments = Arc::new(Instruments::default());
    let clock = Arc::new(ManualClock::default());
    let context = UploadContext::new("lake".into(), root, clock, instruments.clone());
    let policy = RetryPolicy {
        first: Duration::from_millis(1),
        max: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    (context.with_policy(policy), instruments)
}

#[tokio::test]
async fn a_package_is_settled_with_the_facts_of_its_objects_once_they_are_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (context, instruments) = context(folder.path());
    let (scope, mut duties) = Scope::open(1);
    let closed = Arc::new(Mutex::new(None));
    let duty = duties.pop().unwrap().nest(Box::new(Closing(closed.clone())), true);
    let objects =
        vec![object(folder.path(), "a/x.parquet", 3), object(folder.path(), "a/y.parquet", 4)];
    context.deliver(ObjectPackage { objects, duty }).await;

    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
    let (outcome, facts) = closed.lock().unwrap().take().unwrap();
    assert_eq!((outcome, facts.rows), (Outcome::Delivered, 7));
    let fact = &facts.objects[1];
    assert!(fact.url.ends_with("/lake/a/y.parquet"), "{}", fact.url);
    assert_eq!((fact.rows, fact.bytes, fact.schema.as_deref()), (4, 4, Some("pods")));
    assert_eq!(fact.sink.as_str(), "lake");
    assert_eq!(fact.partition_values["month"], "03");
    assert_eq!(std::fs::read(folder.path().join("lake/a/y.parquet")).unwrap(), b"PAR1");
    assert_eq!(instruments.objects.get(), 2);
}

#[tokio::test]
async fn an_outage_is_outlasted_and_shown_for_as_long_as_it_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let (context, instruments) = context(folder.path());
    let in_the_way = folder.path().join("lake/a");
    std::fs::write(&in_the_way, b"").unwrap();
    let (scope, mut duties) = Scope::open(1);
    let objects = vec![object(folder.path(), "a/x.parquet", 1)];
    let package = ObjectPackage { objects, duty: duties.pop().unwrap() };

    let delivering = context.deliver(package);
    let mending = async {
        while context.is_available() {
            tokio::task::yield_now().await;
        }
        assert_eq!(instruments.unavailable.get(), 1);
        assert_eq!(scope.outcome(0), None, "nothing is settled before it is durable");
        std::fs::remove_file(&in_the_way).unwrap();
    };
    tokio::join!(delivering, mending);

    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
    assert_eq!(instruments.unavailable.get(), 0);
    assert!(context.is_available());
}

#[tokio::test]
async fn a_delivery_that_is_cut_off_abandons_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(folder.path());
    std::fs::write(folder.path().join("lake/a"), b"").unwrap();
    let (scope, mut duties) = Scope::open(1);
    let objects = vec![object(folder.path(), "a/x.parquet", 1)];
    let package = ObjectPackage { objects, duty: duties.pop().unwrap() };
    {
        let delivering = context.deliver(package);
        let failed = async {
            while context.is_available() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = delivering => panic!("it cannot succeed"),
            () = failed => {}
        }
    }
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned));
}
