//! `${name}` in strings.
//!
//! Responsible for: putting the values of variables into strings, and those of secret ones only
//! into strings that nobody gets to see.
//! Not responsible for: declaring them or finding their values (`topology::vars`), or for which
//! strings they work in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, Held>,
}

/// The value of a variable.
#[derive(Clone, Debug)]
enum Held {
    Plain(String),
    Secret(SecretString),
    /// Declared, but its value makes no sense, which has been reported.
    Broken,
}

/// What becomes of secret variables in a string.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Refused,
    Welcome,
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
    /// The variable is secret and the string is not; the name, and where `${…}` stands.
    Secret(String, Range<usize>),
    /// The string has to be secret, and no variable in it is.
    NoSecret,
}

impl Variables {
    /// Declares a variable; without a value its uses are errors that need no further report.
    pub fn declare(&mut self, name: &str, value: Option<String>) {
        self.values.insert(name.to_owned(), value.map_or(Held::Broken, Held::Plain));
    }

    /// Declares a variable whose value nobody gets to see; without one, as above.
    pub fn declare_secret(&mut self, name: &str, value: Option<SecretString>) {
        self.values.insert(name.to_owned(), value.map_or(Held::Broken, Held::Secret));
    }

    /// Names of all variables.
    pub fn names(&self) -> Vec<&str> {
        self.values.keys().map(String::as_str).collect()
    }

    /// `text` with the values of its variables, none of which may be secret; `$${` stands for
    /// `${`.
    pub fn expand<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, ExpandError> {
        self.fill(text, Secrets::Refused).map(|(expanded, _)| expanded)
    }

    /// As [`Variables::expand`], for a string that is secret: one of its variables has to be,
    /// since what stands in a file for everybody to read is none.
    pub fn expand_secret(&self, text: &str) -> Result<SecretString, ExpandError> {
        match self.fill(text, Secrets::Welcome)? {
            (_, 0) => Err(ExpandError::NoSecret),
            (expanded, _) => Ok(SecretString::from(expanded.into_owned())),
        }
    }

    /// The text, and how many secret variables are in it.
    fn fill<'t>(
        &self,
        text: &'t str,
        secrets: Secrets,
    ) -> Result<(Cow<'t, str>, usize), ExpandError> {
        if !text.contains("${") {
            return Ok((Cow::Borrowed(text), 0));
        }
        let mut expanded = String::with_capacity(text.len());
        let (mut at, mut secret) = (0, 0);
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
            let value = match self.values.get(name) {
                Some(Held::Plain(value)) => value.as_str(),
                Some(Held::Secret(_)) if secrets == Secrets::Refused => {
                    return Err(ExpandError::Secret(name.to_owned(), open..close + 1));
                }
                Some(Held::Secret(value)) => {
                    secret += 1;
                    value.expose_secret()
                }
                Some(Held::Broken) => return Err(ExpandError::Broken),
                None => return Err(ExpandError::Unknown(name.to_owned(), open..close + 1)),
            };
            expanded.push_str(&text[at..open]);
            expanded.push_str(value);
            at = close + 1;
        }
        expanded.push_str(&text[at..]);
        Ok((Cow::Owned(expanded), secret))
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
        variables.declare_secret("password", Some(SecretString::from("hunter2")));
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

    #[test]
    fn a_secret_goes_into_secret_strings_only_and_they_have_to_have_one() {
        let variables = variables();
        let secret = variables.expand_secret("${host}:${password}").unwrap();
        assert_eq!(secret.expose_secret(), "kafka:hunter2");
        let refused = ExpandError::Secret("password".to_owned(), 2..13);
        assert_eq!(variables.expand("a ${password}"), Err(refused));
        for text in ["hunter2", "${host}", ""] {
            assert_eq!(variables.expand_secret(text).err(), Some(ExpandError::NoSecret), "{text}");
        }
        assert!(!format!("{variables:?}").contains("hunter2"));
    }
}
