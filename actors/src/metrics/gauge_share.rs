//! A gauge to which several add.

use metrics::Gauge;

/// How much one job, or backfill, adds to a gauge; nothing once it is dropped.
pub(crate) struct GaugeShare {
    gauge: Gauge,
    count: usize,
}

impl GaugeShare {
    /// Zero at first.
    pub(super) fn of(gauge: Gauge) -> Self {
        Self { gauge, count: 0 }
    }

    pub(crate) fn set(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.count, count);
        if count != before {
            self.gauge.increment(count as f64 - before as f64);
        }
    }
}

impl Drop for GaugeShare {
    fn drop(&mut self) {
        self.set(0);
    }
}
