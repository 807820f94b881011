//! Why a question about a job has no answer.

use super::kind::ErrorKind;
use crate::core::text::Grouped;
use crate::{fault::Faults, name::JobName, port::HistoryError};

/// The most fire times in one answer.
pub const FIRE_TIMES_MAX: usize = 1_000;

/// Why there are no fire times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NextFireTimesError {
    /// More were asked for than [`FIRE_TIMES_MAX`].
    #[error(
        "{} fire times are more than the {} of one answer; ask for fewer, or preview the schedule from an instant on",
        Grouped(*count as u64), Grouped(FIRE_TIMES_MAX as u64)
    )]
    TooMany {
        /// How many were asked for.
        count: usize,
    },
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// The job's actor did not answer in time: its schedule panicked, or blocks its thread.
    #[error("job {job:?} did not answer; see the log for a panic of its schedule")]
    Unresponsive {
        /// The job.
        job: JobName,
    },
}

impl NextFireTimesError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany { .. } => ErrorKind::Invalid,
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Unresponsive { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why it is not explained what became of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// The range breaks a rule.
    #[error("{0}")]
    Invalid(Faults),
    /// The job's actor did not answer in time: its schedule panicked, or blocks its thread.
    #[error("job {job:?} did not answer; see the log for a panic of its schedule")]
    Unresponsive {
        /// The job.
        job: JobName,
    },
    /// The history did not answer. That none is kept is no error: the answer says so.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl ExplainError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unresponsive { .. } | Self::History(_) => ErrorKind::Unavailable,
        }
    }
}
