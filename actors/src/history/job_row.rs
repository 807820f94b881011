//! The rows of jobs in a history that counts by itself, in memory or in a file: what became of each so far.

use std::time::Duration;

use chrono::{DateTime, Utc};
use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use crate::{
    FireTime,
    event::Outcome,
    name::JobName,
    port::{DurationCounts, EndedRun, FailedRun, JobRecord, LastEnds, Pause, PauseChange, RunRecord},
};

/// What a history knows of a job, for one whose store does not count: it is a value in memory, or in a file.
///
/// Runs and changes are taken in in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRow {
    last_run: Option<EndedRun>,
    last_success: Option<DateTime<Utc>>,
    last_failure: Option<Box<FailedRun>>,
    consecutive_failures: u64,
    runs: u64,
    failures: u64,
    /// How long all bodies took, and how many there were.
    #[serde(with = "crate::serde::duration")]
    took: Duration,
    timed: u64,
    counts: DurationCounts,
    pause: Option<Box<Pause>>,
    /// When it was paused or resumed last.
    paused_at: Option<DateTime<Utc>>,
    next_fire_time: Option<FireTime>,
}

impl JobRow {
    /// Counts a run that ended. Each is counted once, as the caller sees to.
    pub fn take_run(&mut self, run: &RunRecord) {
        let (Some(outcome), Some(at)) = (run.outcome, run.ended_at) else { return };
        self.runs += 1;
        if self.last_run.is_none_or(|last| last.at <= at) {
            self.last_run = Some(EndedRun { run: run.run, at, outcome: Some(outcome) });
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
    pub fn take_pause(&mut self, change: PauseChange) {
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

    /// How its runs ended last.
    pub fn last_ends(&self, job: JobName) -> LastEnds {
        let (last_run, last_success) = (self.last_run.map(|run| run.at), self.last_success);
        LastEnds { job, last_run, last_success, consecutive_failures: self.consecutive_failures }
    }

    /// What is answered of the job, without who holds it.
    pub fn record(&self, job: JobName) -> JobRecord {
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

/// The rows of jobs. Of too many, those go that were changed longest ago.
#[derive(Default)]
pub(super) struct JobRows {
    rows: HashMap<JobName, TurnOf<JobRow>>,
    /// How often a row was changed.
    turn: u64,
}

/// A row, and when it was changed last.
#[derive(Default)]
struct TurnOf<T> {
    turn: u64,
    row: T,
}

impl JobRows {
    pub(super) fn change(&mut self, job: &JobName, max: usize, change: impl FnOnce(&mut JobRow)) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(known) = self.rows.get_mut(job) {
            known.turn = turn;
            return change(&mut known.row);
        }
        self.make_room(max);
        let new = self.rows.entry(job.clone()).or_default();
        new.turn = turn;
        change(&mut new.row);
    }

    /// Many at once, so that it is looked for them seldom.
    fn make_room(&mut self, max: usize) {
        if self.rows.len() < max {
            return;
        }
        let mut turns: Vec<u64> = self.rows.values().map(|row| row.turn).collect();
        let gone = self.rows.len() - max + (max / 16).max(1);
        let nth = gone.min(turns.len()).saturating_sub(1);
        let last = *turns.select_nth_unstable(nth).1;
        self.rows.retain(|_, row| row.turn > last);
    }

    pub(super) fn get(&self, job: &JobName) -> Option<&JobRow> {
        self.rows.get(job).map(|known| &known.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{NodeId, RunIds};

    fn ended(job: &JobName, ids: &RunIds) -> RunRecord {
        let at = DateTime::UNIX_EPOCH;
        let record = RunRecord::new(job.clone(), ids.next(at), NodeId::numbered(1));
        RunRecord { ended_at: Some(at), outcome: Some(Outcome::Succeeded), ..record }
    }

    #[test]
    fn as_many_rows_as_the_bound_are_kept_and_of_more_those_that_rested_longest_go() {
        let ids = RunIds::of(NodeId::numbered(1));
        let jobs: Vec<_> =
            (0..101).map(|nth| JobName::new(format!("job-{nth}")).expect("a good name")).collect();
        let mut rows = JobRows::default();
        for job in jobs[..100].iter().chain(&jobs[..100]) {
            rows.change(job, 100, |row| row.take_run(&ended(job, &ids)));
        }
        let runs = |rows: &JobRows, job: &JobName| rows.get(job).map(|row| row.record(job.clone()).runs);
        assert!(jobs[..100].iter().all(|job| runs(&rows, job) == Some(2)), "each is counted on");
        rows.change(&jobs[0], 100, |row| row.take_run(&ended(&jobs[0], &ids)));

        rows.change(&jobs[100], 100, |row| row.take_run(&ended(&jobs[100], &ids)));

        assert!(rows.rows.len() <= 100);
        assert_eq!(runs(&rows, &jobs[0]), Some(3), "it ran just now");
        assert_eq!(runs(&rows, &jobs[1]), None, "it rested longest");
        assert_eq!((runs(&rows, &jobs[50]), runs(&rows, &jobs[100])), (Some(2), Some(1)));
    }
}
