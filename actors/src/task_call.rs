//! Which task a job runs, as data.

use serde::{Deserialize, Serialize};

use crate::arguments::Arguments;

/// A task by its name, with arguments: what a job of data runs.
///
/// As data: `{"name": "send_report", "arguments": {"to": "alice"}}`. Arguments that are left out are `null`, or, for a
/// type that does not read that, `{}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a task, such as {\"name\": \"send_report\", \"arguments\": {}}")]
pub struct TaskCall {
    /// The [name](crate::Task::NAME) of the task.
    pub name: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Arguments::is_none")]
    pub arguments: Arguments,
}

impl TaskCall {
    /// A task with arguments.
    pub fn new(name: impl Into<String>, arguments: Arguments) -> Self {
        Self { name: name.into(), arguments }
    }
}
