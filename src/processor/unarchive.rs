//! Opens an archive and emits its listed members.
//!
//! Responsible for: inflating once into one anonymous file, putting the index document into the
//! record, asking the topology which members are wanted, and emitting those as slices of that
//! file, with digests. Port `index` gets one record per archive, always.
//! Not responsible for: reading the formats (`input`, `entries`, `zip`), the caps while reading
//! (`input`) or what the members mean.
//!
//! The format is told by the first bytes: zip, gzip (of tar, or of a single file) or tar.
//!
//! Nothing is emitted before the archive is known to be whole: end mark or end of data reached,
//! checksums compared, nothing behind it. Names from an archive never become file names: members
//! are slices of a file without a name.
//!
//! What is in the spool is bounded by the caps and reserved before reading. That needs a budget of
//! its own, apart from the one for fetched bodies, and the members have to be worked on by threads
//! that do not wait here: otherwise everybody could wait for room that nobody gives back.

mod entries;
mod input;
mod names;
mod unpack;
mod zip;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_zip;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zip_fixture;
#[cfg(test)]
mod zip_tests;

use std::collections::HashSet;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use vrl::path::{OwnedSegment, OwnedValuePath, parse_value_path};
use vrl::value::{KeyString, ObjectMap, Value};

use crate::expr::fields::{self, into_tree};
use crate::model::body::SpooledFile;
use crate::model::{Blob, Body, Digest, Failure, FailureClass, Record};
use crate::processor::config::{ArchiveIndex, ArchiveLimits};
use crate::processor::unarchive::input::{Input, Meter};
use crate::processor::unarchive::unpack::{Contents, Member, Rules};
use crate::runtime::clock::Clock;
use crate::runtime::node::{Emit, Port, PortSpec, Transform};
use crate::spool::{Spool, SpoolError, SpoolWriter};

/// The port of members.
pub const MEMBERS: Port = Port::FIRST;

/// The port of archives: one record each.
pub const INDEX: Port = Port(1);

/// How long to wait for room in the spool before the node counts as unavailable.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of fields that the members of one archive may inherit together: every member carries
/// the index document, so a large index with many members multiplies.
const INHERITED_BYTES: usize = 256 << 20;

/// The outputs, in port order.
pub fn ports() -> Vec<PortSpec> {
    vec![
        PortSpec { name: String::new(), main: true },
        PortSpec { name: "index".to_owned(), main: false },
    ]
}

/// Checks and completes a record whose index is in place.
pub type Prepare = Box<dyn FnMut(&mut Record) -> Result<(), Failure> + Send>;

/// Yields the names of the members that are wanted.
pub type ListMembers = Box<dyn FnMut(&mut Record) -> Result<Vec<String>, Failure> + Send>;

/// The field of the index is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field:?} is no field path: write it like manifest or report.manifest")]
pub struct InvalidIndexField {
    /// As it was given.
    pub field: String,
}

/// What was met in archives and not emitted; shared by the nodes of a pool.
#[derive(Debug, Default)]
pub struct UnarchiveCounters {
    /// Archives that were whole.
    pub archives: AtomicU64,
    /// Directories in them.
    pub directories: AtomicU64,
    /// Regular files in them that nobody listed.
    pub unlisted: AtomicU64,
}

/// What an [`UnarchiveNode`] is made of.
pub struct UnarchiveParts {
    /// Caps, counted on what is really read.
    pub limits: ArchiveLimits,
    /// The member that describes the others.
    pub index: Option<ArchiveIndex>,
    /// Runs before `members`.
    pub prepare: Option<Prepare>,
    /// Without it every regular file but the index is a member.
    pub members: Option<ListMembers>,
    /// Digest of the definition of the nodes between here and the sinks.
    pub definition: Digest,
    /// Where unpacked bytes lie; with a budget that no input of this node is charged to.
    pub spool: Spool,
    /// For the time cap.
    pub clock: Arc<dyn Clock>,
    /// Where skipped entries are counted.
    pub counters: Arc<UnarchiveCounters>,
}

/// `type = "unarchive"`.
pub struct UnarchiveNode {
    parts: UnarchiveParts,
    /// Where the index document goes.
    index_path: Option<OwnedValuePath>,
    /// Where name and size of a member go.
    file_path: OwnedValuePath,
}

impl UnarchiveNode {
    /// A node from its parts.
    ///
    /// # Errors
    /// If the field of the index is no path.
    pub fn new(parts: UnarchiveParts) -> Result<Self, InvalidIndexField> {
        let index_path = parts.index.as_ref().map(|index| field_path(&index.field)).transpose()?;
        Ok(Self { parts, index_path, file_path: OwnedValuePath::single_field("file") })
    }

    fn unpack(&self, packed: &Packed, out: &mut dyn Emit) -> Result<Archive, Failure> {
        let format = packed.format().map_err(|error| ArchiveError::reading(&error))?;
        let mut writer = self.reserve(packed, format, out)?;
        let mut progress = || out.progress();
        let meter = Meter::new(self.parts.limits, &*self.parts.clock, &mut progress);
        let rules = Rules {
            limits: &self.parts.limits,
            index: self.parts.index.as_ref(),
            definition: &self.parts.definition,
        };
        let contents = if format == Format::Zip {
            unpack::unpack_zip(packed, meter, &rules, &mut writer)?
        } else {
            let mut input = Input::new(packed.open(), format == Format::Gzip, meter);
            unpack::unpack(&mut input, &rules, &mut writer)?
        };
        Ok(Archive { file: writer.finish(), contents })
    }

    /// Takes room for the most that these bytes may unpack to.
    fn reserve(
        &self,
        packed: &Packed,
        format: Format,
        out: &mut dyn Emit,
    ) -> Result<SpoolWriter, Failure> {
        let limits = &self.parts.limits;
        let most = match format {
            Format::Gzip | Format::Zip => input::most_unpacked(limits, packed.len()),
            Format::Plain => packed.len(),
        };
        let bytes = most.min(limits.total);
        let started = self.parts.clock.now().0;
        let mut waiting = || {
            out.progress();
            self.parts.clock.now().0.saturating_sub(started) < PATIENCE
        };
        let spool = &self.parts.spool;
        let Some(permit) = spool.budget().reserve_blocking(bytes, &mut waiting) else {
            let free = spool.budget().free();
            return Err(Failure::unavailable(format!(
                "no room in the spool to unpack into: {bytes} bytes needed, {free} free"
            )));
        };
        spool.create(permit).map_err(Failure::from)
    }

    /// Puts the index document into the record.
    fn describe(&self, record: &mut Record, contents: &Contents) -> Result<(), Failure> {
        let (Some(index), Some(path)) = (&self.parts.index, &self.index_path) else {
            return Ok(());
        };
        let Some(bytes) = &contents.index else {
            return Err(ArchiveError::Bad(format!("no member {}", index.name)).into());
        };
        let document = fields::parse(bytes).map_err(|error| {
            ArchiveError::Bad(format!("member {} is not valid JSON: {error}", index.name))
        })?;
        into_tree(record)?.insert(path, document);
        Ok(())
    }

    /// The members to emit, in the order in which they are wanted, each once. A name that is not
    /// in the archive is none: the file may come in another one.
    fn wanted<'c>(
        &mut self,
        record: &mut Record,
        contents: &'c Contents,
    ) -> Result<Vec<&'c Member>, Failure> {
        if let Some(prepare) = &mut self.parts.prepare {
            prepare(record)?;
        }
        let Some(members) = &mut self.parts.members else {
            let index = self.parts.index.as_ref().map(|index| index.name.as_str());
            let all = contents.members.iter();
            return Ok(all.filter(|member| Some(&*member.name) != index).collect());
        };
        let mut seen = HashSet::new();
        Ok(members(record)?
            .iter()
            .filter_map(|name| contents.member(name))
            .filter(|member| seen.insert(member.name.clone()))
            .collect())
    }

    fn emit(
        &self,
        mut record: Record,
        archive: &Archive,
        wanted: &[&Member],
        out: &mut dyn Emit,
    ) -> Result<(), Failure> {
        let each = weight(into_tree(&mut record)?);
        if each.saturating_mul(wanted.len()) > INHERITED_BYTES {
            let why = format!(
                "{} members with {each} bytes of fields each: together more than {INHERITED_BYTES} \
                 bytes, let prepare remove what they do not need",
                wanted.len()
            );
            return Err(Failure::poison(FailureClass::TOO_LARGE, why));
        }
        out.emit(INDEX, record.clone())?;
        for member in wanted {
            let mut child = record.clone();
            into_tree(&mut child)?.insert(&self.file_path, file_field(member));
            child.body = Body::Blob(
                Blob::new(archive.file.clone(), member.start, member.len)
                    .with_digest(member.digest),
            );
            out.emit(MEMBERS, child)?;
        }
        Ok(())
    }

    fn count(&self, contents: &Contents, wanted: &[&Member]) {
        let index = contents.index.is_some();
        let listed_index = self
            .parts
            .index
            .as_ref()
            .is_some_and(|index| wanted.iter().any(|member| *member.name == *index.name));
        let used = wanted.len() + usize::from(index && !listed_index);
        let unlisted = contents.members.len().saturating_sub(used) as u64;
        let counters = &self.parts.counters;
        counters.archives.fetch_add(1, Ordering::Relaxed);
        counters.directories.fetch_add(contents.directories, Ordering::Relaxed);
        counters.unlisted.fetch_add(unlisted, Ordering::Relaxed);
    }
}

impl Transform for UnarchiveNode {
    fn apply(&mut self, mut record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        let packed = Packed::of(std::mem::take(&mut record.body))?;
        let archive = self.unpack(&packed, out)?;
        // The packed bytes are not needed any more: their room may go to the next fetch.
        drop(packed);
        self.describe(&mut record, &archive.contents)?;
        let wanted = self.wanted(&mut record, &archive.contents)?;
        self.emit(record, &archive, &wanted, out)?;
        self.count(&archive.contents, &wanted);
        Ok(())
    }
}

/// A whole, well-formed archive.
struct Archive {
    file: Arc<SpooledFile>,
    contents: Contents,
}

/// What a body begins as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Of something, for the most part tar.
    Gzip,
    Zip,
    /// Tar, or no archive.
    Plain,
}

/// The body as it arrived; may be read more than once.
enum Packed {
    Blob(Blob),
    Bytes(Bytes),
}

impl Packed {
    fn of(body: Body) -> Result<Self, Failure> {
        match body {
            Body::Blob(blob) => Ok(Self::Blob(blob)),
            Body::Bytes(bytes) => Ok(Self::Bytes(bytes)),
            Body::Empty | Body::Columns(_) => Err(Failure::poison(
                FailureClass::BAD_ARCHIVE,
                "the record has no body to unpack, put a fetch before this node",
            )),
        }
    }

    fn open(&self) -> Box<dyn Read> {
        self.open_at(0)
    }

    /// A reader from `offset` on.
    fn open_at(&self, offset: u64) -> Box<dyn Read> {
        match self {
            Self::Blob(blob) => Box::new(blob.open_at(offset)),
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Box::new(Cursor::new(bytes.slice(start..)))
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Blob(blob) => blob.len(),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// What it begins as: RFC 1952 for gzip, APPNOTE 4.3.7 for zip; an empty zip archive is its end
    /// record.
    fn format(&self) -> io::Result<Format> {
        let mut magic = Vec::with_capacity(4);
        self.open().take(4).read_to_end(&mut magic)?;
        Ok(match magic.as_slice() {
            [0x1f, 0x8b, ..] => Format::Gzip,
            b"PK\x03\x04" | b"PK\x05\x06" => Format::Zip,
            _ => Format::Plain,
        })
    }
}

/// Why an archive was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ArchiveError {
    /// Cut short, malformed or hostile.
    #[error("{0}")]
    Bad(String),
    /// Beyond a cap.
    #[error("{0}")]
    TooLarge(String),
    /// Not the archive's fault: the disk.
    #[error("{0}")]
    Unavailable(String),
}

impl ArchiveError {
    fn reading(error: &io::Error) -> Self {
        Self::Unavailable(format!("cannot read the spooled archive: {error}"))
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Bad(why) => Self::poison(FailureClass::BAD_ARCHIVE, why),
            ArchiveError::TooLarge(why) => Self::poison(FailureClass::TOO_LARGE, why),
            ArchiveError::Unavailable(why) => Self::unavailable(why),
        }
    }
}

impl From<SpoolError> for ArchiveError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::BeyondPermit { .. } => {
                Self::TooLarge(format!("unpacks to something {error}"))
            }
            SpoolError::DiskFull { .. } | SpoolError::Io { .. } => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// Reads `manifest`, `.manifest` and `report.manifest`; no indices, which would make arrays.
fn field_path(field: &str) -> Result<OwnedValuePath, InvalidIndexField> {
    let named = |segment: &OwnedSegment| matches!(segment, OwnedSegment::Field(_));
    parse_value_path(field)
        .ok()
        .filter(|path| !path.segments.is_empty() && path.segments.iter().all(named))
        .ok_or_else(|| InvalidIndexField { field: field.to_owned() })
}

/// `{"name", "size"}` of a member.
fn file_field(member: &Member) -> Value {
    let size = i64::try_from(member.len).unwrap_or(i64::MAX);
    Value::Object(ObjectMap::from([
        (KeyString::from("name"), Value::from(&*member.name)),
        (KeyString::from("size"), Value::Integer(size)),
    ]))
}

/// About how many bytes a tree takes, as JSON or in memory, whichever is more.
fn weight(value: &Value) -> usize {
    const NODE: usize = 48;
    let inside: usize = match value {
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Array(items) => items.iter().map(weight).sum(),
        other => other.as_bytes().map_or(0, Bytes::len),
    };
    NODE + inside
}
