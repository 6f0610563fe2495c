//! Responsible for: proving that damaged and hostile archives are refused as a whole, in words,
//! with nothing emitted, nothing kept and nothing left on the disk.
//! Not responsible for: archives that are fine (`tests`).

use proptest::prelude::*;

use super::fixture::{Bench, ROOM, Tar, good, gzip, header, manifest, run};
use super::*;

pub(super) const BAD: FailureClass = FailureClass::BAD_ARCHIVE;
pub(super) const LARGE: FailureClass = FailureClass::TOO_LARGE;

/// Refused with this class and these words, without a trace.
pub(super) fn refused(bench: &Bench, what: &str, body: &[u8], class: &FailureClass, words: &str) {
    let Err(failure) = bench.run(body) else { panic!("{what}: accepted") };
    assert!(matches!(failure, Failure::Poison { .. }), "{what}: {failure:?}");
    assert_eq!(failure.class(), Some(class), "{what}: {failure}");
    assert!(failure.why().contains(words), "{what}: {failure}, expected {words:?}");
    assert_eq!(bench.spool.budget().free(), ROOM, "{what}: room was kept");
    assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 0, "{what}: a file");
    assert_eq!(bench.skipped(), (0, 0), "{what}: counted");
}

/// A good archive with something in the middle.
fn with(middle: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    let first = Tar::default().file("a.csv", "1\n");
    middle(first).file("manifest.json", manifest(&["a.csv"])).gz()
}

#[test]
fn names_that_lead_elsewhere_reject_the_archive_by_name() {
    let bench = Bench::new();
    let table: [(&[u8], &str); 9] = [
        (b"../../../../tmp/x.csv", r#"member "../../../../tmp/x.csv" has a name that leads out"#),
        (b"a/../../x.csv", "leads out"),
        (b"..", "leads out"),
        (b"/etc/passwd", r#"member "/etc/passwd" has an absolute name"#),
        (b"a\\..\\b.csv", "backslash"),
        (b"C:\\x", "backslash"),
        (b"x\xff.csv", "not UTF-8"),
        (b"", "no name"),
        (b"a/.", "no name"),
    ];
    for (name, words) in table {
        refused(&bench, words, &with(|tar| tar.file(name, "x")), &BAD, words);
    }
    refused(&bench, "directory", &with(|tar| tar.entry(b'5', "../", "")), &BAD, "leads out");
    refused(&bench, "directory", &with(|tar| tar.entry(b'5', "/etc/", "")), &BAD, "absolute");
}

#[test]
fn the_same_names_in_extension_headers_reject_the_archive_too() {
    let bench = Bench::new();
    let table: [(&[u8], &str); 5] = [
        (b"../x.csv", "leads out"),
        (b"/etc/passwd", "absolute"),
        (b"a\0b", "NUL"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a\\b", "backslash"),
    ];
    for (name, words) in table {
        let pax = with(|tar| tar.pax(b'x', &[("path", name)]).file("fine.csv", "x"));
        refused(&bench, "pax", &pax, &BAD, words);
        let long = with(|tar| tar.entry(b'L', "././@LongLink", name).file("fine.csv", "x"));
        refused(&bench, "gnu", &long, &BAD, words);
    }
    let endless = with(|tar| tar.entry(b'L', "L", [b'n'; 5000]).file("n", "x"));
    refused(&bench, "5000 bytes", &endless, &BAD, "more than 4096 bytes");
}

#[test]
fn everything_but_files_and_directories_rejects_the_archive_by_name() {
    let bench = Bench::new();
    let table = [
        (b'1', "is a hard link"),
        (b'2', "is a symbolic link"),
        (b'3', "is a character device"),
        (b'4', "is a block device"),
        (b'6', "is a named pipe"),
        (b'7', "is of type '7'"),
        (b'D', "is of type 'D'"),
        (b'M', "is of type 'M'"),
        (b'S', "is a sparse file"),
        (b'V', "is of type 'V'"),
        (b'X', "is of type 'X'"),
        (b'\xff', "is of type"),
    ];
    for (kind, words) in table {
        let body = with(|tar| tar.entry(kind, "pod.csv", ""));
        refused(&bench, words, &body, &BAD, &format!("member \"pod.csv\" {words}"));
    }
    let long = with(|tar| tar.entry(b'K', "K", "/etc/passwd\0").entry(b'2', "pod.csv", ""));
    refused(&bench, "long link", &long, &BAD, "symbolic link");
    let content = with(|tar| tar.entry(b'5', "d/", "hidden"));
    refused(&bench, "directory", &content, &BAD, "directory \"d/\" has content");
    let old = with(|tar| tar.entry(b'\0', "d/", "hidden"));
    refused(&bench, "old directory", &old, &BAD, "has content");
    let sparse =
        |key: &'static str| with(move |tar| tar.pax(b'x', &[(key, b"1")]).file("pod.csv", "x"));
    refused(&bench, "sparse", &sparse("GNU.sparse.major"), &BAD, "sparse");
}

#[test]
fn two_members_of_one_name_reject_the_archive() {
    let bench = Bench::new();
    let twice = with(|tar| tar.file("a.csv", "2\n"));
    refused(&bench, "twice", &twice, &BAD, "two members of the name \"a.csv\"");
    let hidden = with(|tar| tar.pax(b'x', &[("path", b"a.csv")]).file("other", "2\n"));
    refused(&bench, "by PAX", &hidden, &BAD, "two members of the name");
    let index = with(|tar| tar.file("manifest.json", manifest(&[])));
    refused(&bench, "index", &index, &BAD, "two members of the name \"manifest.json\"");
}

#[test]
fn extension_headers_that_two_readers_read_in_two_ways_reject_the_archive() {
    let bench = Bench::new();
    let bad = |what: &str, middle: fn(Tar) -> Tar, words: &str| {
        refused(&bench, what, &with(middle), &BAD, words);
    };
    bad("two paths", |t| t.pax(b'x', &[("path", b"x"), ("path", b"y")]).file("z", ""), "two ext");
    bad("two sizes", |t| t.pax(b'x', &[("size", b"0"), ("size", b"1")]).file("z", ""), "two ext");
    bad("two long", |t| t.entry(b'L', "L", "x").entry(b'L', "L", "y").file("z", ""), "two ext");
    bad("both", |t| t.entry(b'L', "L", "x").pax(b'x', &[("path", b"y")]).file("z", ""), "two ext");
    bad("global path", |t| t.pax(b'g', &[("path", b"x")]), "for all members");
    bad("global size", |t| t.pax(b'g', &[("size", b"1")]), "for all members");
    bad("length", |t| t.entry(b'x', "p", "99 path=x\n").file("z", ""), "wrong length");
    bad("no length", |t| t.entry(b'x', "p", "path=x\n").file("z", ""), "wrong length");
    bad("zero length", |t| t.entry(b'x', "p", "0 path=x\n").file("z", ""), "wrong length");
    bad("no line end", |t| t.entry(b'x', "p", "9 path=xy").file("z", ""), "wrong length");
    bad("no value", |t| t.entry(b'x', "p", "7 path\n").file("z", ""), "without a value");
    bad("size", |t| t.pax(b'x', &[("size", b"-1")]).file("z", ""), "size that is no number");
    bad("size", |t| t.pax(b'x', &[("size", b"+1")]).file("z", "y"), "size that is no number");
    bad("other size", |t| t.pax(b'x', &[("size", b"0")]).file("z", [b'y'; 512]), "damaged tar");
    bad("many", |t| (0..9).fold(t, |t, _| t.pax(b'g', &[("comment", b"x")])), "more than 8 ext");
    let end = Tar::default().file("a.csv", "").pax(b'x', &[("path", b"x")]).gz();
    refused(&bench, "at the end", &end, &BAD, "without its member");
}

#[test]
fn sizes_beyond_a_cap_are_refused_before_they_cost_anything() {
    let bench = Bench::new();
    let large = |what: &str, body: Vec<u8>, words: &str| {
        refused(&bench, what, &body, &LARGE, words);
    };
    let claim = |kind, size| gzip(&Tar::default().claim(kind, "x", size).end());
    large("a long name of 1 GiB", claim(b'L', 1 << 30), "extension header of 1073741824 bytes");
    large("a PAX header of 1 GiB", claim(b'x', 1 << 30), "extension header");
    large("a global header of 1 TiB", claim(b'g', 1 << 40), "extension header");
    large("a member of 1 TiB", claim(b'0', 1 << 40), "\"x\" has more than 100000 bytes");
    let pax = |size: &'static [u8]| with(move |t| t.pax(b'x', &[("size", size)]).file("x", ""));
    large("PAX size", pax(b"99999999999"), "more than 100000 bytes");
    large("PAX size", pax(b"18446744073709551615"), "more than 100000 bytes");
    refused(&bench, "PAX size", &pax(b"99999999999999999999999"), &BAD, "no number");
    let entry = with(|tar| tar.file("x", vec![b'x'; 100_001]));
    large("a member over the cap", entry, "\"x\" has more than 100000 bytes");
    let many = (0..11).fold(Tar::default(), |tar, n| tar.file(format!("{n}"), ""));
    large("eleven members", many.gz(), "more than 10 members");
    let folders = (0..11).fold(Tar::default(), |tar, n| tar.entry(b'5', format!("{n}/"), ""));
    large("eleven directories", folders.gz(), "more than 10 members");
    let index = Tar::default().file("manifest.json", vec![b' '; 2_001]).gz();
    large("an index over its cap", index, "\"manifest.json\" has more than 2000 bytes");
}

#[test]
fn sizes_that_do_not_fit_or_are_none_reject_the_archive() {
    let bench = Bench::new();
    let sized = |field: [u8; 12]| {
        let mut header = header(b'0', b"x", 0);
        header.as_old_mut().size = field;
        header.set_cksum();
        gzip(&Tar::default().raw(header.as_bytes()).end())
    };
    let wide = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    refused(&bench, "beyond 64 bits", &sized(wide), &LARGE, "beyond 64 bits");
    refused(&bench, "negative", &sized([0xff; 12]), &LARGE, "beyond 64 bits");
    refused(&bench, "letters", &sized(*b"size of file"), &BAD, "no number");
    refused(&bench, "nothing", &sized([0; 12]), &BAD, "no number");
}

#[test]
fn bombs_are_stopped_by_what_they_really_unpack_to() {
    let bench = Bench::new();
    let mut parts = bench.parts();
    parts.limits.entry = u64::MAX;
    parts.limits.total = 3 << 20;
    let bomb = Tar::default().file("x", vec![0; 4 << 20]).gz();
    let failure = run(parts, &bomb).err().unwrap();
    assert_eq!(failure.class(), Some(&LARGE));
    assert!(failure.why().contains("more than 100 times its size"), "{failure}");

    let mut parts = bench.parts();
    parts.limits.entry = u64::MAX;
    parts.limits.total = 3 << 20;
    parts.limits.ratio = u64::MAX;
    let failure = run(parts, &bomb).err().unwrap();
    assert!(failure.why().contains("more than 3145728 bytes"), "{failure}");

    // Nothing is written for it, but reading it costs all the same.
    let zeros = gzip(&vec![0; 4 << 20]);
    refused(&bench, "zeros behind the end mark", &zeros, &LARGE, "times its size");
    assert_eq!(bench.spool.budget().free(), ROOM);
}

#[test]
fn an_archive_that_is_no_archive_says_so() {
    let bench = Bench::new();
    let page = b"<html><body>502 Bad Gateway</body></html>".repeat(40);
    refused(&bench, "HTML", &page, &BAD, "not gzip");
    refused(&bench, "short HTML", &page[..60], &BAD, "not gzip");
    refused(&bench, "nothing", b"", &BAD, "not gzip");
    refused(&bench, "half a magic", b"\x1f", &BAD, "not gzip");
    refused(&bench, "half a zip magic", b"PK\x03", &BAD, "not gzip");
    refused(&bench, "packed HTML", &gzip(&page), &BAD, "no member manifest.json");
    refused(&bench, "packed nothing", &gzip(b""), &BAD, "no member manifest.json");
    let mut broken = good().end();
    broken[0] ^= 1;
    refused(&bench, "first header", &gzip(&broken), &BAD, "damaged tar header after 0 members");
    let mut broken = good().end();
    broken[512] ^= 1;
    refused(&bench, "second header", &gzip(&broken), &BAD, "damaged tar header after 1 members");
}

#[test]
fn an_archive_that_is_cut_short_says_so_wherever_it_was_cut() {
    let bench = Bench::new();
    let packed = good().gz();
    for keep in 2..packed.len() {
        refused(&bench, &format!("{keep} bytes"), &packed[..keep], &BAD, "cut short");
    }
    let tar = good().open_ended();
    for keep in (512..=tar.len()).step_by(64) {
        refused(&bench, &format!("{keep} bytes"), &tar[..keep], &BAD, "cut short");
    }
    // The packing is whole, what was packed is not.
    refused(&bench, "in a member", &gzip(&tar[..1030]), &BAD, "in member \"a.csv\"");
    refused(&bench, "in padding", &gzip(&tar[..1100]), &BAD, "cut short");
    refused(&bench, "in a header", &gzip(&tar[..600]), &BAD, "cut short");
}

#[test]
fn what_lies_behind_the_end_rejects_the_archive() {
    let bench = Bench::new();
    let mut two = good().end();
    two.extend_from_slice(&good().end());
    refused(&bench, "a second archive", &gzip(&two), &BAD, "behind the end");
    refused(&bench, "a second archive, plain", &two, &BAD, "behind the end");
    for rest in [&b"garbage"[..], &[0; 20], b"\x1f", b"\x1f\x8b\x08"] {
        let Err(failure) = bench.run(&[&good().gz()[..], rest].concat()) else {
            panic!("{rest:?} was accepted")
        };
        assert_eq!(failure.class(), Some(&BAD), "{rest:?}: {failure}");
    }
}

#[test]
fn damage_that_only_the_checksum_of_gzip_sees_is_seen() {
    let bench = Bench::new();
    let whole = good().gz();
    for from_end in 1..=8 {
        let mut packed = whole.clone();
        let at = packed.len() - from_end;
        packed[at] ^= 0x10;
        refused(&bench, &format!("trailer byte {from_end}"), &packed, &BAD, "damaged gzip");
    }
}

#[test]
fn an_index_that_is_missing_or_no_json_says_what_and_where() {
    let bench = Bench::new();
    let six = Tar::default().file("a.csv", "1").file("b.csv", "2").gz();
    refused(&bench, "missing", &six, &BAD, "no member manifest.json");
    let dotted = Tar::default().file("./a.csv", "1").file("./manifest.json", manifest(&[])).gz();
    refused(&bench, "./", &dotted, &BAD, "no member manifest.json");
    let cut = Tar::default().file("manifest.json", "{\n  \"uuid\": \"3e1f").gz();
    refused(&bench, "invalid", &cut, &BAD, "member manifest.json is not valid JSON: ");
    refused(&bench, "invalid", &cut, &BAD, "at line 2 column ");
    let empty = Tar::default().file("manifest.json", "").gz();
    refused(&bench, "empty", &empty, &BAD, "is not valid JSON");
    let deep = Tar::default().file("manifest.json", "[".repeat(1_000)).gz();
    refused(&bench, "deep", &deep, &BAD, "is not valid JSON");
}

proptest! {
    #[test]
    fn no_damage_of_a_byte_changes_what_comes_out(
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let bench = Bench::new();
        let whole = good().gz();
        let mut packed = whole.clone();
        let at = at.index(packed.len());
        packed[at] = to;
        if let Ok(sink) = bench.run(&packed) {
            prop_assert_eq!(sink.files(), bench.run(&whole).unwrap().files());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let bench = Bench::new();
        let _ = bench.run(&body);
        let _ = bench.run(&gzip(&body));
        let _ = bench.run(&Tar::default().entry(b'x', "x", &body).file("x", "").gz());
    }
}
