//! The ticks: collected when they are due, kept while they wait, then claimed or skipped.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    ActiveRun, Claim, Effect, Effects, JobMachine, Mode, Start, Timer,
    asked::TickAsked,
    backlog::{Missed, Waiting, announce},
    permit::Claimant,
};
use crate::{
    core::{
        contract::Breach,
        misfire::Due,
        policy::{CATCH_UP_PACE, Misfire, Overlap},
        time::{FireTime, Now},
    },
    event::CancelReason,
    name::RunId,
    port::{Authority, SkipReason, Skips, TickClaim},
};

/// What is to be done with a tick that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Start,
    Skip(SkipReason),
    /// Until something happens: the end of a run, the end of a pause.
    Wait,
    /// Until this reading.
    WaitUntil(Duration),
    /// Until it is its turn to be made up for.
    WaitForTurn,
    /// Until the node has a permit for it.
    WaitForPermit,
    /// Until the runs in progress have ended, which are asked to.
    Replace,
}

impl JobMachine {
    pub(super) fn decide_due(&mut self, now: Now, effects: &mut Effects) {
        let decided = match self.mode {
            _ if self.closing.leaving.is_some() => self.go_on_leaving(now, effects),
            Mode::Dormant => return,
            Mode::Parked { authority: Authority::Term(term), .. } if now.term != Some(term) => {
                return self.suspend();
            }
            Mode::Parked { since, .. } => self.skip_parked(now, since, effects),
            Mode::Firing(_) if !self.asked.is_nothing() => return self.keep_permit_request(now),
            Mode::Firing(Some(Authority::Term(term))) if now.term != Some(term) => {
                // Doubt is "not leader". Whoever restores the trust resumes the job from its cursor.
                return self.suspend();
            }
            Mode::Firing(authority) => self.decide_by_schedule(now, authority, effects),
        };
        if let Err(breach) = decided {
            // Nothing that it answers can be trusted. Whoever has mended it resumes the job from its cursor.
            self.suspend();
            effects.push(Effect::Broken(breach));
        }
    }

    fn decide_by_schedule(
        &mut self,
        now: Now,
        authority: Option<Authority>,
        effects: &mut Effects,
    ) -> Result<(), Breach> {
        self.refresh_next()?;
        self.timers.take_due(Timer::ClaimLater, now.elapsed);
        self.end_pause(now, effects)?;
        self.skip_held_too_long(now, effects);
        self.skip_waited_too_long(now, effects);
        // Most steps find nothing due.
        let due = if self.cursor.has_due(now) { self.collect(now, effects)? } else { None };
        self.turn.gap_is_over();
        self.drain_backlog(now, authority, due, effects);
        if self.cursor.next.is_none() && self.backlog.is_empty() && self.asked.is_nothing() {
            self.follow_completion()?;
        }
        self.flush(now, authority, effects);
        Ok(())
    }

    /// While the store moves the cursor, what waits does not lose its turn for one of the node's permits.
    pub(super) fn keep_permit_request(&mut self, now: Now) {
        let first = self.backlog.front().map(|waiting| self.may_start(now, waiting));
        if self.asked.advance().is_none() {
            return;
        }
        match first {
            Some(May::Start | May::WaitForPermit) => self.permit.keep_request(),
            Some(May::WaitForTurn) => self.turn.want(),
            Some(May::Skip(_) | May::Wait | May::WaitUntil(_) | May::Replace) | None => {}
        }
    }

    /// A schedule that counts from the end of runs goes on from a tick that was skipped, too.
    pub(super) fn follow_completion(&mut self) -> Result<(), Breach> {
        if self.schedule.counts_from_completion() {
            self.cursor.next = self.following(self.cursor.taken_in)?;
        }
        Ok(())
    }

    /// Takes in the ticks that are due. Answers the one that may run at once; others go to the backlog.
    pub(super) fn collect(&mut self, now: Now, effects: &mut Effects) -> Result<Option<Waiting>, Breach> {
        if !self.cursor.spans.is_empty() {
            self.pass_spans(now, effects)?;
        }
        self.collect_until(now, now.wall, effects)
    }

    /// As `collect`, of the ticks up to and including an instant.
    pub(super) fn collect_until(
        &mut self,
        now: Now,
        until: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<Option<Waiting>, Breach> {
        let Some(next) = self.cursor.due_by(until) else { return Ok(None) };
        let misfire = self.policies.misfire;
        let due = if self.schedule.counts_from_completion() {
            let admits = |tick: FireTime, following| {
                tick.lateness(now.wall) <= misfire.window(tick, following).max(self.policies.misfire_after)
            };
            Due::first_admitted(&*self.schedule, next, until, admits)?
        } else {
            let keep = match misfire {
                Misfire::All { max, .. } => usize::try_from(max).unwrap_or(usize::MAX),
                Misfire::Auto | Misfire::Latest { .. } | Misfire::Skip => 1,
            };
            Due::collect(&*self.schedule, next, until, keep)?
        };
        self.cursor.next = due.following;
        let mut missed = None;
        if let Some(newest) = due.newest_older {
            let (count, at_least) = (due.older, due.at_least);
            let older = Missed { first: next, newest, count, at_least };
            match self.pause.current {
                Some(_) => self.skip_arriving(now, older, SkipReason::Paused, effects),
                None if self.overlaps() => self.skip_arriving(now, older, SkipReason::Overlap, effects),
                None => {
                    self.cursor.taken_in = newest.instant();
                    self.backlog.skip_after_all(&Skips::new(SkipReason::Misfire, count, at_least));
                    missed = Some(older);
                }
            }
        }
        if let ([tick], true) = (&due.newest[..], self.backlog.is_empty()) {
            let window = self.window(*tick, due.following);
            return Ok(self.admit(now, *tick, window, missed, effects));
        }
        for (nth, tick) in due.newest.iter().enumerate() {
            let window = self.window(*tick, due.newest.get(nth + 1).copied().or(due.following));
            if let Some(waiting) = self.admit(now, *tick, window, missed.take(), effects) {
                self.backlog.push_back(waiting);
                self.drop_beyond_the_bound(now, effects);
            }
        }
        Ok(None)
    }

    /// The greatest lateness at which a tick may run.
    fn window(&self, tick: FireTime, following: Option<FireTime>) -> Duration {
        self.policies.misfire.window(tick, following).max(self.policies.misfire_after)
    }

    /// One due tick: answers it if it may run, now or later.
    pub(super) fn admit(
        &mut self,
        now: Now,
        tick: FireTime,
        window: Duration,
        missed: Option<Missed>,
        effects: &mut Effects,
    ) -> Option<Waiting> {
        let admitted = tick.lateness(now.wall) <= window;
        let reason = match self.pause.current {
            Some(_) if !admitted => Some(SkipReason::Paused),
            Some(_) if self.policies.misfire == Misfire::Skip && !self.checks_pause(now) => {
                Some(SkipReason::Paused)
            }
            Some(_) => None,
            None if self.backlog.is_empty() && self.overlaps() => Some(SkipReason::Overlap),
            None if !admitted => Some(SkipReason::Misfire),
            None => None,
        };
        if self.pause.is_on() && reason.is_some() {
            // Nor do the older ones that wait.
            while let Some(oldest) = self.backlog.pop_front() {
                self.skip_waiting(now, oldest, SkipReason::Paused, effects);
            }
        }
        if let Some(reason) = reason {
            // Said together if it is the same.
            let (first, count, at_least) = match missed {
                Some(Missed { first, count, at_least, .. }) if reason == SkipReason::Misfire => {
                    (first, count, at_least)
                }
                Some(_) | None => {
                    announce(missed, effects);
                    (tick, 0, false)
                }
            };
            self.cursor.taken_in = tick.instant();
            self.backlog.skip_after_all(&Skips::new(reason, 1, false));
            effects.push(Effect::Skipped { first, newest: tick, reason, count: count + 1, at_least });
            self.skipped(now, effects);
            return None;
        }
        let (skips, skipped_to) = self.backlog.take_last_skips(self.cursor.taken_in);
        self.cursor.taken_in = tick.instant();
        let turn = self.turn_of(now, tick);
        Some(Waiting { tick, skips, skipped_to, missed, window, contended: false, turn })
    }

    /// The tick is not on time.
    pub(super) fn is_late(&self, now: Now, tick: FireTime) -> bool {
        tick.lateness(now.wall) > self.policies.misfire_after
    }

    /// The runs in progress keep a tick from running, and it does not wait for them.
    pub(super) fn overlaps(&self) -> bool {
        match self.policies.overlap {
            // It waits behind what is made up for.
            _ if self.catches_up() => false,
            Overlap::Skip => !self.runs.active.is_empty(),
            Overlap::Allow(_) => !self.runs.active.is_empty() && self.free_slot(0).is_none(),
            Overlap::Queue(_) | Overlap::Replace => false,
        }
    }

    /// A run of [`Misfire::All`] that makes up for a missed tick is in progress.
    pub(super) fn catches_up(&self) -> bool {
        let late = |run: &ActiveRun| {
            run.tick.is_some_and(|tick| tick.lateness(run.started_at) > self.policies.misfire_after)
        };
        matches!(self.policies.misfire, Misfire::All { .. }) && self.active_runs().any(late)
    }

    /// How many ticks may wait.
    pub(super) fn room(&self) -> usize {
        let queue = match self.policies.overlap {
            Overlap::Queue(max) => max,
            Overlap::Skip | Overlap::Replace | Overlap::Allow(_) => 1,
        };
        let missed = match self.policies.misfire {
            Misfire::All { max, .. } => max,
            Misfire::Auto | Misfire::Latest { .. } | Misfire::Skip => 1,
        };
        usize::try_from(queue.max(missed)).unwrap_or(usize::MAX)
    }

    /// What is to be done with the tick that waits first.
    pub(super) fn may_start(&self, now: Now, waiting: &Waiting) -> May {
        let still_to_come = |timer| self.timers.still_to_come(timer, now.elapsed);
        let late = self.is_late(now, waiting.tick);
        // A tick asks whether the pause is over only where it would run at once if it is.
        if self.pause.is_on() && !(self.checks_pause(now) && self.runs.active.is_empty()) {
            return still_to_come(Timer::CheckPause).map_or(May::Wait, May::WaitUntil);
        }
        let pace = if late { still_to_come(Timer::Pace) } else { None };
        if let Some(at) = still_to_come(Timer::ClaimLater).into_iter().chain(pace).max() {
            return May::WaitUntil(at);
        }
        if !self.runs.active.is_empty() {
            let catches_up =
                self.catches_up() || (late && matches!(self.policies.misfire, Misfire::All { .. }));
            match self.policies.overlap {
                _ if catches_up || self.schedule.counts_from_completion() => return May::Wait,
                Overlap::Skip => return May::Skip(SkipReason::Overlap),
                Overlap::Queue(_) => return May::Wait,
                Overlap::Replace if !waiting.turn.is_to_come() => return May::Replace,
                Overlap::Replace => {}
                Overlap::Allow(_) if self.free_slot(0).is_none() => {
                    return May::Skip(SkipReason::Overlap);
                }
                Overlap::Allow(_) => {}
            }
        }
        if waiting.turn.is_to_come() {
            return May::WaitForTurn;
        }
        if self.permit.allows() { May::Start } else { May::WaitForPermit }
    }

    /// Decides what waits, the oldest first, as far as that is possible now.
    pub(super) fn drain_backlog(
        &mut self,
        now: Now,
        authority: Option<Authority>,
        mut first: Option<Waiting>,
        effects: &mut Effects,
    ) {
        while let Some(waiting) = first.take().or_else(|| self.backlog.pop_front()) {
            let run = match self.may_start(now, &waiting) {
                May::Start => {
                    // It is wanted, in this step or in the next one.
                    self.permit.want_for(waiting.turn);
                    self.runs.spend_id(now)
                }
                May::Skip(reason) => {
                    self.skip_waiting(now, waiting, reason, effects);
                    continue;
                }
                May::WaitForPermit => {
                    self.permit.want_for(waiting.turn);
                    None
                }
                May::WaitForTurn => {
                    if let Some(following) = self.waits_for_no_turn() {
                        following.follow_missed(waiting);
                        continue;
                    }
                    self.turn.want();
                    None
                }
                May::Replace => {
                    self.cancel_all(now, CancelReason::Replaced, effects);
                    if self.runs.active.is_empty() {
                        // None had a body whose end is to be waited for: nothing else would wake the job up.
                        first = Some(waiting);
                        continue;
                    }
                    None
                }
                May::Wait | May::WaitUntil(_) => None,
            };
            let Some(run) = run else {
                self.backlog.push_front(waiting);
                return;
            };
            self.claim(now, run, waiting, authority, effects);
            if !self.asked.is_nothing() {
                break;
            }
        }
        self.backlog.shrink_if_empty();
    }

    /// The tick is to run.
    pub(super) fn claim(
        &mut self,
        now: Now,
        run: RunId,
        waiting: Waiting,
        authority: Option<Authority>,
        effects: &mut Effects,
    ) {
        let slot = self.free_slot(0).unwrap_or_default();
        let late_by = waiting.tick.lateness(now.wall);
        if self.is_late(now, waiting.tick) {
            self.timers.set(Timer::Pace, now.elapsed + CATCH_UP_PACE);
        }
        let Some(authority) = authority else {
            self.cursor.stored = waiting.tick.instant();
            announce(waiting.missed, effects);
            effects.push(Effect::Count { started: 1, skips: waiting.skips });
            self.count_towards_limit();
            self.start(now, Start { tick: Some(waiting.tick), slot, ..Start::new(run) }, effects);
            return;
        };
        let claim = TickClaim {
            fire_time: waiting.tick,
            expected: self.cursor.stored,
            skips: waiting.skips,
            authority,
        };
        self.permit.pledge(Claimant::Tick);
        let ends_pause = self.pause.is_on();
        let (only_rechecks, doubtful) = (false, false);
        self.asked.ask_claim(TickAsked {
            run,
            claim,
            waiting,
            slot,
            late_by,
            only_rechecks,
            doubtful,
            ends_pause,
        });
        effects.push(Effect::Claim(self.claim_of(run, claim, slot, waiting.window)));
    }

    /// It is unknown whether this run was granted.
    pub(super) fn is_asked_for(&self, run: RunId) -> bool {
        self.asked.claim().is_some_and(|asked| asked.run == run)
    }

    pub(super) fn claim_of(&self, run: RunId, tick: TickClaim, slot: u32, window: Duration) -> Claim {
        let replace = self.policies.overlap == Overlap::Replace;
        Claim { tick: Some(tick), slot, replace, window, ..Claim::new(run) }
    }

    /// A job without claims counts for itself.
    pub(super) fn count_towards_limit(&mut self) {
        self.runs.started_without_claim += 1;
        if self.local_limit_is_reached() {
            self.exhaust();
        }
    }

    pub(super) fn local_limit_is_reached(&self) -> bool {
        self.policies.limit.is_some_and(|limit| self.runs.started_without_claim >= limit)
    }

    /// No tick runs any more.
    pub(super) fn exhaust(&mut self) {
        self.cursor.exhausted = true;
        self.adopt(self.cursor.stored);
    }
}
