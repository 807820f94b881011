//! Runs that are triggered and cancelled, and the tasks that they may be of.

use callsheet_actors::{
    CancelRun, CancelRuns, FireTime, JobName, ListTasks, RunId, Selector, TaskDetails, TriggerJob,
    TriggeredRun,
};
use serde::Serialize;

use super::Callsheet;
use crate::error::Error;

impl Callsheet {
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

    /// As [`trigger`](Self::trigger), with arguments of its own for the [task](crate::Task) of the job: see
    /// [`TriggerJob::arguments`](crate::TriggerJob::arguments), and the example of
    /// [`Builder::task`](crate::Builder::task).
    ///
    /// # Errors
    ///
    /// As for [`trigger`](Self::trigger), and if the task cannot read the arguments, or the job runs none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not start a run.
    pub async fn trigger_with(
        &self,
        job: impl Into<String>,
        arguments: &impl Serialize,
    ) -> Result<TriggeredRun, Error> {
        let asked = TriggerJob::new(job).arguments(arguments);
        Ok(self.ask(asked.by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Answers which [tasks](crate::Task) this node has, with the JSON Schemas of their arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn tasks(&self) -> Result<Vec<TaskDetails>, Error> {
        self.ask(ListTasks).await
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
}
