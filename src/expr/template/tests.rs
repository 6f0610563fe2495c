//! Paths: what renders to what, what is refused, and that values stay within their component.

use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::*;
use crate::expr::fields;

const LAKE: &str = "OCP/{%schema}/source={.manifest.cluster_id}/year={year}/month={month}/\
                    {usage_date}-{%manifest}-{%member}-{%part}.parquet";

fn tree(json: &str) -> Value {
    fields::parse(json.as_bytes()).unwrap()
}

/// Renders with the field `v` and without metadata and columns.
fn render(template: &str, v: Value) -> Result<String, Failure> {
    let mut fields = tree("{}");
    fields.insert(vrl::path!("v"), v);
    Template::parse(template).unwrap().render(&fields, &tree("{}"), &mut |_| None)
}

fn error(source: &str) -> (String, String) {
    let error = Template::parse(source).unwrap_err();
    (error.message, source[error.span].to_owned())
}

#[test]
fn the_path_of_the_sketch_renders() {
    let template = Template::parse(LAKE).unwrap();
    assert_eq!(template.columns(), vec!["year", "month", "usage_date"]);
    assert!(template.uses_metadata());
    assert_eq!(template.source(), LAKE);

    let fields = tree(r#"{"manifest":{"cluster_id":"c-1"}}"#);
    let metadata = tree(r#"{"schema":"pod_usage","manifest":"m-1","member":"a b/ü.csv","part":0}"#);
    let mut column = |name: &str| match name {
        "year" => Some("2026".to_owned()),
        "month" => Some("01".to_owned()),
        "usage_date" => Some("2026-01-31".to_owned()),
        other => panic!("no column {other}"),
    };
    let path = template.render(&fields, &metadata, &mut column).unwrap();
    assert_eq!(
        path,
        "OCP/pod_usage/source=c-1/year=2026/month=01/\
         2026-01-31-m-1-a%20b%2F%C3%BC.csv-0.parquet"
    );
    let bound = template.bind(&fields, &metadata).unwrap();
    assert_eq!(bound.render(&["2026", "01", "2026-01-31"]).unwrap(), path);
}

#[test]
fn a_column_that_appears_twice_is_asked_for_once() {
    let template = Template::parse("{day}/{hour}/{day}").unwrap();
    assert_eq!(template.columns(), vec!["day", "hour"]);
    assert!(!template.uses_metadata());
    let bound = template.bind(&Value::Null, &Value::Null).unwrap();
    assert_eq!(bound.render(&["1", "2"]).unwrap(), "1/2/1");
}

#[test]
fn doubled_braces_are_literal() {
    assert_eq!(render("a{{b}}/{{{.v}}}", Value::from("x")).unwrap(), "a{b}/{x}");
}

#[test]
fn single_values_of_any_type_render() {
    for (value, text) in [("7", "7"), ("true", "true"), ("1.5", "1.5"), (r#""a.b-c_D""#, "a.b-c_D")]
    {
        assert_eq!(render("{.v}", tree(value)).unwrap(), text);
    }
    assert_eq!(render("{.v[1].w}", tree(r#"[0,{"w":"deep"}]"#)).unwrap(), "deep");
}

#[test]
fn a_name_in_quotes_may_hold_braces() {
    let template = Template::parse(r#"{."a}b"}"#).unwrap();
    let path = template.render(&tree(r#"{"a}b":"x"}"#), &Value::Null, &mut |_| None).unwrap();
    assert_eq!(path, "x");
}

#[test]
fn values_that_make_no_component_are_poison_that_names_the_placeholder() {
    for value in ["null", "[]", "{}", r#""""#, r#"".""#, r#""..""#] {
        let failure = render("a/{.v}", tree(value)).unwrap_err();
        assert_eq!(failure.class(), Some(&BAD_PATH));
        assert!(failure.why().contains("`{.v}`"), "{value}: {}", failure.why());
    }
    let failure = render("{.missing}", Value::Null).unwrap_err();
    assert_eq!(failure.why(), "placeholder `{.missing}` of the path has no value");
}

#[test]
fn columns_are_held_to_the_same_rules() {
    let template = Template::parse("d/{day}").unwrap();
    let bound = template.bind(&Value::Null, &Value::Null).unwrap();
    assert_eq!(bound.render(&["../x"]).unwrap(), "d/..%2Fx");
    let refused: [&[&str]; 4] = [&[], &[""], &["."], &[".."]];
    for columns in refused {
        let failure = bound.render(columns).unwrap_err();
        assert_eq!(failure.class(), Some(&BAD_PATH));
        assert!(failure.why().contains("`{day}`"), "{}", failure.why());
    }
    let failure = template.render(&Value::Null, &Value::Null, &mut |_| None).unwrap_err();
    assert_eq!(failure.why(), "placeholder `{day}` of the path has no value");
}

#[test]
fn a_component_that_file_systems_refuse_for_its_length_is_poison() {
    let fits = "x".repeat(MAX_COMPONENT);
    assert_eq!(render("a/{.v}", Value::from(fits.as_str())).unwrap().len(), MAX_COMPONENT + 2);
    let failure = render("a/{.v}", Value::from(format!("{fits}x"))).unwrap_err();
    assert_eq!(failure.class(), Some(&BAD_PATH));
    assert!(failure.why().contains("201 bytes"), "{}", failure.why());
}

#[test]
fn what_cannot_be_a_template_is_refused_at_the_right_place() {
    let expected = [
        ("a/{b", "a `{` without its `}`", "{"),
        ("a/b}", "a `}` without its `{`", "}"),
        ("é/{}", "an empty placeholder", "{}"),
        ("é/{ b}", "not a column name", "{ b}"),
        ("a/{.}", "the whole record is no path component", "."),
        ("a/{.b..c}", "`.b..c` is not a path", ".b..c"),
        ("a/{%}", "`%` is not a path", "%"),
        ("a/{%shema}", "there is no metadata `%shema`", "%shema"),
    ];
    for (source, message, piece) in expected {
        assert_eq!(error(source), (message.to_owned(), piece.to_owned()), "{source}");
    }
}

#[test]
fn literal_components_that_no_store_takes_are_refused() {
    for source in ["", "/a", "a/", "a//b", "../{b}", "a/./b", "a/.."] {
        assert_eq!(error(source).0, "a component is empty, `.` or `..`", "{source}");
    }
    assert_eq!(error("a\nb").0, "a control character in a path");
    Template::parse(".hidden/..{b}").unwrap();
}

fn value() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 1..=16).prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #[test]
    fn a_value_stays_within_its_component_and_can_be_read_back(text in value()) {
        prop_assume!(text != "." && text != "..");
        let path = render("a/{.v}/b", Value::from(text.as_str())).unwrap();
        let components: Vec<&str> = path.split('/').collect();
        prop_assert_eq!(components.len(), 3);
        let harmless = components[1].bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'%')
        });
        prop_assert!(harmless);
        prop_assert_eq!(percent_decode_str(components[1]).decode_utf8().unwrap(), text);
    }

    #[test]
    fn different_values_render_differently(one in value(), other in value()) {
        let dots = [".", ".."];
        prop_assume!(one != other);
        prop_assume!(!dots.contains(&one.as_str()) && !dots.contains(&other.as_str()));
        let one = render("{.v}", Value::from(one)).unwrap();
        let other = render("{.v}", Value::from(other)).unwrap();
        prop_assert_ne!(one, other);
    }
}
