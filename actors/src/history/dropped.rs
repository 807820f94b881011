//! Counting what is not written.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metrics::Counter;

use crate::core::text::Grouped;

/// Records that were not written: counted, and said once a minute.
pub(super) struct Dropped {
    counter: Counter,
    pub(super) counted: AtomicU64,
    /// How many of them were said before.
    said: AtomicU64,
    /// When it was said last, in seconds of the monotonic clock, plus one; 0: never.
    said_at: AtomicU64,
}

/// How often it is said.
const SAID_EVERY: Duration = Duration::from_mins(1);

impl Dropped {
    pub(super) fn new(counter: Counter) -> Self {
        // Zero from the first scrape on.
        counter.increment(0);
        Self { counter, counted: AtomicU64::new(0), said: AtomicU64::new(0), said_at: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, count: u64, now: Duration) {
        self.counter.increment(count);
        let counted = self.counted.fetch_add(count, Ordering::Relaxed) + count;
        let (said_at, now) = (self.said_at.load(Ordering::Relaxed), now.as_secs() + 1);
        let is_due = said_at == 0 || now >= said_at + SAID_EVERY.as_secs();
        let is_first =
            || self.said_at.compare_exchange(said_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due && is_first() {
            let count = Grouped(counted.saturating_sub(self.said.swap(counted, Ordering::Relaxed)));
            tracing::warn!(
                target: "callsheet",
                "{count} records of history were dropped: the history does not keep up, or does not answer; jobs go on"
            );
        }
    }
}
