//! What is found in a statement, and what is refused.

use proptest::prelude::*;

use crate::sql::{Statement, StatementKind};

fn parameters(text: &str) -> Vec<String> {
    Statement::parse(text).unwrap().parameters().to_vec()
}

/// What is wrong, and the text from there on.
fn refused(text: &str) -> (String, &str) {
    let error = Statement::parse(text).unwrap_err();
    (error.message, &text[error.at..])
}

#[test]
fn parameters_are_found_once_each_in_order() {
    let text = "UPDATE t SET a = :b, c=:a WHERE d IN (:b,:_x1)";
    assert_eq!(parameters(text), ["b", "a", "_x1"]);
}

#[test]
fn strings_names_and_comments_hold_no_parameters() {
    let text = "SELECT 'it''s :a', \":b \"\" :c\", /* :d ' */ :e -- :f '\n, ':g'";
    assert_eq!(parameters(text), ["e"]);
}

#[test]
fn a_semicolon_in_a_string_ends_nothing_and_one_at_the_end_is_cut_off() {
    let statement =
        Statement::parse("  -- first\n DELETE FROM t WHERE a = ';' ; -- done\n").unwrap();
    assert_eq!(statement.text(), "DELETE FROM t WHERE a = ';'");
}

#[test]
fn a_second_statement_is_refused_where_it_begins() {
    let (message, rest) = refused("DELETE FROM t; DROP TABLE t");
    assert!(message.contains("second statement"), "{message}");
    assert_eq!(rest, "DROP TABLE t");
}

#[test]
fn casts_with_colons_are_refused_with_advice() {
    for text in ["SELECT a::text", "SELECT :a::text", "SELECT (1) :: int"] {
        let (message, rest) = refused(text);
        assert!(message.contains("CAST(value AS type)"), "{message}");
        assert!(rest.starts_with("::"), "{rest}");
    }
}

#[test]
fn what_is_not_portable_is_refused() {
    let table = [
        ("SELECT ?", "?"),
        ("SELECT @a", "@a"),
        ("SELECT $1", "$1"),
        ("SELECT $$a$$", "$$a$$"),
        ("SELECT `a`", "`a`"),
        ("SELECT [:a]", "[:a]"),
        ("SELECT E'\\''", "E'\\''"),
        ("SELECT : a", ": a"),
        ("SELECT :1", ":1"),
        ("SELECT :ä", ":ä"),
        ("SELECT :a(b)", "(b)"),
        ("SELECT 'open", "'open"),
        ("SELECT \"open", "\"open"),
        ("SELECT 1 /* open", "/* open"),
        ("SELECT 1\0", "\0"),
    ];
    for (text, rest) in table {
        assert_eq!(refused(text).1, rest, "{text}");
    }
}

#[test]
fn only_statements_that_read_or_change_rows_are_taken() {
    let table = [
        ("select 1", StatementKind::Query),
        ("VALUES (1)", StatementKind::Query),
        ("Insert into t (a) values (1)", StatementKind::Insert),
        ("UPDATE t SET a = 1", StatementKind::Update),
        ("WITH x AS (SELECT 1), y(a) AS (VALUES (2)) DELETE FROM t", StatementKind::Delete),
        ("WITH RECURSIVE x AS (DELETE FROM a) SELECT 1", StatementKind::Query),
    ];
    for (text, kind) in table {
        assert_eq!(Statement::parse(text).unwrap().kind(), kind, "{text}");
    }
    for text in
        ["", " -- nothing", ";", "COMMIT", "PRAGMA x", "DROP TABLE t", "WITH x AS (SELECT 1)"]
    {
        assert!(Statement::parse(text).is_err(), "{text}");
    }
}

#[test]
fn insert_needs_a_list_of_columns() {
    for text in [
        "INSERT INTO t (a, b) VALUES (1, 2)",
        "INSERT INTO main.\"t\" AS x (\"a\") SELECT 1",
        "INSERT OR IGNORE INTO t (a) VALUES (1)",
        "WITH x AS (SELECT 1) INSERT INTO t (a) SELECT * FROM x",
    ] {
        assert!(Statement::parse(text).is_ok(), "{text}");
    }
    for text in [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t (SELECT 1)",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t () VALUES ()",
        "INSERT t (a) VALUES (1)",
        "INSERT INTO",
        "INSERT",
    ] {
        let (message, rest) = refused(text);
        assert!(message.contains("list of columns"), "{text}: {message}");
        assert_eq!(rest, text);
    }
}

#[test]
fn the_engines_tables_and_its_transaction_are_left_alone() {
    let (_, rest) = refused("DELETE FROM Tidemill_member WHERE true");
    assert!(rest.starts_with("Tidemill_member"));
    let (_, rest) = refused("DELETE FROM \"tidemill_outbox\"");
    assert!(rest.starts_with("\"tidemill_outbox"));
    let (_, rest) = refused("UPDATE OR ROLLBACK t SET a = 1");
    assert!(rest.starts_with("OR ROLLBACK"));
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(?s).{0,60}") {
        if let Err(error) = Statement::parse(&text) {
            prop_assert!(text.is_char_boundary(error.at));
        }
    }

    #[test]
    fn text_in_a_string_is_never_a_parameter(inside in "[a-z:;'\"/* -]{0,20}") {
        let text = format!("SELECT '{}', :real", inside.replace('\'', "''"));
        prop_assert_eq!(parameters(&text), ["real"]);
    }
}
