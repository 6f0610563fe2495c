//! The bytes of an archive, unpacked and counted.
//!
//! Responsible for: inflating gzip (RFC 1952, any number of members, trailers checked), the caps
//! on bytes, ratio and time, counted on what is really read, and telling data that ends early from
//! data that is damaged and from a disk that fails.
//! Not responsible for: what the bytes mean (`entries`), or the members of a zip archive (`zip`),
//! which are counted here as well.
//!
//! Strict about the end: behind the last gzip member there may be nothing, not even zeros. Bytes
//! there would be dropped in silence otherwise.

use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

use crate::processor::config::ArchiveLimits;
use crate::processor::unarchive::ArchiveError;
use crate::runtime::clock::Clock;

/// Packed bytes are read from the disk in pieces of this size.
const READ_BYTES: usize = 64 << 10;

/// Unpacked bytes that are fine at any ratio: small texts of one letter pack very well.
const RATIO_FLOOR: u64 = 1 << 20;

/// The most that `packed` bytes of gzip may unpack to, before the cap on the total.
pub(super) fn most_unpacked(limits: &ArchiveLimits, packed: u64) -> u64 {
    packed.saturating_mul(limits.ratio).max(RATIO_FLOOR)
}

/// Counts against the caps.
pub(super) struct Meter<'a> {
    limits: ArchiveLimits,
    clock: &'a dyn Clock,
    started: Duration,
    unpacked: u64,
    /// Says that the work goes on.
    progress: &'a mut dyn FnMut(),
}

impl<'a> Meter<'a> {
    /// Starts the clock.
    pub(super) fn new(
        limits: ArchiveLimits,
        clock: &'a dyn Clock,
        progress: &'a mut dyn FnMut(),
    ) -> Self {
        Self { limits, clock, started: clock.now().0, unpacked: 0, progress }
    }

    /// `count` more bytes came out of `packed` bytes so far; `None` if nothing was packed.
    pub(super) fn count(&mut self, count: usize, packed: Option<u64>) -> Result<(), ArchiveError> {
        (self.progress)();
        self.unpacked += count as u64;
        let limits = &self.limits;
        if self.unpacked > limits.total {
            let why = format!("too large: unpacks to more than {} bytes", limits.total);
            return Err(ArchiveError::TooLarge(why));
        }
        if packed.is_some_and(|packed| self.unpacked > most_unpacked(limits, packed)) {
            let why = format!("too large: unpacks to more than {} times its size", limits.ratio);
            return Err(ArchiveError::TooLarge(why));
        }
        if self.clock.now().0.saturating_sub(self.started) > limits.time {
            let why = format!("too large: not unpacked after {} s", limits.time.as_secs());
            return Err(ArchiveError::TooLarge(why));
        }
        Ok(())
    }
}

/// Packed bytes, counted when they are used up, not when they are read ahead.
struct Counted {
    inner: BufReader<Box<dyn Read>>,
    used: u64,
    /// The disk failed: the data must not be blamed for it.
    failed: bool,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.inner.fill_buf() {
            Ok(ready) => Ok(ready),
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.used += count as u64;
        self.inner.consume(count);
    }
}

enum Source {
    Plain(Counted),
    Gzip(Box<MultiGzDecoder<Counted>>),
}

/// The unpacked bytes of an archive.
pub(super) struct Input<'a> {
    source: Source,
    meter: Meter<'a>,
}

impl<'a> Input<'a> {
    /// Reads `packed`, which is gzip or plain.
    pub(super) fn new(packed: Box<dyn Read>, gzip: bool, meter: Meter<'a>) -> Self {
        let inner = BufReader::with_capacity(READ_BYTES, packed);
        let counted = Counted { inner, used: 0, failed: false };
        let source = if gzip {
            Source::Gzip(Box::new(MultiGzDecoder::new(counted)))
        } else {
            Source::Plain(counted)
        };
        Self { source, meter }
    }

    /// Whether a checksum at the end proves that the data are whole.
    pub(super) fn is_gzip(&self) -> bool {
        matches!(self.source, Source::Gzip(_))
    }

    /// The file name in the gzip header, if there is one.
    pub(super) fn gzip_name(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Plain(_) => None,
            Source::Gzip(decoder) => decoder.header().and_then(|header| header.filename()),
        }
    }

    /// Reads some bytes; 0 is the end, and with gzip the proof that all of it is there.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            let read = match &mut self.source {
                Source::Plain(counted) => counted.read(buffer),
                Source::Gzip(decoder) => decoder.read(buffer),
            };
            match read {
                Ok(count) => {
                    let packed = match &self.source {
                        Source::Plain(_) => None,
                        Source::Gzip(decoder) => Some(decoder.get_ref().used),
                    };
                    self.meter.count(count, packed)?;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    /// Fills `buffer` as far as there are bytes; returns how far.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn explain(&self, error: &io::Error) -> ArchiveError {
        let counted = match &self.source {
            Source::Plain(counted) => counted,
            Source::Gzip(decoder) => decoder.get_ref(),
        };
        if counted.failed {
            return ArchiveError::reading(error);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return ArchiveError::Bad("cut short: the gzip data end too early".to_owned());
        }
        ArchiveError::Bad(format!("damaged gzip data: {error}"))
    }
}
