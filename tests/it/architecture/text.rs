//! Rust source as text: what is code, what is doc, what is imported.
//!
//! Responsible for: reading just enough of the language for the guards to be right.
//! Not responsible for: the rules themselves (`architecture`).

use std::collections::BTreeSet;

/// The module doc in one line.
pub fn module_doc(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The text without comments and without what is in strings; lines stay lines.
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = skipped(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            let (gone, left) = rest.split_at(skipped);
            code.extend(gone.chars().filter(|character| *character == '\n'));
            rest = left;
        }
    }
    code
}

/// Length of the comment or literal that `rest` begins with; 0 if it begins with neither.
fn skipped(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if !before.is_some_and(is_word)
        && let Some(len) = raw_string(rest)
    {
        return len;
    }
    match rest.as_bytes()[0] {
        b'"' => string(rest),
        b'\'' => character(rest),
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
        if left.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if left.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += left.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let opened = body.trim_start_matches('#');
    let content = opened.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(body.len() - opened.len()));
    let len = content.find(&end).map_or(content.len(), |at| at + end.len());
    Some(rest.len() - content.len() + len)
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, as opposed to a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest[1..].chars();
    match (characters.next(), characters.next()) {
        // The escaped character may itself be a quote.
        (Some('\\'), Some(_)) => rest[3..].find('\'').map_or(0, |at| at + 4),
        (Some(one), Some('\'')) => one.len_utf8() + 2,
        _ => 0,
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// What follows `crate::` in code, groups included.
pub fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = code[at + path.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => {
                found.insert(word(rest));
            }
        }
    }
    found
}

/// The first word of each path of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![];
    let mut from = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            ',' | '}' => {
                heads.push(word(group[from..at].trim_start()));
                from = at + 1;
            }
            _ => {}
        }
        if character == '}' && from == at + 1 {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|character| is_word(*character)).collect()
}

#[test]
fn comments_and_literals_are_no_code() {
    let table = [
        ("a // b\nc", "a \nc"),
        ("a /* b /* c */ d */ e", "a  e"),
        (r#"f("x \" // y", 'z')"#, "f(, )"),
        ("r#\"a \" b\"# c", " c"),
        ("for r in b", "for r in b"),
        ("<'a> '\\'' '\\u{41}' 'ä'", "<'a>   "),
        ("\"\n\n\" x", "\n\n x"),
    ];
    for (text, code) in table {
        assert_eq!(code_only(text), code, "{text}");
    }
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    let table = [
        ("use crate::a::b;", vec!["a"]),
        ("use crate::{a, b::{c, d}, e};", vec!["a", "b", "e"]),
        ("use crate::{\n    a::{b, c},\n};\nuse crate::d;", vec!["a", "d"]),
        ("fn f(x: crate::a::B) { $crate::c!() }", vec!["a", "c"]),
        ("use mycrate::a;", vec![]),
    ];
    for (code, wanted) in table {
        assert!(imports(code).iter().eq(wanted.iter()), "{code}: {:?}", imports(code));
    }
}
