//! NUL characters, which Postgres keeps in no text.
//!
//! Responsible for: putting U+FFFD in their place, the sign for what could not be kept, so that a
//! stray one in somebody's data stops neither a shard nor a sink. Ids never have one: events and
//! members with such ids are refused before they get here.
//! Not responsible for: columns of type `json`, which keep the letter as it is escaped.

use std::borrow::Cow;

const INSTEAD: char = '\u{FFFD}';
/// How JSON writes the character.
const ESCAPED: &str = "\\u0000";

/// A text without NUL characters.
pub(super) fn without(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text of a JSON document, without NUL characters in its strings.
pub(super) fn without_escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(ESCAPED) {
        return Cow::Borrowed(json);
    }
    let (mut kept, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(at) = rest.find('\\') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(ESCAPED) {
            kept.push(INSTEAD);
            rest = after;
            continue;
        }
        // The letter behind a backslash belongs to it, be it another backslash.
        let length = rest.chars().take(2).map(char::len_utf8).sum();
        kept.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_nul_characters_are_replaced() {
        assert_eq!(without("a\0b"), "a\u{FFFD}b");
        assert!(matches!(without("a\u{1}"), Cow::Borrowed("a\u{1}")));
    }

    #[test]
    fn an_escaped_backslash_before_the_letters_is_no_nul() {
        let table = [
            (json!("a\0"), json!("a\u{FFFD}")),
            (json!("\\u0000"), json!("\\u0000")),
            (json!("\\\0\\"), json!("\\\u{FFFD}\\")),
            (json!({"k\0": ["\0\0", 1]}), json!({"k\u{FFFD}": ["\u{FFFD}\u{FFFD}", 1]})),
        ];
        for (value, wanted) in table {
            let kept = without_escaped(&value.to_string()).into_owned();
            assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), wanted, "{kept}");
        }
    }

    proptest! {
        #[test]
        fn strings_come_back_with_nothing_else_changed(text in "[a\\\\u0\0\"ü]{0,12}") {
            let kept = without_escaped(&json!(text).to_string()).into_owned();
            let read: String = serde_json::from_str(&kept).unwrap();
            prop_assert_eq!(read, text.replace('\0', "\u{FFFD}"));
        }

        #[test]
        fn no_text_is_too_strange(text in "(?s)[\\\\u0ü]{0,12}") {
            prop_assert!(!without_escaped(&text).is_empty() || text.is_empty());
        }
    }
}
