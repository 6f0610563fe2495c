//! Disks that are full: nothing is lost and nothing given up, and work goes on when there is room.
//!
//! The disks are file systems in memory of a fixed size, so these tests run as root.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::api::Api;
use crate::cost::{Job, copied, files, messages, payloads, project, sample};
use crate::harness::wait_for;

/// A disk of its own, in memory.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// A disk of so many MiB at `folder`, which is made.
    ///
    /// # Panics
    /// Where nobody may mount: there the test cannot prove anything.
    fn mount(folder: PathBuf, mebibytes: u32) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder)
            .output()
            .expect("mount runs");
        assert!(
            mounted.status.success(),
            "a disk that can be filled cannot be mounted, run scripts/test as root: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self { folder }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file");
        let full = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    /// Gives the room back.
    fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast goes");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// Waits until `/readyz` names a node for a reason that contains `why`; returns the node.
fn wait_until_away(api: &Api, why: &str) -> String {
    wait_for(&format!("a node that is away because {why:?}"), || {
        let (status, ready) = api.get("/readyz");
        let nodes = ready["unavailable"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let away = nodes.iter().find(|node| text(&node["why"]).contains(why))?;
        assert_eq!(status, 503, "{ready}");
        Some(text(&away["node"]))
    })
}

fn wait_until_ready(api: &Api) {
    wait_for("the pipeline to be ready", || (api.get("/readyz").0 == 200).then_some(()));
}

fn failed(api: &Api) -> f64 {
    api.metrics().sum("kafka_consumer_messages_failed_total")
}

/// Nothing was given up.
fn has_no_dead_letters(job: &Job) {
    let letters = messages(job, "cost-management.dead-letters");
    assert!(letters.is_empty(), "{letters:?}");
}

#[test]
fn a_full_lake_holds_its_members_back_until_there_is_room() {
    let job = Job::new(None);
    let lake = job.folder.path().join("data/lake");
    let disk = Disk::mount(lake.clone(), 32);
    let running = job.start();
    let api = Api::of(&running.process);
    wait_until_ready(&api);
    disk.fill();
    for payload in payloads(&sample("single")) {
        running.upload(&payload);
    }
    assert_eq!(wait_until_away(&api, "No space left"), "lake");
    assert_eq!(api.get("/livez").0, 200, "it waits, and lives");
    assert!(files(&lake, "parquet").is_empty(), "no object is there in part");
    let complete = "SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'";
    assert_eq!((job.count(complete), failed(&api)), (Some(0), 0.0));

    disk.empty();
    job.wait_until_complete(1);
    wait_until_ready(&api);
    running.stop();
    has_no_dead_letters(&job);
    job.check(copied(&["single"]).path());
}

#[test]
fn a_full_state_store_holds_everything_back_until_there_is_room() {
    let job = Job::new(None);
    let disk = Disk::mount(job.folder.path().join("store"), 32);
    let store = disk.folder.join("state.db");
    let environment = [("TIDEMILL_STATE_PATH".to_owned(), store.display().to_string())];
    let topology = project().join("topologies/cost-management.toml");
    let running = job.start_on(topology.to_str().expect("a path of text"), &environment);
    let api = Api::of(&running.process);
    wait_until_ready(&api);
    disk.fill();
    for payload in payloads(&sample("single")) {
        running.upload(&payload);
    }
    wait_until_away(&api, "disk is full");
    assert_eq!(api.get("/livez").0, 200, "it waits, and lives");
    assert_eq!((complete(&store), failed(&api)), (Some(0), 0.0));

    disk.empty();
    wait_for("a complete manifest", || (complete(&store)? == 1).then_some(()));
    wait_until_ready(&api);
    running.stop();
    has_no_dead_letters(&job);
    // The checks look for the store where it usually is.
    for name in ["state.db", "state.db-wal"] {
        if let Ok(content) = std::fs::read(disk.folder.join(name)) {
            std::fs::write(job.folder.path().join("data").join(name), content).expect("a copy");
        }
    }
    job.check(copied(&["single"]).path());
}

/// Complete manifests of the store in this file.
fn complete(path: &Path) -> Option<i64> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let query = "SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'";
    database.query_row(query, [], |row| row.get(0)).ok()
}
