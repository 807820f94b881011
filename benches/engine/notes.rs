//! What the bodies note.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    case::{Case, Kind},
    instruments::{Lateness, late_micros},
};

/// How many instants a burst is repeated at; the first one warms up.
pub(crate) const BURSTS: usize = 4;

/// A body that starts later than this is not on time.
pub(crate) const ON_TIME_MICROS: u64 = 25_000;

/// So long after the last one that was late, the load is forgotten.
const ON_TIME_FOR_MICROS: i64 = 1_000_000;

pub(crate) static NOTEBOOK: OnceLock<Notebook> = OnceLock::new();

pub(crate) struct Notebook {
    start: DateTime<Utc>,
    period: Duration,
    pub(crate) lateness: Lateness,
    /// When the last body started that was not on time, in microseconds since the epoch.
    pub(crate) last_late_micros: AtomicI64,
    pub(crate) bursts: Option<[Burst; BURSTS]>,
}

#[derive(Default)]
pub(crate) struct Burst {
    pub(crate) started: AtomicU64,
    pub(crate) latest_micros: AtomicU64,
}

impl Notebook {
    pub(crate) fn new(start: DateTime<Utc>, case: &Case) -> Self {
        let from = Self::window_opens(case, start);
        Self {
            start,
            period: case.period,
            lateness: Lateness::new(from, from + case.window),
            last_late_micros: AtomicI64::new(0),
            bursts: (case.kind == Kind::Burst).then(Default::default),
        }
    }

    /// A body started late. Once all were on time for a second after the load, it is no longer the load's.
    fn note_late(&self, started: DateTime<Utc>) {
        let on_time_since = self.last_late_micros.load(Relaxed).max(self.lateness.until.timestamp_micros());
        if started.timestamp_micros() - on_time_since < ON_TIME_FOR_MICROS {
            self.last_late_micros.fetch_max(started.timestamp_micros(), Relaxed);
        }
    }

    /// When starts count from on: every job has fired once by then, or some for a while.
    pub(crate) fn window_opens(case: &Case, start: DateTime<Utc>) -> DateTime<Utc> {
        start + case.period.min(Duration::from_secs(1)) + Duration::from_millis(300)
    }
}

/// Notes that the body of the tick at `fire_time` has started.
pub(crate) fn note(fire_time: DateTime<Utc>) {
    let notebook = NOTEBOOK.get().expect("invariant: set before any job is added");
    let late = late_micros(fire_time);
    if let Some(bursts) = &notebook.bursts {
        let nth = (fire_time - notebook.start).num_milliseconds() / notebook.period.as_millis() as i64;
        if let Some(burst) = usize::try_from(nth).ok().and_then(|nth| bursts.get(nth)) {
            burst.started.fetch_add(1, Relaxed);
            burst.latest_micros.fetch_max(late, Relaxed);
        }
    } else {
        // By its start: what comes late counts when it comes.
        let started = fire_time + TimeDelta::microseconds(late.try_into().unwrap_or(i64::MAX));
        notebook.lateness.note(started, late);
        if late > ON_TIME_MICROS {
            notebook.note_late(started);
        }
    }
}
