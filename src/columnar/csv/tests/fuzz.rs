//! Delimited text, spoilt: every row is read, mended, left out with a reason, or the file is refused.

use std::io;

use proptest::prelude::*;

use super::*;
use crate::columnar::rows::RowReader;
use crate::testing::mutation::{Words, cases, noise, spoilt};

const WORDS: Words = &[
    b"\"",
    b"\"\"",
    b"\"a\r\nb\"",
    b",",
    b",,,,,,,,",
    b"\r\n",
    b"\n\n\n",
    b"\r",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"interval_start",
    b"2025-03-13 05:00:00 +0000 UTC",
    b"9999-99-99 99:99:99 +9999 UTC",
    b"-262144-01-01 00:00:00 +0000 UTC",
    b"1e308",
    b"-1e999",
    b"NaN",
    b"inf",
    b"0x10",
    b"1,5",
    b"340282366920938463463374607431768211456",
];

/// Gives a few bytes at a time.
struct Pieces<'a> {
    text: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.size.min(self.text.len()).min(buffer.len());
        let (now, later) = self.text.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.text = later;
        Ok(count)
    }
}

/// What became of a file: rows of its batches, rows left out, and what was kept for a look; or why
/// it was refused.
type Told = Result<(usize, u64, Vec<Inspected>), String>;

fn told(input: impl Read) -> Told {
    let plan = Arc::new(CsvPlan::new(settings()).unwrap());
    let opened = CsvReader::open(&plan, input, true).map_err(|error| error.to_string())?;
    let Some(mut reader) = opened else { return Ok((0, 0, Vec::new())) };
    let (width, mut rows, mut looked) = (reader.layout().arrow.fields().len(), 0, Vec::new());
    loop {
        let step = reader.step().map_err(|error| error.to_string())?;
        looked.extend(reader.take_inspected());
        match step {
            Step::Batch(batch) => {
                assert!((1..=settings().batch_rows).contains(&batch.num_rows()));
                assert_eq!(batch.num_columns(), width);
                rows += batch.num_rows();
            }
            Step::Going => {}
            Step::End => break,
        }
    }
    let left_out: u64 = reader.facts().rejected.values().sum();
    Ok((rows, left_out, looked))
}

/// Rows of a text, header included, counted without reading any of them.
fn rows_of(text: &[u8]) -> u64 {
    let settings = settings();
    let mut reader = RowReader::new(text, settings.delimiter, settings.max_row_bytes);
    let mut rows = 0;
    while reader.next_row().unwrap().is_some() {
        rows += 1;
    }
    rows
}

fn seeds() -> Vec<Vec<u8>> {
    let fine =
        pods(&["p,1,2,{}", "q,3.5,1e19,\"a,b\"", "r,bad,,\"x\"\"y\"", "s,1", "t,1,2,l,extra"]);
    let nodes = format!("interval_start,node\r\n{AT},n\r\nnever,m\r\n");
    let marked = format!("\u{feff}{}", pods(&["p,1,2,"]));
    [fine, nodes, marked].map(String::into_bytes).to_vec()
}

fn accounts_for_every_row(text: &[u8]) -> Result<(), TestCaseError> {
    let whole = told(text);
    if let Ok((rows, left_out, looked)) = &whole {
        let header = u64::from(rows_of(text) > 0);
        prop_assert_eq!(*rows as u64 + left_out + header, rows_of(text), "a row is gone");
        prop_assert!(looked.len() <= MAX_INSPECTED);
        // A byte that is no text is shown as three.
        let longest = looked.iter().map(|row| row.text.len()).max().unwrap_or(0);
        prop_assert!(longest <= 3 * MAX_INSPECTED_BYTES, "{longest} bytes for a look");
    }
    for size in [1, 7] {
        prop_assert_eq!(&told(Pieces { text, size }), &whole, "in pieces of {}", size);
    }
    Ok(())
}

#[test]
fn the_seeds_are_files() {
    for seed in seeds() {
        let (rows, _, _) = told(&*seed).unwrap();
        assert!(rows > 0, "{}", String::from_utf8_lossy(&seed));
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn spoilt_files_lose_no_row_however_they_come(text in spoilt(seeds(), WORDS)) {
        accounts_for_every_row(&text)?;
    }

    #[test]
    fn noise_under_a_good_header_loses_no_row(noise in noise(600)) {
        accounts_for_every_row(&[HEADER.as_bytes(), &noise].concat())?;
        accounts_for_every_row(&noise)?;
    }
}
