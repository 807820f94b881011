//! What a session is told.

use super::Debt;
use crate::{
    core::pause::Pause,
    name::{JobName, RunId},
};

/// Something that another node did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// A run of this node holds a key that somebody wants to take in its place: it is to stop.
    Stop {
        /// The run.
        run: RunId,
    },
    /// A job was paused or resumed.
    Pause {
        /// The job.
        job: JobName,
        /// As the store says when this is handed on; `None`: it is not paused.
        pause: Option<Pause>,
    },
    /// A run was closed as lost, and its job owes it.
    Owed(Debt),
    /// There was more news than a session keeps, and the oldest were dropped: whatever they would have said stands in the
    /// store.
    Missed,
}
