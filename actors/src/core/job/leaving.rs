//! What is due when a job is removed on the leader, or gets another schedule: nobody would decide it. It is
//! skipped, with the ticks that were skipped before and of which the store does not know yet; then the store
//! is told that the job is removed, or has changed.
//!
//! ```text
//! ticks        1 2 3   4 5
//! this node    1 · · R 4 5     at R the job is removed and added anew: 2 and 3 are due, and skipped as removed
//! ```
//!
//! A tick that is being claimed at that moment runs if it is granted. What is due after R, and before the job
//! was added anew, is owed by nobody.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    Effect, Effects, JobMachine, Mode,
    backlog::{Missed, Waiting, announce},
};
use crate::{
    core::{
        contract::{Breach, next_after},
        misfire::Due,
        time::{FireTime, Now},
    },
    port::{Authority, Schedule, SkipReason, Skips},
};

/// What this node is still to account for. Nothing of it is said while the store is asked something else,
/// whose answer may be that somebody else decides.
#[derive(Debug)]
pub(super) struct Leaving {
    authority: Authority,
    /// What waited, the oldest first.
    waiting: VecDeque<Waiting>,
    /// What became due after that. It is taken out before the schedule is asked, which may panic.
    due: Option<NotCollected>,
    /// What was skipped before, and said to be, besides what the ticks that waited bring along.
    skips: Skips,
    /// The newest of these.
    skipped_to: Option<FireTime>,
}

/// The ticks after an instant, up to and including another one.
#[derive(Debug)]
struct NotCollected {
    schedule: Arc<dyn Schedule>,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl JobMachine {
    /// The job is removed here, or goes by another schedule from now on.
    pub(super) fn on_leave(&mut self, now: Now, is_removed: bool) {
        let authority = match self.mode {
            // Whoever else holds the job goes on without this node, but a leader takes it from all.
            Mode::Firing(Some(authority)) if authority.term().is_some() || !is_removed => authority,
            Mode::Firing(_) | Mode::Dormant | Mode::Parked { .. } => return,
        };
        if authority.term().is_some_and(|term| now.term != Some(term)) || self.closing.leaving.is_some() {
            return;
        }
        let (skips, skipped_to) = self.backlog.take_last_skips(self.cursor.taken_in);
        let waiting = self.backlog.take_waiting();
        let due = self.may_follow().then(|| NotCollected {
            schedule: self.schedule.clone(),
            after: self.cursor.taken_in,
            until: now.wall,
        });
        self.closing.leaving = Some(Box::new(Leaving { authority, waiting, due, skips, skipped_to }));
        self.suspend();
    }

    /// Nothing is left for which this node accounts.
    pub(crate) fn has_left(&self) -> bool {
        self.closing.leaving.is_none() && self.asked.advance().is_none()
    }

    /// The claim of a tick came to nothing, and nobody is to decide the tick any more.
    pub(super) fn leave_tick(&mut self, waiting: &Waiting) {
        if let Some(leaving) = &mut self.closing.leaving {
            leaving.waiting.push_front(*waiting);
        }
    }

    /// The claim of a tick was granted: what counts from the end of its run is not due.
    pub(super) fn leave_run(&mut self) {
        if let Some(leaving) = &mut self.closing.leaving {
            leaving.due.take_if(|due| due.schedule.counts_from_completion());
        }
    }

    /// There is something to say, and nothing to wait for.
    pub(super) fn can_leave(&self) -> bool {
        self.closing.leaving.is_some() && self.asked.is_nothing()
    }

    /// Says what is skipped, and has the store move the cursor over all of it, once it has answered what it
    /// was asked before.
    pub(super) fn go_on_leaving(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        let Some(leaving) = &mut self.closing.leaving else { return Ok(()) };
        if leaving.authority.term().is_some_and(|term| now.term != Some(term)) {
            // Whoever leads decides all of it.
            self.closing.leaving = None;
            return Ok(());
        }
        if !self.asked.is_nothing() {
            return Ok(());
        }
        let due = leaving.due.take().map_or(Ok(None), NotCollected::collect)?;
        let Some(mut leaving) = self.closing.leaving.take() else { return Ok(()) };
        for waiting in std::mem::take(&mut leaving.waiting) {
            announce(waiting.missed, effects);
            leaving.skips.extend(&waiting.skips);
            let tick = waiting.tick;
            leaving.skip(Missed { first: tick, newest: tick, count: 1, at_least: false }, effects);
        }
        if let Some(due) = due {
            leaving.skip(due, effects);
        }
        if let Some(to) = leaving.skipped_to.filter(|to| to.instant() > self.cursor.stored) {
            self.advance(now, to, leaving.skips, leaving.authority, effects);
        }
        Ok(())
    }
}

impl NotCollected {
    /// The ticks that are due, if any is.
    fn collect(self) -> Result<Option<Missed>, Breach> {
        let Self { schedule, after, until } = self;
        let Some(first) = next_after(&*schedule, after)?.filter(|first| first.instant() <= until) else {
            return Ok(None);
        };
        // Of one that counts from the end of runs, nobody knows the newest tick without those before it.
        let due = if schedule.counts_from_completion() {
            Due::first_admitted(&*schedule, first, until, |_, _| false)?
        } else {
            Due::collect(&*schedule, first, until, 1)?
        };
        let newest = due.newest.last().copied().unwrap_or(first);
        Ok(Some(Missed { first, newest, count: due.older + 1, at_least: due.at_least }))
    }
}

impl Leaving {
    fn skip(&mut self, ticks: Missed, effects: &mut Effects) {
        let Missed { first, newest, count, at_least } = ticks;
        let reason = SkipReason::Removed;
        effects.push(Effect::Skipped { first, newest, reason, count, at_least });
        self.skips.extend(&Skips::new(reason, count, at_least));
        self.skipped_to = self.skipped_to.max(Some(newest));
    }
}
