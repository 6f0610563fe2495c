//! Decides about URLs, without any I/O.
//!
//! Responsible for: the allow-list, and everything that can be said about a URL before a name is
//! looked up: scheme, host, port, user information, address literals, and where a redirect may
//! lead.
//! Not responsible for: what names resolve to (`resolver`) and the transfer (`client`).
//!
//! The text is parsed once, by the WHATWG rules, and the parsed URL is what is checked, shown and
//! requested: two parsers that disagree about a host are how such checks are passed. Hosts come
//! out of it in lower case, in punycode, and with every spelling of an IPv4 address in dotted
//! decimals.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

use crate::net::NetError;
use crate::net::address::reach;

/// Longest URL that is looked at, in bytes. Presigned URLs stay under 2 KiB.
const MAX_URL: usize = 8 * 1024;

/// Longest path that an error text shows, in characters.
const MAX_SHOWN_PATH: usize = 256;

/// An origin that may be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// `http` or `https`.
    pub scheme: String,
    /// Host name or address; with `*.` in front, any name below it, but not the name itself.
    pub host: String,
    /// Port, where it is not the scheme's.
    pub port: Option<u16>,
    /// Whether private, loopback and link-local addresses are fine here.
    pub private: bool,
}

/// A URL that passed.
#[derive(Clone, PartialEq, Eq)]
pub struct Permitted {
    /// The URL itself; its query may hold a secret.
    pub(super) url: Url,
    /// Whether private addresses are fine for it.
    pub(super) private: bool,
    /// Whether only a wildcard names its host, so that whoever wrote the record chose the name.
    pub(super) wildcard: bool,
}

impl fmt::Debug for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permitted")
            .field("url", &self.shown())
            .field("private", &self.private)
            .field("wildcard", &self.wildcard)
            .finish()
    }
}

impl Permitted {
    /// The URL for error texts and logs: without query, fragment and user information.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }
}

/// The allow-list of one node.
#[derive(Clone, Debug)]
pub struct Policy {
    allow: Vec<Allow>,
}

impl Policy {
    /// Allows these origins and nothing else. Hosts are brought into the form in which the parser
    /// yields them; an entry that is no host matches nothing.
    pub fn new(allow: impl IntoIterator<Item = Allow>) -> Self {
        Self { allow: allow.into_iter().map(normalized).collect() }
    }

    /// Whether any origin needs TLS.
    pub(super) fn needs_tls(&self) -> bool {
        self.allow.iter().any(|allow| allow.scheme == "https")
    }

    /// Whether any origin may lie inside.
    pub(super) fn needs_private(&self) -> bool {
        self.allow.iter().any(|allow| allow.private)
    }

    /// Decides about a URL that a record holds.
    ///
    /// # Errors
    /// [`NetError::Forbidden`] with the rule that was broken.
    pub fn check(&self, text: &str) -> Result<Permitted, NetError> {
        well_formed(text)?;
        let url = Url::parse(text).map_err(|error| malformed(&error.to_string()))?;
        self.permit(url)
    }

    /// Decides about a redirect from `from` to `location`, which may be relative.
    ///
    /// # Errors
    /// [`NetError::Forbidden`] with the rule that was broken; from https to http is one.
    pub fn follow(&self, from: &Permitted, location: &str) -> Result<Permitted, NetError> {
        well_formed(location)?;
        let url = from.url.join(location).map_err(|error| malformed(&error.to_string()))?;
        if from.url.scheme() == "https" && url.scheme() != "https" {
            return Err(forbidden(&url, "the redirect leaves https"));
        }
        self.permit(url)
    }

    fn permit(&self, url: Url) -> Result<Permitted, NetError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(forbidden(&url, "the scheme is neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(forbidden(&url, "a URL with a user name or password"));
        }
        let Some(host) = url.host_str() else {
            return Err(forbidden(&url, "a URL without a host"));
        };
        let literal = literal(host);
        let matching: Vec<Fit> =
            self.allow.iter().filter_map(|allow| fit(allow, &url, host, literal)).collect();
        if matching.is_empty() {
            return Err(forbidden(&url, "the origin is not on the allow-list"));
        }
        let private = matching.iter().any(|fit| fit.private);
        let wildcard = matching.iter().all(|fit| fit.wildcard);
        if let Some(why) = literal.and_then(|address| reach(address).refusal(private)) {
            return Err(forbidden(&url, why));
        }
        Ok(Permitted { url, private, wildcard })
    }
}

/// An entry of the allow-list that covers a URL.
struct Fit {
    private: bool,
    wildcard: bool,
}

fn fit(allow: &Allow, url: &Url, host: &str, literal: Option<IpAddr>) -> Option<Fit> {
    let port = allow.port.or_else(|| default_port(&allow.scheme));
    if url.scheme() != allow.scheme || url.port_or_known_default() != port {
        return None;
    }
    let wildcard = match allow.host.strip_prefix("*.") {
        None if allow.host == host => false,
        // An address has no names below it, however its digits look.
        Some(suffix) if literal.is_none() && below(host, suffix) => true,
        _ => return None,
    };
    Some(Fit { private: allow.private, wildcard })
}

/// Whether `host` is a name below `suffix`, with no empty label in front of it.
fn below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix)
        .and_then(|front| front.strip_suffix('.'))
        .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The address that a host spells out, if it is none to be looked up.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// Brings scheme and host of an entry into the form in which the parser yields them.
fn normalized(mut allow: Allow) -> Allow {
    allow.scheme = allow.scheme.to_ascii_lowercase();
    let (star, name) = match allow.host.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", allow.host.as_str()),
    };
    let bracketed =
        if name.parse::<Ipv6Addr>().is_ok() { format!("[{name}]") } else { name.to_owned() };
    let parsed = Url::parse(&format!("https://{bracketed}/"))
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    allow.host = format!("{star}{}", parsed.unwrap_or(bracketed));
    allow
}

/// Refuses what parsers quietly remove or turn around, so that nobody has to wonder.
fn well_formed(text: &str) -> Result<(), NetError> {
    if text.len() > MAX_URL {
        return Err(malformed(&format!("longer than {MAX_URL} bytes")));
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(malformed("control character or backslash"));
    }
    Ok(())
}

/// Nothing of a text that is no URL is repeated: nobody knows where a secret in it begins.
fn malformed(why: &str) -> NetError {
    NetError::Forbidden { url: "the URL".to_owned(), why: format!("malformed: {why}") }
}

fn forbidden(url: &Url, why: &str) -> NetError {
    NetError::Forbidden { url: shown(url), why: why.to_owned() }
}

fn shown(url: &Url) -> String {
    if url.cannot_be_a_base() {
        // What follows the scheme is data, not a path.
        return format!("{}:...", url.scheme());
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path();
    let cut = path.char_indices().nth(MAX_SHOWN_PATH).map_or(path.len(), |(at, _)| at);
    let more = if cut < path.len() { "..." } else { "" };
    format!("{}://{host}{port}{}{more}", url.scheme(), &path[..cut])
}

#[cfg(test)]
mod tests;
