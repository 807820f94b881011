//! What became of the ticks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::{Counter, CounterFn, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A recorder that knows only how many ticks were decided, so that recording costs next to nothing.
pub(crate) struct TickCounter;

/// How many ticks were decided, by what became of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ticks {
    pub(crate) started: u64,
    pub(crate) misfire: u64,
    pub(crate) overlap: u64,
    /// Skipped for any other reason.
    pub(crate) other: u64,
}

static STARTED: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static MISFIRE: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static OVERLAP: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static OTHER: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static DROPPED: AtomicCounter = AtomicCounter(AtomicU64::new(0));

struct AtomicCounter(AtomicU64);

impl TickCounter {
    /// How many records of the history were dropped so far.
    pub(crate) fn dropped() -> u64 {
        DROPPED.0.load(Relaxed)
    }

    /// What was decided so far.
    pub(crate) fn read() -> Ticks {
        let read = |counter: &AtomicCounter| counter.0.load(Relaxed);
        Ticks {
            started: read(&STARTED),
            misfire: read(&MISFIRE),
            overlap: read(&OVERLAP),
            other: read(&OTHER),
        }
    }
}

impl Ticks {
    pub(crate) fn all(self) -> u64 {
        let Self { started, misfire, overlap, other } = self;
        started + misfire + overlap + other
    }

    /// What was decided after `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            started: self.started - earlier.started,
            misfire: self.misfire - earlier.misfire,
            overlap: self.overlap - earlier.overlap,
            other: self.other - earlier.other,
        }
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

impl Recorder for TickCounter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "callsheet_ticks_total" => {}
            "callsheet_history_dropped_total" => return Counter::from_arc(Arc::new(&DROPPED)),
            _ => return Counter::noop(),
        }
        let outcome = key.labels().find(|label| label.key() == "outcome").map(|label| label.value());
        Counter::from_arc(Arc::new(match outcome {
            Some("started") => &STARTED,
            Some("misfire") => &MISFIRE,
            Some("overlap") => &OVERLAP,
            _ => &OTHER,
        }))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
