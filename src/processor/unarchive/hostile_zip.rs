//! Responsible for: proving that damaged and hostile zip archives are refused as a whole, in words,
//! with nothing emitted, nothing kept and nothing left on the disk.
//! Not responsible for: archives that are fine (`zip_tests`), or those that are no zip (`hostile`).

use proptest::prelude::*;

use super::fixture::{Bench, ROOM, manifest, run};
use super::hostile::{BAD, LARGE, refused};
use super::zip_fixture::{End, Member, Told, crc, good_members, zip, zip_but};

/// A good archive with something in the middle.
fn with(middle: Member) -> Vec<u8> {
    let listed = Member::file("manifest.json", manifest(&["a.csv"]));
    zip(&[Member::file("a.csv", "1\n"), middle, listed])
}

fn bad(bench: &Bench, what: &str, middle: Member, words: &str) {
    refused(bench, what, &with(middle), &BAD, words);
}

#[test]
fn names_that_lead_elsewhere_reject_the_archive_by_name() {
    let bench = Bench::new();
    let table: [(&[u8], &str); 12] = [
        (b"../../../../tmp/x.csv", r#"member "../../../../tmp/x.csv" has a name that leads out"#),
        (b"a/../../x.csv", "leads out"),
        (b"..", "leads out"),
        (b"../", "leads out"),
        (b"/etc/passwd", r#"member "/etc/passwd" has an absolute name"#),
        (b"/etc/", "absolute"),
        (b"a\\..\\b.csv", "backslash"),
        (b"C:\\x", "backslash"),
        (b"a\0b", "NUL"),
        (b"x\xff.csv", "not UTF-8"),
        (b"", "no name"),
        (b"a/.", "no name"),
    ];
    for (name, words) in table {
        bad(&bench, words, Member::stored(name, ""), words);
    }
    bad(&bench, "5000 bytes", Member::stored([b'n'; 5000], ""), "more than 4096 bytes");
    let guessed = Member::file("m\u{fc}ll.csv", "1");
    bad(&bench, "CP437 or UTF-8", guessed, "in an unknown character set");
}

#[test]
fn everything_but_files_and_directories_rejects_the_archive_by_name() {
    let bench = Bench::new();
    let table = [
        ("pod.csv", 0o120_777 << 16, "is a symbolic link"),
        ("pod.csv", 0x400, "is a symbolic link"),
        ("pod.csv", 0o020_666 << 16, "is a character device"),
        ("pod.csv", 0o060_666 << 16, "is a block device"),
        ("pod.csv", 0o010_666 << 16, "is a named pipe"),
        ("pod.csv", 0o140_666 << 16, "is a socket"),
        ("pod.csv", 0o170_000 << 16, "is of an unknown type"),
        ("pod.csv", 0o040_755 << 16, "is a directory with a file's name"),
        ("pod.csv", 0x10, "is a directory with a file's name"),
        ("pod/", 0o100_644 << 16, "is a file with a directory's name"),
        ("pod/", 0o120_777 << 16, "is a symbolic link"),
    ];
    for (name, attributes, words) in table {
        let member = Member::stored(name, "").but(|member| member.attributes = attributes);
        bad(&bench, words, member, &format!("member {name:?} {words}"));
    }
    bad(&bench, "hidden", Member::stored("d/", "hidden"), "directory \"d/\" has content");
    let packed = Member::file("d/", "hidden").but(|member| member.central.size = 0);
    bad(&bench, "packed", packed, "described in two ways");
    let lying = Member::file("d/", "hidden").told(|told| told.size = 0);
    bad(&bench, "lying", lying, "has more content than the archive says");
}

#[test]
fn two_members_of_one_name_reject_the_archive() {
    let bench = Bench::new();
    let words = "two members of the name \"a.csv\"";
    bad(&bench, "twice", Member::file("a.csv", "2\n"), words);
    let index = Member::file("manifest.json", manifest(&[]));
    bad(&bench, "index", index, "two members of the name \"manifest.json\"");
}

#[test]
fn what_cannot_be_read_says_so() {
    let bench = Bench::new();
    for flag in [0x0001, 0x0040, 0x2000] {
        let member = Member::file("x", "1").told(|told| told.flags |= flag);
        bad(&bench, "encrypted", member, "member \"x\" is encrypted");
    }
    let aes = Member::file("x", "1").told(|told| told.method = 99);
    bad(&bench, "AES", aes, "member \"x\" is encrypted");
    let patch = Member::file("x", "1").told(|told| told.flags |= 0x0020);
    bad(&bench, "patch", patch, "is a patch for another file");
    for method in [1, 6, 9, 12, 14, 93, 95, 98] {
        let member = Member::file("x", "1").told(|told| told.method = method);
        let words = format!("is packed by method {method}, only stored and deflated");
        bad(&bench, "method", member, &words);
    }
}

#[test]
fn a_member_that_two_readers_read_in_two_ways_rejects_the_archive() {
    let bench = Bench::new();
    type Change = fn(&mut Member);
    let table: [(&str, Change); 9] = [
        ("name", |member| member.local.name = b"y".to_vec()),
        ("longer name", |member| member.local.name = b"xy".to_vec()),
        ("method", |member| member.local.method = 0),
        ("flags", |member| member.local.flags = 1),
        ("sizes behind", |member| member.local.flags = 8),
        ("checksum", |member| member.local.crc ^= 1),
        ("size", |member| member.local.size += 1),
        ("packed", |member| member.local.packed += 1),
        ("unicode name", |member| {
            member.local.extra = vec![0x75, 0x70, 6, 0, 1, 0, 0, 0, 0, b'y'];
        }),
    ];
    for (what, change) in table {
        let member = Member::file("x", "some content").but(change);
        bad(&bench, what, member, "member \"x\" is described in two ways");
    }
    let second = Member::file("x", "1").told(|told| {
        told.extra = vec![0x75, 0x70, 6, 0, 1, 0, 0, 0, 0, b'y'];
    });
    bad(&bench, "second name", second, "has a second name");
    for (signed, wide) in [(true, false), (false, false), (true, true), (false, true)] {
        let streamed = Member::file("x", "1").streamed(signed, wide).but(|member| {
            *member.behind.last_mut().unwrap() ^= 1;
        });
        bad(&bench, "behind", streamed, "member \"x\" is described in two ways");
    }
    let unsigned = Member::file("x", "1").streamed(true, false).but(|member| member.behind[0] = 0);
    bad(&bench, "signature", unsigned, "member \"x\" is described in two ways");
}

#[test]
fn content_that_does_not_fit_what_is_told_of_it_rejects_the_archive() {
    let bench = Bench::new();
    let text = "some content of some length";
    for member in [Member::file("x", text), Member::stored("x", text)] {
        let told = |change: fn(&mut Told)| member.clone().told(change);
        bad(&bench, "less told", told(|told| told.size -= 1), "more content than the archive says");
        bad(&bench, "more told", told(|told| told.size += 1), "less content than the archive says");
        bad(&bench, "checksum", told(|told| told.crc ^= 1), "does not fit its checksum");
    }
    let cut = Member::file("x", text).but(|member| {
        member.data.pop();
        (member.local.packed, member.central.packed) =
            (member.local.packed - 1, member.central.packed - 1);
    });
    bad(&bench, "cut", cut, "member \"x\" is cut short");
    let longer = Member::file("x", text).but(|member| {
        member.data.push(0);
        (member.local.packed, member.central.packed) =
            (member.local.packed + 1, member.central.packed + 1);
    });
    bad(&bench, "longer", longer, "member \"x\" has data behind its end");
    let garbage = Member::file("x", text).but(|member| member.data.fill(0xff));
    bad(&bench, "garbage", garbage, "member \"x\" is damaged");
}

#[test]
fn bytes_of_no_member_and_bytes_of_two_reject_the_archive() {
    let bench = Bench::new();
    let gap = Member::stored("x", "1").but(|member| member.behind = vec![0; 7]);
    bad(&bench, "gap", gap, "member \"x\" is not followed by the next one");
    let hidden =
        Member::stored("x", "1").but(|member| member.behind = b"PK\x03\x04hidden".to_vec());
    bad(&bench, "hidden", hidden, "member \"x\" is not followed by the next one");
    let reaching = Member::stored("x", "1").but(|member| {
        (member.local.packed, member.central.packed) = (60, 60);
        (member.local.size, member.central.size) = (60, 60);
    });
    bad(&bench, "reaching", reaching, "member \"x\" reaches into the next one");

    // One member for many names: small archives become huge ones that way.
    let quoted = Member::file("a.csv", vec![b' '; 90_000]);
    let again = |name: &str| {
        quoted.clone().but(|member| {
            (member.central.name, member.start) = (name.into(), Some(0));
            (member.data, member.behind) = (Vec::new(), Vec::new());
        })
    };
    let bomb = zip(&[quoted.clone(), again("b.csv"), again("c.csv")]);
    refused(&bench, "one for all", &bomb, &BAD, "reaches into the next one");

    let mut in_front = b"#!/bin/sh\n".to_vec();
    in_front.extend_from_slice(&zip(&good_members()));
    refused(&bench, "in front", &in_front, &BAD, "not gzip");
    let shifted = zip_but(&good_members(), |end| end.start += 1);
    refused(&bench, "shifted", &shifted, &BAD, "in front of the end record");
}

#[test]
fn an_end_that_two_readers_find_in_two_places_rejects_the_archive() {
    let bench = Bench::new();
    let end = |what: &str, change: fn(&mut End), words: &str| {
        refused(&bench, what, &zip_but(&good_members(), change), &BAD, words);
    };
    end("behind", |end| end.behind = b"x".to_vec(), "data behind the end of the archive");
    end("comment", |end| end.comment_length = Some(9), "cut short");
    end("two ends", |end| end.comment = b"PK\x05\x06".to_vec(), "cut short");
    let second = |end: &mut End| {
        end.comment = zip(&[Member::stored("other", "")]);
    };
    end("an archive in the comment", second, "in front of the end record");
    end("between", |end| end.before = b"x".to_vec(), "in front of the end record");
    end("disks", |end| end.disk = 1, "several files");
    end("entries", |end| end.entries += 1, "fewer entries in the directory");
    end("entries", |end| end.entries -= 1, "more in the directory than its entries");
    end("size", |end| end.size -= 1, "in front of the end record");
    end("no wide end", |end| end.start = u32::MAX, "a zip64 end record that is not there");
    let differing = |end: &mut End| {
        end.wide(u64::from(end.entries) - 1, u64::from(end.size), u64::from(end.start));
    };
    end("two ends that differ", differing, "two end records that differ");
    let elsewhere = |end: &mut End| {
        end.wide(u64::from(end.entries), u64::from(end.size), u64::from(end.start));
        end.before.insert(0, 0);
    };
    end("a wide end elsewhere", elsewhere, "a zip64 end record at another place");
}

#[test]
fn caps_hold_for_zip_archives_as_well() {
    let bench = Bench::new();
    let many: Vec<Member> = (0..11).map(|n| Member::stored(format!("{n}"), "")).collect();
    refused(&bench, "eleven members", &zip(&many), &LARGE, "more than 10 members");
    let claimed = zip_but(&good_members(), |end| {
        end.wide(1 << 40, u64::from(end.size), u64::from(end.start));
        end.entries = u16::MAX;
    });
    refused(&bench, "a claim of 2^40 members", &claimed, &LARGE, "more than 10 members");
    let large = with(Member::file("x", vec![b'x'; 100_001]));
    refused(&bench, "a member over the cap", &large, &LARGE, "has more than 100000 bytes");
    let index = zip(&[Member::file("manifest.json", vec![b' '; 2_001])]);
    refused(&bench, "an index over its cap", &index, &LARGE, "has more than 2000 bytes");
}

#[test]
fn bombs_are_stopped_by_what_they_really_unpack_to() {
    let bench = Bench::new();
    let parts = |total: u64, ratio: u64| {
        let mut parts = bench.parts();
        (parts.limits.entry, parts.limits.total, parts.limits.ratio) = (u64::MAX, total, ratio);
        parts
    };
    let bomb = zip(&[Member::file("x", vec![0; 4 << 20])]);
    let failure = run(parts(3 << 20, 100), &bomb).err().unwrap();
    assert_eq!(failure.class(), Some(&LARGE));
    assert!(failure.why().contains("more than 100 times its size"), "{failure}");
    let failure = run(parts(3 << 20, u64::MAX), &bomb).err().unwrap();
    assert!(failure.why().contains("more than 3145728 bytes"), "{failure}");
    // A bomb that says that it is small is found out at the first byte too many.
    let small = Member::file("x", vec![0; 4 << 20]).told(|told| {
        (told.size, told.crc) = (10, crc(&[0; 10]));
    });
    let failure = run(parts(3 << 20, 100), &zip(&[small])).err().unwrap();
    assert!(failure.why().contains("more content than the archive says"), "{failure}");
    assert_eq!(bench.spool.budget().free(), ROOM);
}

#[test]
fn an_archive_that_is_cut_short_is_refused_wherever_it_was_cut() {
    let bench = Bench::new();
    let whole = zip(&good_members());
    for keep in 4..whole.len() {
        let Err(failure) = bench.run(&whole[..keep]) else { panic!("{keep} bytes were accepted") };
        assert_eq!(failure.class(), Some(&BAD), "{keep} bytes: {failure}");
    }
    refused(&bench, "without its end", &whole[..whole.len() - 22], &BAD, "cut short");
}

proptest! {
    #[test]
    fn no_damage_of_a_byte_changes_what_comes_out(
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let bench = Bench::new();
        let whole = zip(&good_members());
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
        let _ = bench.run(&[&b"PK\x03\x04"[..], &body].concat());
        let member = Member::stored("x", "").but(|member| {
            (member.central.extra, member.local.extra) = (body.clone(), body.clone());
        });
        let _ = bench.run(&zip(&[member]));
        let _ = bench.run(&zip_but(&good_members(), |end| end.before = body));
    }
}
