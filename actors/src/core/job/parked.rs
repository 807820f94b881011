//! What a job does that the store refuses for its data: it skips its ticks, and asks the store nothing.
//!
//! Such ticks are counted when they are skipped. The store's cursor moves over them once it takes the job again:
//!
//! ```text
//! ticks        1 2 3 4 5 6 7
//! the store    1 ✗ · · · 6 7      ✗ refuses the claim of 2; takes the job again before 6
//! this node    1 2 3 4 5 6 7      2 to 5 are skipped as parked; the claim of 6 starts at 1
//! ```
//!
//! What was due before this node came to decide the ticks of a parked job is counted by nobody here. Once the store takes the job
//! again, such ticks are missed as any others.

use chrono::{DateTime, Utc};

use super::{Effect, Effects, JobMachine, Mode, Refusal, ticks::Asked};
use crate::{
    core::{
        contract::Breach,
        job::FLUSH_AFTER,
        misfire::Due,
        time::{FireTime, Now},
    },
    port::{Authority, SkipReason, Skips},
};

/// How many spans of skipped ticks a job remembers. Those of the oldest are decided anew if there are more.
const SPANS_MAX: usize = 8;

/// The ticks after an instant, up to and including another, were skipped as parked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    after: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Span {
    fn contains(&self, tick: FireTime) -> bool {
        self.after < tick.instant() && tick.instant() <= self.to
    }
}

impl JobMachine {
    /// Unless this node has fired the job until now, what was due before `since` is not for it to skip.
    pub(super) fn on_park(&mut self, since: DateTime<Utc>, authority: Authority) {
        let since = match self.mode {
            _ if self.draining => return,
            Mode::Parked { authority: former, .. } if former == authority => return,
            Mode::Firing(_) => self.stored,
            Mode::Dormant | Mode::Parked { .. } => since,
        };
        self.mode = Mode::Parked { authority, since };
        self.hold_until = None;
        self.forget_pending_retries();
        self.start_over(self.stored);
    }

    /// The store refuses what was asked of it last, alone.
    pub(super) fn on_bad_data(&mut self, reason: &str, effects: &mut Effects) {
        // Under another definition it may be taken: whoever resumes the job decides.
        if self.decides_on() {
            if let Mode::Firing(Some(authority)) = self.mode {
                self.mode = Mode::Parked { authority, since: self.stored };
            }
            self.hold_until = None;
            self.forget_pending_retries();
            let reason = reason.into();
            self.refuse_callers(&Refusal::Parked { reason }, effects);
        }
        self.start_over(self.stored);
    }

    /// Skips every tick that is due, from the first one after `since`.
    pub(super) fn skip_parked(
        &mut self,
        now: Now,
        since: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<(), Breach> {
        if !matches!(self.asked, Asked::Nothing) {
            return Ok(());
        }
        self.go_on_after(since);
        loop {
            self.read_schedule()?;
            if self.next.is_none() {
                self.follow_completion()?;
            }
            let Some(first) = self.next.filter(|next| next.instant() <= now.wall) else { return Ok(()) };
            if let Some(span) = self.parked.iter().find(|span| span.contains(first)) {
                // The store may not know yet, but it was said and counted.
                self.go_on_after(span.to);
                continue;
            }
            let until = self.parked.iter().map(|span| span.after).find(|after| first.instant() <= *after);
            let after = self.decided;
            let (newest, skips) =
                self.skip_up_to(first, until.map_or(now.wall, |until| until.min(now.wall)))?;
            self.remember_parked(after, newest.instant());
            let (reason, count, at_least) = (SkipReason::Parked, skips.total(), skips.at_least);
            effects.push(Effect::Skipped { newest, reason, count, at_least });
            effects.push(Effect::Count { started: 0, skips });
        }
    }

    /// What was skipped while the store refused the job is not decided again, but the store is to hear of it. What is due before
    /// is decided as any tick.
    pub(super) fn pass_parked(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        let stored = self.stored;
        self.parked.list_mut().retain(|span| span.to > stored);
        let parked = self.parked.to_vec();
        for span in parked {
            if span.after >= now.wall {
                break;
            }
            if let Some(waiting) = self.collect_until(now, span.after, effects)? {
                self.backlog.push_back(waiting);
                self.drop_beyond_the_bound(now, effects);
            }
            if let Some(first) = self.next.filter(|next| next.instant() <= span.to) {
                let (_, skips) = self.skip_up_to(first, span.to)?;
                self.skips.extend(&skips);
                self.flush_at.get_or_insert(now.elapsed + FLUSH_AFTER);
            }
        }
        Ok(())
    }

    fn go_on_after(&mut self, instant: DateTime<Utc>) {
        if instant > self.decided {
            self.decided = instant;
            self.unread = true;
        }
    }

    /// Ticks were skipped from the first one after an instant.
    fn remember_parked(&mut self, after: DateTime<Utc>, to: DateTime<Utc>) {
        let parked = self.parked.list_mut();
        if let Some(before) = parked.iter_mut().find(|span| span.to == after) {
            before.to = to;
            return;
        }
        if parked.len() >= SPANS_MAX {
            parked.remove(0);
        }
        let place = parked.partition_point(|span| span.after < after);
        parked.insert(place, Span { after, to });
    }

    /// Takes the ticks from the `first` one that is undecided. Answers the newest of them, and their number.
    fn skip_up_to(&mut self, first: FireTime, until: DateTime<Utc>) -> Result<(FireTime, Skips), Breach> {
        let schedule = &*self.schedule;
        // Of one that counts from the end of runs, nobody knows the newest tick without those before it.
        let due = if schedule.counts_from_completion() {
            Due::first_admitted(schedule, first, until, |_, _| false)?
        } else {
            Due::collect(schedule, first, until, 1)?
        };
        let newest = due.newest.last().copied().unwrap_or(first);
        self.decided = newest.instant();
        self.next = due.following;
        Ok((newest, Skips::new(SkipReason::Parked, due.older + 1, due.at_least)))
    }
}
