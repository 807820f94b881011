//! What an explanation is made of.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    core::{pause::Pause, time::FireTime},
    name::RunId,
    port::{DecisionRecord, NotDue, OperationRecord, RunRecord},
};

/// What the schedule of a job and its actor say of an instant.
#[derive(Debug, Clone)]
pub(crate) struct TickView {
    pub(crate) at: DateTime<Utc>,
    /// The schedule in words.
    pub(crate) schedule: Arc<str>,
    pub(crate) is_fire_time: bool,
    pub(crate) previous: Option<FireTime>,
    pub(crate) next: Option<FireTime>,
    pub(crate) why_not: Option<NotDue>,
    /// Everything up to here is decided, as far as this node knows.
    pub(crate) cursor: DateTime<Utc>,
    /// This node fires the job.
    pub(crate) fires: bool,
    /// The pause that holds it here.
    pub(crate) held_by: Option<Pause>,
    /// The pause of the job that lasts, as this node has heard.
    pub(crate) pause: Option<Pause>,
    /// It waits for its turn to be made up for.
    pub(crate) waits_for_turn: bool,
    /// The oldest run in progress.
    pub(crate) run: Option<RunId>,
    /// Ticks of the job wait for the end of its runs.
    pub(crate) waits: bool,
    /// The node bounds how many bodies it runs at once.
    pub(crate) has_slots: bool,
    /// So many runs is what the job's [limit](crate::Job::limit) allows, and they were made.
    pub(crate) used_up: Option<u64>,
}

/// What is recorded about an instant, and beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The runs of the job around it, and the newest before.
    pub(crate) runs: Vec<RunRecord>,
    /// The decisions about it, and those about all jobs around it.
    pub(crate) decisions: Vec<DecisionRecord>,
    /// From the first to the last tick of a decision: how many fire times the schedule has there.
    pub(crate) counted: Vec<(FireTime, FireTime, u64)>,
    /// What was done to the job, the newest first.
    pub(crate) operations: Vec<OperationRecord>,
    /// There are decisions about it, or beside it, that a newer version wrote and this one cannot read.
    pub(crate) has_unread: bool,
    /// There is a history.
    pub(crate) is_kept: bool,
    /// What is older is not kept any more.
    pub(crate) kept_since: Option<DateTime<Utc>>,
    /// Something is recorded of the job before.
    pub(crate) was_there: bool,
    /// Since when this node holds the job with its schedule.
    pub(crate) held_since: DateTime<Utc>,
    /// Everything up to there is decided, as the store says, if this node does not decide and the store was asked.
    pub(crate) decided_to: Option<DateTime<Utc>>,
    /// Since when nobody is known to lead, if nobody does and only a leader decides.
    pub(crate) leaderless_since: Option<DateTime<Utc>>,
}

impl Known {
    /// How many fire times there are in the span of a decision; `None` if they were not counted.
    pub(crate) fn fire_times_in(&self, first: FireTime, last: FireTime) -> Option<u64> {
        let is_it = |(from, to, _): &&(FireTime, FireTime, u64)| (*from, *to) == (first, last);
        self.counted.iter().find(is_it).map(|(_, _, count)| *count)
    }
}
