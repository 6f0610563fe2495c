//! Completion: what is known of manifests, and what happens when one is complete.
//!
//! Responsible for: the borders at which records become members, announcements and receipts; the
//! events they lead to; the aggregators that apply those events, one per shard; actions, and
//! their delivery; and the deletion of objects that are retired.
//! Not responsible for: the rules of membership (`progress::manifest`), or storing anything
//! (`state`).
//!
//! ```text
//! stage ─▶ boundary ─▶ publisher ─▶ <pipeline>.progress ─▶ aggregator ─▶ state store
//!          (close)     (acked: the parent is settled)        │              │ outbox
//!                                                            ├── nudge ─▶ dispatcher ─▶ Kafka, HTTP
//!                                                            └── nudge ─▶ retirer ─▶ deletes objects
//! ```

pub mod aggregator;
pub mod boundary;
pub mod config;
pub mod dispatcher;
mod patience;
pub mod publisher;
pub mod retirer;

pub use aggregator::{AggregatorContext, AggregatorSettings, Kinds, ManifestAggregator};
pub use boundary::{AnnounceBoundary, BoundaryContext, MemberBoundary, ReceiptBoundary};
pub use dispatcher::{DispatcherContext, DispatcherSettings, OutboxDispatcher};
pub use publisher::{EventPublisher, ProgressTopic, Publication, Publisher, PublisherContext};
pub use retirer::{DeleteError, ObjectDeleter, Retirer, RetirerContext, RetirerSettings};
