//! Tasks: bodies with a name and typed arguments, so that a job can be data.

mod registry;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use self::registry::BoundTask;
pub use self::registry::Tasks;
pub use crate::task_call::TaskCall;
use crate::{
    arguments::Arguments,
    fault::Fault,
    run::{Run, RunResult},
};

/// A body with a name and typed arguments: the type is the arguments. A job that runs one can be written as data,
/// stored, and read by another process that has registered the task.
///
/// The arguments are read by serde. A job, or a trigger, with arguments that do not fit the type is refused when it is
/// added, with the path of what is wrong; a panic of `Deserialize` is told in the same way. They are read again for
/// each attempt, which gets a value and a clone of the state of its own.
///
/// A newer version of the program is to read what an older one has stored: give each field that is added
/// `#[serde(default)]`, and rename none without `#[serde(alias = "…")]`. While both run, the older one is to read what
/// the newer one adds: it does, unless the type says `deny_unknown_fields`.
///
/// ```
/// use callsheet_actors::{
///     Run, RunResult, Task,
///     schemars::{self, JsonSchema},
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct SendReport {
///     to: String,
///     #[serde(default)]
///     copies: u32,
/// }
///
/// #[derive(Clone)]
/// struct App;
///
/// impl Task for SendReport {
///     const NAME: &'static str = "send_report";
///     type State = App;
///
///     async fn run(self, run: Run, _: App) -> RunResult {
///         run.report(format_args!("{} copies for {}", self.copies, self.to));
///         Ok(())
///     }
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// What data calls it: 1 to 200 bytes without control characters, unique on a node. Keep it: stored jobs name it.
    const NAME: &'static str;

    /// What the application gives to it, cloned for each attempt; `()` for nothing.
    type State: Clone + Send + Sync + 'static;

    /// The work of one attempt, on the threads for bodies, as of a job with [`run`](crate::Job::run).
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the run is aborted.
    fn run(self, run: Run, state: Self::State) -> impl Future<Output = RunResult> + Send;
}

impl TaskCall {
    /// A task with its arguments: what a stored job runs.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the arguments break a rule of [`Arguments`].
    pub fn of<T: Task>(task: &T) -> Result<Self, Fault> {
        Ok(Self::new(T::NAME, Arguments::of(task)?))
    }
}

/// A task that a node has: an answer of [`ListTasks`](crate::ListTasks).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskDetails {
    /// The [name](Task::NAME).
    pub name: String,
    /// The JSON Schema of its arguments, draft 2020-12.
    pub schema: Value,
}
