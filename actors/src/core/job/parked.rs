//! What a job does that the store refuses for its data: it skips its ticks, and asks the store nothing.
//!
//! Such ticks are counted when they are skipped. The store's cursor moves over them once it takes the job again:
//!
//! ```text
//! ticks        1 2 3 4 5 6 7
//! the store    1 ✗ · · · 6 7      ✗ refuses the claim of 2; takes the job again before 6
//! this node    1 2 3 4 5 6 7      2 to 5 are skipped as parked; the claim of 6 starts at 1
//! ```

use chrono::{DateTime, Utc};

use super::{Effect, Effects, JobMachine, Mode, Refusal, ticks::Asked};
use crate::{
    core::{
        contract::Breach,
        job::FLUSH_AFTER,
        misfire::Due,
        time::{FireTime, Now},
    },
    port::{SkipReason, Skips},
};

impl JobMachine {
    /// Unless this node has fired the job until now: whoever decided its ticks up to `since` has accounted for them.
    pub(super) fn on_park(&mut self, since: DateTime<Utc>) {
        match self.mode {
            _ if self.draining => return,
            Mode::Parked => return,
            Mode::Firing(_) => {}
            Mode::Dormant => self.parked_to = self.parked_to.max(Some(FireTime::new(since))),
        }
        self.mode = Mode::Parked;
        self.hold_until = None;
        self.forget_debts();
        self.start_over(self.stored);
    }

    /// The store refuses what was asked of it last, alone.
    pub(super) fn on_bad_data(&mut self, reason: &str, effects: &mut Effects) {
        // Under another definition it may be taken: whoever resumes the job decides.
        if self.decides_on() {
            self.mode = Mode::Parked;
            self.hold_until = None;
            self.forget_debts();
            let reason = reason.into();
            self.refuse_callers(&Refusal::Parked { reason }, effects);
        }
        self.start_over(self.stored);
    }

    /// Skips every tick that is due.
    pub(super) fn skip_parked(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        if !matches!(self.asked, Asked::Nothing) {
            return Ok(());
        }
        // The store may not know of those that were skipped before.
        if let Some(to) = self.parked_to.map(FireTime::instant).filter(|to| *to > self.decided) {
            self.decided = to;
            self.unread = true;
        }
        self.read_schedule()?;
        if self.next.is_none() {
            self.follow_completion()?;
        }
        let Some(first) = self.next.filter(|next| next.instant() <= now.wall) else { return Ok(()) };
        let (newest, skips) = self.skip_up_to(first, now.wall)?;
        self.parked_to = Some(newest);
        let (reason, count, at_least) = (SkipReason::Parked, skips.total(), skips.at_least);
        effects.push(Effect::Skipped { newest, reason, count, at_least });
        effects.push(Effect::Count { started: 0, skips });
        Ok(())
    }

    /// What was skipped while the store refused the job is not decided again, but the store is to hear of it.
    pub(super) fn pass_parked(&mut self, now: Now) -> Result<(), Breach> {
        let Some(to) = self.parked_to else { return Ok(()) };
        if self.stored >= to.instant() {
            self.parked_to = None;
            return Ok(());
        }
        if let Some(first) = self.next.filter(|next| *next <= to) {
            let (_, skips) = self.skip_up_to(first, to.instant())?;
            self.skips.extend(&skips);
            self.flush_at.get_or_insert(now.elapsed + FLUSH_AFTER);
        }
        Ok(())
    }

    /// Takes the ticks from the `first` one that is undecided. Answers the newest of them, and their number.
    fn skip_up_to(&mut self, first: FireTime, until: DateTime<Utc>) -> Result<(FireTime, Skips), Breach> {
        let due = Due::collect(&*self.schedule, first, until, 1)?;
        let newest = due.newest.last().copied().unwrap_or(first);
        self.decided = newest.instant();
        self.next = due.following;
        Ok((newest, Skips::new(SkipReason::Parked, due.older + 1, due.at_least)))
    }
}
