//! The folder of the log.
//!
//! Responsible for: its lock: at most one process has the log open.
//! Not responsible for: what lies in the folder.

use std::path::Path;

use crate::broker::BrokerError;
use crate::runtime::file_lock::{FileLock, LockError};

const LOCK_FILE: &str = "log.lock";

/// Locks the folder, and makes it if it is missing.
pub(super) fn lock(folder: &Path) -> Result<FileLock, BrokerError> {
    FileLock::take(&folder.join(LOCK_FILE)).map_err(|error| {
        BrokerError::Fatal(match error {
            LockError::Held { .. } => {
                format!("the embedded log is in use: {error}; stop it, or use another folder")
            }
            LockError::Unusable { .. } => format!("the embedded log cannot be opened: {error}"),
        })
    })
}
