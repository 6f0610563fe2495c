//! The lock beside a database file.
//!
//! Responsible for: at most one process per file, and an error for the second that names the
//! first. The operating system releases the lock when its holder dies, however it dies.
//! Not responsible for: what lies in the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, Read, Write};
use std::path::{Path, PathBuf};

use crate::state::StateError;

/// Longest process id that is read back from a lock file.
const LONGEST_PID: u64 = 32;

/// Held as long as the store is open.
pub(super) struct FileLock {
    /// Locked; closing it unlocks.
    _file: File,
}

impl FileLock {
    /// Locks the database at `path`, and makes the folder it lies in.
    pub(super) fn take(path: &Path) -> Result<Self, StateError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| failed("create the folder", folder, &error))?;
        }
        let path = lock_path(path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("open the lock file", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(&path, &file)),
            Err(TryLockError::Error(error)) => {
                return Err(failed("lock the file", &path, &error));
            }
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("write the lock file", &path, &error))?;
        Ok(Self { _file: file })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn taken(path: &Path, file: &File) -> StateError {
    let mut pid = String::new();
    let holder = match file.take(LONGEST_PID).read_to_string(&mut pid) {
        Ok(length) if length > 0 => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    StateError::Fatal(format!(
        "the state store is in use: {} is held by {holder}; stop it, or use another file",
        path.display()
    ))
}

fn failed(what: &str, path: &Path, error: &Error) -> StateError {
    StateError::Fatal(format!("the state store could not {what} {}: {error}", path.display()))
}
