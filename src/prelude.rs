//! What most applications need: `use callsheet::prelude::*;`.

#[cfg(unix)]
pub use crate::ShutdownSignals;
pub use crate::{
    AddJob, AddJobs, Added, Callsheet, ErrorKind, Event, EventFilter, EventKind, EventName, Fires, Health,
    Job, JobConfig, JobState, ListJobs, Misfire, OnLost, Outcome, Overlap, Pause, PauseJobs, RemoveJobs,
    RescheduleJob, Resign, ResumeJobs, Retry, Run, RunError, RunResult, Scheduled, ScheduledTask, Selector,
    ShutdownBudget, Task, TriggerJob, Triggered, TriggeredRun, UpdateJob,
    schedule::{any, at, cron, daily, every, monthly, random, weekly},
};
