//! The runs in progress whose bodies did not end at once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{recorder::Outlet, writer::FLUSH_EVERY};
use crate::{
    core::reported::{PROGRESS_PACE, Reported},
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
    recorded: Option<Recorded>,
}

/// What was recorded last of a run in progress.
struct Recorded {
    /// When, by the monotonic clock.
    at: Duration,
    /// How often it had said something by then.
    said: u32,
}

/// How often it is recorded again that a run is in progress, with what it has said by then. A history takes
/// for unknown what was not recorded for [`OPEN_RUN_STALE`](crate::port::OPEN_RUN_STALE).
pub(super) const REFRESH_EVERY: Duration = Duration::from_mins(1);

/// Which runs in progress are to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that last longer than from one look to the next, and then once each [`REFRESH_EVERY`]; those that
    /// have said something since at most once each [`PROGRESS_PACE`].
    Long,
    /// Also those that are new or have said something since, since somebody asks.
    All,
}

impl OpenRuns {
    pub(super) fn add(&mut self, run: Run, started_at: DateTime<Utc>) -> u32 {
        let open = Some(Open { run, started_at, seen: 0, recorded: None });
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

    /// After which time they are to be looked at again, if there are any.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let looks = self.places.iter().flatten().map(|open| match open.recorded {
            None => FLUSH_EVERY,
            Some(_) => REFRESH_EVERY,
        });
        looks.min()
    }

    /// Looks at them at the monotonic reading `now`. Answers whether one has said something that is to be
    /// recorded later.
    pub(super) fn look(
        &mut self,
        which: Which,
        now: Duration,
        node: NodeId,
        to: &mut Vec<RunRecord>,
    ) -> bool {
        let mut has_news = false;
        for open in self.places.iter_mut().flatten() {
            open.seen = open.seen.saturating_add(1);
            let is_asked_for = which == Which::All;
            let said = open.run.said();
            let is_due = match &open.recorded {
                None => is_asked_for || open.seen >= 2,
                Some(recorded) => {
                    let age = now.saturating_sub(recorded.at);
                    let is_new = said != recorded.said;
                    let is_due = is_new && (is_asked_for || age >= PROGRESS_PACE);
                    has_news |= is_new && !is_due;
                    is_due || age >= REFRESH_EVERY
                }
            };
            if is_due {
                to.push(open.record(node, open.run.reported()));
                open.recorded = Some(Recorded { at: now, said });
            }
        }
        has_news
    }
}

impl Open {
    fn record(&self, node: NodeId, said: Reported) -> RunRecord {
        let Self { run, started_at, .. } = self;
        let (key, slot) = run.lock_key().parts();
        let (origin, fire_time) = match run.origin() {
            Origin::Tick(tick) => (RunOrigin::Tick, Some(*tick)),
            Origin::Trigger { by, fire_time, .. } => {
                let own_arguments = run.id().has_own_arguments();
                (RunOrigin::Trigger { by: by.clone(), own_arguments }, *fire_time)
            }
            Origin::Backfill { backfill, fire_time, by } => {
                (RunOrigin::Backfill { backfill: *backfill, by: by.clone() }, Some(*fire_time))
            }
        };
        let lateness = match run.origin() {
            Origin::Tick(tick) => tick.lateness(*started_at),
            Origin::Trigger { .. } | Origin::Backfill { .. } => Duration::ZERO,
        };
        let Reported { report, measures, progress, .. } = said;
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
