//! Backfills: what is asked of the supervisor, and what it answers.

use std::time::Duration;

use actix::Message;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{
        backfill::{BACKFILL_TICKS_MAX, BackfillId, BackfillStatus},
        time::FireTime,
    },
    error::BackfillError,
    name::JobName,
    note::{Attribution, says_who_and_why},
};

/// Runs a job for each fire time of a past range, once: what it missed, or what it is to do over.
///
/// Each is a run of its own, claimed as every run: under the job's lock key, with a token, on the node that
/// leads. It takes no tick and moves no cursor. The body reads its fire time as
/// [`Run::fire_time`](crate::Run::fire_time), and knows by its [origin](crate::Origin::Backfill) of which
/// backfill it is.
///
/// | what | |
/// |---|---|
/// | order | the earliest fire time first |
/// | which fire times | those of the job's schedule as it is now, from `from` to `to`, both included; decided when it is asked for |
/// | those that had a run | left out, as far as the [history](crate::RunHistory) knows, unless [`again`](Self::again) says otherwise. A tick that was skipped had none |
/// | how many | at most [`max_ticks`](Self::max_ticks): if there are more, none runs |
/// | the lock key is held | the run waits for it, whatever the [overlap policy](crate::Overlap), and replaces nobody. It asks again after 250 ms, then less and less often, up to 5 s |
/// | the job is paused, broken, or not on the leader | the backfill waits |
/// | nobody leads | the backfill waits, also for a job that [any node](crate::Fires::AnyNode) fires |
/// | a run fails | as the job's [retry policy](crate::Retry) says; then the next one starts |
/// | a node dies | its run is [lost](crate::OnLost), as every run, and retried if the job says so; then the next leader goes on with the next fire time |
/// | the lead changes hands during a run | the next leader waits for its end, wherever it goes on |
///
/// A job that fires [on its node only](crate::Fires::Local), or whose ticks follow from the ends of its runs,
/// has no backfill.
///
/// # Errors
///
/// [`BackfillError`]: nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[rtype(result = "Result<BackfillStatus, BackfillError>")]
pub struct Backfill {
    pub(crate) job: String,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    #[serde(default = "one")]
    pub(crate) max_concurrent: u32,
    #[serde(default, with = "crate::serde::duration")]
    pub(crate) spacing: Duration,
    #[serde(default)]
    pub(crate) again: bool,
    #[serde(default = "ticks_max")]
    pub(crate) max_ticks: usize,
    #[serde(skip)]
    pub(crate) asked: Attribution,
}

fn one() -> u32 {
    1
}

fn ticks_max() -> usize {
    BACKFILL_TICKS_MAX
}

impl Backfill {
    /// The job of this name, its fire times from the one instant to the other, both included. The last one
    /// has passed.
    pub fn new(job: impl Into<String>, from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let (max_concurrent, max_ticks) = (one(), ticks_max());
        let (spacing, again, asked) = (Duration::ZERO, false, Attribution::default());
        Self { job: job.into(), from, to, max_concurrent, spacing, again, max_ticks, asked }
    }

    /// Sets how many of its runs may be in progress at a time, 1 to
    /// [`BACKFILL_CONCURRENT_MAX`](crate::BACKFILL_CONCURRENT_MAX), 100. Default: 1. More than one run at a
    /// time only where the overlap policy of the job [allows](crate::Overlap::Allow) it. Runs that go on
    /// on other nodes, since the lead has changed hands, count.
    #[must_use]
    pub fn max_concurrent(self, max_concurrent: u32) -> Self {
        Self { max_concurrent, ..self }
    }

    /// Sets how long from the start of one run to that of the next, at least: 0 to
    /// [`BACKFILL_SPACING_MAX`](crate::BACKFILL_SPACING_MAX), a day, in whole milliseconds. Default: 0. The store's
    /// clock counts it, also when the lead changes hands.
    #[must_use]
    pub fn spacing(self, spacing: Duration) -> Self {
        Self { spacing, ..self }
    }

    /// Whether fire times that had a run are run again. Default: `false`; then the history must reach back to
    /// the range, or it is not known which had one.
    #[must_use]
    pub fn again(self, again: bool) -> Self {
        Self { again, ..self }
    }

    /// Sets how many fire times the range may have, 1 to [`BACKFILL_TICKS_MAX`], 1,000, those that are left
    /// out included: a range with more is refused whole. Default: 1,000.
    #[must_use]
    pub fn max_ticks(self, max_ticks: usize) -> Self {
        Self { max_ticks, ..self }
    }
}

/// Answers what a [`Backfill`] would run, and runs nothing: a dry run.
///
/// # Errors
///
/// [`BackfillError`]: as of the backfill itself, but a range without anything to run is an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[serde(transparent)]
#[rtype(result = "Result<BackfillPreview, BackfillError>")]
pub struct PreviewBackfill(pub Backfill);

/// What a backfill would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackfillPreview {
    /// How many runs.
    pub count: usize,
    /// For which fire times, the earliest first.
    pub fire_times: Vec<FireTime>,
    /// Those of the range that had a run, and are left out.
    pub left_out: Vec<FireTime>,
}

/// Lists backfills, the newest first: those that are running, and the last
/// [`BACKFILLS_KEPT_MAX`](crate::BACKFILLS_KEPT_MAX) that are over.
///
/// # Errors
///
/// [`BackfillError`]: the store keeps none, or did not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Message)]
#[serde(default)]
#[rtype(result = "Result<Vec<BackfillStatus>, BackfillError>")]
pub struct ListBackfills {
    /// Only of this job, whether this node has it or not; `None`: of all jobs of the scope.
    pub job: Option<JobName>,
}

/// Cancels a backfill, on whichever node it was asked for: no further fire time of it is taken up. Answers
/// how it was left. A run of it that is in progress goes on to its end, which
/// [`CancelRun`](crate::CancelRun) brings about; one that waits for its lock key does not start.
///
/// # Errors
///
/// [`BackfillError`]: none of this id is running; the store did not answer, so that it may be cancelled.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<BackfillStatus, BackfillError>")]
pub struct CancelBackfill {
    pub(crate) backfill: BackfillId,
    pub(crate) asked: Attribution,
}

impl CancelBackfill {
    /// This backfill.
    pub fn new(backfill: BackfillId) -> Self {
        Self { backfill, asked: Attribution::default() }
    }
}

says_who_and_why!(Backfill, CancelBackfill);
