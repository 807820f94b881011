//! The rows of jobs in a history that counts by itself, in memory or in a file: what became of each so far.

use std::{hash::BuildHasher, time::Duration};

use chrono::{DateTime, Utc};
use foldhash::{HashMap, fast::RandomState};
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

/// There is a map for so many of the rows that there may be. A map that grows, or is cleared of what was removed,
/// moves all that it has: one of 100,000 rows held up every thread for 40 ms.
const SHARD: usize = 4_096;
/// The most maps, whatever the bound.
const SHARDS_MAX: usize = 1_024;

/// The rows of jobs. Of too many, those go that were changed long ago.
#[derive(Default)]
pub(super) struct JobRows {
    /// None until there is a row.
    shards: Vec<HashMap<JobName, TurnOf<JobRow>>>,
    hasher: RandomState,
    /// How many rows there are.
    count: usize,
    /// How often a row was changed.
    turn: u64,
    /// Where room is looked for next.
    next: usize,
}

/// A row, and when it was changed last.
#[derive(Default)]
struct TurnOf<T> {
    turn: u64,
    row: T,
}

impl JobRows {
    pub(super) fn change(&mut self, job: &JobName, max: usize, change: impl FnOnce(&mut JobRow)) {
        if self.shards.is_empty() {
            self.shards.resize_with(max.div_ceil(SHARD).clamp(1, SHARDS_MAX), HashMap::default);
        }
        self.turn += 1;
        let (turn, shard) = (self.turn, self.shard(job));
        if let Some(known) = self.shards[shard].get_mut(job) {
            known.turn = turn;
            return change(&mut known.row);
        }
        if self.count >= max {
            self.make_room();
        }
        self.count += 1;
        let new = self.shards[shard].entry(job.clone()).or_default();
        new.turn = turn;
        change(&mut new.row);
    }

    fn shard(&self, job: &JobName) -> usize {
        self.hasher.hash_one(job) as usize % self.shards.len().max(1)
    }

    /// Drops the sixteenth part of a shard, those that were changed longest ago: many at once, so that they are
    /// looked for seldom. The shards have their turns.
    fn make_room(&mut self) {
        let shards = (self.next..self.shards.len()).chain(0..self.next);
        let Some(shard) = shards.into_iter().find(|shard| !self.shards[*shard].is_empty()) else { return };
        self.next = (shard + 1) % self.shards.len();
        let rows = &mut self.shards[shard];
        let mut turns: Vec<u64> = rows.values().map(|row| row.turn).collect();
        let last = *turns.select_nth_unstable(rows.len() / 16).1;
        rows.retain(|_, row| row.turn > last);
        self.count -= turns.len() - rows.len();
    }

    pub(super) fn get(&self, job: &JobName) -> Option<&JobRow> {
        self.shards.get(self.shard(job))?.get(job).map(|known| &known.row)
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

    fn jobs(count: usize) -> Vec<JobName> {
        (0..count).map(|nth| JobName::new(format!("job-{nth}")).expect("a good name")).collect()
    }

    #[test]
    fn as_many_rows_as_the_bound_are_kept_and_of_more_those_that_rested_go() {
        let (ids, jobs) = (RunIds::of(NodeId::numbered(1)), jobs(40_000));
        let mut rows = JobRows::default();
        let run = |rows: &mut JobRows, job| rows.change(job, 20_000, |row| row.take_run(&ended(job, &ids)));
        let runs = |rows: &JobRows, job: &JobName| rows.get(job).map(|row| row.record(job.clone()).runs);
        let (old, new) = jobs.split_at(20_000);
        old.iter().chain(old).for_each(|job| run(&mut rows, job));
        assert!(old.iter().all(|job| runs(&rows, job) == Some(2)), "each is counted on");
        let (resting, busy) = old.split_at(19_000);

        for some in new.chunks(2_000) {
            some.iter().chain(busy).for_each(|job| run(&mut rows, job));
        }

        let known = |jobs: &[JobName]| jobs.iter().filter(|job| runs(&rows, job).is_some()).count();
        assert!(known(&jobs) <= 20_000, "{}", known(&jobs));
        assert_eq!(known(&jobs), rows.count);
        assert!(busy.iter().all(|job| runs(&rows, job) == Some(12)), "they ran all the time");
        assert!(known(resting) < known(new) / 2, "{} {}", known(resting), known(new));
    }

    #[test]
    fn the_greatest_of_bounds_takes_no_memory_by_itself() {
        let (ids, jobs) = (RunIds::of(NodeId::numbered(1)), jobs(1));
        let mut rows = JobRows::default();

        rows.change(&jobs[0], usize::MAX, |row| row.take_run(&ended(&jobs[0], &ids)));

        assert_eq!((rows.shards.len(), rows.count), (SHARDS_MAX, 1));
    }

    #[test]
    fn the_least_of_bounds_is_kept() {
        let (ids, jobs) = (RunIds::of(NodeId::numbered(1)), jobs(50));
        let mut rows = JobRows::default();

        for job in &jobs {
            rows.change(job, 2, |row| row.take_run(&ended(job, &ids)));
            assert!(rows.count <= 2 && rows.get(job).is_some());
        }

        assert_eq!(rows.shards.iter().map(HashMap::len).sum::<usize>(), rows.count);
    }
}
