//! What a demo has done so far.
//!
//! Responsible for: one line of JSON for each upload that the ingress has answered, so that the
//! same command goes on where it was killed, and knows what the uploads before that held.
//! Not responsible for: certainty. A line may be missing after a crash; then that payload is
//! uploaded again, which changes nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::demo::generator::{Counts, Scale};

/// Name of the file in the demo's folder; it marks the folder as one.
const FILE: &str = "demo.jsonl";

/// What a demo uploads; another one needs another folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Subject {
    /// Generated reports.
    Generated(Scale),
    /// Archives of a folder.
    Samples {
        /// The folder.
        folder: PathBuf,
        /// How many there are.
        payloads: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Entry {
    Began { subject: Subject },
    Posted { number: u64, counts: Option<Counts> },
    Finished,
}

/// What the file of an earlier run says.
#[derive(Debug, Default, PartialEq)]
struct History {
    subject: Option<Subject>,
    posted: BTreeMap<u64, Option<Counts>>,
    finished: bool,
    /// Bytes of the lines that are whole.
    whole: u64,
}

/// The journal of a demo, open for more.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    history: History,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// The folder holds another demo.
    #[error("{} holds a demo of other options: repeat them, or add --fresh", .0.display())]
    OtherDemo(PathBuf),
    /// The folder holds something that is no demo.
    #[error("{} is not the folder of a demo, and nothing in it is removed", .0.display())]
    NoDemo(PathBuf),
    /// The disk failed.
    #[error("cannot use {}: {why}", .path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

impl Journal {
    /// Whether the demo in `folder` is of `subject` and finished.
    ///
    /// # Errors
    /// The folder holds another demo, or cannot be read.
    pub(super) fn is_finished(folder: &Path, subject: &Subject) -> Result<bool, JournalError> {
        let history = history(folder)?;
        check(folder, &history, subject)?;
        Ok(history.finished)
    }

    /// Opens or begins the journal of the demo of `subject` in `folder`.
    ///
    /// # Errors
    /// The folder holds another demo, or cannot be written.
    pub(super) fn open(folder: &Path, subject: &Subject) -> Result<Self, JournalError> {
        let history = history(folder)?;
        check(folder, &history, subject)?;
        let path = folder.join(FILE);
        let failed = |why| JournalError::Disk { path: path.clone(), why };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        // A line that a crash cut short would spoil the one after it.
        file.set_len(history.whole).map_err(failed)?;
        let mut journal = Self { file, history };
        if journal.history.subject.is_none() {
            journal.write(&Entry::Began { subject: subject.clone() }).map_err(failed)?;
        }
        Ok(journal)
    }

    /// Removes the demo in `folder`, whatever it was of.
    ///
    /// # Errors
    /// The folder holds something else, or cannot be removed.
    pub(super) fn wipe(folder: &Path) -> Result<(), JournalError> {
        let failed = |why| JournalError::Disk { path: folder.to_owned(), why };
        let mut entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if entries.next().is_some() && !folder.join(FILE).is_file() {
            return Err(JournalError::NoDemo(folder.to_owned()));
        }
        std::fs::remove_dir_all(folder).map_err(failed)
    }

    /// Whether the ingress has answered this payload.
    pub(super) fn has_posted(&self, number: u64) -> bool {
        self.history.posted.contains_key(&number)
    }

    /// Payloads that the ingress has answered.
    pub(super) fn posted(&self) -> u64 {
        self.history.posted.len() as u64
    }

    /// What they held, where that is known.
    pub(super) fn counts(&self) -> impl Iterator<Item = &Counts> {
        self.history.posted.values().flatten()
    }

    /// The ingress has answered a payload.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn add(&mut self, number: u64, counts: Option<Counts>) -> io::Result<()> {
        self.write(&Entry::Posted { number, counts: counts.clone() })?;
        self.history.posted.insert(number, counts);
        Ok(())
    }

    /// Everything that was posted has come out.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.write(&Entry::Finished)?;
        self.file.sync_all()
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

fn check(folder: &Path, history: &History, subject: &Subject) -> Result<(), JournalError> {
    match &history.subject {
        Some(found) if found != subject => Err(JournalError::OtherDemo(folder.to_owned())),
        _ => Ok(()),
    }
}

fn history(folder: &Path) -> Result<History, JournalError> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(read(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(History::default()),
        Err(why) => Err(JournalError::Disk { path, why }),
    }
}

/// Reads lines up to the first that is not whole.
fn read(bytes: &[u8]) -> History {
    let mut history = History::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice(line) {
            Ok(Entry::Began { subject }) => history.subject = Some(subject),
            Ok(Entry::Posted { number, counts }) => {
                history.posted.insert(number, counts);
            }
            Ok(Entry::Finished) => history.finished = true,
            Err(_) => break,
        }
        history.whole += line.len() as u64;
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { clusters: 2, days: 1, rows: 100, seed: 1 };

    fn counts() -> Counts {
        Counts { rows: 7, sums: [0.1, 1e15 + 0.5, 0.0, 1.0, 2.0, 3.0], ..Counts::default() }
    }

    #[test]
    fn a_journal_goes_on_where_it_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let subject = Subject::Generated(SCALE);
        let mut journal = Journal::open(folder.path(), &subject).unwrap();
        journal.add(3, Some(counts())).unwrap();
        journal.file.write_all(b"{\"event\":\"posted\",\"num").unwrap();

        let mut journal = Journal::open(folder.path(), &subject).unwrap();
        assert!(journal.has_posted(3) && !journal.has_posted(0));
        journal.add(0, None).unwrap();
        assert!(!Journal::is_finished(folder.path(), &subject).unwrap());
        journal.finish().unwrap();

        let journal = Journal::open(folder.path(), &subject).unwrap();
        assert_eq!(journal.posted(), 2);
        assert_eq!(journal.counts().collect::<Vec<_>>(), [&counts()], "to the last bit");
        assert!(Journal::is_finished(folder.path(), &subject).unwrap());
    }

    #[test]
    fn a_folder_holds_one_demo() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Subject::Generated(SCALE), Scale { seed: 2, ..SCALE });
        Journal::open(folder.path(), &one).unwrap();
        let error = Journal::open(folder.path(), &Subject::Generated(other)).unwrap_err();
        assert!(matches!(error, JournalError::OtherDemo(_)));
        assert!(error.to_string().contains("--fresh"), "{error}");
    }

    #[test]
    fn only_demos_are_wiped() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("demo");
        Journal::wipe(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("thesis.txt"), b"mine").unwrap();
        assert!(matches!(Journal::wipe(&folder), Err(JournalError::NoDemo(_))));
        assert!(folder.join("thesis.txt").exists());
        std::fs::write(folder.join(FILE), b"").unwrap();
        Journal::wipe(&folder).unwrap();
        assert!(!folder.exists());
    }
}
