//! What another node did, as a session is notified of it.

use super::PendingRetryOfJob;
use crate::{
    core::pause::Pause,
    name::{JobName, RunId},
};

/// Something that another node did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notification {
    /// Another node wants the key that this run of this node has, and the run is to stop for it.
    Stop {
        /// The run.
        run: RunId,
    },
    /// A job was paused or resumed.
    PauseChanged {
        /// The job.
        job: JobName,
        /// As the store says when this is handed on; `None`: it is not paused.
        pause: Option<Pause>,
    },
    /// A run was closed as lost, and is to be retried.
    PendingRetry(PendingRetryOfJob),
    /// A backfill was kept, or cancelled.
    BackfillsChanged,
    /// There were more notifications than a session keeps, and the oldest were dropped. What they said is in
    /// the store.
    Lagged,
}
