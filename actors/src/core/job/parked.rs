//! What a job does that the store refuses for its data: it skips its ticks, and asks the store nothing.
//!
//! Such ticks are counted when they are skipped. The store's cursor moves over them once it takes the job
//! again:
//!
//! ```text
//! ticks        1 2 3 4 5 6 7
//! the store    1 ✗ · · · 6 7      ✗ refuses the claim of 2; takes the job again before 6
//! this node    1 2 3 4 5 6 7      2 to 5 are skipped as parked; the claim of 6 starts at 1
//! ```
//!
//! What was due before this node came to decide the ticks of a parked job is counted by nobody here. Once the
//! store takes the job again, such ticks are missed as any others.

use chrono::{DateTime, Utc};

use super::{Effect, Effects, JobMachine, Mode, Refusal, Timer};
use crate::{
    core::{
        contract::Breach,
        misfire::Due,
        time::{FireTime, Now},
    },
    port::{Authority, SkipReason, Skips},
};

impl JobMachine {
    /// Unless this node has fired the job until now, what was due before `since` is not for it to skip.
    pub(super) fn on_park(&mut self, since: DateTime<Utc>, authority: Authority) {
        let since = match self.mode {
            _ if self.closing.draining => return,
            Mode::Parked { authority: former, .. } if former == authority => return,
            Mode::Firing(_) => self.cursor.stored,
            Mode::Dormant | Mode::Parked { .. } => since,
        };
        self.mode = Mode::Parked { authority, since };
        self.timers.stop(Timer::ClaimLater);
        self.forget_pending_retries();
        self.start_over(self.cursor.stored);
    }

    /// The store refuses what was asked of it last, alone.
    pub(super) fn on_bad_data(&mut self, reason: &str, effects: &mut Effects) {
        // Under another definition it may be taken: whoever resumes the job decides.
        if self.decides_on() {
            if let Mode::Firing(Some(authority)) = self.mode {
                self.mode = Mode::Parked { authority, since: self.cursor.stored };
            }
            self.timers.stop(Timer::ClaimLater);
            self.forget_pending_retries();
            let reason = reason.into();
            self.refuse_callers(&Refusal::Parked { reason }, effects);
        }
        self.start_over(self.cursor.stored);
    }

    /// Skips every tick that is due, from the first one after `since`.
    pub(super) fn skip_parked(
        &mut self,
        now: Now,
        since: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<(), Breach> {
        if !self.asked.is_nothing() {
            return Ok(());
        }
        self.cursor.go_on_after(since);
        loop {
            self.refresh_next()?;
            if self.cursor.next.is_none() {
                self.follow_completion()?;
            }
            let Some(first) = self.cursor.due_by(now.wall) else { return Ok(()) };
            if let Some(span) = self.cursor.spans.parked_with(first) {
                // The store may not know yet, but it was said and counted.
                self.cursor.go_on_after(span.to);
                continue;
            }
            let until = self.cursor.spans.parked_after(first);
            let after = self.cursor.taken_in;
            let (newest, skips) =
                self.skip_up_to(first, until.map_or(now.wall, |until| until.min(now.wall)))?;
            self.cursor.spans.add_parked(after, newest.instant());
            let (reason, count, at_least) = (SkipReason::Parked, skips.total(), skips.at_least);
            effects.push(Effect::Skipped { first, newest, reason, count, at_least });
            effects.push(Effect::Count { started: 0, skips });
        }
    }

    /// Takes the ticks from the `first` one that is undecided. Answers the newest of them, and their number.
    pub(super) fn skip_up_to(
        &mut self,
        first: FireTime,
        until: DateTime<Utc>,
    ) -> Result<(FireTime, Skips), Breach> {
        let schedule = &*self.schedule;
        // Of one that counts from the end of runs, nobody knows the newest tick without those before it.
        let due = if schedule.counts_from_completion() {
            Due::first_admitted(schedule, first, until, |_, _| false)?
        } else {
            Due::collect(schedule, first, until, 1)?
        };
        let newest = due.newest.last().copied().unwrap_or(first);
        self.cursor.taken_in = newest.instant();
        self.cursor.next = due.following;
        Ok((newest, Skips::new(SkipReason::Parked, due.older + 1, due.at_least)))
    }
}
