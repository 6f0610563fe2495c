//! A lock that keeps a second process away from files of the first.
//!
//! Responsible for: at most one process per lock file, and an error for the second that names the
//! first. The operating system releases the lock when its holder dies, however it dies.
//! Not responsible for: what the lock stands for.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest process id that is read back from a lock file.
const LONGEST_PID: u64 = 32;
/// How long somebody else's lock is waited for: a process that was killed a moment ago may still
/// be in the kernel, finishing its last write.
const ATTEMPTS: u32 = 40;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is held by {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Unusable {
        /// What failed.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct FileLock {
    /// Locked; closing it unlocks.
    _file: File,
}

impl FileLock {
    /// Locks the file at `path`, and makes it and its folder if they are missing. Blocks for up to
    /// two seconds while somebody else has it.
    ///
    /// # Errors
    /// Somebody else has it, or the file cannot be used.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let unusable = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unusable { what, path, source }
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unusable("create the folder", folder))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(unusable("open the lock file", path))?;
        lock(&file, path)?;
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .and_then(|()| file.sync_all())
            .map_err(unusable("write the lock file", path))?;
        Ok(Self { _file: file })
    }
}

fn lock(file: &File, path: &Path) -> Result<(), LockError> {
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(BETWEEN_ATTEMPTS),
            Err(TryLockError::Error(source)) => {
                return Err(LockError::Unusable { what: "lock", path: path.to_owned(), source });
            }
        }
    }
    let mut pid = String::new();
    let holder = match file.take(LONGEST_PID).read_to_string(&mut pid) {
        Ok(length) if length > 0 => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    Err(LockError::Held { path: path.to_owned(), holder })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/x.lock");
        let first = FileLock::take(&path).unwrap();
        let refused = FileLock::take(&path).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("is held by process {}", std::process::id())));
        drop(first);
        FileLock::take(&path).unwrap();
    }

    #[test]
    fn a_holder_that_is_about_to_go_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = FileLock::take(&path).unwrap();
        let (started, has_started) = mpsc::channel();
        let waiting = std::thread::spawn(move || {
            started.send(()).unwrap();
            FileLock::take(&path).is_ok()
        });
        has_started.recv().unwrap();
        drop(first);
        assert!(waiting.join().unwrap());
    }
}
