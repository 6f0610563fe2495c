//! Archives, spoilt: each is refused without a trace, or stays within the caps.

use proptest::prelude::*;

use super::*;
use crate::processor::unarchive::zip_fixture::{self, good_members, zip};
use crate::testing::mutation::{Words, cases, noise, spoilt};

const WORDS: Words = &[
    b"../",
    b"/etc/passwd",
    b"\\..\\",
    b"ustar\x0000",
    b"ustar  \0",
    b"././@LongLink",
    b"PaxHeader",
    b"20 path=../../harm\n\n",
    b"12 size=0099\n",
    b"23 GNU.sparse.major=1\n",
    b"00000000000\0",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\0\xff\xff\xff\xff",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x07\x08",
    b"\xff\xff\xff\xff",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\x01\0\x10\0",
    b"manifest.json",
    b"a.csv",
];

fn tars() -> Vec<Vec<u8>> {
    let long = format!("{}/pod.csv", "d".repeat(150));
    let extended = Tar::default()
        .pax(b'g', &[("comment", b"c")])
        .pax(b'x', &[("path", long.as_bytes()), ("size", b"3")])
        .file("x", "abc")
        .entry(b'L', "././@LongLink", format!("{long}.gz\0"))
        .file("y", [b'y'; 700])
        .file("manifest.json", manifest(&[&long]));
    vec![good().end(), extended.end()]
}

fn zips() -> Vec<Vec<u8>> {
    let streamed = good_members().into_iter().map(|member| member.streamed(true, false));
    let stored = zip_fixture::Member::stored("x", [b'x'; 300]);
    let wide = zip_fixture::zip_but(&[stored], |end| {
        end.wide(u64::from(end.entries), u64::from(end.size), u64::from(end.start));
    });
    vec![zip(&good_members()), zip(&streamed.collect::<Vec<_>>()), wide]
}

/// Makes the checksum of everything that looks like a header right again, so that what is spoilt
/// in it is looked at.
fn mend_checksums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Runs a node over an archive that may be anything.
fn refused_or_within_the_caps(bench: &Bench, body: &[u8]) -> Result<(), TestCaseError> {
    let mut parts = bench.parts();
    (parts.index, parts.members) = (None, None);
    let limits = parts.limits;
    match run(parts, body) {
        Ok(sink) => {
            let members = sink.emitted.iter().filter(|(port, _)| *port == MEMBERS);
            let mut names = HashSet::new();
            let mut total = 0;
            for (_, record) in members {
                let name = json(record)["file"]["name"].as_str().unwrap_or_default().to_owned();
                let leads_out = name.starts_with('/') || name.split('/').any(|part| part == "..");
                prop_assert!(!leads_out && !name.contains(['\\', '\0']), "{name:?}");
                prop_assert!(names.insert(names::place(&name)), "{name:?} is there twice");
                let size = read(record).len() as u64;
                prop_assert!(size <= limits.entry, "{name:?} has {size} bytes");
                total += size;
            }
            prop_assert!(names.len() as u64 <= limits.entries && total <= limits.total);
        }
        Err(failure) => {
            let known = [FailureClass::BAD_ARCHIVE, FailureClass::TOO_LARGE];
            prop_assert!(matches!(failure, Failure::Poison { .. }), "{failure}");
            prop_assert!(failure.class().is_some_and(|class| known.contains(class)), "{failure}");
        }
    }
    prop_assert_eq!(bench.spool.budget().free(), ROOM, "room was kept");
    let left = std::fs::read_dir(bench.folder.path()).map_or(0, Iterator::count);
    prop_assert_eq!(left, 0, "a file was left");
    Ok(())
}

#[test]
fn the_seeds_are_archives() {
    let bench = Bench::new();
    for seed in tars().into_iter().chain(zips()) {
        let mut parts = bench.parts();
        (parts.index, parts.members) = (None, None);
        assert!(run(parts, &seed).is_ok_and(|sink| sink.emitted.len() > 1));
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn spoilt_tars_are_refused_or_stay_within_the_caps(mut tar in spoilt(tars(), WORDS)) {
        let bench = Bench::new();
        refused_or_within_the_caps(&bench, &tar)?;
        mend_checksums(&mut tar);
        refused_or_within_the_caps(&bench, &tar)?;
        refused_or_within_the_caps(&bench, &gzip(&tar))?;
    }

    #[test]
    fn spoilt_packings_are_refused_or_stay_within_the_caps(
        packed in spoilt(
            tars().iter().map(|tar| gzip(tar)).chain([named("rows.csv", "1,2\n")]).collect(),
            WORDS,
        ),
    ) {
        refused_or_within_the_caps(&Bench::new(), &packed)?;
    }

    #[test]
    fn spoilt_zips_are_refused_or_stay_within_the_caps(zip in spoilt(zips(), WORDS)) {
        refused_or_within_the_caps(&Bench::new(), &zip)?;
    }

    #[test]
    fn noise_is_refused_or_stays_within_the_caps(noise in noise(2_000)) {
        let bench = Bench::new();
        refused_or_within_the_caps(&bench, &noise)?;
        refused_or_within_the_caps(&bench, &gzip(&noise))?;
    }
}
