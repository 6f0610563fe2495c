//! The result of a demo, for people.
//!
//! Responsible for: totals per cluster and day as the engine's summary has them, beside what was
//! generated; counts that have to add up; and saying so, or that they do not.
//! Not responsible for: getting them (`watch`).

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Map, Value};

use crate::cli::demo::generator::Counts;

/// Lines of the table that are shown.
const MOST_LINES: usize = 24;
/// How far sums may differ: they are added up in another order.
const TOLERANCE: f64 = 1e-6;
const SECONDS: f64 = 3600.0;
const GIB: f64 = (1_u64 << 30) as f64;
/// Columns of the summary, with what one of their units is in seconds or byte-seconds.
const COLUMNS: [(&str, f64); 6] = [
    ("pod_usage_cpu_core_hours", SECONDS),
    ("pod_request_cpu_core_hours", SECONDS),
    ("pod_limit_cpu_core_hours", SECONDS),
    ("pod_usage_memory_gigabyte_hours", SECONDS * GIB),
    ("pod_request_memory_gigabyte_hours", SECONDS * GIB),
    ("pod_limit_memory_gigabyte_hours", SECONDS * GIB),
];

/// A cluster on a day.
pub(super) type Key = (String, String);

/// Totals of one cluster and day, in the units of the summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) namespaces: u64,
    pub(super) sums: [f64; 6],
}

/// What came out of the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Came {
    /// Rows in Parquet files.
    pub(super) rows: u64,
    /// Rows that were left out, by reason.
    pub(super) rejected: BTreeMap<String, u64>,
    /// Parquet files and their bytes.
    pub(super) objects: (u64, u64),
    /// Files that were done, and files that were dead-lettered.
    pub(super) files: (u64, u64),
    /// Reports that are complete, and reports that wait for files.
    pub(super) reports: (u64, u64),
    /// The summary table.
    pub(super) totals: BTreeMap<Key, Totals>,
}

/// What went in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Went {
    /// Uploads.
    pub(super) payloads: u64,
    /// Rows and rejected rows; `None` for samples, which nobody has counted.
    pub(super) rows: Option<(u64, BTreeMap<String, u64>)>,
    /// Totals in the units of the summary.
    pub(super) totals: BTreeMap<Key, Totals>,
}

impl Went {
    /// Adds up what payloads held.
    pub(super) fn generated<'a>(payloads: u64, all: impl Iterator<Item = &'a Counts>) -> Self {
        let (mut rows, mut rejected) = (0, BTreeMap::new());
        let mut totals: BTreeMap<Key, Totals> = BTreeMap::new();
        for counts in all {
            rows += counts.rows;
            for (reason, count) in &counts.rejected {
                *rejected.entry(reason.clone()).or_default() += count;
            }
            let key = (counts.cluster.clone(), counts.day.clone());
            let sums = &mut totals.entry(key).or_default().sums;
            for ((sum, value), (_, unit)) in sums.iter_mut().zip(counts.sums).zip(COLUMNS) {
                *sum += value / unit;
            }
        }
        Self { payloads, rows: Some((rows, rejected)), totals }
    }
}

/// Adds up the rows of the summary table, which has one for each namespace.
pub(super) fn totals(rows: &[Map<String, Value>]) -> BTreeMap<Key, Totals> {
    let mut totals: BTreeMap<Key, Totals> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
        let entry = totals.entry((text("cluster_id"), text("usage_date"))).or_default();
        entry.namespaces += 1;
        for (sum, (column, _)) in entry.sums.iter_mut().zip(COLUMNS) {
            *sum += row.get(column).and_then(Value::as_f64).unwrap_or(0.0);
        }
    }
    totals
}

/// What does not add up; nothing is good.
pub(super) fn differences(went: &Went, came: &Came) -> Vec<String> {
    let mut found = Vec::new();
    let Some((rows, rejected)) = &went.rows else { return found };
    let left_out: u64 = came.rejected.values().sum();
    if *rows != came.rows + left_out {
        found.push(format!(
            "{rows} rows went in, {} came out and {left_out} were rejected",
            came.rows
        ));
    }
    if *rejected != came.rejected {
        found.push(format!("rejected rows: {rejected:?} expected, {:?} counted", came.rejected));
    }
    for (key, expected) in &went.totals {
        let (cluster, day) = key;
        match came.totals.get(key) {
            None => found.push(format!("{cluster} has no summary of {day}")),
            Some(totals) if !close(&expected.sums, &totals.sums) => {
                found.push(format!("the summary of {cluster} on {day} differs from the input"));
            }
            Some(_) => {}
        }
    }
    found
}

fn close(expected: &[f64; 6], found: &[f64; 6]) -> bool {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
    expected.iter().zip(found).all(near)
}

/// The whole text.
pub(super) fn render(went: &Went, came: &Came) -> String {
    let mut lines = vec![table(&came.totals)];
    if came.totals.len() > MOST_LINES {
        lines.push(format!("… and {} lines more", came.totals.len() - MOST_LINES));
    }
    lines.push(String::new());
    lines.push(format!("uploads   {}", HumanCount(went.payloads)));
    lines.push(format!("files     {}", outcome(came.files, "done", "dead-lettered")));
    lines.push(format!("reports   {}", outcome(came.reports, "complete", "waiting for files")));
    lines.push(rows(went, came));
    let (objects, bytes) = came.objects;
    lines.push(format!("parquet   {} files, {}", HumanCount(objects), HumanBytes(bytes)));
    let differences = differences(went, came);
    if differences.is_empty() && went.rows.is_some() {
        lines.push("checked   every row is accounted for, every total equals the input".to_owned());
    }
    lines.extend(differences.iter().map(|difference| format!("DIFFERS   {difference}")));
    lines.join("\n")
}

fn outcome((good, other): (u64, u64), what: &str, rest: &str) -> String {
    let good = format!("{} {what}", HumanCount(good));
    if other == 0 { good } else { format!("{good}, {} {rest}", HumanCount(other)) }
}

fn rows(went: &Went, came: &Came) -> String {
    let rejected: u64 = came.rejected.values().sum();
    let reasons: Vec<_> =
        came.rejected.iter().map(|(why, count)| format!("{why} {count}")).collect();
    let reasons =
        if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let out = format!(
        "{} in Parquet + {} rejected{reasons}",
        HumanCount(came.rows),
        HumanCount(rejected)
    );
    match &went.rows {
        Some((rows, _)) => format!("rows      {} in = {out}", HumanCount(*rows)),
        None => format!("rows      {out}"),
    }
}

/// The largest clusters and days, by CPU usage.
fn table(totals: &BTreeMap<Key, Totals>) -> String {
    let mut largest: Vec<_> = totals.iter().collect();
    largest.sort_by(|(_, a), (_, b)| b.sums[0].total_cmp(&a.sums[0]));
    largest.truncate(MOST_LINES);
    largest.sort_by_key(|(key, _)| *key);
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).force_no_tty();
    table.set_header([
        "cluster",
        "day",
        "namespaces",
        "CPU used (core-h)",
        "CPU requested",
        "memory used (GiB-h)",
        "memory requested",
    ]);
    for ((cluster, day), Totals { namespaces, sums }) in largest {
        let number = |sum: f64| format!("{sum:.1}");
        table.add_row([
            cluster.clone(),
            day.clone(),
            namespaces.to_string(),
            number(sums[0]),
            number(sums[1]),
            number(sums[3]),
            number(sums[4]),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(namespace: &str, cpu: f64) -> Map<String, Value> {
        let row = json!({
            "cluster_id": "c1", "usage_date": "2025-03-10", "namespace": namespace,
            "pod_usage_cpu_core_hours": cpu, "pod_request_cpu_core_hours": 2.0,
            "pod_limit_cpu_core_hours": 4.0, "pod_usage_memory_gigabyte_hours": 1.0,
            "pod_request_memory_gigabyte_hours": 2.0, "pod_limit_memory_gigabyte_hours": 4.0,
        });
        row.as_object().unwrap().clone()
    }

    fn went() -> Went {
        let memory = SECONDS * GIB;
        let counts = Counts {
            cluster: "c1".to_owned(),
            day: "2025-03-10".to_owned(),
            rows: 10,
            rejected: BTreeMap::from([("long_row".to_owned(), 1)]),
            sums: [5400.0, 7200.0, 14_400.0, memory, 2.0 * memory, 4.0 * memory],
            csv_bytes: 1,
        };
        Went::generated(2, [&counts, &counts].into_iter())
    }

    fn came() -> Came {
        Came {
            rows: 18,
            rejected: BTreeMap::from([("long_row".to_owned(), 2)]),
            objects: (3, 2048),
            files: (2, 0),
            reports: (1, 0),
            totals: totals(&[summary("a", 1.0), summary("b", 2.0)]),
        }
    }

    #[test]
    fn what_adds_up_is_said_to_and_shown_per_cluster_and_day() {
        assert_eq!(differences(&went(), &came()), Vec::<String>::new());
        let text = render(&went(), &came());
        for part in [
            "│ c1      ┆ 2025-03-10 ┆",
            "rows      20 in = 18 in Parquet + 2 rejected (long_row 2)",
            "uploads   2",
            "reports   1 complete",
            "parquet   3 files, 2.00 KiB",
            "checked   ",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn each_difference_is_named() {
        let mut lost = came();
        lost.rows = 17;
        assert!(differences(&went(), &lost)[0].starts_with("20 rows went in, 17 came out"));
        let mut miscounted = came();
        miscounted.rejected = BTreeMap::from([("over_cap".to_owned(), 2)]);
        assert!(differences(&went(), &miscounted)[0].starts_with("rejected rows"));
        let mut doubled = came();
        doubled.totals = totals(&[summary("a", 1.0), summary("b", 2.0), summary("b", 2.0)]);
        assert_eq!(
            differences(&went(), &doubled),
            ["the summary of c1 on 2025-03-10 differs from the input"]
        );
        let missing = Came { totals: BTreeMap::new(), ..came() };
        assert_eq!(differences(&went(), &missing), ["c1 has no summary of 2025-03-10"]);
        assert!(render(&went(), &missing).contains("DIFFERS   c1 has no summary"));
    }

    #[test]
    fn sums_may_differ_by_rounding_only() {
        let base = [1.0, 0.0, 1e9, 1.0, 1.0, 1.0];
        assert!(close(&base, &[1.0 + 1e-9, 0.0, 1e9 + 1.0, 1.0, 1.0, 1.0]));
        assert!(!close(&base, &[1.0 + 1e-5, 0.0, 1e9, 1.0, 1.0, 1.0]));
    }

    #[test]
    fn a_long_table_is_cut_and_says_so() {
        let day = |day: usize| ("c1".to_owned(), format!("2025-03-{day:02}"));
        let totals = (0..30).map(|number| (day(number), Totals::default())).collect();
        let text = render(&Went::default(), &Came { totals, ..Came::default() });
        assert!(text.contains("… and 6 lines more"), "{text}");
    }
}
