//! Responsible for: what lies in the store when, who announces what, retention, in a folder that
//! stands for any store.
//! Not responsible for: the HTTP side, and when something is too old (`progress::shared_spool`).

use std::io::Write;
use std::path::Path;

use super::*;
use crate::runtime::clock::{Clock, ManualClock, SystemClock};

const TIMES: Times =
    Times { adopt_after: Duration::from_secs(180), retain: Duration::from_secs(86_400) };

struct Fixture {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    spool: Arc<SharedSpool>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The store stamps objects by the machine's clock.
        let clock = Arc::new(ManualClock::made_at(SystemClock::new().unix_millis()));
        let spool = open(folder.path(), "uploads", clock.clone());
        Self { folder, clock, spool }
    }

    /// The spool as another replica sees it.
    fn other(&self) -> Arc<SharedSpool> {
        open(self.folder.path(), "uploads", self.clock.clone())
    }

    async fn keep(&self, bytes: &[u8]) -> Uuid {
        let id = Uuid::now_v7();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        self.spool.keep(id, (file, bytes.len() as u64), &announcement()).await.unwrap();
        id
    }

    /// Paths of all objects of the ingress.
    fn objects(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for folder in [PAYLOADS, WAITING, SENT, UNREADABLE] {
            let path = self.folder.path().join("uploads").join(folder);
            let Ok(entries) = std::fs::read_dir(path) else { continue };
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            found.extend(names.map(|name| format!("{folder}/{name}")));
        }
        found
    }
}

fn open(folder: &Path, ingress: &str, clock: Arc<ManualClock>) -> Arc<SharedSpool> {
    let root = ObjectRoot::open(folder.to_str().unwrap(), None).unwrap();
    SharedSpool::new(ingress.into(), root, TIMES, clock)
}

fn announcement() -> Announcement {
    Announcement {
        topic: "announcements".to_owned(),
        headers: vec![("service".to_owned(), "hccm".to_owned())],
        value: serde_json::json!({"size": 1.5}),
    }
}

fn paths<const N: usize>(paths: [String; N]) -> BTreeSet<String> {
    BTreeSet::from(paths)
}

async fn read(spool: &SharedSpool, id: Uuid) -> io::Result<Vec<u8>> {
    let (mut reader, mut bytes) = (spool.payload(id).await?, Vec::new());
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_kept_payload_is_there_for_every_replica_and_waits_for_its_own_to_announce_it() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar").await;
    assert_eq!(fixture.objects(), paths([format!("payloads/{id}"), format!("waiting/{id}")]));
    let other = fixture.other();
    assert_eq!(read(&other, id).await.unwrap(), b"tar");
    assert_eq!(other.announcement(id).await.unwrap(), Some(announcement()));
    assert_eq!(other.unsent(8).await.unwrap(), (BTreeSet::new(), false), "it is not theirs yet");

    fixture.spool.sent(id).await.unwrap();
    assert_eq!(fixture.objects(), paths([format!("payloads/{id}"), format!("sent/{id}")]));
    assert_eq!(other.announcement(id).await.unwrap(), None);
    fixture.clock.advance(TIMES.adopt_after * 2);
    assert_eq!(other.unsent(8).await.unwrap(), (BTreeSet::new(), false));
    let unknown = read(&other, Uuid::now_v7()).await.unwrap_err();
    assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn what_nobody_has_announced_for_long_is_anybodys() {
    let fixture = Fixture::new();
    let ids = BTreeSet::from([fixture.keep(b"1").await, fixture.keep(b"2").await]);
    fixture.clock.advance(TIMES.adopt_after * 2);
    let other = fixture.other();
    assert_eq!(other.unsent(8).await.unwrap(), (ids.clone(), false));
    let (one, more) = other.unsent(1).await.unwrap();
    assert!(one.is_subset(&ids) && one.len() == 1 && more);
    for id in ids {
        other.sent(id).await.unwrap();
        fixture.spool.sent(id).await.unwrap();
    }
    assert_eq!(other.unsent(8).await.unwrap(), (BTreeSet::new(), false));
}

#[tokio::test]
async fn retention_counts_from_the_announcement_and_spares_what_was_not_announced() {
    let fixture = Fixture::new();
    let (sent, waiting) = (fixture.keep(b"1").await, fixture.keep(b"2").await);
    fixture.spool.sent(sent).await.unwrap();
    assert_eq!(fixture.other().sweep().await.unwrap(), 0);
    fixture.clock.advance(TIMES.retain + Duration::from_secs(60));
    assert_eq!(fixture.other().sweep().await.unwrap(), 1);
    assert_eq!(fixture.spool.sweep().await.unwrap(), 0, "one sweep is enough");
    let left = paths([format!("payloads/{waiting}"), format!("waiting/{waiting}")]);
    assert_eq!(fixture.objects(), left);
}

#[tokio::test]
async fn a_payload_whose_upload_was_never_answered_goes_in_its_time() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar").await;
    // Its replica died between the two objects.
    fixture.spool.delete(WAITING, id).await.unwrap();
    assert_eq!(fixture.spool.sweep().await.unwrap(), 0);
    fixture.clock.advance(TIMES.retain + Duration::from_secs(60));
    assert_eq!(fixture.spool.sweep().await.unwrap(), 1);
    assert_eq!(fixture.objects(), BTreeSet::new());
}

#[tokio::test]
async fn a_damaged_announcement_is_put_aside_with_its_payload() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar").await;
    let path = fixture.folder.path().join(format!("uploads/waiting/{id}"));
    std::fs::write(path, b"{\"topic\":").unwrap();
    assert_eq!(fixture.spool.announcement(id).await.unwrap(), None);
    fixture.clock.advance(TIMES.retain * 2);
    assert_eq!(fixture.spool.sweep().await.unwrap(), 0);
    assert_eq!(fixture.objects(), paths([format!("payloads/{id}"), format!("unreadable/{id}")]));
}

#[tokio::test]
async fn what_belongs_to_others_in_the_same_store_is_left_alone() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar").await;
    let stranger = fixture.folder.path().join("uploads/waiting/notes.txt");
    std::fs::write(stranger, b"not an upload").unwrap();
    fixture.clock.advance(TIMES.retain * 2);
    let others = open(fixture.folder.path(), "other", fixture.clock.clone());
    assert_eq!(others.unsent(8).await.unwrap(), (BTreeSet::new(), false));
    assert_eq!(others.sweep().await.unwrap(), 0);
    assert_eq!(fixture.spool.unsent(8).await.unwrap(), (BTreeSet::from([id]), false));
}
