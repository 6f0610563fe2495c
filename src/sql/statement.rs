//! One statement of a topology.
//!
//! Responsible for: that it is one statement which reads or changes rows, names the columns it
//! inserts into, leaves the engine's tables and the transaction alone, and which parameters it
//! has.
//! Not responsible for: whether its tables and columns exist; the database says so when the
//! statement is prepared.

use std::ops::Range;

use crate::sql::SqlError;
use crate::sql::tokens::{Placed, Token, tokens};

/// Tables of the engine begin like this; statements of topologies cannot name them.
pub const ENGINE_PREFIX: &str = "tidemill_";

/// The catalogue of objects, which queries over it may name.
pub const CATALOGUE: &str = "tidemill_object";

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// Reads rows.
    Query,
    /// Adds rows.
    Insert,
    /// Changes rows.
    Update,
    /// Removes rows.
    Delete,
}

/// A statement with `:name` parameters.
///
/// ```
/// use tidemill::sql::{Statement, StatementKind};
///
/// let text = "DELETE FROM summary WHERE cluster = :cluster AND note <> ':none';";
/// let statement = Statement::parse(text).unwrap();
/// assert_eq!(statement.kind(), StatementKind::Delete);
/// assert_eq!(statement.parameters(), ["cluster"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    text: String,
    kind: StatementKind,
    parameters: Vec<String>,
    /// Where each of them first appears, in the text that was read.
    places: Vec<usize>,
    numbered: String,
}

impl Statement {
    /// Reads a statement. Fails with the place and what to write instead if it is not exactly one
    /// statement, not portable, inserts without a list of columns, or touches what is the
    /// engine's.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        Self::read(text, false)
    }

    /// Reads a query that may name [`CATALOGUE`]. Fails like [`Statement::parse`], and if it does
    /// anything but read.
    pub fn parse_catalogue_query(text: &str) -> Result<Self, SqlError> {
        Self::read(text, true)
    }

    fn read(text: &str, is_catalogue_query: bool) -> Result<Self, SqlError> {
        let mut tokens = tokens(text)?;
        let end = end_of_statement(&mut tokens)?;
        let Some(first) = tokens.first() else {
            return Err(SqlError::new(0, "there is no statement"));
        };
        let start = first.at;
        refuse_engine_tables(&tokens, is_catalogue_query)?;
        refuse_rollback(&tokens)?;
        let (verb, kind) = verb(&tokens)?;
        if is_catalogue_query {
            refuse_changes(&tokens, verb)?;
        }
        if kind == StatementKind::Insert {
            column_list(&tokens, verb)?;
        }
        let (parameters, places): (Vec<String>, Vec<usize>) =
            parameters(&tokens).into_iter().unzip();
        let numbered = numbered(text, start..end, &tokens, &parameters);
        Ok(Self { text: text[start..end].to_owned(), kind, parameters, places, numbered })
    }

    /// The text, without a semicolon at its end and what lies around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it does.
    pub fn kind(&self) -> StatementKind {
        self.kind
    }

    /// Names of its parameters, each once, in the order in which they first appear.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Its text with `$1`, `$2`, … in the places of its parameters, numbered in the order of
    /// [`Statement::parameters`]: as databases want it that know no names.
    pub fn numbered(&self) -> &str {
        &self.numbered
    }

    /// Fails where a parameter stands that is not `known`.
    pub fn check_parameters(&self, known: &[&str]) -> Result<(), SqlError> {
        let mut placed = self.parameters.iter().zip(&self.places);
        match placed.find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, at)) => Err(SqlError::new(*at, format!("nothing is bound to :{name}"))),
            None => Ok(()),
        }
    }
}

/// Cuts off a semicolon at the end; says where the statement itself ends.
fn end_of_statement(tokens: &mut Vec<Placed<'_>>) -> Result<usize, SqlError> {
    let semicolon = Token::Symbol(b';');
    if let Some(length) = tokens.iter().position(|placed| placed.token == semicolon) {
        if let Some(more) = tokens[length..].iter().find(|placed| placed.token != semicolon) {
            let advice = "a second statement begins here, write each as a string of its own";
            return Err(SqlError::new(more.at, advice));
        }
        tokens.truncate(length);
    }
    Ok(tokens.last().map_or(0, |placed| placed.end))
}

fn refuse_engine_tables(tokens: &[Placed<'_>], but_catalogue: bool) -> Result<(), SqlError> {
    for placed in tokens {
        let (Token::Word(name) | Token::Quoted(name)) = placed.token else { continue };
        if but_catalogue && name.eq_ignore_ascii_case(CATALOGUE) {
            continue;
        }
        let prefix = name.as_bytes().get(..ENGINE_PREFIX.len());
        if prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(ENGINE_PREFIX.as_bytes())) {
            let advice = format!("{name}: names that begin with {ENGINE_PREFIX} are the engine's");
            return Err(SqlError::new(placed.at, advice));
        }
    }
    Ok(())
}

/// A statement that changes rows, or has a part in parentheses that does.
fn refuse_changes(tokens: &[Placed<'_>], verb: usize) -> Result<(), SqlError> {
    let opened = tokens.windows(2).filter(|pair| pair[0].token == Token::Symbol(b'('));
    let mut begins = std::iter::once(&tokens[verb]).chain(opened.map(|pair| &pair[1]));
    let changes =
        |token: &Token<'_>| kind_of(token).is_some_and(|kind| kind != StatementKind::Query);
    match begins.find(|placed| changes(&placed.token)) {
        Some(placed) => {
            let advice = "this query only names objects: it is a SELECT, and changes nothing";
            Err(SqlError::new(placed.at, advice))
        }
        None => Ok(()),
    }
}

/// `OR ROLLBACK` would take everything else of the transaction with it.
fn refuse_rollback(tokens: &[Placed<'_>]) -> Result<(), SqlError> {
    let found =
        tokens.windows(2).find(|pair| pair[0].token.is("or") && pair[1].token.is("rollback"));
    match found {
        Some(pair) => {
            let advice = "OR ROLLBACK would undo what is not this statement's, leave it out";
            Err(SqlError::new(pair[0].at, advice))
        }
        None => Ok(()),
    }
}

/// The word that says what the statement does, behind common table expressions if there are any.
fn verb(tokens: &[Placed<'_>]) -> Result<(usize, StatementKind), SqlError> {
    let first = &tokens[0];
    if !first.token.is("with") {
        let kind = kind_of(&first.token).ok_or_else(|| not_a_statement(first.at))?;
        return Ok((0, kind));
    }
    let mut depth = 0_usize;
    for (index, placed) in tokens.iter().enumerate() {
        match placed.token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            token => {
                if let Some(kind) = kind_of(&token) {
                    return Ok((index, kind));
                }
            }
        }
    }
    Err(not_a_statement(first.at))
}

fn kind_of(token: &Token<'_>) -> Option<StatementKind> {
    let kinds = [
        ("select", StatementKind::Query),
        ("values", StatementKind::Query),
        ("insert", StatementKind::Insert),
        ("update", StatementKind::Update),
        ("delete", StatementKind::Delete),
    ];
    kinds.into_iter().find(|(word, _)| token.is(word)).map(|(_, kind)| kind)
}

fn not_a_statement(at: usize) -> SqlError {
    SqlError::new(at, "a statement begins with SELECT, INSERT, UPDATE, DELETE or WITH")
}

/// Checks that the INSERT at `verb` says into which columns.
fn column_list(tokens: &[Placed<'_>], verb: usize) -> Result<(), SqlError> {
    let mut rest = tokens[verb + 1..].iter().map(|placed| placed.token).peekable();
    if rest.next_if(|token| token.is("or")).is_some() {
        rest.next();
    }
    let into = rest.next().is_some_and(|token| token.is("into"));
    let mut named = is_name(rest.next());
    while named && rest.next_if(|token| *token == Token::Symbol(b'.')).is_some() {
        named = is_name(rest.next());
    }
    if rest.next_if(|token| token.is("as")).is_some() {
        named &= is_name(rest.next());
    }
    let opens = rest.next() == Some(Token::Symbol(b'('));
    let column = is_name(rest.next_if(|token| kind_of(token).is_none() && !token.is("with")));
    if into && named && opens && column {
        return Ok(());
    }
    let advice = "INSERT needs a list of columns: INSERT INTO name (column, …) …";
    Err(SqlError::new(tokens[verb].at, advice))
}

fn is_name(token: Option<Token<'_>>) -> bool {
    matches!(token, Some(Token::Word(_) | Token::Quoted(_)))
}

/// Names of parameters, and where each first appears.
fn parameters(tokens: &[Placed<'_>]) -> Vec<(String, usize)> {
    let mut names: Vec<(String, usize)> = Vec::new();
    for placed in tokens {
        if let Token::Parameter(name) = placed.token
            && !names.iter().any(|(known, _)| known == name)
        {
            names.push((name.to_owned(), placed.at));
        }
    }
    names
}

/// The text within `range`, with the number of its name in the place of each parameter.
fn numbered(text: &str, range: Range<usize>, tokens: &[Placed<'_>], names: &[String]) -> String {
    let (mut numbered, mut from) = (String::with_capacity(range.len()), range.start);
    for placed in tokens {
        let Token::Parameter(name) = placed.token else { continue };
        let Some(index) = names.iter().position(|known| known == name) else { continue };
        numbered.push_str(&text[from..placed.at]);
        numbered.push_str(&format!("${}", index + 1));
        from = placed.end;
    }
    numbered.push_str(&text[from..range.end]);
    numbered
}

#[cfg(test)]
mod tests;
