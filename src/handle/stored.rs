//! Jobs that are stored as data.

use callsheet_actors::{
    ClearOverride, DeleteJob, IfStored, ListStored, OverrideSchedule, PutJob, ScheduleOverride,
    StoredDetails, StoredPage, StoredStatus,
    port::{CatalogueQuery, Expected},
};

use super::Callsheet;
use crate::{config::StoredJob, error::Error, schedule::Definition};

impl Callsheet {
    /// Stores a job as data, for all nodes, in the place of whatever there is: see [`PutJob`].
    ///
    /// ```
    /// use callsheet::{StoredJob, TaskCall, prelude::*, schedule::cron, schemars::JsonSchema};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, JsonSchema)]
    /// struct SendReport {
    ///     to: String,
    /// }
    ///
    /// impl Task for SendReport {
    ///     const NAME: &'static str = "send_report";
    ///     type State = ();
    ///
    ///     async fn run(self, _: Run, (): ()) -> RunResult {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let jobs = Callsheet::builder().task::<SendReport>(()).start().await?;
    ///
    /// let report: StoredJob = serde_json::from_str(
    ///     r#"{"schedule": "0 9 * * 1-5", "task": {"name": "send_report", "arguments": {"to": "alice"}}}"#,
    /// )?;
    /// let stored = jobs.by("bob")?.put("report", &report).await?;
    ///
    /// assert_eq!(jobs.details("report").await?.stored, Some(stored.version));
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Stored`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not store it.
    pub async fn put(&self, job: impl Into<String>, definition: &StoredJob) -> Result<StoredStatus, Error> {
        self.put_if(job, definition, Expected::Any).await
    }

    /// As [`put`](Self::put), only if this is so: of two who change the version that both have read, one is told.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not store it.
    pub async fn put_if(
        &self,
        job: impl Into<String>,
        definition: &StoredJob,
        expected: Expected,
    ) -> Result<StoredStatus, Error> {
        let asked = PutJob::new(job, definition).expecting(expected);
        Ok(self.ask(asked.by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// As [`put`](Self::put), and says what becomes of a job of this name that is stored already: see [`IfStored`].
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not store it.
    pub async fn put_with(
        &self,
        job: impl Into<String>,
        definition: &StoredJob,
        if_stored: IfStored,
    ) -> Result<StoredStatus, Error> {
        let asked = PutJob::new(job, definition).if_stored(if_stored);
        Ok(self.ask(asked.by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Deletes a stored job, on all nodes, and answers the version of its deletion: see [`DeleteJob`].
    ///
    /// # Errors
    ///
    /// [`Error::Stored`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not delete it.
    pub async fn delete(&self, job: impl Into<String>) -> Result<u64, Error> {
        Ok(self.ask(DeleteJob::new(job).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Overrides the schedule of a job of code, on all nodes, until it is cleared: see [`OverrideSchedule`].
    ///
    /// ```
    /// use callsheet::{prelude::*, schedule::every};
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cleanup = Job::new("cleanup", every(Duration::from_secs(3600))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(cleanup).start().await?;
    ///
    /// jobs.by("alice")?.override_schedule("cleanup", every(Duration::from_secs(10_800))).await?;
    ///
    /// let status = jobs.details("cleanup").await?;
    /// let words = status.overridden.expect("it is overridden").to_string();
    /// assert!(words.starts_with("code says every 1h, override by alice since "));
    /// assert!(words.ends_with(": every 3h"));
    /// jobs.clear_override("cleanup").await?;
    /// assert_eq!(jobs.details("cleanup").await?.overridden, None);
    /// # jobs.shutdown(Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Stored`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not override it.
    pub async fn override_schedule(
        &self,
        job: impl Into<String>,
        schedule: impl Into<Definition>,
    ) -> Result<ScheduleOverride, Error> {
        let asked = OverrideSchedule::new(job, &schedule.into());
        Ok(self.ask(asked.by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Clears the override of a schedule, on all nodes, and answers the version of the catalogue: see
    /// [`ClearOverride`].
    ///
    /// # Errors
    ///
    /// [`Error::Stored`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not clear it.
    pub async fn clear_override(&self, job: impl Into<String>) -> Result<u64, Error> {
        Ok(self.ask(ClearOverride::new(job).by(self.by.clone()).note(self.note.clone())).await??)
    }

    /// Answers one page of the stored jobs, with those that this node cannot run: see [`ListStored`].
    ///
    /// # Errors
    ///
    /// [`Error::Stored`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn list_stored(&self, query: CatalogueQuery) -> Result<StoredPage, Error> {
        Ok(self.ask(ListStored(query)).await??)
    }

    /// Answers one stored job: its definition, and whether this node can run it.
    ///
    /// # Errors
    ///
    /// [`Error::Stored`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn stored(&self, job: impl Into<String>) -> Result<StoredStatus, Error> {
        Ok(self.ask(StoredDetails(job.into())).await??)
    }
}
