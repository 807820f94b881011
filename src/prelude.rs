//! What most applications need: `use callsheet::prelude::*;`.

pub use crate::{
    AddJob, AddJobs, Callsheet, Event, EventKind, Fires, Job, ListJobs, Misfire, OnLost, Overlap, RemoveJobs,
    Run, RunError, RunResult, Selector, TriggerJob,
    schedule::{at, cron, daily, every, monthly, weekly},
};
