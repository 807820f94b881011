//! How the clocks of this node stand to that of the store.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{
        clock::{ClockWatch, clock_origin},
        duration::DurationText,
    },
    port::Clock,
};

/// How far the node's clocks are from the store's.
///
/// The store's time is told from the monotonic clock, so that it is right when somebody sets the wall clock.
///
/// It has two writers, both by [`Node::measure_store_clock`](crate::node::Node::measure_store_clock): the lock
/// actor after each round trip, and the election actor before it campaigns and while it leads. Each writes
/// what the session measured last, so that it does not matter who writes later.
#[derive(Debug)]
pub(crate) struct ClockOffset {
    /// Milliseconds that the wall clock is ahead.
    ahead: AtomicI64,
    /// What the store's clock read when the monotonic one read zero: microseconds since the Unix epoch.
    origin: AtomicI64,
    watch: Mutex<ClockWatch>,
    /// Further off than this, the node must not lead.
    max: Duration,
    warned: AtomicBool,
}

/// Further off than this, a clock is worth a warning.
const CLOCK_OFFSET_WARN: TimeDelta = TimeDelta::seconds(1);

impl ClockOffset {
    /// As long as nothing is measured, the store's clock is taken to read what the wall clock reads.
    pub(crate) fn new(max: Duration, clock: &dyn Clock) -> Self {
        let (wall, elapsed) = clock.read();
        Self {
            ahead: AtomicI64::new(0),
            origin: AtomicI64::new(clock_origin(wall, elapsed).timestamp_micros()),
            watch: Mutex::new(ClockWatch::new(wall, elapsed)),
            max,
            warned: AtomicBool::new(false),
        }
    }

    fn ahead(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.ahead.load(Ordering::Relaxed))
    }

    /// What the store's clock read when the monotonic one read this.
    pub(crate) fn store_time(&self, elapsed: Duration) -> DateTime<Utc> {
        let origin = self.origin.load(Ordering::Relaxed);
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        DateTime::from_timestamp_micros(origin.saturating_add(elapsed)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Whether the store's clock has moved against the monotonic one.
    pub(super) fn set(&self, ahead: TimeDelta, wall: DateTime<Utc>, elapsed: Duration) -> bool {
        let store = wall.checked_sub_signed(ahead).unwrap_or(wall);
        self.origin.store(clock_origin(store, elapsed).timestamp_micros(), Ordering::Relaxed);
        self.ahead.store(ahead.num_milliseconds(), Ordering::Relaxed);
        let far = ahead.abs() > CLOCK_OFFSET_WARN;
        if self.warned.swap(far, Ordering::Relaxed) != far && far {
            tracing::warn!(target: "callsheet", offset = %in_words(ahead), "this node's clock differs from the store's");
        }
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).look(store, elapsed).is_some()
    }

    /// Why the node must not lead, if its clock is too far off.
    pub(crate) fn refusal(&self) -> Option<String> {
        let ahead = self.ahead();
        let (offset, max) = (in_words(ahead), self.max);
        (ahead.abs().to_std().unwrap_or_default() > max).then(|| {
            let max = DurationText(max);
            format!("this node's clock is {offset} the store's, by more than {max}; synchronise the clocks")
        })
    }
}

fn in_words(ahead: TimeDelta) -> String {
    let off = DurationText(ahead.abs().to_std().unwrap_or_default());
    if ahead < TimeDelta::zero() { format!("{off} behind") } else { format!("{off} ahead of") }
}

/// How often a clock was seen to move, so that a reader can tell later whether it still is what it
/// was.
#[derive(Debug, Default)]
pub(crate) struct ClockMoves(AtomicU32);

impl ClockMoves {
    /// Counts one more. Whoever reads a clock from now on reads what it was set to.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn counted(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
