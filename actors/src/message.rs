//! What an application says to the supervisor.

mod backfill;
mod catalogue;
mod trigger;

pub use self::{
    backfill::{Backfill, BackfillPreview, CancelBackfill, ListBackfills, PreviewBackfill},
    catalogue::{DeleteJob, ListStored, PutJob, StoredDetails, StoredHere, StoredPage, StoredStatus},
    trigger::TriggerJob,
};

use std::{sync::Arc, time::Duration};

use actix::{Addr, Message};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    definition::Job,
    drain::ShutdownReport,
    error::{
        AddError, Faults, NextFireTimesError, PauseError, SelectError, SkipMissedError, UnknownRun,
        UpdateError,
    },
    health::HealthReport,
    job::{JobActor, JobState, JobStatus, Scheduled},
    name::{By, JobName, RunId},
    note::{Attribution, says_who_and_why},
    port::{IntoSchedule, Pause, Schedule},
    task::TaskDetails,
};

/// The most jobs in one page of a listing, or of an enrolment.
pub const PAGE_MAX: usize = 1_024;

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

/// Which jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// The job of this name.
    Name(String),
    /// Every job with this tag.
    Tag(String),
    /// Every job.
    All,
}

impl From<&str> for Selector {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&JobName> for Selector {
    fn from(name: &JobName) -> Self {
        Self::Name(name.as_str().to_owned())
    }
}

/// Removes jobs from this node, and answers their names. A run in progress goes on to its end, holds its lock
/// key until then, and can be [seen](JobDetails) and [cancelled](CancelRun); triggers that are queued are
/// dropped: [`RunCancelled`](crate::EventKind::RunCancelled) says so of each. If a job of the same name is
/// added meanwhile, its ticks and triggers overlap with that run, as its [overlap policy](crate::Overlap)
/// says; its details show the run as [one of a former job](crate::JobStatus::former_runs).
///
/// Definitions in code are each node's own: a job that is removed on one node goes on firing on the others
/// that have it. If that node led, the others find it out within half a minute, and their [misfire
/// policy](crate::Misfire) decides the ticks that came due until then. Remove it on all of them, or
/// [pause](PauseJobs) it. The ticks of a job that is added again count from then on.
///
/// # Errors
///
/// [`SelectError`]: a name was given, and no job of this node has it, or it is a [stored](PutJob) one. No job of a tag,
/// or none at all, is no error; stored jobs are left out.
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
#[derive(Message)]
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

/// Pauses jobs on all nodes: their ticks do not run until they are [resumed](ResumeJobs), or until the pause
/// is over. Runs in progress go on, and manual triggers run. A tick that comes due meanwhile is *held*: it
/// runs if the job is resumed within its misfire window, and is skipped with the reason `paused` once that is
/// over or a newer tick takes its place: see [`Misfire`](crate::Misfire).
///
/// Answers the jobs that were not paused in this way before: asking twice is harmless. A
/// [`Local`](crate::Fires::Local) job is paused on this node.
///
/// # Errors
///
/// [`PauseError`]: a name was given, and no job of this node has it; the note or the end of the pause breaks
/// a rule; the store did not answer, or refuses some of the jobs for their data. The others may be paused
/// then.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<JobName>, PauseError>")]
#[non_exhaustive]
pub struct PauseJobs {
    /// Which jobs.
    pub jobs: Selector,
    /// Until when; `None`: until they are resumed.
    pub until: Option<DateTime<Utc>>,
    /// Why, for those who wonder; at most [`PAUSE_NOTE_MAX`](crate::PAUSE_NOTE_MAX) bytes.
    pub note: Option<String>,
    /// Who asks.
    pub by: Option<By>,
}

impl PauseJobs {
    /// Until they are resumed, without a note.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), until: None, note: None, by: None }
    }

    /// As this pause says: until when, why if it says so, and who asks if it names somebody.
    #[must_use]
    pub fn with(self, pause: Pause) -> Self {
        let Pause { until, note, by } = pause;
        Self { until, note: note.or(self.note), by: by.or(self.by), ..self }
    }

    /// Until then; `None`: until they are resumed.
    #[must_use]
    pub fn until(self, until: impl Into<Option<DateTime<Utc>>>) -> Self {
        Self { until: until.into(), ..self }
    }

    /// Why, for those who wonder; at most [`PAUSE_NOTE_MAX`](crate::PAUSE_NOTE_MAX) bytes.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Says who asks.
    #[must_use]
    pub fn by(self, by: impl Into<Option<By>>) -> Self {
        Self { by: by.into(), ..self }
    }
}

/// Ends the pause of jobs, on all nodes. Those of this node that are [broken](crate::JobState::Broken) fire
/// again, with a new budget of restarts, and those that are [parked](crate::JobState::Parked) are tried
/// again. What they missed is decided by their misfire policies. Answers those that were paused, broken or
/// parked.
///
/// # Errors
///
/// [`PauseError`]: a name was given, and no job of this node has it; the store did not answer, or refuses
/// some of the jobs for their data. The others may be resumed then.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<JobName>, PauseError>")]
pub struct ResumeJobs {
    pub(crate) jobs: Selector,
    pub(crate) asked: Attribution,
}

impl ResumeJobs {
    /// The selected jobs.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), asked: Attribution::default() }
    }
}

/// Skips everything that jobs have missed until now, and that is not decided: after a downtime, instead of letting
/// their [misfire policies](crate::Misfire) make up for it. Answers of each job how many ticks were skipped, none
/// included, once the store knows it.
///
/// What is meant is each tick that is due and has no run: missed ticks that wait for their
/// [turn](crate::EngineOptions::catch_up_per_second), for a run to end or for a permit, and those that a pause
/// holds. They are skipped with the reason [`operator`](crate::SkipReason::Operator). Runs in progress go on, a
/// tick that is being claimed runs if it is granted, and ticks that come due from now on are as ever. A lost run
/// that is to be [retried](crate::OnLost::Retry) is none of them: it had begun. [Cancel](CancelRuns) it.
///
/// The cursors are moved by the node that decides: of a [`Leader`](crate::Fires::Leader) job the leader, of an
/// [`AnyNode`](crate::Fires::AnyNode) one each node, for all of them; of a [`Local`](crate::Fires::Local) one this
/// node for itself.
///
/// # Errors
///
/// [`SkipMissedError`]: a name was given, and no job of this node has it; another node
/// decides the ticks of some of the jobs, and which one leads, if that is known: ask there. Nothing
/// was skipped then. Or some jobs, or the store, did not answer: each has 5 s, and all of them together, however many
/// they are, have 30 s. The others were skipped; ask again, it does no harm.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<SkippedMissed>, SkipMissedError>")]
pub struct SkipMissed {
    pub(crate) jobs: Selector,
    pub(crate) asked: Attribution,
}

impl SkipMissed {
    /// What the selected jobs have missed.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), asked: Attribution::default() }
    }
}

/// What was skipped of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkippedMissed {
    /// The job.
    pub job: JobName,
    /// How many ticks.
    pub count: u64,
    /// There may have been more: counting stopped at its bound, 10,000.
    pub at_least: bool,
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

says_who_and_why!(
    AddJob,
    AddJobs,
    RemoveJobs,
    UpdateJob,
    RescheduleJob,
    ResumeJobs,
    SkipMissed,
    CancelRuns,
    CancelRun
);

/// Asks for the next fire times of a job: the first that is not decided yet, and those after it.
/// Fewer mean that the schedule is exhausted.
///
/// # Errors
///
/// [`NextFireTimesError`]: more than [`FIRE_TIMES_MAX`](crate::FIRE_TIMES_MAX) were asked for, no job of this
/// node has the name, or its actor did not answer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<DateTime<Utc>>, NextFireTimesError>")]
pub struct NextFireTimes {
    /// The job.
    pub job: String,
    /// How many, at most [`FIRE_TIMES_MAX`](crate::FIRE_TIMES_MAX), 1,000.
    pub count: usize,
}

/// Lists jobs in the order of their names. A page costs one question to the actor of each of its jobs,
/// however many jobs there are and whatever the filter.
///
/// The default is the first page of all jobs.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "JobPage")]
#[non_exhaustive]
pub struct ListJobs {
    /// Only names that start with this.
    pub prefix: Option<String>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs in this state, as this node sees them; those that were [removed](JobState::Removed) are
    /// listed only if they are asked for so. The actor of each job has to be asked for it, so that one page
    /// looks at [`PAGE_MAX`] jobs with the prefix and the tag and no more: it may have fewer jobs than
    /// `limit`, or none, and still have a next one.
    pub state: Option<JobState>,
    /// Only names after this one: [`JobPage::next`] of the page before.
    pub after: Option<String>,
    /// How many at most, up to [`PAGE_MAX`]; 0 is [`PAGE_MAX`].
    pub limit: usize,
}

impl ListJobs {
    /// Only names that start with this.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: Some(prefix.into()), ..self }
    }

    /// Only jobs with this tag.
    #[must_use]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..self }
    }

    /// Only jobs in this state: see the field of the same name.
    #[must_use]
    pub fn state(self, state: JobState) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Only names after this one, [`JobPage::next`] of the page before; `None`: from the first on.
    #[must_use]
    pub fn after(self, name: impl Into<Option<String>>) -> Self {
        Self { after: name.into(), ..self }
    }

    /// How many at most, up to [`PAGE_MAX`]; 0 is [`PAGE_MAX`].
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs of the page.
    pub jobs: Vec<JobStatus>,
    /// Where the next page starts; `None` if this is the last.
    pub next: Option<String>,
}

/// Asks for one job. One that was removed while runs of it were in progress is answered, as
/// [removed](JobState::Removed), until the last of them has ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<JobStatus>")]
pub struct JobDetails(pub String);

/// Asks for an address of the actor of a job, to send it messages without the supervisor in between. It is
/// made when it is asked for, and costs nothing once nobody holds it; two of one job are not equal.
///
/// The actor understands [`FireTimes`](crate::FireTimes) and [`CancelItsRuns`](crate::CancelItsRuns). It stays
/// the same when the job is updated. The address is closed when the job was removed and its last run has
/// ended, and when the actor has panicked: ask again then.
///
/// # Errors
///
/// [`SelectError`]: no job of this node has the name.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Addr<JobActor>, SelectError>")]
pub struct JobAddress(pub String);

/// Asks which [tasks](crate::Task) this node has, with the JSON Schemas of their arguments, in the order of their names.
/// Nodes of one cluster may have different ones.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<TaskDetails>")]
pub struct ListTasks;

/// Asks how the node is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "HealthReport")]
pub struct Health;

/// Asks this node to leave the lead to another one, and answers whether it led. When it answers, the node
/// does not lead. It does not campaign again before another node leads, or
/// [`resign_pause`](crate::EngineOptions::resign_pause) is over. Its runs go on, under their keys; no tick is
/// lost.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct Resign;

/// Stops the engine: no tick is armed any more, the term is given up, runs may end until `deadline` has
/// passed, are then cancelled, and aborted
/// [`shutdown_abort_after`](crate::EngineOptions::shutdown_abort_after) later. Answers when it is over.
/// Asking twice is harmless; the first deadline holds. A body that waits for the answer is itself a run that
/// drains: it is cancelled when the deadline has passed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct Shutdown {
    /// How long runs may drain; `Duration::MAX`: as long as they take.
    pub deadline: Duration,
}

/// Says that a shutdown is to come: from now on the node is not ready, so that load balancers leave it out.
/// Jobs go on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AnnounceShutdown;

/// Stops the engine at once: what runs is cancelled and aborted without a wait, also in a shutdown that is
/// under way. Answers when it is over.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct ShutdownNow;
