//! A clock that follows the paused time of tokio.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::port::Clock;

/// A wall clock that starts at a given instant and moves with tokio's time, plus a skew that can be changed: the wall
/// clock then steps, the monotonic one does not.
#[derive(Clone)]
pub struct VirtualClock {
    start: DateTime<Utc>,
    origin: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl VirtualClock {
    /// A clock that reads `start` now. Must be made inside the runtime whose time it follows.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self { start, origin: Instant::now(), skew_ms: Arc::default() }
    }

    /// A clock of its own skew that reads the same now, but for the skew.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { skew_ms: Arc::default(), ..self.clone() }
    }

    /// Makes the wall clock read this much more (or less) than the true time, from now on.
    pub fn set_skew(&self, skew: TimeDelta) {
        self.skew_ms.store(skew.num_milliseconds(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        let true_now = self.start + self.origin.elapsed();
        true_now + TimeDelta::milliseconds(self.skew_ms.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock").field("start", &self.start).finish_non_exhaustive()
    }
}
