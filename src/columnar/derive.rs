//! Columns computed from an instant column.
//!
//! Responsible for: instants printed under a strftime format in UTC, without printing the same
//! text for every row.
//! Not responsible for: the day as a number (`instant::day_of`).

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::fmt::strtime;

use crate::columnar::instant::DAY_MILLIS;

/// Directives that change with the day at most; one text serves a whole day then.
const DAY_DIRECTIVES: &[u8] = b"YyCmBbhdejFDaAuwGgVUW%nt";
/// Texts kept; hostile input has as many instants as rows.
const KEPT: usize = 4096;

/// Prints the instants of one column.
#[derive(Debug)]
pub struct InstantFormat {
    format: String,
    /// Milliseconds that share a text.
    grain: i64,
    texts: HashMap<i64, String>,
}

impl InstantFormat {
    /// Prints under `format`; fails if that cannot be printed.
    pub fn new(format: &str) -> Result<Self, jiff::Error> {
        strtime::format(format, Timestamp::UNIX_EPOCH)?;
        let grain = if changes_daily(format) { DAY_MILLIS } else { 1 };
        Ok(Self { format: format.to_owned(), grain, texts: HashMap::new() })
    }

    /// The text of an instant; `None` beyond the years that can be printed.
    pub fn text(&mut self, millis: i64) -> Option<&str> {
        let key = millis.div_euclid(self.grain);
        if !self.texts.contains_key(&key) {
            let instant = Timestamp::from_millisecond(millis).ok()?;
            let text = strtime::format(&self.format, instant).ok()?;
            if self.texts.len() >= KEPT {
                self.texts.clear();
            }
            self.texts.insert(key, text);
        }
        self.texts.get(&key).map(String::as_str)
    }
}

fn changes_daily(format: &str) -> bool {
    let mut bytes = format.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            continue;
        }
        // Flags and widths stand between the sign and the directive.
        let flag = |byte: &u8| matches!(byte, b'-' | b'_' | b'^' | b'#' | b'0'..=b'9');
        match bytes.by_ref().find(|byte| !flag(byte)) {
            Some(directive) if DAY_DIRECTIVES.contains(&directive) => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_in_utc() {
        let mut month = InstantFormat::new("%m").unwrap();
        assert_eq!(month.text(0), Some("01"));
        assert_eq!(month.text(-1), Some("12"));
        let mut stamp = InstantFormat::new("%Y-%m-%dT%H").unwrap();
        assert_eq!(stamp.text(1_741_568_399_000), Some("2025-03-10T00"));
        assert_eq!(stamp.text(1_741_568_400_000), Some("2025-03-10T01"));
    }

    #[test]
    fn one_text_serves_a_day_only_if_nothing_finer_is_printed() {
        for format in ["%Y", "year=%Y", "%F", "%-d.%b", "100%%", ""] {
            assert!(changes_daily(format), "{format}");
        }
        for format in ["%H", "%Y-%m-%d %M", "%T", "%s", "%c", "%"] {
            assert!(!changes_daily(format), "{format}");
        }
    }

    #[test]
    fn texts_kept_are_bounded() {
        let mut format = InstantFormat::new("%s").unwrap();
        for second in 0..3 * KEPT as i64 {
            let expected = second.to_string();
            assert_eq!(format.text(second * 1000), Some(expected.as_str()));
        }
        assert!(format.texts.len() <= KEPT);
    }

    #[test]
    fn an_instant_beyond_the_calendar_has_no_text() {
        let mut format = InstantFormat::new("%s").unwrap();
        assert_eq!(format.text(i64::MAX), None);
    }

    #[test]
    fn a_format_that_cannot_be_printed_is_an_error() {
        assert!(InstantFormat::new("%Y-%").is_err());
    }
}
