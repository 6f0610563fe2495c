//! S3 as a store of objects.
//!
//! Responsible for: a client that takes everything from the topology (no keys, no region and no
//! proxy of the environment or the machine), and saying in words what S3 refuses and what to do.
//! Not responsible for: putting and reading objects (`objects`), or trying again for long.

use std::iter;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientOptions, RetryConfig};
use reqwest::redirect;
use secrecy::ExposeSecret;

use crate::spool::objects::S3Access;

/// Time to establish one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one request, of which the largest carries one part of an object.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Repetitions of a request that failed in passing; an outage is outlasted elsewhere.
const REPETITIONS: usize = 2;
/// Longest text of the store that an error repeats, in characters.
const MAX_SHOWN: usize = 400;

const USER_AGENT: &str = concat!("tidemill/", env!("CARGO_PKG_VERSION"));

/// Words in S3's answers, and what to do about them.
const ADVICE: [(&[&str], &str); 5] = [
    (&["NoSuchBucket"], "create the bucket, or correct `url`"),
    (
        &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "NotSignedUp",
            "InvalidToken",
            "ExpiredToken",
        ],
        "check `access_key_id`, `secret_access_key` and `session_token`",
    ),
    (
        &["AuthorizationHeaderMalformed", "PermanentRedirect", "redirect", "301 ", "307 "],
        "correct `region`, or `endpoint`",
    ),
    (&["RequestTimeTooSkewed"], "correct the clock of this machine"),
    (
        &["AccessDenied", "403 ", "401 "],
        "allow the key s3:ListBucket on the bucket, and s3:PutObject, s3:DeleteObject, \
         s3:AbortMultipartUpload and, for a spool, s3:GetObject on its objects",
    ),
];

/// What to do where S3 said nothing that is known.
const UNREACHABLE: &str = "check `endpoint`, and that the store runs";

/// A client for one bucket; connects to nothing yet.
pub(super) fn store(bucket: &str, access: &S3Access) -> object_store::Result<AmazonS3> {
    let is_encrypted =
        access.endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("https://"));
    let retry = RetryConfig { max_retries: REPETITIONS, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&access.region)
        .with_access_key_id(access.access_key_id.expose_secret())
        .with_secret_access_key(access.secret_access_key.expose_secret())
        .with_allow_http(access.allow_http)
        // Every S3 has the plain DELETE, not every one the other.
        .with_disable_bulk_delete(true)
        .with_retry(retry)
        .with_http_connector(Direct { is_encrypted });
    if let Some(token) = &access.session_token {
        builder = builder.with_token(token.expose_secret());
    }
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build()
}

/// Connects to the store itself: no proxy of the environment, and no redirects, which signatures do
/// not survive.
#[derive(Debug)]
struct Direct {
    is_encrypted: bool,
}

impl HttpConnector for Direct {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .https_only(self.is_encrypted)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        if !self.is_encrypted {
            // No certificate will be looked at, so a system without any must not matter.
            builder = builder.tls_certs_only(iter::empty::<reqwest::Certificate>());
        }
        let client = builder.build().map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(client))
    }
}

/// S3's own words in an error, without the request and the XML around them.
pub(super) fn brief(text: &str) -> String {
    let code = between(text, "<Code>", "</Code>");
    let message = between(text, "<Message>", "</Message>").filter(|message| !message.is_empty());
    let said = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => text.to_owned(),
    };
    said.chars().take(MAX_SHOWN).collect()
}

/// What went wrong when the store was asked for the first time, and what to do about it.
pub(super) fn explain(text: &str) -> String {
    let said = brief(text);
    let known = ADVICE.iter().find(|(words, _)| words.iter().any(|word| said.contains(word)));
    let advice = known.map_or(UNREACHABLE, |(_, advice)| *advice);
    format!("{said}; {advice}")
}

fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn refusals_are_told_in_s3s_words_with_what_to_do() {
        let xml = |code: &str| {
            format!(
                "Generic S3 error: Error performing list request: Error performing GET \
                 http://127.0.0.1:1/lake?prefix=x in 1ms - Server returned non-2xx status code: \
                 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>{code}</Code>\
                 <Message>It is so</Message><RequestId>7</RequestId></Error>"
            )
        };
        let table = [
            ("NoSuchBucket", "create the bucket"),
            ("SignatureDoesNotMatch", "check `access_key_id`"),
            ("NotSignedUp", "check `access_key_id`"),
            ("AuthorizationHeaderMalformed", "correct `region`"),
            ("AccessDenied", "s3:PutObject"),
            ("RequestTimeTooSkewed", "clock"),
            ("Unheard", "check `endpoint`"),
        ];
        for (code, advice) in table {
            let said = explain(&xml(code));
            assert!(said.starts_with(&format!("{code}: It is so; ")), "{said}");
            assert!(said.contains(advice), "{said}");
        }
        let redirect = "Received redirect without LOCATION, this normally indicates";
        assert!(explain(redirect).contains("correct `region`"));
        assert!(explain("HTTP error: error sending request").contains("check `endpoint`"));
        assert_eq!(brief(&"x".repeat(5000)).len(), MAX_SHOWN);
    }

    #[test]
    fn settings_and_client_show_no_key() {
        let settings = S3Access {
            region: "eu-west-1".to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            allow_http: true,
            access_key_id: SecretString::from("AKIAEXAMPLE"),
            secret_access_key: SecretString::from("hunter2"),
            session_token: Some(SecretString::from("hunter3")),
        };
        let client = store("lake", &settings).unwrap();
        let shown = format!("{settings:?} {client}");
        for secret in ["AKIAEXAMPLE", "hunter2", "hunter3"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
