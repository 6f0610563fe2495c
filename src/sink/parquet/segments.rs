//! The bytes of an object before it is uploaded: anonymous spool files that grow by segments.
//!
//! Responsible for: reserving disk as an object grows, hashing what is written, and reading it
//! back from start to end.
//! Not responsible for: the spool's budget itself (`spool`), or the names of objects.
//!
//! How large an object becomes is known when it is finished, and a permit never grows. So an object
//! is a row of files, each twice as large as the one before up to a limit, and reserved when the
//! first byte for it comes. Nothing waits here: a writer holds other permits of the same budget,
//! and two that wait for each other would wait for ever. A reservation that is not to be had at
//! once fails the input record as *unavailable*; all it holds is given back, and it is tried again.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;

use crate::model::body::BlobReader;
use crate::model::{Blob, Failure, FailureClass};
use crate::spool::{Spool, SpoolWriter};

/// Size of the first segment of an object; most objects need no other.
const FIRST_SEGMENT: u64 = 1 << 20;
/// Size of the largest segments.
const LARGEST_SEGMENT: u64 = 64 << 20;
/// Hexadecimal digits of an object's digest in its name.
const DIGEST_DIGITS: usize = 16;

/// Where the segments of one writer come from.
#[derive(Clone, Debug)]
pub struct Segments {
    spool: Spool,
    /// Bytes held by objects of the current input record.
    held: Arc<AtomicU64>,
}

impl Segments {
    /// Takes segments from `spool`.
    pub fn new(spool: Spool) -> Self {
        Self { spool, held: Arc::default() }
    }

    /// The current input record has ended: what it held belongs to others, or is given back.
    pub fn reset(&self) {
        self.held.store(0, Ordering::Relaxed);
    }

    /// A segment of `wanted` bytes, or of what the whole budget has left beside what the current
    /// input record holds already.
    fn create(&self, wanted: u64) -> Result<Segment, Failure> {
        let budget = self.spool.budget();
        let total = budget.total();
        let size = wanted.min(total.saturating_sub(self.held.load(Ordering::Relaxed)));
        if size == 0 {
            let why = format!(
                "its objects need more than the {total} bytes of the sink's spool, enlarge it or \
                 split the file"
            );
            return Err(Failure::poison(FailureClass::TOO_LARGE, why));
        }
        let Some(permit) = budget.reserve(size).now_or_never() else {
            let why = format!("the spool of objects is in use, {size} bytes are not free");
            return Err(Failure::unavailable(why));
        };
        let writer = self.spool.create(permit)?;
        self.held.fetch_add(size, Ordering::Relaxed);
        Ok(Segment { writer, size })
    }

    fn shrink(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A finished object's bytes.
#[derive(Clone, Debug, Default)]
pub struct Content {
    segments: Vec<Blob>,
    bytes: u64,
}

impl Content {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A reader from its start; blocks on the disk.
    pub fn open(&self) -> ContentReader {
        ContentReader { readers: self.segments.iter().map(Blob::open).collect(), current: 0 }
    }
}

/// Reads a [`Content`] from start to end.
pub struct ContentReader {
    readers: Vec<BlobReader>,
    current: usize,
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(reader) = self.readers.get_mut(self.current) {
            let read = reader.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.current += 1;
        }
        Ok(0)
    }
}

/// Why a writer failed, for whoever gets only the words of the error that it led to.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<OnceLock<Failure>>);

impl Trouble {
    /// The first failure.
    pub fn get(&self) -> Option<&Failure> {
        self.0.get()
    }
}

/// Writes one object.
#[derive(Debug)]
pub struct SegmentWriter {
    segments: Segments,
    full: Vec<Blob>,
    current: Option<Segment>,
    bytes: u64,
    hasher: blake3::Hasher,
    trouble: Trouble,
}

/// A segment that is being written.
#[derive(Debug)]
struct Segment {
    writer: SpoolWriter,
    size: u64,
}

impl SegmentWriter {
    /// A writer of an object; `identity` is hashed ahead of its bytes, so that objects of different
    /// owners have different digests even where their bytes are equal.
    pub fn new(segments: Segments, identity: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(identity.len() as u64).to_le_bytes());
        hasher.update(identity);
        let (full, trouble) = (Vec::new(), Trouble::default());
        Self { segments, full, current: None, bytes: 0, hasher, trouble }
    }

    /// Where the reason of a failure can be read.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// The object's bytes, and the digits of their digest.
    pub fn finish(mut self) -> (Content, String) {
        self.seal();
        let mut digest = self.hasher.finalize().to_hex().to_string();
        digest.truncate(DIGEST_DIGITS);
        (Content { segments: std::mem::take(&mut self.full), bytes: self.bytes }, digest)
    }

    fn seal(&mut self) {
        if let Some(Segment { writer, size }) = self.current.take() {
            self.segments.shrink(size - writer.written());
            self.full.push(writer.finish_blob());
        }
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let segment = match &mut self.current {
                Some(segment) => segment,
                none => {
                    let doublings = self.full.len().min(16) as u32;
                    let size = (FIRST_SEGMENT << doublings).min(LARGEST_SEGMENT);
                    none.insert(self.segments.create(size)?)
                }
            };
            let room = segment.size - segment.writer.written();
            let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(taken);
            segment.writer.append(now)?;
            bytes = later;
            if segment.writer.written() == segment.size {
                self.seal();
            }
        }
        Ok(())
    }
}

impl Write for SegmentWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.append(buffer).map_err(|failure| {
            let error = io::Error::other(failure.to_string());
            // Only the first failure tells why; later ones follow from it.
            let _ = self.trouble.0.set(failure);
            error
        })?;
        self.hasher.update(buffer);
        self.bytes += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::DiskBudget;

    fn segments(budget: u64) -> (tempfile::TempDir, DiskBudget, Segments) {
        let folder = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(budget);
        let spool = Spool::new(folder.path(), budget.clone()).unwrap();
        (folder, budget, Segments::new(spool))
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn what_is_written_is_read_back_across_segments_any_number_of_times() {
        let (_folder, budget, segments) = segments(64 << 20);
        let written = bytes((3 << 20) + 17);
        let mut writer = SegmentWriter::new(segments, b"me");
        writer.write_all(&written).unwrap();
        let (content, _) = writer.finish();
        assert_eq!(content.bytes(), written.len() as u64);
        assert_eq!(content.segments.len(), 3, "segments of one and two, and the rest");
        for _ in 0..2 {
            let mut read = Vec::new();
            content.open().read_to_end(&mut read).unwrap();
            assert!(read == written);
        }
        let used = budget.total() - budget.free();
        assert!(used < written.len() as u64 + 4096, "what is not used is given back: {used}");
        drop(content);
        assert_eq!(budget.free(), budget.total());
    }

    #[test]
    fn the_digest_depends_on_the_bytes_and_on_whose_they_are_and_on_nothing_else() {
        let digest = |identity: &[u8], pieces: &[&[u8]]| {
            let (_folder, _, segments) = segments(8 << 20);
            let mut writer = SegmentWriter::new(segments, identity);
            pieces.iter().for_each(|piece| writer.write_all(piece).unwrap());
            writer.finish().1
        };
        let digits = digest(b"a", &[b"12", b"3"]);
        assert_eq!(digits.len(), DIGEST_DIGITS);
        assert_eq!(digits, digest(b"a", &[b"123"]));
        assert_ne!(digits, digest(b"a", &[b"124"]));
        assert_ne!(digits, digest(b"b", &[b"123"]));
        assert_ne!(digits, digest(b"a1", &[b"23"]));
    }

    #[test]
    fn a_spool_that_others_use_is_unavailable_and_one_that_is_too_small_is_not() {
        let (_folder, budget, segments) = segments(2 << 20);
        let held = budget.reserve(2 << 20).now_or_never().unwrap();
        let mut writer = SegmentWriter::new(segments.clone(), b"");
        writer.write_all(b"x").unwrap_err();
        assert!(matches!(writer.trouble().get(), Some(Failure::Unavailable { .. })));
        drop((writer, held));
        let mut writer = SegmentWriter::new(segments, b"");
        writer.write_all(&bytes(4 << 20)).unwrap_err();
        let class = writer.trouble().get().and_then(|failure| failure.class().cloned());
        assert_eq!(class, Some(FailureClass::TOO_LARGE), "it would never fit");
    }

    #[test]
    fn a_disk_that_fails_is_unavailable() {
        let (folder, _, segments) = segments(8 << 20);
        drop(folder);
        let mut writer = SegmentWriter::new(segments, b"");
        writer.write_all(b"x").unwrap_err();
        assert!(matches!(writer.trouble().get(), Some(Failure::Unavailable { .. })));
    }
}
