//! The members of a zip archive, one after the other.
//!
//! Responsible for: walking the members in the order in which they lie in the archive, checking
//! each against the directory (name, packing, sizes, checksum, and that it ends where the next one
//! begins), and unpacking stored and deflated content.
//! Not responsible for: the directory (`directory`), keeping content (`unpack`), or the caps
//! (`input`), which are told of every byte.
//!
//! A zip archive says everything twice, in front of each member and in the directory at the end,
//! and readers differ in what they believe. Here both have to agree, and the members have to follow
//! each other without gaps: then no reader sees other members, no byte is read twice (which is how
//! small archives become huge ones), and nothing is hidden between them. The crate `zip` reads more
//! than that on purpose, so the loop is our own; it is what the tests write archives with.

mod directory;
mod record;

use std::io::{self, BufRead, BufReader, Read, Take};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::processor::unarchive::input::Meter;
use crate::processor::unarchive::zip::directory::{
    DEFLATED, DESCRIBED_BEHIND, Entry, MEANINGFUL, UTF_8,
};
use crate::processor::unarchive::zip::record::{Extra, u16_at, u32_at, u64_at};
use crate::processor::unarchive::{ArchiveError, Packed, names};

/// Bytes of the header in front of a member without what varies.
const HEADER: usize = 30;
/// Packed bytes are read from the disk in pieces of this size.
const READ_BYTES: usize = 64 << 10;

/// A regular file whose content comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its name, checked.
    pub(super) name: String,
    /// Bytes that the archive says it has.
    pub(super) size: u64,
}

/// Walks an archive.
pub(super) struct Zip<'p, 'm> {
    packed: &'p Packed,
    meter: Meter<'m>,
    entries: std::vec::IntoIter<Entry>,
    current: Option<Content>,
    /// Packed bytes of the members before.
    used: u64,
    /// Directories so far.
    pub(super) directories: u64,
}

impl<'p, 'm> Zip<'p, 'm> {
    /// Reads the directory.
    pub(super) fn open(
        packed: &'p Packed,
        mut meter: Meter<'m>,
        max_entries: u64,
    ) -> Result<Self, ArchiveError> {
        let entries = directory::list(packed, &mut meter, max_entries)?.into_iter();
        Ok(Self { packed, meter, entries, current: None, used: 0, directories: 0 })
    }

    /// The next regular file, or `None` behind the last member. The content of the file before has
    /// to be read to its end first.
    pub(super) fn next_file(&mut self) -> Result<Option<File>, ArchiveError> {
        loop {
            let Some(entry) = self.entries.next() else { return Ok(None) };
            let file =
                (!entry.is_directory).then(|| File { name: entry.name.clone(), size: entry.size });
            self.current = Some(Content::open(self.packed, entry)?);
            if file.is_some() {
                return Ok(file);
            }
            self.directories += 1;
            // Empty, but it may be packed, and has to end where it says.
            self.content(&mut [0])?;
        }
    }

    /// Reads content of the current file; 0 is its end, and the proof that all of it is there.
    pub(super) fn content(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let Some(current) = &mut self.current else { return Ok(0) };
        let count = current.read(buffer)?;
        self.meter.count(count, Some(self.used + current.used))?;
        if count == 0 {
            self.used += current.used;
            current.check(self.packed)?;
            self.current = None;
        }
        Ok(count)
    }
}

/// The content of one member.
struct Content {
    entry: Entry,
    /// Where the content ends in the archive.
    data_end: u64,
    reader: BufReader<Take<Box<dyn Read>>>,
    /// Without it the content is stored as it is.
    inflating: Option<Inflating>,
    crc: Crc,
    /// Packed bytes so far.
    used: u64,
    /// Unpacked bytes so far.
    unpacked: u64,
}

struct Inflating {
    inflate: Decompress,
    /// The end mark was read.
    ended: bool,
}

impl Content {
    fn open(packed: &Packed, entry: Entry) -> Result<Self, ArchiveError> {
        let data_start = local_header(packed, &entry)?;
        let data_end = data_start.checked_add(entry.packed).filter(|end| *end <= entry.end);
        let data_end = data_end.ok_or_else(|| bad(&entry.name, "reaches into the next one"))?;
        let reader = packed.open_at(data_start).take(entry.packed);
        let inflating = (entry.method == DEFLATED)
            .then(|| Inflating { inflate: Decompress::new(false), ended: false });
        Ok(Self {
            entry,
            data_end,
            reader: BufReader::with_capacity(READ_BYTES, reader),
            inflating,
            crc: Crc::new(),
            used: 0,
            unpacked: 0,
        })
    }

    /// Reads some bytes; 0 is the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let count = match &mut self.inflating {
            Some(inflating) => {
                inflating.read(&mut self.reader, &mut self.used, &self.entry.name, buffer)?
            }
            None => {
                let count = fill(&mut self.reader, buffer)?;
                self.used += count as u64;
                count
            }
        };
        self.crc.update(&buffer[..count]);
        self.unpacked += count as u64;
        if self.unpacked > self.entry.size {
            return Err(bad(&self.entry.name, "has more content than the archive says"));
        }
        Ok(count)
    }

    /// Compares what was read with what the directory says.
    fn check(&self, packed: &Packed) -> Result<(), ArchiveError> {
        let (entry, bad) = (&self.entry, |what| Err(bad(&self.entry.name, what)));
        if self.used < entry.packed {
            return bad("has data behind its end");
        }
        if self.unpacked < entry.size {
            return bad("has less content than the archive says");
        }
        if self.crc.sum() != entry.crc {
            return bad("is damaged: it does not fit its checksum");
        }
        self.check_end(packed)
    }

    /// What lies between this member's content and the next member: its description, if it comes
    /// behind, in one of the forms that tools write.
    fn check_end(&self, packed: &Packed) -> Result<(), ArchiveError> {
        let (entry, between) = (&self.entry, self.entry.end - self.data_end);
        let is_behind = entry.flags & DESCRIBED_BEHIND != 0;
        let (signature, wide) = match (is_behind, between) {
            (false, 0) => return Ok(()),
            (true, 12) => (0, false),
            (true, 16) => (4, false),
            (true, 20) => (0, true),
            (true, 24) => (4, true),
            (_, _) => return Err(bad(&entry.name, "is not followed by the next one")),
        };
        let mut record = vec![0; between as usize];
        read_at(packed, self.data_end, &mut record)?;
        let (sign, rest) = record.split_at(signature);
        let sizes = if wide {
            (u64_at(rest, 4), u64_at(rest, 12))
        } else {
            (u64::from(u32_at(rest, 4)), u64::from(u32_at(rest, 8)))
        };
        let is_signed = sign.is_empty() || sign == b"PK\x07\x08";
        if !is_signed || u32_at(rest, 0) != entry.crc || sizes != (entry.packed, entry.size) {
            return Err(bad(&entry.name, "is described in two ways"));
        }
        Ok(())
    }
}

impl Inflating {
    /// Inflates some bytes of the member `name`; 0 is the end. `used` counts what they took.
    fn read(
        &mut self,
        reader: &mut impl BufRead,
        used: &mut u64,
        name: &str,
        buffer: &mut [u8],
    ) -> Result<usize, ArchiveError> {
        while !self.ended && !buffer.is_empty() {
            let input = match reader.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ArchiveError::reading(&error)),
            };
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, buffer, FlushDecompress::None)
                .map_err(|error| bad(name, &format!("is damaged: {error}")))?;
            let taken = self.inflate.total_in() - taken;
            let made = self.inflate.total_out() - made;
            // Neither is more than the lengths of the two buffers.
            reader.consume(taken as usize);
            *used += taken;
            self.ended = status == Status::StreamEnd;
            if made > 0 {
                return Ok(made as usize);
            }
            if taken == 0 && !self.ended {
                return Err(bad(name, "is cut short: its data end too early"));
            }
        }
        Ok(0)
    }
}

/// Checks what stands in front of a member; returns where its content begins.
fn local_header(packed: &Packed, entry: &Entry) -> Result<u64, ArchiveError> {
    let differs = || bad(&entry.name, "is described in two ways");
    let mut header = [0; HEADER];
    read_at(packed, entry.start, &mut header)?;
    if &header[..4] != b"PK\x03\x04" {
        return Err(bad(&entry.name, "is not where the directory says"));
    }
    let (name_length, extra_length) = (u16_at(&header, 26), u16_at(&header, 28));
    if usize::from(name_length) != entry.name.len() {
        return Err(differs());
    }
    let mut varying = vec![0; usize::from(name_length) + usize::from(extra_length)];
    read_at(packed, entry.start + HEADER as u64, &mut varying)?;
    let (name, extra) = varying.split_at(usize::from(name_length));
    let mut extra = Extra::parse(extra)?;
    let same_name = name == entry.name.as_bytes() && extra.name().is_none_or(|again| again == name);
    let flags = if name.is_ascii() { MEANINGFUL } else { MEANINGFUL | UTF_8 };
    let same_packing =
        (u16_at(&header, 6) ^ entry.flags) & flags == 0 && u16_at(&header, 8) == entry.method;
    let size = extra.widen(u32_at(&header, 22))?;
    let packed_size = extra.widen(u32_at(&header, 18))?;
    let told = [u64::from(u32_at(&header, 14)), packed_size, size];
    let wanted = [u64::from(entry.crc), entry.packed, entry.size];
    // What comes behind the content was not known yet, and is zero for the most part.
    let later = entry.flags & DESCRIBED_BEHIND != 0;
    let same = |(told, wanted): (&u64, &u64)| told == wanted || (later && *told == 0);
    if !same_name || !same_packing || !told.iter().zip(&wanted).all(same) {
        return Err(differs());
    }
    Ok(entry.start + (HEADER + varying.len()) as u64)
}

/// Fills `buffer` as far as there are bytes; returns how far.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::reading(&error)),
        }
    }
    Ok(filled)
}

/// Fills `buffer` with the bytes from `offset` on.
fn read_at(packed: &Packed, offset: u64, buffer: &mut [u8]) -> Result<(), ArchiveError> {
    if fill(&mut packed.open_at(offset), buffer)? < buffer.len() {
        let why = "cut short: the zip archive ends too early, in a header";
        return Err(ArchiveError::Bad(why.to_owned()));
    }
    Ok(())
}

fn bad(name: &str, what: &str) -> ArchiveError {
    ArchiveError::Bad(format!("member {} {what}", names::shown(name.as_bytes())))
}
