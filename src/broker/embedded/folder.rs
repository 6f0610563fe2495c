//! The lock on the folder of the log.
//!
//! Responsible for: at most one process in one folder, and an error for the second that names the
//! first. The operating system releases the lock when its holder dies, however it dies.
//! Not responsible for: what lies in the folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::broker::BrokerError;

const LOCK_FILE: &str = "log.lock";
/// Longest process id that is read back from a lock file.
const LONGEST_PID: u64 = 32;

/// Held as long as the log is open.
pub(super) struct FolderLock {
    /// Locked; closing it unlocks.
    _file: File,
}

impl FolderLock {
    /// Makes the folder if it is missing, and locks it.
    pub(super) fn take(folder: &Path) -> Result<Self, BrokerError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| failed("cannot create the folder", folder, &error))?;
        let path = folder.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("cannot open the lock file", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path, &file)),
            Err(TryLockError::Error(error)) => {
                return Err(failed("cannot lock the file", &path, &error));
            }
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("cannot write the lock file", &path, &error))?;
        Ok(Self { _file: file })
    }
}

fn taken(path: PathBuf, file: &File) -> BrokerError {
    let mut pid = String::new();
    let holder = match file.take(LONGEST_PID).read_to_string(&mut pid) {
        Ok(length) if length > 0 => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    BrokerError::Fatal(format!(
        "the embedded log is in use: {} is held by {holder}; stop it, or use another folder",
        path.display()
    ))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> BrokerError {
    BrokerError::Fatal(format!("{what} {} of the embedded log: {error}", path.display()))
}
