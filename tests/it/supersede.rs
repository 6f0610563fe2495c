//! Reports that replace each other: of daily reports of a day one stays, whatever comes first, and
//! what it replaced stays away. The oracle judges lake and summary as in `cost`.

use std::ops::Range;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::cost::{Job, Running, files, messages, rewind};
use crate::harness::wait_for;

const DAY: &str = "2025-05-12";
const COLUMNS: &str = "report_period_start,report_period_end,interval_start,interval_end,pod,\
     namespace,node,resource_id,pod_usage_cpu_core_seconds,pod_request_cpu_core_seconds,\
     pod_limit_cpu_core_seconds,pod_usage_memory_byte_seconds,pod_request_memory_byte_seconds,\
     pod_limit_memory_byte_seconds,node_capacity_cpu_cores,node_capacity_cpu_core_seconds,\
     node_capacity_memory_bytes,node_capacity_memory_byte_seconds,pod_labels";

/// Hours of a day that a file has rows of.
type Hours<'r> = (&'r str, Range<u32>);

/// What a cluster uploads at once.
struct Report<'r> {
    cluster: &'r str,
    /// What it claims to cover.
    span: (String, String),
    /// What each of its files covers.
    files: Vec<Vec<Hours<'r>>>,
    /// Whether it is a daily report, and not a part that adds up.
    is_daily: bool,
}

impl<'r> Report<'r> {
    /// A daily report of the first hours of a day, in so many files.
    fn of_hours(cluster: &'r str, hours: u32, files: u32) -> Self {
        let share = |file: u32| hours * file / files..hours * (file + 1) / files;
        let end = format!("{DAY}T{:02}:59:59+00:00", hours - 1);
        Self {
            cluster,
            span: (format!("{DAY}T00:00:00+00:00"), end),
            files: (0..files).map(|file| vec![(DAY, share(file))]).collect(),
            is_daily: true,
        }
    }

    /// Uploads it, and puts it below `inputs` for the oracle; returns its uuid.
    fn upload(&self, running: &Running, inputs: &Path) -> String {
        let uuid = Uuid::new_v4().to_string();
        let names: Vec<String> = (0..self.files.len())
            .map(|file| format!("{uuid}_openshift_report.{file}.csv"))
            .collect();
        let manifest = json!({
            "uuid": uuid,
            "cluster_id": self.cluster,
            "date": self.span.1,
            "start": self.span.0,
            "end": self.span.1,
            "files": names,
            "resource_optimization_files": ["ros-openshift-container.csv"],
            "version": "4.1.0",
            "daily_reports": self.is_daily,
        });
        let rows = self.files.iter().map(|hours| csv(hours).into_bytes());
        let mut members: Vec<(String, Vec<u8>)> = names.into_iter().zip(rows).collect();
        // It is carried along for somebody else.
        members.push(("ros-openshift-container.csv".to_owned(), b"a,b\r\n1,2\r\n".to_vec()));
        members.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        let path = inputs.join(format!("{uuid}.tar.gz"));
        std::fs::write(&path, packed(&members)).expect("the payload");
        running.upload(&path);
        uuid
    }
}

fn csv(hours: &[Hours<'_>]) -> String {
    let mut text = format!("{COLUMNS}\r\n");
    for (day, hours) in hours {
        let (year_and_month, end) = (&day[..7], hours.end);
        for hour in hours.clone() {
            let period = format!("{year_and_month}-01 00:00:00 +0000 UTC");
            let start = format!("{day} {hour:02}:00:00 +0000 UTC");
            let stop = format!("{day} {hour:02}:59:59 +0000 UTC");
            // Numbers that tell reports of other lengths apart.
            text.push_str(&format!(
                "{period},{period},{start},{stop},pod-1,shop,node-1,i-1,{end}00,200.5,300,4000,\
                 5000,6000,4,14400,16000000000,57600000000000,label_app:shop\r\n"
            ));
        }
    }
    text
}

fn packed(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes.as_slice()).expect("a member");
    }
    archive.into_inner().and_then(GzEncoder::finish).expect("an archive")
}

fn inputs() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Number of objects in the lake whose name has this in it.
fn objects(job: &Job, part: &str) -> usize {
    let lake = job.folder.path().join("data/lake");
    let names = files(&lake, "parquet")
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)));
    names.count()
}

fn wait_until_nothing_is_to_be_deleted(job: &Job) {
    wait_for("deletions", || {
        let due = job.count("SELECT count(*) FROM tidemill_retired WHERE deleted_at IS NULL");
        (due == Some(0)).then_some(())
    });
}

#[test]
fn of_daily_reports_the_one_that_covers_most_of_a_day_stays_in_any_order() {
    let (job, inputs) = (Job::new(None), inputs());
    let running = job.start();
    let send = |report: &Report<'_>| report.upload(&running, inputs.path());
    let fewer_first = send(&Report::of_hours("rising", 17, 1));
    let more_first = send(&Report::of_hours("falling", 18, 2));
    let tied = send(&Report::of_hours("tied", 12, 1));
    job.wait_until_complete(3);
    let more_then = send(&Report::of_hours("rising", 18, 2));
    let fewer_then = send(&Report::of_hours("falling", 17, 1));
    let tied_too = send(&Report::of_hours("tied", 12, 1));
    // Nobody waits for these: they complete as it happens, also at the same moment.
    let short: Vec<_> = (1..4).map(|hours| send(&Report::of_hours("rush", hours, 1))).collect();
    let longest = send(&Report::of_hours("rush", 4, 1));
    job.wait_until_complete(10);
    wait_until_nothing_is_to_be_deleted(&job);
    running.stop();
    for gone in [&fewer_first, &fewer_then].into_iter().chain(&short) {
        assert_eq!(objects(&job, gone), 0, "{gone} is superseded");
    }
    for (stays, count) in [(&more_first, 2), (&more_then, 2), (&longest, 1)] {
        assert_eq!(objects(&job, stays), count, "{stays} covers most");
    }
    assert_eq!(objects(&job, &tied) + objects(&job, &tied_too), 1, "of equal ones one stays");
    job.check(inputs.path());
}

#[test]
fn each_day_of_a_report_is_decided_on_its_own() {
    let (job, inputs) = (Job::new(None), inputs());
    let running = job.start();
    let report = |start: &str, end: &str, first: Range<u32>, second: Range<u32>| Report {
        cluster: "days",
        span: (start.to_owned(), end.to_owned()),
        files: vec![vec![("2025-05-10", first), ("2025-05-11", second)]],
        is_daily: true,
    };
    let (begin, next) = ("2025-05-10T00:00:00Z", "2025-05-11T05:00:00Z");
    let early = report(begin, next, 0..24, 0..5).upload(&running, inputs.path());
    job.wait_until_complete(1);
    let (begin, next) = ("2025-05-10T21:00:00Z", "2025-05-12T00:00:00Z");
    let late = report(begin, next, 21..24, 0..24).upload(&running, inputs.path());
    job.wait_until_complete(2);
    wait_until_nothing_is_to_be_deleted(&job);
    running.stop();
    let left = |day: &str, uuid: &str| objects(&job, &format!("{day}-{uuid}"));
    assert_eq!([left("2025-05-10", &early), left("2025-05-10", &late)], [1, 0]);
    assert_eq!([left("2025-05-11", &early), left("2025-05-11", &late)], [0, 1]);
    job.check(inputs.path());
}

#[test]
fn what_was_superseded_is_gone_again_after_a_replay_of_all_announcements() {
    let (job, inputs) = (Job::new(None), inputs());
    let running = job.start();
    let old = Report::of_hours("again", 17, 1).upload(&running, inputs.path());
    job.wait_until_complete(1);
    let new = Report::of_hours("again", 18, 1).upload(&running, inputs.path());
    job.wait_until_complete(2);
    wait_until_nothing_is_to_be_deleted(&job);
    running.stop();
    assert_eq!((objects(&job, &old), objects(&job, &new)), (0, 1));
    let deleted = "SELECT max(deleted_at) FROM tidemill_retired";
    let before = job.count(deleted).expect("a deletion");

    rewind(&job);
    let running = job.start();
    // Each upload says again what its report expects, and that its one file is done.
    wait_for("the replay", || {
        let duplicates = job.count("SELECT sum(duplicates) FROM tidemill_manifest");
        duplicates.filter(|count| *count >= 4)
    });
    wait_for("another deletion", || job.count(deleted).filter(|after| *after > before));
    running.stop();
    assert_eq!((objects(&job, &old), objects(&job, &new)), (0, 1));
    let revisions = "SELECT max(revision) FROM tidemill_manifest";
    assert_eq!(job.count(revisions), Some(1), "nothing completed again");
    job.check(inputs.path());
}

#[test]
fn parts_add_up_and_a_report_over_two_months_has_an_entry_for_each() {
    let (job, inputs) = (Job::new(None), inputs());
    let running = job.start();
    let send = |report: &Report<'_>| report.upload(&running, inputs.path());
    let parts: Vec<_> = [3, 4]
        .map(|hours| Report { is_daily: false, ..Report::of_hours("parts", hours, 1) })
        .iter()
        .map(send)
        .collect();
    let months = send(&Report {
        cluster: "months",
        span: ("2025-01-30T00:00:00+00:00".to_owned(), "2025-02-02T00:00:00+00:00".to_owned()),
        files: vec![vec![("2025-01-30", 0..24), ("2025-01-31", 0..24), ("2025-02-01", 0..24)]],
        is_daily: true,
    });
    job.wait_until_complete(3);
    let undelivered = "SELECT count(*) FROM tidemill_outbox WHERE delivered_at IS NULL";
    wait_for("the messages", || (job.count(undelivered) == Some(0)).then_some(()));
    running.stop();
    for part in &parts {
        assert_eq!(objects(&job, part), 1, "{part} replaces nothing and nothing replaces it");
    }
    assert_eq!(objects(&job, &months), 3);
    job.check(inputs.path());

    let told = messages(&job, "cost.summaries");
    let told: Vec<Value> =
        told.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let of_months = told.iter().filter(|message| message["manifest"] == months.as_str());
    let mut spans: Vec<(&str, &str)> = of_months
        .map(|message| (&message["start"], &message["end"]))
        .filter_map(|(start, end)| start.as_str().zip(end.as_str()))
        .collect();
    spans.sort_unstable();
    assert_eq!(spans, [("2025-01-30", "2025-01-31"), ("2025-02-01", "2025-02-01")]);
    assert_eq!(told.len(), 4, "one message for each of the parts");
}
