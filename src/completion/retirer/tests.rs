//! Deletions of what a state store in a file has retired, under a clock that moves when told to.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::model::{ManifestKey, Offset};
use crate::runtime::clock::ManualClock;
use crate::state::sqlite::SqliteStore;
use crate::state::{Change, Declarations, Lease, PipelineIdentity, ShardKey};

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A store of objects in memory.
#[derive(Default)]
struct Objects {
    there: Mutex<BTreeSet<String>>,
    asked: Mutex<Vec<String>>,
    is_away: AtomicBool,
}

impl Objects {
    fn write(&self, urls: &[&str]) {
        self.there.lock().unwrap().extend(urls.iter().map(|url| (*url).to_owned()));
    }

    fn left(&self) -> Vec<String> {
        self.there.lock().unwrap().iter().cloned().collect()
    }
}

impl ObjectDeleter for Objects {
    fn delete<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<bool, DeleteError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(url.to_owned());
            if self.is_away.load(Ordering::SeqCst) {
                return Err(DeleteError::Unavailable("the disk is away".to_owned()));
            }
            if !url.starts_with("lake/") {
                return Err(DeleteError::Foreign(format!("{url} is not in the lake")));
            }
            Ok(self.there.lock().unwrap().remove(url))
        })
    }
}

struct Bench {
    context: Arc<RetirerContext>,
    store: Arc<SqliteStore>,
    objects: Arc<Objects>,
    clock: Arc<ManualClock>,
    lease: Lease,
    next: i64,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        let identity = PipelineIdentity { pipeline: "sales".into(), group: "g".into(), shards: 1 };
        store.prepare(&identity, &Declarations::default()).await.unwrap();
        let shard = ShardKey { pipeline: "sales".into(), shard: 0 };
        let lease = store.take_over(&shard).await.unwrap().lease;
        let objects = Arc::new(Objects::default());
        let clock = Arc::new(ManualClock::made_at(1_700_000_000_000));
        let none = Backoff { first: Duration::ZERO, max: Duration::ZERO, factor: 1.0 };
        let settings = RetirerSettings {
            interval: Duration::from_millis(1),
            in_flight: 8,
            retry: none.clone(),
            backoff: none,
            ..RetirerSettings::default()
        };
        let context = Arc::new(RetirerContext {
            pipeline: "sales".into(),
            settings,
            store: store.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            instruments: Arc::default(),
            retired: Arc::default(),
        });
        Self { context, store, objects, clock, lease, next: 0, _folder: folder }
    }

    async fn apply(&mut self, change: Change) {
        let from = Offset(self.next);
        self.next += 1;
        let change = Change { from, to: Offset(self.next), ..change };
        self.store.apply(&self.lease, change).await.unwrap();
    }

    async fn retire(&mut self, urls: &[&str]) {
        let retired = urls.iter().map(|url| (ManifestKey::from("m"), (*url).to_owned()));
        self.apply(Change { retired: retired.collect(), ..Change::default() }).await;
    }

    async fn name(&mut self, url: &str) {
        self.apply(Change { named: vec![url.to_owned()], ..Change::default() }).await;
    }

    async fn round(&self) -> Round {
        self.context.round(false).await.unwrap()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let looking = async {
            while !wanted(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect(what);
    }
}

fn gone(gone: usize) -> Round {
    Round { gone, ..Round::default() }
}

#[actix::test]
async fn what_is_retired_is_deleted_once_and_nothing_else_is_touched() {
    let mut bench = Bench::new().await;
    bench.objects.write(&["lake/a", "lake/b", "lake/c"]);
    bench.retire(&["lake/a", "lake/b", "lake/never-written"]).await;
    bench.name("lake/c").await;
    assert_eq!(bench.round().await, gone(3), "one that is not there counts as deleted");
    assert_eq!(bench.objects.left(), ["lake/c"], "named, but not retired");
    assert_eq!(bench.round().await, gone(0));
    assert_eq!(bench.objects.asked.lock().unwrap().len(), 3);
    let instruments = &bench.context.instruments;
    assert_eq!((instruments.retired_checks.get(), instruments.retired_deletions.get()), (3, 2));
}

#[actix::test]
async fn an_object_that_a_replay_writes_again_goes_once_its_event_names_it() {
    let mut bench = Bench::new().await;
    bench.objects.write(&["lake/a"]);
    bench.retire(&["lake/a"]).await;
    assert_eq!(bench.round().await, gone(1));
    bench.objects.write(&["lake/a"]);
    assert_eq!(bench.round().await, gone(0), "nobody has said so yet");
    bench.name("lake/a").await;
    assert_eq!(bench.round().await, gone(1));
    assert!(bench.objects.left().is_empty());
}

#[actix::test]
async fn an_object_that_comes_back_in_silence_goes_with_the_next_sweep() {
    let mut bench = Bench::new().await;
    bench.retire(&["lake/a"]).await;
    assert_eq!(bench.round().await, gone(1));
    // Somebody who had slept writes it now, and ends before it can say so.
    bench.objects.write(&["lake/a"]);
    bench.clock.advance(6 * HOUR);
    assert_eq!(bench.round().await, gone(0));
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.round().await, gone(1));
    assert!(bench.objects.left().is_empty());
    assert_eq!(bench.round().await, gone(0), "until the sweep after that");
}

#[actix::test]
async fn what_could_not_be_deleted_is_due_again_after_its_claim() {
    let mut bench = Bench::new().await;
    bench.objects.write(&["lake/a"]);
    bench.retire(&["lake/a"]).await;
    bench.objects.is_away.store(true, Ordering::SeqCst);
    let round = bench.round().await;
    assert_eq!((round.gone, round.failed.as_deref()), (0, Some("the disk is away")));
    bench.objects.is_away.store(false, Ordering::SeqCst);
    assert_eq!(bench.round().await, gone(0), "it is claimed");
    bench.clock.advance(bench.context.settings.delete_timeout + MARKING);
    assert_eq!(bench.round().await, gone(1));
}

#[actix::test]
async fn a_store_of_objects_that_is_away_is_shown_and_waited_for() {
    let mut bench = Bench::new().await;
    bench.objects.write(&["lake/a", "lake/b"]);
    bench.retire(&["lake/a", "lake/b"]).await;
    bench.objects.is_away.store(true, Ordering::SeqCst);
    let running = actix::spawn(bench.context.clone().run());
    bench.until("an outage", |bench| bench.context.instruments.unavailable.get() == 1).await;
    bench.objects.is_away.store(false, Ordering::SeqCst);
    bench.clock.advance(HOUR);
    bench.until("deletions", |bench| bench.objects.left().is_empty()).await;
    bench.until("its end", |bench| bench.context.instruments.unavailable.get() == 0).await;
    running.abort();
}

#[actix::test]
async fn an_object_that_lies_elsewhere_holds_nobody_up() {
    let mut bench = Bench::new().await;
    bench.objects.write(&["lake/a"]);
    bench.retire(&["attic/x", "lake/a"]).await;
    let round = bench.round().await;
    assert_eq!((round.gone, round.failed), (1, None));
    assert!(round.foreign.is_some_and(|why| why.contains("attic/x")));
    assert!(bench.objects.left().is_empty());
}

#[actix::test]
async fn a_nudge_is_heard_and_more_than_fits_is_deleted_in_turns() {
    let mut bench = Bench::new().await;
    let urls: Vec<String> = (0..50).map(|number| format!("lake/{number}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    bench.objects.write(&urls);
    let settings = RetirerSettings { interval: HOUR, ..bench.context.settings.clone() };
    let context = Arc::new(RetirerContext { settings, ..(*bench.context).clone() });
    bench.retire(&["lake/first"]).await;
    let running = actix::spawn(context.run());
    bench.until("a first look", |bench| bench.context.instruments.retired_checks.get() == 1).await;
    bench.retire(&urls).await;
    bench.context.retired.notify_one();
    bench.until("deletions", |bench| bench.objects.left().is_empty()).await;
    running.abort();
}
