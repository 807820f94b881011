//! A job that begins deciding its ticks, or stops deciding them: from which cursor it goes on.

use chrono::{DateTime, Utc};

use super::{Effects, JobMachine, Mode, Timer, skipped_spans::SkippedSpans};
use crate::{
    core::{
        contract::{Breach, next_after},
        time::{FireTime, Now},
    },
    port::{Authority, StoredState},
};

impl JobMachine {
    pub(super) fn on_resume(
        &mut self,
        now: Now,
        cursor: DateTime<Utc>,
        authority: Option<Authority>,
        stored: StoredState,
        effects: &mut Effects,
    ) {
        // Others may have taken up what was pending meanwhile.
        self.cursor.all_ended = None;
        // An answer of the store may have been under way when the job was told to drain.
        if !self.closing.draining {
            self.mode = Mode::Firing(authority);
            self.turn.on_gap();
            if authority.is_some() {
                let StoredState { pause, failures, pending_retries, unproven_to } = stored;
                self.pause.set_stored(pause);
                self.pause_is_newer_than_claim();
                self.check_pause_later(now);
                self.runs.history.hear_failures(now.elapsed, failures);
                self.replace_pending_retries(pending_retries);
                self.cursor.see(cursor);
                self.cursor.spans.set_unproven(cursor, unproven_to);
            } else {
                // There is no store to tell.
                self.cursor.spans = SkippedSpans::default();
            }
            // Nobody but this machine keeps the cursor of a local job, and its clock may have been set back.
            let kept_here = if authority.is_none() { self.cursor.stored } else { cursor };
            // The cursor says it; if the end of a run is about to move it, the claim is told.
            self.cursor.anchoring = false;
            self.start_over(cursor.max(kept_here));
        }
        if self.timers.is_set(Timer::AskAgain) {
            // The store answers again: find out now what became of the question.
            self.timers.set(Timer::AskAgain, now.elapsed);
            self.ask_again(now, effects);
        }
    }

    pub(super) fn suspend(&mut self) {
        self.mode = Mode::Dormant;
        self.timers.stop(Timer::ClaimLater);
        // The cursor that it is resumed from says so, now or when it has moved.
        self.cursor.anchoring = false;
        // Skips that are not written yet are decided again by whoever resumes from the stored cursor.
        self.start_over(self.cursor.stored);
    }

    /// Starts over from a cursor, at once or when the open question is answered.
    pub(super) fn start_over(&mut self, cursor: DateTime<Utc>) {
        if self.asked.is_nothing() {
            self.cursor.adopt(cursor);
        } else {
            self.cursor.adopt_later(cursor);
        }
        self.forget_what_waits();
    }

    /// The open question is answered: whatever was put off until then is decided now.
    pub(super) fn on_answered(&mut self) {
        if self.asked.is_nothing() && (self.mode == Mode::Dormant || self.cursor.restart_from.is_some()) {
            self.adopt(self.cursor.stored);
        }
    }

    /// Starts over from a cursor that the store named.
    pub(super) fn adopt(&mut self, cursor: DateTime<Utc>) {
        self.cursor.adopt(cursor);
        self.forget_what_waits();
    }

    /// What waits, and what is skipped but not written, is decided again from the cursor on.
    fn forget_what_waits(&mut self) {
        self.backlog.clear();
        self.timers.stop(Timer::Flush);
    }

    /// Asks the schedule where to go on from.
    pub(super) fn refresh_next(&mut self) -> Result<(), Breach> {
        if self.cursor.next_is_stale {
            self.cursor.next = self.following(self.cursor.taken_in)?;
            self.cursor.next_is_stale = false;
        }
        Ok(())
    }

    /// The first tick after `instant`, if one may follow.
    pub(super) fn following(&self, instant: DateTime<Utc>) -> Result<Option<FireTime>, Breach> {
        if self.may_follow() { next_after(&*self.schedule, instant) } else { Ok(None) }
    }

    /// The schedule knows which tick follows: as many have not run as may, and it does not count from the end
    /// of a run in progress.
    pub(super) fn may_follow(&self) -> bool {
        let is_open = !self.runs.active.is_empty() || self.cursor.anchoring;
        let must_end = is_open && self.schedule.counts_from_completion();
        !(self.cursor.exhausted || must_end)
    }
}
