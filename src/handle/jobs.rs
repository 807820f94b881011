//! Jobs that are added, changed, paused, removed and listed.

use actix::Addr;
use callsheet_actors::{
    AddJob, AddJobs, Added, Job, JobActor, JobAddress, JobDetails, JobName, JobPage, JobStatus, ListJobs,
    NAME_MAX, NextFireTimes, Pause, PauseJobs, RemoveJobs, RescheduleJob, ResumeJobs, SelectError, Selector,
    SkipMissed, SkippedMissed, UpdateJob, adapter::bounded, port::IntoSchedule,
};
use chrono::{DateTime, Utc};

use super::Callsheet;
use crate::error::Error;

impl Callsheet {
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

    /// Adds all of the jobs, or none; with [named backends](crate::Builder::backend_named), all of each backend, or
    /// none.
    ///
    /// # Errors
    ///
    /// [`Error::Add`] with everything that is wrong with any of them, or with those whose last fire time has
    /// passed; [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add them, all or none of each backend.
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

    /// Why is said in the pause itself, which all nodes see.
    pub(super) fn pausing(&self, jobs: impl Into<Selector>) -> PauseJobs {
        let pause = PauseJobs::new(jobs).by(self.by.clone());
        self.note.clone().into_iter().fold(pause, |pause, note| pause.note(note))
    }
}
