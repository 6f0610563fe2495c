//! Instants: text to UTC milliseconds.
//!
//! Responsible for: reading fields under one `strptime` format, with a short cut for the layout
//! `2025-03-10 00:00:00 +0000 UTC`, which Go programs print and big files are full of.
//! Not responsible for: what takes the place of a field that is none.
//!
//! Days are counted with `days_from_civil` of Howard Hinnant, "chrono-compatible low-level date
//! algorithms".

use std::str::from_utf8;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

use crate::columnar::Parsed;

/// The format that has a short cut.
pub const GO_FORMAT: &str = "%Y-%m-%d %H:%M:%S %z UTC";
/// Milliseconds of a day; UTC has no leap seconds here.
pub const DAY_MILLIS: i64 = 86_400_000;

/// Reads the fields of one column.
#[derive(Clone, Debug)]
pub struct InstantParser {
    format: String,
    /// Whether the format is the one with the short cut.
    fixed: bool,
    /// The last field, since neighbours are often equal.
    last: Vec<u8>,
    parsed: Parsed<i64>,
}

impl InstantParser {
    /// A parser for `format`, as jiff's `strptime` reads it. Without an offset in the format, the
    /// text is taken as UTC; without a time of day, as midnight.
    pub fn new(format: &str) -> Self {
        Self {
            format: format.to_owned(),
            fixed: format == GO_FORMAT,
            last: Vec::new(),
            parsed: Parsed::Empty,
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn parse(&mut self, field: &[u8]) -> Parsed<i64> {
        if field != self.last.as_slice() {
            self.parsed = self.read(field);
            self.last.clear();
            self.last.extend_from_slice(field);
        }
        self.parsed
    }

    fn read(&self, field: &[u8]) -> Parsed<i64> {
        if self.fixed
            && let Some(millis) = read_fixed(field)
        {
            return Parsed::Value(millis);
        }
        let Ok(text) = from_utf8(field) else { return Parsed::Bad };
        let text = text.trim();
        if text.is_empty() {
            return Parsed::Empty;
        }
        read_format(&self.format, text).map_or(Parsed::Bad, Parsed::Value)
    }
}

fn read_format(format: &str, text: &str) -> Option<i64> {
    let time = BrokenDownTime::parse(format, text).ok()?;
    if let Ok(instant) = time.to_timestamp() {
        return Some(instant.as_millisecond());
    }
    if time.offset().is_some() {
        return None;
    }
    let local = match time.to_datetime() {
        Ok(local) => local,
        Err(_) => time.to_date().ok()?.at(0, 0, 0, 0),
    };
    Some(local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// Reads `YYYY-MM-DD HH:MM:SS ±HHMM UTC`; anything unusual is left to the general way.
fn read_fixed(field: &[u8]) -> Option<i64> {
    let text: &[u8; 29] = field.try_into().ok()?;
    let separated = text[4] == b'-'
        && text[7] == b'-'
        && text[10] == b' '
        && text[13] == b':'
        && text[16] == b':'
        && text[19] == b' '
        && text[25..] == *b" UTC";
    if !separated {
        return None;
    }
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    let (hour, minute, second) = (two(text, 11)?, two(text, 14)?, two(text, 17)?);
    let (offset_hours, offset_minutes) = (two(text, 21)?, two(text, 23)?);
    let sensible = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && offset_hours < 24
        && offset_minutes < 60;
    if !sensible {
        return None;
    }
    let offset = (offset_hours * 60 + offset_minutes) * 60_000;
    let offset = match text[20] {
        b'+' => offset,
        b'-' => -offset,
        _ => return None,
    };
    let time = ((hour * 60 + minute) * 60 + second) * 1000;
    Some(days_from_civil(year, month, day) * DAY_MILLIS + time - offset)
}

fn two(text: &[u8; 29], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The UTC day of an instant, in days since the Unix epoch.
pub fn day_of(millis: i64) -> i32 {
    let day = millis.div_euclid(DAY_MILLIS);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn go(text: &str) -> Parsed<i64> {
        InstantParser::new(GO_FORMAT).parse(text.as_bytes())
    }

    #[test]
    fn go_style_instants_are_utc_milliseconds() {
        assert_eq!(go("1970-01-01 00:00:00 +0000 UTC"), Parsed::Value(0));
        assert_eq!(go("2025-03-10 00:59:59 +0000 UTC"), Parsed::Value(1_741_568_399_000));
        assert_eq!(go("2025-03-10 02:00:00 +0200 UTC"), Parsed::Value(1_741_564_800_000));
        assert_eq!(go("2024-02-29 00:00:00 -0130 UTC"), Parsed::Value(1_709_170_200_000));
        assert_eq!(go(" 1970-01-01 00:00:01 +0000 UTC "), Parsed::Value(1000));
    }

    #[test]
    fn what_is_no_instant_is_bad_and_nothing_is_empty() {
        let table = [
            "yesterday",
            "2025-03-10",
            "2025-02-29 00:00:00 +0000 UTC",
            "2025-13-01 00:00:00 +0000 UTC",
            "2025-03-10 24:00:00 +0000 UTC",
            "2025-03-10 00:00:00 +0000 CET",
            "2025-03-10 00:00:00 +0000 UTC+",
        ];
        for text in table {
            assert_eq!(go(text), Parsed::Bad, "{text}");
        }
        assert_eq!(go("  "), Parsed::Empty);
        assert_eq!(InstantParser::new(GO_FORMAT).parse(b"\xff"), Parsed::Bad);
    }

    #[test]
    fn a_remembered_field_does_not_answer_for_another() {
        let mut parser = InstantParser::new(GO_FORMAT);
        assert_eq!(parser.parse(b""), Parsed::Empty);
        assert_eq!(parser.parse(b"1970-01-01 00:00:00 +0000 UTC"), Parsed::Value(0));
        assert_eq!(parser.parse(b"1970-01-01 00:00:00 +0000 UTC"), Parsed::Value(0));
        assert_eq!(parser.parse(b"soon"), Parsed::Bad);
        assert_eq!(parser.parse(b"1970-01-02 00:00:00 +0000 UTC"), Parsed::Value(DAY_MILLIS));
    }

    #[test]
    fn formats_without_offset_or_time_are_utc_and_midnight() {
        let mut stamps = InstantParser::new("%Y-%m-%dT%H:%M:%S");
        assert_eq!(stamps.parse(b"1970-01-01T00:00:02"), Parsed::Value(2000));
        let mut days = InstantParser::new("%Y-%m-%d");
        assert_eq!(days.parse(b"1970-01-03"), Parsed::Value(2 * DAY_MILLIS));
    }

    #[test]
    fn the_day_of_an_instant_before_the_epoch_is_the_day_it_lies_in() {
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(0), 0);
        assert_eq!(day_of(DAY_MILLIS - 1), 0);
        assert_eq!(day_of(i64::MAX), i32::MAX);
    }

    proptest! {
        #[test]
        fn the_short_cut_agrees_with_the_general_way(
            year in 1i32..9999, month in 0u8..14, day in 0u8..33, hour in 0u8..25,
            minute in 0u8..60, second in 0u8..60, sign in "[+-]", offset in 0u8..15,
        ) {
            let text = format!(
                "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} \
                 {sign}{offset:02}30 UTC"
            );
            let general = read_format(GO_FORMAT, &text);
            if let Some(short) = read_fixed(text.as_bytes()) {
                prop_assert_eq!(general, Some(short));
            }
        }
    }
}
