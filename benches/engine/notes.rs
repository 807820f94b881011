//! What the bodies note.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    case::{Case, Kind},
    instruments::{Lateness, late_micros},
};

/// How many instants a burst is repeated at; the first one warms up.
pub(crate) const BURSTS: usize = 4;

pub(crate) static NOTEBOOK: OnceLock<Notebook> = OnceLock::new();

pub(crate) struct Notebook {
    start: DateTime<Utc>,
    period: Duration,
    pub(crate) lateness: Lateness,
    pub(crate) bursts: Option<[Burst; BURSTS]>,
}

#[derive(Default)]
pub(crate) struct Burst {
    pub(crate) started: AtomicU64,
    pub(crate) latest_micros: AtomicU64,
}

impl Notebook {
    pub(crate) fn new(start: DateTime<Utc>, case: &Case) -> Self {
        let from = start + case.period.min(Duration::from_secs(1)) + Duration::from_millis(300);
        Self {
            start,
            period: case.period,
            lateness: Lateness::new(from, from + case.window),
            bursts: (case.kind == Kind::Burst).then(Default::default),
        }
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
        notebook.lateness.note(fire_time, late);
    }
}
