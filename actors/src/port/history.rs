//! What ran, what did not, and who did what: kept beside the store, to be asked later.

mod batch;
mod decision;
mod error;
mod job;
mod memory_bounds;
mod operation;
mod query;
mod run;

use std::{fmt, future::ready, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::name::JobName;

pub use self::{
    batch::Batch,
    decision::{Decision, DecisionRecord, RECORDS_DROPPED},
    error::HistoryError,
    job::{DurationCounts, EndedRun, FailedRun, Holder, JobRecord, LastEnds},
    memory_bounds::{MEMORY_BYTES_MIN, MemoryBounds},
    operation::{JobOperation, OperationRecord, PauseChange},
    query::{
        AskGaps, DecisionPage, Decisions, Gaps, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, JobHistory,
        OperationPage, Operations, PageStart, RecordsOf, RunHistory, RunPage,
    },
    run::{ATTEMPTS_RECORDED_MAX, AttemptRecord, OPEN_RUN_STALE, RunOrigin, RunRecord},
};

/// Keeps what happened: runs, decisions that started nothing, operations, and one row for each job.
///
/// It decides nothing: no claim, no end and no cursor depends on it, and the engine never waits for it. What
/// it does not take in time is dropped and counted.
///
/// * **Runs.** There is one record of a run. A later one takes the place of one in progress, or lost, and keeps
///   the start of the first attempt. A record that says that a run is lost changes nothing of one that ended in
///   another way, nor of its retry, which has a greater token; of one in progress it changes the end only. Writing
///   the same twice changes nothing. [`RunRecord::supersedes`] decides.
/// * **Runs in progress.** Their node writes them again each minute. One that was not written for
///   [`OPEN_RUN_STALE`] is answered as [stale](RunRecord::is_stale), and holds its job no more.
/// * **Pauses.** Of the changes of a job the one that was made last counts: see [`PauseChange`].
/// * **Decisions.** Of one node, job, reason and time there is one record; a later one takes its place.
/// * **Jobs.** The row of a job counts each run once, when it is first recorded as ended. A lost run that goes
///   on and ends counts again.
/// * **Nodes.** Those of a scope write and read the same history, in any order.
///
/// Its futures are polled on a thread of the engine's that does nothing else, with timers and I/O, or on the
/// caller's `LocalSet`.
pub trait History: Send + Sync + fmt::Debug + 'static {
    /// What it is called in errors and logs: `memory`, `postgres`.
    fn name(&self) -> &'static str;

    /// Writes records, all or none.
    ///
    /// # Errors
    ///
    /// * [`HistoryError::Unavailable`]: whether they were written is not known. The engine writes them again.
    /// * [`HistoryError::BadData`]: none was written, and none of them ever will be together.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`HistoryError::Unavailable`].
    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>>;

    /// The same at once, on the thread of whoever records, for a history in the memory of this process. What
    /// was written is taken out of the batch. Default: `false`, which means that it cannot.
    fn write_now(&self, batch: &mut Batch) -> bool {
        let _ = batch;
        false
    }

    /// One page of runs, the newest first.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`].
    ///
    /// # Cancel safety
    ///
    /// Safe, as are the other questions.
    fn runs<'a>(&'a self, asked: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>>;

    /// What became of a job so far; `None` if nothing is known of it.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`].
    fn job<'a>(&'a self, job: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>>;

    /// When runs of these jobs ended last, at most [`LAST_ENDS_MAX`] jobs, each once: one question for all of
    /// them. Those of which nothing is known are left out. In any order.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`].
    fn last_ends<'a>(&'a self, jobs: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>>;

    /// One page of decisions, the newest first.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`].
    fn decisions<'a>(&'a self, asked: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>>;

    /// One page of operations, the newest first.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`].
    fn operations<'a>(&'a self, asked: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>>;

    /// What it does not have of a time: since when nothing was deleted because there was too much of it, and how many
    /// records were [dropped](Decision::RecordsDropped), by the decisions that it has. What is deleted by its age is
    /// not meant. Pages are answered without it: whoever asks for them asks for this as well. Default: nothing is
    /// known to be missing.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`].
    fn gaps<'a>(&'a self, asked: &'a AskGaps) -> BoxFuture<'a, Result<Gaps, HistoryError>> {
        let _ = asked;
        Box::pin(ready(Ok(Gaps::none())))
    }

    /// Deletes some of what need not be kept any more at `now`, the store's time: a bounded number of records, in
    /// little time, some of each kind. Answers whether there is more that can be deleted now: a kind of which something
    /// cannot be is logged, keeps no other kind, and is tried again a minute later. Asked by the leader only. Rows of
    /// jobs stay, and so do runs in progress, but for those that are [stale](RunRecord::is_stale) and of which nothing
    /// was written for [`Retention::failures_for`].
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unavailable`]: some may have been deleted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`HistoryError::Unavailable`].
    fn prune<'a>(
        &'a self,
        now: DateTime<Utc>,
        retention: &'a Retention,
    ) -> BoxFuture<'a, Result<bool, HistoryError>>;
}

/// The most jobs about which [`History::last_ends`] is asked at once.
pub const LAST_ENDS_MAX: usize = 4_096;

/// For how long records are kept, and how many.
///
/// A record is deleted when it is older than its time, or when a job has more of its kind than may be kept. A run
/// counts from its end, however long it took. The row of a job is never deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// For how long runs that succeeded or were cancelled are kept, 1 min to 100 years. Default: 30 days.
    pub runs_for: Duration,
    /// For how long other runs are kept, at least `runs_for`. Default: 90 days.
    pub failures_for: Duration,
    /// For how long decisions are kept, 1 min to 100 years. Default: 30 days.
    pub decisions_for: Duration,
    /// For how long operations are kept, 1 min to 100 years. Default: 365 days.
    pub operations_for: Duration,
    /// How many runs of each outcome are kept of a job, at least 1; the newest. Default: 10,000.
    pub runs_per_job: u64,
}

/// The shortest time for which records are kept.
pub const RETENTION_MIN: Duration = Duration::from_mins(1);
/// The longest time for which records are kept: 100 years.
pub const RETENTION_MAX: Duration = Duration::from_hours(24 * 365 * 100);

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self {
            runs_for: days(30),
            failures_for: days(90),
            decisions_for: days(30),
            operations_for: days(365),
            runs_per_job: 10_000,
        }
    }
}
