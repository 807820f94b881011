//! Adding, removing and changing jobs.

use std::sync::Arc;

use actix::Message;
use serde::{Deserialize, Serialize};

use super::selector::Selector;
use crate::{
    definition::Job,
    error::Faults,
    error::{AddError, SelectError, UpdateError},
    job::Scheduled,
    name::JobName,
    note::{Attribution, says_who_and_why},
    port::{IntoSchedule, Schedule},
};

/// Adds one job to this node, and answers who fires it.
///
/// Definitions in code are each node's own. A job that the leader does not have is fired by the nodes that
/// have it. One whose lock key is not its name is refused if other nodes declare another [overlap
/// policy](crate::Overlap) for it, as far as the store answers.
///
/// The ticks of a job count from the instant at which it is added. One whose last fire time has passed by
/// then, be it by a moment, would never run: it is refused as [`Over`](crate::AddError::Over), on every node,
/// whatever its misfire policy. A job that the engine starts with is not: if the store knows it from before,
/// its misfire policy decides what it missed; otherwise it is [`Exhausted`](crate::JobState::Exhausted), and
/// a warning in the log says so.
///
/// # Errors
///
/// [`AddError`]: the definition breaks a rule, or contradicts others; the name is taken; the last fire time
/// has passed; or the engine shuts down. Nothing was added then.
#[derive(Message)]
#[rtype(result = "Result<Added, AddError>")]
pub struct AddJob {
    pub(crate) job: Job,
    pub(crate) asked: Attribution,
}

impl AddJob {
    /// This job.
    pub fn new(job: Job) -> Self {
        Self { job, asked: Attribution::default() }
    }
}

/// Adds all of the jobs, or none.
#[derive(Message)]
#[rtype(result = "Result<Vec<Added>, AddError>")]
pub struct AddJobs {
    pub(crate) jobs: Vec<Job>,
    pub(crate) asked: Attribution,
}

impl AddJobs {
    /// These jobs.
    pub fn new(jobs: impl IntoIterator<Item = Job>) -> Self {
        Self { jobs: jobs.into_iter().collect(), asked: Attribution::default() }
    }
}

/// A job that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Added {
    /// The job.
    pub job: JobName,
    /// Who fires it.
    #[serde(flatten)]
    pub scheduled: Scheduled,
}

/// Removes jobs from this node, and answers their names. A run in progress goes on to its end, holds its lock
/// key until then, and can be [seen](crate::JobDetails) and [cancelled](crate::CancelRun); triggers that are queued are
/// dropped: [`RunCancelled`](crate::EventKind::RunCancelled) says so of each. If a job of the same name is
/// added meanwhile, its ticks and triggers overlap with that run, as its [overlap policy](crate::Overlap)
/// says; its details show the run as [one of a former job](crate::JobStatus::former_runs).
///
/// Definitions in code are each node's own: a job that is removed on one node goes on firing on the others
/// that have it. If that node led, the others find it out within half a minute, and their [misfire
/// policy](crate::Misfire) decides the ticks that came due until then. Remove it on all of them, or
/// [pause](crate::PauseJobs) it. The ticks of a job that is added again count from then on.
///
/// # Errors
///
/// [`SelectError`]: a name was given, and no job of this node has it, or it is a [stored](crate::PutJob) one. No job of
/// a tag, or none at all, is no error; stored jobs are left out.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<JobName>, SelectError>")]
pub struct RemoveJobs {
    pub(crate) jobs: Selector,
    pub(crate) asked: Attribution,
}

impl RemoveJobs {
    /// The selected jobs.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), asked: Attribution::default() }
    }
}

/// Gives a job of this node another definition. It keeps its name, its cursor and its history; the attempts
/// in progress go on under the former definition. Ticks run by another [overlap policy](crate::Overlap) once
/// the store has compared it with those of other nodes; one that is known to contradict them is refused as
/// for [`AddJob`]. A schedule of another [identity](crate::port::Schedule::identity) owes ticks from the
/// change on, as does a job that was [`Local`](crate::Fires::Local); one whose last fire time has passed is
/// refused as [`Over`](crate::UpdateError::Over). A [broken](crate::JobState::Broken) job fires again; a
/// [parked](crate::JobState::Parked) one is tried again.
///
/// # Errors
///
/// [`UpdateError`]: the definition breaks a rule, no job of this node has the name, the last fire time of
/// another schedule has passed, or the engine shuts down. Nothing was changed then.
#[derive(Message)]
#[rtype(result = "Result<Added, UpdateError>")]
pub struct UpdateJob {
    pub(crate) job: Job,
    pub(crate) asked: Attribution,
}

impl UpdateJob {
    /// The job as it is to be from now on.
    pub fn new(job: Job) -> Self {
        Self { job, asked: Attribution::default() }
    }
}

/// Gives a job of this node another schedule, and leaves the rest of its definition as it is: its body,
/// policies, hooks, tags and lock key. Otherwise as [`UpdateJob`]: it owes ticks by the new schedule from the
/// change on.
#[derive(Clone, Message)]
#[rtype(result = "Result<Added, UpdateError>")]
pub struct RescheduleJob {
    pub(crate) job: String,
    pub(crate) schedule: Result<Arc<dyn Schedule>, Faults>,
    pub(crate) asked: Attribution,
}

impl RescheduleJob {
    /// What is wrong with the schedule is answered with the rest.
    pub fn new(job: impl Into<String>, schedule: impl IntoSchedule) -> Self {
        Self { job: job.into(), schedule: schedule.into_schedule(), asked: Attribution::default() }
    }
}

says_who_and_why!(AddJob, AddJobs, RemoveJobs, UpdateJob, RescheduleJob);
