//! The engine and the ports of Callsheet, a job scheduler for actix applications.
//!
//! Applications use the package `callsheet`, which re-exports what they need. This one is for those who
//! implement a port: a [`Schedule`](port::Schedule), a [`Body`](port::Body), a [`Backend`](port::Backend),
//! and check it with the suites of `testkit` (feature `testkit`).
//!
//! ```text
//!  application ── AddJob, TriggerJob … ──▶ SupervisorActor ◀── the term ── ElectionActor ──▶ port Elector
//!                                                │ resume, suspend
//!                                                ▼
//!                                   JobActor, one per job ── claims ──▶ LockActor ──▶ port Locker
//!                                                │        ◀─ verdicts ──
//!                                                ▼
//!                                   the body, on threads of its own
//!  every actor ── events ──▶ ListenerActor ──▶ subscribers; metrics are counted where things are decided
//! ```
//!
//! A job asks nobody whether its node leads: the supervisor resumes it with the term. The guides
//! `guide::life_of_a_tick` and `guide::election` of the package `callsheet` tell the life of a tick, an
//! election and a claim.
//!
//! The module `core` decides and does nothing; the actors do and decide nothing. What of it an adapter of a
//! port needs is in [`adapter`].

// docs.rs, which builds on nightly, marks what a feature brings.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod adapter;
mod alarm;
mod arguments;
mod body;
mod body_queue;
mod body_watch;
mod candidacy;
mod catch_ups;
mod coalesced;
mod composed;
mod contained;
mod core;
mod deadline;
mod definition;
mod drain;
mod elected;
mod election;
mod engine;
mod error;
mod event;
mod event_filter;
mod event_log;
mod explain;
mod failing;
mod failure_log;
mod fault;
mod health;
mod history;
mod hooks;
mod job;
mod job_config;
mod job_names;
mod job_state;
mod labels;
mod listener;
mod lock;
mod memory_catalogue;
mod message;
pub mod metrics;
mod name;
mod node;
mod note;
mod overdue;
mod own_threads;
mod permits;
mod placement;
pub mod port;
mod recipient;
mod records;
mod run;
mod schedule_override;
mod scheduled_task;
pub mod serde;
mod signal;
mod starts;
mod stored_job;
mod supervisor;
mod task;
mod task_call;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod word;

// What the signatures of this crate name.
pub use futures_util::future::BoxFuture;
pub use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
pub use {actix, chrono, schemars, tracing, uuid};

pub use crate::{
    arguments::{ARGUMENTS_BYTES_MAX, ARGUMENTS_DEPTH_MAX, Arguments},
    body::ActorGone,
    candidacy::{Candidacy, MAY_LEAD_TIMEOUT, MayLead, RESIGN_PAUSE_DEFAULT, RESIGN_PAUSE_MIN},
    catch_ups::CATCH_UP_PER_SECOND_DEFAULT,
    core::{
        alarm::{EXPECT_MAX, EXPECT_MIN, EXPECT_RUN_MIN, Expectation},
        control::{Unconfirmed, WhyUnconfirmed},
        duration::{DurationText, parse_duration},
        end_text::{ERROR_BYTES_DEFAULT, ERROR_BYTES_MAX, ERROR_BYTES_MIN, WAITING_ERROR_BYTES_MAX},
        job::RunPhase,
        log_budget::{JOB_LINES_MAX, JOBS_LOGGED_MAX},
        operation::Operation,
        pacer::CATCH_UP_PER_SECOND_MAX,
        pause::{PAUSE_NOTE_MAX, Pause},
        policy::{
            ALLOW_MAX, CATCH_UP_PACE, Fires, LOSSES_MAX, MISFIRE_ALL_MAX, MISFIRE_WITHIN_MAX,
            MISFIRE_WITHIN_MIN, Misfire, OnLost, Overlap, PENDING_RETRIES_MAX, Policies, QUEUE_MAX, Retry,
        },
        reported::{MEASURES_MAX, Measure, PROGRESS_PACE, REPORT_CHARS_MAX, REPORTED_BYTES_MAX, Reported},
        skip::SkipReason,
        text::TEXT_MAX,
        time::FireTime,
    },
    deadline::CALL_DEADLINE,
    definition::{Bodiless, Job, SharedBody, TAGS_MAX},
    drain::{HowDrained, REPORTED_RUNS_MAX, ShutdownReport},
    engine::{
        BLOCKING_THREADS_DEFAULT, CLOCK_OFFSET_MAX_DEFAULT, CONNECT_TIMEOUT_DEFAULT, Engine, EngineOptions,
        FORGET_AFTER_DEFAULT, FORGET_AFTER_MIN, NODE_NAME_MAX, Routed, THREADS_MAX,
    },
    error::{
        AddError, BackfillError, ClusterError, ErrorKind, ExplainError, FIRE_TIMES_MAX, Fault, Faults,
        NextFireTimesError, Over, PauseError, SelectError, SkipMissedError, StartError, TriggerError,
        UnknownRun, UpdateError,
    },
    event::{CancelReason, Event, EventKind, EventName, Outcome, StepDownReason},
    event_filter::EventFilter,
    explain::{
        Answer, Delay, EXPLAINED_MAX, Evidence, Explain, Explanation, Explanations, NotDecided, NotKnown,
        When,
    },
    health::{
        CatchingUp, FAILING_RUNS_MIN, FailingJob, HealthReport, OverdueJob, PROBLEM_JOBS_MAX, Part, Problem,
        ProblemJobs, STALL_MAX,
    },
    history::{ATTEMPT_ERRORS_BYTES_MAX, HISTORY_QUEUE_MIN, HistoryOptions},
    hooks::{
        FinishedRun, HOOK_CALL_BYTES_MAX, HOOK_CALLS_MAX, HOOK_TIMEOUT_DEFAULT, HOOK_TIMEOUT_MAX, HookList,
        Hooks, NODE_HOOK_CALL_BYTES_MAX, OverdueAlarm, SkippedTicks,
    },
    job::{
        ActiveRunStatus, CancelItsRuns, FireTimes, HeldStatus, JobActor, JobContext, JobState, JobStatus,
        LastRunStatus, Scheduled, Triggered, TriggeredRun,
    },
    job_config::{ExpectConfig, JobConfig, PolicyConfig},
    job_names::{BACKEND_NAME_MAX, NAMED_BACKENDS_MAX},
    listener::{
        EVENT_BUFFER_DEFAULT, EVENT_BYTES_MAX, EVENTS_MAX, EventStream, Events, Listen, ListenTo,
        SUBSCRIBER_EVENT_BYTES_MAX, SUBSCRIBER_EVENTS_MAX,
    },
    message::{
        ACTIVE_RUNS_MAX, ActiveRun, ActiveRuns, AddJob, AddJobs, Added, AnnounceShutdown, Backfill,
        BackfillPreview, CLUSTER_WITHIN_DEFAULT, CLUSTER_WITHIN_MAX, CLUSTER_WITHIN_MIN, CancelBackfill,
        CancelRun, CancelRuns, CancelledRun, CancelledRuns, ChangedJobs, ClearOverride, DeleteJob,
        DetailsInCluster, Health, HeldBy, IfStored, InCluster, JobAddress, JobDetails, JobInCluster, JobPage,
        ListBackfills, ListJobs, ListStored, ListTasks, NextFireTimes, NodeList, NodeNow, NodeStatus, Nodes,
        OverrideSchedule, PAGE_MAX, PageInCluster, PauseJobs, PreviewBackfill, PutJob, RemoveJobs,
        RescheduleJob, Resign, ResumeJobs, RunOnNode, RunsInCluster, RunsOnNode, Selector, Shutdown,
        ShutdownNow, SkipMissed, SkippedMissed, StoredDetails, StoredHere, StoredInCluster, StoredPage,
        StoredStatus, TriggerJob, TriggeredOn, UpdateJob,
    },
    name::{By, FencingToken, JobName, LockKey, NAME_MAX, NodeId, RunId, RunIds, Tag, Term},
    note::Note,
    permits::WhenFull,
    port::{
        ATTEMPTS_RECORDED_MAX, AttemptRecord, BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX,
        BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillState,
        BackfillStatus, DIVERGED_RUNS_MAX, Decision, DecisionPage, DecisionRecord, Decisions, DivergedRun,
        EndedRun, FailedRun, Gaps, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, HistoryError, Holder, JobHistory,
        JobOperation, JobRecord, JobSet, MEMORY_BYTES_MIN, MemoryBounds, OPEN_RUN_STALE, OperationPage,
        OperationRecord, Operations, PageStart, RETENTION_MAX, RETENTION_MIN, Retention, RunHistory,
        RunOrigin, RunPage, RunRecord,
    },
    recipient::IntoRecipient,
    run::{IntoRunResult, Origin, Run, RunError, RunResult},
    schedule_override::ScheduleOverride,
    scheduled_task::ScheduledTask,
    starts::BodyThreads,
    stored_job::{ScheduleReader, StoredJob, StoredJobError},
    supervisor::{
        RESTART_PERIOD, RESTARTS_MAX, SHUTDOWN_ABORT_AFTER_DEFAULT, SHUTDOWN_END_MAX, SupervisorActor,
    },
    task::{Task, TaskCall, TaskDetails, Tasks},
};
