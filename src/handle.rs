//! The handle of a running scheduler.

use std::time::Duration;

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use callsheet_actors::{
    AddJob, AddJobs, Added, By, CancelRun, CancelRuns, DecisionPage, Decisions, Engine, Event, EventFilter,
    EventStream, Explain, Explanations, FireTime, Health, HealthReport, IntoRecipient, Job, JobActor,
    JobAddress, JobDetails, JobHistory, JobName, JobPage, JobRecord, JobStatus, ListJobs, Listen, ListenTo,
    NAME_MAX, NextFireTimes, Note, OperationPage, Operations, Pause, PauseJobs, RemoveJobs, RescheduleJob,
    Resign, ResumeJobs, RunHistory, RunId, RunPage, SelectError, Selector, ShutdownReport, SkipMissed,
    SkippedMissed, SupervisorActor, TriggerJob, TriggeredRun, UpdateJob, When, adapter::bounded,
    port::IntoSchedule,
};
use chrono::{DateTime, Utc};

use crate::{builder::Builder, error::Error};

/// A running scheduler. Cheap to clone; works in any runtime.
///
/// Its methods send messages to the [supervisor](Self::supervisor), which an actor may send itself:
///
/// | to | method | message |
/// |---|---|---|
/// | add, change and remove jobs | [`add`](Self::add), [`add_all`](Self::add_all), [`update`](Self::update), [`reschedule`](Self::reschedule), [`remove`](Self::remove) | [`AddJob`], [`AddJobs`], [`UpdateJob`], [`RescheduleJob`], [`RemoveJobs`] |
/// | pause and resume them, on all nodes | [`pause`](Self::pause), [`pause_with`](Self::pause_with), [`resume`](Self::resume) | [`PauseJobs`], [`ResumeJobs`] |
/// | skip what they missed | [`skip_missed`](Self::skip_missed) | [`SkipMissed`] |
/// | say who asks, and why | [`by`](Self::by), [`note`](Self::note) | `by` and `note` of each of these |
/// | run a job now; stop runs | [`trigger`](Self::trigger), [`trigger_for`](Self::trigger_for), [`cancel_runs`](Self::cancel_runs), [`cancel_run`](Self::cancel_run) | [`TriggerJob`], [`CancelRuns`], [`CancelRun`] |
/// | run what was missed | [`backfill`](Self::backfill), [`preview_backfill`](Self::preview_backfill), [`backfills`](Self::backfills), [`cancel_backfill`](Self::cancel_backfill) | [`Backfill`](crate::Backfill), [`PreviewBackfill`](crate::PreviewBackfill), [`ListBackfills`](crate::ListBackfills), [`CancelBackfill`](crate::CancelBackfill) |
/// | see what jobs do | [`details`](Self::details), [`list`](Self::list), [`next_fire_times`](Self::next_fire_times), [`explain`](Self::explain) | [`JobDetails`], [`ListJobs`], [`NextFireTimes`], [`Explain`] |
/// | talk to the actor of a job itself | [`job_address`](Self::job_address) | [`JobAddress`] |
/// | see what happened | [`runs`](Self::runs), [`history`](Self::history), [`decisions`](Self::decisions), [`operations`](Self::operations) | [`RunHistory`], [`JobHistory`], [`Decisions`], [`Operations`] |
/// | hear what happens | [`events`](Self::events), [`listen`](Self::listen), [`listen_to`](Self::listen_to) | [`Events`](crate::Events), [`Listen`], [`ListenTo`] |
/// | see how the node is, and leave the lead | [`health`](Self::health), [`resign`](Self::resign) | [`Health`], [`Resign`] |
/// | stop | [`shutdown`](Self::shutdown), [`shutdown_now`](Self::shutdown_now), [`shutdown_on`](Self::shutdown_on) | [`Shutdown`](crate::Shutdown), [`ShutdownNow`](crate::ShutdownNow) |
///
/// Jobs are selected by name, by tag, or all of them: [`Selector`]. Dropping the handle stops nothing: jobs
/// go on until [`shutdown`](Self::shutdown) or the end of the process.
#[derive(Clone)]
pub struct Callsheet {
    pub(crate) engine: Engine,
    /// Who asks.
    pub(crate) by: Option<By>,
    /// Why.
    pub(crate) note: Option<Note>,
}

impl Callsheet {
    /// Begins the definition of a scheduler, with every option at its default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, by: None, note: None }
    }

    /// The handle of a node of a rig, for functions of an application that take one: everything works as it
    /// does outside, on virtual time. The guide to [tests](crate::guide::testing) has an example.
    ///
    /// A frozen node answers when it goes on; one that was killed, [`Error::Stopped`].
    #[cfg(feature = "testkit")]
    pub fn of_rig(rig: &crate::testkit::Rig, node: crate::testkit::NodeIndex) -> Self {
        Self::new(rig.engine(node))
    }

    /// Returns the actor behind this handle, for messages.
    pub fn supervisor(&self) -> &Addr<SupervisorActor> {
        self.engine.supervisor()
    }

    /// A handle of the same scheduler that says who asks: each job that is added, changed, paused, resumed,
    /// triggered, cancelled or removed by it carries this name, in events, in the job's pause and in the
    /// origin of the run. Give it the user whom the application has authenticated.
    ///
    /// ```
    /// use callsheet::{prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_mins(5))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// jobs.by("alice")?.pause("sweep").await?;
    ///
    /// let pause = jobs.details("sweep").await?.pause.expect("it is paused");
    /// assert_eq!(pause.by.ok_or("nobody")?.as_str(), "alice");
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::By`] if the name is empty, longer than [`NAME_MAX`] bytes, holds a control
    /// character, or starts or ends with white space.
    pub fn by(&self, who: impl AsRef<str>) -> Result<Self, Error> {
        let by = By::new(who).map_err(Error::By)?;
        Ok(Self { by: Some(by), ..self.clone() })
    }

    /// A handle of the same scheduler that says why: the history keeps this note with each job that is added,
    /// changed, paused, resumed, triggered, cancelled or removed by it. It is the note of a pause that has none
    /// of its own.
    ///
    /// ```
    /// use callsheet::{Operations, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_mins(5))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// jobs.by("alice")?.note("the report is wrong")?.trigger("sweep").await?;
    ///
    /// let newest = &jobs.operations(Operations::new()).await?.operations[0];
    /// assert_eq!(newest.note.as_deref(), Some("the report is wrong"));
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Note`] if the note is empty or longer than [`PAUSE_NOTE_MAX`](crate::PAUSE_NOTE_MAX) bytes.
    pub fn note(&self, note: impl AsRef<str>) -> Result<Self, Error> {
        let note = Note::new(note).map_err(Error::Note)?;
        Ok(Self { note: Some(note), ..self.clone() })
    }

    /// Adds a job to this node, and answers who fires it: see [`Scheduled`](crate::Scheduled).
    ///
    /// # Errors
    ///
    /// [`Error::Add`] with everything that is wrong with it, or if other nodes are known to declare another
    /// [overlap policy](crate::Overlap) for its lock key, or if its last fire time has passed
    /// ([`AddError::Over`](crate::AddError::Over)); [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add the job.
    pub async fn add(&self, job: Job) -> Result<Added, Error> {
        Ok(self.ask(AddJob::new(job).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Adds all of the jobs, or none.
    ///
    /// # Errors
    ///
    /// [`Error::Add`] with everything that is wrong with any of them, or with those whose last fire time has
    /// passed; [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add them, all or none.
    pub async fn add_all(&self, jobs: impl IntoIterator<Item = Job>) -> Result<Vec<Added>, Error> {
        Ok(self.ask(AddJobs::new(jobs).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Removes the selected jobs from this node and answers their names. A run in progress goes on to its
    /// end. See [`RemoveJobs`] for what that means on a follower.
    ///
    /// # Errors
    ///
    /// [`Error::Select`] if it was a name and no job has it, [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not remove them.
    pub async fn remove(&self, jobs: impl Into<Selector>) -> Result<Vec<JobName>, Error> {
        Ok(self.ask(RemoveJobs::new(jobs).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Gives a job another definition: see [`UpdateJob`].
    ///
    /// # Errors
    ///
    /// [`Error::Update`] with everything that is wrong with the definition, or if there is no job of this
    /// name, or if the last fire time of its new schedule has passed; [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not change it.
    pub async fn update(&self, job: Job) -> Result<Added, Error> {
        Ok(self.ask(UpdateJob::new(job).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Gives a job another schedule, and leaves the rest of its definition as it is: see [`RescheduleJob`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use callsheet::{prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(Duration::from_mins(5))).timeout(Duration::from_secs(20)).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// jobs.reschedule("sweep", every(Duration::from_mins(1))).await?;
    ///
    /// let sweep = jobs.details("sweep").await?;
    /// assert_eq!(sweep.policies.timeout, Some(Duration::from_secs(20)), "it is kept");
    /// # jobs.shutdown(Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Update`] if the schedule is wrong, if there is no job of this name, or if the last fire time
    /// of the schedule has passed; [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not change it.
    pub async fn reschedule(
        &self,
        job: impl Into<String>,
        schedule: impl IntoSchedule,
    ) -> Result<Added, Error> {
        Ok(self.ask(RescheduleJob::new(job, schedule).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Pauses the selected jobs on all nodes until they are resumed, and answers those that were not paused
    /// before: see [`PauseJobs`], which also takes an end and a note.
    ///
    /// # Errors
    ///
    /// [`Error::Pause`] if it was a name and no job has it, or if the store did not answer;
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not pause them.
    pub async fn pause(&self, jobs: impl Into<Selector>) -> Result<Vec<JobName>, Error> {
        Ok(self.ask(self.pausing(jobs)).await??)
    }

    /// Pauses the selected jobs on all nodes, perhaps until an instant, perhaps with a note, and answers
    /// those that were not paused so before: see [`PauseJobs`].
    ///
    /// ```
    /// use callsheet::{prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_mins(5))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// let in_an_hour = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    /// jobs.pause_with("sweep", Pause::until(in_an_hour).note("the disk is full")).await?;
    ///
    /// let pause = jobs.details("sweep").await?.pause.expect("it is paused");
    /// assert_eq!(pause.note.as_deref(), Some("the disk is full"));
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`pause`](Self::pause), and if the pause is over already or its note is too long.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not pause them.
    pub async fn pause_with(&self, jobs: impl Into<Selector>, pause: Pause) -> Result<Vec<JobName>, Error> {
        Ok(self.ask(self.pausing(jobs).with(pause)).await??)
    }

    /// Resumes the selected jobs on all nodes, and answers those that were paused.
    ///
    /// # Errors
    ///
    /// As for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not resume them.
    pub async fn resume(&self, jobs: impl Into<Selector>) -> Result<Vec<JobName>, Error> {
        Ok(self.ask(ResumeJobs::new(jobs).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Skips everything that the selected jobs have missed until now, and answers of each how many ticks that were:
    /// see [`SkipMissed`]. [Why](Self::note) is kept with the decisions.
    ///
    /// ```
    /// use callsheet::{Fires, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_hours(1))).fires(Fires::Local).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// let skipped = jobs.note("the disk was full")?.skip_missed("sweep").await?;
    /// assert_eq!((skipped[0].job.as_str(), skipped[0].count), ("sweep", 0), "nothing was missed");
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`SkipMissed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not skip them.
    pub async fn skip_missed(&self, jobs: impl Into<Selector>) -> Result<Vec<SkippedMissed>, Error> {
        Ok(self.ask(SkipMissed::new(jobs).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Starts a run now, on this node, under the job's lock key, without moving its schedule. Answers what
    /// really happened, once it is decided: started, or queued. A `before` hook may still veto it. Its end
    /// can be waited for: [`finished`](TriggeredRun::finished).
    ///
    /// ```
    /// use callsheet::{Outcome, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_hours(1))).run(async |_| Err::<(), _>("no disk"));
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// assert_eq!(jobs.trigger("sweep").await?.finished().await, Outcome::Failed);
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Trigger`] with the reason why nothing started, [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not start a run.
    pub async fn trigger(&self, job: impl Into<String>) -> Result<TriggeredRun, Error> {
        Ok(self.ask(TriggerJob::new(job).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// As [`trigger`](Self::trigger), with a run that *names* a fire time which has passed: "run last night's
    /// report again". It is a run of its own, and takes no tick: see
    /// [`TriggerJob::fire_time`](crate::TriggerJob::fire_time).
    ///
    /// ```
    /// use callsheet::{Outcome, prelude::*, schedule::cron};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let report = async |run: Run| println!("the report of {:?}", run.fire_time());
    /// let jobs = Callsheet::builder().job(Job::new("report", cron("0 3 * * *")).run(report)).start().await?;
    ///
    /// let one_night: chrono::DateTime<chrono::Utc> = "2026-01-05T03:00:00Z".parse()?;
    /// let again = jobs.by("alice")?.trigger_for("report", one_night).await?;
    ///
    /// assert_eq!(again.finished().await, Outcome::Succeeded);
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`trigger`](Self::trigger), and if the fire time has not come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not start a run.
    pub async fn trigger_for(
        &self,
        job: impl Into<String>,
        fire_time: impl Into<FireTime>,
    ) -> Result<TriggeredRun, Error> {
        Ok(self
            .ask(TriggerJob::new(job).fire_time(fire_time).by(self.by.clone()).note(self.note.clone()))
            .await??)
    }

    /// Asks the runs of the selected jobs that are in progress on this node to stop, and answers which they
    /// are: see [`CancelRuns`].
    ///
    /// # Errors
    ///
    /// [`Error::Select`] if it was a name and no job has it, [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not cancel them.
    pub async fn cancel_runs(&self, jobs: impl Into<Selector>) -> Result<Vec<(JobName, RunId)>, Error> {
        Ok(self.ask(CancelRuns::new(jobs).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Asks one run to stop that is in progress on this node, or waits here for its turn, also if its job was
    /// removed. Answers whose run it is: see [`CancelRun`].
    ///
    /// ```
    /// use callsheet::{JobState, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("long", every(std::time::Duration::from_hours(1))).run(async |run| run.cancelled().await);
    /// let jobs = Callsheet::builder().job(job).start().await?;
    /// let run = jobs.trigger("long").await?.run();
    /// jobs.remove("long").await?;
    /// assert_eq!(jobs.details("long").await?.state, JobState::Removed, "its run goes on");
    ///
    /// assert_eq!(jobs.cancel_run(run).await?.as_str(), "long");
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::CancelRun`] if this node neither runs it nor is to, [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not cancel it.
    pub async fn cancel_run(&self, run: RunId) -> Result<JobName, Error> {
        Ok(self.ask(CancelRun::new(run).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Answers the next `count` fire times of a job, 1,000 at most; fewer if its schedule is exhausted.
    ///
    /// # Errors
    ///
    /// [`Error::NextFireTimes`]: there is no such job, or `count` is more than
    /// [`FIRE_TIMES_MAX`](crate::FIRE_TIMES_MAX). [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn next_fire_times(
        &self,
        job: impl Into<String>,
        count: usize,
    ) -> Result<Vec<DateTime<Utc>>, Error> {
        Ok(self.ask(NextFireTimes { job: job.into(), count }).await??)
    }

    /// Explains what became of a job at an instant, or at each of its fire times in a range: whether it ran,
    /// where and how late, or why it did not, and what says so. "Why did the report not run last night?" See
    /// [`Explain`].
    ///
    /// ```
    /// use callsheet::{Answer, prelude::*, schedule::cron};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("report", cron("0 3 * * *")).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// let noon: chrono::DateTime<chrono::Utc> = "2026-01-05T12:00:00Z".parse()?;
    /// let explained = jobs.explain("report", noon).await?;
    ///
    /// assert!(matches!(explained.explanations[0].answer, Answer::NotFireTime { .. }));
    /// let text = "report at 2026-01-05T12:00:00Z: it does not fire then; the fire times beside it are \
    ///             2026-01-05T03:00:00Z and 2026-01-06T03:00:00Z";
    /// assert!(explained.to_string().starts_with(text), "{explained}");
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Explain`]: there is no such job, the range ends before it starts, or the history did not
    /// answer. [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn explain(
        &self,
        job: impl Into<String>,
        when: impl Into<When>,
    ) -> Result<Explanations, Error> {
        Ok(self.ask(Explain::new(job, when)).await??)
    }

    /// Answers one page of the jobs, in the order of their names: `ListJobs::default()` is the first page of
    /// all.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn list(&self, list: ListJobs) -> Result<JobPage, Error> {
        self.ask(list).await
    }

    /// Answers the status of one job. A job that was removed has one until its last run has ended.
    ///
    /// It shows what this caller was told before: that a job was paused, changed or removed, say, and that a
    /// run was started or cancelled. So do the other questions.
    ///
    /// # Errors
    ///
    /// [`Error::Select`] if there is no job of this name, [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn details(&self, job: impl Into<String>) -> Result<JobStatus, Error> {
        let name = job.into();
        let status = self.ask(JobDetails(name.clone())).await?;
        Ok(status.ok_or_else(|| SelectError::UnknownJob { name: bounded(&name, NAME_MAX) })?)
    }

    /// Answers an address of the job's actor: see [`JobAddress`].
    ///
    /// # Errors
    ///
    /// [`Error::Select`] if there is no job of this name, [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn job_address(&self, job: impl Into<String>) -> Result<Addr<JobActor>, Error> {
        Ok(self.ask(JobAddress(job.into())).await??)
    }

    /// Answers one page of the runs that the history keeps, of all nodes if it is theirs, the newest first:
    /// those that ended, and those in progress.
    ///
    /// ```
    /// use callsheet::{JobName, Outcome, RunHistory, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_hours(1))).run(async |_| Err::<(), _>("no disk"));
    /// let jobs = Callsheet::builder().job(job).start().await?;
    /// let run = jobs.trigger("sweep").await?;
    /// let id = run.run();
    /// run.finished().await;
    ///
    /// let failed = RunHistory::new().job(JobName::new("sweep")?).outcome(Outcome::Failed);
    /// let page = jobs.runs(failed).await?;
    /// assert_eq!((page.runs[0].run, page.runs[0].error.as_deref()), (id, Some("no disk")));
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::History`]: none is kept, or it did not answer. [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn runs(&self, asked: RunHistory) -> Result<RunPage, Error> {
        Ok(self.ask(asked).await??)
    }

    /// Answers what became of a job so far, on all nodes if the history is theirs; `None` if it knows nothing of
    /// it. The answer outlives the records of single runs.
    ///
    /// # Errors
    ///
    /// As for [`runs`](Self::runs).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn history(&self, job: &JobName) -> Result<Option<JobRecord>, Error> {
        Ok(self.ask(JobHistory(job.clone())).await??)
    }

    /// Answers one page of the decisions that started nothing: ticks that were skipped, vetoes, triggers that
    /// were refused, runs that were lost, and times without a leader; the newest first.
    ///
    /// # Errors
    ///
    /// As for [`runs`](Self::runs).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn decisions(&self, asked: Decisions) -> Result<DecisionPage, Error> {
        Ok(self.ask(asked).await??)
    }

    /// Answers one page of what was done to jobs, and by whom; the newest first.
    ///
    /// # Errors
    ///
    /// As for [`runs`](Self::runs).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn operations(&self, asked: Operations) -> Result<OperationPage, Error> {
        Ok(self.ask(asked).await??)
    }

    /// Adds an actor that hears every event from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add the listener.
    pub async fn listen(&self, listener: impl IntoRecipient<Event>) -> Result<(), Error> {
        self.ask(Listen(listener.into_recipient())).await
    }

    /// Adds an actor that hears the events that pass a filter, from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add the listener.
    pub async fn listen_to(
        &self,
        filter: EventFilter,
        listener: impl IntoRecipient<Event>,
    ) -> Result<(), Error> {
        self.ask(ListenTo { filter, listener: listener.into_recipient() }).await
    }

    /// A stream of the events that pass a filter: every one that is published after this returns, and perhaps
    /// some that are on their way. What is published while the scheduler starts is for [`Builder::listen`].
    /// It ends when the scheduler has stopped, after the last event; at once, if it has stopped already.
    ///
    /// ```
    /// use callsheet::{EventFilter, EventName, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("hourly", every(std::time::Duration::from_hours(1))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    /// let mut ends = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded, EventName::RunFailed]).job("hourly"));
    ///
    /// let run = jobs.trigger("hourly").await?.run();
    /// let event = ends.next().await.expect("it runs");
    /// assert!(matches!(event.kind, EventKind::RunSucceeded { run: id, .. } if id == run));
    ///
    /// jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// assert_eq!(ends.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self, filter: EventFilter) -> EventStream {
        self.engine.events(filter)
    }

    /// Leaves the lead to another node, and answers whether this one led: see [`Resign`]. When it returns,
    /// this node does not lead. It does not campaign again before another node leads, or the
    /// [pause](Builder::resign_pause) is over.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not resign.
    pub async fn resign(&self) -> Result<bool, Error> {
        self.ask(Resign).await
    }

    /// Answers how this node is: live, ready, healthy, and what is wrong.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn health(&self) -> Result<HealthReport, Error> {
        self.ask(Health).await
    }

    /// Stops: no tick is armed any more, leadership is given up, runs may end until `deadline` has passed
    /// ([`Duration::MAX`]: as long as they take), are then cancelled, and aborted
    /// [`shutdown_abort_after`](crate::Builder::shutdown_abort_after) later (5 s by default). Returns when
    /// every thread of the engine has ended. The report says what became of each run, and which fire times
    /// are left to other nodes.
    ///
    /// A schedule, or other code of the application, that blocks the scheduler's thread does not block this
    /// call: it ends [`SHUTDOWN_END_MAX`](crate::SHUTDOWN_END_MAX) after the runs were to be aborted, with a
    /// report that is [unanswered](ShutdownReport::unanswered). The scheduler stops when that code returns.
    /// Not so on a `LocalSet` of the caller ([`start_on`](crate::Builder::start_on)), whose thread is the
    /// scheduler's.
    ///
    /// Idempotent: whoever asks again waits for the same end and gets the same report.
    ///
    /// A body that waits for it waits for its own end: it is one of the runs that drain, so it is cancelled
    /// when the deadline has passed, and aborted `shutdown_abort_after` later. To stop the scheduler from a
    /// body, leave the waiting to a task of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.engine.shutdown(deadline).await
    }

    /// Stops at once: what runs is cancelled and aborted without a wait, also in a
    /// [`shutdown`](Self::shutdown) that is under way. The store is told all the same, so that other nodes
    /// take over; one that does not answer is waited for 3 s at most. Returns when every thread of the engine
    /// has ended, with the same report.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown_now(&self) -> ShutdownReport {
        self.engine.shutdown_now().await
    }

    /// Why is said in the pause itself, which all nodes see.
    fn pausing(&self, jobs: impl Into<Selector>) -> PauseJobs {
        let pause = PauseJobs::new(jobs).by(self.by.clone());
        self.note.clone().into_iter().fold(pause, |pause, note| pause.note(note))
    }

    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Result, Error>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SupervisorActor: Handler<M>,
        <SupervisorActor as actix::Actor>::Context: ToEnvelope<SupervisorActor, M>,
    {
        self.supervisor().send(message).await.map_err(|_| Error::Stopped)
    }
}
