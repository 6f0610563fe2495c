//! Responsible for: proving what comes out of archives that are fine, and that room and time are
//! accounted for.
//! Not responsible for: archives that are not (`hostile`).

mod fuzz;

use flate2::{Compression, GzBuilder};

use super::fixture::{Bench, ROOM, Sink, Tar, good, gzip, json, manifest, read, run};
use super::*;
use crate::expr::fixtures;
use crate::runtime::clock::Monotonic;

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

/// A packed file with a name in its gzip header.
fn named(name: &str, content: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    GzBuilder::new()
        .filename(name)
        .buf_read(content.as_bytes(), Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    packed
}

const AS_LISTED: &[(&str, &str)] = &[("b.csv", ""), ("a.csv", "a,b\r\n1,2\r\n")];

#[test]
fn listed_members_come_out_in_the_order_of_the_list_wherever_the_index_lies() {
    let bench = Bench::new();
    assert_eq!(bench.run(&good().gz()).unwrap().files(), pairs(AS_LISTED));
    let first = Tar::default()
        .file("manifest.json", manifest(&["b.csv", "a.csv"]))
        .file("a.csv", "a,b\r\n1,2\r\n")
        .file("b.csv", "");
    assert_eq!(bench.run(&first.gz()).unwrap().files(), pairs(AS_LISTED));
}

#[test]
fn packed_plain_and_packed_in_pieces_are_the_same() {
    let bench = Bench::new();
    assert_eq!(bench.run(&good().end()).unwrap().files(), pairs(AS_LISTED));
    let open_ended = gzip(&good().open_ended());
    assert_eq!(bench.run(&open_ended).unwrap().files(), pairs(AS_LISTED));
    let tar = good().end();
    let pieces: Vec<u8> = tar.chunks(700).flat_map(gzip).collect();
    assert_eq!(bench.run(&pieces).unwrap().files(), pairs(AS_LISTED));
}

#[test]
fn every_archive_yields_one_index_record_with_the_document_in_place() {
    let bench = Bench::new();
    let sink = bench.run(&good().gz()).unwrap();
    let indexes = sink.indexes();
    assert_eq!(indexes.len(), 1);
    assert_eq!(indexes[0]["request_id"], "r-1");
    assert_eq!(indexes[0]["manifest"]["uuid"], "u-1");
    assert!(indexes[0].get("file").is_none());
    let none_listed = Tar::default().file("manifest.json", manifest(&[])).gz();
    let sink = bench.run(&none_listed).unwrap();
    assert_eq!((sink.indexes().len(), sink.files().len()), (1, 0));
}

#[test]
fn members_inherit_fields_and_metadata_and_carry_their_own_name_size_and_digest() {
    let bench = Bench::new();
    let sink = bench.run(&good().gz()).unwrap();
    for (port, record) in &sink.emitted {
        assert_eq!(json(record)["manifest"]["uuid"], "u-1");
        assert_eq!(record.source.offset(), fixtures::record("{}").source.offset());
        if *port == MEMBERS {
            let Body::Blob(blob) = &record.body else { panic!("{:?}", record.body) };
            let expected = Digest::of(&Digest::from_bytes([7; 16]), &read(record));
            assert_eq!(blob.digest(), Some(expected));
        } else {
            assert!(matches!(record.body, Body::Empty));
        }
    }
}

#[test]
fn unlisted_files_and_directories_are_skipped_and_counted() {
    let bench = Bench::new();
    let body = good().file("._manifest.json", "mac").file("notes.txt", "x").entry(b'5', "d/", "");
    assert_eq!(bench.run(&body.gz()).unwrap().files(), pairs(AS_LISTED));
    assert_eq!(bench.skipped(), (2, 2));
    assert_eq!(bench.counters.archives.load(Ordering::Relaxed), 1);
}

#[test]
fn a_name_listed_twice_or_missing_counts_once_or_not_at_all() {
    let bench = Bench::new();
    let body = Tar::default()
        .file("a.csv", "1")
        .file("manifest.json", manifest(&["gone.csv", "a.csv", "a.csv", "manifest.json"]));
    let files = bench.run(&body.gz()).unwrap().files();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.csv", "manifest.json"]);
    assert_eq!(bench.skipped(), (0, 0));
}

#[test]
fn without_a_list_every_regular_file_but_the_index_is_a_member() {
    let bench = Bench::new();
    let mut parts = bench.parts();
    parts.members = None;
    let sink = run(parts, &good().gz()).unwrap();
    assert_eq!(sink.files(), pairs(&[("a.csv", "a,b\r\n1,2\r\n"), ("b.csv", "")]));
    let mut parts = bench.parts();
    (parts.members, parts.index) = (None, None);
    let sink = run(parts, &good().gz()).unwrap();
    assert_eq!((sink.files().len(), sink.indexes().len()), (3, 1));
}

#[test]
fn gzip_of_a_single_file_is_one_member_named_by_its_header() {
    let bench = Bench::new();
    let all = || {
        let mut parts = bench.parts();
        (parts.members, parts.index) = (None, None);
        parts
    };
    let text = "x,y\n".repeat(300);
    assert_eq!(
        run(all(), &named("rows.csv", &text)).unwrap().files(),
        pairs(&[("rows.csv", &text)])
    );
    let unnamed = gzip(b"short");
    assert_eq!(run(all(), &unnamed).unwrap().files(), pairs(&[("content", "short")]));
    let failure = run(all(), &named("../x", "x")).err().unwrap();
    assert_eq!(failure.class(), Some(&FailureClass::BAD_ARCHIVE));
}

#[test]
fn archives_of_the_usual_tools_with_long_names_are_read() {
    let bench = Bench::new();
    let long = format!("{}/pod.csv", "d".repeat(150));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
    let pax = format!("{}\u{fc}.csv", "p".repeat(150));
    builder.append_pax_extensions([("mtime", &b"1.5"[..]), ("path", pax.as_bytes())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_cksum();
    builder.append(&header, &b"def"[..]).unwrap();
    let listed = manifest(&[&long, &pax]);
    let mut header = tar::Header::new_gnu();
    header.set_size(listed.len() as u64);
    builder.append_data(&mut header, "manifest.json", &*listed).unwrap();
    let body = gzip(&builder.into_inner().unwrap());
    let files = bench.run(&body).unwrap().files();
    assert_eq!(files, pairs(&[(&long, "abc"), (&pax, "def")]));
}

#[test]
fn global_headers_with_comments_are_fine() {
    let bench = Bench::new();
    let body = Tar::default()
        .pax(b'g', &[("comment", b"commit 1234")])
        .file("manifest.json", manifest(&[]));
    assert_eq!(bench.run(&body.gz()).unwrap().indexes().len(), 1);
}

#[test]
fn members_larger_than_a_piece_are_whole_and_apart() {
    let bench = Bench::new();
    let large: String = (0..20_000).map(|n| format!("{:04}", n % 10_000)).collect();
    let body = Tar::default()
        .file("x", &large)
        .file("y", "tail")
        .file("manifest.json", manifest(&["x", "y"]));
    let files = bench.run(&body.gz()).unwrap().files();
    assert!(files == pairs(&[("x", &large), ("y", "tail")]));
}

#[test]
fn prepare_completes_the_index_before_members_are_asked_for() {
    let bench = Bench::new();
    let mut parts = bench.parts();
    parts.prepare = Some(Box::new(|record| {
        let path = parse_value_path("manifest.files").unwrap();
        into_tree(record)?.insert(&path, Value::Array(vec![Value::from("a.csv")]));
        Ok(())
    }));
    let sink = run(parts, &good().gz()).unwrap();
    assert_eq!(sink.files(), pairs(&[("a.csv", "a,b\r\n1,2\r\n")]));
    assert_eq!(sink.indexes()[0]["manifest"]["files"][0], "a.csv");
}

#[test]
fn a_prepare_that_refuses_fails_the_archive_and_keeps_no_room() {
    let bench = Bench::new();
    let refusal = Failure::poison(FailureClass::PROGRAM, "uuid: not a version 4 UUID");
    let theirs = refusal.clone();
    let mut parts = bench.parts();
    parts.prepare = Some(Box::new(move |_| Err(theirs.clone())));
    assert_eq!(run(parts, &good().gz()).err(), Some(refusal));
    assert_eq!(bench.spool.budget().free(), ROOM);
}

#[test]
fn the_index_lands_in_a_nested_field_and_indices_are_no_field() {
    let bench = Bench::new();
    let mut parts = bench.parts();
    parts.members = None;
    if let Some(index) = &mut parts.index {
        index.field = ".report.index".to_owned();
    }
    let sink = run(parts, &good().gz()).unwrap();
    assert_eq!(sink.indexes()[0]["report"]["index"]["uuid"], "u-1");
    for field in ["", ".", "a..b", "a b", "a[3]", "[99999999999]"] {
        let mut parts = bench.parts();
        if let Some(index) = &mut parts.index {
            index.field = field.to_owned();
        }
        assert!(UnarchiveNode::new(parts).is_err(), "{field:?}");
    }
}

#[test]
fn the_last_slice_gives_the_room_back() {
    let bench = Bench::new();
    let mut sink = bench.run(&good().gz()).unwrap();
    let held = ROOM - bench.spool.budget().free();
    assert!((1..=2048).contains(&held), "what was unpacked, not what was reserved: {held}");
    let last = sink.emitted.pop();
    drop(sink);
    assert_eq!(ROOM - bench.spool.budget().free(), held);
    drop(last);
    assert_eq!(bench.spool.budget().free(), ROOM);
}

#[test]
fn long_work_says_that_it_goes_on() {
    let bench = Bench::new();
    let content = "0123456789".repeat(9_000);
    let body = Tar::default().file("x", content).file("manifest.json", manifest(&["x"]));
    assert!(bench.run(&body.end()).unwrap().progressed > 4);
}

/// A clock on which every look takes some seconds.
pub(super) struct Slow {
    seconds: u64,
    now: AtomicU64,
}

impl Slow {
    pub(super) fn shared(seconds: u64) -> Arc<dyn Clock> {
        Arc::new(Self { seconds, now: AtomicU64::new(0) })
    }
}

impl Clock for Slow {
    fn now(&self) -> Monotonic {
        Monotonic(Duration::from_secs(self.now.fetch_add(self.seconds, Ordering::Relaxed)))
    }

    fn unix_millis(&self) -> i64 {
        0
    }
}

#[test]
fn an_archive_that_takes_too_long_is_too_large() {
    let bench = Bench::new();
    let mut parts = bench.parts();
    parts.clock = Slow::shared(1);
    parts.limits.time = Duration::from_secs(3);
    let failure = run(parts, &good().gz()).err().unwrap();
    assert_eq!(failure.class(), Some(&FailureClass::TOO_LARGE));
    assert!(failure.why().contains("not unpacked after 3 s"), "{failure}");
}

#[test]
fn a_spool_without_room_is_an_unavailable_dependency() {
    let bench = Bench::new();
    let held = bench.spool.budget().reserve_blocking(ROOM, &mut || false).unwrap();
    let mut parts = bench.parts();
    parts.clock = Slow::shared(20);
    let failure = run(parts, &good().gz()).err().unwrap();
    assert!(matches!(failure, Failure::Unavailable { .. }), "{failure:?}");
    assert!(failure.why().contains("no room in the spool"), "{failure}");
    drop(held);
    assert!(bench.run(&good().gz()).is_ok());
}

#[test]
fn a_record_without_a_body_is_refused_in_words() {
    let bench = Bench::new();
    let mut node = UnarchiveNode::new(bench.parts()).unwrap();
    let failure = node.apply(fixtures::record("{}"), &mut Sink::default()).unwrap_err();
    assert!(failure.why().contains("no body to unpack"), "{failure}");
}

#[test]
fn a_large_index_inherited_by_many_members_is_refused_before_it_multiplies() {
    let bench = Bench::new();
    let names: Vec<String> = (0..900).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut parts = bench.parts();
    parts.limits.entries = 1_000;
    if let Some(index) = &mut parts.index {
        index.max_bytes = 1 << 20;
    }
    let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    parts.members = Some(Box::new(move |_| Ok(all.clone())));
    let padding = format!("{{\"padding\":\"{}\"}}", "p".repeat(400_000));
    parts.limits.entry = 1 << 20;
    let tar = names.iter().fold(Tar::default(), |tar, name| tar.file(name, "x"));
    let failure = run(parts, &tar.file("manifest.json", padding).end()).err().unwrap();
    assert_eq!(failure.class(), Some(&FailureClass::TOO_LARGE));
    assert!(failure.why().contains("900 members"), "{failure}");
}

#[test]
fn a_node_goes_on_after_a_failure_with_the_next_record() {
    let bench = Bench::new();
    let mut node = UnarchiveNode::new(bench.parts()).unwrap();
    for (body, fine) in [(b"garbage".to_vec(), false), (good().gz(), true)] {
        let mut record = fixtures::record("{}");
        record.body = Body::Bytes(Bytes::from(body));
        assert_eq!(node.apply(record, &mut Sink::default()).is_ok(), fine);
    }
}
