//! What most applications need: `use callsheet::prelude::*;`.

pub use crate::{
    AddJob, AddJobs, Added, Callsheet, Event, EventKind, Fires, Job, ListJobs, Misfire, OnLost, Overlap,
    PauseJobs, RemoveJobs, ResumeJobs, Retry, Run, RunError, RunResult, Scheduled, Selector, TriggerJob,
    Triggered, UpdateJob,
    schedule::{at, cron, daily, every, monthly, weekly},
};
