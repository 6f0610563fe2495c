//! `${name}` in strings.
//!
//! Responsible for: putting the values of variables into strings.
//! Not responsible for: declaring them or finding their values (`topology::vars`), or for which
//! strings they work in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `None`: declared, but its value makes no sense, which has been reported.
    values: BTreeMap<String, Option<String>>,
}

/// Why a string cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandError {
    /// No such variable; the name, and where `${…}` stands.
    Unknown(String, Range<usize>),
    /// `${` without `}`, and where it stands.
    Unclosed(Range<usize>),
    /// The variable has no value; that is reported where it is declared.
    Broken,
}

impl Variables {
    /// Declares a variable; without a value its uses are errors that need no further report.
    pub fn declare(&mut self, name: &str, value: Option<String>) {
        self.values.insert(name.to_owned(), value);
    }

    /// Names of all variables.
    pub fn names(&self) -> Vec<&str> {
        self.values.keys().map(String::as_str).collect()
    }

    /// `text` with the values of its variables; `$${` stands for `${`.
    pub fn expand<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, ExpandError> {
        if !text.contains("${") {
            return Ok(Cow::Borrowed(text));
        }
        let mut expanded = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let open = at + found;
            if text[at..open].ends_with('$') {
                expanded.push_str(&text[at..open]);
                expanded.push('{');
                at = open + 2;
                continue;
            }
            let Some(length) = text[open..].find('}') else {
                return Err(ExpandError::Unclosed(open..text.len()));
            };
            let close = open + length;
            let name = text[open + 2..close].trim();
            match self.values.get(name) {
                Some(Some(value)) => {
                    expanded.push_str(&text[at..open]);
                    expanded.push_str(value);
                }
                Some(None) => return Err(ExpandError::Broken),
                None => return Err(ExpandError::Unknown(name.to_owned(), open..close + 1)),
            }
            at = close + 1;
        }
        expanded.push_str(&text[at..]);
        Ok(Cow::Owned(expanded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        variables.declare("host", Some("kafka".to_owned()));
        variables.declare("port", Some("9092".to_owned()));
        variables.declare("broken", None);
        variables
    }

    #[test]
    fn values_take_the_place_of_names() {
        let variables = variables();
        let expand = |text| variables.expand(text).map(Cow::into_owned);
        assert_eq!(expand("${host}:${port}").as_deref(), Ok("kafka:9092"));
        assert_eq!(expand("plain $5 {x}").as_deref(), Ok("plain $5 {x}"));
        assert_eq!(expand("$${host} and ${host}").as_deref(), Ok("${host} and kafka"));
    }

    #[test]
    fn a_string_that_cannot_be_expanded_says_where() {
        let variables = variables();
        let error = |text| variables.expand(text).map(Cow::into_owned).unwrap_err();
        assert_eq!(error("a ${hots} b"), ExpandError::Unknown("hots".to_owned(), 2..9));
        assert_eq!(error("a ${host"), ExpandError::Unclosed(2..8));
        assert_eq!(error("${broken}"), ExpandError::Broken);
    }
}
