//! What most applications need: `use callsheet::prelude::*;`.

#[cfg(unix)]
pub use crate::ShutdownSignals;
pub use crate::{
    AddJob, AddJobs, Added, Callsheet, Event, EventKind, Fires, Job, ListJobs, Misfire, OnLost, Overlap,
    Pause, PauseJobs, RemoveJobs, RescheduleJob, ResumeJobs, Retry, Run, RunError, RunResult, Scheduled,
    Selector, ShutdownBudget, TriggerJob, Triggered, TriggeredRun, UpdateJob,
    schedule::{at, cron, daily, every, monthly, weekly},
};
