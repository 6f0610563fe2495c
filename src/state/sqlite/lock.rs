//! The lock beside a database file.
//!
//! Responsible for: at most one process that writes to the file.
//! Not responsible for: what lies in the file.

use std::path::{Path, PathBuf};

use crate::runtime::file_lock::{FileLock, LockError};
use crate::state::StateError;

/// Locks the database at `path`, and makes the folder it lies in.
pub(super) fn take(path: &Path) -> Result<FileLock, StateError> {
    FileLock::take(&lock_path(path)).map_err(|error| {
        StateError::Fatal(match error {
            LockError::Held { .. } => {
                format!("the state store is in use: {error}; stop it, or use another file")
            }
            LockError::Unusable { .. } => format!("the state store cannot be opened: {error}"),
        })
    })
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
