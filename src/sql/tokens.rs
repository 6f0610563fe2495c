//! SQL text to tokens.
//!
//! Responsible for: telling strings, quoted names, comments and `:name` parameters apart, and
//! refusing what databases read differently (`::`, other parameters, other quotes), so that every
//! store finds the same tokens. The rules are those of SQLite's tokenizer where both agree.
//! Not responsible for: what the tokens mean together (`statement`).

use crate::sql::SqlError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or a name.
    Word(&'a str),
    /// A name in double quotes, as it is written between them.
    Quoted(&'a str),
    /// A string.
    Text,
    Number,
    /// The name of a parameter, without its colon.
    Parameter(&'a str),
    Symbol(u8),
}

impl Token<'_> {
    /// Whether it is that keyword, in upper or lower case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// A token and where it lies, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    pub(super) at: usize,
    pub(super) end: usize,
}

/// All tokens of `text`.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, SqlError> {
    let mut scanner = Scanner { text, at: 0 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next()? {
        found.push(token);
    }
    Ok(found)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Result<Option<Placed<'a>>, SqlError> {
        self.skip_blank()?;
        let at = self.at;
        let Some(byte) = self.byte(0) else { return Ok(None) };
        let token = match byte {
            b'\'' => self.quoted(b'\'', "string").map(|_| Token::Text)?,
            b'"' => Token::Quoted(self.quoted(b'"', "quoted name")?),
            b':' => Token::Parameter(self.parameter()?),
            b'0'..=b'9' => {
                self.skip_while(|byte| in_word(byte) || byte == b'.');
                Token::Number
            }
            byte if in_word(byte) && byte != b'$' => Token::Word(self.word()?),
            byte => {
                refuse(byte, at)?;
                self.at += 1;
                Token::Symbol(byte)
            }
        };
        Ok(Some(Placed { token, at, end: self.at }))
    }

    fn skip_blank(&mut self) -> Result<(), SqlError> {
        loop {
            self.skip_while(|byte| matches!(byte, b'\t'..=b'\r' | b' '));
            match (self.byte(0), self.byte(1)) {
                (Some(b'-'), Some(b'-')) => self.skip_while(|byte| byte != b'\n'),
                (Some(b'/'), Some(b'*')) => {
                    let body = &self.text[self.at + 2..];
                    let Some(length) = body.find("*/") else {
                        return Err(SqlError::new(self.at, "the comment is not closed"));
                    };
                    self.at += length + 4;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads up to the closing quote; two in a row stand for one inside.
    fn quoted(&mut self, quote: u8, what: &str) -> Result<&'a str, SqlError> {
        let start = self.at;
        self.at += 1;
        loop {
            self.skip_while(|byte| byte != quote);
            match (self.byte(0), self.byte(1)) {
                (None, _) => return Err(SqlError::new(start, format!("the {what} is not closed"))),
                (Some(_), Some(next)) if next == quote => self.at += 2,
                _ => break,
            }
        }
        self.at += 1;
        Ok(&self.text[start + 1..self.at - 1])
    }

    fn word(&mut self) -> Result<&'a str, SqlError> {
        let start = self.at;
        self.skip_while(in_word);
        let word = &self.text[start..self.at];
        if word.eq_ignore_ascii_case("e") && self.byte(0) == Some(b'\'') {
            let advice = "escape strings are not portable, write '…' and double the quotes inside";
            return Err(SqlError::new(start, advice));
        }
        Ok(word)
    }

    fn parameter(&mut self) -> Result<&'a str, SqlError> {
        let start = self.at;
        if self.byte(1) == Some(b':') {
            return Err(double_colon(start));
        }
        self.at += 1;
        self.skip_while(in_word);
        let name = &self.text[start + 1..self.at];
        if name.is_empty() {
            let advice = "a colon is followed by the name of a parameter, as in :manifest";
            return Err(SqlError::new(start, advice));
        }
        let portable = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !portable || name.as_bytes()[0].is_ascii_digit() {
            let advice = format!("no parameter is called :{name}; names are letters, digits and _");
            return Err(SqlError::new(start, advice));
        }
        match (self.byte(0), self.byte(1)) {
            (Some(b':'), Some(b':')) => Err(double_colon(self.at)),
            // SQLite takes `:name(…)` for one long parameter name.
            (Some(b'('), _) => {
                Err(SqlError::new(self.at, format!(":{name} is a value and cannot be called")))
            }
            _ => Ok(name),
        }
    }
}

/// What SQLite takes for part of a name.
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn double_colon(at: usize) -> SqlError {
    SqlError::new(at, ":: is not portable, write CAST(value AS type)")
}

fn refuse(byte: u8, at: usize) -> Result<(), SqlError> {
    let advice = match byte {
        b'?' | b'@' | b'$' | b'#' => "parameters are written :name",
        b'`' | b'[' | b']' => "names are quoted with double quotes",
        0 => "a statement holds no NUL characters",
        _ => return Ok(()),
    };
    Err(SqlError::new(at, format!("{:?} is not portable, {advice}", char::from(byte))))
}
