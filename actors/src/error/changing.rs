//! Why jobs were not selected, changed, paused or resumed, or their missed ticks not skipped.

use super::{adding::Over, kind::ErrorKind};
use crate::{
    fault::Faults,
    health::ProblemJobs,
    name::{JobName, NodeId},
};

/// Why no job was selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is no job of this name. A tag that no job has, and "all" of none, are no errors.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// It is a stored job, which is deleted on all nodes at once.
    #[error(
        "job {job:?} is stored, and removing it here would leave it to the other nodes; delete it (DeleteJob)"
    )]
    Stored {
        /// The job.
        job: JobName,
    },
}

impl SelectError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Stored { .. } => ErrorKind::Invalid,
        }
    }
}

/// Why a job was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Something is wrong with the definition.
    #[error("{0}")]
    Invalid(Faults),
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; add it instead")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// The definition is right, but its schedule is another one, of which the last fire time has passed.
    #[error(transparent)]
    Over(#[from] Over),
    /// The engine shuts down or has stopped.
    #[error("no job is changed any more: the engine shuts down")]
    ShuttingDown,
}

impl UpdateError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Over(_) => ErrorKind::Over,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// Why jobs were not paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// There is no such job.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The pause itself is wrong.
    #[error("{0}")]
    Invalid(Faults),
    /// The store did not answer: some of the jobs may have been paused or resumed.
    #[error("the store did not answer: {reason}; ask again, it does no harm")]
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
    /// The store refuses this for its data, for some of the jobs. The others were paused or resumed.
    #[error("the store refuses its data for {count} of the jobs, the first of them {job:?}: {reason}")]
    BadData {
        /// The first of them.
        job: JobName,
        /// How many they are.
        count: usize,
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
}

impl PauseError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Select(error) => error.kind(),
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unavailable { .. } | Self::BadData { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why what jobs have missed was not skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipMissedError {
    /// There is no such job.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// This node does not decide the ticks of these jobs. Nothing was skipped.
    #[error("this node does not decide the ticks of {jobs}; {}", there(*leader))]
    NotDecidedHere {
        /// Of which.
        jobs: ProblemJobs,
        /// The node that leads, if it is known and is another one.
        leader: Option<NodeId>,
    },
    /// These jobs, or the store, did not answer in time, or were not asked any more. What the others had missed was
    /// skipped.
    #[error(
        "whether what {jobs} had missed was skipped is not known: the store or the jobs did not answer; ask again, it does no harm"
    )]
    Unanswered {
        /// Which.
        jobs: ProblemJobs,
    },
    /// The engine shuts down or has stopped.
    #[error("nothing is skipped any more: the engine shuts down")]
    ShuttingDown,
}

/// Where to ask instead.
fn there(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("node {leader} leads: ask there"),
        None => "ask the node that leads, once one does".to_owned(),
    }
}

impl SkipMissedError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Select(error) => error.kind(),
            Self::NotDecidedHere { .. } | Self::Unanswered { .. } => ErrorKind::Unavailable,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}
