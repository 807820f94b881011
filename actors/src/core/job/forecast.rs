//! The ticks that are to come: what may be said of them ahead.

use chrono::{DateTime, Utc};

use super::JobMachine;
use crate::core::{
    contract::{Breach, next_after},
    policy::Fires,
    time::FireTime,
};

/// Where another node goes on with a job that this node gives away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenAway {
    /// With this tick.
    Tick(FireTime),
    /// With the first tick after this instant: the schedule is still to be asked for it.
    After(DateTime<Utc>),
}

impl JobMachine {
    /// The next fire time, whichever node fires the job, at `wall` by the clock that decides its ticks;
    /// `None` if there is none. Asks the schedule if this node does not decide the ticks.
    ///
    /// # Errors
    ///
    /// [`Breach`] if the schedule breaks its contract.
    pub(crate) fn next_of_any_node(&self, wall: DateTime<Utc>) -> Result<Option<FireTime>, Breach> {
        let next = match self.next_fire_time() {
            Some(next) => Some(next),
            None => next_after(&*self.schedule, wall.max(self.cursor()))?,
        };
        Ok(next.filter(|_| !self.is_exhausted()))
    }

    /// The next fire times, at most so many. Only one is known of a job whose ticks count from the end of its
    /// runs.
    pub(crate) fn upcoming(&self, wall: DateTime<Utc>, count: usize) -> Vec<FireTime> {
        let count = if self.schedule.counts_from_completion() { count.min(1) } else { count };
        // What a schedule that breaks its contract answers is no fire time.
        let first = if count == 0 { None } else { self.next_of_any_node(wall).ok().flatten() };
        let following = |last: &FireTime| next_after(&*self.schedule, last.instant()).ok()?;
        std::iter::successors(first, following).take(count).collect()
    }

    /// Where another node goes on if this one, which fires the job, stops to; `None` if none does, or if what
    /// follows is known only at the end of a run.
    pub(crate) fn given_away(&self) -> Option<GivenAway> {
        if self.policies.fires == Fires::Local || self.is_exhausted() {
            return None;
        }
        let tick = self.next_fire_time().map(GivenAway::Tick);
        tick.or_else(|| self.left_after().map(GivenAway::After))
    }

    /// The tick with which another node goes on.
    pub(crate) fn tick_given_away(&self, given: GivenAway) -> Option<FireTime> {
        match given {
            GivenAway::Tick(tick) => Some(tick),
            GivenAway::After(instant) => next_after(&*self.schedule, instant).ok()?,
        }
    }
}
