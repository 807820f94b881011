//! What is recorded, and what became of a fire time.

use callsheet_actors::{
    DecisionPage, Decisions, Explain, Explanations, JobHistory, JobName, JobRecord, OperationPage,
    Operations, RunHistory, RunPage, When,
};

use super::Callsheet;
use crate::error::Error;

impl Callsheet {
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
}
