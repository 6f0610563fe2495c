//! The catalogue of instruments.
//!
//! Responsible for: declaring every instrument once, with its name, kind, labels and meaning.
//! Not responsible for: exporting them (`metrics`), or where the values of labelled ones come from
//! (`engine` says which parts are read).
//!
//! Instruments are plain atomics, so that hot paths and exporters never wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Outcome, Tally};
use crate::telemetry::Unavailable;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const KIND: Kind = Kind::Counter;

    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    const KIND: Kind = Kind::Gauge;

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes away from it.
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One owner's part of a gauge that several add up to; it goes with its owner.
#[derive(Debug)]
pub struct Part {
    instruments: Arc<Instruments>,
    of: fn(&Instruments) -> &Gauge,
    value: u64,
}

impl Part {
    /// A part of nothing yet.
    pub fn new(instruments: Arc<Instruments>, of: fn(&Instruments) -> &Gauge) -> Self {
        Self { instruments, of, value: 0 }
    }

    /// Sets this part of the sum.
    pub fn set(&mut self, value: u64) {
        let gauge = (self.of)(&self.instruments);
        gauge.add(value);
        gauge.sub(std::mem::replace(&mut self.value, value));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// How an instrument behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What an instrument is called, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Exported name.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels, beside `pipeline`, which all have.
    pub labels: &'static [&'static str],
}

/// An instrument that is one number for the whole pipeline.
pub struct Plain {
    /// Its declaration.
    pub declared: Declared,
    /// Its value.
    pub read: fn(&Instruments) -> u64,
}

macro_rules! plain {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident = $export:literal;)*) => {
        /// What the parts of a pipeline count.
        #[derive(Debug, Default)]
        pub struct Instruments {
            $($(#[doc = $doc])* pub $name: $kind,)*
        }

        impl Instruments {
            /// Those that are one number for the whole pipeline.
            pub const PLAIN: &'static [Plain] = &[$(Plain {
                declared: Declared {
                    name: $export,
                    meaning: concat!($($doc),*).trim_ascii(),
                    kind: $kind::KIND,
                    labels: &[],
                },
                read: |instruments| instruments.$name.get(),
            },)*];
        }
    };
}

macro_rules! labelled {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident = $export:literal $labels:expr;)*) => {
        $($(#[doc = $doc])*
        pub const $name: Declared = Declared {
            name: $export,
            meaning: concat!($($doc),*).trim_ascii(),
            kind: Kind::$kind,
            labels: $labels,
        };)*

        /// Instruments that are read from the parts of a pipeline, most of them with labels.
        pub const LABELLED: &[Declared] = &[$($name),*];
    };
}

plain! {
    /// Records taken from sources.
    Counter records_in = "tidemill_records_in_total";
    /// Bytes of keys, values and headers taken from sources.
    Counter bytes_in = "tidemill_bytes_in_total";
    /// Records whose effects are durable.
    Counter delivered = "tidemill_records_delivered_total";
    /// Records that a program left out.
    Counter filtered = "tidemill_records_filtered_total";
    /// Records in the dead-letter topic.
    Counter dead_lettered = "tidemill_records_dead_lettered_total";
    /// Times that an unfinished record was let go, to be read again.
    Counter abandoned = "tidemill_abandoned_total";
    /// Commits handed to the broker.
    Counter commits = "tidemill_commits_total";
    /// Times that a partition was paused because its buffer was full.
    Counter pauses = "tidemill_partition_pauses_total";
    /// Transient errors of the broker.
    Counter broker_errors = "tidemill_broker_errors_total";
    /// Drains that ended at their deadline instead of empty.
    Counter drains_cut_short = "tidemill_drains_cut_short_total";
    /// Partitions assigned to this process, of sources and of the progress topic.
    Gauge assigned = "tidemill_partitions_assigned";
    /// Records that user code panicked on.
    Counter panics = "tidemill_panics_total";
    /// Records that user code hung on.
    Counter hung = "tidemill_hung_records_total";
    /// Times that a partition was found stalled.
    Counter stalls = "tidemill_partition_stalls_total";
    /// Nodes whose dependency is away at the moment.
    Unavailable unavailable = "tidemill_nodes_unavailable";
    /// Records written by sinks.
    Counter records_out = "tidemill_records_out_total";
    /// Uploads that the ingress accepted.
    Counter uploads = "tidemill_uploads_total";
    /// Bytes of accepted uploads.
    Counter upload_bytes = "tidemill_upload_bytes_total";
    /// Members settled.
    Counter members = "tidemill_members_settled_total";
    /// Rows in objects and tables of settled members.
    Counter rows_out = "tidemill_rows_out_total";
    /// Bytes of settled members, unpacked.
    Counter member_bytes = "tidemill_member_bytes_total";
    /// Objects written to the lake.
    Counter objects = "tidemill_objects_total";
    /// Times that a retired object was looked for, to be deleted.
    Counter retired_checks = "tidemill_retired_object_checks_total";
    /// Retired objects that were found, and deleted.
    Counter retired_deletions = "tidemill_retired_objects_deleted_total";
    /// Manifests completed.
    Counter completions = "tidemill_manifest_completions_total";
    /// Events applied to manifests.
    Counter progress_events = "tidemill_progress_events_total";
    /// Events that changed nothing because they had been applied before.
    Counter duplicate_events = "tidemill_progress_duplicates_total";
    /// Actions delivered.
    Counter actions = "tidemill_actions_delivered_total";
    /// Attempts to deliver an action that failed and are made again.
    Counter action_failures = "tidemill_action_failures_total";
}

/// The labels of a partition.
const PARTITION: &[&str] = &["topic", "partition"];

labelled! {
    /// Records that got their outcome without failing: delivered, or left out by a program.
    Counter MESSAGES_PROCESSED = "kafka_consumer_messages_processed_total" PARTITION;
    /// Records that failed for good and lie in the dead-letter topic.
    Counter MESSAGES_FAILED = "kafka_consumer_messages_failed_total" PARTITION;
    /// Age of the oldest record without an outcome; 0 if all up to the known end have theirs.
    Gauge LAG_SECONDS = "kafka_consumer_lag_seconds" PARTITION;
    /// Offsets from the oldest record without an outcome to the known end.
    Gauge LAG_RECORDS = "tidemill_partition_lag_records" PARTITION;
    /// Records without an outcome.
    Gauge IN_FLIGHT = "tidemill_partition_in_flight_records" PARTITION;
    /// Time since the oldest record without an outcome was handed out.
    Gauge OLDEST_IN_FLIGHT = "tidemill_partition_oldest_in_flight_seconds" PARTITION;
    /// Times that a manifest was looked at for whether it is complete: once for each event.
    Counter COMPLETION_CHECKS = "manifest_completion_check_total" &[];
    /// Manifests found complete and completed.
    Counter COMPLETION_SUCCESSES = "manifest_completion_success_total" &[];
    /// Time since a dependency of the node went away; nothing for nodes that work.
    Gauge NODE_UNAVAILABLE = "tidemill_node_unavailable_seconds" &["node"];
    /// Messages, or batches of records, that wait in a queue.
    Gauge QUEUE_DEPTH = "tidemill_queue_depth" &["queue"];
    /// Messages that may wait in a queue before senders are held back.
    Gauge QUEUE_CAPACITY = "tidemill_queue_capacity" &["queue"];
    /// Events in the progress topic that this process has to apply to its manifests and has not.
    Gauge PROGRESS_LAG_RECORDS = "tidemill_progress_lag_records" &[];
    /// Age of the oldest of them; 0 if all up to the known end are applied.
    Gauge PROGRESS_LAG_SECONDS = "tidemill_progress_lag_seconds" &[];
    /// Deliveries that completions of the pipeline owe, whichever process makes them.
    Gauge OUTBOX_UNDELIVERED = "tidemill_outbox_undelivered" &[];
    /// Of the deliveries that are owed, those whose last attempt failed.
    Gauge OUTBOX_FAILING = "tidemill_outbox_failing" &[];
    /// Age of the oldest delivery that is owed; 0 if none is.
    Gauge OUTBOX_OLDEST = "tidemill_outbox_oldest_seconds" &[];
    /// Manifests of the pipeline that wait for their members, in all processes.
    Gauge MANIFESTS_OPEN = "tidemill_manifests_open" &[];
    /// Of the open manifests, those whose completion an action blocks.
    Gauge MANIFESTS_BLOCKED = "tidemill_manifests_blocked" &[];
    /// Bytes of disk that the spools of all nodes have in use.
    Gauge SPOOL_USED = "tidemill_spool_used_bytes" &[];
    /// Bytes of disk that the spools of all nodes may use.
    Gauge SPOOL_LIMIT = "tidemill_spool_limit_bytes" &[];
    /// Times that an invariant did not hold since the process started.
    Counter VIOLATIONS = "tidemill_invariant_violations_total" &["invariant"];
    /// Always 1; says which version runs.
    Gauge BUILD_INFO = "tidemill_build_info" &["version"];
}

impl Instruments {
    /// Counts the outcomes of records. Abandoned is none to the world.
    pub fn outcomes(&self, tally: &Tally) {
        self.dead_lettered.add(tally.of(Outcome::DeadLettered));
        self.delivered.add(tally.of(Outcome::Delivered));
        self.filtered.add(tally.of(Outcome::Filtered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instrument_has_a_name_of_its_own_and_a_meaning() {
        let plain = Instruments::PLAIN.iter().map(|plain| &plain.declared);
        let all: Vec<_> = plain.chain(LABELLED).collect();
        let mut names: Vec<_> = all.iter().map(|declared| declared.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|declared| declared.meaning.ends_with('.')));
    }

    #[test]
    fn counters_and_nothing_else_are_called_totals() {
        let plain = Instruments::PLAIN.iter().map(|plain| &plain.declared);
        for declared in plain.chain(LABELLED) {
            let is_total = declared.name.ends_with("_total");
            assert_eq!(is_total, declared.kind == Kind::Counter, "{}", declared.name);
        }
    }

    #[test]
    fn each_outcome_has_its_counter_and_abandoned_is_none() {
        let instruments = Instruments::default();
        let outcomes = [
            Outcome::Abandoned,
            Outcome::DeadLettered,
            Outcome::Delivered,
            Outcome::Delivered,
            Outcome::Filtered,
        ];
        instruments.outcomes(&outcomes.into_iter().collect());
        let counted = [
            instruments.dead_lettered.get(),
            instruments.delivered.get(),
            instruments.filtered.get(),
        ];
        assert_eq!(counted, [1, 2, 1]);
    }

    #[test]
    fn the_parts_of_a_gauge_add_up_and_go_with_their_owners() {
        let instruments = Arc::new(Instruments::default());
        let part = || Part::new(instruments.clone(), |instruments| &instruments.assigned);
        let (mut one, mut other) = (part(), part());
        one.set(3);
        other.set(4);
        one.set(2);
        assert_eq!(instruments.assigned.get(), 6);
        drop(other);
        assert_eq!(instruments.assigned.get(), 2);
    }
}
