//! How a node is, in three answers.

mod data;

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    candidacy::Candidacy,
    core::{alarm::Expectation, operation::Operation},
    name::{JobName, NodeId, Term},
    port::Role,
    starts::BodyThreads,
};

/// The most jobs that a problem names; it counts all of them.
pub const PROBLEM_JOBS_MAX: usize = 10;

/// A part of the engine that does not answer for longer is stalled for good, as far as can be told. Less may
/// be a machine without processor time, which a restart would make worse.
pub const STALL_MAX: Duration = Duration::from_secs(5);

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// The node.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What its store is called.
    pub backend: String,
    /// What it is to its cluster.
    pub role: Role,
    /// The term in which it leads; `None` for a follower.
    pub term: Option<Term>,
    /// The node that leads, as this node has heard within the last lease.
    pub leader: Option<NodeId>,
    /// Whether it stands as a candidate for the lead.
    pub candidacy: Candidacy,
    /// The version of the time zone data by which it computes fire times; empty if it is not known.
    pub zone_data: String,
    /// How many jobs it has.
    pub jobs: usize,
    /// Its threads and actors answer, or have not been asked for longer than [`STALL_MAX`]. If they do not,
    /// only another process helps. A store that is away does not matter.
    pub live: bool,
    /// It is live, has a session with the store, and does not shut down. A follower is ready.
    pub ready: bool,
    /// It is ready, some node leads, every due tick is decided, no operation has failed for longer than a
    /// lease, and jobs do what is expected of them: there are no problems.
    pub healthy: bool,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What whoever runs it should know of the way it was set up, although nothing is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The jobs whose missed ticks wait for their turn to be made up for, if there are any: no problem, as the
    /// [pace](crate::EngineOptions::catch_up_per_second) says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catching_up: Option<CatchingUp>,
    /// How it is on each of its [named backends](crate::EngineOptions::named), where it is another node. It is live,
    /// ready and healthy if it is so on all; its jobs and problems are those of all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, HealthReport>,
}

/// Jobs whose missed ticks wait for their turn to be made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CatchingUp {
    /// How many.
    pub jobs: usize,
    /// When the last of them has its turn at this pace, by the store's clock. Those whose misfire window ends
    /// before are skipped.
    pub until: DateTime<Utc>,
}

impl HealthReport {
    /// This of the default backend, together with those of the named ones.
    pub(crate) fn with_named(mut self, named: impl IntoIterator<Item = (Arc<str>, Self)>) -> Self {
        for (name, report) in named {
            self.live &= report.live;
            self.ready &= report.ready;
            self.healthy &= report.healthy;
            self.jobs += report.jobs;
            self.problems.extend(report.problems.iter().cloned());
            self.catching_up = match (self.catching_up, report.catching_up) {
                (Some(one), Some(other)) => {
                    Some(CatchingUp { jobs: one.jobs + other.jobs, until: one.until.max(other.until) })
                }
                (one, other) => one.or(other),
            };
            self.named.insert((*name).to_owned(), report);
        }
        self
    }

    /// Derives the answers from whether it is live and from the problems.
    pub(crate) fn judge(&mut self, live: bool) {
        let unready =
            |problem: &Problem| matches!(problem, Problem::ShuttingDown | Problem::NoSession { .. });
        self.live = live;
        self.ready = live && !self.problems.iter().any(unready);
        self.healthy = self.problems.is_empty();
    }
}

/// A part of the engine that can stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// The actor that owns the term.
    Election,
    /// The actor that owns the claims.
    Lock,
    /// A thread of the job actors.
    Jobs,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Election, Self::Lock, Self::Jobs];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Election => "the election actor",
            Self::Lock => "the lock actor",
            Self::Jobs => "a thread of the job actors",
        })
    }
}

/// Jobs that have one problem: the first [`PROBLEM_JOBS_MAX`] in the order of their names, and how many there
/// are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProblemJobs {
    /// The first of them.
    pub first: Vec<JobName>,
    /// How many there are.
    pub count: usize,
}

impl ProblemJobs {
    /// The problem's jobs, if there are any, of which so many are named.
    pub(crate) fn of<'a>(jobs: impl ExactSizeIterator<Item = &'a JobName>) -> Option<Self> {
        let count = jobs.len();
        (count > 0).then(|| Self { first: jobs.take(PROBLEM_JOBS_MAX).cloned().collect(), count })
    }
}

impl fmt::Display for ProblemJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, job) in self.first.iter().enumerate() {
            write!(f, "{}{job}", if at == 0 { "" } else { ", " })?;
        }
        match self.count.saturating_sub(self.first.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// How many runs in a row fail of a job that is a [problem](Problem::Failing).
pub const FAILING_RUNS_MIN: u32 = 3;

/// An expectation of a job that is not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OverdueJob {
    /// The job.
    pub job: JobName,
    /// What is expected.
    pub expectation: Expectation,
    /// When the time for it was over.
    pub since: DateTime<Utc>,
}

/// A job whose runs fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailingJob {
    /// The job.
    pub job: JobName,
    /// How many runs in a row failed, panicked or timed out.
    pub failures: u32,
    /// When the first of them started, as far as this node knows.
    pub since: DateTime<Utc>,
}

impl fmt::Display for OverdueJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} since {})", self.job, self.expectation, self.since.trunc_subsecs(3))
    }
}

impl fmt::Display for FailingJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} times since {})", self.job, self.failures, self.since.trunc_subsecs(3))
    }
}

/// The first of so many.
struct Listed<'a, T>(&'a [T], usize);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.0.iter().enumerate() {
            write!(f, "{}{one}", if at == 0 { "" } else { ", " })?;
        }
        match self.1.saturating_sub(self.0.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Something that keeps a node from its work.
///
/// Its JSON has the same fields for all: `problem` (which one), `reason`, `cure`, and where they apply
/// `part`, `threads`, `operation`, `since`, `last`, `count`, `jobs`, `overdue`,
/// `failing`. [`Display`](fmt::Display) writes the
/// reason and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A part of the engine does not answer within a second: if it goes on for [`STALL_MAX`], the node is not
    /// live.
    Stalled {
        /// Which one.
        part: Part,
        /// Since when it was asked without an answer.
        since: DateTime<Utc>,
    },
    /// The engine shuts down: the node is not ready.
    ShuttingDown,
    /// There is no session with the store: the node is not ready.
    NoSession {
        /// Why the last one was lost, or none was opened, if that is known.
        reason: Option<String>,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The store has not answered a round of claims for more than two seconds.
    StoreSilent {
        /// When it was asked.
        since: DateTime<Utc>,
    },
    /// Somebody else holds in the store what this node needs, and is not ended, or not yet; or has left there what
    /// this node does not take over.
    Obstructed {
        /// What is held or was left, and by whom.
        reason: String,
        /// What would help.
        cure: String,
        /// Since when this node knows of it.
        since: DateTime<Utc>,
    },
    /// Round trips to the store take too long for the lease: terms and sessions may be lost although nothing
    /// is wrong.
    LeaseTooShort {
        /// What they take, and the shortest lease that works.
        reason: String,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// No node is known to lead: this one does not lead any more and has not heard of another one since, or it has
    /// heard of none for longer than a lease.
    NoLeader {
        /// When one was known to lead last, or this node was started.
        since: DateTime<Utc>,
    },
    /// An operation has failed, or was refused, for longer than a lease.
    OperationFailing {
        /// Which one.
        operation: Operation,
        /// Why it failed last, without passwords or connection strings.
        reason: String,
        /// What would mend it, if the store knows.
        cure: Option<String>,
        /// When it failed first after it had succeeded.
        since: DateTime<Utc>,
        /// When it failed last.
        last: DateTime<Utc>,
        /// How often it has failed since then.
        count: u64,
    },
    /// Due ticks are not decided: no run, and no policy that skips them.
    TicksUndecided {
        /// Of which jobs.
        jobs: ProblemJobs,
        /// Since when the first of them is due.
        since: DateTime<Utc>,
    },
    /// The leader, another node, says that ticks are due and not decided.
    TicksUndecidedOnLeader {
        /// Since when the first of them is due.
        since: DateTime<Utc>,
    },
    /// No leader has said for two leases and the [time of a call](crate::CALL_DEADLINE) that what is due is
    /// decided, even if the leader changed, and nothing else tells why.
    Undecided {
        /// When one said so last. Time without a session does not count.
        since: DateTime<Utc>,
    },
    /// Jobs do not do in time what is [expected](crate::Expectation) of them.
    Overdue {
        /// The first [`PROBLEM_JOBS_MAX`] expectations that are not met, in the order of the jobs' names.
        jobs: Vec<OverdueJob>,
        /// How many there are.
        count: usize,
    },
    /// Runs of jobs that this node fires fail, [`FAILING_RUNS_MIN`] times in a row or more.
    Failing {
        /// The first [`PROBLEM_JOBS_MAX`] of them, in the order of their names.
        jobs: Vec<FailingJob>,
        /// How many there are.
        count: usize,
    },
    /// Jobs broke, and do not fire any more: their actors died too often, or their schedules are wrong.
    Broken {
        /// Which jobs.
        jobs: ProblemJobs,
    },
    /// The store refuses jobs for their data, and they do not run.
    Parked {
        /// Which jobs.
        jobs: ProblemJobs,
    },
    /// Stored jobs cannot run on this node: their definitions cannot be read, or name what the node does not have.
    StoredParked {
        /// Which jobs.
        jobs: ProblemJobs,
    },
    /// One-shots are due that this node does not hold: too many others wait, or run for long.
    OneShotsBehind {
        /// Since when the first of them is due.
        since: DateTime<Utc>,
    },
    /// Jobs are not fired by this node, because other nodes declare another overlap policy for their lock
    /// keys.
    Conflicting {
        /// Which jobs.
        jobs: ProblemJobs,
    },
    /// No body has started for more than two seconds, as those that run block all threads. Of threads for
    /// bodies that block, or that are not `Send`, it counts that a body waits for one.
    BodiesBlocked {
        /// Which threads.
        threads: BodyThreads,
        /// Since when they were asked, or a body waits for one, and none has started.
        since: DateTime<Utc>,
    },
}

impl Problem {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stalled { .. } => "stalled",
            Self::ShuttingDown => "shutting_down",
            Self::NoSession { .. } => "no_session",
            Self::StoreSilent { .. } => "store_silent",
            Self::Obstructed { .. } => "obstructed",
            Self::LeaseTooShort { .. } => "lease_too_short",
            Self::NoLeader { .. } => "no_leader",
            Self::OperationFailing { .. } => "operation_failing",
            Self::TicksUndecided { .. } => "ticks_undecided",
            Self::TicksUndecidedOnLeader { .. } => "ticks_undecided_on_leader",
            Self::Undecided { .. } => "undecided",
            Self::Overdue { .. } => "overdue",
            Self::Failing { .. } => "failing",
            Self::Broken { .. } => "broken",
            Self::Parked { .. } => "parked",
            Self::StoredParked { .. } => "stored_parked",
            Self::OneShotsBehind { .. } => "one_shots_behind",
            Self::Conflicting { .. } => "conflicting",
            Self::BodiesBlocked { .. } => "bodies_blocked",
        }
    }

    /// What fails, if it is something that the node asks of its store.
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Self::NoSession { .. } => Some(Operation::Open),
            Self::OperationFailing { operation, .. } => Some(*operation),
            Self::Stalled { .. }
            | Self::NoLeader { .. }
            | Self::StoreSilent { .. }
            | Self::Obstructed { .. }
            | Self::LeaseTooShort { .. }
            | Self::ShuttingDown
            | Self::TicksUndecided { .. }
            | Self::TicksUndecidedOnLeader { .. }
            | Self::Undecided { .. }
            | Self::Overdue { .. }
            | Self::Failing { .. }
            | Self::Broken { .. }
            | Self::Parked { .. }
            | Self::StoredParked { .. }
            | Self::OneShotsBehind { .. }
            | Self::Conflicting { .. }
            | Self::BodiesBlocked { .. } => None,
        }
    }

    /// What is wrong.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Stalled { part, .. } => format!("{part} does not answer").into(),
            Self::ShuttingDown => "the engine shuts down".into(),
            Self::NoSession { reason: None, .. } => NO_SESSION.into(),
            Self::NoSession { reason: Some(reason), .. } => format!("{NO_SESSION}: {reason}").into(),
            Self::StoreSilent { .. } => "the store does not answer".into(),
            Self::Obstructed { reason, .. } | Self::LeaseTooShort { reason, .. } => reason.into(),
            Self::NoLeader { .. } => "no node leads".into(),
            Self::OperationFailing { operation, reason, .. } => {
                format!("the store refuses or fails the operation {operation}: {reason}").into()
            }
            Self::TicksUndecided { jobs, .. } => {
                format!("ticks are due and neither run nor skipped, of {jobs}").into()
            }
            Self::TicksUndecidedOnLeader { .. } => {
                "ticks are due and neither run nor skipped, as the leader says".into()
            }
            Self::Undecided { .. } => "no leader says that the ticks which are due are decided".into(),
            Self::Overdue { jobs, count } => {
                format!("jobs do not do in time what is expected of them: {}", Listed(jobs, *count)).into()
            }
            Self::Failing { jobs, count } => {
                format!("the last runs of jobs failed: {}", Listed(jobs, *count)).into()
            }
            Self::Broken { jobs } => format!("jobs broke, and do not fire any more: {jobs}").into(),
            Self::Parked { jobs } => format!("the store refuses the data of {jobs}").into(),
            Self::StoredParked { jobs } => {
                let count = jobs.count;
                format!("{count} stored jobs cannot run on this node: {jobs}").into()
            }
            Self::OneShotsBehind { .. } => {
                "one-shots are due that this node does not hold: too many others wait, or run for long".into()
            }
            Self::Conflicting { jobs } => {
                format!("other nodes declare another overlap policy for the lock keys of {jobs}").into()
            }
            Self::BodiesBlocked { threads, .. } => match threads {
                BodyThreads::Body => "no body starts: those that run block all threads",
                BodyThreads::Blocking => "no body of run_blocking starts: those that run hold all threads",
                BodyThreads::Local => "no body of run_local starts: one that runs blocks its thread",
            }
            .into(),
        }
    }

    /// What would mend it.
    pub fn cure(&self) -> &str {
        match self {
            Self::Stalled { part: Part::Jobs, .. } => {
                "find the schedule, hook or body that blocks the thread; restart the process"
            }
            Self::Stalled { .. } => "restart the process",
            Self::ShuttingDown => "start another process",
            Self::NoSession { .. } => "look at the store: the node opens a session as soon as it can",
            Self::StoreSilent { .. } => "look at the store's load, locks and network",
            Self::LeaseTooShort { .. } => "give all nodes a longer lease, or bring them nearer to the store",
            Self::NoLeader { .. } => {
                "look at the other problems of all nodes; each campaigns and leads as soon as it can"
            }
            Self::OperationFailing { cure: Some(cure), .. } | Self::Obstructed { cure, .. } => cure,
            Self::OperationFailing { cure: None, .. } => FAILING_CURE,
            Self::TicksUndecidedOnLeader { .. } => "look at the leader's health",
            Self::Undecided { .. } => {
                "look at the other problems of all nodes, and at what holds locks in the store"
            }
            Self::TicksUndecided { .. } => "look at the other problems, and at what holds locks in the store",
            Self::Overdue { .. } => {
                "look at the other problems, and at the last runs and decisions in the history of the jobs"
            }
            Self::Failing { .. } => "look at the errors of their last runs",
            Self::Broken { .. } => {
                "look at the reasons in the details of the jobs, and update or resume them"
            }
            Self::Parked { .. } => {
                "look at the reasons in the details of the jobs; update the jobs, or mend the store: they are tried again about once a minute"
            }
            Self::StoredParked { .. } => {
                "look at the reasons in the list of stored jobs; mend their definitions, or delete them"
            }
            Self::OneShotsBehind { .. } => {
                "resume one-shots that are paused, find out why others do not end, or delete them"
            }
            Self::Conflicting { .. } => "give the jobs of one key one policy on all nodes",
            Self::BodiesBlocked { threads, .. } => match threads {
                BodyThreads::Body => "give bodies that block to run_blocking, or raise body_threads",
                BodyThreads::Blocking => "find the bodies that do not return, or raise blocking_threads",
                BodyThreads::Local => "give bodies that block to run_blocking, or raise local_body_threads",
            },
        }
    }

    /// Since when, if that is known.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Stalled { since, .. }
            | Self::NoSession { since, .. }
            | Self::StoreSilent { since }
            | Self::Obstructed { since, .. }
            | Self::LeaseTooShort { since, .. }
            | Self::NoLeader { since }
            | Self::OperationFailing { since, .. }
            | Self::TicksUndecidedOnLeader { since }
            | Self::Undecided { since }
            | Self::OneShotsBehind { since }
            | Self::BodiesBlocked { since, .. }
            | Self::TicksUndecided { since, .. } => Some(*since),
            Self::Overdue { jobs, .. } => jobs.iter().map(|job| job.since).min(),
            Self::Failing { jobs, .. } => jobs.iter().map(|job| job.since).min(),
            Self::ShuttingDown
            | Self::Broken { .. }
            | Self::Parked { .. }
            | Self::StoredParked { .. }
            | Self::Conflicting { .. } => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason())?;
        if let Some(since) = self.since() {
            write!(f, ", since {}", since.trunc_subsecs(3))?;
        }
        write!(f, "; {}", self.cure())
    }
}

pub(crate) const NO_SESSION: &str = "there is no session with the store";
const FAILING_CURE: &str = "look at the store's log; the node asks again by itself";

/// The instant that was `ago` before `now`.
pub(crate) fn before(now: DateTime<Utc>, ago: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago)).unwrap_or(now)
}
