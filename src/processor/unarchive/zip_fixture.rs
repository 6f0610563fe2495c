//! Zip archives for the tests of `unarchive`.
//!
//! Responsible for: zip bytes that no tool would write, told one by one.
//! Not responsible for: what is expected of them.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::fixture::manifest;

/// What an archive tells of a member in one of two places.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u32,
    pub(super) size: u32,
    pub(super) extra: Vec<u8>,
}

/// A member. What is told of it is true until somebody changes it.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) local: Told,
    pub(super) central: Told,
    /// The content as it lies in the archive.
    pub(super) data: Vec<u8>,
    /// What follows it.
    pub(super) behind: Vec<u8>,
    pub(super) attributes: u32,
    /// Where the directory says that it begins, if that is not where it does.
    pub(super) start: Option<u32>,
}

impl Member {
    /// A file, deflated.
    pub(super) fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content.as_ref()).unwrap();
        Self::new(name.as_ref(), content.as_ref(), 8, encoder.finish().unwrap())
    }

    /// A file as it is.
    pub(super) fn stored(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self::new(name.as_ref(), content.as_ref(), 0, content.as_ref().to_vec())
    }

    fn new(name: &[u8], content: &[u8], method: u16, data: Vec<u8>) -> Self {
        let told = Told {
            name: name.to_vec(),
            flags: 0,
            method,
            crc: crc(content),
            packed: data.len() as u32,
            size: content.len() as u32,
            extra: Vec::new(),
        };
        let (local, central) = (told.clone(), told);
        Self { local, central, data, behind: Vec::new(), attributes: 0, start: None }
    }

    /// The same after a change.
    pub(super) fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same with a change in both places.
    pub(super) fn told(self, change: impl Fn(&mut Told)) -> Self {
        self.but(|member| {
            change(&mut member.local);
            change(&mut member.central);
        })
    }

    /// The same, with checksum and sizes behind the content only.
    pub(super) fn streamed(self, signed: bool, wide: bool) -> Self {
        self.told(|told| told.flags |= 8).but(|member| {
            let Told { crc, packed, size, .. } = member.central;
            (member.local.crc, member.local.packed, member.local.size) = (0, 0, 0);
            let mut behind = if signed { b"PK\x07\x08".to_vec() } else { Vec::new() };
            behind.extend_from_slice(&crc.to_le_bytes());
            for number in [packed, size] {
                behind.extend_from_slice(&number.to_le_bytes());
                behind.extend_from_slice(if wide { &[0; 4] } else { &[] });
            }
            member.behind = behind;
        })
    }
}

/// The checksum of some content.
pub(super) fn crc(content: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(content);
    crc.sum()
}

/// The end of an archive.
pub(super) struct End {
    /// What stands in front of the end record.
    pub(super) before: Vec<u8>,
    pub(super) disk: u16,
    pub(super) entries: u16,
    pub(super) size: u32,
    pub(super) start: u32,
    pub(super) comment: Vec<u8>,
    /// Length of the comment, if it is not that.
    pub(super) comment_length: Option<u16>,
    /// What stands behind it.
    pub(super) behind: Vec<u8>,
}

impl End {
    /// Adds a zip64 end record with these numbers, and what points to it.
    pub(super) fn wide(&mut self, entries: u64, size: u64, start: u64) {
        let at = self.start + self.size;
        self.before.extend_from_slice(b"PK\x06\x06");
        self.before.extend_from_slice(&44_u64.to_le_bytes());
        self.before.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [entries, entries, size, start] {
            self.before.extend_from_slice(&number.to_le_bytes());
        }
        self.before.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        self.before.extend_from_slice(&u64::from(at).to_le_bytes());
        self.before.extend_from_slice(&[1, 0, 0, 0]);
    }
}

/// An archive of these members.
pub(super) fn zip(members: &[Member]) -> Vec<u8> {
    zip_but(members, |_end| {})
}

/// An archive of these members with a change of its end.
pub(super) fn zip_but(members: &[Member], change: impl FnOnce(&mut End)) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let start = member.start.unwrap_or(bytes.len() as u32);
        bytes.extend_from_slice(b"PK\x03\x04\x14\0");
        tell(&mut bytes, &member.local);
        bytes.extend_from_slice(&member.local.name);
        bytes.extend_from_slice(&member.local.extra);
        bytes.extend_from_slice(&member.data);
        bytes.extend_from_slice(&member.behind);
        directory.extend_from_slice(b"PK\x01\x02\x14\x03\x14\0");
        tell(&mut directory, &member.central);
        // No comment, the first disk, no internal attributes.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&member.attributes.to_le_bytes());
        directory.extend_from_slice(&start.to_le_bytes());
        directory.extend_from_slice(&member.central.name);
        directory.extend_from_slice(&member.central.extra);
    }
    let mut end = End {
        before: Vec::new(),
        disk: 0,
        entries: members.len() as u16,
        size: directory.len() as u32,
        start: bytes.len() as u32,
        comment: Vec::new(),
        comment_length: None,
        behind: Vec::new(),
    };
    change(&mut end);
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(&end.before);
    bytes.extend_from_slice(b"PK\x05\x06");
    for number in [end.disk, end.disk, end.entries, end.entries] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&end.size.to_le_bytes());
    bytes.extend_from_slice(&end.start.to_le_bytes());
    let length = end.comment_length.unwrap_or(end.comment.len() as u16);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&end.comment);
    bytes.extend_from_slice(&end.behind);
    bytes
}

/// The fields that a local header and a directory entry have in common.
fn tell(bytes: &mut Vec<u8>, told: &Told) {
    bytes.extend_from_slice(&told.flags.to_le_bytes());
    bytes.extend_from_slice(&told.method.to_le_bytes());
    // No time.
    bytes.extend_from_slice(&[0; 4]);
    for number in [told.crc, told.packed, told.size] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&(told.name.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(told.extra.len() as u16).to_le_bytes());
}

/// The members of [`super::fixture::good`].
pub(super) fn good_members() -> Vec<Member> {
    vec![
        Member::stored("d/", ""),
        Member::file("a.csv", "a,b\r\n1,2\r\n"),
        Member::stored("b.csv", ""),
        Member::file("manifest.json", manifest(&["b.csv", "a.csv", "c.csv"])),
    ]
}
