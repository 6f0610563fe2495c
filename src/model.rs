//! Pure values that cross borders between the parts of the engine.
//!
//! Responsible for: coordinates in the log, records and their bodies, outcomes, the events of the
//! progress topic, identities of manifests and members.
//! Not responsible for: deciding anything. State machines over these values live in `progress`,
//! and nothing here does I/O beyond reading a blob that somebody else spooled.

pub mod body;
pub mod coordinates;
pub mod event;
pub mod identity;
pub mod letter;
pub mod outcome;
pub mod record;

pub use body::{Blob, Body, Columns};
pub use coordinates::{Epoch, Offset, Partition, Topic, TopicPartition};
pub use identity::{Digest, ManifestKey, MemberId, NodeName, PipelineName};
pub use outcome::{Failure, FailureClass, Outcome, Tally};
pub use record::{Fields, Headers, LogRecord, Metadata, Record, SourceBatch, SourceRef};
