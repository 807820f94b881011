//! What a job is at runtime: one actor that owns the job's machine, its timer and its runs in progress.
//!
//! | who | does what |
//! |---|---|
//! | supervisor | starts, resumes, suspends and stops the actor, by [`JobMessage`] |
//! | lock actor | answers what the job [asks](Ask), or leaves it to a store that [answers at once](AnswersAtOnce) |
//! | task of a run | reports the end of its body |
//!
//! The job knows no other actor. It has two outlets: what it [asks](Ask) goes to whoever serves claims, what
//! it [reports](JobReport) to whoever supervises it. When its actor dies, a [snapshot](JobSnapshot) is
//! reported, and another actor is started with it: machine, runs and cursor survive.
//!
//! The actors of a thread share one task, one inbox and one timer: its [cast]. An actor has a mailbox of its own
//! once somebody has asked for its [address].

mod actor;
mod address;
mod ask;
mod atomics;
mod backfilled;
mod bell;
#[cfg(test)]
mod bell_interleavings;
#[cfg(test)]
mod bell_tests;
mod cast;
mod conclude;
mod context;
mod effects;
mod explain;
mod former_keys;
mod handle;
mod hook_calls;
mod host;
mod message;
mod places;
mod record;
mod report;
mod run_span;
mod run_task;
mod scheduled;
mod snapshot;
mod status;
mod told;
mod triggered;

pub use self::{
    actor::JobActor,
    address::{CancelItsRuns, FireTimes},
    context::JobContext,
    scheduled::Scheduled,
    status::{ActiveRunStatus, HeldStatus, JobStatus, LastRunStatus},
    triggered::{Triggered, TriggeredRun},
};
pub(crate) use self::{
    ask::{AdvanceCursor, Answers, AnswersAtOnce, Ask, Asks, AsksWait, ClaimRun, RecordEnd},
    cast::{Beginning, Placement},
    conclude::Conclusion,
    explain::TickViews,
    handle::{JobHandle, OnTrial, RefusedStep, WakeTime},
    hook_calls::{HookCalls, overdue},
    host::JobHost,
    message::{AsksSchedule, FirstReply, JobMessage, Retirement, SkipAsked},
    record::{record_cancelled, record_operation, record_own_pause, record_paused},
    report::{JobReport, Report},
    snapshot::JobSnapshot,
    status::breach_of,
    told::AnswerAtOnce,
};
pub use crate::job_state::JobState;
