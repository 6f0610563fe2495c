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

#[test]
fn a_query_over_the_catalogue_names_it_and_nothing_else_of_the_engine() {
    let text = "WITH x AS (SELECT :m AS m) SELECT url FROM tidemill_object, \"Tidemill_Object\"";
    let query = Statement::parse_catalogue_query(text).unwrap();
    assert_eq!((query.kind(), query.parameters()), (StatementKind::Query, &["m".to_owned()][..]));
    assert_eq!(refused(text).1, &text[text.find("tidemill_object").unwrap()..]);
    for name in ["tidemill_member", "tidemill_objects", "\"tidemill_retired\""] {
        let text = format!("SELECT url FROM tidemill_object JOIN {name} ON true");
        let error = Statement::parse_catalogue_query(&text).unwrap_err();
        assert!(text[error.at..].starts_with(name), "{error}");
    }
}

#[test]
fn a_query_over_the_catalogue_changes_nothing() {
    let table = [
        ("DELETE FROM t", "DELETE"),
        ("WITH x AS (SELECT 1) UPDATE t SET a = 1", "UPDATE"),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x", "DELETE"),
        ("WITH x AS (INSERT INTO t (a) VALUES (1) RETURNING a) SELECT a FROM x", "INSERT"),
    ];
    for (text, word) in table {
        let error = Statement::parse_catalogue_query(text).unwrap_err();
        assert!(error.message.contains("it is a SELECT"), "{error}");
        assert!(text[error.at..].starts_with(word), "{text}");
    }
    assert!(Statement::parse_catalogue_query("VALUES ('file:///a')").is_ok());
}

#[test]
fn a_parameter_that_nothing_is_bound_to_is_found_where_it_first_stands() {
    let text = "  SELECT ':c', :a, :b, :b";
    let statement = Statement::parse(text).unwrap();
    assert_eq!(statement.check_parameters(&["b", "a"]), Ok(()));
    let error = statement.check_parameters(&["a"]).unwrap_err();
    assert_eq!(error.to_string(), "nothing is bound to :b");
    assert_eq!(&text[error.at..], ":b, :b");
}

#[test]
fn parameters_are_numbered_by_name_where_they_stand() {
    let table = [
        ("SELECT 1", "SELECT 1"),
        ("DELETE FROM t WHERE a=:b OR c IN (:a,:b)", "DELETE FROM t WHERE a=$1 OR c IN ($2,$1)"),
        ("SELECT ':a', \"it''s :b\", :c || 'x:d'", "SELECT ':a', \"it''s :b\", $1 || 'x:d'"),
        ("  SELECT :a -- not :b\n, /* nor :c */ :d ; ", "SELECT $1 -- not :b\n, /* nor :c */ $2"),
        ("SELECT :ab, :a, :abc", "SELECT $1, $2, $3"),
    ];
    for (text, wanted) in table {
        assert_eq!(Statement::parse(text).unwrap().numbered(), wanted);
    }
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
