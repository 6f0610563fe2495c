//! A CSV file to typed Parquet.
//!
//! Responsible for: the CSV node and the Parquet sink on a file of pod usage, from the spooled
//! file to the durable object, against the same written with `csv-core` and `parquet` by hand, and
//! against other programs that people would take for it.
//! Not responsible for: archives, partitions and manifests: one file makes one object.
//!
//! Both sides work on one thread under the same policies: doubles as Python reads them and bad
//! ones taken as zero, instants in UTC, rows with too many fields or too large a value left out,
//! zstd 1, statistics per page, the same row groups. The engine also hashes the object.

mod by_hand;
mod peers;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidemill::expr::Template;
use tidemill::model::body::SpooledFile;
use tidemill::model::{
    Blob, Body, Epoch, Fields, LogRecord, Metadata, Offset, Record, SourceBatch, SourceRef,
    TopicPartition,
};
use tidemill::processor::config::{
    ColumnKind, Csv, CsvColumn, CsvSchema, Derived, DerivedFrom, DropRow, LongRows,
};
use tidemill::processor::csv::CsvNode;
use tidemill::processor::stage::{Chain, ChainNode, Output, Step};
use tidemill::progress::obligation::Obligation;
use tidemill::runtime::clock::SystemClock;
use tidemill::runtime::inbox::{Inbox, inbox};
use tidemill::sink::config::ParquetSink;
use tidemill::sink::parquet::{PackageBatch, ParquetWriter, UploadContext};
use tidemill::spool::objects::ObjectRoot;
use tidemill::spool::{DiskBudget, Spool};

use crate::harness::pipeline::runtime;
use crate::harness::process::{Meter, Sample};
use crate::harness::records::Random;
use crate::harness::{About, Fixture, Row, Setting, Side, Tried, Unit, folder, text};

pub use peers::Peer;

/// Size of the file.
const BYTES: u64 = 200_000_000;
/// Bytes of a row, about.
const ROW_BYTES: u64 = 355;
/// The file in its folder.
const FILE: &str = "pod_usage.csv";
/// Format of its instants.
const INSTANT: &str = "%Y-%m-%d %H:%M:%S %z UTC";
/// Rows with a value above it are left out.
const ABOVE: f64 = 1e18;
/// The column that this does not apply to.
const UNBOUNDED: &str = "node_capacity_cpu_cores";
/// Rows of a batch, and of a row group.
const BATCH_ROWS: usize = 8_192;
const GROUP_ROWS: usize = 65_536;
/// The day of this instant is added as a column.
const DAY_OF: &str = "interval_start";
const DAY: &str = "usage_date";

/// Columns of a pod usage report.
const COLUMNS: [(&str, ColumnKind); 19] = [
    ("report_period_start", ColumnKind::Instant),
    ("report_period_end", ColumnKind::Instant),
    ("interval_start", ColumnKind::Instant),
    ("interval_end", ColumnKind::Instant),
    ("pod", ColumnKind::Text),
    ("namespace", ColumnKind::Text),
    ("node", ColumnKind::Text),
    ("resource_id", ColumnKind::Text),
    ("pod_usage_cpu_core_seconds", ColumnKind::Double),
    ("pod_request_cpu_core_seconds", ColumnKind::Double),
    ("pod_limit_cpu_core_seconds", ColumnKind::Double),
    ("pod_usage_memory_byte_seconds", ColumnKind::Double),
    ("pod_request_memory_byte_seconds", ColumnKind::Double),
    ("pod_limit_memory_byte_seconds", ColumnKind::Double),
    (UNBOUNDED, ColumnKind::Double),
    ("node_capacity_cpu_core_seconds", ColumnKind::Double),
    ("node_capacity_memory_bytes", ColumnKind::Double),
    ("node_capacity_memory_byte_seconds", ColumnKind::Double),
    ("pod_labels", ColumnKind::Text),
];

/// The row.
pub struct CsvToParquet {
    /// Another program in the place of what is written by hand.
    pub beside: Option<Peer>,
}

impl Row for CsvToParquet {
    fn about(&self) -> About {
        let by_hand = About {
            name: "csv-parquet".to_owned(),
            path: "CSV to typed Parquet, zstd 1, one thread; csv-core and parquet by hand",
            goal: "≥ 0.75, RSS ≤ 100 MB",
            unit: Unit::Megabytes,
            needs: None,
        };
        let Some(peer) = self.beside else { return by_hand };
        About {
            name: format!("{}-{}", by_hand.name, peer.as_str()),
            path: "the same; another program, in a process that says what it cost",
            goal: "≥ 1",
            needs: Some(peer.need()),
            ..by_hand
        }
    }

    fn prepare(&self, setting: &Setting) -> Tried<Fixture> {
        let folder = folder()?;
        write_report(&folder.path().join(FILE), setting.scaled(BYTES))?;
        Fixture::folder(folder)
    }

    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
        let report = Path::new(fixture).join(FILE);
        let bytes = report.metadata()?.len();
        let output = tempfile::tempdir_in(fixture)?;
        let object = output.path().join("part-0.parquet");
        match (side, self.beside) {
            (Side::Engine, _) => {
                let job = Job::build(output.path())?;
                let meter = Meter::start()?;
                let rows = job.run(&report, bytes)?;
                meter.stop(rows, bytes)
            }
            (Side::Baseline, None) => {
                let meter = Meter::start()?;
                let rows = by_hand::convert(&report, &object)?;
                meter.stop(rows, bytes)
            }
            (Side::Baseline, Some(peer)) => peer.convert(setting, &report, &object, bytes),
        }
    }
}

/// The engine's nodes for the file.
struct Job {
    chain: Chain,
    packages: Inbox<PackageBatch>,
    uploads: UploadContext,
}

impl Job {
    fn build(output: &Path) -> Tried<Self> {
        let root = ObjectRoot::open(text(&output.join("lake"))?, None)?;
        let spool = Spool::new(output.join("spool"), DiskBudget::new(1 << 30))?;
        let sink = ParquetSink {
            url: root.url().to_owned(),
            s3: None,
            path: Template::parse("{%schema}/part-{%part}.parquet")
                .map_err(|error| format!("{error:?}"))?,
            omit: Vec::new(),
            zstd: 1,
            row_group_rows: GROUP_ROWS,
            object_rows: u64::MAX,
            objects: None,
        };
        let (address, packages) = inbox("lake", 1);
        let writer = ParquetWriter::new("lake".into(), "bench".into(), &sink, spool, address)?;
        let reader = CsvNode::new(&settings(), false)?;
        let to_writer = Output { boundaries: Vec::new(), next: vec![1] };
        let nodes = vec![
            ChainNode {
                name: "rows".into(),
                step: Step::Transform(Box::new(reader)),
                outputs: vec![to_writer, Output::default()],
            },
            ChainNode {
                name: "lake".into(),
                step: Step::Writer(Box::new(writer)),
                outputs: Vec::new(),
            },
        ];
        let (clock, instruments) = (SystemClock::shared(), Arc::default());
        Ok(Self {
            chain: Chain::new(nodes, vec![vec![0]]),
            packages,
            uploads: UploadContext::new("lake".into(), root, clock, instruments),
        })
    }

    /// Returns the rows in durable objects.
    fn run(mut self, report: &Path, bytes: u64) -> Tried<u64> {
        let file = SpooledFile::new(File::open(report)?, Box::new(()));
        let mut record = record();
        record.body = Body::Blob(Blob::new(file, 0, bytes));
        let finished = self.chain.run(0, record, &|| {}).map_err(|broken| {
            let why = broken.failure.map_or("a panic".to_owned(), |failure| failure.to_string());
            format!("{}: {why}", broken.node)
        })?;
        self.chain.commit(finished, Obligation::detached());
        self.chain.flush()?;
        let packages = self.packages.blocking_recv().ok_or("the sink made no objects")?;
        let objects = packages.iter().flat_map(|package| &package.objects);
        let rows = objects.map(|object| object.rows).sum();
        let uploads = &self.uploads;
        runtime()?.block_on(async move {
            for package in packages {
                uploads.deliver(package).await;
            }
        });
        Ok(rows)
    }
}

fn settings() -> Csv {
    let columns =
        COLUMNS.iter().map(|(name, kind)| CsvColumn { name: (*name).to_owned(), kind: *kind });
    let bounded = COLUMNS.iter().filter(|column| is_bounded(column));
    Csv {
        schemas: vec![CsvSchema {
            name: "pod_usage".to_owned(),
            columns: columns.collect(),
            drop_row: Some(DropRow {
                above: ABOVE,
                columns: bounded.map(|(name, _)| (*name).to_owned()).collect(),
            }),
        }],
        delimiter: b',',
        long_rows: LongRows::Reject,
        bad_double: Some(0.0),
        instant_format: INSTANT.to_owned(),
        derive: vec![Derived {
            name: DAY.to_owned(),
            from: DerivedFrom::Date { column: DAY_OF.to_owned() },
        }],
        batch_rows: BATCH_ROWS,
        max_row_bytes: 1 << 20,
    }
}

fn is_bounded((name, kind): &(&str, ColumnKind)) -> bool {
    *kind == ColumnKind::Double && *name != UNBOUNDED
}

fn record() -> Record {
    let log = LogRecord {
        offset: Offset::ZERO,
        timestamp: None,
        key: None,
        value: Some(Bytes::from_static(b"{}")),
        headers: Vec::new(),
    };
    let origin = TopicPartition::new("files", 0);
    let batch = Arc::new(SourceBatch { origin, epoch: Epoch(1), records: vec![log] });
    let fields = Fields::Raw(Bytes::from_static(b"{}"));
    Record::from_source(SourceRef::new(batch, 0), Arc::new(Metadata::default()), fields)
}

/// Writes a day of a cluster, hour by hour, with a few rows that the policies are for.
fn write_report(path: &Path, bytes: u64) -> Tried {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    writeln!(file, "{}", names.join(","))?;
    let mut random = Random::new(3);
    let rows = bytes / ROW_BYTES;
    for row in 0..rows {
        let hour = row * 24 / rows;
        write!(
            file,
            "2025-03-01 00:00:00 +0000 UTC,2025-04-01 00:00:00 +0000 UTC,\
             2025-03-10 {hour:02}:00:00 +0000 UTC,2025-03-10 {hour:02}:59:59 +0000 UTC,"
        )?;
        write_pod(&mut file, row % 20_000, &mut random)?;
        // Too many fields.
        file.write_all(if row % 5_000 == 7 { b",surplus\n" } else { b"\n" })?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

fn write_pod(file: &mut impl std::io::Write, pod: u64, random: &mut Random) -> Tried {
    let node = pod % 40;
    let cores = 1 + random.below(4);
    let request = cores * 3_600;
    let memory = 1_073_741_824 * cores;
    write!(file, "worker-{pod:05}-{:05x},shop-{:02},", pod * 7, pod % 25)?;
    write!(file, "node-{node:03}.example.net,i-{:08x},", node * 0x0101_0101)?;
    match random.below(1_000) {
        // Neither is a double, and the second is above the bound.
        0 => write!(file, "n/a,")?,
        1 => write!(file, "1e30,")?,
        _ => write!(file, "{}.{:03},", random.below(request), random.below(1_000))?,
    }
    write!(file, "{request},{},", request * 2)?;
    write!(file, "{}.{:02},", random.below(memory) * 3_600, random.below(100))?;
    write!(file, "{},{},", memory * 3_600, memory * 7_200)?;
    write!(file, "8,28800,137438953472,494780232499200,")?;
    write!(
        file,
        "label_app:worker-{}|label_part_of:shop-{:02}|label_version:4.{}|label_hash:{:09x}",
        pod % 60,
        pod % 25,
        pod % 14,
        pod * 0x0001_0f0f
    )?;
    Ok(())
}
