//! Words for people.
//!
//! Responsible for: text from outside made harmless for a terminal, counts with their noun, lists
//! that say what they leave out.
//! Not responsible for: what is said.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest text from outside that is shown, in characters.
const LONGEST: usize = 500;

/// Text that came from outside, for a terminal: control characters, which could move the cursor or
/// hide what was written, are escaped, and what is longer than 500 characters is cut.
pub fn printable(text: &str) -> String {
    let (mut shown, is_cut) = beginning(text, LONGEST);
    if is_cut {
        shown.push('…');
    }
    shown
}

/// The first `most` characters of a text, made harmless for a terminal, and whether there are
/// more.
pub(super) fn beginning(text: &str, most: usize) -> (String, bool) {
    let mut shown = String::with_capacity(text.len().min(most));
    for (index, letter) in text.chars().enumerate() {
        if index == most {
            return (shown, true);
        }
        if is_harmless(letter) {
            shown.push(letter);
        } else {
            shown.extend(letter.escape_default());
        }
    }
    (shown, false)
}

/// Neither a control character nor one that turns the direction of writing.
fn is_harmless(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(letter, '\u{2066}'..='\u{2069}');
    !letter.is_control() && !turns
}

/// "1 member", "3 members".
pub fn counted(count: u64, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}

/// The first of many, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excerpt<T> {
    /// How many there are.
    pub total: u64,
    /// The first of them.
    pub first: Vec<T>,
}

impl<T> Excerpt<T> {
    /// The first `most` of `all`.
    pub fn of(all: impl IntoIterator<Item = T>, most: usize) -> Self {
        let (mut total, mut first) = (0, Vec::new());
        for item in all {
            total += 1;
            if first.len() < most {
                first.push(item);
            }
        }
        Self { total, first }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many are left out.
    pub fn left_out(&self) -> u64 {
        self.total.saturating_sub(self.first.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{9b}c"), "a\\u{1b}[2Jb\\r\\n\\u{9b}c");
        assert_eq!(printable("gpj\u{202e}exe"), "gpj\\u{202e}exe");
        assert_eq!(printable("Größe, 日本"), "Größe, 日本");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(printable(&"ü".repeat(LONGEST)), "ü".repeat(LONGEST));
        assert_eq!(printable(&"ü".repeat(LONGEST + 1)), format!("{}…", "ü".repeat(LONGEST)));
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "file")), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn an_excerpt_counts_what_it_leaves_out() {
        let excerpt = Excerpt::of(0..7, 5);
        assert_eq!((excerpt.total, excerpt.left_out(), excerpt.first.len()), (7, 2, 5));
        assert!(Excerpt::<u8>::of([], 5).is_empty());
    }
}
