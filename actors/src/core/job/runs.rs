//! The runs in progress: their attempts, their time, their ends.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Effect, Effects, End, Ended, JobMachine, LastRun, Refusal, Retried, RunEnd, Severity, Start,
    permit::Claimant,
};
use crate::{
    core::{
        policy::Fires,
        time::{FireTime, Now},
    },
    event::{CancelReason, Outcome},
    name::{FencingToken, RunId, Term},
    port::Pause,
    word::words,
};

/// What a run in progress does on its node.
///
/// | phase | the body | what it waits for | what ends it |
/// |---|---|---|---|
/// | `waiting_for_slot` | does not run | one of the node's slots, for an attempt that is due | a slot, cancelling |
/// | `attempting` | runs | | its end, cancelling |
/// | `waiting_for_retry` | does not run: an attempt failed | the end of the [pause](crate::Retry) | time, cancelling |
/// | `stopping` | runs, and was told to stop | the body, for [`abort_after`](crate::Job::abort_after) | its end, aborting |
/// | `still_running` | was aborted, and has not ended | the body: it blocks, or cannot be aborted | its end |
///
/// A node has as many slots as it may have [concurrent runs](crate::EngineOptions::max_concurrent_runs). In
/// each phase the run holds its lock key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunPhase {
    /// No attempt is in progress: the node has no slot for the one that is due.
    WaitingForSlot,
    /// An attempt is in progress.
    Attempting,
    /// No attempt is in progress: one failed, and the pause before the next one is not over.
    WaitingForRetry,
    /// An attempt is in progress that was asked to stop.
    Stopping,
    /// An attempt was aborted and has not ended yet.
    StillRunning,
}

words!(RunPhase {
    WaitingForSlot: "waiting_for_slot",
    Attempting: "attempting",
    WaitingForRetry: "waiting_for_retry",
    Stopping: "stopping",
    StillRunning: "still_running",
});

/// A run in progress.
#[derive(Debug, Clone, Copy)]
pub struct ActiveRun {
    /// The run.
    pub run: RunId,
    /// The tick, or `None` for a manual trigger.
    pub tick: Option<FireTime>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// The number of the try within the run, from 1.
    pub attempt: u32,
    /// Which of the key's slots it holds, from 0.
    pub(super) slot: u32,
    /// `Some` while no attempt is in progress: when the next one starts, or asks for the node's slot again.
    retry_at: Option<Duration>,
    /// Its next attempt was due, and the node had no slot for it.
    put_off: bool,
    /// Its first attempt on this node has started.
    pub(super) begun: bool,
    /// When the first attempt started, by its own reading of the clock.
    first_started_at: Option<DateTime<Utc>>,
    term: Option<Term>,
    token: Option<FencingToken>,
    deadline: Option<Duration>,
    cancelled: Option<CancelReason>,
    /// It was told to end, not only to end this attempt.
    last_attempt: bool,
    abort_at: Option<Duration>,
    /// It was told to end at once and has not ended yet.
    pub aborted: bool,
    /// The session that held its key is gone.
    pub(super) lost: bool,
}

impl ActiveRun {
    /// When the run is to be cancelled, aborted or tried again. An attempt that is due waits for the permit, not for a time.
    pub(super) fn changes_at(&self, now: Now, is_permitted: bool) -> Option<Duration> {
        let retry_at = self.retry_at.filter(|due| *due > now.elapsed || is_permitted);
        [self.deadline, self.abort_at, retry_at].into_iter().flatten().min()
    }

    /// What it does.
    pub fn phase(&self, now: Now) -> RunPhase {
        match self.retry_at {
            Some(due) if self.begun && !self.put_off && due > now.elapsed => RunPhase::WaitingForRetry,
            Some(_) => RunPhase::WaitingForSlot,
            None if self.aborted => RunPhase::StillRunning,
            None if self.cancelled.is_some() => RunPhase::Stopping,
            None => RunPhase::Attempting,
        }
    }

    /// The number of the attempt that is in progress, or of the next one if none is.
    pub fn current_attempt(&self) -> u32 {
        let failed = self.begun && self.retry_at.is_some();
        self.attempt + u32::from(failed)
    }

    /// Why it was asked to stop, if it was.
    pub fn cancelled(&self) -> Option<CancelReason> {
        self.cancelled
    }

    fn outcome(&self, end: &End) -> Outcome {
        end.outcome(self.cancelled)
    }
}

impl JobMachine {
    pub(super) fn start(&mut self, now: Now, start: Start, effects: &mut Effects) {
        let deadline = self.policies.timeout.map(|timeout| now.elapsed.saturating_add(timeout));
        self.spend_permit();
        let start = Start { deadline, ..start };
        self.add_run(now, &start, true);
        effects.push(Effect::Start(start));
    }

    /// The store granted it. If the permit went back while the claim had no answer, the run waits for another one. It holds its
    /// key meanwhile, so it is not refused, nor skipped where the node is to skip.
    pub(super) fn start_granted(
        &mut self,
        now: Now,
        claimant: Claimant,
        start: Start,
        effects: &mut Effects,
    ) {
        if self.has_pledge(claimant) {
            self.start(now, start, effects);
        } else {
            self.add_run(now, &start, false);
        }
    }

    fn add_run(&mut self, now: Now, start: &Start, begun: bool) {
        debug_assert!(self.runs.iter().all(|run| run.run != start.run), "a run starts once");
        if self.runs.is_empty() {
            // Most jobs have one run at a time, and keep the room for it: a vector would make room for four.
            self.runs.reserve_exact(1);
        }
        self.runs.push(ActiveRun {
            run: start.run,
            tick: start.tick,
            started_at: now.wall,
            attempt: start.attempt,
            slot: start.slot,
            retry_at: (!begun).then_some(now.elapsed),
            put_off: false,
            begun,
            first_started_at: None,
            term: start.term,
            token: start.token,
            deadline: start.deadline,
            cancelled: None,
            last_attempt: false,
            abort_at: None,
            aborted: false,
            lost: false,
        });
    }

    /// The lowest slot from `from` on that no run of this job holds; none while as many runs are in progress as may be. A job
    /// that was changed may have runs in slots that its policy does not know any more.
    pub(super) fn free_slot(&self, from: u32) -> Option<u32> {
        let slots = self.policies.overlap.slots();
        // More than that may go on since the policy was changed.
        if usize::try_from(slots).is_ok_and(|slots| self.runs.len() >= slots) {
            return None;
        }
        (from..slots).find(|slot| self.runs.iter().all(|run| run.slot != *slot))
    }

    /// Cancels and aborts what is over its time.
    pub(super) fn check_time(&mut self, now: Now, effects: &mut Effects) {
        let over = |at: Option<Duration>| at.is_some_and(|at| at <= now.elapsed);
        for at in (0..self.runs.len()).rev() {
            let (run, deadline) = (self.runs[at].run, self.runs[at].deadline);
            if over(deadline) {
                self.cancel(run, now, CancelReason::TimedOut, effects);
            }
            if self.runs.get(at).is_some_and(|active| active.run == run && over(active.abort_at)) {
                self.abort(now, run, effects);
            }
        }
    }

    pub(super) fn on_run_ended(&mut self, now: Now, end: RunEnd, effects: &mut Effects) {
        let Some(at) = self.runs.iter().position(|run| run.run == end.run) else { return };
        self.release_permit(effects);
        let run = &mut self.runs[at];
        run.first_started_at = run.first_started_at.or(end.started_at);
        let run = &self.runs[at];
        let Some(pause) = self.pause_before_next(run, &end.end) else {
            self.conclude(now, at, end, effects);
            return;
        };
        let outcome = run.outcome(&end.end);
        let RunEnd { run: id, end, took, .. } = end;
        effects.push(Effect::Retried(Retried { run: id, attempt: run.attempt, outcome, pause, end, took }));
        let run = &mut self.runs[at];
        run.retry_at = Some(now.elapsed.saturating_add(pause));
        run.deadline = None;
        run.cancelled = None;
        run.abort_at = None;
        run.aborted = false;
    }

    /// How long to wait before the next attempt, if there is to be one.
    fn pause_before_next(&self, run: &ActiveRun, end: &End) -> Option<Duration> {
        let again = match (run.cancelled, end) {
            (_, End::NotStarted { .. })
            | (_, End::Failed { severity: Severity::Permanent | Severity::Stop, .. }) => false,
            (Some(CancelReason::TimedOut), _) | (None, End::Panicked(_)) => true,
            (None, End::Failed { severity: Severity::Transient, .. }) => true,
            (None, End::Returned | End::Aborted | End::BetweenAttempts) | (Some(_), _) => false,
        };
        let again = again && !run.lost && !run.last_attempt && run.attempt < self.policies.retry.attempts;
        again.then(|| self.policies.retry.pause(run.run, run.attempt))
    }

    /// Starts the attempts of the runs whose pauses are over, or that had no permit when they were granted.
    pub(super) fn start_attempts(&mut self, now: Now, effects: &mut Effects) {
        for at in 0..self.runs.len() {
            if self.runs[at].retry_at.is_none_or(|due| due > now.elapsed) || !self.has_permit() {
                continue;
            }
            self.spend_permit();
            let deadline = self.policies.timeout.map(|timeout| now.elapsed.saturating_add(timeout));
            let active = &mut self.runs[at];
            active.retry_at = None;
            active.put_off = false;
            let begins = !std::mem::replace(&mut active.begun, true);
            if begins {
                active.started_at = now.wall;
            } else {
                active.attempt += 1;
            }
            active.deadline = deadline;
            let ActiveRun { run, tick, term, token, deadline, attempt, slot, .. } = *active;
            effects.push(Effect::Start(Start { run, tick, term, token, deadline, attempt, begins, slot }));
        }
    }

    /// The node has no slot for the attempts that are due.
    pub(super) fn put_attempts_off(&mut self, now: Now, later: Duration) {
        for run in &mut self.runs {
            if run.retry_at.is_some_and(|due| due <= now.elapsed) {
                run.retry_at = Some(later);
                run.put_off = true;
            }
        }
    }

    /// The run at this place is over.
    fn conclude(&mut self, now: Now, at: usize, end: RunEnd, effects: &mut Effects) {
        let run = self.runs.remove(at);
        let RunEnd { end, took, .. } = end;
        let outcome = run.outcome(&end);
        if run.token.is_some() && !run.lost {
            effects.push(Effect::Complete { run: run.run, outcome });
            self.anchoring = self.schedule.counts_from_completion();
            // It had the only slot of the key.
            self.all_ended = (self.policies.overlap.slots() == 1).then_some(self.stored);
        }
        self.history.count(outcome);
        if let Some(started_at) = run.first_started_at {
            self.history.add(LastRun { run: run.run, outcome, started_at, took, ended: Some(now.elapsed) });
        }
        let stop = match &end {
            End::Failed { error, severity: Severity::Stop } => Some(Pause::stopped_by(error)),
            _ => None,
        };
        let ActiveRun { run, cancelled, aborted, lost, first_started_at, .. } = run;
        effects.push(Effect::Ended(Ended {
            run,
            outcome,
            cancelled,
            aborted,
            recorded: !lost,
            end,
            started_at: first_started_at,
            took,
        }));
        if let Some(pause) = stop {
            self.pause = Some(Box::new(pause.clone()));
            if self.policies.fires == Fires::Local {
                effects.push(Effect::Paused(pause));
            } else {
                self.stop = self.pause.clone();
                effects.push(Effect::Stop(pause));
            }
        }
        if self.policies.fires == Fires::Local {
            self.conclude_local(now, effects);
        }
    }

    /// What the store decides of other jobs.
    fn conclude_local(&mut self, now: Now, effects: &mut Effects) {
        if self.schedule.counts_from_completion() && self.runs.is_empty() {
            self.adopt(now.wall);
        }
        let failures = self.history.failures();
        if self.pause.is_none() && self.policies.pause_after.is_some_and(|max| failures >= max) {
            let pause = Pause::after_failures(failures);
            effects.push(Effect::Paused(pause.clone()));
            self.pause = Some(Box::new(pause));
        }
    }

    pub(super) fn on_lock_lost(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        if let Some(active) = self.runs.iter_mut().find(|active| active.run == run) {
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
        self.no_more |= why == CancelReason::Shutdown;
        match run {
            Some(run) => {
                if why == CancelReason::Requested {
                    self.drop_manual(run, effects);
                }
                self.cancel(run, now, why, effects);
            }
            None => {
                self.drop_pending_retries();
                self.drop_triggers(Refusal::Cancelled, effects);
                self.cancel_all(now, why, effects);
            }
        }
    }

    /// Asks all runs to stop.
    pub(super) fn cancel_all(&mut self, now: Now, why: CancelReason, effects: &mut Effects) {
        let runs: Vec<_> = self.runs.iter().map(|run| run.run).collect();
        for run in runs {
            self.cancel(run, now, why, effects);
        }
    }

    /// Asks a run to stop. It is aborted `abort_after` later, unless the engine shuts down: that keeps a
    /// clock of its own for all runs of the node.
    pub(super) fn cancel(&mut self, run: RunId, now: Now, why: CancelReason, effects: &mut Effects) {
        let abort_after = self.policies.abort_after;
        let Some(run) = self.runs.iter_mut().find(|active| active.run == run) else { return };
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
        let Some(at) = self.runs.iter().position(|active| active.run == run) else { return };
        let end = RunEnd { run, end: End::BetweenAttempts, started_at: None, took: Duration::ZERO };
        self.conclude(now, at, end, effects);
    }

    pub(super) fn abort_all(&mut self, now: Now, effects: &mut Effects) {
        let runs: Vec<_> = self.runs.iter().map(|run| run.run).collect();
        for run in runs {
            self.abort(now, run, effects);
        }
    }

    fn abort(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        let Some(active) = self.runs.iter_mut().find(|active| active.run == run) else { return };
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
