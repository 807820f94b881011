//! Counting what is not written, and recording that it is not.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::Counter;

use super::pending::COUNTED_FOR;
use crate::{
    core::text::Grouped,
    name::NodeId,
    port::{Decision, DecisionRecord},
};

/// Records that were not written: counted, said once a minute, and recorded in their turn.
pub(super) struct Dropped {
    counter: Counter,
    pub(super) counted: AtomicU64,
    /// How many of them were said before.
    said: AtomicU64,
    /// When it was said last, in seconds of the monotonic clock, plus one; 0: never.
    said_at: AtomicU64,
    unrecorded: Mutex<Unrecorded>,
}

/// Those of which it is not recorded yet that they were dropped.
#[derive(Default)]
struct Unrecorded {
    span: Option<Span>,
    /// The instant of the last record of this kind: no two have the same.
    recorded_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy)]
struct Span {
    count: u64,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// When the first was dropped, by the monotonic clock.
    since: Duration,
}

/// How often it is said.
const SAID_EVERY: Duration = Duration::from_mins(1);

impl Dropped {
    pub(super) fn new(counter: Counter) -> Self {
        // Zero from the first scrape on.
        counter.increment(0);
        Self {
            counter,
            counted: AtomicU64::new(0),
            said: AtomicU64::new(0),
            said_at: AtomicU64::new(0),
            unrecorded: Mutex::default(),
        }
    }

    /// So many were dropped, which were made in a time.
    pub(super) fn add(&self, count: u64, (from, to): (DateTime<Utc>, DateTime<Utc>), now: Duration) {
        {
            let mut unrecorded = self.unrecorded();
            let span = unrecorded.span.get_or_insert(Span { count: 0, from, to, since: now });
            span.count = span.count.saturating_add(count);
            (span.from, span.to) = (span.from.min(from), span.to.max(to));
        }
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

    /// What is to be recorded of it: once a minute, or at once if `all` is asked for.
    pub(super) fn record(&self, node: NodeId, now: Duration, all: bool) -> Option<DecisionRecord> {
        let mut unrecorded = self.unrecorded();
        let is_due = |span: &mut Span| all || now.saturating_sub(span.since) >= COUNTED_FOR;
        let Span { count, from, to, .. } = unrecorded.span.take_if(is_due)?;
        let later = unrecorded.recorded_at.map(|last| last + TimeDelta::microseconds(1));
        let at = later.map_or(to, |later| later.max(to));
        unrecorded.recorded_at = Some(at);
        let decision = Decision::RecordsDropped { count, from, to };
        Some(DecisionRecord::new(None, at, node, decision))
    }

    /// After which time there is something to be recorded, if there will be.
    pub(super) fn next_look(&self, now: Duration) -> Option<Duration> {
        let span = self.unrecorded().span?;
        Some((span.since + COUNTED_FOR).saturating_sub(now))
    }

    fn unrecorded(&self) -> MutexGuard<'_, Unrecorded> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
