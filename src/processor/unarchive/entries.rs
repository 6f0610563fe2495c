//! The members of a tar archive, one after the other.
//!
//! Responsible for: walking headers, names and sizes of old, ustar, GNU and PAX archives in bounded
//! memory, accepting regular files, skipping directories, rejecting everything else, and knowing
//! where the archive ends.
//! Not responsible for: keeping content (`unpack`) and counting bytes (`input`).
//!
//! The loop is our own, over [`tar::Header`]: the crate's iterator reads long names and PAX headers
//! into memory whatever size they declare, follows sparse maps, and stops at the first block of
//! zeros without looking behind it. Formats: POSIX.1-2017 `pax`, and the GNU tar manual, "Basic Tar
//! Format". Where implementations read the same bytes in different ways (content in a directory,
//! two sources of one name, sizes that do not fit) the archive is rejected: such an archive looks
//! harmless to whoever checks it and different to whoever unpacks it.

use tar::{EntryType, Header};

use crate::processor::unarchive::input::Input;
use crate::processor::unarchive::{ArchiveError, names};

const BLOCK: usize = 512;

/// Largest PAX header or long name in bytes.
const MAX_EXTENSION: u64 = 64 << 10;

/// Extension headers in front of one member: `g`, `x`, `L` and `K` with some to spare.
const MAX_EXTENSIONS: u32 = 8;

/// The unit of a tar archive.
pub(super) type Block = [u8; BLOCK];

/// Whether a block is, or pretends to be, the beginning of a tar archive.
pub(super) fn begins_tar(block: &Block) -> bool {
    is_zero(block) || &block[257..262] == b"ustar" || checksum_fits(block)
}

fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The checksum counts its own field as spaces.
fn checksum_fits(block: &Block) -> bool {
    let outside: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == outside + 8 * 32)
}

/// A regular file whose content comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its name, checked.
    pub(super) name: String,
    /// Bytes that the archive says it has.
    pub(super) size: u64,
}

/// What extension headers say about the next member.
#[derive(Default)]
struct About {
    path: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    /// A header that describes exactly one member was seen.
    expects_member: bool,
    headers: u32,
}

/// Walks an archive.
pub(super) struct Entries<'i, 'a> {
    input: &'i mut Input<'a>,
    /// The block that was read to find out that this is a tar archive.
    peeked: Option<Block>,
    /// Bytes of content not read yet.
    left: u64,
    /// Bytes from the end of the content to the next block.
    padding: usize,
    about: About,
    seen: u64,
    max_entries: u64,
    /// Directories so far.
    pub(super) directories: u64,
}

impl<'i, 'a> Entries<'i, 'a> {
    /// Walks the archive that begins with `first`.
    pub(super) fn new(input: &'i mut Input<'a>, first: Block, max_entries: u64) -> Self {
        Self {
            input,
            peeked: Some(first),
            left: 0,
            padding: 0,
            about: About::default(),
            seen: 0,
            max_entries,
            directories: 0,
        }
    }

    /// The next regular file, or `None` at the end of the archive, when all of it was read. The
    /// content of the file before has to be read to its end first.
    pub(super) fn next_file(&mut self) -> Result<Option<File>, ArchiveError> {
        loop {
            self.skip_padding()?;
            let Some(block) = self.next_block()? else {
                self.end_without_mark()?;
                return Ok(None);
            };
            if is_zero(&block) {
                self.end_with_mark()?;
                return Ok(None);
            }
            if let Some(file) = self.header(&block)? {
                return Ok(Some(file));
            }
        }
    }

    /// Reads content of the current file, called `name` in errors; 0 is its end.
    pub(super) fn content(&mut self, name: &str, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..want])?;
        if count == 0 {
            let name = names::shown(name.as_bytes());
            return Err(ArchiveError::Bad(format!("cut short: the data end in member {name}")));
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn skip_padding(&mut self) -> Result<(), ArchiveError> {
        let mut padding = [0; BLOCK];
        let bytes = std::mem::take(&mut self.padding);
        self.read_exact(&mut padding[..bytes])
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        if self.input.fill(buffer)? < buffer.len() {
            return Err(cut_short());
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Block>, ArchiveError> {
        if let Some(block) = self.peeked.take() {
            return Ok(Some(block));
        }
        let mut block = [0; BLOCK];
        match self.input.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(cut_short()),
        }
    }

    /// The data ended between two members. With a checksum over all of them that is an end like
    /// any other: nothing is missing.
    fn end_without_mark(&self) -> Result<(), ArchiveError> {
        if !self.input.ends_provably() {
            return Err(ArchiveError::Bad("cut short: the archive has no end mark".to_owned()));
        }
        self.expect_no_member()
    }

    /// Everything behind the first block of zeros has to be zero: a second archive there would be
    /// read by some and not by others.
    fn end_with_mark(&mut self) -> Result<(), ArchiveError> {
        self.expect_no_member()?;
        let mut buffer = [0; 8 * BLOCK];
        loop {
            let count = self.input.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(ArchiveError::Bad("data behind the end of the archive".to_owned()));
            }
        }
    }

    fn expect_no_member(&self) -> Result<(), ArchiveError> {
        if self.about.expects_member {
            return Err(ArchiveError::Bad("an extension header without its member".to_owned()));
        }
        Ok(())
    }

    /// Takes one header; a file if it is that of a regular one.
    fn header(&mut self, block: &Block) -> Result<Option<File>, ArchiveError> {
        if !checksum_fits(block) {
            let why = format!("damaged tar header after {} members", self.seen);
            return Err(ArchiveError::Bad(why));
        }
        let header = Header::from_byte_slice(block);
        match header.entry_type() {
            kind @ (EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink) => {
                self.extension(kind, declared_size(header)?)?;
                Ok(None)
            }
            kind => self.member(kind, header),
        }
    }

    fn member(&mut self, kind: EntryType, header: &Header) -> Result<Option<File>, ArchiveError> {
        self.seen += 1;
        if self.seen > self.max_entries {
            let why = format!("too large: more than {} members", self.max_entries);
            return Err(ArchiveError::TooLarge(why));
        }
        let about = std::mem::take(&mut self.about);
        let (stated, sparse) = (about.size, about.sparse);
        let raw = about.name(header)?;
        // Before ustar a slash at the end was the only sign of a directory.
        let slash = kind == EntryType::Regular && raw.ends_with(b"/");
        if kind != EntryType::Directory && kind != EntryType::Regular {
            return Err(unwanted(&raw, kind));
        }
        if sparse {
            return Err(unwanted(&raw, EntryType::GNUSparse));
        }
        let size = stated.map_or_else(|| declared_size(header), Ok)?;
        if slash || kind == EntryType::Directory {
            names::directory(&raw)?;
            if size != 0 {
                let why = format!("directory {} has content", names::shown(&raw));
                return Err(ArchiveError::Bad(why));
            }
            self.directories += 1;
            return Ok(None);
        }
        let name = names::file(&raw)?;
        self.left = size;
        self.padding = padding(size);
        Ok(Some(File { name, size }))
    }

    fn extension(&mut self, kind: EntryType, size: u64) -> Result<(), ArchiveError> {
        self.about.headers += 1;
        if self.about.headers > MAX_EXTENSIONS {
            let why = format!("more than {MAX_EXTENSIONS} extension headers before one member");
            return Err(ArchiveError::Bad(why));
        }
        if size > MAX_EXTENSION {
            let why = format!("too large: an extension header of {size} bytes");
            return Err(ArchiveError::TooLarge(why));
        }
        let mut data = vec![0; size as usize];
        self.read_exact(&mut data)?;
        self.padding = padding(size);
        self.about.expects_member |= kind != EntryType::XGlobalHeader;
        match kind {
            EntryType::XHeader => pax_records(&data, |key, value| self.about.pax(key, value)),
            EntryType::XGlobalHeader => pax_records(&data, global),
            EntryType::GNULongName => self.about.long_name(data),
            // The target of a link, and the link that follows rejects the archive by name.
            _ => Ok(()),
        }
    }
}

impl About {
    /// The name of the member that `header` describes.
    fn name(self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        match (self.path, self.long_name) {
            (Some(_), Some(name)) => Err(twice("name", &name)),
            (Some(name), None) | (None, Some(name)) => Ok(name),
            (None, None) => Ok(header.path_bytes().into_owned()),
        }
    }

    fn long_name(&mut self, mut name: Vec<u8>) -> Result<(), ArchiveError> {
        let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        name.truncate(end);
        match self.long_name.replace(name) {
            None => Ok(()),
            Some(before) => Err(twice("name", &before)),
        }
    }

    /// One record of a PAX header for the next member. An empty value takes back what was said.
    fn pax(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        match key {
            b"path" if self.path.is_some() => Err(twice("name", value)),
            b"path" if !value.is_empty() => {
                self.path = Some(value.to_vec());
                Ok(())
            }
            b"size" if self.size.is_some() => Err(twice("size", value)),
            b"size" if !value.is_empty() => {
                let size = decimal(value).ok_or_else(|| malformed("a size that is no number"))?;
                self.size = Some(size);
                Ok(())
            }
            _ => {
                self.sparse |= key.starts_with(b"GNU.sparse.");
                Ok(())
            }
        }
    }
}

/// One record of a PAX header for all members that follow. Comments and times are fine; one name
/// or size for several members can only be meant to confuse.
fn global(key: &[u8], _value: &[u8]) -> Result<(), ArchiveError> {
    if matches!(key, b"path" | b"size" | b"linkpath") || key.starts_with(b"GNU.sparse.") {
        return Err(malformed("one name, size or sparse map for all members"));
    }
    Ok(())
}

/// Calls `each` with key and value of every record: `<length> <key>=<value>\n`, the length counting
/// itself, so that a value may hold anything.
fn pax_records(
    mut data: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    while !data.is_empty() {
        let (record, rest) =
            split_record(data).ok_or_else(|| malformed("a record of the wrong length"))?;
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
            return Err(malformed("a record without a value"));
        };
        each(&record[..equals], &record[equals + 1..])?;
        data = rest;
    }
    Ok(())
}

/// The first record without length and line end, and what follows it.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    if length > data.len() {
        return None;
    }
    let (record, rest) = data.split_at(length);
    Some((record.get(space + 1..)?.strip_suffix(b"\n")?, rest))
}

/// Digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The size in a header: octal, or GNU's big-endian number where it must fit 64 bits.
fn declared_size(header: &Header) -> Result<u64, ArchiveError> {
    let field = &header.as_old().size;
    if field[0] & 0x80 == 0 {
        return header.entry_size().map_err(|_error| malformed("a size that is no number"));
    }
    if field[0] != 0x80 || field[1..4] != [0, 0, 0] {
        return Err(ArchiveError::TooLarge("too large: a size beyond 64 bits".to_owned()));
    }
    Ok(field[4..].iter().fold(0, |size, byte| (size << 8) | u64::from(*byte)))
}

/// Bytes from the end of `size` bytes to the next block.
fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    (BLOCK - over) % BLOCK
}

fn unwanted(name: &[u8], kind: EntryType) -> ArchiveError {
    let what = match kind {
        EntryType::Symlink => "is a symbolic link".to_owned(),
        EntryType::Link => "is a hard link".to_owned(),
        EntryType::Char => "is a character device".to_owned(),
        EntryType::Block => "is a block device".to_owned(),
        EntryType::Fifo => "is a named pipe".to_owned(),
        EntryType::GNUSparse => "is a sparse file".to_owned(),
        other => format!("is of type {:?}, not a regular file", char::from(other.as_byte())),
    };
    ArchiveError::Bad(format!("member {} {what}", names::shown(name)))
}

fn twice(what: &str, value: &[u8]) -> ArchiveError {
    ArchiveError::Bad(format!("two extension headers give a {what}, one {}", names::shown(value)))
}

fn malformed(what: &str) -> ArchiveError {
    ArchiveError::Bad(format!("malformed tar header: {what}"))
}

fn cut_short() -> ArchiveError {
    ArchiveError::Bad("cut short: the tar data end too early".to_owned())
}
