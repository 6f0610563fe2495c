//! Programs: what compiles for which purpose, what errors point at, and the programs of the
//! cost management topology over sample records.

use vrl::value::Value;

use crate::expr::{Evaluator, Program, Purpose, Scratch, Target, fields, fixtures};
use crate::model::{Failure, FailureClass};

fn tree(json: &str) -> Value {
    fields::parse(json.as_bytes()).unwrap()
}

fn json(value: &Value) -> String {
    String::from_utf8(fields::to_json(value)).unwrap()
}

/// Runs a program; returns its result and what `.` is afterwards.
fn run(
    source: &str,
    purpose: Purpose,
    fields: &str,
    metadata: &str,
) -> Result<(String, String), Failure> {
    let program = Program::compile(source, purpose).unwrap();
    let mut target = Target::new(tree(fields), tree(metadata));
    let result = program.run(&mut Scratch::new(), &mut target)?;
    Ok((json(&result), json(&target.unload())))
}

fn map(source: &str, fields: &str) -> Result<String, Failure> {
    run(source, Purpose::Map, fields, "{}").map(|(_, fields)| fields)
}

/// The first error, and the piece of source that it points at.
fn error(source: &str, purpose: Purpose) -> (String, String, String) {
    let errors = Program::compile(source, purpose).unwrap_err();
    let first = &errors[0];
    let piece = source[first.span.clone()].to_owned();
    (first.to_string(), piece, first.help.clone().unwrap_or_default())
}

const PREPARE: &str = r#"
assert!(match(string!(.manifest.uuid), r'^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]'), "uuid: not a version 4 UUID")
assert!(match(string!(.manifest.cluster_id), r'^[A-Za-z0-9_.-]+$'), "cluster_id: not one path segment")
.manifest.files = unique(array(.manifest.files) ?? [])
.manifest.additive = .manifest.version != null && .manifest.daily_reports != true"#;

const CLAIMED: &str = r#"
first = to_unix_timestamp(parse_timestamp!(.manifest.start, "%+"))
last = to_unix_timestamp(parse_timestamp!(.manifest.end, "%+"))
midnight = first - mod(first, 86400)
rows = []
for_each([0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31]) -> |_i, day| {
  begin = midnight + day * 86400
  from = if first > begin { first } else { begin }
  to = if last < begin + 86400 { last } else { begin + 86400 }
  if to > from { rows = push(rows, {"usage_date": format_timestamp!(from_unix_timestamp!(begin), "%F"), "hours": ceil((to - from) / 3600.0)}) }
}
. = rows"#;

const ANNOUNCE: &str = r#"
who = object!(parse_json!(decode_base64!(string!(%headers."x-rh-identity")))).identity   # error here: 400
. = {"request_id": %id, "url": %url, "size": %size, "service": %match.service, "org_id": who.org_id, "account": who.account_number}"#;

const REPLY: &str =
    r#"{"request_id": .request_id, "upload": {"account_number": .account, "org_id": .org_id}}"#;

const RECEIPT: &str = r#"
validation = if %outcome == "delivered" { "success" } else { "failure" }
{"request_id": .request_id, "validation": validation}"#;

const SUMMARY: &str = r#"{"manifest": .manifest, "cluster": .facts.cluster, "revision": .revision, "failed": .failed}"#;

#[test]
fn prepare_completes_a_good_index() {
    let index = r#"{"manifest":{"uuid":"0b8f2f4e-2d67-4c5a-9d1f-1b2c3d4e5f60","cluster_id":"c-1","files":["a.csv","a.csv","b.csv"],"version":"v2","daily_reports":false}}"#;
    let fields = map(PREPARE, index).unwrap();
    assert!(fields.contains(r#""files":["a.csv","b.csv"]"#), "{fields}");
    assert!(fields.contains(r#""additive":true"#), "{fields}");
}

#[test]
fn prepare_takes_an_index_without_files_or_version() {
    let index =
        r#"{"manifest":{"uuid":"0b8f2f4e-2d67-4c5a-9d1f-1b2c3d4e5f60","cluster_id":"c-1"}}"#;
    let fields = map(PREPARE, index).unwrap();
    assert!(fields.contains(r#""files":[]"#), "{fields}");
    assert!(fields.contains(r#""additive":false"#), "{fields}");
}

#[test]
fn prepare_refuses_a_bad_index_with_its_own_words() {
    let failure = map(PREPARE, r#"{"manifest":{"uuid":"x"}}"#).unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::PROGRAM));
    assert!(failure.why().contains("uuid: not a version 4 UUID"), "{}", failure.why());
    assert!(failure.why().contains("in `assert!(match(string!(.manifest.uuid)"), "{failure}");

    let index =
        r#"{"manifest":{"uuid":"0b8f2f4e-2d67-4c5a-9d1f-1b2c3d4e5f60","cluster_id":"../x"}}"#;
    let failure = map(PREPARE, index).unwrap_err();
    assert!(failure.why().contains("cluster_id: not one path segment"), "{}", failure.why());
}

#[test]
fn claimed_yields_one_row_for_each_day_that_the_report_covers() {
    let index = r#"{"manifest":{"start":"2026-01-31T22:00:00Z","end":"2026-02-02T01:30:00Z"}}"#;
    assert_eq!(
        map(CLAIMED, index).unwrap(),
        concat!(
            r#"[{"hours":2.0,"usage_date":"2026-01-31"},"#,
            r#"{"hours":24.0,"usage_date":"2026-02-01"},"#,
            r#"{"hours":2.0,"usage_date":"2026-02-02"}]"#
        )
    );
}

#[test]
fn claimed_yields_nothing_for_a_report_that_ends_before_it_starts() {
    let index = r#"{"manifest":{"start":"2026-02-02T00:00:00Z","end":"2026-02-01T00:00:00Z"}}"#;
    assert_eq!(map(CLAIMED, index).unwrap(), "[]");
}

#[test]
fn announce_reads_the_identity_out_of_its_header() {
    let metadata = r#"{"id":"r-1","url":"http://h/u","size":9,"match":{"service":"hccm"},
        "headers":{"x-rh-identity":"eyJpZGVudGl0eSI6IHsib3JnX2lkIjogIm8tNyIsICJhY2NvdW50X251bWJlciI6ICJhLTkifX0="}}"#;
    let (_, announced) = run(ANNOUNCE, Purpose::Map, "{}", metadata).unwrap();
    assert_eq!(
        announced,
        concat!(
            r#"{"account":"a-9","org_id":"o-7","request_id":"r-1","service":"hccm","size":9,"#,
            r#""url":"http://h/u"}"#
        )
    );
    let (reply, unchanged) = run(REPLY, Purpose::Map, &announced, "{}").unwrap();
    assert_eq!(reply, r#"{"request_id":"r-1","upload":{"account_number":"a-9","org_id":"o-7"}}"#);
    assert_eq!(unchanged, announced);
}

#[test]
fn announce_fails_without_a_readable_identity() {
    for metadata in [r#"{"headers":{}}"#, r#"{"headers":{"x-rh-identity":"e30"}}"#, "{}"] {
        let outcome = run(ANNOUNCE, Purpose::Map, "{}", metadata);
        if metadata.contains("e30") {
            assert!(outcome.unwrap().1.contains(r#""org_id":null"#), "an object without identity");
        } else {
            assert_eq!(outcome.unwrap_err().class(), Some(&FailureClass::PROGRAM));
        }
    }
}

#[test]
fn a_receipt_says_how_the_record_ended() {
    for (outcome, word) in [("delivered", "success"), ("dead_lettered", "failure")] {
        let metadata = format!(r#"{{"outcome":"{outcome}"}}"#);
        let (receipt, _) =
            run(RECEIPT, Purpose::Map, r#"{"request_id":"r-1"}"#, &metadata).unwrap();
        assert_eq!(receipt, format!(r#"{{"request_id":"r-1","validation":"{word}"}}"#));
    }
}

#[test]
fn the_other_programs_of_the_sketch_compile_for_their_purpose() {
    Program::compile(r#"%headers.service == "hccm""#, Purpose::Filter).unwrap();
    for key in [".url", ".manifest.uuid", ".manifest.cluster_id", ".file.name", ".manifest.files"] {
        assert!(!Program::compile(key, Purpose::Key).unwrap().writes_fields());
    }
    let fields = r#"{"manifest":"m","facts":{"cluster":"c"},"revision":1,"failed":[]}"#;
    let (summary, _) = run(SUMMARY, Purpose::Map, fields, "{}").unwrap();
    assert_eq!(summary, r#"{"cluster":"c","failed":[],"manifest":"m","revision":1}"#);
}

#[test]
fn a_condition_has_to_be_provably_boolean() {
    for source in [".status", "1", ".a == 1\n.b", "if .a == 1 { return 5 }\ntrue"] {
        let (message, _, help) = error(source, Purpose::Filter);
        assert!(message.starts_with("a condition must be true or false"), "{source}: {message}");
        assert!(help.contains("to_bool"), "{help}");
    }
    let (_, piece, _) = error("x = .a\n.status", Purpose::Filter);
    assert_eq!(piece.trim(), ".status", "the last expression is to blame");
    for source in [".a == 1", "to_bool(.a) ?? false", "exists(.a) && !exists(.b)", "bool!(.a)"] {
        Program::compile(source, Purpose::Filter).unwrap();
    }
}

#[test]
fn clock_and_chance_are_refused_where_attempts_must_agree() {
    let calls = [
        "now()",
        "random_int(0, 9)",
        "random_float(0.0, 1.0)",
        "random_bool()",
        "random_bytes(4)",
        "uuid_v4()",
        "uuid_v7()",
        r#"parse_syslog!("x")"#,
        r#"parse_klog!("x")"#,
        r#"parse_linux_authorization!("x")"#,
    ];
    for call in calls {
        Program::compile(call, Purpose::Map).unwrap();
        let name = call.split(['(', '!']).next().unwrap();
        for (source, purpose) in
            [(call.to_owned(), Purpose::Key), (format!("exists({call})"), Purpose::Filter)]
        {
            let errors = Program::compile(&source, purpose).unwrap_err();
            let message = format!("`{name}` must not be called here");
            assert_eq!(errors[0].message, message, "{source}");
            assert_eq!(&source[errors[0].span.clone()], name);
            assert!(errors[0].help.as_deref().unwrap_or_default().contains("clock"));
        }
    }
}

#[test]
fn no_program_reaches_beyond_its_record() {
    let calls = [
        r#"get_env_var!("HOME")"#,
        "get_hostname!()",
        r#"http_request!("http://h")"#,
        r#"dns_lookup!("h")"#,
        r#"reverse_dns!("1.2.3.4")"#,
        r#"parse_proto!("x", "f.desc", "M")"#,
        r#"validate_json_schema!("{}", "f.json")"#,
        r#"get_secret("s")"#,
        r#"decode_gzip!("x")"#,
        r#"log("x")"#,
    ];
    for call in calls {
        for purpose in [Purpose::Filter, Purpose::Key, Purpose::Map] {
            let (message, _, help) = error(call, purpose);
            assert!(message.contains("must not be called here"), "{call}: {message}");
            assert!(!help.is_empty(), "{call}");
        }
    }
    let grok = r#"parse_groks!("x", ["%{WORD:w}"], alias_sources: ["/etc/passwd"])"#;
    let errors = Program::compile(grok, Purpose::Map).unwrap_err();
    assert!(errors[0].to_string().contains("alias_sources"), "{errors:?}");
}

#[test]
fn metadata_cannot_be_written() {
    for source in ["%topic = \"x\"", "% = {}", "%new.name = 1", "del(%topic)"] {
        for purpose in [Purpose::Filter, Purpose::Key, Purpose::Map] {
            let (message, _, _) = error(source, purpose);
            assert!(message.contains("read-only"), "{source}: {message}");
        }
    }
}

#[test]
fn conditions_and_keys_cannot_change_the_record() {
    for source in [".a = 1\ntrue", "del(.a)\ntrue", ". = {}\ntrue"] {
        for purpose in [Purpose::Filter, Purpose::Key] {
            let (message, _, _) = error(source, purpose);
            assert!(message.contains("read-only"), "{source}: {message}");
        }
        assert!(Program::compile(source, Purpose::Map).unwrap().writes_fields(), "{source}");
    }
    assert!(!Program::compile("x = .a\nx", Purpose::Map).unwrap().writes_fields());
}

#[test]
fn errors_point_at_the_piece_of_source_that_is_wrong() {
    let (message, piece, _) = error(".x = \"é\"\n.b = upcase(.c)", Purpose::Map);
    assert!(message.starts_with("unhandled fallible assignment"), "{message}");
    assert_eq!(piece, "upcase(.c)");

    let (message, piece, help) = error(".x = \"é\"\n.b = upcasse(.c)", Purpose::Map);
    assert!(message.starts_with("call to undefined function"), "{message}");
    assert_eq!(piece, "upcasse");
    assert!(help.contains("upcase"), "{help}");

    let (_, piece, _) = error("x = 1\ny + x", Purpose::Map);
    assert_eq!(piece, "y");
}

#[test]
fn every_error_span_can_be_cut_out_of_the_source() {
    let broken = [
        "",
        " \n",
        ".a = ",
        "(",
        "}",
        "\"é",
        "'ü",
        ".ä",
        "é",
        "1 +",
        "if",
        "for_each(",
        ".a = 'é",
        "now(",
        "a b c",
        ".a[",
        "%",
        "%.",
        "abort 1",
        "return",
        "é = 1",
        ".x.\"é\".y = nope()",
        "x = \"é\" + 1\nx.y = 2",
    ];
    for source in broken {
        for error in Program::compile(source, Purpose::Filter).err().into_iter().flatten() {
            assert!(source.get(error.span.clone()).is_some(), "{source:?}: {error:?}");
        }
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let errors = Program::compile(".a = upcase(.a)\n.b = downcase(.b)", Purpose::Map).unwrap_err();
    assert_eq!(errors.len(), 2);
}

#[test]
fn times_without_a_zone_are_utc() {
    let source = r#"to_unix_timestamp(parse_timestamp!(.at, "%F %T"))"#;
    let (seconds, _) = run(source, Purpose::Key, r#"{"at":"1970-01-02 00:00:00"}"#, "{}").unwrap();
    assert_eq!(seconds, "86400");
}

#[test]
fn a_failure_quotes_neither_endless_data_nor_line_breaks() {
    let fields = format!(r#"{{"a":"{}"}}"#, "x\\n".repeat(5_000));
    let failure = map("abort string!(.a)", &fields).unwrap_err();
    assert!(failure.why().len() < 1_000, "{} bytes", failure.why().len());
    assert!(!failure.why().contains('\n'));
}

#[test]
fn fields_survive_a_program_that_fails() {
    let program = Program::compile(".b = 2\n.c = to_int!(.a)", Purpose::Map).unwrap();
    let mut record = fixtures::record(r#"{"a":"x"}"#);
    let mut evaluator = Evaluator::new("sales".into());
    evaluator.run(&program, &mut record).unwrap_err();
    assert_eq!(fixtures::fields_of(&record), r#"{"a":"x","b":2}"#);
}

#[test]
fn programs_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>(value: &T) -> String {
        format!("{value:?}")
    }
    let program = Program::compile(".a", Purpose::Key).unwrap();
    assert_eq!(shared(&program), r#"Program { purpose: Key, source: ".a", .. }"#);
    let other = program.clone();
    let thread = std::thread::spawn(move || {
        let mut target = Target::new(tree(r#"{"a":1}"#), tree("{}"));
        json(&other.run(&mut Scratch::new(), &mut target).unwrap())
    });
    assert_eq!(thread.join().unwrap(), "1");
    assert_eq!(program.source(), ".a");
}

#[test]
fn a_predicate_knows_the_types_of_counts_and_changes_nothing() {
    let manifest = r#"{"expected":10,"done":6,"empty":1,"dead_lettered":1,"pending":2,"facts":{}}"#;
    let holds = |source: &str| run(source, Purpose::Predicate, manifest, "{}").unwrap().0;
    assert_eq!(holds(".done + .empty >= .expected - 3"), "true");
    assert_eq!(holds(".pending == 0 || .facts.closed == true"), "false");
    for (source, piece) in [(".facts.closed > 3", ".facts.closed > 3"), ("now() == .done", "now")] {
        assert_eq!(error(source, Purpose::Predicate).1, piece);
    }
    assert!(Program::compile(".done = 3; true", Purpose::Predicate).is_err());
    assert!(Program::compile(".done", Purpose::Predicate).is_err());
}

#[test]
fn a_program_names_the_fields_it_reads() {
    let program = Program::compile(".a.b == .c && %topic == .a", Purpose::Filter).unwrap();
    let mut read: Vec<&str> = program.fields_read().collect();
    read.sort_unstable();
    read.dedup();
    assert_eq!(read, ["a", "c"]);
}
