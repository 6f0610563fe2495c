//! Tests of the reader of documents.

use super::*;
use crate::config::diagnostic::Diagnostics;

/// Reads `text` with `read` and returns what came of it and all errors.
fn reading<T>(
    text: &str,
    variables: &Variables,
    read: impl Fn(&Section<'_>) -> Option<T>,
) -> Result<T, Diagnostics> {
    let report = Report::default();
    let table = parse(text, &report);
    let value = table.as_ref().and_then(|table| {
        let cx = Context { text, report: &report, variables: Some(variables) };
        let section = Section::new(cx, "the file", table, 0..0);
        let value = read(&section);
        section.finish();
        value
    });
    report.conclude("test.toml", text, value)
}

fn errors<T: std::fmt::Debug>(text: &str, read: impl Fn(&Section<'_>) -> Option<T>) -> String {
    reading(text, &Variables::default(), read).unwrap_err().to_string()
}

#[test]
fn an_error_shows_file_line_column_the_line_and_a_hint() {
    let shown = errors("topic = \"a\"\nstrat = \"latest\"\n", |section| {
        section.value("start");
        section.need("topic", Value::text)
    });
    let expected = "\
error: unknown key `strat` in the file
 --> test.toml:2:1
  |
2 | strat = \"latest\"
  | ^^^^^
  |
  = help: did you mean `start`?

1 error in test.toml";
    assert_eq!(shown, expected);
}

#[test]
fn all_errors_are_reported_in_the_order_of_the_file() {
    let shown = errors("size = \"much\"\ntime = 3\nodd = 1\n", |section| {
        let time = section.need("time", Value::duration);
        let size = section.need("size", Value::size);
        let missing = section.need("name", Value::text);
        Some((time?, size?, missing?))
    });
    let at = |needle: &str| shown.find(needle).unwrap_or_else(|| panic!("{needle}: {shown}"));
    assert!(at("`name` is missing in the file") < at("test.toml:1:8"));
    assert!(at("test.toml:1:8") < at("test.toml:2:8"));
    assert!(at("test.toml:2:8") < at("unknown key `odd`"));
    assert!(shown.ends_with("4 errors in test.toml"), "{shown}");
}

#[test]
fn every_error_of_the_syntax_is_reported() {
    let shown = errors("a = \nb = 1\nb = 2\n", |section| section.need("b", Value::text));
    assert!(shown.contains("test.toml:1:"), "{shown}");
    assert!(shown.contains("test.toml:3:1"), "{shown}");
    assert!(shown.contains("duplicate key"), "{shown}");
}

#[test]
fn typed_values_can_come_from_variables() {
    let mut variables = Variables::default();
    variables.declare("on", Some("true".to_owned()));
    variables.declare("cap", Some("2 MiB".to_owned()));
    variables.declare("most", Some("7".to_owned()));
    let text = "on = \"${on}\"\ncap = \"${cap}\"\nmost = \"${most}\"\n";
    let read = reading(text, &variables, |section| {
        let on = section.need("on", Value::boolean);
        let cap = section.need("cap", Value::size);
        let most = section.need("most", |value| value.integer(1..=9));
        Some((on?, cap?, most?))
    });
    assert_eq!(read, Ok((true, 2 << 20, 7)));
}

#[test]
fn an_unknown_variable_is_shown_inside_its_string() {
    let mut variables = Variables::default();
    variables.declare("topic", Some("orders".to_owned()));
    let text = "topic = \"x-${topik}\"\n";
    let shown = reading(text, &variables, |section| section.need("topic", Value::text))
        .unwrap_err()
        .to_string();
    assert!(shown.contains("error: unknown variable `topik`"), "{shown}");
    assert!(shown.contains("test.toml:1:12"), "{shown}");
    assert!(shown.contains("did you mean `topic`?"), "{shown}");
}

#[test]
fn a_secret_is_read_only_where_nobody_sees_it() {
    let mut variables = Variables::default();
    variables.declare("name", Some("alice".to_owned()));
    variables.declare_secret("password", Some(SecretString::from("hunter2")));
    variables.declare_secret("none", Some(SecretString::default()));
    let text = "p = \"${password}\"\n";
    let read = reading(text, &variables, |section| section.need("p", Value::secret)).unwrap();
    assert_eq!(read.expose_secret(), "hunter2");
    let shown = reading(text, &variables, |section| section.need("p", Value::text)).unwrap_err();
    let shown = shown.to_string();
    assert!(shown.contains("variable `password` is secret, `p` is not"), "{shown}");
    assert!(shown.contains("test.toml:1:6") && !shown.contains("hunter2"), "{shown}");
    let table = [
        ("p = \"plain words\"\n", "`p` has to come from a secret variable"),
        ("p = \"${name}\"\n", "`p` has to come from a secret variable"),
        ("p = \"${none}\"\n", "`p` is empty"),
        ("p = \"${passwort}\"\n", "did you mean `password`?"),
    ];
    for (text, words) in table {
        let read = reading(text, &variables, |section| section.need("p", Value::secret));
        let shown = read.map(|_| ()).unwrap_err().to_string();
        assert!(shown.contains(words) && !shown.contains("plain words"), "{shown}");
    }
}

#[test]
fn numbers_outside_their_range_say_the_range() {
    let shown = errors("count = 0\n", |section| section.need("count", |value| value.count(1)));
    assert!(shown.contains("`count` has to be an integer from 1 to 1000000000"), "{shown}");
    assert!(shown.contains("`0` is not"), "{shown}");
}

#[test]
fn parts_of_strings_are_found_behind_every_kind_of_quote() {
    let part = |text: &str| {
        let found = reading(text, &Variables::default(), |section| {
            section.required("p").map(|value| value.inside(0..2))
        });
        found.map(|range| text[range].to_owned())
    };
    assert_eq!(part("p = 'abc'").as_deref(), Ok("ab"));
    assert_eq!(part("p = \"abc\"").as_deref(), Ok("ab"));
    assert_eq!(part("p = '''\nabc'''").as_deref(), Ok("ab"));
    assert_eq!(part("p = '''\r\nabc\r\n'''").as_deref(), Ok("ab"));
    assert_eq!(part("p = \"\"\"abc\"\"\"").as_deref(), Ok("ab"));
    assert_eq!(part("p = \"a\\tc\"").as_deref(), Ok("\"a\\tc\""), "escapes: the whole string");
}
