//! Responsible for: proving what comes out of zip archives that are fine, and that it is the same
//! as out of tar.
//! Not responsible for: archives that are not (`hostile_zip`).

use std::io::Write;

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};
use proptest::prelude::*;

use super::fixture::{Bench, ROOM, Sink, Tar, good, json, manifest, read, run};
use super::zip_fixture::{Member, good_members, zip, zip_but};
use super::*;

fn same(zip: &[u8]) {
    let bench = Bench::new();
    let wanted = bench.run(&good().gz()).unwrap();
    let sink = bench.run(zip).unwrap();
    assert_eq!(sink.files(), wanted.files());
    assert_eq!(sink.indexes(), wanted.indexes());
}

#[test]
fn listed_members_come_out_of_zip_as_they_do_of_tar() {
    let bench = Bench::new();
    let sink = bench.run(&zip(&good_members())).unwrap();
    let names: Vec<String> = sink.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b.csv", "a.csv"], "in the order of the list");
    assert_eq!(bench.skipped(), (1, 0));
    assert!(sink.progressed > 4);
    assert_eq!(sink.indexes().len(), 1);
    same(&zip(&good_members()));
    drop(sink);
    assert_eq!(bench.spool.budget().free(), ROOM);
}

#[test]
fn the_directory_may_list_members_in_another_order_than_they_lie() {
    let mut members = good_members();
    let starts: Vec<u32> = members
        .iter()
        .scan(0, |at, member| {
            let start = *at;
            *at += 30 + member.local.name.len() as u32 + member.data.len() as u32;
            Some(start)
        })
        .collect();
    // What the directory tells goes round, with its place; the content stays where it is.
    let told: Vec<_> = members.iter().map(|member| member.central.clone()).collect();
    let count = members.len();
    for (index, member) in members.iter_mut().enumerate() {
        let other = (index + 1) % count;
        (member.central, member.start) = (told[other].clone(), Some(starts[other]));
    }
    same(&zip(&members));
}

#[test]
fn sizes_may_come_behind_the_content_in_all_forms_that_tools_write() {
    for (signed, wide) in [(true, false), (false, false), (true, true), (false, true)] {
        let members: Vec<Member> =
            good_members().into_iter().map(|member| member.streamed(signed, wide)).collect();
        same(&zip(&members));
    }
}

#[test]
fn an_archive_may_have_a_comment_and_wide_numbers() {
    same(&zip_but(&good_members(), |end| end.comment = b"made by hand".to_vec()));
    same(&zip_but(&good_members(), |end| {
        end.wide(u64::from(end.entries), u64::from(end.size), u64::from(end.start));
    }));
    same(&zip_but(&good_members(), |end| {
        end.wide(u64::from(end.entries), u64::from(end.size), u64::from(end.start));
        (end.entries, end.size, end.start) = (u16::MAX, u32::MAX, u32::MAX);
    }));
    let wide = |member: Member| {
        member.told(|told| {
            let mut extra = vec![1, 0, 16, 0];
            extra.extend_from_slice(&u64::from(told.size).to_le_bytes());
            extra.extend_from_slice(&u64::from(told.packed).to_le_bytes());
            (told.size, told.packed, told.extra) = (u32::MAX, u32::MAX, extra);
        })
    };
    let members: Vec<Member> = good_members().into_iter().map(wide).collect();
    same(&zip(&members));
}

#[test]
fn names_outside_of_ascii_are_read_where_they_are_said_to_be_utf_8() {
    let bench = Bench::new();
    let name = "m\u{fc}ll.csv";
    let with = |member: Member| zip(&[member, Member::file("manifest.json", manifest(&[name]))]);
    let flagged = Member::file(name, "1").told(|told| told.flags |= 1 << 11);
    let mut again = vec![0x75, 0x70, 5 + name.len() as u8, 0, 1, 0, 0, 0, 0];
    again.extend_from_slice(name.as_bytes());
    let said_again = Member::file(name, "1").but(|member| member.central.extra = again);
    for member in [flagged, said_again] {
        let files = bench.run(&with(member)).unwrap().files();
        assert_eq!(files, [(name.to_owned(), "1".to_owned())]);
    }
}

#[test]
fn an_archive_without_members_is_one() {
    let bench = Bench::new();
    let mut parts = bench.parts();
    (parts.members, parts.index) = (None, None);
    let sink = run(parts, &zip(&[])).unwrap();
    assert_eq!((sink.files().len(), sink.indexes().len()), (0, 1));
}

/// Archives as the usual libraries write them: to files, and to streams that cannot go back.
#[test]
fn archives_of_a_library_are_read_whatever_it_was_told() {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let deflated = stored.compression_method(CompressionMethod::Deflated);
    for options in [stored, deflated, deflated.large_file(true), stored.unix_permissions(0o640)] {
        let mut seekable = ZipWriter::new(Cursor::new(Vec::new()));
        let mut streaming = ZipWriter::new_stream(Vec::new());
        for (name, content) in contents() {
            seekable.start_file(&name, options).unwrap();
            seekable.write_all(&content).unwrap();
            streaming.start_file(&name, options).unwrap();
            streaming.write_all(&content).unwrap();
        }
        seekable.add_directory("d", options).unwrap();
        same_contents(&seekable.finish().unwrap().into_inner());
        same_contents(&streaming.finish().unwrap().into_inner());
    }
}

fn contents() -> Vec<(String, Vec<u8>)> {
    let large: Vec<u8> = (0..80_000_u32).map(|index| (index % 251) as u8).collect();
    let listed = manifest(&["a.csv", "large.csv"]);
    vec![
        ("a.csv".to_owned(), b"1,2\n".to_vec()),
        ("large.csv".to_owned(), large),
        ("manifest.json".to_owned(), listed),
    ]
}

fn same_contents(zip: &[u8]) {
    let bench = Bench::new();
    let tar =
        contents().into_iter().fold(Tar::default(), |tar, (name, content)| tar.file(name, content));
    assert_eq!(told(&bench.run(zip).unwrap()), told(&bench.run(&tar.gz()).unwrap()));
}

/// Everything that leaves the node: port, fields, digest and content.
fn told(sink: &Sink) -> Vec<(Port, serde_json::Value, Option<Digest>, Vec<u8>)> {
    let told = sink.emitted.iter().map(|(port, record)| match &record.body {
        Body::Blob(blob) => (*port, json(record), blob.digest(), read(record)),
        _ => (*port, json(record), None, Vec::new()),
    });
    told.collect()
}

proptest! {
    #[test]
    fn the_same_members_make_the_same_records_whatever_they_are_packed_in(
        members in prop::collection::btree_map(
            "[a-z]{1,8}",
            prop::collection::vec(any::<u8>(), 0..400),
            0..6,
        ),
        stored in any::<bool>(),
    ) {
        let bench = Bench::new();
        let all = || {
            let mut parts = bench.parts();
            (parts.members, parts.index) = (None, None);
            parts
        };
        let pack = |(name, content): (&String, &Vec<u8>)| {
            if stored { Member::stored(name, content) } else { Member::file(name, content) }
        };
        let packed: Vec<Member> = members.iter().map(pack).collect();
        let tar = members.iter().fold(Tar::default(), |tar, (name, content)| {
            tar.file(name, content)
        });
        let of_tar = run(all(), &tar.gz()).unwrap();
        let of_zip = run(all(), &zip(&packed)).unwrap();
        prop_assert_eq!(told(&of_zip), told(&of_tar));
    }
}
