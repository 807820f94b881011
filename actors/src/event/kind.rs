//! What happened, kind by kind.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{
        alarm::Expectation,
        backfill::BackfillId,
        control::JobSet,
        outcome::{CancelReason, Outcome},
        pause::Pause,
        skip::SkipReason,
        step_down::StepDownReason,
        time::FireTime,
    },
    name::{By, FencingToken, JobName, NodeId, RunId, Term},
    port::DivergedRun,
};

/// What happened.
///
/// Each event is also a line of the log, through `tracing` with the target `callsheet`, whether or not
/// anybody listens:
///
/// | level | events |
/// |---|---|
/// | ERROR | `RunPanicked`, `JobRestarted`, `JobBroken`, `JobOverdue`, `LeaderOverdue` |
/// | WARN | `HistoryDiverged`, `RunFailed`, `RunTimedOut`, `RunLost`, `LockLost`, `JobConflicting`, `JobParked`, `ClockStepped`, `LeaseTooShort`, `ZoneDataChanged`, `ZoneDataDiffers`, `JobSetDrift`, `TickSkipped` by `Misfire` |
/// | INFO | `LeadershipGained`, `LeadershipLost`, `LeaseLongEnough`, `CandidacyWithdrawn`, `CandidacyRestored`, `JobPaused`, `JobResumed`, `JobRevived`, `JobUnparked`, `JobRecovered`, `LeaderRecovered`, `JobUpdated`, `BackfillStarted`, `BackfillFinished`, `BackfillCancelled`, `TickHeld`, `RunRetried`, `RunCancelled`, `ShutdownStarted`, `ShutdownFinished` |
/// | DEBUG | `JobAdded`, `JobRemoved`, `TickSkipped`, `RunStarted`, `RunSucceeded`, `RunProgressed`, `LockContended`, `LockUnavailable`, `LeadershipUnavailable` |
///
/// At INFO, WARN and ERROR, at most [`JOB_LINES_MAX`](crate::JOB_LINES_MAX) events of a kind are logged of a
/// job in a minute, and of at most [`JOBS_LOGGED_MAX`](crate::JOBS_LOGGED_MAX) jobs. DEBUG is not bounded.
/// When the minute is over a line says how many were left out: `RunFailed mail: … 41 more in the last
/// minute`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A job was added on this node.
    JobAdded {
        /// The job.
        job: JobName,
        /// Who asked for it, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// A job was removed on this node. A run in progress goes on to its end.
    JobRemoved {
        /// The job.
        job: JobName,
        /// Who asked for it, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// A job has another definition on this node.
    JobUpdated {
        /// The job.
        job: JobName,
        /// Who asked for it, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// A job does not fire, on any node. Said by the node that was told to pause it, or on which it failed
    /// too often. A node that starts later says nothing, since nothing happened: its
    /// [`JobStatus`](crate::JobStatus) has the pause.
    JobPaused {
        /// The job.
        job: JobName,
        /// For how long, why, and by whom.
        #[serde(flatten)]
        pause: Pause,
    },
    /// A job fires again. Said by the node that was told to resume it.
    JobResumed {
        /// The job.
        job: JobName,
        /// Who asked for it, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// The actor of a job died and was started again.
    JobRestarted {
        /// The job.
        job: JobName,
        /// How often within the restart period.
        restarts: u32,
    },
    /// The actor of a job died too often within the restart period, or its schedule broke the contract of
    /// [`Schedule`](crate::port::Schedule). The job does not fire until it is [resumed](crate::ResumeJobs) or
    /// [updated](crate::UpdateJob).
    JobBroken {
        /// The job.
        job: JobName,
        /// What happened, and the cure.
        reason: Arc<str>,
    },
    /// A broken job was resumed: it fires again, and its actor may die as often as that of a new job.
    JobRevived {
        /// The job.
        job: JobName,
    },
    /// A node does not fire a job, because other nodes declare another [overlap policy](crate::Overlap) for
    /// its lock key, or use another [name](crate::Job::formerly) of it. Said once, by that node, until it does. It asks
    /// again about every half minute, or every 5 s.
    JobConflicting {
        /// The job.
        job: JobName,
        /// The key, both policies, and what would mend it; or the other name, and who uses it.
        reason: Arc<str>,
    },
    /// The store refuses something of a job for its data, so this node does not fire it: see
    /// [`JobState::Parked`](crate::JobState::Parked). Said once, until it is parked no more.
    JobParked {
        /// The job.
        job: JobName,
        /// What the store says.
        reason: Arc<str>,
    },
    /// A job is parked no more: the store takes again what it had refused of it, or it was updated or resumed
    /// and is tried at once, or this node does not fire it any more.
    JobUnparked {
        /// The job.
        job: JobName,
    },
    /// A job did not do in time what is expected of it. Said once, until
    /// [`JobRecovered`](Self::JobRecovered), by each node that has the job.
    JobOverdue {
        /// The job.
        job: JobName,
        /// What is expected.
        expectation: Expectation,
        /// The time that it had for it.
        #[serde(with = "crate::serde::duration")]
        within: Duration,
        /// When that time was over.
        since: DateTime<Utc>,
    },
    /// A job did what had been overdue, or it is not expected any more.
    JobRecovered {
        /// The job.
        job: JobName,
        /// What was expected.
        expectation: Expectation,
        /// Since when it was overdue.
        since: DateTime<Utc>,
    },
    /// A backfill was asked for on this node, and is kept: the leader goes through it.
    BackfillStarted {
        /// The job.
        job: JobName,
        /// The backfill.
        backfill: BackfillId,
        /// How many runs it has.
        ticks: u32,
        /// Who asked for it, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// All runs of a backfill have ended. The leader says so.
    BackfillFinished {
        /// The job.
        job: JobName,
        /// The backfill.
        backfill: BackfillId,
        /// How many runs it had.
        ticks: u32,
        /// How many of them are known to have ended without success.
        failed: u32,
    },
    /// A backfill was cancelled on this node.
    BackfillCancelled {
        /// The job.
        job: JobName,
        /// The backfill.
        backfill: BackfillId,
        /// How many of its runs had not ended.
        remaining: u32,
        /// Who asked for it, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// A tick is due, and waits for the end of a pause: it runs if the job is resumed in time, and is skipped
    /// otherwise, as its
    /// [misfire policy](crate::Misfire) says. Said once of each tick by the node that decides it.
    TickHeld {
        /// The job.
        job: JobName,
        /// The tick.
        fire_time: FireTime,
        /// Why it waits: what it is skipped with, unless it runs.
        reason: SkipReason,
    },
    /// Ticks passed without a run.
    TickSkipped {
        /// The job.
        job: JobName,
        /// The newest of them.
        fire_time: FireTime,
        /// Why.
        reason: SkipReason,
        /// How many.
        count: u64,
        /// There may have been more: counting stopped at its bound.
        at_least: bool,
    },
    /// The body of a run started: once for each run, and once more when a run that was lost goes on.
    RunStarted {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// The tick; `None` for a manual trigger.
        fire_time: Option<FireTime>,
        /// Actual start minus fire time; zero for a manual trigger.
        #[serde(with = "crate::serde::duration")]
        lateness: Duration,
        /// The number of the try within the run: 1, unless the run was lost before.
        attempt: u32,
        /// The fencing token; `None` for a job without claims.
        token: Option<FencingToken>,
        /// Who triggered it, if somebody did who is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The fire time that a manual trigger [names](crate::TriggerJob::fire_time).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        names: Option<FireTime>,
    },
    /// A body said how far it is: see [`Run::progress`](crate::Run::progress). At most once a second of each
    /// run.
    RunProgressed {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// How far it is, from 0 to 1.
        progress: f64,
    },
    /// An attempt of a run failed, and another one follows after a wait.
    RunRetried {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// How long the body took in it.
        #[serde(with = "crate::serde::duration")]
        took: Duration,
        /// How long until the next attempt starts.
        #[serde(with = "crate::serde::duration")]
        wait: Duration,
        /// The error with its causes, or the message of the panic; empty if the time was over.
        error: Arc<str>,
    },
    /// The body of a run returned without an error.
    RunSucceeded {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// How long the body took.
        #[serde(with = "crate::serde::duration")]
        took: Duration,
    },
    /// The body of a run returned an error.
    RunFailed {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// How long the body took.
        #[serde(with = "crate::serde::duration")]
        took: Duration,
        /// The error with its causes.
        error: Arc<str>,
    },
    /// The body of a run panicked.
    RunPanicked {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// How long the body took.
        #[serde(with = "crate::serde::duration")]
        took: Duration,
        /// The message of the panic.
        message: Arc<str>,
    },
    /// The time of a run was over, and the run ended.
    RunTimedOut {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// How long the body took.
        #[serde(with = "crate::serde::duration")]
        took: Duration,
    },
    /// A run was cancelled, and ended; or it was claimed, and its body never started.
    RunCancelled {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// How long the body took.
        #[serde(with = "crate::serde::duration")]
        took: Duration,
        /// Why.
        why: CancelReason,
        /// What the hook said that vetoed it.
        reason: Option<Arc<str>>,
    },
    /// The node of a run died before the run ended. Said by the node that took over.
    RunLost {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
        /// The tick; `None` for a manual trigger.
        fire_time: Option<FireTime>,
    },
    /// A claim found its key held. Said once of a tick or trigger that waits for it.
    LockContended {
        /// The job.
        job: JobName,
        /// The run that holds the key, if known.
        holder: Option<RunId>,
    },
    /// A claim got no answer. It is asked again.
    LockUnavailable {
        /// The job.
        job: JobName,
        /// What happened.
        reason: String,
    },
    /// The session behind a held key is gone: the run is cancelled and its completion will be refused.
    LockLost {
        /// The job.
        job: JobName,
        /// The run.
        run: RunId,
    },
    /// This node leads.
    LeadershipGained {
        /// The term.
        term: Term,
    },
    /// This node does not lead any more.
    LeadershipLost {
        /// The term that is over.
        term: Term,
        /// Why.
        why: StepDownReason,
    },
    /// This node does not campaign until further notice. Said again if it is for another reason.
    CandidacyWithdrawn {
        /// Why.
        why: StepDownReason,
        /// The same in words.
        reason: Arc<str>,
    },
    /// This node stands as a candidate again, or leads.
    CandidacyRestored,
    /// The elector did not answer.
    LeadershipUnavailable {
        /// What happened.
        reason: String,
    },
    /// The leader, another node, says that ticks are due which it does not decide, or which were to start by now:
    /// said once by each follower, until [`LeaderRecovered`](Self::LeaderRecovered). The health of the followers says
    /// so meanwhile ([`TicksUndecidedOnLeader`](crate::Problem::TicksUndecidedOnLeader)), the leader itself says of
    /// which jobs.
    LeaderOverdue {
        /// Since when the first of them is due.
        since: DateTime<Utc>,
    },
    /// No leader says any more that ticks are due and not decided, or this node leads itself.
    LeaderRecovered {
        /// Since when the first of them was due.
        since: DateTime<Utc>,
    },
    /// Round trips to the store take too long for the lease: terms and sessions may be lost although nothing
    /// is wrong. It is said once, until [`LeaseLongEnough`](Self::LeaseLongEnough).
    LeaseTooShort {
        /// What a round trip takes.
        #[serde(with = "crate::serde::duration")]
        round_trip: Duration,
        /// The shortest lease that works.
        #[serde(with = "crate::serde::duration")]
        lease_min: Duration,
    },
    /// Round trips to the store are short enough for the lease again.
    LeaseLongEnough {
        /// What a round trip takes.
        #[serde(with = "crate::serde::duration")]
        round_trip: Duration,
    },
    /// The node's wall clock was set, or the machine slept, or the clock has drifted away: it has moved
    /// against the monotonic one. Every timer that follows it is set again.
    ClockStepped {
        /// How much more it reads than it would have; negative: less.
        #[serde(with = "crate::serde::duration")]
        by: TimeDelta,
    },
    /// This node leads after one that went by other time zone data: a tick that the two place at different
    /// instants may run twice, or be skipped.
    ZoneDataChanged {
        /// The version of the leader before.
        from: String,
        /// The version of this node.
        to: String,
    },
    /// Another node of the cluster goes by other time zone data.
    ZoneDataDiffers {
        /// The version of this node.
        own: String,
        /// The version of the other one.
        other: String,
        /// That node; there may be more.
        other_node: NodeId,
    },
    /// Another node of the cluster has other jobs in its code, or other schedules of them, since a minute or more:
    /// what only
    /// some nodes have runs only while one of these is there. During a rolling deployment it passes.
    JobSetDrift {
        /// The jobs of this node.
        own: JobSet,
        /// Those of the other one.
        other: JobSet,
        /// That node; there may be more.
        other_node: NodeId,
    },
    /// The store does not know what it granted to this node before: a database that was promoted without the
    /// last commits, or put back from a backup. What it does not know may run once more. Said when a session
    /// is opened again, and again of ticks that have then run twice. See the
    /// [guide](https://docs.rs/callsheet/latest/callsheet/guide/two_histories/).
    HistoryDiverged {
        /// The newest term that this node was granted, if the store knows no term so new.
        term: Option<Term>,
        /// How many runs: of the newest [`GRANTED_RUNS_MAX`](crate::port::GRANTED_RUNS_MAX) of this node.
        count: u64,
        /// The newest of them, at most [`DIVERGED_RUNS_MAX`](crate::DIVERGED_RUNS_MAX).
        runs: Vec<DivergedRun>,
    },
    /// The engine stops: no tick is armed any more.
    ShutdownStarted {
        /// How long runs may drain.
        #[serde(with = "crate::serde::duration")]
        deadline: Duration,
    },
    /// The engine has stopped.
    ShutdownFinished {
        /// How many runs ended by themselves.
        drained: u64,
        /// How many ended after they were cancelled.
        cancelled: u64,
        /// How many had to be aborted.
        aborted: u64,
    },
}
