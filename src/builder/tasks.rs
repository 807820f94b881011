//! The tasks that jobs may name.

use std::sync::Arc;

use callsheet_actors::{Job, ScheduledTask, Task, port::Catalogue};

use super::Builder;

impl Builder {
    /// Registers a [task](Task), so that jobs of this node may run it: those of code, by
    /// [`Job::run_task`](crate::Job::run_task), and those of data, which name it. Two tasks of one name are refused,
    /// and so is the same one twice. Default: none.
    ///
    /// ```
    /// use callsheet::{
    ///     prelude::*,
    ///     schemars::{self, JsonSchema},
    /// };
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
    ///     async fn run(self, run: Run, (): ()) -> RunResult {
    ///         run.report(format_args!("sent to {}", self.to));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let report = Job::new("report", cron("0 9 * * 1-5")).run_task(SendReport { to: "alice".into() });
    /// let jobs = Callsheet::builder().task::<SendReport>(()).job(report).start().await?;
    ///
    /// jobs.trigger_with("report", &SendReport { to: "bob".into() }).await?.finished().await;
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn task<T: Task>(mut self, state: T::State) -> Self {
        self.options.tasks.add::<T>(state);
        self
    }

    /// Sets where jobs are kept as data, for all nodes. Default: where the backend keeps them: [`Local`] in the memory
    /// of the process.
    ///
    /// [`Local`]: crate::backend::Local
    pub fn catalogue(mut self, catalogue: impl Catalogue) -> Self {
        self.options.catalogue = Some(Arc::new(catalogue));
        self
    }

    /// Registers a task and adds the job that it [brings along](ScheduledTask). Default: none.
    pub fn scheduled<T: ScheduledTask>(self, state: T::State) -> Self {
        self.task::<T>(state).job(Job::scheduled::<T>())
    }
}
