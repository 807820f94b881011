//! A job scheduler inside a service, built on actix: one process, or many on one PostgreSQL database.
//!
//! A supervisor actor owns one actor per job. Each job has a timer for its next fire time. A tick that is due
//! is claimed in the store, where the nodes coordinate, and the node that is granted the claim runs the body.
//! Jobs are added, paused, triggered and removed at runtime, through the [`Callsheet`] handle or by
//! [message](SupervisorActor).
//!
//! ```
//! use std::time::Duration;
//!
//! use callsheet::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let jobs = Callsheet::builder()
//!     .job(Job::new("hello", every(Duration::from_secs(5))).run(async |run| println!("{run:?}")))
//!     .start()
//!     .await?;
//! jobs.trigger("hello").await?;
//! println!("{}", jobs.shutdown(Duration::from_secs(30)).await); // drained, cancelled, aborted
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!  application ── AddJob, TriggerJob … ──▶ SupervisorActor ◀── the term ── ElectionActor ──▶ port Elector
//!                                                │ resume, suspend
//!                                                ▼
//!                                   JobActor, one per job ── claims ──▶ LockActor ──▶ port Locker
//!                                                │        ◀─ verdicts ──
//!                                                ▼
//!                                   the body, on threads of its own
//!  every actor ── events ──▶ ListenerActor ──▶ subscribers
//! ```
//!
//! # Where to go on
//!
//! * [`schedule`]: when jobs are due; time zones and daylight saving time.
//! * [`Job`]: bodies and policies ([`Fires`], [`Overlap`], [`Misfire`], [`OnLost`], [`Retry`]), each with its
//!   truth table.
//! * [`Task`]: a body with a name and typed arguments, so that a job can be data.
//! * [`Run`]: what a body gets. [`Callsheet`]: what a service can ask and tell.
//! * [`Builder`]: backend, threads, hooks, listeners. [`metrics`]: a recorder. [`port`]: what can be
//!   replaced.
//! * [`guide`]: longer prose. To use it: [`guide::bodies`], [`guide::tasks`], [`guide::stored_jobs`],
//!   [`guide::control`], `guide::policies`, [`guide::hooks`], [`guide::configuration`], [`guide::settings`],
//!   `guide::testing`, [`guide::coming_from`]. To run it: [`guide::deploying`], [`guide::metrics`], [`guide::logs`],
//!   [`guide::traces`], [`guide::history`], [`guide::explain`], [`guide::health`], `guide::console`, `guide::cluster`,
//!   [`guide::backends`], [`guide::coordination`], `guide::leadership`, `guide::changing_jobs`, `guide::database`,
//!   `guide::parked`, `guide::other_connections`, `guide::two_histories`. To know it: [`guide::limits`],
//!   [`guide::node_limits`], [`guide::faults`], [`guide::audit`], [`guide::architecture`], [`guide::life_of_a_tick`],
//!   [`guide::election`], `guide::extending`, [`guide::glossary`].
//!
//! # What it does not do
//!
//! It does not make effects exactly-once: a run whose node dies has done part of its work. It does not run on
//! time on a machine without processor time. [`backend::Local`] is one process; for several there is
//! `backend::Postgres`, and what it promises and does not is told in [`guide::limits`].
//!
//! # Data
//!
//! Everything that an administrator's page or a client needs reads and writes itself with serde: [`JobPage`],
//! [`JobStatus`], [`HealthReport`], [`Event`], [`ShutdownReport`], and the schedules and policies of a
//! [`JobConfig`]. Durations are texts, `"1m30s"` ([`serde::duration`] does the same for fields of the
//! application), instants are RFC 3339, [terms](Term) and [fencing tokens](FencingToken) are texts of digits.
//! A client reads what nodes of its own version write, or of an older one; a kind of event or of problem that
//! it does not know is an error.
//!
//! # Versions that must match
//!
//! Signatures name types of other crates. An application that uses one of these crates itself needs the same
//! version, or takes it from here:
//!
//! | crate | version | where | re-exported as |
//! |---|---|---|---|
//! | `actix` | 0.13 | actors, addresses and messages | [`callsheet::actix`](actix) |
//! | `actix-web` | 4 | `metrics::Prometheus::resource`, the answer for an [`Error`] | `callsheet::actix_web` |
//! | `chrono` | 0.4 | instants | [`callsheet::chrono`](chrono) |
//! | `chrono-tz` | 0.10 | [`schedule::ZoneName`] | [`callsheet::chrono_tz`](chrono_tz) |
//! | `deadpool-postgres` | 0.14 | `backend::Postgres::history_pool` | `callsheet::deadpool_postgres` |
//! | `futures-util` | 0.3 | [`port::Body`], [`port::Elector`], [`port::Locker`] | [`BoxFuture`] |
//! | `metrics-exporter-prometheus` | 0.18 | `metrics::Prometheus::with_handle` | `metrics::PrometheusHandle` |
//! | `schemars` | 1 | [`Task`] | [`callsheet::schemars`](schemars) |
//! | `tokio-postgres` | 0.7 | `postgres::Guard` | `callsheet::tokio_postgres` |
//! | `tokio-util` | 0.7 | [`Run::cancellation`], [`Run::cancelled`] | [`CancellationToken`] |
//! | `tracing` | 0.1 | [`Run::span`] | [`callsheet::tracing`](tracing) |
//! | `uuid` | 1 | [`RunId`], [`NodeId`] | [`callsheet::uuid`](uuid) |
//!
//! Three that are not re-exported are met all the same: `serde` 1; `tokio` 1, on whose runtimes everything
//! runs; and `metrics` 0.24, whose recorder has to be the one that the application installs.
//!
//! # Features
//!
//! * `postgres` (default): `backend::Postgres`, coordination of several nodes on PostgreSQL, and
//!   `backend::PostgresLease`, the same through a pooler.
//! * `mysql`: `backend::Mysql`, the same on MySQL 8.0 or newer, or MariaDB 10.6 or newer.
//! * `redis`: `backend::Redis`, the same on Redis 6 or newer, or Valkey.
//! * `consul`: `backend::Consul`, the same on Consul 1.8 or newer.
//! * `etcd`: `backend::Etcd`, the same on etcd 3.4 or newer. Its build needs `protoc`.
//! * `kubernetes`: `backend::Kubernetes`, elections by a `Lease`, for `backend::Elected`.
//! * `sqlite`: `backend::Local::at`, one node that forgets nothing when it restarts, without a server.
//! * `prometheus` (default): a recorder and its `/metrics` resource for actix-web.
//! * `console`: `console::Console`, a page and a JSON API to see and operate the jobs.
//! * `actix-web` (by `prometheus` and `console`): [`Error`] as the answer of a handler.
//! * `file-catalogue`: `catalogue::FileCatalogue`, [stored jobs](guide::stored_jobs) in a file of TOML or JSON.
//! * `testkit`: virtual clock, fakes, recorder, cluster rig and conformance suites.

// docs.rs, which builds on nightly, marks what a feature brings.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
mod builder;
#[cfg(feature = "file-catalogue")]
pub mod catalogue;
mod config;
#[cfg(feature = "console")]
pub mod console;
mod error;
pub mod guide;
mod handle;
pub mod metrics;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod prelude;
pub mod schedule;
pub mod settings;
mod shutdown;

#[cfg(feature = "actix-web")]
pub use actix_web;
#[cfg(feature = "testkit")]
pub use callsheet_actors::testkit;
pub use callsheet_actors::{
    ACTIVE_RUNS_MAX, ActiveRun, ActiveRuns, CLUSTER_WITHIN_DEFAULT, CLUSTER_WITHIN_MAX, CLUSTER_WITHIN_MIN,
    CancelledRun, CancelledRuns, ChangedJobs, ClusterError, DetailsInCluster, HeldBy, InCluster,
    JobInCluster, JobSet, NodeList, NodeNow, NodeStatus, Nodes, PageInCluster, RunOnNode, RunsInCluster,
    RunsOnNode, StoredInCluster, TriggeredOn, Unconfirmed, WhyUnconfirmed,
};
pub use callsheet_actors::{
    ALLOW_MAX, ARGUMENTS_BYTES_MAX, ARGUMENTS_DEPTH_MAX, ATTEMPT_ERRORS_BYTES_MAX, ATTEMPTS_RECORDED_MAX,
    ActiveRunStatus, ActorGone, AddError, AddJob, AddJobs, Added, AnnounceShutdown, Answer, Arguments,
    AttemptRecord, BLOCKING_THREADS_DEFAULT, Bodiless, BodyThreads, By, CALL_DEADLINE, CATCH_UP_PACE,
    CATCH_UP_PER_SECOND_DEFAULT, CATCH_UP_PER_SECOND_MAX, CLOCK_OFFSET_MAX_DEFAULT, CONNECT_TIMEOUT_DEFAULT,
    CancelItsRuns, CancelReason, CancelRun, CancelRuns, Candidacy, CatchingUp, ClearOverride,
    DIVERGED_RUNS_MAX, Decision, DecisionPage, DecisionRecord, Decisions, Delay, DeleteJob, DivergedRun,
    ERROR_BYTES_DEFAULT, ERROR_BYTES_MAX, ERROR_BYTES_MIN, EVENT_BUFFER_DEFAULT, EVENT_BYTES_MAX, EVENTS_MAX,
    EXPECT_MAX, EXPECT_MIN, EXPECT_RUN_MIN, EXPLAINED_MAX, EndedRun, ErrorKind, Event, EventFilter,
    EventKind, EventName, EventStream, Events, Evidence, ExpectConfig, Expectation, Explain, ExplainError,
    Explanation, Explanations, FAILING_RUNS_MIN, FIRE_TIMES_MAX, FORGET_AFTER_DEFAULT, FORGET_AFTER_MIN,
    FailedRun, FailingJob, Fault, Faults, FencingToken, FinishedRun, FireTime, FireTimes, Fires, Gaps,
    HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, HISTORY_QUEUE_MIN, HOOK_CALL_BYTES_MAX, HOOK_CALLS_MAX,
    HOOK_TIMEOUT_DEFAULT, HOOK_TIMEOUT_MAX, Health, HealthReport, HeldStatus, HistoryError, HistoryOptions,
    Holder, HowDrained, IfStored, IntoRecipient, IntoRunResult, JOB_LINES_MAX, JOBS_LOGGED_MAX, Job,
    JobActor, JobAddress, JobContext, JobDetails, JobHistory, JobName, JobOperation, JobPage, JobRecord,
    JobState, JobStatus, LOSSES_MAX, LastRunStatus, ListJobs, ListStored, ListTasks, Listen, ListenTo,
    LockKey, MAY_LEAD_TIMEOUT, MEASURES_MAX, MEMORY_BYTES_MIN, MISFIRE_ALL_MAX, MISFIRE_WITHIN_MAX,
    MISFIRE_WITHIN_MIN, Measure, MemoryBounds, Misfire, NAME_MAX, NODE_HOOK_CALL_BYTES_MAX, NODE_NAME_MAX,
    NextFireTimes, NextFireTimesError, NodeId, NotDecided, NotKnown, Note, OPEN_RUN_STALE, OnLost, Operation,
    OperationPage, OperationRecord, Operations, Origin, Outcome, Over, OverdueAlarm, OverdueJob, Overlap,
    OverrideSchedule, PAGE_MAX, PAUSE_NOTE_MAX, PENDING_RETRIES_MAX, PROBLEM_JOBS_MAX, PROGRESS_PACE,
    PageStart, Part, Pause, PauseError, PauseJobs, Policies, PolicyConfig, Problem, ProblemJobs, PutJob,
    QUEUE_MAX, REPORT_CHARS_MAX, REPORTED_BYTES_MAX, REPORTED_RUNS_MAX, RESIGN_PAUSE_DEFAULT,
    RESIGN_PAUSE_MIN, RESTART_PERIOD, RESTARTS_MAX, RETENTION_MAX, RETENTION_MIN, RemoveJobs, Reported,
    RescheduleJob, Resign, ResumeJobs, Retention, Retry, Run, RunError, RunHistory, RunId, RunOrigin,
    RunPage, RunPhase, RunRecord, RunResult, SHUTDOWN_ABORT_AFTER_DEFAULT, SHUTDOWN_END_MAX, STALL_MAX,
    SUBSCRIBER_EVENT_BYTES_MAX, SUBSCRIBER_EVENTS_MAX, ScheduleOverride, Scheduled, ScheduledTask,
    SelectError, Selector, Shutdown, ShutdownNow, ShutdownReport, SkipMissed, SkipMissedError, SkipReason,
    SkippedMissed, SkippedTicks, StartError, StepDownReason, StoredDetails, StoredHere, StoredJobError,
    StoredPage, StoredStatus, SupervisorActor, TEXT_MAX, Tag, Task, TaskCall, TaskDetails, Term,
    TriggerError, TriggerJob, Triggered, TriggeredRun, UnknownRun, UpdateError, UpdateJob,
    WAITING_ERROR_BYTES_MAX, When, WhenFull, port,
};
pub use callsheet_actors::{BACKEND_NAME_MAX, NAMED_BACKENDS_MAX, Routed};
pub use callsheet_actors::{
    BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX, BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX,
    BACKFILLS_OPEN_MAX, Backfill, BackfillError, BackfillId, BackfillPreview, BackfillState, BackfillStatus,
    CancelBackfill, ListBackfills, PreviewBackfill,
};
pub use callsheet_actors::{
    BoxFuture, CancellationToken, WaitForCancellationFuture, actix, chrono, schemars, serde, tracing, uuid,
};

pub use chrono_tz;
#[cfg(feature = "postgres")]
pub use deadpool_postgres;
#[cfg(feature = "postgres")]
pub use tokio_postgres;

#[cfg(unix)]
pub use crate::shutdown::ShutdownSignals;
pub use crate::{
    builder::Builder,
    config::{JobConfig, STORED_JOB_SCHEMA, StoredJob},
    error::Error,
    handle::{Callsheet, Cluster},
    settings::Settings,
    shutdown::{SERVER_STOP_MAX, ShutdownBudget},
};

#[cfg(all(doctest, feature = "testkit"))]
#[doc = include_str!("../README.md")]
struct Readme;
