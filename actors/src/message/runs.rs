//! Asking runs to stop.

use actix::Message;

use super::selector::Selector;
use crate::{
    error::{SelectError, UnknownRun},
    name::{JobName, RunId},
    note::{Attribution, says_who_and_why},
};

/// Asks the runs of the selected jobs that are in progress on this node to stop, and answers which they are;
/// those of jobs that were removed are among them. What ignores it is aborted
/// [`abort_after`](crate::Job::abort_after) later. A run that waits for its next attempt ends at once.
/// Triggers that are queued are dropped: [`RunCancelled`](crate::EventKind::RunCancelled) says so of each.
/// Lost runs that wait here to go on end as cancelled when their turn comes.
///
/// # Errors
///
/// [`SelectError`]: a name was given, and no job of this node has it. No job of a tag, or none at all, is no
/// error.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<(JobName, RunId)>, SelectError>")]
pub struct CancelRuns {
    pub(crate) jobs: Selector,
    pub(crate) asked: Attribution,
}

impl CancelRuns {
    /// The runs of the selected jobs.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), asked: Attribution::default() }
    }
}

/// Asks one run to stop that is in progress on this node, or that waits here for its turn, whether its job is
/// still there or was removed. Answers whose run it is. It ends as for [`CancelRuns`]; the other runs of its
/// job go on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<JobName, UnknownRun>")]
pub struct CancelRun {
    pub(crate) run: RunId,
    pub(crate) asked: Attribution,
}

impl CancelRun {
    /// This run.
    pub fn new(run: RunId) -> Self {
        Self { run, asked: Attribution::default() }
    }
}

says_who_and_why!(CancelRuns, CancelRun);
