//! Doubles, as Python's `float()` reads them.
//!
//! Responsible for: one field of text to a 64-bit float.
//! Not responsible for: what takes the place of a field that is none.
//!
//! The rules are those of the Python language reference, `float([x])`: white space around the
//! number, an optional sign, `inf`, `infinity` and `nan` in any case, a point on either side, an
//! exponent, single underscores between digits; no hexadecimal, no decimal comma. Digits of other
//! scripts, which Python takes, are not read. NaN is no number here: it would poison every sum.

use std::str::from_utf8;

use crate::columnar::Parsed;

/// Reads `field` as a double.
///
/// ```
/// use tidemill::columnar::{Parsed, double};
///
/// assert_eq!(double::parse(b" 1e3 "), Parsed::Value(1000.0));
/// assert_eq!(double::parse(b"1_000"), Parsed::Value(1000.0));
/// assert_eq!(double::parse(b""), Parsed::Empty);
/// assert_eq!(double::parse(b"0x10"), Parsed::Bad);
/// ```
pub fn parse(field: &[u8]) -> Parsed<f64> {
    let Ok(text) = from_utf8(field) else { return Parsed::Bad };
    let text = text.trim();
    if text.is_empty() {
        return Parsed::Empty;
    }
    let number = match text.parse::<f64>() {
        Ok(number) => number,
        Err(_) => match with_underscores(text) {
            Some(number) => number,
            None => return Parsed::Bad,
        },
    };
    if number.is_nan() { Parsed::Bad } else { Parsed::Value(number) }
}

/// Reads a number with underscores, each of which has to stand between two digits.
fn with_underscores(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'_') {
        return None;
    }
    let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
    let placed = |index: usize| index > 0 && digit(index - 1) && digit(index + 1);
    let mut plain = String::with_capacity(text.len());
    for (index, character) in text.char_indices() {
        if character != '_' {
            plain.push(character);
        } else if !placed(index) {
            return None;
        }
    }
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        let table = [
            ("28800", 28_800.0),
            ("61.0", 61.0),
            ("327673996441.02655", 327_673_996_441.026_55),
            ("1e3", 1000.0),
            (" 250.5 ", 250.5),
            ("\t-5\r", -5.0),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1E+2", 100.0),
            ("1_000", 1000.0),
            ("1_0.2_5e1_0", 10.25e10),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
            ("\u{a0}7\u{2003}", 7.0),
        ];
        for (text, number) in table {
            assert_eq!(parse(text.as_bytes()), Parsed::Value(number), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_number_to_python_is_bad() {
        let table = [
            "abc",
            "NaN",
            "nan",
            "-nan",
            "1,5",
            "12.5 cores",
            "0x10",
            ".",
            "e5",
            "1e",
            "+",
            "--1",
            "_1",
            "1_",
            "1__0",
            "1_.5",
            "1._5",
            "1_e5",
            "0b1",
            "1d",
            "1f",
            "true",
            "1 2",
        ];
        for text in table {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad, "{text:?}");
        }
        assert_eq!(parse(b"1\xff"), Parsed::Bad);
    }

    #[test]
    fn white_space_alone_is_empty_and_not_bad() {
        for text in ["", " ", "\t\r\n", "\u{a0}"] {
            assert_eq!(parse(text.as_bytes()), Parsed::Empty, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_printed_number_reads_back_as_itself(number in any::<f64>()) {
            prop_assume!(!number.is_nan());
            prop_assert_eq!(parse(number.to_string().as_bytes()), Parsed::Value(number));
            prop_assert_eq!(parse(format!("{number:e}").as_bytes()), Parsed::Value(number));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Parsed::Value(number) = parse(&bytes) {
                prop_assert!(!number.is_nan());
            }
        }
    }
}
