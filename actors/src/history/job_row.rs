//! The row of a job in a history in memory: what became of it so far.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    FireTime,
    event::Outcome,
    name::JobName,
    port::{DurationCounts, EndedRun, FailedRun, JobRecord, LastEnds, Pause, PauseChange, RunRecord},
};

/// The row of a job.
#[derive(Default)]
pub(super) struct JobRow {
    last_run: Option<EndedRun>,
    last_success: Option<DateTime<Utc>>,
    last_failure: Option<Box<FailedRun>>,
    consecutive_failures: u64,
    runs: u64,
    failures: u64,
    /// How long all bodies took, and how many there were.
    took: Duration,
    timed: u64,
    counts: DurationCounts,
    pause: Option<Box<Pause>>,
    /// When it was paused or resumed last.
    paused_at: Option<DateTime<Utc>>,
    next_fire_time: Option<FireTime>,
}

impl JobRow {
    /// Counts a run that ended.
    pub(super) fn take_run(&mut self, run: &RunRecord) {
        let (Some(outcome), Some(at)) = (run.outcome, run.ended_at) else { return };
        self.runs += 1;
        if self.last_run.is_none_or(|last| last.at <= at) {
            self.last_run = Some(EndedRun { run: run.run, at, outcome });
        }
        if run.next_fire_time.is_some() {
            self.next_fire_time = run.next_fire_time;
        }
        match outcome {
            Outcome::Succeeded => {
                self.last_success = self.last_success.max(Some(at));
                self.consecutive_failures = 0;
            }
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Lost => {
                self.failures += 1;
                self.consecutive_failures += 1;
                self.last_failure = Some(Box::new(FailedRun { run: run.run, at, error: run.error.clone() }));
            }
            Outcome::Cancelled => {}
        }
        if let (Some(took), true) = (run.took, run.started_at.is_some()) {
            self.took = self.took.saturating_add(took);
            self.timed += 1;
            self.counts.add(took);
        }
    }

    /// Takes in that it was paused, or resumed.
    pub(super) fn take_pause(&mut self, change: PauseChange) {
        let PauseChange { at, pause, .. } = change;
        if self.paused_at.is_some_and(|last| last > at) {
            return;
        }
        self.paused_at = Some(at);
        let goes_on = |former: &Pause| former.until.is_none_or(|until| until > at);
        if pause.is_none() || !self.pause.as_deref().is_some_and(goes_on) {
            self.pause = pause.map(Box::new);
        }
    }

    pub(super) fn last_ends(&self, job: JobName) -> LastEnds {
        let (last_run, last_success) = (self.last_run.map(|run| run.at), self.last_success);
        LastEnds { job, last_run, last_success, consecutive_failures: self.consecutive_failures }
    }

    pub(super) fn record(&self, job: JobName) -> JobRecord {
        let timed = u32::try_from(self.timed).unwrap_or(u32::MAX);
        JobRecord {
            last_run: self.last_run,
            last_success: self.last_success,
            last_failure: self.last_failure.as_deref().cloned(),
            consecutive_failures: self.consecutive_failures,
            runs: self.runs,
            failures: self.failures,
            mean: self.took.checked_div(timed),
            p95: self.counts.p95(),
            pause: self.pause.as_deref().cloned(),
            next_fire_time: self.next_fire_time,
            ..JobRecord::new(job)
        }
    }
}
