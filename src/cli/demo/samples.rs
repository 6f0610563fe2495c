//! Payloads from a folder instead of generated ones.
//!
//! Responsible for: finding `*.tar.gz` below a folder, and looking into them for the reports that
//! can become complete: those of which every listed file is in some archive.
//! Not responsible for: judging archives. What cannot be read is uploaded all the same: the engine
//! has to cope with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::cli::demo::generator::Payload;

/// Largest archive that is read: what the ingress takes.
const MAX_ARCHIVE: u64 = 150 << 20;
/// Most bytes of an archive that are looked at, unpacked.
const MAX_UNPACKED: u64 = 2 << 30;
/// Largest manifest that is looked at.
const MAX_MANIFEST: u64 = 10 << 20;

/// The archives of a folder.
#[derive(Debug)]
pub(super) struct Samples {
    paths: Vec<PathBuf>,
    /// Reports that can become complete.
    reports: BTreeSet<String>,
    /// Files of these reports.
    files: u64,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    uuid: String,
    #[serde(default)]
    files: Option<BTreeSet<String>>,
}

/// What is known of a report.
#[derive(Debug, Default)]
struct Report {
    listed: BTreeSet<String>,
    found: BTreeSet<String>,
}

impl Samples {
    /// Looks through `folder`.
    ///
    /// # Errors
    /// The folder cannot be read, or holds no archive.
    pub(super) fn find(folder: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        collect(folder, &mut paths)?;
        if paths.is_empty() {
            return Err(io::Error::other("there is no *.tar.gz in it"));
        }
        paths.sort();
        let mut all: BTreeMap<String, Report> = BTreeMap::new();
        for path in &paths {
            // An archive that cannot be read takes part in no report.
            let Ok((manifest, members)) = look_into(path) else { continue };
            let report = all.entry(manifest.uuid).or_default();
            report.listed.extend(manifest.files.unwrap_or_default());
            report.found.extend(members);
        }
        all.retain(|_uuid, report| report.listed.is_subset(&report.found));
        let files = all.values().map(|report| report.listed.len() as u64).sum();
        Ok(Self { paths, reports: all.into_keys().collect(), files })
    }

    /// Number of archives.
    pub(super) fn payloads(&self) -> u64 {
        self.paths.len() as u64
    }

    /// Reports that can become complete.
    pub(super) fn reports(&self) -> &BTreeSet<String> {
        &self.reports
    }

    /// Files of these reports.
    pub(super) fn files(&self) -> u64 {
        self.files
    }

    /// Reads an archive, from 0.
    ///
    /// # Errors
    /// It cannot be read, or is larger than any ingress would take.
    pub(super) fn payload(&self, number: u64) -> io::Result<Payload> {
        let path = &self.paths[number as usize];
        let mut archive = Vec::new();
        File::open(path)?.take(MAX_ARCHIVE + 1).read_to_end(&mut archive)?;
        if archive.len() as u64 > MAX_ARCHIVE {
            let why = format!("{} is larger than {MAX_ARCHIVE} bytes", path.display());
            return Err(io::Error::other(why));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Payload { name, archive, counts: None })
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            collect(&path, paths)?;
        } else if entry.file_name().to_string_lossy().ends_with(".tar.gz") {
            paths.push(path);
        }
    }
    Ok(())
}

/// The manifest of an archive, and the names of its members.
fn look_into(path: &Path) -> io::Result<(Manifest, BTreeSet<String>)> {
    let unpacked = GzDecoder::new(File::open(path)?).take(MAX_UNPACKED);
    let mut archive = tar::Archive::new(unpacked);
    let (mut manifest, mut members) = (None, BTreeSet::new());
    for entry in archive.entries()? {
        let entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if name == "manifest.json" {
            manifest = Some(serde_json::from_reader(entry.take(MAX_MANIFEST))?);
        } else {
            members.insert(name);
        }
    }
    manifest
        .map(|manifest| (manifest, members))
        .ok_or_else(|| io::Error::other("it has no manifest.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::generator::{Plan, Scale};

    #[test]
    fn a_report_counts_when_all_of_its_files_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::new(Scale { clusters: 2, days: 1, rows: 200, seed: 1 });
        let files = plan.payloads() / 2;
        fs::create_dir(folder.path().join("deep")).unwrap();
        for number in 0..plan.payloads() {
            let payload = plan.payload(number).unwrap();
            // One file of the second report is missing.
            if number != plan.payloads() - 1 {
                fs::write(folder.path().join("deep").join(&payload.name), payload.archive).unwrap();
            }
        }
        fs::write(folder.path().join("broken.tar.gz"), b"no archive").unwrap();
        fs::write(folder.path().join("notes.txt"), b"no payload").unwrap();
        let samples = Samples::find(folder.path()).unwrap();
        assert_eq!(samples.payloads(), plan.payloads(), "broken ones are uploaded too");
        assert_eq!(samples.reports(), &BTreeSet::from([plan.manifest(0).to_string()]));
        assert_eq!(samples.files(), files);
        assert_eq!(samples.payload(0).unwrap().archive, b"no archive");
    }

    #[test]
    fn a_folder_without_archives_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Samples::find(folder.path()).is_err());
    }
}
