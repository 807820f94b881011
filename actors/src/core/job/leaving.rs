//! What is due when a job is removed on the leader, or gets another schedule: nobody would decide it. It is skipped, with the
//! ticks that were skipped before and of which the store does not know yet; then the store is told that the job is
//! removed, or has changed.
//!
//! ```text
//! ticks        1 2 3   4 5
//! this node    1 · · R 4 5     at R the job is removed and added anew: 2 and 3 are due, and skipped as removed
//! ```
//!
//! A tick that is being claimed at that moment runs if it is granted. What is due after R, and before the job was added anew, is
//! owed by nobody.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Advance, Effect, Effects, JobMachine, Mode,
    ticks::{AdvanceAsked, Asked, Waiting, announce},
};
use crate::{
    core::{
        contract::{Breach, next_after},
        misfire::Due,
        time::{FireTime, Now},
    },
    port::{Authority, Schedule, SkipReason, Skips},
};

/// What this node is still to account for.
#[derive(Debug)]
pub(super) struct Leaving {
    authority: Authority,
    /// What is not collected yet. It is taken out before the schedule is asked, which may panic.
    due: Option<NotCollected>,
    skips: Skips,
    /// The newest of these.
    to: Option<FireTime>,
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
    pub(super) fn on_leave(&mut self, now: Now, is_removed: bool, effects: &mut Effects) {
        let authority = match self.mode {
            // Whoever else holds the job goes on without this node, but a leader takes it from all.
            Mode::Firing(Some(authority)) if authority.term().is_some() || !is_removed => authority,
            Mode::Firing(_) | Mode::Dormant | Mode::Parked { .. } => return,
        };
        if authority.term().is_some_and(|term| now.term != Some(term)) || self.leaving.is_some() {
            return;
        }
        let due =
            Some(NotCollected { schedule: self.schedule.clone(), after: self.decided, until: now.wall });
        let mut leaving = Box::new(Leaving { authority, due, skips: Skips::default(), to: None });
        for waiting in std::mem::take(&mut self.backlog) {
            leaving.take(&waiting, effects);
        }
        if self.skips.total() > 0 {
            leaving.skips.extend(&std::mem::take(&mut self.skips));
            leaving.to = Some(FireTime::new(self.decided));
        }
        self.leaving = Some(leaving);
        self.suspend();
    }

    /// Nothing is left for which this node accounts.
    pub fn has_left(&self) -> bool {
        self.leaving.is_none() && !matches!(self.asked, Asked::Advance(_))
    }

    /// The claim of a tick came to nothing, and nobody is to decide the tick any more.
    pub(super) fn leave_tick(&mut self, waiting: &Waiting, effects: &mut Effects) {
        if let Some(leaving) = &mut self.leaving {
            leaving.take(waiting, effects);
        }
    }

    /// Has the store move the cursor over all of it, once it has answered what it was asked before.
    pub(super) fn go_on_leaving(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        let Some(leaving) = &mut self.leaving else { return Ok(()) };
        if leaving.authority.term().is_some_and(|term| now.term != Some(term)) {
            // Whoever leads decides all of it.
            self.leaving = None;
            return Ok(());
        }
        leaving.collect(effects)?;
        if !matches!(self.asked, Asked::Nothing) {
            return Ok(());
        }
        let (skips, authority) = (leaving.skips, leaving.authority);
        let to = leaving.to.filter(|to| to.instant() > self.stored);
        self.leaving = None;
        if let Some(to) = to {
            let advance = Advance { expected: self.stored, to, skips, authority };
            self.asked = Asked::Advance(Box::new(AdvanceAsked { advance, again_at: None }));
            effects.push(Effect::Advance(advance));
        }
        Ok(())
    }
}

impl Leaving {
    /// A tick that waited, with those that were skipped before it.
    fn take(&mut self, waiting: &Waiting, effects: &mut Effects) {
        announce(waiting.missed, effects);
        self.skips.extend(&waiting.skips);
        self.skip(waiting.tick, 1, false, effects);
    }

    fn collect(&mut self, effects: &mut Effects) -> Result<(), Breach> {
        let Some(NotCollected { schedule, after, until }) = self.due.take() else { return Ok(()) };
        let Some(first) = next_after(&*schedule, after)?.filter(|first| first.instant() <= until) else {
            return Ok(());
        };
        // Of one that counts from the end of runs, nobody knows the newest tick without those before it.
        let due = if schedule.counts_from_completion() {
            Due::first_admitted(&*schedule, first, until, |_, _| false)?
        } else {
            Due::collect(&*schedule, first, until, 1)?
        };
        let newest = due.newest.last().copied().unwrap_or(first);
        self.skip(newest, due.older + 1, due.at_least, effects);
        Ok(())
    }

    fn skip(&mut self, newest: FireTime, count: u64, at_least: bool, effects: &mut Effects) {
        let reason = SkipReason::Removed;
        effects.push(Effect::Skipped { newest, reason, count, at_least });
        self.skips.extend(&Skips::new(reason, count, at_least));
        self.to = self.to.max(Some(newest));
    }
}
