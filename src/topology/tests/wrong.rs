//! Wrong topologies, and what is said about them.

use super::*;

mod actions;
mod manifests;

fn errors(text: &str) -> Diagnostics {
    errors_with(text, &no_env)
}

fn errors_with(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Diagnostics {
    match parse("t.toml", text, env) {
        Ok(_) => panic!("no error was found in:\n{text}"),
        Err(errors) => errors,
    }
}

/// `t.toml:line:column` of the first `needle` in `text`.
fn place(text: &str, needle: &str) -> String {
    let at = text.find(needle).unwrap_or_else(|| panic!("{needle:?} is not in the text"));
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("t.toml:{line}:{column}")
}

/// One mistake: what is replaced, by what, where the caret has to stand, and what is said.
struct Mistake {
    from: &'static str,
    to: &'static str,
    caret: &'static str,
    said: &'static [&'static str],
}

fn check(valid: &str, mistakes: &[Mistake]) {
    for mistake in mistakes {
        let text = with(valid, mistake.from, mistake.to);
        let shown = errors(&text).to_string();
        let place = format!("{}\n", place(&text, mistake.caret));
        assert!(shown.contains(&place), "no {place:?} in:\n{shown}");
        for said in mistake.said {
            assert!(shown.contains(said), "no {said:?} in:\n{shown}");
        }
    }
}

const MINIMAL: &str = r#"version = 1
name = "t"
[sources.orders]
type = "kafka"
topic = "orders"
[sinks.out]
type = "kafka"
inputs = ["orders"]
topic = "paid"
"#;

#[test]
fn an_unknown_input_is_shown_with_what_was_probably_meant() {
    let text = with(MINIMAL, "[\"orders\"]", "[\"order\"]");
    let expected = r#"error: unknown input `order`
 --> t.toml:8:11
  |
8 | inputs = ["order"]
  |           ^^^^^^^ no node of that name
  |
  = help: did you mean `orders`?

1 error in t.toml"#;
    assert_eq!(errors(&text).to_string(), expected);
}

#[test]
fn an_unknown_type_lists_the_known_ones() {
    let text = with(MINIMAL, "[sinks.out]\ntype = \"kafka\"", "[sinks.out]\ntype = \"http\"");
    let expected = r#"error: unknown type `http`
 --> t.toml:7:8
  |
7 | type = "http"
  |        ^^^^^^
  |
  = help: known types: kafka, parquet, table

1 error in t.toml"#;
    assert_eq!(errors(&text).to_string(), expected);
}

#[test]
fn mistakes_of_names_keys_and_inputs_have_a_place_and_a_hint() {
    check(
        PASSTHROUGH,
        &[
            Mistake {
                from: "version = 1",
                to: "version = 2",
                caret: "2\nname",
                said: &["version 2 of the language is not known"],
            },
            Mistake {
                from: "name = \"passthrough\"",
                to: "name = \"pass through\"",
                caret: "\"pass through\"",
                said: &["`pass through` cannot name a topology"],
            },
            Mistake {
                from: "topic = \"orders\"",
                to: "topik = \"orders\"",
                caret: "topik",
                said: &[
                    "`topic` is missing in [sources.orders]",
                    "unknown key `topik` in [sources.orders]",
                    "did you mean `topic`?",
                ],
            },
            Mistake {
                from: "type = \"filter\"",
                to: "type = \"fliter\"",
                caret: "\"fliter\"",
                said: &["unknown type `fliter`", "did you mean `filter`? known types: filter,"],
            },
            Mistake {
                from: "inputs = [\"slim\"]",
                to: "inputs = [\"slim.rest\"]",
                caret: "\"slim.rest\"",
                said: &["`slim` has no port `rest`", "it has one output, `slim`"],
            },
            Mistake {
                from: "inputs = [\"paid\"]",
                to: "inputs = [\"paid\", \"out\"]",
                caret: "\"out\"]",
                said: &["`out` is a sink: nothing leaves it"],
            },
            Mistake {
                from: "inputs = [\"paid\"]",
                to: "inputs = [\"paid\", \"paid\"]",
                caret: "\"paid\"]",
                said: &["`slim` reads the same output twice"],
            },
            Mistake {
                from: "inputs = [\"orders\"]",
                to: "inputs = [\"slim\"]",
                caret: "\"slim\"",
                said: &[
                    "nodes read each other in a circle: paid -> slim -> paid",
                    "nobody reads `orders`",
                ],
            },
            Mistake {
                from: "inputs = [\"slim\"]",
                to: "inputs = [\"paid\"]",
                caret: "slim]",
                said: &["nobody reads `slim`"],
            },
            Mistake {
                from: "inputs = [\"slim\"]",
                to: "inputs = []",
                caret: "[]",
                said: &["`inputs` is empty"],
            },
            Mistake {
                from: "[processors.slim]",
                to: "[processors.\"a.b\"]",
                caret: "\"a.b\"",
                said: &["`a.b` cannot be used as a name"],
            },
            Mistake {
                from: "[sinks.out]",
                to: "[sinks.paid]",
                caret: "paid]\ntype = \"kafka\"",
                said: &["there are two nodes called `paid`", "the other one"],
            },
        ],
    );
}

#[test]
fn mistakes_of_values_have_a_place_and_say_what_is_possible() {
    check(
        PASSTHROUGH,
        &[
            Mistake {
                from: "topic = \"orders.paid\"",
                to: "topic = \"orders\"",
                caret: "\"orders\"\nkey",
                said: &["`out` writes to `orders`, which `orders` reads: an endless loop"],
            },
            Mistake {
                from: "topic = \"orders.paid\"",
                to: "topic = \"passthrough.progress\"",
                caret: "\"passthrough.progress\"",
                said: &["is a topic of the engine's own"],
            },
            Mistake {
                from: "topic = \"orders.paid\"",
                to: "topic = \"orders paid\"",
                caret: "\"orders paid\"",
                said: &["`orders paid` is not a name for a topic"],
            },
            Mistake {
                from: "decode = \"json\"",
                to: "decode = \"jsn\"",
                caret: "\"jsn\"",
                said: &["`jsn` is not known as `decode`", "did you mean `json`?"],
            },
            Mistake {
                from: "decode = \"json\"",
                to: "start = \"yesterday\"",
                caret: "\"yesterday\"",
                said: &["`yesterday` is no place to start"],
            },
            Mistake {
                from: "decode = \"json\"",
                to: "group = 3",
                caret: "3",
                said: &["`group` has to be a string", "this is an integer"],
            },
            Mistake {
                from: "inputs = [\"paid\"]",
                to: "inputs = \"paid\"",
                caret: "\"paid\"\nprogram",
                said: &["`inputs` has to be an array", "this is a string"],
            },
        ],
    );
}

#[test]
fn a_program_that_does_not_compile_is_shown_at_its_own_characters() {
    let text = with(PASSTHROUGH, ".status == \"paid\"", ".status == nonsense(1)");
    let shown = errors(&text).to_string();
    assert!(shown.contains("the program in `condition` is not valid"), "{shown}");
    let line = place(&text, "condition = '");
    let line = line.rsplit_once(':').map(|(line, _)| line).unwrap_or_default();
    assert!(shown.contains(&format!("{line}:")), "{shown}");
    assert!(shown.contains("condition = '.status == nonsense(1)'"), "{shown}");
}

#[test]
fn a_condition_that_is_no_boolean_is_refused() {
    let text = with(PASSTHROUGH, "'.status == \"paid\"'", "'\"always\"'");
    assert!(errors(&text).to_string().contains("the program in `condition` is not valid"));
}

#[test]
fn mistakes_of_the_large_topology_have_a_place_and_a_hint() {
    check(
        COST_MANAGEMENT,
        &[
            Mistake {
                from: "default = 29092",
                to: "default = 290920",
                caret: "290920",
                said: &["`default` is not a port: a number from 1 to 65535"],
            },
            Mistake {
                from: "bootstrap = \"${host}:${port}\"",
                to: "bootstrap = \"${hots}:${port}\"",
                caret: "${hots}",
                said: &["unknown variable `hots`", "did you mean `host`?"],
            },
            Mistake {
                from: "url = \".url\"\nallow = [\"ingress:uploads\"]\nmax_bytes = \"150 MiB\"",
                to: "url = \".url\"\nallow = [\"ingress:upload\"]\nmax_bytes = \"150 MiB\"",
                caret: "\"ingress:upload\"",
                said: &["unknown ingress `upload`", "did you mean `uploads`?"],
            },
            Mistake {
                from: "max_bytes = \"10 MiB\"",
                to: "max_bytes = \"10 parsecs\"",
                caret: "\"10 parsecs\"",
                said: &["`max_bytes` has to be a size", "`10 parsecs` is not"],
            },
            Mistake {
                from: "announced_by = \"files.index\"",
                to: "announced_by = \"files.indx\"",
                caret: "\"files.indx\"",
                said: &["`files` has no port `indx`", "did you mean `files.index`?"],
            },
            Mistake {
                from: "members = \"files\"",
                to: "members = \"file\"",
                caret: "\"file\"\nkey",
                said: &["unknown node `file` in `members`", "did you mean `files`?"],
            },
            Mistake {
                from: "of = \"ours\"",
                to: "of = \"lake\"",
                caret: "\"lake\"",
                said: &["`lake` is a sink: no records leave it"],
            },
            Mistake {
                from: "accept = [\"unmatched\"]",
                to: "accept = [\"unmatch\"]",
                caret: "\"unmatch\"",
                said: &["unknown failure class `unmatch`", "did you mean `unmatched`?"],
            },
            Mistake {
                from: "inactivity = \"24h\"",
                to: "inactivity = \"a while\"",
                caret: "\"a while\"",
                said: &["`inactivity` has to be a time", "`a while` is not"],
            },
            Mistake {
                from: "type = \"sql\"",
                to: "type = \"retir\"",
                caret: "\"retir\"",
                said: &["unknown type `retir`", "known types: sql, kafka, http, retire"],
            },
            Mistake {
                from: "\\+tgz'",
                to: "\\+tgz('",
                caret: "'application",
                said: &["`content_type` is not a regular expression"],
            },
        ],
    );
}

#[test]
fn mistakes_of_columns_and_tables_have_a_place_and_a_hint() {
    check(
        COST_MANAGEMENT,
        &[
            Mistake {
                from: "omit = [\"year\"",
                to: "omit = [\"yeer\"",
                caret: "\"yeer\"",
                said: &["`yeer` is left out of the objects and not in the path"],
            },
            Mistake {
                from: "month={month}",
                to: "month={moth}",
                caret: "\"OCP/",
                said: &["no column `moth` in `rows.storage_usage`, `rows.pod_usage`"],
            },
            Mistake {
                from: "inputs = [\"rows.pod_usage\"]",
                to: "inputs = [\"rows.pod_usag\"]",
                caret: "\"rows.pod_usag\"",
                said: &["`rows` has no port `pod_usag`", "did you mean `rows.pod_usage`?"],
            },
            Mistake {
                from: "{ sum = \"pod_usage_cpu_core_seconds\" }",
                to: "{ sum = \"pod_usage_cpu_core_second\" }",
                caret: "{ sum = \"pod_usage_cpu_core_second\" }",
                said: &[
                    "no column `pod_usage_cpu_core_second` in `rows.pod_usage`",
                    "did you mean `pod_usage_cpu_core_seconds`?",
                ],
            },
            Mistake {
                from: "{ sum = \"pod_usage_cpu_core_seconds\" }",
                to: "{ sum = \"node\" }",
                caret: "{ sum = \"node\" }",
                said: &["`node` of `rows.pod_usage` is not a double and has no sum"],
            },
            Mistake {
                from: "{ distinct = \"interval_start\" }",
                to: "{ distnct = \"interval_start\" }",
                caret: "{ distnct",
                said: &["`hours` needs one function", "did you mean `distinct`?"],
            },
            Mistake {
                from: "except = [\"node_capacity_cpu_cores\"]",
                to: "except = [\"node_capacity_cpu_core\"]",
                caret: "\"node_capacity_cpu_core\"]",
                said: &["`node_capacity_cpu_core` is not a double of this schema"],
            },
            Mistake {
                from: "{ date = \"interval_start\" }",
                to: "{ date = \"interval_begin\" }",
                caret: "[processors.rows.derive]",
                said: &["`usage_date` cannot be derived in schema `storage_usage`"],
            },
            Mistake {
                from: "table = \"ocp_part\"",
                to: "table = \"ocp_parts\"",
                caret: "\"ocp_parts\"",
                said: &["unknown table `ocp_parts`", "did you mean `ocp_part`?"],
            },
            Mistake {
                from: "table = \"ocp_part\"",
                to: "table = \"ocp_manifest\"",
                caret: "\"ocp_manifest\"",
                said: &["table `ocp_manifest` has a key: it is for actions"],
            },
            Mistake {
                from: "table = \"ocp_part\"",
                to: "table = \"ocp_hours\"",
                caret: "\"ocp_hours\"\n\n# The engine",
                said: &["two sinks write to table `ocp_hours`", "the other one"],
            },
            Mistake {
                from: "key = [\"manifest\"]",
                to: "key = [\"manifst\"]",
                caret: "[\"manifst\"]",
                said: &["key column `manifst` is not declared", "did you mean `manifest`?"],
            },
            Mistake {
                from: "inputs = [\"by_namespace\"]\ntable",
                to: "inputs = [\"by_namespace\"]\nset = { pod = \"%key\" }\ntable",
                caret: "\"%key\"",
                said: &["table `ocp_part` has no column `pod`"],
            },
        ],
    );
}

#[test]
fn a_parquet_sink_behind_records_without_columns_is_refused() {
    let text = with(
        MINIMAL,
        "type = \"kafka\"\ninputs = [\"orders\"]\ntopic = \"paid\"",
        "type = \"parquet\"\ninputs = [\"orders\"]\nurl = \"file://lake\"\npath = \"a.parquet\"",
    );
    let shown = errors(&text).to_string();
    assert!(shown.contains("`out` writes columns, and `orders` has none"), "{shown}");
}

#[test]
fn a_variable_that_makes_no_sense_is_named_with_its_value_where_it_is_declared() {
    let cases = [
        ("INSIGHTS_KAFKA_PORT", "kafka", "which is not a port", "{ env = \"INSIGHTS_KAFKA_PORT\""),
        ("INSIGHTS_KAFKA_HOST", "kafka:9092", "it contains `:`", "{ env = \"INSIGHTS_KAFKA_HOST\""),
        ("KAFKA_CONNECT", "kafka:9092", "is neither true nor false", "{ env = \"KAFKA_CONNECT\""),
        ("LAKE_URL", "lake", "is not a URL", "{ env = \"LAKE_URL\""),
    ];
    for (name, value, why, caret) in cases {
        let env = |asked: &str| (asked == name).then(|| value.to_owned());
        let found = errors_with(COST_MANAGEMENT, &env);
        let shown = found.to_string();
        assert!(shown.contains(&format!("environment variable {name} is `{value}`")), "{shown}");
        assert!(shown.contains(why), "{shown}");
        assert!(shown.contains(&place(COST_MANAGEMENT, caret)), "{shown}");
        assert_eq!(found.len(), 1, "its uses are no further errors:\n{shown}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    let text = with(COST_MANAGEMENT, "type = \"filter\"", "type = \"fliter\"");
    let text = with(&text, "default = 29092", "default = 0");
    let text = with(&text, "inactivity = \"24h\"", "inactivity = \"later\"");
    let text = with(&text, "members = \"files\"", "members = \"file\"");
    let text = with(&text, "inputs = [\"by_namespace\"]", "inputs = [\"by_namespce\"]");
    let text = with(&text, "action = \"alert\"", "acton = \"alert\"");
    let text = with(&text, "[[views]]\nname = \"ocp_ranked\"", "[[views]]\nname = \"ocp_day\"");
    let found = errors(&text);
    let shown = found.to_string();
    for said in [
        "unknown type `fliter`",
        "`default` is not a port",
        "`inactivity` has to be a time",
        "unknown node `file`",
        "unknown input `by_namespce`",
        "`action` is missing in a deadline",
        "unknown key `acton` in a deadline",
        "there is a table or a view called `ocp_day` already",
    ] {
        assert!(shown.contains(said), "no {said:?} in:\n{shown}");
    }
    assert!(shown.ends_with(&format!("{} errors in t.toml", found.len())), "{shown}");
}

#[test]
fn a_topology_that_nothing_can_enter_is_refused() {
    let shown = errors("version = 1\nname = \"empty\"\n").to_string();
    assert!(shown.contains("nothing can enter this topology"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_is_an_error_that_names_it() {
    let missing = load(Path::new("no/such.toml"), &no_env).err().map(|errors| errors.to_string());
    assert!(missing.is_some_and(|shown| shown.contains("cannot read no/such.toml")));
}
