//! From a request to what is announced and answered.
//!
//! Responsible for: what the topology's programs see of an upload (`%id`, `%url`, `%size`,
//! `%headers`, `%match`), and running them: `announce`, then `headers` and `reply` over its result.
//! Not responsible for: receiving the upload (`upload`).

use actix_web::http::header::HeaderMap;
use regex::Regex;
use uuid::Uuid;
use vrl::value::{ObjectMap, Value};

use crate::expr::{Program, Scratch, Target, fields};
use crate::source::config::Ingress;
use crate::source::ingress::spool::Announcement;

/// Largest announcement in bytes: what brokers take by default, less room for its headers.
const MAX_ANNOUNCEMENT: usize = 900 << 10;

/// What is known of an upload.
pub(super) struct Upload<'a> {
    /// Its id.
    pub(super) id: Uuid,
    /// Where it can be fetched.
    pub(super) url: &'a str,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Headers of the request, as [`headers_of`] reads them.
    pub(super) headers: Value,
    /// What [`matched`] found in the content type.
    pub(super) matched: Value,
}

impl Upload<'_> {
    fn metadata(self) -> Value {
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        let mut metadata = ObjectMap::new();
        metadata.insert("id".into(), Value::from(self.id.to_string()));
        metadata.insert("url".into(), Value::from(self.url));
        metadata.insert("size".into(), Value::from(size));
        metadata.insert("headers".into(), self.headers);
        metadata.insert("match".into(), self.matched);
        Value::Object(metadata)
    }
}

/// Why nothing can be announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unannounced {
    /// The upload is refused, and why.
    #[error("{0}")]
    Refused(String),
    /// The program of the reply failed, which is nobody's fault but the topology's.
    #[error("cannot make the reply: {0}")]
    Reply(String),
}

/// An announcement and the body of the answer to its upload.
#[derive(Debug, PartialEq)]
pub(super) struct Made {
    pub(super) announcement: Announcement,
    pub(super) reply: Vec<u8>,
}

/// Runs the programs of `config` over an upload.
pub(super) fn make(config: &Ingress, upload: Upload<'_>) -> Result<Made, Unannounced> {
    let id = upload.id;
    let metadata = upload.metadata();
    let mut scratch = Scratch::new();
    let mut target = Target::new(Value::Object(ObjectMap::new()), metadata.clone());
    let fields = announced(&config.announce, &mut scratch, &mut target)?;
    let value = json(&fields)?;
    target.load(fields, metadata);
    let mut headers = Vec::with_capacity(config.headers.len());
    for (name, program) in &config.headers {
        let value = run(program, &mut scratch, &mut target)?;
        headers.extend(text(&value).map(|text| (name.clone(), text)));
    }
    let reply = match &config.reply {
        None => serde_json::json!({ "request_id": id }).to_string().into_bytes(),
        Some(program) => match program.run(&mut scratch, &mut target) {
            Ok(reply) => fields::to_json(&reply),
            Err(failure) => return Err(Unannounced::Reply(failure.to_string())),
        },
    };
    let announcement = Announcement { topic: config.topic.to_string(), headers, value };
    Ok(Made { announcement, reply })
}

/// The result of `announce`: what the fields are afterwards if it writes them, its value if not.
fn announced(
    program: &Program,
    scratch: &mut Scratch,
    target: &mut Target,
) -> Result<Value, Unannounced> {
    let value = run(program, scratch, target)?;
    let fields = if program.writes_fields() { target.unload() } else { value };
    if fields.is_object() {
        Ok(fields)
    } else {
        Err(Unannounced::Refused("the announcement is not an object".to_owned()))
    }
}

fn run(
    program: &Program,
    scratch: &mut Scratch,
    target: &mut Target,
) -> Result<Value, Unannounced> {
    program.run(scratch, target).map_err(|failure| Unannounced::Refused(failure.to_string()))
}

/// The value as it is kept in the spool.
fn json(fields: &Value) -> Result<serde_json::Value, Unannounced> {
    let bytes = fields::to_json(fields);
    if bytes.len() > MAX_ANNOUNCEMENT {
        let why = format!("its announcement would be larger than {MAX_ANNOUNCEMENT} bytes");
        return Err(Unannounced::Refused(why));
    }
    serde_json::from_slice(&bytes).map_err(|error| Unannounced::Refused(error.to_string()))
}

/// A header: text as it stands, anything else as JSON; null is no header.
fn text(value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let text = value.as_bytes().map(|text| String::from_utf8_lossy(text).into_owned());
    Some(text.unwrap_or_else(|| String::from_utf8_lossy(&fields::to_json(value)).into_owned()))
}

/// The headers of a request under their lowercase names; values of repeated ones are joined.
pub(super) fn headers_of(headers: &HeaderMap) -> Value {
    let mut object = ObjectMap::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        object.insert(name.as_str().into(), Value::from(values.join(", ")));
    }
    Value::Object(object)
}

/// The named groups of `pattern` in a content type without its parameters; `None` if it does not
/// match.
pub(super) fn matched(pattern: &Regex, content_type: &str) -> Option<Value> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let found = pattern.captures(essence)?;
    let mut groups = ObjectMap::new();
    for name in pattern.capture_names().flatten() {
        let group = found.name(name).map(|group| group.as_str());
        groups.insert(name.into(), group.map_or(Value::Null, Value::from));
    }
    Some(Value::Object(groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Purpose;
    use crate::model::Topic;

    fn program(source: &str, purpose: Purpose) -> Program {
        Program::compile(source, purpose).unwrap()
    }

    fn config(announce: &str, header: &str, reply: Option<&str>) -> Ingress {
        Ingress {
            path: "/upload".to_owned(),
            parts: vec!["file".to_owned()],
            max_bytes: 1,
            content_type: None,
            topic: Topic::from("announcements"),
            headers: vec![("service".to_owned(), program(header, Purpose::Key))],
            announce: program(announce, Purpose::Map),
            reply: reply.map(|reply| program(reply, Purpose::Map)),
            spool: None,
        }
    }

    fn upload() -> Upload<'static> {
        let pattern = Regex::new("^(?:app/(?P<service>[a-z]+)(?P<more>-x)?)$").unwrap();
        Upload {
            id: Uuid::from_u128(7),
            url: "http://127.0.0.1:1/upload/payloads/7",
            size: 42,
            headers: Value::Object(ObjectMap::from([("x-org".into(), Value::from("o1"))])),
            matched: matched(&pattern, "app/hccm; charset=binary").unwrap(),
        }
    }

    #[test]
    fn programs_see_the_upload_and_the_later_ones_the_announcement() {
        let config = config(
            r#". = {"url": %url, "size": %size, "org": %headers."x-org", "id": %id}"#,
            "%match.service",
            Some(r#"{"org": .org, "bytes": %size}"#),
        );
        let made = make(&config, upload()).unwrap();
        assert_eq!(
            made.announcement.value,
            serde_json::json!({
                "id": "00000000-0000-0000-0000-000000000007",
                "org": "o1",
                "size": 42,
                "url": "http://127.0.0.1:1/upload/payloads/7",
            })
        );
        assert_eq!(made.announcement.topic, "announcements");
        assert_eq!(made.announcement.headers, [("service".to_owned(), "hccm".to_owned())]);
        assert_eq!(made.reply, br#"{"bytes":42,"org":"o1"}"#);
    }

    #[test]
    fn without_a_reply_the_id_is_answered_and_a_null_header_is_left_out() {
        let made = make(&config(r#"{"id": %id}"#, "%match.more", None), upload()).unwrap();
        assert!(made.announcement.headers.is_empty());
        assert_eq!(made.reply, br#"{"request_id":"00000000-0000-0000-0000-000000000007"}"#);
    }

    #[test]
    fn a_failing_program_refuses_the_upload_and_says_why() {
        let refused = make(&config(r#". = {"n": to_int!(%id)}"#, "null", None), upload());
        let Err(Unannounced::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("to_int"), "{why}");
        let refused = make(&config("42", "null", None), upload());
        assert_eq!(
            refused,
            Err(Unannounced::Refused("the announcement is not an object".to_owned()))
        );
        let failed = make(&config(r#"{"a": 1}"#, "null", Some("to_int!(%id)")), upload());
        assert!(matches!(failed, Err(Unannounced::Reply(_))), "{failed:?}");
    }

    #[test]
    fn a_content_type_matches_as_a_whole_and_without_its_parameters() {
        let pattern = Regex::new("^(?:app/(?P<service>[a-z]+))$").unwrap();
        for (content_type, matches) in
            [("app/a", true), (" app/a ;q=1", true), ("app/a+b", false), ("xapp/a", false)]
        {
            assert_eq!(matched(&pattern, content_type).is_some(), matches, "{content_type}");
        }
    }
}
