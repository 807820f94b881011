//! A backfill, as whoever asks for it sees it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BackfillId, BackfillState, StoredBackfill};
use crate::{
    core::time::FireTime,
    name::{By, JobName},
};

/// A backfill, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackfillStatus {
    /// Its id.
    pub id: BackfillId,
    /// The job.
    pub job: JobName,
    /// Whether it goes on.
    pub state: BackfillState,
    /// The first instant of its range.
    pub from: DateTime<Utc>,
    /// The last instant of its range.
    pub to: DateTime<Utc>,
    /// How many of its runs may be in progress at a time.
    pub max_concurrent: u32,
    /// How long from the start of one run to that of the next, at least.
    #[serde(with = "crate::serde::duration")]
    pub spacing: Duration,
    /// Fire times that had a run are run again.
    pub again: bool,
    /// Who asked for it, if it is known.
    pub by: Option<By>,
    /// When it was asked for, by the store's clock.
    pub created_at: DateTime<Utc>,
    /// How many runs it has in all.
    pub ticks: u32,
    /// How many fire times of its range were left out, since they had a run.
    pub left_out: u32,
    /// How many of its runs have ended, as far as the leader knows.
    pub done: u32,
    /// How many of these ended without success.
    pub failed: u32,
    /// How many have not ended. Of one that was cancelled: how many of its fire times have no run, or had one
    /// in progress.
    pub remaining: u32,
    /// The fire times whose runs are in progress, or wait for their lock key.
    pub in_flight: Vec<FireTime>,
}

impl BackfillStatus {
    /// Of a backfill of which the fire times are not at hand: how many there are, and those in flight.
    pub fn new(stored: &StoredBackfill, ticks: u32, in_flight: Vec<FireTime>) -> Self {
        let progress = &stored.progress;
        Self {
            id: stored.id,
            job: stored.job.clone(),
            state: progress.state,
            from: stored.from,
            to: stored.to,
            max_concurrent: stored.max_concurrent,
            spacing: stored.spacing,
            again: stored.again,
            by: stored.by.clone(),
            created_at: stored.created_at,
            ticks,
            left_out: stored.left_out,
            done: progress.done(),
            failed: progress.failed,
            remaining: ticks.saturating_sub(progress.done()),
            in_flight,
        }
    }
}

impl From<&StoredBackfill> for BackfillStatus {
    fn from(stored: &StoredBackfill) -> Self {
        let fire_time = |nth: &u32| stored.fire_times.get(usize::try_from(*nth).ok()?).copied();
        let in_flight = stored.progress.in_flight.iter().filter_map(fire_time).collect();
        Self::new(stored, stored.ticks(), in_flight)
    }
}
