//! Responsible for: one corpus of archives of every format that were made to hurt, run where there
//! is something to hurt; archives that only look dangerous; and archives cut short anywhere.
//! Not responsible for: every field of every header (`hostile`, `hostile_zip`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fixture::{Bench, ROOM, Sink, Tar, good, gzip, header, json, manifest, read, run};
use super::hostile::{BAD, LARGE};
use super::tests::Slow;
use super::zip_fixture::{self, Told, crc, good_members, zip, zip_but};
use super::*;
use crate::spool::DiskBudget;

type Zipped = zip_fixture::Member;

/// A folder with the spool in it, and beside that a file that archives try to get at.
struct Place {
    folder: tempfile::TempDir,
    bench: Bench,
    spool: Spool,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("victim.txt"), "unharmed").unwrap();
        let spool = Spool::new(folder.path().join("spool"), DiskBudget::new(ROOM)).unwrap();
        Self { folder, bench: Bench::new(), spool }
    }

    fn victim(&self) -> PathBuf {
        self.folder.path().join("victim.txt")
    }

    fn parts(&self) -> UnarchiveParts {
        UnarchiveParts { spool: self.spool.clone(), ..self.bench.parts() }
    }

    /// Everything below the folder, and what is in it.
    fn contents(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let (path, kind) = entry.map(|it| (it.path(), it.file_type().unwrap())).unwrap();
                if kind.is_dir() {
                    folders.push(path.clone());
                }
                let content = kind.is_file().then(|| std::fs::read(&path).unwrap());
                found.insert(path, content);
            }
        }
        found
    }
}

/// A link of this kind to `target`, under a header as tools write it.
fn link(tar: Tar, kind: u8, name: &str, target: &Path) -> Tar {
    let mut header = header(kind, name.as_bytes(), 0);
    let target = target.as_os_str().as_encoded_bytes();
    header.set_link_name_literal(&target[..target.len().min(100)]).unwrap();
    header.set_cksum();
    tar.raw(header.as_bytes())
}

/// A good archive with something in the middle, packed.
fn gz(middle: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    let first = Tar::default().file("a.csv", "1\n");
    middle(first).file("manifest.json", manifest(&["a.csv"])).gz()
}

/// The same in a zip archive.
fn zipped(middle: Zipped) -> Vec<u8> {
    let listed = Zipped::file("manifest.json", manifest(&["a.csv"]));
    zip(&[Zipped::file("a.csv", "1\n"), middle, listed])
}

/// What an archive is, its bytes, and the class and words that it is refused with.
type Case = (&'static str, Vec<u8>, FailureClass, &'static str);

fn bad(what: &'static str, body: Vec<u8>, words: &'static str) -> Case {
    (what, body, BAD, words)
}

fn large(what: &'static str, body: Vec<u8>, words: &'static str) -> Case {
    (what, body, LARGE, words)
}

/// Archives that want something outside.
fn escapes(victim: &Path) -> Vec<Case> {
    let absolute = victim.to_str().unwrap();
    let path = absolute.as_bytes();
    vec![
        bad("up", gz(|t| t.file("../victim.txt", "harm")), "leads out"),
        bad("down and up", gz(|t| t.file("d/../../victim.txt", "harm")), "leads out"),
        bad("absolute", gz(|t| t.file(absolute, "harm")), "absolute"),
        bad("PAX up", gz(|t| t.pax(b'x', &[("path", b"../victim.txt")]).file("x", "")), "leads"),
        bad("PAX absolute", gz(|t| t.pax(b'x', &[("path", path)]).file("x", "")), "absolute"),
        bad("GNU up", gz(|t| t.entry(b'L', "L", "../victim.txt\0").file("x", "")), "leads out"),
        bad("soft link", gz(|t| link(t, b'2', "l", victim)), "is a symbolic link"),
        bad("through it", gz(|t| link(t, b'2', "l", victim).file("l/x", "")), "symbolic link"),
        bad("hard link", gz(|t| link(t, b'1', "l", victim)), "is a hard link"),
        bad("own link", gz(|t| link(t, b'1', "l", Path::new("a.csv"))), "is a hard link"),
        bad(
            "PAX link",
            gz(|t| link(t.pax(b'x', &[("linkpath", path)]), b'2', "l", Path::new("a.csv"))),
            "symbolic link",
        ),
        bad(
            "GNU link chain",
            gz(|t| link(t.entry(b'K', "K", absolute).entry(b'K', "K", "a"), b'2', "l", victim)),
            "symbolic link",
        ),
        bad("pipe", gz(|t| t.entry(b'6', "p", "")), "is a named pipe"),
        bad("disk", gz(|t| t.entry(b'4', "sda", "")), "is a block device"),
        bad("tty", gz(|t| t.entry(b'3', "tty", "")), "is a character device"),
        bad("unpacked name", gzip_named("../victim.txt"), "leads out"),
        bad("zip up", zipped(Zipped::file("../victim.txt", "harm")), "leads out"),
        bad("zip absolute", zipped(Zipped::file(absolute, "harm")), "absolute"),
        bad("zip backslash", zipped(Zipped::file("..\\victim.txt", "harm")), "backslash"),
        bad(
            "zip link",
            zipped(Zipped::stored("l", absolute).but(|it| it.attributes = 0o120_777 << 16)),
            "is a symbolic link",
        ),
        bad(
            "zip device",
            zipped(Zipped::stored("d", "").but(|it| it.attributes = 0o060_666 << 16)),
            "is a block device",
        ),
    ]
}

fn gzip_named(name: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::GzBuilder::new()
        .filename(name)
        .buf_read(&b"harm"[..], flate2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    packed
}

/// Archives that two readers read in two ways.
fn riddles() -> Vec<Case> {
    let whole = good().gz();
    let mut damaged = whole.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    let tar = good().open_ended();
    // Behind the directory, `a.csv` and `b.csv`.
    let (first, second) = tar.split_at(4 * 512);
    vec![
        bad("twice", gz(|t| t.file("a.csv", "2")), "two members of the name \"a.csv\""),
        bad("twice by dot", gz(|t| t.file("./a.csv", "2")), "two members of the name"),
        bad("twice by slash", gz(|t| t.file("d/b", "").file("d//b", "")), "two members"),
        bad("twice by both", gz(|t| t.file("d/b", "").file("./d/./b", "")), "two members"),
        bad(
            "twice by PAX",
            gz(|t| t.pax(b'x', &[("path", b"a.csv")]).file("o", "")),
            "two members",
        ),
        bad("zip twice", zipped(Zipped::file("a.csv", "2")), "two members of the name"),
        bad("zip twice by dot", zipped(Zipped::file("./a.csv", "2")), "two members of the name"),
        bad("NUL", gz(|t| t.entry(b'L', "L", b"a\0b\0").file("x", "")), "has a NUL"),
        bad("no UTF-8", gz(|t| t.file(b"\xc3\x28.csv", "")), "not UTF-8"),
        bad("zip no UTF-8", zipped(Zipped::file(b"\xc3\x28.csv", "")), "not UTF-8"),
        bad("long", gz(|t| t.entry(b'L', "L", [b'n'; 4097]).file("x", "")), "4096 bytes"),
        bad("sparse", gz(|t| t.entry(b'S', "s", "")), "is a sparse file"),
        bad(
            "PAX sparse",
            gz(|t| t.pax(b'x', &[("GNU.sparse.size", b"9")]).file("s", "")),
            "sparse",
        ),
        bad(
            "PAX twice",
            gz(|t| t.pax(b'x', &[("size", b"0"), ("size", b"0")]).file("x", "")),
            "two",
        ),
        bad("PAX for all", gz(|t| t.pax(b'g', &[("path", b"x")])), "for all members"),
        bad("PAX hides", gz(|t| t.pax(b'x', &[("size", b"0")]).file("x", [b'y'; 512])), "damaged"),
        bad("second archive", gzip(&[good().end(), good().end()].concat()), "behind the end"),
        bad("trailing garbage", [&whole[..], b"garbage, more of it"].concat(), "damaged gzip"),
        bad("trailing zeros", [&whole[..], &[0; 512]].concat(), "damaged gzip"),
        bad("wrong checksum", damaged, "damaged gzip"),
        bad("first piece", gzip(first), "no member manifest.json"),
        bad("pieces without end", [gzip(first), gzip(second)].concat(), "no end mark"),
        bad("zip in front", [b"x".to_vec(), zip(&good_members())].concat(), "not gzip"),
        bad("zip behind", zip_but(&good_members(), |end| end.behind = vec![0]), "behind the end"),
        bad("zip differs", zipped(Zipped::file("x", "1").but(|it| it.local.size += 1)), "two ways"),
    ]
}

/// Archives that want all of the memory, the disk or the time.
fn bombs() -> Vec<Case> {
    let zeros = vec![0; 4 << 20];
    let quoted = Zipped::file("a.csv", vec![b' '; 90_000]);
    let again = |name: &str| {
        quoted.clone().but(|it| {
            (it.central.name, it.start) = (name.into(), Some(0));
            (it.data, it.behind) = (Vec::new(), Vec::new());
        })
    };
    let small = |told: &mut Told| (told.size, told.crc) = (9, crc(&[0; 9]));
    let flood = (0..11).fold(Tar::default(), |tar, n| tar.file(format!("{n}"), ""));
    let claim = |kind, size| gzip(&Tar::default().claim(kind, "x", size).end());
    vec![
        large("member", gz(|t| t.file("x", &zeros)), "more than 100000 bytes"),
        large("behind the end", gzip(&zeros), "more than 100 times its size"),
        large("many", flood.gz(), "more than 10 members"),
        large("claim", claim(b'0', 1 << 62), "more than 100000 bytes"),
        large("long name", claim(b'L', 1 << 33), "extension header"),
        large("PAX header", claim(b'x', (64 << 10) + 1), "extension header"),
        large(
            "PAX size",
            gz(|t| t.pax(b'x', &[("size", b"9999999")]).file("x", "")),
            "100000 bytes",
        ),
        bad("headers", gz(|t| (0..9).fold(t, |t, _| t.entry(b'K', "K", "k"))), "more than 8 ext"),
        large("zip member", zipped(Zipped::file("x", &zeros)), "more than 100000 bytes"),
        bad("zip lie", zipped(Zipped::file("x", &zeros).told(small)), "more content than"),
        bad("zip overlap", zip(&[quoted.clone(), again("b"), again("c")]), "reaches into"),
        large(
            "zip many",
            zip(&(0..11).map(|n| Zipped::stored(format!("{n}"), "")).collect::<Vec<_>>()),
            "more than 10 members",
        ),
    ]
}

#[test]
fn nothing_in_the_corpus_gets_out_stays_or_takes_more_than_it_may() {
    let place = Place::new();
    let before = place.contents();
    let corpus = [escapes(&place.victim()), riddles(), bombs()].concat();
    assert!(corpus.len() >= 50, "{}", corpus.len());
    for (what, body, class, words) in corpus {
        let Err(failure) = run(place.parts(), &body) else { panic!("{what}: accepted") };
        assert_eq!(failure.class(), Some(&class), "{what}: {failure}");
        assert!(failure.why().contains(words), "{what}: {failure}, expected {words:?}");
        assert!(!failure.why().contains('\0') && failure.why().len() < 1_000, "{what}: {failure}");
        assert_eq!(place.spool.budget().free(), ROOM, "{what}: room was kept");
        assert_eq!(place.contents(), before, "{what}: something was touched");
    }
}

/// Names of the members, and their contents.
fn members(sink: &Sink) -> Vec<(String, Vec<u8>)> {
    let members = sink.emitted.iter().filter(|(port, _)| *port == MEMBERS);
    let named = members.map(|(_, record)| {
        (json(record)["file"]["name"].as_str().unwrap().to_owned(), read(record))
    });
    named.collect()
}

/// Runs a node that emits everything over `body`.
fn all_of(place: &Place, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let parts = UnarchiveParts { index: None, members: None, ..place.parts() };
    members(&run(parts, body).unwrap_or_else(|failure| panic!("{failure}")))
}

#[test]
fn what_only_looks_dangerous_comes_out_as_it_is() {
    let place = Place::new();
    let before = place.contents();
    let one = |name: &str, content: &[u8]| vec![(name.to_owned(), content.to_vec())];
    let alone = |tar: Tar| all_of(&place, &tar.gz());

    // Archives in archives stay packed, whatever is in them.
    let bomb = gzip(&vec![0; 4 << 20]);
    assert_eq!(alone(Tar::default().file("in.tar.gz", &bomb)), one("in.tar.gz", &bomb));
    let nested = zip(&[Zipped::stored("in.zip", zip(&good_members()))]);
    assert_eq!(all_of(&place, &nested), one("in.zip", &zip(&good_members())));

    for name in ["a\nb", "a\r\nb: c", "\u{1b}[2J", "a\tb", " a ", "...", "~root", "$(id)", "-rf"] {
        assert_eq!(alone(Tar::default().file(name, "1")), one(name, b"1"), "{name:?}");
        let zipped = zip(&[Zipped::file(name, "1")]);
        assert_eq!(all_of(&place, &zipped), one(name, b"1"), "{name:?}");
    }
    let long = "n".repeat(4096);
    let told = Tar::default().entry(b'L', "L", &long).file("x", "1");
    assert_eq!(alone(told), one(&long, b"1"));

    let cased = Tar::default().file("A.csv", "1").file("a.csv", "2");
    let both = [one("A.csv", b"1"), one("a.csv", b"2")].concat();
    assert_eq!(alone(cased), both, "names are exact");

    let comment = vec![b'c'; 60 << 10];
    let told = Tar::default().pax(b'g', &[("comment", &comment)]);
    let told = told.pax(b'x', &[("linkpath", b"/etc/passwd"), ("mtime", b"1")]);
    assert_eq!(alone(told.entry(b'K', "K", "/etc/passwd").file("x", "1")), one("x", b"1"));
    let padded = gzip(&[good().end(), vec![0; 40 * 512]].concat());
    assert_eq!(all_of(&place, &padded).len(), 3);
    assert_eq!(place.contents(), before);
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused_or_whole() {
    let place = Place::new();
    let tar = good().end();
    let bodies = [
        tar.clone(),
        good().gz(),
        tar.chunks(512).flat_map(gzip).collect(),
        [gzip(b""), gzip(&tar[..1024]), gzip(b""), gzip(&tar[1024..]), gzip(b"")].concat(),
        zip(&good_members()),
    ];
    for (form, whole) in bodies.iter().enumerate() {
        let wanted = members(&run(place.parts(), whole).unwrap());
        // Around the borders of blocks nothing is left out.
        let is_tested = |cut: usize| form > 0 || cut.is_multiple_of(16) || (cut + 2) % 512 < 4;
        for cut in (0..whole.len()).filter(|cut| is_tested(*cut)) {
            match run(place.parts(), &whole[..cut]) {
                Ok(sink) => assert_eq!(members(&sink), wanted, "form {form}, {cut} bytes"),
                Err(failure) => {
                    assert_eq!(failure.class(), Some(&BAD), "form {form}, {cut} bytes: {failure}");
                }
            }
            assert_eq!(place.spool.budget().free(), ROOM);
        }
    }
}

#[test]
fn packed_members_without_content_cost_time_like_all_others() {
    let place = Place::new();
    let empty: Vec<u8> = std::iter::repeat_n(gzip(b""), 5_000).flatten().collect();
    let sink = run(place.parts(), &[&empty[..], &good().gz()].concat()).unwrap();
    assert!(sink.progressed > 5_000, "each is a sign of progress");
    let parts = UnarchiveParts { clock: Slow::shared(1), ..place.parts() };
    let failure = run(parts, &empty).err().unwrap();
    assert_eq!(failure.class(), Some(&LARGE));
    assert!(failure.why().contains("not unpacked after 60 s"), "{failure}");
}
