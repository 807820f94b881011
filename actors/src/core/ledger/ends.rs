//! How runs end: recorded, or closed as lost because their session is dead.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Ledger, NEVER, OpenRun, Record};
use crate::{
    core::{policy::LOSSES_MAX, time::FireTime},
    event::Outcome,
    name::{JobName, RunId},
    port::{
        ClosedRuns, Completed, Completion, LostRun, Notification, Pause, PendingRetry, PendingRetryOfJob,
        Session,
    },
};

/// The most ended runs, and as many lost ones, that are remembered, so that a repeated completion or claim is
/// recognised.
pub(crate) const CLOSED_MAX: usize = 4_096;

impl Ledger {
    /// Records the end of a run of `session` and frees its key. Few ends depend on when `now` is.
    pub fn complete(
        &mut self,
        now: impl FnOnce() -> DateTime<Utc>,
        session: Session,
        end: &Completion,
    ) -> Completed {
        match self.open.get(&end.run) {
            Some(open) if open.session == session && open.token == end.token => {
                self.close(end.run, end.outcome);
                self.closed.push_back((end.run, end.token));
                // A cut holds as many as its rows.
                if self.closed.len() > CLOSED_MAX && self.cut.is_none() {
                    self.closed.pop_front();
                }
                let pause = self.count_failure(end);
                let cursor = if end.from_completion { self.anchor(&end.job, now()) } else { None };
                Completed::Recorded { cursor, pause }
            }
            Some(_) => Completed::Stale,
            None if self.closed.contains(&(end.run, end.token)) => self.recorded_before(end),
            None => Completed::Stale,
        }
    }

    /// Counts the end of a run of a job, and pauses the job if too many failed.
    fn count_failure(&mut self, end: &Completion) -> Option<Pause> {
        let row = self.jobs.get_mut(&end.job)?;
        match end.outcome {
            Outcome::Succeeded => row.failures = 0,
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => row.failures += 1,
            Outcome::Cancelled | Outcome::Lost => return None,
        }
        let too_many = row.failures > 0 && end.pause_after.is_some_and(|most| row.failures >= most);
        let paused_for_good = row.pause.as_ref().is_some_and(|pause| pause.until.is_none());
        if !too_many || paused_for_good {
            return None;
        }
        let pause = Pause::after_failures(row.failures);
        row.pause = Some(Box::new(pause.clone()));
        self.tell_all(&Notification::PauseChanged { job: end.job.clone(), pause: Some(pause.clone()) });
        Some(pause)
    }

    /// Moves the cursor of a job to `end`, and never back. Answers the cursor.
    fn anchor(&mut self, job: &JobName, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let row = self.jobs.get_mut(job).filter(|row| row.cursor > NEVER)?;
        let (from, to) = (row.cursor, whole_millis(end));
        if to > from {
            row.cursor = to;
            row.run = None;
            self.record(|| Record::Anchored { job: job.clone(), from, to });
        }
        Some(from.max(to))
    }

    fn recorded_before(&self, end: &Completion) -> Completed {
        let row = self.jobs.get(&end.job);
        let cursor = row.filter(|_| end.from_completion).map(|row| row.cursor);
        let failed = row.filter(|row| end.pause_after.is_some_and(|most| row.failures >= most));
        let pause =
            failed.and_then(|row| row.pause.as_deref().cloned()).filter(|pause| pause.until.is_none());
        Completed::Recorded { cursor, pause }
    }

    /// Closes up to `limit` open runs of dead sessions.
    pub fn close_lost(&mut self, now: DateTime<Utc>, limit: usize) -> ClosedRuns {
        let dead = self.open.iter().filter(|(_, open)| !self.is_live(open.session));
        let mut dead: Vec<_> = dead.map(|(run, _)| *run).take(limit).collect();
        dead.sort();
        let more = dead.len() == limit;
        let lost = dead.into_iter().filter_map(|run| self.close_as_lost(now, run, true)).collect();
        ClosedRuns { lost, more }
    }

    /// The pending retries of all jobs, in the order of their runs, up to `limit` of those `after` one.
    pub fn pending_retries(&self, after: Option<RunId>, limit: usize) -> Vec<PendingRetryOfJob> {
        let mut pending_retries = Vec::new();
        for (job, row) in &self.jobs {
            let of_job = row.pending_retries.iter();
            pending_retries.extend(of_job.map(|retry| PendingRetryOfJob { job: job.clone(), retry: *retry }));
        }
        pending_retries.retain(|pending| Some(pending.retry.run) > after);
        pending_retries.sort_by_key(|pending| pending.retry.run);
        pending_retries.truncate(limit);
        pending_retries
    }

    /// Closes a run of a dead session as lost, if it is open still.
    pub(crate) fn close_if_dead(&mut self, now: DateTime<Utc>, run: RunId) -> Option<LostRun> {
        let dead = self.open.get(&run).is_some_and(|open| !self.is_live(open.session));
        if dead { self.close_as_lost(now, run, true) } else { None }
    }

    pub(super) fn close_as_lost(&mut self, now: DateTime<Utc>, run: RunId, anchors: bool) -> Option<LostRun> {
        let OpenRun { session, job, token, fire_time, named, losses, .. } = self.close(run, Outcome::Lost)?;
        let node = self.nodes.get(&session).copied();
        self.lost.push_back(run);
        if let Some(cut) = &mut self.cut {
            cut.lost.push((job.clone(), run));
        } else if self.lost.len() > CLOSED_MAX {
            self.lost.pop_front();
        }
        let losses = losses.saturating_add(1);
        let row = self.jobs.get_mut(&job);
        let anchors = anchors && row.as_ref().is_some_and(|row| row.from_completion);
        let retrying = row.filter(|row| row.retry_lost && !row.withdrawn && losses < LOSSES_MAX);
        let retry = retrying.and_then(|row| {
            let retry = PendingRetry { run, fire_time, named, losses };
            row.add_retry(retry).then_some(retry)
        });
        if let Some(retry) = retry {
            self.tell_all(&Notification::PendingRetry(PendingRetryOfJob { job: job.clone(), retry }));
        }
        if anchors {
            self.anchor(&job, now);
        }
        Some(LostRun { job, run, node, token: Some(token), fire_time, retry })
    }

    fn close(&mut self, run: RunId, outcome: Outcome) -> Option<OpenRun> {
        let open = self.open.remove(&run)?;
        self.backfills.run_ended(run, outcome);
        if self.keys.get(&open.key) == Some(&run) {
            self.keys.remove(&open.key);
        }
        self.record(|| Record::Closed { run, outcome });
        Some(open)
    }
}

/// An instant rounded up to whole milliseconds.
fn whole_millis(instant: DateTime<Utc>) -> DateTime<Utc> {
    let floor = FireTime::new(instant).instant();
    if floor < instant { floor + TimeDelta::milliseconds(1) } else { floor }
}
