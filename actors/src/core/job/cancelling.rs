//! Runs in progress that are to stop: they are asked to, and are dropped if they do not.

use std::time::Duration;

use super::{BodyEnd, BodyEnded, Effect, Effects, JobMachine, Refusal};
use crate::{core::time::Now, event::CancelReason, name::RunId};

impl JobMachine {
    /// Cancels and aborts what is over its time.
    pub(super) fn check_time(&mut self, now: Now, effects: &mut Effects) {
        let over = |at: Option<Duration>| at.is_some_and(|at| at <= now.elapsed);
        for at in (0..self.runs.active.len()).rev() {
            let (run, deadline) = (self.runs.active[at].run, self.runs.active[at].deadline);
            if over(deadline) {
                self.cancel(run, now, CancelReason::TimedOut, effects);
            }
            if self.runs.active.get(at).is_some_and(|active| active.run == run && over(active.abort_at)) {
                self.abort(now, run, effects);
            }
        }
    }

    pub(super) fn on_lock_lost(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        if let Some(active) = self.runs.active.iter_mut().find(|active| active.run == run) {
            active.lost = true;
            self.cancel(run, now, CancelReason::LockLost, effects);
        }
    }

    pub(super) fn on_cancel(
        &mut self,
        now: Now,
        run: Option<RunId>,
        why: CancelReason,
        effects: &mut Effects,
    ) {
        self.closing.cancelled_by_shutdown |= why == CancelReason::Shutdown;
        match run {
            Some(run) => {
                if why == CancelReason::Requested {
                    self.drop_unscheduled(run, effects);
                }
                self.cancel(run, now, why, effects);
            }
            None => {
                self.drop_pending_retries();
                self.drop_triggers(&Refusal::Cancelled, effects);
                self.cancel_all(now, why, effects);
            }
        }
    }

    /// Asks all runs to stop.
    pub(super) fn cancel_all(&mut self, now: Now, why: CancelReason, effects: &mut Effects) {
        let runs: Vec<_> = self.runs.active.iter().map(|run| run.run).collect();
        for run in runs {
            self.cancel(run, now, why, effects);
        }
    }

    /// Asks a run to stop. It is aborted `abort_after` later, unless the engine shuts down: that keeps a
    /// clock of its own for all runs of the node.
    pub(super) fn cancel(&mut self, run: RunId, now: Now, why: CancelReason, effects: &mut Effects) {
        let abort_after = self.policies.abort_after;
        let Some(run) = self.runs.active.iter_mut().find(|active| active.run == run) else { return };
        run.deadline = None;
        // Of an attempt that is over its time already, too.
        run.last_attempt |= why != CancelReason::TimedOut;
        if why != CancelReason::Shutdown && !run.aborted {
            run.abort_at.get_or_insert(now.elapsed.saturating_add(abort_after));
        }
        if run.cancelled.is_none() {
            run.cancelled = Some(why);
            effects.push(Effect::Cancel { run: run.run, why });
        }
        if run.retry_at.is_some() {
            let run = run.run;
            self.end_between_attempts(now, run, effects);
        }
    }

    /// Between two attempts there is no body whose end could be waited for.
    fn end_between_attempts(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        let Some(at) = self.runs.active.iter().position(|active| active.run == run) else { return };
        let end = BodyEnded { run, end: BodyEnd::BetweenAttempts, started_at: None, took: Duration::ZERO };
        self.conclude(now, at, end, effects);
    }

    pub(super) fn abort_all(&mut self, now: Now, effects: &mut Effects) {
        let runs: Vec<_> = self.runs.active.iter().map(|run| run.run).collect();
        for run in runs {
            self.abort(now, run, effects);
        }
    }

    fn abort(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        let Some(active) = self.runs.active.iter_mut().find(|active| active.run == run) else { return };
        if active.retry_at.is_some() {
            self.end_between_attempts(now, run, effects);
            return;
        }
        active.abort_at = None;
        if !active.aborted {
            active.aborted = true;
            effects.push(Effect::Abort { run });
        }
    }
}
