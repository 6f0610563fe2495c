//! The catalogue of instruments.
//!
//! Responsible for: declaring every counter and gauge once, with its name, unit and meaning.
//! Not responsible for: exporting them; an exporter reads [`Instruments::read`].
//!
//! Instruments are plain atomics, so that hot paths and exporters never wait for each other.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Outcome;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
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

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident = $export:literal;)*) => {
        /// Every instrument of a pipeline.
        #[derive(Debug, Default)]
        pub struct Instruments {
            $($(#[doc = $doc])* pub $name: $kind,)*
        }

        impl Instruments {
            /// All values under the names that users see, with what they mean.
            pub fn read(&self) -> Vec<Reading> {
                vec![$(Reading {
                    name: $export,
                    meaning: concat!($($doc),*).trim_ascii(),
                    value: self.$name.get(),
                },)*]
            }
        }
    };
}

/// One instrument at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Exported name.
    pub name: &'static str,
    /// What it counts.
    pub meaning: &'static str,
    /// Its value.
    pub value: u64,
}

catalogue! {
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
    /// Partitions assigned to this process.
    Gauge assigned = "tidemill_partitions_assigned";
    /// Records that user code panicked on.
    Counter panics = "tidemill_panics_total";
    /// Records that user code hung on.
    Counter hung = "tidemill_hung_records_total";
    /// Times that a partition was found stalled.
    Counter stalls = "tidemill_partition_stalls_total";
    /// Nodes whose dependency is away at the moment.
    Gauge unavailable = "tidemill_nodes_unavailable";
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
    /// Manifests completed.
    Counter completions = "tidemill_manifest_completions_total";
    /// Events applied to manifests.
    Counter progress_events = "tidemill_progress_events_total";
    /// Events that changed nothing because they had been applied before.
    Counter duplicate_events = "tidemill_progress_duplicates_total";
    /// Actions delivered.
    Counter actions = "tidemill_actions_delivered_total";
}

impl Instruments {
    /// Counts the outcome of a record.
    pub fn outcome(&self, outcome: Outcome) {
        match outcome {
            Outcome::Abandoned => {}
            Outcome::DeadLettered => self.dead_lettered.add(1),
            Outcome::Delivered => self.delivered.add(1),
            Outcome::Filtered => self.filtered.add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instrument_has_a_name_of_its_own_and_a_meaning() {
        let readings = Instruments::default().read();
        let mut names: Vec<_> = readings.iter().map(|reading| reading.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), readings.len());
        assert!(readings.iter().all(|reading| reading.meaning.ends_with('.')));
    }

    #[test]
    fn each_outcome_has_its_counter_and_abandoned_is_none() {
        let instruments = Instruments::default();
        for outcome in [
            Outcome::Abandoned,
            Outcome::DeadLettered,
            Outcome::Delivered,
            Outcome::Delivered,
            Outcome::Filtered,
        ] {
            instruments.outcome(outcome);
        }
        let counted = [
            instruments.dead_lettered.get(),
            instruments.delivered.get(),
            instruments.filtered.get(),
        ];
        assert_eq!(counted, [1, 2, 1]);
    }
}
