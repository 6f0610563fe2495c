//! Settings of processors, validated: programs compiled, sizes in bytes, times as durations.
//!
//! Responsible for: saying completely what a processor does, without the text it was read from.
//! Not responsible for: parsing or error messages (`topology`).

use std::time::Duration;

use crate::expr::Program;
use crate::model::NodeName;

/// What one processor does.
#[derive(Clone, Debug)]
pub enum Config {
    /// Keeps the records for which a condition holds.
    Filter(Filter),
    /// Rewrites fields; an array makes several records, null makes none.
    Remap(Remap),
    /// Fetches the body that a URL names.
    Fetch(Fetch),
    /// Opens an archive and emits its listed members.
    Unarchive(Unarchive),
    /// Reads delimited text into typed columns.
    Csv(Csv),
    /// Groups columns per member.
    Aggregate(Aggregate),
}

/// `type = "filter"`.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Boolean program; a failure of it is a failure of the record.
    pub condition: Program,
    /// What becomes of the others.
    pub rest: Rest,
}

/// What becomes of records that a filter does not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// They are done: *filtered*.
    #[default]
    Drop,
    /// They are failures.
    DeadLetter,
    /// They leave through the port `rest`.
    Port,
}

/// `type = "remap"`.
#[derive(Clone, Debug)]
pub struct Remap {
    /// Program over fields and metadata.
    pub program: Program,
}

/// `type = "fetch"`.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Program that yields the URL.
    pub url: Program,
    /// What may be fetched: never empty.
    pub allow: Vec<Allow>,
    /// Largest body in bytes; also what is reserved in the disk budget per fetch.
    pub max_bytes: u64,
    /// Time for one attempt, from connecting to the last byte.
    pub timeout: Duration,
    /// Fetches in flight at once.
    pub concurrency: usize,
    /// Attempts at a record whose own failure may pass (a 404 that is not there yet).
    pub attempts: u32,
}

/// One entry of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// URLs that this pipeline's own ingress of that name announced.
    Ingress(NodeName),
    /// `https://host` or `http://host[:port]`, the host exact or `*.suffix`.
    Origin {
        /// `http` or `https`.
        scheme: String,
        /// Host name; with `*.` in front, any name below it.
        host: String,
        /// Port, where it is not the scheme's.
        port: Option<u16>,
        /// Whether the name may resolve to private, loopback or link-local addresses.
        private: bool,
    },
}

/// `type = "unarchive"`.
#[derive(Clone, Debug)]
pub struct Unarchive {
    /// Caps, counted on what is really read.
    pub limits: ArchiveLimits,
    /// The member that lists the others, if the archive has one.
    pub index: Option<ArchiveIndex>,
    /// Program over the record with the index in place; yields the names of the members. Without
    /// it every regular file is a member.
    pub members: Option<Program>,
    /// Program that checks and completes the index before `members` runs.
    pub prepare: Option<Program>,
}

/// Caps of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of one entry, unpacked.
    pub entry: u64,
    /// Bytes of all entries, unpacked.
    pub total: u64,
    /// Unpacked bytes per packed byte.
    pub ratio: u64,
    /// Time to unpack.
    pub time: Duration,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            entries: 2_000,
            entry: 200 << 20,
            total: 2 << 30,
            ratio: 200,
            time: Duration::from_secs(300),
        }
    }
}

/// The member of an archive that describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveIndex {
    /// Its exact name.
    pub name: String,
    /// Its largest size in bytes.
    pub max_bytes: u64,
    /// Field that receives its JSON.
    pub field: String,
}

/// `type = "csv"`.
#[derive(Clone, Debug)]
pub struct Csv {
    /// Schemas in the order in which they are tried: the first whose columns are all present fits.
    pub schemas: Vec<CsvSchema>,
    /// Field separator.
    pub delimiter: u8,
    /// Rows with more fields than the header.
    pub long_rows: LongRows,
    /// Value that takes the place of a number that is none; without one, such a row is rejected.
    pub bad_double: Option<f64>,
    /// Format of instants, as jiff's `strptime` reads it; a literal `UTC` may follow the offset.
    pub instant_format: String,
    /// Columns added to every schema.
    pub derive: Vec<Derived>,
    /// Rows per emitted batch.
    pub batch_rows: usize,
    /// Longest row in bytes; a longer one is poison for the member.
    pub max_row_bytes: usize,
}

/// What to do with rows that have more fields than the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongRows {
    /// Left out and counted.
    #[default]
    Reject,
    /// The extra fields are cut off and the row is counted.
    Cut,
}

/// One declared schema.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvSchema {
    /// Its name: the port, and `%schema`.
    pub name: String,
    /// Columns that must be there, with their types. Further columns of the file stay text.
    pub columns: Vec<CsvColumn>,
    /// Leaves out rows whose values are too large.
    pub drop_row: Option<DropRow>,
}

/// A typed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvColumn {
    /// Name in the header.
    pub name: String,
    /// Type.
    pub kind: ColumnKind,
}

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// UTF-8 text, as it stands.
    Text,
    /// 64-bit float, as Python's `float()` reads it.
    Double,
    /// UTC timestamp in milliseconds.
    Instant,
}

/// A row is dropped if one of these columns is above the bound.
#[derive(Clone, Debug, PartialEq)]
pub struct DropRow {
    /// The bound; equal to it is not above.
    pub above: f64,
    /// Columns that are looked at.
    pub columns: Vec<String>,
}

/// A column computed from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its name.
    pub name: String,
    /// What it is computed from, and how.
    pub from: DerivedFrom,
}

/// How a derived column is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DerivedFrom {
    /// The UTC day of an instant column.
    Date {
        /// The instant column.
        column: String,
    },
    /// An instant column formatted with strftime directives, in UTC.
    Format {
        /// The instant column.
        column: String,
        /// The format.
        format: String,
    },
}

/// `type = "aggregate"`: groups per member, ends with the member.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Group columns.
    pub by: Vec<String>,
    /// Result columns.
    pub columns: Vec<AggregateColumn>,
    /// Groups held in memory; above it partial groups are emitted and readers add up.
    pub max_groups: usize,
}

/// One result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateColumn {
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub function: AggregateFunction,
    /// The input column; `count` has none.
    pub column: Option<String>,
}

/// How values are put together. All of them can be put together again by a reader, except
/// `Distinct`, which is refused above `max_groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    /// Sum of doubles.
    Sum,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Number of rows.
    Count,
    /// Number of different values.
    Distinct,
}
