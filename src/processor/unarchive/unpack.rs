//! Unpacks an archive into one spool file.
//!
//! Responsible for: telling tar from a single packed file, writing the content of every regular
//! file behind the one before, with digest and cap, and keeping the index document in memory. A
//! digest is that of the content, whatever it came packed in.
//! Not responsible for: which members are wanted. That is often known only at the end, when the
//! index was the last member, so all of them are written.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::Digest;
use crate::model::identity::DigestBuilder;
use crate::processor::config::{ArchiveIndex, ArchiveLimits};
use crate::processor::unarchive::entries::{self, Block, Entries};
use crate::processor::unarchive::input::{Input, Meter};
use crate::processor::unarchive::zip::Zip;
use crate::processor::unarchive::{ArchiveError, Packed, names};
use crate::spool::SpoolWriter;

/// Content moves in pieces of this size.
const PIECE: usize = 64 << 10;

/// The name of a single packed file whose gzip header gives none.
const UNNAMED: &str = "content";

/// What applies to every archive of a node.
pub(super) struct Rules<'r> {
    pub(super) limits: &'r ArchiveLimits,
    pub(super) index: Option<&'r ArchiveIndex>,
    pub(super) definition: &'r Digest,
}

/// A regular file in the spool file.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) digest: Digest,
}

/// What was in an archive.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Regular files, in the order of the archive.
    pub(super) members: Vec<Member>,
    /// By the place that a name means: `./a` and `a` are one, and whoever unpacks both is left
    /// with the second.
    by_place: HashMap<String, usize>,
    /// The bytes of the index.
    pub(super) index: Option<Vec<u8>>,
    /// Directories that were skipped.
    pub(super) directories: u64,
}

impl Contents {
    /// The member of exactly this name.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        let at = self.by_place.get(&names::place(name))?;
        Some(&self.members[*at]).filter(|member| *member.name == *name)
    }
}

/// Reads `input` to its end and writes all content to `writer`.
pub(super) fn unpack(
    input: &mut Input<'_>,
    rules: &Rules<'_>,
    writer: &mut SpoolWriter,
) -> Result<Contents, ArchiveError> {
    let mut first: Block = [0; size_of::<Block>()];
    let filled = input.fill(&mut first)?;
    let tar = filled == first.len() && entries::begins_tar(&first);
    if !tar && !input.is_gzip() {
        let why = "not gzip, not zip, and not a tar archive either".to_owned();
        return Err(ArchiveError::Bad(why));
    }
    let mut unpacking =
        Unpacking { rules, writer, contents: Contents::default(), piece: vec![0; PIECE] };
    if tar {
        unpacking.tar(input, first)?;
    } else {
        unpacking.single(input, &first[..filled])?;
    }
    Ok(unpacking.contents)
}

/// Reads all members of the zip archive `packed` and writes their content to `writer`.
pub(super) fn unpack_zip(
    packed: &Packed,
    meter: Meter<'_>,
    rules: &Rules<'_>,
    writer: &mut SpoolWriter,
) -> Result<Contents, ArchiveError> {
    let mut zip = Zip::open(packed, meter, rules.limits.entries)?;
    let mut unpacking =
        Unpacking { rules, writer, contents: Contents::default(), piece: vec![0; PIECE] };
    while let Some(file) = zip.next_file()? {
        if file.size > rules.limits.entry {
            // The archive may not hold more than it says, and there is no use in reading so much.
            return Err(unpacking.entry_too_large(&file.name));
        }
        unpacking.store(file.name, &mut |piece| zip.content(piece))?;
    }
    unpacking.contents.directories = zip.directories;
    Ok(unpacking.contents)
}

struct Unpacking<'u> {
    rules: &'u Rules<'u>,
    writer: &'u mut SpoolWriter,
    contents: Contents,
    piece: Vec<u8>,
}

impl Unpacking<'_> {
    fn tar(&mut self, input: &mut Input<'_>, first: Block) -> Result<(), ArchiveError> {
        let mut entries = Entries::new(input, first, self.rules.limits.entries);
        while let Some(file) = entries.next_file()? {
            if file.size > self.rules.limits.entry {
                // True or a lie, there is no use in reading on.
                return Err(self.entry_too_large(&file.name));
            }
            let name = file.name.clone();
            self.store(file.name, &mut |piece| entries.content(&name, piece))?;
        }
        self.contents.directories = entries.directories;
        Ok(())
    }

    /// Gzip of something that is no tar archive: one member, named in the gzip header.
    fn single(&mut self, input: &mut Input<'_>, first: &[u8]) -> Result<(), ArchiveError> {
        let name = match input.gzip_name() {
            Some(raw) => names::file(raw)?,
            None => UNNAMED.to_owned(),
        };
        let mut first = Some(first).filter(|first| !first.is_empty());
        self.store(name, &mut |piece| match first.take() {
            Some(head) => {
                piece[..head.len()].copy_from_slice(head);
                Ok(head.len())
            }
            None => input.read(piece),
        })
    }

    /// Writes what `read` yields, up to 0, as the next member.
    fn store(
        &mut self,
        name: String,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let (place, name) = (names::place(&name), Arc::<str>::from(name));
        if self.contents.by_place.insert(place, self.contents.members.len()).is_some() {
            let shown = names::shown(name.as_bytes());
            return Err(ArchiveError::Bad(format!("two members of the name {shown}")));
        }
        let index = self.rules.index.filter(|index| *index.name == *name);
        let mut document = index.map(|_| Vec::new());
        let start = self.writer.written();
        let mut digest = DigestBuilder::new(self.rules.definition);
        loop {
            let count = read(&mut self.piece)?;
            if count == 0 {
                break;
            }
            let bytes = &self.piece[..count];
            let len = self.writer.written() - start + count as u64;
            if len > self.rules.limits.entry {
                return Err(self.entry_too_large(&name));
            }
            if let (Some(document), Some(index)) = (&mut document, index) {
                if len > index.max_bytes {
                    return Err(too_large(&name, index.max_bytes));
                }
                document.extend_from_slice(bytes);
            }
            digest.update(bytes);
            self.writer.append(bytes)?;
        }
        if document.is_some() {
            self.contents.index = document;
        }
        let len = self.writer.written() - start;
        self.contents.members.push(Member { name, start, len, digest: digest.finish() });
        Ok(())
    }

    fn entry_too_large(&self, name: &str) -> ArchiveError {
        too_large(name, self.rules.limits.entry)
    }
}

fn too_large(name: &str, cap: u64) -> ArchiveError {
    let name = names::shown(name.as_bytes());
    ArchiveError::TooLarge(format!("too large: member {name} has more than {cap} bytes"))
}
