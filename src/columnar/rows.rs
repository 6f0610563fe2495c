//! Raw rows of delimited text, one at a time.
//!
//! Responsible for: reading a stream in big pieces, splitting it into rows and fields with
//! `csv-core` (RFC 4180 read leniently: any line end, quotes, a byte order mark, no errors), line
//! numbers, and bounding what one row may take.
//! Not responsible for: what the fields mean, or how many a row should have.

use std::io::{self, Read};

use csv_core::ReadRecordResult;

/// Bytes asked of the input at once.
const READ_BYTES: usize = 256 << 10;
/// `csv-core` looks for a byte order mark of this length in the first piece it sees.
const MARK_BYTES: usize = 3;
/// First size of the buffer that holds one row.
const ROW_BYTES: usize = 16 << 10;
/// First number of fields that there is room for.
const ROW_FIELDS: usize = 64;
/// Most fields of one row: far above what any file means, and it bounds the list of their ends.
pub const MAX_FIELDS: usize = 65_536;

/// Why the next row cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The input cannot be read.
    #[error("reading the text failed: {0}")]
    Io(#[from] io::Error),
    /// A row is too large to be held.
    #[error(
        "the row in line {line} has more than {limit} {unit}, raise the limit or mend the file"
    )]
    TooLarge {
        /// Line in which the row begins, from 1.
        line: u64,
        /// The limit it goes beyond.
        limit: usize,
        /// What is limited: `bytes` or `fields`.
        unit: &'static str,
    },
}

/// One row; its fields are unquoted bytes.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    text: &'a [u8],
    ends: &'a [usize],
    /// Line in which it begins, from 1.
    pub line: u64,
}

impl<'a> Row<'a> {
    /// Number of fields; at least one.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no fields, which a reader never yields.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Field number `index`; one that is not there is empty.
    pub fn field(&self, index: usize) -> &'a [u8] {
        let Some(end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..*end]
    }

    /// All fields, in order.
    pub fn fields(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).map(move |index| self.field(index))
    }

    /// Bytes of all fields together.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// Splits an input into rows.
pub struct RowReader<R> {
    input: R,
    parser: csv_core::Reader,
    /// What was read and not parsed yet lies in `start..end`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The input has nothing more.
    dry: bool,
    /// Fields of the current row, without separators and quotes.
    text: Vec<u8>,
    /// End of each field in `text`.
    ends: Vec<usize>,
    max_row_bytes: usize,
}

impl<R: Read> RowReader<R> {
    /// A reader of `input`, whose fields are separated by `delimiter` and whose rows have up to
    /// `max_row_bytes` bytes.
    pub fn new(input: R, delimiter: u8, max_row_bytes: usize) -> Self {
        Self {
            input,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            dry: false,
            text: vec![0; ROW_BYTES],
            ends: vec![0; ROW_FIELDS],
            max_row_bytes,
        }
    }

    /// The next row that is not blank, or `None` at the end.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, RowError> {
        self.skip_line_ends()?;
        let line = self.parser.line();
        let (mut bytes, mut fields, mut taken) = (0, 0, 0);
        loop {
            if self.start == self.end && !self.dry {
                self.fill()?;
            }
            let (result, read, written, ended) = self.parser.read_record(
                &self.buffer[self.start..self.end],
                &mut self.text[bytes..],
                &mut self.ends[fields..],
            );
            self.start += read;
            taken += read;
            bytes += written;
            fields += ended;
            if taken > self.max_row_bytes {
                return Err(RowError::TooLarge { line, limit: self.max_row_bytes, unit: "bytes" });
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if fields >= MAX_FIELDS => {
                    return Err(RowError::TooLarge { line, limit: MAX_FIELDS, unit: "fields" });
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        Ok(Some(Row { text: &self.text[..bytes], ends: &self.ends[..fields], line }))
    }

    /// Skips blank lines, and what is left of the last line end. The parser would do the same, but
    /// then nobody could tell in which line a row begins.
    fn skip_line_ends(&mut self) -> Result<(), RowError> {
        loop {
            while self.start < self.end && matches!(self.buffer[self.start], b'\r' | b'\n') {
                if self.buffer[self.start] == b'\n' {
                    self.parser.set_line(self.parser.line() + 1);
                }
                self.start += 1;
            }
            if self.start < self.end || self.dry {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), RowError> {
        (self.start, self.end) = (0, 0);
        while self.end <= MARK_BYTES {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.dry = true;
                    return Ok(());
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as badly as a reader may.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn read(text: &[u8]) -> Vec<(u64, Vec<String>)> {
        fn all<R: Read>(mut reader: RowReader<R>) -> Vec<(u64, Vec<String>)> {
            let mut rows = Vec::new();
            while let Some(row) = reader.next_row().unwrap() {
                let fields = row.fields().map(|f| String::from_utf8_lossy(f).into_owned());
                rows.push((row.line, fields.collect()));
            }
            rows
        }
        let whole = all(RowReader::new(text, b',', 1000));
        assert_eq!(all(RowReader::new(Trickle(text), b',', 1000)), whole, "pieces matter");
        whole
    }

    fn row(line: u64, fields: &[&str]) -> (u64, Vec<String>) {
        (line, fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn any_line_end_ends_a_row_and_the_last_may_lack_it() {
        let expected = vec![row(1, &["a", "b"]), row(2, &["c", "d"])];
        assert_eq!(read(b"a,b\r\nc,d\r\n"), expected);
        assert_eq!(read(b"a,b\nc,d"), expected);
    }

    #[test]
    fn blank_lines_are_no_rows_but_they_count_as_lines() {
        let rows = read(b"\r\na\r\n\r\n\nb\r\n\r\n");
        assert_eq!(rows, vec![row(2, &["a"]), row(5, &["b"])]);
        assert_eq!(read(b""), vec![]);
        assert_eq!(read(b"\r\n\n"), vec![]);
    }

    #[test]
    fn quoted_fields_hold_separators_line_ends_and_quotes() {
        let rows = read(b"\"1,5\",\"two\r\nlines\",\"say \"\"hi\"\"\"\r\nx,,\r\n");
        assert_eq!(
            rows,
            vec![row(1, &["1,5", "two\r\nlines", "say \"hi\""]), row(3, &["x", "", ""])]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_field() {
        assert_eq!(read(b"\xef\xbb\xbfa,b\n"), vec![row(1, &["a", "b"])]);
        assert_eq!(read(b"\xef\xbb\xbf\"a\",b\n"), vec![row(1, &["a", "b"])]);
    }

    #[test]
    fn a_row_of_the_longest_size_passes_and_one_byte_more_does_not() {
        let longest = [vec![b'x'; 99], vec![b'\n']].concat();
        let mut reader = RowReader::new(longest.as_slice(), b',', 100);
        assert_eq!(reader.next_row().unwrap().unwrap().bytes(), 99);
        let longer = [vec![b'x'; 100], vec![b'\n']].concat();
        let mut reader = RowReader::new(longer.as_slice(), b',', 100);
        let error = reader.next_row().unwrap_err();
        assert!(matches!(error, RowError::TooLarge { line: 1, limit: 100, unit: "bytes" }));
    }

    #[test]
    fn an_endless_row_is_given_up_without_being_held() {
        let mut reader = RowReader::new(io::repeat(0), b',', 1 << 20);
        assert!(matches!(reader.next_row(), Err(RowError::TooLarge { unit: "bytes", .. })));
        assert!(reader.text.len() <= 4 << 20);
        let mut reader = RowReader::new(io::repeat(b','), b',', 1 << 30);
        assert!(matches!(reader.next_row(), Err(RowError::TooLarge { unit: "fields", .. })));
        assert!(reader.ends.len() <= MAX_FIELDS);
    }

    #[test]
    fn rows_larger_than_the_first_buffers_are_read_whole() {
        let long = "y".repeat(3 * ROW_BYTES);
        let wide = vec!["z"; 3 * ROW_FIELDS].join(",");
        let text = format!("{long},1\n{wide}\n");
        let mut reader = RowReader::new(text.as_bytes(), b',', 1 << 20);
        assert_eq!(reader.next_row().unwrap().unwrap().field(0), long.as_bytes());
        assert_eq!(reader.next_row().unwrap().unwrap().len(), 3 * ROW_FIELDS);
        assert!(reader.next_row().unwrap().is_none());
    }

    #[test]
    fn a_failing_input_is_reported_as_such() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk gone"))
            }
        }
        let mut reader = RowReader::new(Broken, b',', 100);
        assert!(matches!(reader.next_row(), Err(RowError::Io(_))));
    }
}
