//! Fields: JSON to trees and back.
//!
//! Responsible for: parsing a record's fields once, in place, and writing them as bytes again
//! before they cross threads.
//! Not responsible for: how a record's value becomes fields (`processor::decode`).
//!
//! Trees are parsed straight into VRL's values. Of a repeated key the last value wins. Integers
//! beyond 64 bits, and beyond the signed half of them, become floats. Nesting deeper than 128 is an
//! error. Writing is deterministic: keys are sorted. What JSON has no type for becomes a string
//! (timestamps as RFC 3339 in UTC; bytes that are not UTF-8 with replacement characters) or null
//! (an infinite float).

use bytes::Bytes;
use vrl::value::Value;

use crate::model::{Failure, FailureClass, Fields, Record};

/// Parses a JSON document.
///
/// # Errors
/// It is not valid JSON; the error says in which line and column.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// The failure of a record whose fields do not parse.
pub fn undecodable(error: &serde_json::Error) -> Failure {
    Failure::poison(FailureClass::UNDECODABLE, format!("value is not valid JSON: {error}"))
}

/// Writes a tree as JSON.
pub fn to_json(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value)
        .unwrap_or_else(|error| unreachable!("trees have string keys, memory takes all: {error}"))
}

/// The record's fields as a tree, parsed in place if they were bytes.
///
/// # Errors
/// Poison of class `undecodable`; the fields stay bytes.
pub fn into_tree(record: &mut Record) -> Result<&mut Value, Failure> {
    if let Fields::Raw(bytes) = &record.fields {
        let tree = parse(bytes).map_err(|error| undecodable(&error))?;
        record.fields = Fields::Tree(tree);
    }
    match &mut record.fields {
        Fields::Tree(tree) => Ok(tree),
        Fields::Raw(_) => unreachable!("parsed above"),
    }
}

/// Writes the record's fields as bytes if they were a tree: for records that leave the worker.
pub fn freeze(record: &mut Record) {
    if matches!(record.fields, Fields::Tree(_)) {
        record.fields = Fields::Raw(raw(record));
    }
}

/// The record's fields as JSON; shares their bytes if they are [frozen](freeze).
pub fn raw(record: &Record) -> Bytes {
    match &record.fields {
        Fields::Raw(bytes) => bytes.clone(),
        Fields::Tree(tree) => to_json(tree).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vrl::value::KeyString;

    use super::*;
    use crate::expr::fixtures;

    fn json(text: &str) -> String {
        String::from_utf8(to_json(&parse(text.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn keys_are_written_sorted_and_the_last_of_equal_keys_wins() {
        assert_eq!(json(r#" {"b": 1, "a": [true, null], "b": 2} "#), r#"{"a":[true,null],"b":2}"#);
    }

    #[test]
    fn integers_stay_exact_within_64_bits_and_become_floats_beyond() {
        assert_eq!(
            json("[9223372036854775807,-9223372036854775808]"),
            "[9223372036854775807,-9223372036854775808]"
        );
        let beyond = parse(b"9223372036854775808").unwrap();
        assert!(beyond.is_float());
        assert!(parse(b"1e999").is_err(), "no float holds it");
    }

    #[test]
    fn fields_are_parsed_once_and_in_place() {
        let mut record = fixtures::record(r#"{"a":1}"#);
        let tree = into_tree(&mut record).unwrap();
        tree.insert(vrl::path!("b"), 2);
        let again = into_tree(&mut record).unwrap();
        assert_eq!(to_json(again), br#"{"a":1,"b":2}"#);
    }

    #[test]
    fn fields_that_do_not_parse_stay_bytes() {
        let mut record = fixtures::record("{nope");
        let failure = into_tree(&mut record).unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::UNDECODABLE));
        assert!(failure.why().contains("line 1 column 2"), "{}", failure.why());
        assert_eq!(record.fields, Fields::Raw("{nope".into()));
    }

    #[test]
    fn frozen_fields_are_bytes_again() {
        let mut record = fixtures::record(r#"{ "a": 1 }"#);
        freeze(&mut record);
        assert_eq!(record.fields, Fields::Raw(r#"{ "a": 1 }"#.into()), "bytes are left alone");
        into_tree(&mut record).unwrap();
        assert_eq!(raw(&record), r#"{"a":1}"#);
        freeze(&mut record);
        assert_eq!(record.fields, Fields::Raw(r#"{"a":1}"#.into()));
    }

    fn trees() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = any::<String>().prop_map(KeyString::from);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..4).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_parses_to_the_same_tree(tree in trees()) {
            prop_assert_eq!(parse(&to_json(&tree)).unwrap(), tree);
        }
    }
}
