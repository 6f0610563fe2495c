//! Makes OpenShift cost reports of any size.
//!
//! Responsible for: deciding, from a seed, what clusters, days, reports, files and payloads there
//! are, and packing one payload at a time as the cost-management operator's test tool does: one
//! archive per CSV file, each with the whole manifest. The same scale gives the same bytes, on any
//! machine and in any order, so an interrupted demo goes on with the very same payloads.
//! Not responsible for: the columns of the files (`rows`), or sending them (`client`).
//!
//! The format is that of the files which real clusters upload: a directory without a name, the
//! CSV, then `manifest.json`. Written from observed files, not from anybody's source.

use std::collections::BTreeMap;
use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Span;
use jiff::civil::{Date, date};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tar::{EntryType, Header};
use uuid::{Builder, Uuid};

use crate::cli::demo::random::mix;
use crate::cli::demo::rows::{Context, Kind, Shape};

/// First day of the reports. It is fixed: the same seed means the same bytes next year.
const FIRST_DAY: Date = date(2025, 3, 10);
/// Most rows of one CSV file: what bounds the memory for a payload.
const ROWS_PER_FILE: u64 = 10_000;
/// Time stamp of the members of archives, 2025-03-10 00:00 UTC.
const ARCHIVED_AT: u64 = 1_741_564_800;
/// Hours of a day, which is the resolution of the reports.
pub(super) const HOURS: u64 = 24;

/// How much there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scale {
    /// Clusters; each makes a report a day.
    pub(super) clusters: u32,
    /// Days.
    pub(super) days: u32,
    /// Rows of a report, about.
    pub(super) rows: u64,
    /// What everything random is derived from.
    pub(super) seed: u64,
}

/// What a payload holds, to be compared with what comes out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Cluster that it is of.
    pub(super) cluster: String,
    /// Day that it is about, `2025-03-10`.
    pub(super) day: String,
    /// Rows of its CSV.
    pub(super) rows: u64,
    /// Rows among them that have to be rejected, by reason.
    pub(super) rejected: BTreeMap<String, u64>,
    /// Sums over the other rows, if they are of pods: CPU usage, request and limit in core-seconds,
    /// memory usage, request and limit in byte-seconds.
    pub(super) sums: [f64; 6],
    /// Size of the CSV in bytes.
    pub(super) csv_bytes: u64,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Payload {
    /// Name of the archive.
    pub(super) name: String,
    /// The archive.
    pub(super) archive: Vec<u8>,
    /// What it holds, where that is known.
    pub(super) counts: Option<Counts>,
}

/// A stretch of rows of one kind, which makes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileSpec {
    kind: Kind,
    first: u64,
    rows: u64,
}

/// All payloads of a scale.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    scale: Scale,
    shape: Shape,
    /// Files of each report; all reports have the same.
    files: Vec<FileSpec>,
}

impl Plan {
    /// What there is at `scale`.
    pub(super) fn new(scale: Scale) -> Self {
        let shape = Shape::of(scale.rows);
        let files = Kind::ALL.iter().flat_map(|kind| {
            let all = shape.rows(*kind);
            let starts = (0..all).step_by(ROWS_PER_FILE as usize);
            starts.map(move |first| FileSpec {
                kind: *kind,
                first,
                rows: ROWS_PER_FILE.min(all - first),
            })
        });
        let files = files.collect();
        Self { scale, shape, files }
    }

    /// Number of reports: one for each cluster and day.
    pub(super) fn reports(&self) -> u64 {
        u64::from(self.scale.clusters) * u64::from(self.scale.days)
    }

    /// Number of payloads, and of CSV files.
    pub(super) fn payloads(&self) -> u64 {
        self.reports() * self.files.len() as u64
    }

    /// Rows of all CSV files.
    pub(super) fn rows(&self) -> u64 {
        self.reports() * self.files.iter().map(|file| file.rows).sum::<u64>()
    }

    /// Manifest uuid of a report.
    pub(super) fn manifest(&self, report: u64) -> Uuid {
        let (high, low) = (mix(&[self.scale.seed, 1, report]), mix(&[self.scale.seed, 2, report]));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Makes payload number `number`, from 0.
    ///
    /// # Errors
    /// A date beyond the calendar; nothing else can fail.
    pub(super) fn payload(&self, number: u64) -> io::Result<Payload> {
        let files = self.files.len() as u64;
        let (report, file) = (number / files, (number % files) as usize);
        let spec = self.files[file];
        let day = self.day(report)?;
        let cluster = self.cluster(report);
        let context = Context {
            seed: mix(&[self.scale.seed, u64::from(self.cluster_number(report))]),
            shape: self.shape,
            day,
            month: day.first_of_month(),
            next_month: day.last_of_month().tomorrow().map_err(io::Error::other)?,
        };
        let (csv, mut counts) = context.csv(spec.kind, spec.first, spec.rows)?;
        (counts.cluster, counts.day) = (cluster.clone(), day.to_string());
        let manifest = self.manifest_json(report, day)?;
        let uuid = self.manifest(report);
        let archive = pack(&file_name(uuid, file), &csv, &manifest)?;
        Ok(Payload {
            name: format!("{cluster}-{day}-{file}.tar.gz"),
            archive,
            counts: Some(counts),
        })
    }

    fn cluster_number(&self, report: u64) -> u32 {
        (report % u64::from(self.scale.clusters)) as u32
    }

    fn cluster(&self, report: u64) -> String {
        format!("demo-cluster-{:02}", self.cluster_number(report) + 1)
    }

    fn day(&self, report: u64) -> io::Result<Date> {
        let days = i64::try_from(report / u64::from(self.scale.clusters)).unwrap_or(i64::MAX);
        let span = Span::new().try_days(days).map_err(io::Error::other)?;
        FIRST_DAY.checked_add(span).map_err(io::Error::other)
    }

    fn manifest_json(&self, report: u64, day: Date) -> io::Result<Vec<u8>> {
        let uuid = self.manifest(report);
        let end = day.tomorrow().map_err(io::Error::other)?;
        let files: Vec<_> = (0..self.files.len()).map(|file| file_name(uuid, file)).collect();
        let manifest = json!({
            "cluster_id": self.cluster(report),
            "uuid": uuid,
            "date": format!("{end}T00:00:00.000000+00:00"),
            "files": files,
            "start": format!("{day}T00:00:00.000000+00:00"),
            "end": format!("{end}T00:00:00.000000+00:00"),
            "version": "4.1.0",
            "certified": false,
            "daily_reports": true,
        });
        Ok(serde_json::to_vec_pretty(&manifest)?)
    }
}

fn file_name(manifest: Uuid, file: usize) -> String {
    format!("{manifest}_openshift_report.{file}.csv")
}

/// The archive, as the real client orders it.
fn pack(csv_name: &str, csv: &[u8], manifest: &[u8]) -> io::Result<Vec<u8>> {
    let room = csv.len() / 6 + 4096;
    let mut archive =
        tar::Builder::new(GzEncoder::new(Vec::with_capacity(room), Compression::fast()));
    let mut folder = header(EntryType::Directory, 0o700, 0);
    folder.set_cksum();
    archive.append(&folder, io::empty())?;
    for (name, mode, bytes) in [(csv_name, 0o644, csv), ("manifest.json", 0o600, manifest)] {
        let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
        archive.append_data(&mut header, name, bytes)?;
    }
    archive.into_inner()?.finish()
}

fn header(entry: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(ARCHIVED_AT);
    header
}

#[cfg(test)]
mod tests;
