//! Why no run was started or cancelled.

use std::sync::Arc;

use super::kind::ErrorKind;
use crate::{
    core::backfill::BackfillId,
    fault::Faults,
    name::{JobName, RunId},
    port::HistoryError,
};

/// Who holds a key, if it is known.
fn by(holder: Option<RunId>) -> String {
    holder.map(|run| format!(" by run {run}")).unwrap_or_default()
}

/// Why no run was cancelled: this node neither runs it nor is to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "run {run} is neither in progress nor waits on this node; it has ended, or another node runs it: cancel it there, or from here by `cluster()`"
)]
pub struct UnknownRun {
    /// The run.
    pub run: RunId,
}

impl UnknownRun {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }
}

/// Why a trigger started nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// What was asked breaks a rule: the fire time that the run is to [name](crate::TriggerJob::fire_time) has not
    /// come; or the task of the job cannot read the [arguments](crate::TriggerJob::arguments), or there is none.
    #[error("{0}")]
    Invalid(Faults),
    /// A run of the same lock key is in progress, or is being claimed.
    #[error("job {job:?} was not started: its lock key is held{}; wait for that run to end, or cancel it", by(*holder))]
    Overlap {
        /// The job.
        job: JobName,
        /// The run that holds the key, if known.
        holder: Option<RunId>,
    },
    /// The node runs as many bodies as it may, and is told to skip what finds no place.
    #[error("job {job:?} was not started: the node runs as many bodies as it may; try again later")]
    Concurrency {
        /// The job.
        job: JobName,
    },
    /// Its runs were [cancelled](crate::CancelRuns) before it started.
    #[error("job {job:?} was not started: its runs were cancelled meanwhile")]
    Cancelled {
        /// The job.
        job: JobName,
    },
    /// The store did not answer; if it granted the run all the same, it is closed as cancelled. Or it refused
    /// the run for its data, and perhaps refuses everybody: then the job is not to blame, and nothing was
    /// granted.
    #[error("job {job:?} was not started: the store did not grant it: {reason}; try again later")]
    Unavailable {
        /// The job.
        job: JobName,
        /// What happened.
        reason: String,
    },
    /// The job is [broken](crate::JobState::Broken), or its actor died before it answered.
    #[error("job {job:?} was not started: {reason}")]
    Broken {
        /// The job.
        job: JobName,
        /// What happened, and the cure.
        reason: Arc<str>,
    },
    /// The node does not fire the job: see [`JobState::Conflicting`](crate::JobState::Conflicting).
    #[error("job {job:?} was not started: {reason}")]
    Conflicting {
        /// The job.
        job: JobName,
        /// The key, both policies, and what would mend it.
        reason: Arc<str>,
    },
    /// The store refuses the job for its data: see [`JobState::Parked`](crate::JobState::Parked).
    #[error(
        "job {job:?} was not started: the store refuses its data: {reason}; update the job, or mend the store: it is tried again about once a minute"
    )]
    Parked {
        /// The job.
        job: JobName,
        /// What the store says.
        reason: Arc<str>,
    },
    /// The engine shuts down or has stopped.
    #[error("no job is started any more: the engine shuts down")]
    ShuttingDown,
}

impl TriggerError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Overlap { .. } | Self::Concurrency { .. } | Self::Cancelled { .. } => ErrorKind::Busy,
            Self::Unavailable { .. }
            | Self::Broken { .. }
            | Self::Conflicting { .. }
            | Self::Parked { .. } => ErrorKind::Unavailable,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// Why there is no backfill, or none was cancelled or listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackfillError {
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// No backfill of this id is running.
    #[error("no backfill {backfill} is running; list the backfills to see their ids")]
    UnknownBackfill {
        /// The id.
        backfill: BackfillId,
    },
    /// What was asked breaks a rule.
    #[error("{0}")]
    Invalid(Faults),
    /// As many backfills are running as may.
    #[error(
        "{max} backfills of the scope are running, and no more may; wait for one to finish, or cancel one"
    )]
    TooMany {
        /// So many.
        max: usize,
    },
    /// The store keeps no backfills.
    #[error(
        "the {backend} store keeps no backfills; trigger the job for one fire time after the other (TriggerJob::fire_time), or use another store"
    )]
    NotKept {
        /// What the store is called.
        backend: &'static str,
    },
    /// The history did not say which fire times had a run.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The job's actor did not answer, or its schedule breaks its contract.
    #[error("job {job:?} did not answer which fire times it has; see the log, and ask again")]
    Unresponsive {
        /// The job.
        job: JobName,
    },
    /// The store did not answer: it may be done. Or it refuses it.
    #[error("the store did not answer: {reason}; list the backfills, and ask again if it is not there")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The engine shuts down or has stopped.
    #[error("no backfill is started or cancelled any more: the engine shuts down")]
    ShuttingDown,
}

impl BackfillError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } | Self::UnknownBackfill { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::TooMany { .. } => ErrorKind::Busy,
            Self::NotKept { .. } | Self::Unresponsive { .. } | Self::Unavailable { .. } => {
                ErrorKind::Unavailable
            }
            Self::History(error) => error.kind(),
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}
