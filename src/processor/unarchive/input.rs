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
//!
//! Members are told apart, which `MultiGzDecoder` does not do: each is counted against the caps
//! even if nothing is in it, and whoever reads them knows that a last one may be missing.

use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::time::Duration;

use flate2::bufread::GzDecoder;

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

impl Counted {
    fn new(packed: Box<dyn Read>, capacity: usize) -> Self {
        Self { inner: BufReader::with_capacity(capacity, packed), used: 0, failed: false }
    }
}

/// The members of gzip data, one after the other.
struct Gunzip {
    /// The member at hand.
    member: GzDecoder<Counted>,
    /// Members so far, this one included.
    members: u64,
    /// The file name in the header of the first one.
    name: Option<Vec<u8>>,
}

impl Gunzip {
    fn new(packed: Counted) -> Self {
        let member = GzDecoder::new(packed);
        let name = member.header().and_then(|header| header.filename()).map(<[u8]>::to_vec);
        Self { member, members: 1, name }
    }

    /// Goes on behind the end of a member; false if nothing is there.
    fn next_member(&mut self) -> io::Result<bool> {
        if self.member.get_mut().fill_buf()?.is_empty() {
            return Ok(false);
        }
        let nothing = Counted::new(Box::new(io::empty()), 0);
        let packed = mem::replace(self.member.get_mut(), nothing);
        self.member.reset(packed);
        self.members += 1;
        Ok(true)
    }
}

enum Source {
    Plain(Counted),
    Gzip(Box<Gunzip>),
}

/// The unpacked bytes of an archive.
pub(super) struct Input<'a> {
    source: Source,
    meter: Meter<'a>,
}

impl<'a> Input<'a> {
    /// Reads `packed`, which is gzip or plain.
    pub(super) fn new(packed: Box<dyn Read>, gzip: bool, meter: Meter<'a>) -> Self {
        let counted = Counted::new(packed, READ_BYTES);
        let source = if gzip {
            Source::Gzip(Box::new(Gunzip::new(counted)))
        } else {
            Source::Plain(counted)
        };
        Self { source, meter }
    }

    /// Whether the data are packed.
    pub(super) fn is_gzip(&self) -> bool {
        matches!(self.source, Source::Gzip(_))
    }

    /// Whether the end of the data proves that nothing is missing behind it: one checksum covers
    /// all of them. Of several gzip members the last may be missing, and nobody would know.
    pub(super) fn ends_provably(&self) -> bool {
        matches!(&self.source, Source::Gzip(gunzip) if gunzip.members == 1)
    }

    /// The file name in the gzip header, if there is one.
    pub(super) fn gzip_name(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Plain(_) => None,
            Source::Gzip(gunzip) => gunzip.name.as_deref(),
        }
    }

    /// Reads some bytes; 0 is the end, and with gzip the proof that what was read is intact.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_member(buffer) {
                Ok(count) => {
                    let packed = match &self.source {
                        Source::Plain(_) => None,
                        Source::Gzip(gunzip) => Some(gunzip.member.get_ref().used),
                    };
                    self.meter.count(count.unwrap_or(0), packed)?;
                    if let Some(count) = count {
                        return Ok(count);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    /// The same for one gzip member; `None` where one ends and the next begins.
    fn read_member(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.source {
            Source::Plain(counted) => counted.read(buffer).map(Some),
            Source::Gzip(gunzip) => match gunzip.member.read(buffer)? {
                0 if gunzip.next_member()? => Ok(None),
                count => Ok(Some(count)),
            },
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
            Source::Gzip(gunzip) => gunzip.member.get_ref(),
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
