//! How the value of a source record becomes its fields.
//!
//! Responsible for: `decode = "json"` and `decode = "text"`, on the worker that uses the fields.
//! Not responsible for: reading the topic (`source`), or what happens to a record that does not
//! decode (the stage).

use bytes::Bytes;
use vrl::value::{ObjectMap, Value};

use crate::expr::fields;
use crate::model::{Failure, FailureClass, Fields, Record};
use crate::runtime::node::{Emit, Port, Transform};

/// Field that receives a text.
const MESSAGE: &str = "message";

/// What the values of a topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON document.
    Json,
    /// UTF-8 text, which becomes the field `message`.
    Text,
}

/// Decodes values of one format.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    format: Format,
}

impl Decoder {
    /// A decoder for `format`.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The fields that `value` holds, parsed. A tombstone has null fields, in both formats.
    ///
    /// # Errors
    /// Poison of class `undecodable`, saying where the bytes stop making sense.
    pub fn decode(&self, value: Option<&Bytes>) -> Result<Fields, Failure> {
        let Some(bytes) = value else { return Ok(Fields::Tree(Value::Null)) };
        let tree = match self.format {
            Format::Json => fields::parse(bytes).map_err(|error| fields::undecodable(&error))?,
            Format::Text => text(bytes)?,
        };
        Ok(Fields::Tree(tree))
    }
}

fn text(bytes: &Bytes) -> Result<Value, Failure> {
    // Shares the memory of the source record, which lives as long as its fields do.
    match Value::from_utf8_or_bytes(bytes.clone()) {
        Value::Bytes(bytes) => {
            let valid =
                std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
            let why = format!("value is not UTF-8 text: bad byte at {valid}");
            Err(Failure::poison(FailureClass::UNDECODABLE, why))
        }
        message => Ok(Value::Object(ObjectMap::from([(MESSAGE.into(), message)]))),
    }
}

/// Decodes the records of a source, as the first node of its stage.
pub struct DecodeNode(Decoder);

impl DecodeNode {
    /// A node for values of `format`.
    pub fn new(format: Format) -> Self {
        Self(Decoder::new(format))
    }
}

impl Transform for DecodeNode {
    fn apply(&mut self, mut record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        record.fields = self.0.decode(record.source.record().value.as_ref())?;
        out.emit(Port::FIRST, record)
    }
}

#[cfg(test)]
mod tests {
    mod fuzz;

    use super::*;

    fn decode(format: Format, value: &'static [u8]) -> Result<Value, Failure> {
        match Decoder::new(format).decode(Some(&Bytes::from_static(value)))? {
            Fields::Tree(tree) => Ok(tree),
            Fields::Raw(_) => panic!("decoding parses"),
        }
    }

    #[test]
    fn json_becomes_a_tree() {
        let tree = decode(Format::Json, br#"{"b":[1,2.5,null],"a":"x"}"#).unwrap();
        assert_eq!(fields::to_json(&tree), br#"{"a":"x","b":[1,2.5,null]}"#);
    }

    #[test]
    fn json_that_is_cut_short_says_where() {
        let failure = decode(Format::Json, b"{\"a\": 1,\n \"b\"").unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::UNDECODABLE));
        assert!(failure.why().contains("at line 2 column 4"), "{}", failure.why());
    }

    #[test]
    fn what_follows_a_document_is_an_error() {
        assert!(decode(Format::Json, b"{} {}").is_err());
        assert!(decode(Format::Json, b"").is_err());
        assert!(decode(Format::Json, b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn nesting_without_end_is_an_error_and_not_a_crash() {
        let deep = "[".repeat(100_000);
        let failure = Decoder::new(Format::Json).decode(Some(&Bytes::from(deep))).unwrap_err();
        assert!(failure.why().contains("recursion limit exceeded"), "{}", failure.why());
    }

    #[test]
    fn text_becomes_the_message() {
        let tree = decode(Format::Text, "grüße".as_bytes()).unwrap();
        assert_eq!(fields::to_json(&tree), r#"{"message":"grüße"}"#.as_bytes());
    }

    #[test]
    fn text_that_is_no_utf8_says_where() {
        let failure = decode(Format::Text, b"ab\xff").unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::UNDECODABLE));
        assert_eq!(failure.why(), "value is not UTF-8 text: bad byte at 2");
    }

    #[test]
    fn a_tombstone_has_null_fields() {
        for format in [Format::Json, Format::Text] {
            let fields = Decoder::new(format).decode(None).unwrap();
            assert_eq!(fields, Fields::Tree(Value::Null));
        }
    }
}
