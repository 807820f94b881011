//! Jobs whose body is a task.

use serde::Serialize;

use super::{Bodiless, Job, SharedBody};
use crate::{
    arguments::Arguments,
    task::{Task, TaskCall},
};

impl Job<Bodiless> {
    /// Runs a [task](Task) with these arguments. The node that the job is added to has to have registered it.
    ///
    /// It can be aborted as one with [`run`](Self::run).
    pub fn run_task<T: Task>(self, task: T) -> Job {
        self.run_task_named(T::NAME, &task)
    }

    /// Runs the task of this name with these arguments, as JSON: of a node that has registered the task.
    pub fn run_task_named(self, name: impl Into<String>, arguments: &impl Serialize) -> Job {
        let mut job = self.with_body(SharedBody(None));
        job.set_task(Arguments::of(arguments).map(|arguments| TaskCall::new(name, arguments)));
        job
    }
}
