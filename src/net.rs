//! A guarded HTTP client: fetches only what a topology allows, whatever a record says.
//!
//! Responsible for: deciding about URLs ([`Policy`]: allow-list, schemes, addresses, redirects,
//! without any I/O), and downloading what is allowed under caps of size and time
//! ([`GuardedClient`]).
//! Not responsible for: where the bytes go, or retrying.
//!
//! URLs come out of records and are hostile. What is defended against: other hosts and schemes,
//! names that resolve to addresses inside (also when the answer changes between two look-ups,
//! since the addresses that are checked are the ones that are connected to), address literals in
//! every spelling, redirects to any of these, bodies and headers without end, and secrets in error
//! texts: a presigned URL carries one in its query.

pub mod address;
pub mod client;
#[cfg(test)]
mod hostile;
pub mod policy;
mod resolver;
#[cfg(test)]
pub(crate) mod stub;

pub use client::{Download, GuardedClient, Settings};
pub use policy::{Allow, Permitted, Policy};

/// Why something was not fetched. Texts name scheme, host, port and path, never query, fragment
/// or user information.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The topology does not allow it, or it is no URL at all.
    #[error("{url} is not allowed: {why}")]
    Forbidden {
        /// What was asked for.
        url: String,
        /// The rule that was broken.
        why: String,
    },
    /// The server says that it has no such thing (404, 410).
    #[error("{url} answers {status}")]
    NotFound {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// A name below a wildcard of the allow-list that does not exist. An exact name that cannot be
    /// resolved is a fault of the dependency instead.
    #[error("{url}: there is no host of that name")]
    NoSuchHost {
        /// What was asked for.
        url: String,
    },
    /// The server says no to this very request, or answers with something that is no body.
    #[error("{url} answers {status}")]
    Rejected {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The body is larger than allowed.
    #[error("{url} is larger than {cap} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Largest size in bytes.
        cap: u64,
    },
    /// The other side is not there, not well (5xx, 408, 425, 429) or too slow.
    #[error("{url} is unavailable: {why}")]
    Unavailable {
        /// What was asked for.
        url: String,
        /// What happened.
        why: String,
    },
}
