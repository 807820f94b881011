//! What a store keeps of a backfill.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::BackfillId;
use crate::{
    core::time::FireTime,
    name::{By, JobName, RunId},
    word::words,
};

/// A backfill as the store has it. What it is does not change; its [progress](Self::progress) does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredBackfill {
    /// Its id, of which those of its runs follow.
    pub id: BackfillId,
    /// The job.
    pub job: JobName,
    /// The first instant of its range.
    pub from: DateTime<Utc>,
    /// The last instant of its range.
    pub to: DateTime<Utc>,
    /// How many of its runs may be in progress at a time.
    pub max_concurrent: u32,
    /// How long from the start of one run to that of the next, at least.
    pub spacing: Duration,
    /// Fire times that had a run are run again.
    pub again: bool,
    /// Who asked for it, if it is known.
    pub by: Option<By>,
    /// When it was asked for, by the store's clock.
    pub created_at: DateTime<Utc>,
    /// How many fire times of the range were left out, since they had a run.
    pub left_out: u32,
    /// What is to run, the earliest first: at most [`BACKFILL_TICKS_MAX`](super::BACKFILL_TICKS_MAX).
    pub fire_times: Arc<[FireTime]>,
    /// How far it is.
    pub progress: BackfillProgress,
    /// Those in flight whose runs were granted, as the store had it when it answered. They stay once it is cancelled.
    pub granted: Vec<u32>,
    /// How long ago a run of it was granted last, by the store's clock when it answered; `None` if none was.
    pub since_start: Option<Duration>,
}

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackfillProgress {
    /// Which version this is: each change counts one more, from 0.
    pub revision: u64,
    /// Whether it goes on.
    pub state: BackfillState,
    /// How many of its fire times, from the first on, were taken up: the cursor.
    pub taken: u32,
    /// Those of them whose runs have not ended, as far as the leader knows, in their order: at most as many as
    /// may run at a time.
    pub in_flight: Vec<u32>,
    /// How many of its runs have ended without success.
    pub failed: u32,
}

/// Whether a backfill goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackfillState {
    /// It does.
    Running,
    /// All of its runs have ended.
    Finished,
    /// Somebody cancelled it. Runs of it that were in progress went on to their ends.
    Cancelled,
}

words!(BackfillState { Running: "running", Finished: "finished", Cancelled: "cancelled" });

impl BackfillProgress {
    /// Nothing was taken up yet.
    pub fn new() -> Self {
        Self { revision: 0, state: BackfillState::Running, taken: 0, in_flight: Vec::new(), failed: 0 }
    }

    /// How many of its runs have ended.
    pub fn done(&self) -> u32 {
        self.taken.saturating_sub(u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX))
    }
}

impl Default for BackfillProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl StoredBackfill {
    /// A backfill of some fire times, one after the other, of which nothing was taken up yet.
    pub fn new(
        id: BackfillId,
        job: JobName,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        fire_times: Arc<[FireTime]>,
    ) -> Self {
        Self {
            id,
            job,
            from,
            to,
            max_concurrent: 1,
            spacing: Duration::ZERO,
            again: false,
            by: None,
            created_at: id.run(0).made_at(),
            left_out: 0,
            fire_times,
            progress: BackfillProgress::new(),
            granted: Vec::new(),
            since_start: None,
        }
    }

    /// How many runs it has in all.
    pub fn ticks(&self) -> u32 {
        u32::try_from(self.fire_times.len()).unwrap_or(u32::MAX)
    }

    /// How many of its runs have not ended.
    pub fn remaining(&self) -> u32 {
        self.ticks().saturating_sub(self.progress.done())
    }

    /// It goes on.
    pub fn is_running(&self) -> bool {
        self.progress.state == BackfillState::Running
    }

    /// Whether this run of it may be granted, or was: see [`Backfills`](crate::port::Backfills).
    pub fn has_in_flight(&self, run: RunId) -> bool {
        let of_this = BackfillId::of_run(run).filter(|(backfill, _)| *backfill == self.id);
        self.is_running() && of_this.is_some_and(|(_, nth)| self.progress.in_flight.contains(&nth))
    }

    /// The fire times that have a run, or are to get one: of a backfill that is over, those whose runs were granted.
    /// They may be in progress still.
    pub fn taken_fire_times(&self) -> impl Iterator<Item = FireTime> {
        let BackfillProgress { taken, in_flight, .. } = &self.progress;
        let is_taken = |nth: u32| nth < *taken && (!in_flight.contains(&nth) || self.granted.contains(&nth));
        let numbered = (0..).zip(self.fire_times.iter());
        numbered.filter(move |(nth, _)| self.is_running() || is_taken(*nth)).map(|(_, fire_time)| *fire_time)
    }
}

/// What a store answers that is given a new backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackfillPut {
    /// It is kept.
    Kept,
    /// As many are open as may be: [`BACKFILLS_OPEN_MAX`](super::BACKFILLS_OPEN_MAX).
    Full,
    /// A backfill of the job [has one of its fire times](StoredBackfill::taken_fire_times), and it is not to run them
    /// [again](StoredBackfill::again): somebody else was faster. Leave these out, and ask once more.
    Overlaps,
}

/// What a store answers to a change of a backfill's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackfillMoved {
    /// It is done.
    Done,
    /// The revision is another one than that before, or it goes on no more: as it is now; `None` if there is
    /// no such backfill.
    Elsewhere(Option<Box<StoredBackfill>>),
    /// The term is not the newest one, or is over.
    Deposed,
}
