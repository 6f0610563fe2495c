//! Sizes, times and names as people write them.
//!
//! Responsible for: "150 MiB", "24h", and the name somebody probably meant.
//! Not responsible for: where they stand or what they limit.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// Largest size that is told as a fraction of a unit without loss.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Names that an error lists at most.
const LISTED: usize = 30;

/// Bytes of "64 KiB", "150 MiB", "1.5 GB" or "1024"; `None` if it is no size.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
    let end = text.find(|c: char| !is_number(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    scaled(&number.replace('_', ""), factor(unit.trim())?)
}

fn factor(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    })
}

fn scaled(number: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes <= EXACT).then(|| bytes.round() as u64)
}

/// A size as [`size`] reads it, in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fits = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes / unit))
}

/// The time that "500ms", "24h", "7d" or "1h 30m" names; a day has 24 hours. `None` if it is no
/// time, is negative, or is given in months or years.
pub fn duration(text: &str) -> Option<Duration> {
    let span: Span = text.trim().parse().ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok()
}

/// A time as [`duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// The one of `known` that somebody who wrote `word` probably meant.
pub fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let most = (word.chars().count() / 3).max(1);
    let word = word.to_lowercase();
    let distances = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &known.to_lowercase()), *known));
    distances.filter(|(distance, _)| *distance <= most).min_by_key(|found| found.0).map(|f| f.1)
}

/// A hint for an unknown `word`: the likely one, or all that there are.
pub fn hint(word: &str, known: &[&str]) -> Option<String> {
    if let Some(close) = closest(word, known) {
        return Some(format!("did you mean `{close}`?"));
    }
    listing(known).map(|known| format!("known: {known}"))
}

/// All of `known` in a row; `None` if there are none.
pub fn listing(known: &[&str]) -> Option<String> {
    if known.is_empty() {
        return None;
    }
    let mut text = known.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if known.len() > LISTED {
        text.push_str(&format!(" and {} more", known.len() - LISTED));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        assert_eq!(size("150 MiB"), Some(150 << 20));
        assert_eq!(size("1.5GiB"), Some(3 << 29));
        assert_eq!(size("2 kb"), Some(2_000));
        assert_eq!(size("10_000"), Some(10_000));
        assert_eq!(size("0"), Some(0));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "12 parsecs", "-1 MiB", "1.2.3 KiB", "99999999999 TiB", "."] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_shown_size_is_read_back_as_the_same_size() {
        for bytes in [0, 1, 1023, 1024, 10 << 20, (10 << 20) + 1, 4 << 30, 7 << 40] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
    }

    #[test]
    fn times_know_days_but_no_months() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5_400)));
        for text in ["", "soon", "24", "-5s", "2 months", "1y"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let known = ["orders", "paid", "slim"];
        assert_eq!(hint("order", &known).as_deref(), Some("did you mean `orders`?"));
        assert_eq!(hint("Slim", &known).as_deref(), Some("did you mean `slim`?"));
        assert_eq!(hint("invoices", &known).as_deref(), Some("known: orders, paid, slim"));
        assert_eq!(hint("invoices", &[]), None);
    }
}
