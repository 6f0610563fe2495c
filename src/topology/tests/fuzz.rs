//! Topologies, spoilt: each is accepted or refused, and every error says where.

use proptest::prelude::*;

use super::*;
use crate::testing::mutation::{Words, cases, noise, spoilt};

const WORDS: Words = &[
    b"\n[sinks.out]\n",
    b"\n[processors.slim]\n",
    b"\n[manifests.m]\n",
    b"\n[tables.t]\n",
    b"\n[[views]]\n",
    b"\n[vars]\n",
    b"\n[broker]\n",
    b"\n[receipts.r]\n",
    b"type = \"kafka\"\n",
    b"type = \"remap\"\n",
    b"inputs = [\"orders\"]\n",
    b"[\"paid\", \"paid\"]",
    b"topic = \"orders\"\n",
    b"${topic}",
    b"${",
    b"'''",
    b"\"\"\"",
    b"\\u00e4",
    b"\xc3\xa4\xe2\x82\xac",
    b"\r\n",
    b"\"9999999999999999999 TiB\"",
    b"-1",
    b"1e400",
    b"[[[[[[[[",
    b"{a={b={c=1}}}",
    b"%headers.\"a\"",
    b".a[0].b",
    b"for_each([1]) -> |_i, x| { . = x }",
    b"parse_json!(.a) ?? {}",
    b"(((((((",
    b"INSERT INTO t (a) VALUES (:manifest)",
    b"{.a}/{%meta}/{column}",
];

/// A topology that has a bit of everything and is read quickly.
const SMALL: &str = r#"version = 1
name = "small"
[vars]
topic = { env = "TOPIC", default = "orders" }
[sources.orders]
type = "kafka"
topic = "${topic}"
decode = "json"
start = "latest"
[processors.lists]
type = "filter"
inputs = ["orders"]
condition = '.kind == "list"'
[processors.paid]
type = "filter"
inputs = ["orders"]
condition = '.status == "paid"'
[processors.body]
type = "fetch"
inputs = ["paid"]
url = ".url"
allow = [{ origin = "https://*.example.com" }]
max_bytes = "1 MiB"
[sinks.out]
type = "kafka"
inputs = ["body"]
topic = "orders.paid"
key = ".id"
[manifests.batch]
announced_by = "lists"
members = "paid"
key = ".batch"
member = ".id"
expected = ".ids"
policy = "all_done"
deadlines = [{ inactivity = "24h", action = "alert" }]
"#;

/// Reads a text; every error has to have its place in it, and to be shown.
fn read_or_place(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = parse("fuzz.toml", text, &no_env) else { return Ok(()) };
    prop_assert!(!errors.is_empty());
    let shown = errors.to_string();
    for place in errors.places() {
        let Some(place) = place else {
            return Err(TestCaseError::fail(format!("an error without a place:\n{shown}")));
        };
        let is_inside = place.start <= place.end && place.end <= text.len();
        prop_assert!(is_inside, "{place:?} is not in {} bytes:\n{shown}", text.len());
    }
    prop_assert!(shown.contains("fuzz.toml:"), "{shown}");
    Ok(())
}

#[test]
fn the_small_seed_is_a_topology() {
    valid(SMALL);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_small_topology_spoilt_is_read_or_refused_with_a_place(
        bytes in spoilt(vec![SMALL.into(), PASSTHROUGH.into()], WORDS),
    ) {
        read_or_place(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn bytes_that_are_no_topology_are_refused_with_a_place(bytes in noise(400)) {
        read_or_place(&String::from_utf8_lossy(&bytes))?;
    }
}

proptest! {
    // Its programs take a while to compile.
    #![proptest_config(cases(24))]

    #[test]
    fn the_largest_topology_spoilt_is_read_or_refused_with_a_place(
        bytes in spoilt(vec![COST_MANAGEMENT.into()], WORDS),
    ) {
        read_or_place(&String::from_utf8_lossy(&bytes))?;
    }
}
