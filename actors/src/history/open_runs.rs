//! The runs in progress whose bodies did not end at once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::recorder::Outlet;
use crate::{
    core::reported::Reported,
    name::NodeId,
    port::{RunOrigin, RunRecord},
    run::{Origin, Run},
};

/// Runs in progress, each in a place of its own.
#[derive(Default)]
pub(super) struct OpenRuns {
    places: Vec<Option<Open>>,
    free: Vec<u32>,
}

struct Open {
    run: Run,
    started_at: DateTime<Utc>,
    /// How often it was looked at: it is recorded once it has lasted from one look to the next.
    seen: u8,
}

/// Which runs in progress are to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that last longer than from one look to the next, once.
    Long,
    /// All, since somebody asks.
    All,
}

impl OpenRuns {
    pub(super) fn add(&mut self, run: Run, started_at: DateTime<Utc>) -> u32 {
        let open = Some(Open { run, started_at, seen: 0 });
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = open;
                place
            }
            None => {
                self.places.push(open);
                (self.places.len() - 1) as u32
            }
        }
    }

    /// What was there is to be dropped once nothing is locked: it may be the last of its run.
    fn remove(&mut self, place: u32) -> Option<Open> {
        let open = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        if self.free.len() == self.places.len() {
            // A burst of them leaves no room behind.
            *self = Self::default();
        }
        Some(open)
    }

    /// Whether one of them may still have to be recorded.
    pub(super) fn looks_again(&self) -> bool {
        self.places.iter().flatten().any(|open| open.seen < 2)
    }

    pub(super) fn look(&mut self, which: Which, node: NodeId, to: &mut Vec<RunRecord>) {
        for open in self.places.iter_mut().flatten() {
            open.seen = open.seen.saturating_add(1);
            if which == Which::All || open.seen == 2 {
                to.push(open.record(node));
            }
        }
    }
}

impl Open {
    fn record(&self, node: NodeId) -> RunRecord {
        let Self { run, started_at, .. } = self;
        let (key, slot) = run.lock_key().parts();
        let (origin, fire_time) = match run.origin() {
            Origin::Tick(tick) => (RunOrigin::Tick, Some(*tick)),
            Origin::Trigger { by, fire_time } => (RunOrigin::Trigger { by: by.clone() }, *fire_time),
        };
        let lateness = match run.origin() {
            Origin::Tick(tick) => tick.lateness(*started_at),
            Origin::Trigger { .. } => Duration::ZERO,
        };
        let Reported { report, measures, progress, .. } = run.reported();
        RunRecord {
            report,
            measures,
            progress,
            origin,
            key,
            slot,
            term: run.term(),
            token: run.token(),
            fire_time,
            started_at: Some(*started_at),
            lateness,
            attempt: run.attempt(),
            ..RunRecord::new(run.job().clone(), run.id(), node)
        }
    }
}

/// A run that is in progress for as long as this is there.
pub(crate) struct OpenRun {
    pub(super) outlet: Arc<Outlet>,
    pub(super) shard: usize,
    pub(super) place: u32,
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        let open = self.outlet.shards[self.shard].lock().open.remove(self.place);
        drop(open);
    }
}
