//! How many ticks were skipped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::{Counter, CounterFn, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A recorder that knows only how many ticks were skipped, so that recording costs next to nothing.
pub(crate) struct SkipCounter;

static MISFIRE: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static OVERLAP: AtomicCounter = AtomicCounter(AtomicU64::new(0));

struct AtomicCounter(AtomicU64);

impl SkipCounter {
    /// Misfires and overlaps so far.
    pub(crate) fn read() -> [u64; 2] {
        [MISFIRE.0.load(Relaxed), OVERLAP.0.load(Relaxed)]
    }
}

impl CounterFn for &AtomicCounter {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

impl Recorder for SkipCounter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let outcome = key.labels().find(|label| label.key() == "outcome").map(|label| label.value());
        match (key.name(), outcome) {
            ("callsheet_ticks_total", Some("misfire")) => Counter::from_arc(Arc::new(&MISFIRE)),
            ("callsheet_ticks_total", Some("overlap")) => Counter::from_arc(Arc::new(&OVERLAP)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
