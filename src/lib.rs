//! Callsheet, a job scheduler for actix applications.

pub mod backend;
mod builder;
mod handle;
pub mod metrics;
pub mod prelude;
pub mod schedule;

#[cfg(feature = "testkit")]
pub use callsheet_actors::testkit;
pub use callsheet_actors::{
    ActiveRunStatus, ActorGone, AddError, AddJob, AddJobs, Bodiless, CALL_DEADLINE, CancelReason, EVENTS_MAX, Event,
    EventKind, Fault, Faults, FencingToken, FireTime, Fires, Health, HealthReport, HowDrained, IntoRunResult, Job,
    JobDetails, JobName, JobPage, JobState, JobStatus, LastRunStatus, ListJobs, Listen, LockKey, Misfire, NAME_MAX, NodeId,
    OnLost, Origin, Outcome, Overlap, PAGE_MAX, Policies, RESTART_PERIOD, RESTARTS_MAX, RemoveError, RemoveJobs, Run,
    RunError, RunId, RunResult, SHUTDOWN_GRACE_DEFAULT, SUBSCRIBER_EVENTS_MAX, Selector, Shutdown, ShutdownReport,
    SkipReason, StartError, StepDownReason, SupervisorActor, Tag, Term, TriggerError, TriggerJob, port,
};

pub use crate::{
    builder::Builder,
    handle::{Callsheet, Error},
};
