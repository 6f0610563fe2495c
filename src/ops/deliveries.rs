//! Deliveries of the outbox, as people see them.
//!
//! Responsible for: where a delivery goes, how often it was tried, and what it waits for.
//! Not responsible for: delivering (`completion::dispatcher`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::ops::time::Time;
use crate::state::{OutboxStatus, OutboxTarget};

/// One delivery that a completion owes or has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Name of the action.
    pub action: String,
    /// Revision of the manifest.
    pub revision: u32,
    /// Number of the element, where the payload is an array.
    pub part: u32,
    /// `topic NAME`, or a URL without its user and query, which may be secret.
    pub to: String,
    /// What the receiver tells repeats apart by.
    #[schema(value_type = String)]
    pub idempotency_key: Uuid,
    /// Attempts made.
    pub attempts: u32,
    /// When it arrived.
    pub delivered_at: Option<Time>,
    /// What the last attempt failed with.
    pub last_error: Option<String>,
    /// The earlier revision of the same action that has to arrive first.
    pub waits_for_revision: Option<u32>,
}

impl Delivery {
    /// Those of one manifest, in the order of the store.
    pub(super) fn of(outbox: &[OutboxStatus]) -> Vec<Self> {
        outbox.iter().map(|status| Self::one(status, outbox)).collect()
    }

    fn one(status: &OutboxStatus, outbox: &[OutboxStatus]) -> Self {
        let row = &status.row;
        let ahead = outbox.iter().filter(|other| {
            other.delivered_at.is_none()
                && other.row.action == row.action
                && other.row.revision < row.revision
        });
        let waits = status.delivered_at.is_none();
        Self {
            action: row.action.clone(),
            revision: row.revision,
            part: row.part,
            to: place(&row.target),
            idempotency_key: row.idempotency_key,
            attempts: status.attempts,
            delivered_at: status.delivered_at.map(Time),
            last_error: status.last_error.clone(),
            waits_for_revision: ahead.map(|other| other.row.revision).min().filter(|_| waits),
        }
    }

    /// Whether it has arrived.
    pub fn is_delivered(&self) -> bool {
        self.delivered_at.is_some()
    }
}

fn place(target: &OutboxTarget) -> String {
    match target {
        OutboxTarget::Kafka { topic, .. } => format!("topic {topic}"),
        OutboxTarget::Http { url, .. } => without_secrets(url),
    }
}

/// A URL without user, password, query and fragment.
fn without_secrets(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        let table = [
            ("http://host/a/b", "http://host/a/b"),
            ("https://me:secret@host:8443/a?token=x#y", "https://host:8443/a"),
            ("https://host?token=x", "https://host"),
            ("https://host/a@b", "https://host/a@b"),
        ];
        for (url, wanted) in table {
            assert_eq!(without_secrets(url), wanted);
        }
    }
}
