//! The handle's methods for backfills.

use callsheet_actors::{
    Backfill, BackfillId, BackfillPreview, BackfillStatus, CancelBackfill, JobName, ListBackfills,
    PreviewBackfill,
};

use super::Callsheet;
use crate::error::Error;

impl Callsheet {
    /// Runs a job for each fire time of a past range, once: see [`Backfill`]. Answers once it is stored; the
    /// leader starts the runs one after the other.
    ///
    /// ```
    /// use callsheet::{Backfill, prelude::*, schedule::cron};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let report = async |run: Run| println!("the report of {:?}", run.fire_time());
    /// let jobs = Callsheet::builder().job(Job::new("report", cron("0 3 * * *")).run(report)).start().await?;
    ///
    /// let week = Backfill::new("report", "2026-01-05T00:00:00Z".parse()?, "2026-01-11T23:59:59Z".parse()?);
    /// // The job is new: the history knows nothing of that week.
    /// let week = week.again(true);
    /// assert_eq!(jobs.preview_backfill(week.clone()).await?.count, 7);
    /// let backfill = jobs.by("alice")?.backfill(week).await?;
    ///
    /// assert_eq!((backfill.ticks, backfill.by), (7, Some(callsheet::By::new("alice")?)));
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Backfill`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not start the backfill: [`backfills`](Self::backfills) lists it then.
    pub async fn backfill(&self, backfill: Backfill) -> Result<BackfillStatus, Error> {
        // Who asks, and why, is what this handle says, if it says so.
        let backfill = if self.by.is_some() { backfill.by(self.by.clone()) } else { backfill };
        let backfill = if self.note.is_some() { backfill.note(self.note.clone()) } else { backfill };
        Ok(self.ask(backfill).await??)
    }

    /// What a backfill would run: a dry run, which starts nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Backfill`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn preview_backfill(&self, backfill: Backfill) -> Result<BackfillPreview, Error> {
        Ok(self.ask(PreviewBackfill(backfill)).await??)
    }

    /// The backfills of one job, or of all of the scope, the newest first: see [`ListBackfills`].
    ///
    /// # Errors
    ///
    /// [`Error::Backfill`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn backfills(&self, job: Option<&JobName>) -> Result<Vec<BackfillStatus>, Error> {
        Ok(self.ask(ListBackfills { job: job.cloned() }).await??)
    }

    /// Cancels a backfill, on whichever node it was asked for, and answers how it was left: see
    /// [`CancelBackfill`].
    ///
    /// # Errors
    ///
    /// [`Error::Backfill`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not cancel it.
    pub async fn cancel_backfill(&self, backfill: BackfillId) -> Result<BackfillStatus, Error> {
        Ok(self.ask(CancelBackfill::new(backfill).by(self.by.clone()).note(self.note.clone())).await??)
    }
}
