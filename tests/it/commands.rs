//! The commands as people use them: the demo, checks, questions about manifests.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use tidemill::broker::ProducerRecord;
use tidemill::broker::embedded::EmbeddedLog;
use tidemill::model::Topic;

use crate::harness::{Reader, Tidemill, produce, wait_for};

fn tidemill(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn told(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

/// Lines of the demo's end that must not depend on how often it was killed.
fn results(text: &str) -> Vec<String> {
    let counted = ["uploads ", "files ", "reports ", "rows ", "checked "];
    let lines = text
        .lines()
        .filter(|line| line.starts_with('│') || counted.iter().any(|word| line.starts_with(word)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const DEMO: [&str; 7] = ["demo", "--clusters", "2", "--days", "2", "--rows", "60000"];

#[test]
fn the_demo_goes_on_after_kills_and_ends_with_the_same_result() {
    let quiet = tempfile::tempdir().expect("a folder");
    let undisturbed = tidemill(&DEMO, quiet.path());
    assert!(undisturbed.status.success(), "{}", told(&undisturbed));
    let wanted = results(&String::from_utf8_lossy(&undisturbed.stdout));
    assert!(wanted.iter().any(|line| line.starts_with("checked")), "{wanted:?}");

    let folder = tempfile::tempdir().expect("a folder");
    for complete in [0, 1, 2] {
        let process = Tidemill::start(&DEMO, folder.path());
        let database = folder.path().join("data/demo/state.db");
        wait_for("some reports", || {
            let query = "SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'";
            (count(&database, query)? >= complete).then_some(())
        });
        process.signal("KILL");
        process.wait();
    }
    let last = tidemill(&DEMO, folder.path());
    assert!(last.status.success(), "{}", told(&last));
    assert_eq!(results(&String::from_utf8_lossy(&last.stdout)), wanted);
}

/// The first number a query gives, where the database is there and has the table.
fn count(path: &Path, query: &str) -> Option<i64> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    database.query_row(query, [], |row| row.get(0)).ok()
}

#[test]
fn questions_about_manifests_are_answered_from_what_a_pipeline_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/cost/single");
    let samples = samples.to_str().expect("a path of text");
    let demo = tidemill(&["demo", "--samples", samples, "--data", "data"], folder.path());
    assert!(demo.status.success(), "{}", told(&demo));

    let key = "4af09606-3362-4c43-adf2-8f9558491c2e";
    let list = tidemill(&["manifests", "list", "--output", "json"], folder.path());
    assert!(list.status.success(), "{}", told(&list));
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("json");
    assert_eq!(list[0]["manifest"], key);

    let explained = tidemill(&["manifests", "explain", key], folder.path());
    assert!(told(&explained).contains("6 of 6 members done"), "{}", told(&explained));

    let summary = ["tables", "show", "ocp_usage_summary", "--output", "csv"];
    let summary = tidemill(&summary, folder.path());
    assert!(told(&summary).starts_with("cluster_id,usage_date,namespace,"), "{}", told(&summary));

    let unknown = tidemill(&["manifests", "explain", "4af09606"], folder.path());
    assert_eq!(unknown.status.code(), Some(2), "{}", told(&unknown));
}

#[test]
fn a_wrong_topology_is_told_completely_and_ends_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = "version = 1\nname = \"wrong\"\n\n[sources.orders]\ntype = \"kafka\"\n\
                 topic = \"orders\"\ndecode = \"json\"\n\n[processors.paid]\ntype = \"filter\"\n\
                 inputs = [\"order\"]\ncondition = '.status = '\n";
    std::fs::write(folder.path().join("wrong.toml"), wrong).expect("the topology");
    let checked = tidemill(&["check", "wrong.toml"], folder.path());
    assert_eq!(checked.status.code(), Some(2));
    let text = told(&checked);
    for expected in ["wrong.toml:11:11", "did you mean `orders`?", "wrong.toml:12:", "^"] {
        assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
    }
}

#[test]
fn the_shipped_topologies_are_fine_and_can_be_described() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for topology in ["topologies/passthrough.toml", "topologies/cost-management.toml"] {
        let checked = tidemill(&["check", topology], project);
        assert!(checked.status.success(), "{}", told(&checked));
        let drawn = tidemill(&["describe", topology, "--format", "mermaid"], project);
        assert!(told(&drawn).starts_with("flowchart"), "{}", told(&drawn));
    }
}

#[test]
fn passthrough_runs_on_the_embedded_log_and_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data/log");
    std::fs::create_dir_all(&data).expect("the folder");
    let open = || EmbeddedLog::open(&data, std::sync::Arc::new(|| 0)).expect("the log");
    let log = open();
    produce(&*log, (0..20_000).map(order));
    log.close();
    drop(log);

    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/passthrough.toml");
    let run = ["run", topology.to_str().expect("a path of text")];
    let produced = "SELECT count(*) FROM records JOIN topics ON topics.id = records.topic_id \
                    WHERE topics.name = 'orders.paid'";
    let reached = |records: i64| {
        wait_for("paid orders", || {
            (count(&data.join("log.db"), produced)? >= records).then_some(())
        });
    };
    let first = Tidemill::start(&run, folder.path());
    reached(1);
    first.signal("KILL");
    first.wait();
    let second = Tidemill::start(&run, folder.path());
    reached(20_000);
    second.signal("TERM");
    let (status, log) = second.wait();
    assert!(status.success() && log.contains("complete=true"), "{log}");

    let log = open();
    let mut reader = Reader::new(&*log, &Topic::from("orders.paid"));
    reader.read_until_quiet(Duration::from_millis(500));
    let distinct: std::collections::BTreeSet<_> = reader.values().into_iter().collect();
    let wanted = (0..20_000).map(|id| format!(r#"{{"id":"o{id}","total":{}}}"#, id * 3));
    assert_eq!(distinct, wanted.collect());
}

fn order(id: u32) -> ProducerRecord {
    let value = format!(r#"{{"id":"o{id}","status":"paid","qty":"{id}"}}"#);
    let mut record = ProducerRecord::new("orders".into(), value);
    record.key = Some(Bytes::from(format!("k{}", id % 100)));
    record
}
