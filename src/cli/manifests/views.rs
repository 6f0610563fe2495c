//! Manifests as tables.
//!
//! Responsible for: columns and their order.
//! Not responsible for: what is in them (`ops`), or the style of tables (`output`).

use comfy_table::CellAlignment;
use serde_json::{Map, Value};

use crate::cli::manifests::output::table;
use crate::ops::Delivery;
use crate::ops::manifests::{ManifestDetails, ManifestLine, MemberLine, Missing};
use crate::ops::tables::plain;
use crate::ops::text::{counted, printable};
use crate::ops::time::Time;

/// Members of a manifest that a table shows; JSON has all.
const SHOWN: usize = 200;

/// One line for each manifest.
pub(super) fn listing(manifests: &[ManifestLine], now: Time) -> String {
    let mut table =
        table(["manifest", "kind", "phase", "done", "failed", "missing", "rows", "last event"]);
    for line in manifests {
        table.add_row([
            printable(&line.manifest),
            printable(&line.kind),
            phase(line),
            progress(line),
            line.dead_lettered.to_string(),
            line.missing.to_string(),
            line.rows.to_string(),
            ago(line.last_at, now),
        ]);
    }
    for column in table.column_iter_mut().skip(3).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn phase(line: &ManifestLine) -> String {
    let phase = if line.blocked { "open, blocked" } else { line.phase.as_str() };
    if line.revision > 1 {
        return format!("{phase}, revision {}", line.revision);
    }
    phase.to_owned()
}

/// "9 of 12"; nobody knows of how many before it was announced.
fn progress(line: &ManifestLine) -> String {
    if line.announced {
        return format!("{} of {}", line.done, line.expected);
    }
    "not announced".to_owned()
}

/// "2025-03-13T05:00:00Z (3 h 12 min ago)".
fn ago(at: Time, now: Time) -> String {
    format!("{} ({} ago)", at.to_seconds(), at.until(now))
}

/// Ids of missing members, one on each line.
pub(super) fn missing(missing: &Missing) -> String {
    missing.missing.iter().map(|id| printable(id)).collect::<Vec<_>>().join("\n")
}

/// Everything about one manifest.
pub(super) fn details(details: &ManifestDetails, now: Time) -> String {
    let mut parts = vec![head(details, now)];
    if !details.members.is_empty() {
        parts.push(members(&details.members));
    }
    if !details.deliveries.is_empty() {
        parts.push(deliveries(&details.deliveries, now));
    }
    parts.join("\n\n")
}

fn head(details: &ManifestDetails, now: Time) -> String {
    let line = &details.line;
    let mut rows = vec![
        ("manifest", printable(&line.manifest)),
        ("pipeline", format!("{}, shard {}", printable(&details.pipeline), details.shard)),
        ("kind", printable(&line.kind)),
        ("phase", phase(line)),
        ("done", progress(line)),
        ("failed", line.dead_lettered.to_string()),
        ("missing", line.missing.to_string()),
        ("rows", line.rows.to_string()),
        ("first event", ago(line.first_at, now)),
        ("last event", ago(line.last_at, now)),
    ];
    rows.extend(line.completed_at.map(|at| ("complete since", ago(at, now))));
    rows.extend(line.note.as_deref().map(|note| ("note", printable(note))));
    rows.extend([
        ("duplicates", details.duplicates.to_string()),
        ("conflicts", details.conflicts.to_string()),
        ("late", details.late.to_string()),
    ]);
    if !details.facts.is_empty() {
        rows.push(("facts", facts(&details.facts)));
    }
    let wide = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| format!("{name:wide$}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn facts(facts: &Map<String, Value>) -> String {
    let shown = facts
        .iter()
        .map(|(name, value)| format!("{}={}", printable(name), printable(&plain(value))));
    shown.collect::<Vec<_>>().join(", ")
}

fn members(members: &[MemberLine]) -> String {
    let mut table = table(["member", "state", "rows", "rejected", "objects", "settled", "remark"]);
    for member in members.iter().take(SHOWN) {
        let rejected: u64 = member.facts.rejected.values().sum();
        table.add_row([
            printable(&member.member),
            member.state.clone(),
            member.facts.rows.to_string(),
            rejected.to_string(),
            member.facts.objects.len().to_string(),
            member.settled_at.map(Time::to_seconds).unwrap_or_default(),
            remark(member),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    match members.len().saturating_sub(SHOWN) {
        0 => table.to_string(),
        left_out => format!(
            "{table}\n… and {} more: --output json shows all",
            counted(left_out as u64, "member")
        ),
    }
}

fn remark(member: &MemberLine) -> String {
    let mut remarks = Vec::new();
    if !member.expected {
        remarks.push("not expected".to_owned());
    }
    if let Some(failure) = &member.facts.failure {
        let (class, node) = (printable(&failure.class), printable(failure.node.as_str()));
        remarks.push(format!("{class} at {node}: {}", printable(&failure.why)));
    }
    remarks.join("; ")
}

fn deliveries(deliveries: &[Delivery], now: Time) -> String {
    let mut table = table(["action", "revision", "to", "attempts", "delivered", "last error"]);
    for delivery in deliveries {
        let error = delivery.last_error.as_deref().map(printable);
        table.add_row([
            printable(&delivery.action),
            delivery.revision.to_string(),
            printable(&delivery.to),
            delivery.attempts.to_string(),
            delivery.delivered_at.map_or_else(|| "no".to_owned(), |at| ago(at, now)),
            error.unwrap_or_default(),
        ]);
    }
    table.to_string()
}
