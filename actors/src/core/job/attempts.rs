//! The attempts of the runs in progress: when one starts, and what follows from its end.

use super::{
    ActiveRun, BodyEnd, BodyEnded, Effect, Effects, JobMachine, LastRun, Retried, RunEnded, Severity, Start,
    permit::Claimant,
};
use crate::{
    core::{policy::Fires, time::Now},
    event::CancelReason,
    port::Pause,
};
use std::time::Duration;

impl JobMachine {
    pub(super) fn start(&mut self, now: Now, start: Start, effects: &mut Effects) {
        let deadline = self.policies.timeout.map(|timeout| now.elapsed.saturating_add(timeout));
        self.permit.spend();
        let start = Start { deadline, ..start };
        self.runs.add(now, &start, true);
        effects.push(Effect::Start(start));
    }

    /// The store granted it. If the permit went back while the claim had no answer, the run waits for another
    /// one. It holds its key meanwhile, so it is not refused, nor skipped where the node is to skip.
    pub(super) fn start_granted(
        &mut self,
        now: Now,
        claimant: Claimant,
        start: Start,
        effects: &mut Effects,
    ) {
        if self.permit.is_pledged_to(claimant) {
            self.start(now, start, effects);
        } else {
            self.runs.add(now, &start, false);
        }
    }

    /// The lowest slot from `from` on that no run of this job holds, if there is one.
    pub(super) fn free_slot(&self, from: u32) -> Option<u32> {
        self.runs.lowest_free_slot(self.policies.overlap.slots(), from)
    }

    /// Starts the attempts of the runs whose pauses are over, or that had no permit when they were granted.
    pub(super) fn start_attempts(&mut self, now: Now, effects: &mut Effects) {
        for at in 0..self.runs.active.len() {
            if self.runs.active[at].next_attempt_at.is_none_or(|due| due > now.elapsed) || !self.permit.want()
            {
                continue;
            }
            self.permit.spend();
            let deadline = self.policies.timeout.map(|timeout| now.elapsed.saturating_add(timeout));
            let active = &mut self.runs.active[at];
            active.next_attempt_at = None;
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

    pub(super) fn on_body_ended(&mut self, now: Now, end: BodyEnded, effects: &mut Effects) {
        let Some(at) = self.runs.active.iter().position(|run| run.run == end.run) else { return };
        if let Some(effect) = self.permit.release() {
            effects.push(effect);
        }
        let run = &mut self.runs.active[at];
        run.first_started_at = run.first_started_at.or(end.started_at);
        let run = &self.runs.active[at];
        let Some(wait) = self.wait_before_retry(run, &end.end) else {
            self.conclude(now, at, end, effects);
            return;
        };
        let outcome = run.outcome(&end.end);
        let BodyEnded { run: id, end, took, .. } = end;
        let (attempt, ended_at) = (run.attempt, now.wall);
        effects.push(Effect::Retried(Retried { run: id, attempt, outcome, ended_at, wait, end, took }));
        let run = &mut self.runs.active[at];
        run.next_attempt_at = Some(now.elapsed.saturating_add(wait));
        run.deadline = None;
        run.told_to_stop = None;
        run.abort_at = None;
        run.aborted = false;
    }

    /// How long to wait before the next attempt, if there is to be one.
    fn wait_before_retry(&self, run: &ActiveRun, end: &BodyEnd) -> Option<Duration> {
        let again = match (run.told_to_stop, end) {
            (_, BodyEnd::NotStarted { .. })
            | (_, BodyEnd::Failed { severity: Severity::Permanent | Severity::Stop, .. }) => false,
            (Some(CancelReason::TimedOut), _) | (None, BodyEnd::Panicked(_)) => true,
            (None, BodyEnd::Failed { severity: Severity::Transient, .. }) => true,
            (None, BodyEnd::Returned | BodyEnd::Aborted | BodyEnd::BetweenAttempts) | (Some(_), _) => false,
        };
        let again = again && !run.lost && !run.ends && run.attempt < self.policies.retry.attempts;
        again.then(|| self.policies.retry.pause(run.run, run.attempt))
    }

    /// The run at this place is over.
    pub(super) fn conclude(&mut self, now: Now, at: usize, end: BodyEnded, effects: &mut Effects) {
        let run = self.runs.active.remove(at);
        let facts = run.facts(now);
        let BodyEnded { end, took, .. } = end;
        let outcome = run.outcome(&end);
        if run.token.is_some() && !run.lost {
            effects.push(Effect::Complete { run: run.run, outcome });
            self.cursor.anchoring = self.schedule.counts_from_completion();
            // It had the only slot of the key.
            self.cursor.all_ended = (self.policies.overlap.slots() == 1).then_some(self.cursor.stored);
        }
        self.runs.history.count(outcome);
        if let Some(started_at) = run.first_started_at {
            self.runs.history.add(LastRun {
                run: run.run,
                outcome,
                started_at,
                took,
                ended: Some(now.elapsed),
            });
        }
        let stop = match &end {
            BodyEnd::Failed { error, severity: Severity::Stop } => Some(Pause::stopped_by(error)),
            BodyEnd::Failed { severity: Severity::Transient | Severity::Permanent, .. }
            | BodyEnd::Returned
            | BodyEnd::Panicked(_)
            | BodyEnd::Aborted
            | BodyEnd::BetweenAttempts
            | BodyEnd::NotStarted { .. } => None,
        };
        let ActiveRun { run, told_to_stop, aborted, lost, first_started_at, .. } = run;
        effects.push(Effect::RunEnded(RunEnded {
            run,
            facts: Some(facts),
            outcome,
            cancelled: told_to_stop,
            aborted,
            recorded: !lost,
            end,
            started_at: first_started_at,
            took,
        }));
        if let Some(pause) = stop {
            self.pause_by_body(pause, effects);
        }
        if self.policies.fires == Fires::Local {
            self.conclude_local(now, effects);
        }
    }

    /// Its body said that the job is to stop for good.
    fn pause_by_body(&mut self, pause: Pause, effects: &mut Effects) {
        if self.policies.fires == Fires::Local {
            self.pause.current = Some(Box::new(pause.clone()));
            effects.push(Effect::Paused(pause));
        } else {
            self.pause.stop(pause.clone());
            effects.push(Effect::Stop(pause));
        }
    }

    /// What the store decides of other jobs.
    fn conclude_local(&mut self, now: Now, effects: &mut Effects) {
        if self.schedule.counts_from_completion() && self.runs.active.is_empty() {
            self.adopt(now.wall);
        }
        let failures = self.runs.history.failures();
        if !self.pause.is_on() && self.policies.pause_after.is_some_and(|max| failures >= max) {
            let pause = Pause::after_failures(failures);
            effects.push(Effect::Paused(pause.clone()));
            self.pause.current = Some(Box::new(pause));
        }
    }
}
