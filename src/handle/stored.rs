//! Jobs that are stored as data.

use callsheet_actors::{
    DeleteJob, ListStored, PutJob, StoredDetails, StoredPage, StoredStatus,
    port::{CatalogueQuery, Expected},
};

use super::Callsheet;
use crate::{config::StoredJob, error::Error};

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
