//! The directory at the end of a zip archive.
//!
//! Responsible for: finding the one end record that every reader finds, with its zip64 twin,
//! listing the members in the order in which they lie in the archive, and rejecting those whose
//! names, kinds or packing are not wanted.
//! Not responsible for: whether the members themselves agree with it (`zip`).
//!
//! Names in brackets are sections of PKWARE's APPNOTE 6.3.10.

use std::io::Read;

use crate::processor::unarchive::input::Meter;
use crate::processor::unarchive::zip::record::{
    BEYOND_32, Extra, malformed, u16_at, u32_at, u64_at,
};
use crate::processor::unarchive::zip::{fill, read_at};
use crate::processor::unarchive::{ArchiveError, Packed, names};

/// Bytes of an end record without its comment (4.3.16).
const END: usize = 22;
/// Longest comment of an archive.
const MAX_COMMENT: u64 = u16::MAX as u64;
/// Bytes of what points to the zip64 end record (4.3.15).
const LOCATOR: usize = 20;
/// Bytes of a zip64 end record (4.3.14); there is a second version of it that nobody writes.
const END_64: usize = 56;
/// Bytes of a directory entry without what varies (4.3.12).
const HEADER: usize = 46;

/// Stands for "see the zip64 record" in 16 bits.
const BEYOND_16: u16 = u16::MAX;

/// Flags of an entry (4.4.4): encrypted in one of three ways.
const ENCRYPTED: u16 = 0x2041;
/// Its content is a patch.
const PATCHED: u16 = 0x0020;
/// Its checksum and sizes follow its content.
pub(super) const DESCRIBED_BEHIND: u16 = 0x0008;
/// Its name is UTF-8.
pub(super) const UTF_8: u16 = 0x0800;
/// Flags that change how content is read, and have to be the same in both places.
pub(super) const MEANINGFUL: u16 = ENCRYPTED | PATCHED | DESCRIBED_BEHIND;

/// Methods of packing (4.4.5).
pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;
const AES: u16 = 99;

/// What the directory says of a member.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its name, checked.
    pub(super) name: String,
    pub(super) is_directory: bool,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    /// Bytes in the archive.
    pub(super) packed: u64,
    /// Bytes of content.
    pub(super) size: u64,
    /// Where it begins.
    pub(super) start: u64,
    /// Where the next one begins, or the directory.
    pub(super) end: u64,
}

/// Where the directory lies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    entries: u64,
    start: u64,
    size: u64,
}

/// Lists the members, in the order in which they lie in the archive. They follow each other from
/// its first byte to the directory, so nothing lies in two of them, and nothing beside them.
pub(super) fn list(
    packed: &Packed,
    meter: &mut Meter<'_>,
    max_entries: u64,
) -> Result<Vec<Entry>, ArchiveError> {
    let place = find(packed)?;
    if place.entries > max_entries {
        let why = format!("too large: more than {max_entries} members");
        return Err(ArchiveError::TooLarge(why));
    }
    let mut directory = std::io::BufReader::new(packed.open_at(place.start).take(place.size));
    let mut entries = Vec::new();
    for _ in 0..place.entries {
        meter.count(0, None)?;
        entries.push(entry(&mut directory)?);
    }
    if fill(&mut directory, &mut [0])? > 0 {
        return Err(malformed("more in the directory than its entries"));
    }
    entries.sort_by_key(|entry| entry.start);
    let next: Vec<u64> = entries.iter().skip(1).map(|entry| entry.start).collect();
    for (entry, end) in entries.iter_mut().zip(next.into_iter().chain([place.start])) {
        entry.end = end;
    }
    if entries.first().map_or(place.start, |first| first.start) != 0 {
        return Err(malformed("data in front of the first member"));
    }
    Ok(entries)
}

/// Finds the directory. The last signature in the file is that of the end record, whatever a
/// reader does to find it; if it does not fit, some would take another one.
fn find(packed: &Packed) -> Result<Place, ArchiveError> {
    let length = packed.len();
    let tail_start = length.saturating_sub(END as u64 + MAX_COMMENT);
    let mut tail = vec![0; (length - tail_start) as usize];
    read_at(packed, tail_start, &mut tail)?;
    let found = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06");
    let found = found.ok_or_else(|| cut_short("it has no end record"))?;
    let end = tail.get(found..found + END).ok_or_else(|| cut_short("in its end record"))?;
    let behind = tail.len() - found - END;
    match usize::from(u16_at(end, 20)).cmp(&behind) {
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => return Err(cut_short("in its comment")),
        std::cmp::Ordering::Less => {
            return Err(ArchiveError::Bad("data behind the end of the archive".to_owned()));
        }
    }
    if [u16_at(end, 4), u16_at(end, 6)] != [0, 0] || u16_at(end, 8) != u16_at(end, 10) {
        return Err(malformed("spread over several files"));
    }
    let position = tail_start + found as u64;
    let (place, directory_end) = match find_64(packed, position, end)? {
        Some(place) => (place, position - (LOCATOR + END_64) as u64),
        None => (place(end)?, position),
    };
    if place.start.checked_add(place.size) != Some(directory_end) {
        return Err(malformed("a directory that does not lie in front of the end record"));
    }
    Ok(place)
}

/// What an end record says where there is no zip64 one.
fn place(end: &[u8]) -> Result<Place, ArchiveError> {
    let (entries, size, start) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
    if entries == BEYOND_16 || size == BEYOND_32 || start == BEYOND_32 {
        return Err(malformed("a zip64 end record that is not there"));
    }
    Ok(Place { entries: u64::from(entries), start: u64::from(start), size: u64::from(size) })
}

/// What the zip64 end record says, if the end record at `position` has one in front of it. Both
/// have to say the same, or one of them that the other knows.
fn find_64(packed: &Packed, position: u64, end: &[u8]) -> Result<Option<Place>, ArchiveError> {
    let Some(locator_at) = position.checked_sub(LOCATOR as u64) else { return Ok(None) };
    let mut locator = [0; LOCATOR];
    read_at(packed, locator_at, &mut locator)?;
    if &locator[..4] != b"PK\x06\x07" {
        return Ok(None);
    }
    let record_at = u64_at(&locator, 8);
    let several = u32_at(&locator, 4) != 0 || u32_at(&locator, 16) > 1;
    if several || record_at.checked_add(END_64 as u64) != Some(locator_at) {
        return Err(malformed("a zip64 end record at another place"));
    }
    let mut record = [0; END_64];
    read_at(packed, record_at, &mut record)?;
    if &record[..4] != b"PK\x06\x06" || u64_at(&record, 4) != END_64 as u64 - 12 {
        return Err(malformed("a zip64 end record of an unknown form"));
    }
    if u64_at(&record, 16) != 0 || u64_at(&record, 24) != u64_at(&record, 32) {
        return Err(malformed("spread over several files"));
    }
    let place = Place {
        entries: u64_at(&record, 32),
        size: u64_at(&record, 40),
        start: u64_at(&record, 48),
    };
    let (entries, size, start) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
    let agrees = (entries == BEYOND_16 || u64::from(entries) == place.entries)
        && (size == BEYOND_32 || u64::from(size) == place.size)
        && (start == BEYOND_32 || u64::from(start) == place.start);
    if agrees { Ok(Some(place)) } else { Err(malformed("two end records that differ")) }
}

/// Reads the next entry of the directory.
fn entry(directory: &mut impl Read) -> Result<Entry, ArchiveError> {
    let mut header = [0; HEADER];
    take(directory, &mut header)?;
    if &header[..4] != b"PK\x01\x02" {
        return Err(malformed("a directory entry that is none"));
    }
    let length = |at| usize::from(u16_at(&header, at));
    let mut name = vec![0; length(28)];
    take(directory, &mut name)?;
    let mut extra = vec![0; length(30)];
    take(directory, &mut extra)?;
    take(directory, &mut vec![0; length(32)])?;

    let (flags, method) = (u16_at(&header, 8), u16_at(&header, 10));
    let mut extra = Extra::parse(&extra)?;
    let is_directory = kind(&name, u32_at(&header, 38))?;
    let name = checked(name, is_directory, flags, &extra)?;
    readable(&name, flags, method)?;
    if u16_at(&header, 34) != 0 {
        return Err(malformed("spread over several files"));
    }
    // In this order, which is that of the zip64 field.
    let size = extra.widen(u32_at(&header, 24))?;
    let packed = extra.widen(u32_at(&header, 20))?;
    let start = extra.widen(u32_at(&header, 42))?;
    if is_directory && size != 0 {
        let why = format!("directory {} has content", names::shown(name.as_bytes()));
        return Err(ArchiveError::Bad(why));
    }
    let crc = u32_at(&header, 16);
    Ok(Entry { name, is_directory, flags, method, crc, packed, size, start, end: start })
}

fn take(directory: &mut impl Read, buffer: &mut [u8]) -> Result<(), ArchiveError> {
    if fill(directory, buffer)? < buffer.len() {
        return Err(malformed("fewer entries in the directory than it says"));
    }
    Ok(())
}

/// Whether this is a directory; rejects what is neither that nor a regular file. `attributes` hold
/// those of Unix above those of MS-DOS, and either may be absent.
fn kind(name: &[u8], attributes: u32) -> Result<bool, ArchiveError> {
    const DOS_FOLDER: u32 = 1 << 4;
    const DOS_REPARSE_POINT: u32 = 1 << 10;
    let is_directory = name.ends_with(b"/");
    let what = match (attributes >> 16) & 0o170_000 {
        0o120_000 => "is a symbolic link",
        0o020_000 => "is a character device",
        0o060_000 => "is a block device",
        0o010_000 => "is a named pipe",
        0o140_000 => "is a socket",
        0 if attributes & DOS_REPARSE_POINT != 0 => "is a symbolic link",
        0 if attributes & DOS_FOLDER != 0 && !is_directory => "is a directory with a file's name",
        0o040_000 if !is_directory => "is a directory with a file's name",
        0o100_000 if is_directory => "is a file with a directory's name",
        0 | 0o040_000 | 0o100_000 => return Ok(is_directory),
        _ => "is of an unknown type",
    };
    Err(ArchiveError::Bad(format!("member {} {what}", names::shown(name))))
}

/// The name as text. Outside of ASCII it has to be UTF-8 by its own account: readers guess
/// otherwise, and not all the same.
fn checked(
    name: Vec<u8>,
    is_directory: bool,
    flags: u16,
    extra: &Extra<'_>,
) -> Result<String, ArchiveError> {
    let bad = |what: &str| ArchiveError::Bad(format!("member {} {what}", names::shown(&name)));
    if extra.name().is_some_and(|again| again != name) {
        return Err(bad("has a second name"));
    }
    if is_directory {
        names::directory(&name)?;
    } else {
        names::file(&name)?;
    }
    if !name.is_ascii() && flags & UTF_8 == 0 && extra.name().is_none() {
        return Err(bad("has a name in an unknown character set"));
    }
    String::from_utf8(name).map_err(|_| malformed("a name that is not UTF-8"))
}

/// Rejects content that is not simply stored or deflated.
fn readable(name: &str, flags: u16, method: u16) -> Result<(), ArchiveError> {
    let bad = |what: &str| {
        Err(ArchiveError::Bad(format!("member {} {what}", names::shown(name.as_bytes()))))
    };
    if flags & ENCRYPTED != 0 || method == AES {
        return bad("is encrypted");
    }
    if flags & PATCHED != 0 {
        return bad("is a patch for another file");
    }
    if method != STORED && method != DEFLATED {
        let how = format!("is packed by method {method}, only stored and deflated ones are read");
        return bad(&how);
    }
    Ok(())
}

fn cut_short(place: &str) -> ArchiveError {
    ArchiveError::Bad(format!("cut short: the zip archive ends too early, {place}"))
}
