//! Files on disk that nobody can name: where bodies lie while they are worked on; and stores of
//! objects, where bodies lie that others read.
//!
//! Responsible for: the budget that bounds the disk in use ([`DiskBudget`]), anonymous files in
//! one folder, written once ([`SpoolWriter`]) and then read as [`SpooledFile`]s, telling a full
//! disk from a body that is too large, and folders and buckets of objects ([`objects`]).
//! Not responsible for: durable spooling (`source::ingress` keeps announced payloads under names
//! of its own) or what the bytes mean.
//!
//! A file is unlinked before its first byte is written, so a crash leaves nothing behind. Its
//! bytes are reserved before it is made, and what was not used is given back when it is finished;
//! the rest is given back when the last blob of it goes.
//!
//! Bodies as they arrive and bodies unpacked from them need a budget *each*: an archive is held
//! while room for what is in it is waited for, and nothing may wait for a permit of a kind that it
//! already holds.

pub mod budget;
pub mod objects;
pub mod writer;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{Failure, FailureClass};

pub use crate::model::body::SpooledFile;
pub use budget::{DiskBudget, DiskPermit};
pub use writer::SpoolWriter;

/// Why a spool file could not be made or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// No room on the device, or the quota is used up.
    #[error("no room on the disk of spool folder {folder}: {why}")]
    DiskFull {
        /// The spool folder.
        folder: PathBuf,
        /// The system's words.
        why: String,
    },
    /// More bytes than were reserved.
    #[error("larger than the {limit} bytes reserved in the spool")]
    BeyondPermit {
        /// Bytes that were reserved.
        limit: u64,
    },
    /// Anything else that the disk did.
    #[error("cannot use spool folder {folder}: {why}")]
    Io {
        /// The spool folder.
        folder: PathBuf,
        /// The system's words.
        why: String,
    },
}

impl SpoolError {
    /// Sorts an error of the system: a full disk is told from the rest.
    fn from_io(folder: &Path, error: &io::Error) -> Self {
        let (folder, why) = (folder.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { folder, why }
            }
            _ => Self::Io { folder, why },
        }
    }
}

impl From<SpoolError> for Failure {
    /// The disk is a dependency; only a body beyond its permit is the record's own failure.
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::BeyondPermit { .. } => {
                Self::poison(FailureClass::TOO_LARGE, error.to_string())
            }
            SpoolError::DiskFull { .. } | SpoolError::Io { .. } => {
                Self::unavailable(error.to_string())
            }
        }
    }
}

/// A folder for anonymous files, with the budget of their bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: Arc<Path>,
    budget: DiskBudget,
}

impl Spool {
    /// Uses `folder`, which is created if need be, readable by this user only.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn new(folder: impl Into<PathBuf>, budget: DiskBudget) -> Result<Self, SpoolError> {
        let folder: PathBuf = folder.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| SpoolError::from_io(&folder, &error))?;
        Ok(Self { folder: Arc::from(folder), budget })
    }

    /// The budget of its files.
    pub fn budget(&self) -> &DiskBudget {
        &self.budget
    }

    /// A new anonymous file that may grow to what `permit` reserves. Blocks on the disk.
    ///
    /// # Errors
    /// If the system refuses the file; a full disk is told from the rest.
    pub fn create(&self, permit: DiskPermit) -> Result<SpoolWriter, SpoolError> {
        let file = tempfile::tempfile_in(&*self.folder)
            .map_err(|error| SpoolError::from_io(&self.folder, &error))?;
        Ok(SpoolWriter::new(file, self.folder.clone(), permit))
    }
}

#[cfg(test)]
mod tests;
