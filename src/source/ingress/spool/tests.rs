//! Responsible for: what is durable when, what a crash leaves, retention, and which URLs are ours.
//! Not responsible for: the HTTP side.

use std::io::Read;

use super::*;
use crate::runtime::clock::{Clock, ManualClock};

const NOW: i64 = 1_741_564_800_123;

struct Fixture {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    spool: Arc<IngressSpool>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::made_at(NOW));
        let spool = open(folder.path(), 8000, clock.clone());
        Self { folder, clock, spool }
    }

    /// The spool as the next process finds it, listening on another port.
    fn reopen(&self) -> Arc<IngressSpool> {
        open(self.folder.path(), 8001, self.clock.clone())
    }

    fn keep(&self, bytes: &[u8]) -> Uuid {
        let (part, mut file) = self.spool.create().unwrap();
        let id = part.id;
        file.write_all(bytes).unwrap();
        self.spool.keep(part, &file, &announcement()).unwrap();
        id
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.path().join("uploads")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn open(folder: &Path, port: u16, clock: Arc<ManualClock>) -> Arc<IngressSpool> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let folder = folder.join("uploads");
    let base = format!("http://{address}");
    IngressSpool::open_folder("uploads".into(), folder, "/a/upload", base, clock).unwrap()
}

fn announcement() -> Announcement {
    Announcement {
        topic: "announcements".to_owned(),
        headers: vec![("service".to_owned(), "hccm".to_owned())],
        value: serde_json::json!({"size": 1.5}),
    }
}

fn names<const N: usize>(names: [String; N]) -> BTreeSet<String> {
    BTreeSet::from(names)
}

#[test]
fn a_kept_payload_waits_with_its_announcement_until_that_was_sent() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar");
    assert_eq!(fixture.names(), names([format!("{id}"), format!("{id}.json")]));
    assert_eq!(fixture.spool.announcement(id).unwrap(), Some(announcement()));
    assert_eq!(fixture.reopen().unsent(8).unwrap(), (BTreeSet::from([id]), false));

    fixture.spool.sent(id).unwrap();
    assert_eq!(fixture.names(), names([format!("{id}"), format!("{id}.sent")]));
    assert_eq!(fixture.spool.announcement(id).unwrap(), None);
    assert_eq!(fixture.reopen().unsent(8).unwrap(), (BTreeSet::new(), false));
}

#[test]
fn an_upload_that_was_not_finished_leaves_nothing() {
    let fixture = Fixture::new();
    let (part, _file) = fixture.spool.create().unwrap();
    assert_eq!(fixture.names().len(), 1);
    drop(part);
    assert_eq!(fixture.names(), BTreeSet::new());

    let (killed, _file) = fixture.spool.create().unwrap();
    // Killed after the announcement was written, before the payload got its name.
    write(&fixture.spool.path_of(killed.id, ".json"), b"{}").unwrap();
    std::mem::forget(killed);
    assert_eq!(fixture.names().len(), 2);
    let next = fixture.reopen();
    assert_eq!(fixture.names(), BTreeSet::new());
    assert_eq!(next.unsent(8).unwrap(), (BTreeSet::new(), false));
}

#[test]
fn the_oldest_come_first_and_the_rest_is_known_to_be_there() {
    let fixture = Fixture::new();
    let ids: Vec<Uuid> = (0..5)
        .map(|_| {
            fixture.clock.advance(Duration::from_millis(2));
            fixture.keep(b"tar")
        })
        .collect();
    assert!(ids.is_sorted(), "ids sort by time: {ids:?}");
    let oldest = ids[..3].iter().copied().collect();
    assert_eq!(fixture.spool.unsent(3).unwrap(), (oldest, true));
}

#[test]
fn retention_counts_from_the_announcement_and_spares_what_was_not_announced() {
    let fixture = Fixture::new();
    let (waiting, sent) = (fixture.keep(b"a"), fixture.keep(b"b"));
    let day = Duration::from_secs(24 * 60 * 60);
    fixture.clock.advance(day * 10);
    fixture.spool.sent(sent).unwrap();
    assert_eq!(fixture.spool.sweep(day).unwrap(), 0, "it was announced just now");
    fixture.clock.advance(day);
    assert_eq!(fixture.spool.sweep(day).unwrap(), 0, "not longer ago than that");
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(fixture.spool.sweep(day).unwrap(), 1);
    assert_eq!(fixture.names(), names([format!("{waiting}"), format!("{waiting}.json")]));
}

#[test]
fn an_open_payload_stays_readable_when_retention_removes_it() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar");
    let mut opened = fixture.spool.open(&fixture.spool.url_of(id)).unwrap().unwrap();
    fixture.spool.sent(id).unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.spool.sweep(Duration::ZERO).unwrap(), 1);
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"tar");
}

#[test]
fn urls_are_known_by_their_path_and_nothing_else_is_opened() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar");
    let url = fixture.spool.url_of(id);
    assert_eq!(url, format!("http://127.0.0.1:8000/a/upload/payloads/{id}"));
    assert!(fixture.reopen().open(&url).unwrap().is_ok(), "announced under a former port");

    let gone = Uuid::from_u128(1);
    let missing = fixture.spool.open(&fixture.spool.url_of(gone)).unwrap().unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    for foreign in [
        format!("http://example.net/a/upload/payloads/{gone}"),
        format!("https://127.0.0.1:8000/a/upload/payloads/{id}"),
        format!("http://127.0.0.1:8000/b/upload/payloads/{id}"),
        format!("http://127.0.0.1:8000/a/upload/payloads/{id}.json"),
        format!("http://127.0.0.1:8000/a/upload/payloads/{}", id.simple()),
        "http://127.0.0.1:8000/a/upload/payloads/../../secret".to_owned(),
        "http://127.0.0.1:8000".to_owned(),
        String::new(),
    ] {
        assert!(fixture.spool.open(&foreign).is_none(), "{foreign}");
    }
}

#[test]
fn payloads_are_announced_under_a_public_url_and_found_by_it() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar");
    let folder = fixture.folder.path().join("uploads");
    let (base, clock) = ("https://uploads.example.net/in".to_owned(), fixture.clock.clone());
    let public =
        IngressSpool::open_folder("uploads".into(), folder, "/a/upload", base, clock).unwrap();
    let url = public.url_of(id);
    assert_eq!(url, format!("https://uploads.example.net/in/a/upload/payloads/{id}"));
    assert!(public.open(&url).unwrap().is_ok());
    assert!(fixture.spool.open(&url).is_none(), "another process keeps it, under that URL");
}

#[test]
fn a_damaged_announcement_is_put_aside_and_its_payload_is_kept() {
    let fixture = Fixture::new();
    let id = fixture.keep(b"tar");
    fs::write(fixture.spool.path_of(id, ".json"), b"{\"topic\":").unwrap();
    assert_eq!(fixture.spool.announcement(id).unwrap(), None);
    assert_eq!(fixture.names(), names([format!("{id}"), format!("{id}.json.unreadable")]));
    assert_eq!(fixture.reopen().unsent(8).unwrap(), (BTreeSet::new(), false));
}

#[test]
fn ids_carry_the_time_of_the_clock() {
    let fixture = Fixture::new();
    let (part, _file) = fixture.spool.create().unwrap();
    let (seconds, nanos) = part.id.get_timestamp().unwrap().to_unix();
    let millis = seconds * 1000 + u64::from(nanos) / 1_000_000;
    assert_eq!(i64::try_from(millis).unwrap(), fixture.clock.unix_millis());
}
