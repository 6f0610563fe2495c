//! Archives and a bench for the tests of `unarchive`.
//!
//! Responsible for: tar bytes that no tool would write, and running a node over them.
//! Not responsible for: what is expected of it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::expr::fixtures;
use crate::model::event::MemberFacts;
use crate::runtime::clock::ManualClock;
use crate::spool::DiskBudget;

/// Room in the spool of a bench.
pub(super) const ROOM: u64 = 8 << 20;

/// Writes tar archives block by block.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    /// A regular file.
    pub(super) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name, content)
    }

    /// An entry of any type, with a name as it is.
    pub(super) fn entry(self, kind: u8, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let header = header(kind, name.as_ref(), content.as_ref().len() as u64);
        self.raw(header.as_bytes()).padded(content.as_ref())
    }

    /// A header that says anything, followed by nothing.
    pub(super) fn claim(self, kind: u8, name: &str, size: u64) -> Self {
        self.raw(header(kind, name.as_bytes(), size).as_bytes())
    }

    /// A PAX header (`x` or `g`) with these records.
    pub(super) fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(kind, "PaxHeader", data)
    }

    /// Bytes as they are.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn padded(self, content: &[u8]) -> Self {
        let padding = content.len().next_multiple_of(512) - content.len();
        self.raw(content).raw(&vec![0; padding])
    }

    /// The archive without an end mark.
    pub(super) fn open_ended(self) -> Vec<u8> {
        self.0
    }

    /// The archive with its end mark.
    pub(super) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }

    /// The archive with its end mark, packed.
    pub(super) fn gz(self) -> Vec<u8> {
        gzip(&self.end())
    }
}

/// A header with a good checksum and a name that nobody checks.
pub(super) fn header(kind: u8, name: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

/// Packs bytes.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An index that lists these names.
pub(super) fn manifest(files: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "uuid": "u-1", "files": files })).unwrap()
}

/// A small archive with everything that real ones have: a directory without a name first, the
/// index last.
pub(super) fn good() -> Tar {
    Tar::default()
        .entry(b'5', "/", "")
        .file("a.csv", "a,b\r\n1,2\r\n")
        .file("b.csv", "")
        .file("manifest.json", manifest(&["b.csv", "a.csv", "c.csv"]))
}

/// What a node emitted.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) emitted: Vec<(Port, Record)>,
    pub(super) progressed: usize,
}

impl Emit for Sink {
    fn emit(&mut self, port: Port, record: Record) -> Result<(), Failure> {
        self.emitted.push((port, record));
        Ok(())
    }

    fn note(&mut self, _facts: MemberFacts) {}

    fn progress(&mut self) {
        self.progressed += 1;
    }
}

impl Sink {
    /// Names and contents of the emitted members, in order.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let members = self.emitted.iter().filter(|(port, _)| *port == MEMBERS);
        members
            .map(|(_, record)| {
                let content = String::from_utf8(read(record)).unwrap();
                let fields = json(record);
                let file = &fields["file"];
                assert_eq!(file["size"], content.len());
                (file["name"].as_str().unwrap().to_owned(), content)
            })
            .collect()
    }

    /// The fields of the records of port `index`.
    pub(super) fn indexes(&self) -> Vec<serde_json::Value> {
        let indexes = self.emitted.iter().filter(|(port, _)| *port == INDEX);
        indexes.map(|(_, record)| json(record)).collect()
    }
}

/// The content of a record's blob.
pub(super) fn read(record: &Record) -> Vec<u8> {
    let Body::Blob(blob) = &record.body else { panic!("{:?}", record.body) };
    let mut content = Vec::new();
    blob.open().read_to_end(&mut content).unwrap();
    content
}

/// The fields of a record.
pub(super) fn json(record: &Record) -> serde_json::Value {
    serde_json::from_slice(&fields::raw(record)).unwrap()
}

/// The names that an index lists.
fn listed(record: &mut Record) -> Result<Vec<String>, Failure> {
    let files = json(record)["manifest"]["files"].clone();
    serde_json::from_value(files)
        .map_err(|error| Failure::poison(FailureClass::PROGRAM, error.to_string()))
}

/// A spool, and what a node over it is made of.
pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) counters: Arc<UnarchiveCounters>,
    pub(super) spool: Spool,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path(), DiskBudget::new(ROOM)).unwrap();
        Self { folder, clock: Arc::default(), counters: Arc::default(), spool }
    }

    /// Parts with small caps, `manifest.json` as the index, and its `files` as members.
    pub(super) fn parts(&self) -> UnarchiveParts {
        UnarchiveParts {
            limits: ArchiveLimits {
                entries: 10,
                entry: 100_000,
                total: 4 << 20,
                ratio: 100,
                time: Duration::from_secs(60),
            },
            index: Some(ArchiveIndex {
                name: "manifest.json".to_owned(),
                max_bytes: 2_000,
                field: "manifest".to_owned(),
            }),
            prepare: None,
            members: Some(Box::new(listed)),
            definition: Digest::from_bytes([7; 16]),
            spool: self.spool.clone(),
            clock: self.clock.clone(),
            counters: self.counters.clone(),
        }
    }

    /// Runs a node of the usual parts over `body`.
    pub(super) fn run(&self, body: &[u8]) -> Result<Sink, Failure> {
        run(self.parts(), body)
    }

    /// Directories and unlisted files so far.
    pub(super) fn skipped(&self) -> (u64, u64) {
        let counters = &self.counters;
        (counters.directories.load(Ordering::Relaxed), counters.unlisted.load(Ordering::Relaxed))
    }
}

/// Runs a node over `body`. What a failed record emitted is checked to be nothing.
pub(super) fn run(parts: UnarchiveParts, body: &[u8]) -> Result<Sink, Failure> {
    let mut record = fixtures::record(r#"{"request_id":"r-1"}"#);
    record.body = Body::Bytes(Bytes::copy_from_slice(body));
    let mut sink = Sink::default();
    let result = UnarchiveNode::new(parts).unwrap().apply(record, &mut sink);
    if result.is_err() {
        assert!(sink.emitted.is_empty(), "emitted before the archive was known to be whole");
    }
    result.map(|()| sink)
}
