//! Starting runs, and asking runs to stop.

use actix::Message;

use super::selector::Selector;
use crate::{
    core::time::FireTime,
    error::{SelectError, TriggerError, UnknownRun},
    job::TriggeredRun,
    name::{JobName, RunId},
    note::{Attribution, says_who_and_why},
};

/// Starts a run now, on this node, under the job's lock key, without moving the schedule. Answers what really
/// happened, once it is decided: the overlap policy and the node's bound of runs hold for it as for ticks.
///
/// # Errors
///
/// [`TriggerError`]: why nothing was started. No job of this node has the name; the fire time that it is to
/// name has not come; its overlap policy or the
/// node's bound of runs refuses the trigger; it was cancelled meanwhile; the job is broken, conflicting or
/// parked; the store did not answer; or the engine shuts down.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<TriggeredRun, TriggerError>")]
pub struct TriggerJob {
    pub(crate) job: String,
    pub(crate) fire_time: Option<FireTime>,
    pub(crate) asked: Attribution,
}

impl TriggerJob {
    /// The job of this name.
    pub fn new(job: impl Into<String>) -> Self {
        Self { job: job.into(), fire_time: None, asked: Attribution::default() }
    }

    /// Has the run *name* a fire time that has passed: "run last night's report again". The body reads it as
    /// [`Run::fire_time`](crate::Run::fire_time), by its [origin](crate::Origin) it knows that somebody
    /// triggered it, and [`RunStarted`](crate::EventKind::RunStarted) has it as `names`. It is a run of its
    /// own all the same: it takes no tick and moves no cursor, however often it is asked for, and the tick
    /// may have run or not. The instant need not be one at which the present schedule fires.
    ///
    /// The store keeps it with the run: if the node dies and the run is [retried](crate::OnLost::Retry), it still
    /// names it. Of who triggered it nothing is known then.
    #[must_use]
    pub fn fire_time(self, fire_time: impl Into<FireTime>) -> Self {
        Self { fire_time: Some(fire_time.into()), ..self }
    }
}

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

says_who_and_why!(TriggerJob, CancelRuns, CancelRun);
