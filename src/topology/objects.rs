//! Places for objects: folders and buckets.
//!
//! Responsible for: the URL of such a place, and what a bucket needs beside it.
//! Not responsible for: what lies there (`sinks`, `ingress`), or reaching it (`spool::objects`).

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::spool::objects::{Place, S3Access};

/// Keys that mean something where objects lie in a bucket.
const S3_KEYS: [&str; 6] =
    ["region", "endpoint", "allow_http", "access_key_id", "secret_access_key", "session_token"];

/// The region where the topology does not say and the store is not Amazon's: most have only one,
/// and take any name for it.
const OTHER_REGION: &str = "us-east-1";

/// A URL that names a place for objects.
pub(super) fn place(value: &Value<'_>) -> Option<(String, Place)> {
    let url = value.word()?;
    let place = if url.contains("://") { Place::parse(&url) } else { Err("it names no store") };
    match place {
        Ok(place) => Some((url, place)),
        Err(why) => {
            let message = format!("`{url}` is not a place for objects: {why}");
            let help = "known: file:// with a relative or an absolute path, and s3://bucket/prefix";
            value.fail(Diagnostic::new(message).help(help.to_owned()))
        }
    }
}

/// What a bucket needs. For a folder the keys are not looked at: which of the two it is may be
/// left to a variable.
pub(super) fn s3(section: &Section<'_>, place: Option<&Place>) -> Option<Option<S3Access>> {
    // Asked for, whatever the place is, so that none of them counts as unknown.
    for key in S3_KEYS {
        section.value(key);
    }
    if place?.is_bucket() { access(section).map(Some) } else { Some(None) }
}

fn access(section: &Section<'_>) -> Option<S3Access> {
    let endpoint = section.maybe("endpoint", endpoint).map(Option::flatten);
    let allow_http = section.or("allow_http", false, Value::boolean);
    let region = match (section.value("region"), &endpoint) {
        (Some(value), _) => value.word(),
        (None, Some(Some(_))) => Some(OTHER_REGION.to_owned()),
        (None, _) => section.need("region", Value::word),
    };
    let access_key_id = section.need("access_key_id", Value::secret);
    let secret_access_key = section.need("secret_access_key", Value::secret);
    let session_token = section.maybe("session_token", Value::secret);
    let access = S3Access {
        region: region?,
        endpoint: endpoint?,
        allow_http: allow_http?,
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token: session_token?,
    };
    let is_open = access.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
    if is_open && !access.allow_http {
        let message = "`endpoint` is not encrypted: everybody could read what is put there";
        let help = "use https://, or `allow_http = true` where the network can be trusted";
        return section.value("endpoint")?.fail(Diagnostic::new(message).help(help.to_owned()));
    }
    Some(access)
}

/// `None` within if it is empty: the variable for it was left so, and the store is Amazon's.
fn endpoint(value: &Value<'_>) -> Option<Option<String>> {
    let text = value.text()?;
    if text.is_empty() {
        return Some(None);
    }
    let is_fit = reqwest::Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if is_fit { Some(Some(text)) } else { value.not(&text, "a URL such as \"https://host:9000\"") }
}
