//! Responsible for: that payloads can be had again, have the form of real ones, and hold what they
//! claim.
//! Not responsible for: what the engine makes of them.

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

const SCALE: Scale = Scale { clusters: 2, days: 2, rows: 30_000, seed: 7 };

struct Unpacked {
    names: Vec<String>,
    csv: String,
    manifest: Value,
}

fn unpack(archive: &[u8]) -> Unpacked {
    let mut unpacked = Unpacked { names: vec![], csv: String::new(), manifest: Value::Null };
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        if name == "manifest.json" {
            unpacked.manifest = serde_json::from_reader(&mut entry).unwrap();
        } else {
            entry.read_to_string(&mut unpacked.csv).unwrap();
        }
        unpacked.names.push(name);
    }
    unpacked
}

/// Counts a CSV as a reader would that knows nothing of the generator.
fn recount(csv: &str) -> Counts {
    let mut lines = csv.split_terminator("\r\n").map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let index_of = |name: &str| header.iter().position(|column| *column == name);
    let columns = [
        "pod_usage_cpu_core_seconds",
        "pod_request_cpu_core_seconds",
        "pod_limit_cpu_core_seconds",
        "pod_usage_memory_byte_seconds",
        "pod_request_memory_byte_seconds",
        "pod_limit_memory_byte_seconds",
    ];
    let columns = columns.map(index_of);
    let mut counts = Counts { csv_bytes: csv.len() as u64, ..Counts::default() };
    for row in lines {
        counts.rows += 1;
        let values = columns.map(|column| column.map_or(0.0, |at| row[at].parse::<f64>().unwrap()));
        let reason = if row.len() > header.len() {
            "long_row"
        } else if values.iter().any(|value| *value > 1e18) {
            "over_cap"
        } else {
            counts.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            continue;
        };
        *counts.rejected.entry(reason.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn the_same_scale_gives_the_same_bytes_in_any_order() {
    let (plan, again) = (Plan::new(SCALE), Plan::new(SCALE));
    for number in [plan.payloads() - 1, 0] {
        let (one, other) = (plan.payload(number).unwrap(), again.payload(number).unwrap());
        assert!(one.archive == other.archive, "payload {number}");
        assert_eq!((one.name, one.counts), (other.name, other.counts));
    }
    let other_seed = Plan::new(Scale { seed: 8, ..SCALE });
    assert!(plan.payload(0).unwrap().archive != other_seed.payload(0).unwrap().archive);
    assert_ne!(plan.manifest(0), other_seed.manifest(0));
}

#[test]
fn files_hold_what_they_claim_and_the_plan_adds_up() {
    let plan = Plan::new(SCALE);
    let (mut rows, mut rejected, mut names) = (0, BTreeMap::new(), BTreeSet::new());
    for number in 0..plan.payloads() {
        let payload = plan.payload(number).unwrap();
        let counts = payload.counts.unwrap();
        let Unpacked { csv, .. } = unpack(&payload.archive);
        let expected =
            Counts { cluster: counts.cluster.clone(), day: counts.day.clone(), ..recount(&csv) };
        assert_eq!(counts, expected, "{}", payload.name);
        assert!(csv.contains(&format!(",{} 00:00:00 +0000 UTC,", counts.day)));
        rows += counts.rows;
        for (reason, count) in counts.rejected {
            *rejected.entry(reason).or_insert(0) += count;
        }
        names.insert(payload.name);
    }
    assert_eq!(rows, plan.rows());
    let about = SCALE.rows * plan.reports();
    assert!(rows.abs_diff(about) < about / 10, "{rows} rows for {about}");
    assert_eq!(names.len() as u64, plan.payloads(), "names are unique");
    assert!(rejected["long_row"] > 0 && rejected["over_cap"] > 0, "{rejected:?}");
}

#[test]
fn archives_have_the_form_of_real_ones() {
    let plan = Plan::new(SCALE);
    let files = plan.payloads() / plan.reports();
    let mut listed = BTreeSet::new();
    for number in 0..files {
        let Unpacked { names, csv, manifest } = unpack(&plan.payload(number).unwrap().archive);
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!((names[0].as_str(), names[2].as_str()), ("", "manifest.json"));
        assert!(csv.ends_with("\r\n") && !csv.replace("\r\n", "").contains('\n'));
        let all = manifest["files"].as_array().unwrap();
        assert_eq!(all.len() as u64, files);
        assert!(all.contains(&Value::from(names[1].as_str())), "{names:?}");
        assert_eq!(manifest["uuid"], plan.manifest(0).to_string());
        assert_eq!(manifest["start"], "2025-03-10T00:00:00.000000+00:00");
        assert_eq!(manifest["end"], "2025-03-11T00:00:00.000000+00:00");
        listed.insert(names[1].clone());
    }
    assert_eq!(listed.len() as u64, files, "each listed file is in one archive");
}

#[test]
fn each_report_has_a_uuid_of_version_4_of_its_own() {
    let plan = Plan::new(SCALE);
    let uuids: BTreeSet<Uuid> = (0..plan.reports()).map(|report| plan.manifest(report)).collect();
    assert_eq!(uuids.len() as u64, plan.reports());
    assert!(uuids.iter().all(|uuid| uuid.get_version_num() == 4));
}

#[test]
fn a_file_stays_small_however_many_rows_there_are() {
    let plan = Plan::new(Scale { rows: 2_000_000, ..SCALE });
    assert!(plan.payloads() > 4 * 150);
    let counts = plan.payload(0).unwrap().counts.unwrap();
    assert_eq!(counts.rows, ROWS_PER_FILE);
    assert!(counts.csv_bytes < 6 << 20, "{} bytes", counts.csv_bytes);
}

#[test]
fn days_go_on_over_the_end_of_a_month() {
    let plan = Plan::new(Scale { clusters: 1, days: 30, rows: 200, seed: 1 });
    let files = plan.payloads() / plan.reports();
    let payload = plan.payload(22 * files).unwrap();
    assert_eq!(payload.counts.unwrap().day, "2025-04-01");
    let Unpacked { csv, .. } = unpack(&payload.archive);
    let first = csv.lines().nth(1).unwrap();
    assert!(
        first.starts_with(
            "2025-04-01 00:00:00 +0000 UTC,2025-05-01 00:00:00 +0000 UTC,\
             2025-04-01 00:00:00 +0000 UTC,2025-04-01 00:59:59 +0000 UTC,"
        ),
        "{first}"
    );
}
