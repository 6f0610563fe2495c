//! Writes one anonymous file.
//!
//! Responsible for: counting bytes, refusing those beyond the permit, and turning the finished
//! file into something that blobs can share.
//! Not responsible for: buffering (callers write pieces of 16 KiB and more).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::model::Blob;
use crate::spool::{DiskPermit, SpoolError, SpooledFile};

/// An anonymous file while it is written. After an error it is of no further use; dropped, it
/// leaves nothing behind and gives its permit back.
#[derive(Debug)]
pub struct SpoolWriter {
    file: File,
    /// Named in errors.
    folder: Arc<Path>,
    permit: DiskPermit,
    written: u64,
}

impl SpoolWriter {
    pub(super) fn new(file: File, folder: Arc<Path>, permit: DiskPermit) -> Self {
        Self { file, folder, permit, written: 0 }
    }

    /// Bytes written so far: where the next piece starts.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends all of `bytes`. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::BeyondPermit`] if they do not fit, before any of them is written; otherwise
    /// what the disk said.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let after = self.written.saturating_add(bytes.len() as u64);
        if after > self.permit.bytes() {
            return Err(SpoolError::BeyondPermit { limit: self.permit.bytes() });
        }
        self.file.write_all(bytes).map_err(|error| SpoolError::from_io(&self.folder, &error))?;
        self.written = after;
        Ok(())
    }

    /// Ends the file: what the permit covers beyond its bytes is given back now, the rest when
    /// the last blob of the file goes.
    pub fn finish(mut self) -> Arc<SpooledFile> {
        self.permit.shrink(self.written);
        SpooledFile::new(self.file, Box::new(self.permit))
    }

    /// Ends the file and returns all of it as one blob.
    pub fn finish_blob(self) -> Blob {
        let len = self.written;
        Blob::new(self.finish(), 0, len)
    }
}

impl Write for SpoolWriter {
    /// Writes all of `buffer` or fails; the error holds a [`SpoolError`].
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.append(buffer) {
            Ok(()) => Ok(buffer.len()),
            Err(error) => {
                let kind = match &error {
                    SpoolError::DiskFull { .. } => io::ErrorKind::StorageFull,
                    SpoolError::BeyondPermit { .. } => io::ErrorKind::FileTooLarge,
                    SpoolError::Io { .. } => io::ErrorKind::Other,
                };
                Err(io::Error::new(kind, error))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
