//! Metrics as Prometheus reads them.
//!
//! Responsible for: one OpenTelemetry meter per pipeline, an instrument for each declaration that
//! is observed, and the text of all of them.
//! Not responsible for: what there is to observe (`catalogue`), or serving the text (`api`).
//!
//! Every instrument is read when somebody asks for the text, so a metric costs nothing in between.
//! Gauges are observed as sums that go up and down: OpenTelemetry goes on showing the last value
//! of a gauge's labels for ever, and a partition that went to another process has to go from here.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::model::PipelineName;
use crate::telemetry::{Declared, Instruments, Kind};

/// What counters end in; the exporter adds it.
const TOTAL: &str = "_total";
/// The label that all metrics of a pipeline have.
const PIPELINE: &str = "pipeline";
/// The service and the meter.
const SERVICE: &str = "tidemill";

/// Why there are no metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The exporter cannot be set up.
    #[error("metrics cannot be set up: {0}")]
    Setup(String),
    /// The metrics cannot be written as text.
    #[error("metrics cannot be written: {0}")]
    Text(String),
}

/// The metrics of one pipeline.
pub struct Metrics {
    registry: Registry,
    meter: Meter,
    /// Keeps the instruments; the meter alone does not.
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Metrics of a pipeline, with everything that its instruments count.
    ///
    /// # Errors
    /// [`MetricsError::Setup`].
    pub fn new(
        pipeline: &PipelineName,
        instruments: Arc<Instruments>,
    ) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_units()
            .with_resource_selector(HashSet::from([Key::from(PIPELINE)]))
            .build()
            .map_err(|error| MetricsError::Setup(error.to_string()))?;
        let resource = Resource::builder_empty()
            .with_service_name(SERVICE)
            .with_attribute(KeyValue::new(PIPELINE, pipeline.to_string()))
            .build();
        let provider =
            SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build();
        let metrics = Self { registry, meter: provider.meter(SERVICE), provider };
        for plain in Instruments::PLAIN {
            let instruments = instruments.clone();
            metrics.observe(&plain.declared, move |samples| {
                samples.put(&[], (plain.read)(&instruments) as f64);
            });
        }
        Ok(metrics)
    }

    /// Reads an instrument with `read` whenever somebody asks for the text. It must not wait.
    pub fn observe(
        &self,
        declared: &'static Declared,
        read: impl Fn(&Samples<'_>) + Send + Sync + 'static,
    ) {
        let callback = move |instrument: &dyn AsyncInstrument<f64>| {
            read(&Samples { labels: declared.labels, instrument });
        };
        match declared.kind {
            Kind::Counter => {
                let name = declared.name.strip_suffix(TOTAL).unwrap_or(declared.name);
                let counter = self.meter.f64_observable_counter(name);
                counter.with_description(declared.meaning).with_callback(callback).build();
            }
            Kind::Gauge => {
                let gauge = self.meter.f64_observable_up_down_counter(declared.name);
                gauge.with_description(declared.meaning).with_callback(callback).build();
            }
        }
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// [`MetricsError::Text`].
    pub fn text(&self) -> Result<String, MetricsError> {
        let families = self.registry.gather();
        let text = TextEncoder::new().encode_to_string(&families);
        text.map_err(|error| MetricsError::Text(error.to_string()))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // Done already is fine: there is nothing left to read either way.
        let _ = self.provider.shutdown();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Takes what an instrument reads at one moment.
pub struct Samples<'a> {
    labels: &'static [&'static str],
    instrument: &'a dyn AsyncInstrument<f64>,
}

impl Samples<'_> {
    /// Puts a value under labels, in the order in which they are declared.
    pub fn put(&self, labels: &[&str], value: f64) {
        let named = self.labels.iter().zip(labels);
        let pairs: Vec<KeyValue> =
            named.map(|(name, value)| KeyValue::new(*name, (*value).to_owned())).collect();
        self.instrument.observe(value, &pairs);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::telemetry::catalogue::{LABELLED, LAG_SECONDS, MESSAGES_PROCESSED};

    fn metrics(instruments: &Arc<Instruments>) -> Metrics {
        Metrics::new(&PipelineName::from("sales"), instruments.clone()).unwrap()
    }

    fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines().filter(|line| line.contains(name)).collect()
    }

    #[test]
    fn the_text_has_name_kind_meaning_and_value_as_they_are_declared() {
        let instruments = Arc::new(Instruments::default());
        let metrics = metrics(&instruments);
        instruments.records_in.add(3);
        instruments.assigned.set(2);
        let _away = instruments.unavailable.enter("fetch", "refused");
        let text = metrics.text().unwrap();
        assert_eq!(
            lines(&text, "tidemill_records_in_total"),
            [
                "# HELP tidemill_records_in_total Records taken from sources.",
                "# TYPE tidemill_records_in_total counter",
                "tidemill_records_in_total{pipeline=\"sales\"} 3",
            ]
        );
        assert_eq!(
            lines(&text, "tidemill_nodes_unavailable"),
            [
                "# HELP tidemill_nodes_unavailable Nodes whose dependency is away at the moment.",
                "# TYPE tidemill_nodes_unavailable gauge",
                "tidemill_nodes_unavailable{pipeline=\"sales\"} 1",
            ]
        );
        assert!(text.contains("target_info{pipeline=\"sales\",service_name=\"tidemill\"} 1"));
        assert!(!text.contains("otel_scope"), "{text}");
        instruments.records_in.add(4);
        let text = metrics.text().unwrap();
        assert!(text.contains("tidemill_records_in_total{pipeline=\"sales\"} 7\n"), "{text}");
    }

    #[test]
    fn every_declared_instrument_is_exported_under_its_very_name() {
        let metrics = metrics(&Arc::default());
        for declared in LABELLED {
            metrics.observe(declared, |samples| samples.put(&["a", "b"], 0.5));
        }
        let text = metrics.text().unwrap();
        let plain = Instruments::PLAIN.iter().map(|plain| &plain.declared);
        for declared in plain.chain(LABELLED) {
            let kind = if declared.kind == Kind::Counter { "counter" } else { "gauge" };
            let line = format!("# TYPE {} {kind}\n", declared.name);
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }

    #[test]
    fn labels_come_and_go_with_what_is_observed() {
        let metrics = metrics(&Arc::default());
        let partitions = Arc::new(Mutex::new(vec!["0", "1"]));
        let read = partitions.clone();
        metrics.observe(&LAG_SECONDS, move |samples| {
            for number in read.lock().unwrap().iter().copied() {
                samples.put(&["orders", number], 1.5);
            }
        });
        let read = partitions.clone();
        metrics.observe(&MESSAGES_PROCESSED, move |samples| {
            for number in read.lock().unwrap().iter().copied() {
                samples.put(&["orders", number], 2.0);
            }
        });
        let shown = |metrics: &Metrics| {
            let text = metrics.text().unwrap();
            let of = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
            (of("kafka_consumer_lag_seconds{"), of("kafka_consumer_messages_processed_total{"))
        };
        assert_eq!(shown(&metrics), (2, 2));
        let text = metrics.text().unwrap();
        let line =
            "kafka_consumer_lag_seconds{partition=\"1\",topic=\"orders\",pipeline=\"sales\"} 1.5";
        assert!(text.contains(line), "{text}");
        partitions.lock().unwrap().pop();
        assert_eq!(shown(&metrics), (1, 1));
    }
}
