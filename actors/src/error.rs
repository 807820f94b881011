//! Why something that an application asked for was not done.

use std::{fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};

pub use crate::fault::{Fault, Faults};
use crate::{
    core::{
        backfill::BackfillId,
        text::{Grouped, bounded},
    },
    health::ProblemJobs,
    name::{JobName, NAME_MAX, NodeId, RunId},
    port::HistoryError,
};

/// The most fire times in one answer.
pub const FIRE_TIMES_MAX: usize = 1_000;

/// What kind of error it is: what a caller does about it, whichever call it was.
///
/// | kind | what it means | cure |
/// |---|---|---|
/// | `NotFound` | there is no such job, or no such run, on this node | list the jobs |
/// | `Exists` | there is a job of this name | choose another name, or update the job |
/// | `Invalid` | what was asked breaks a rule, which the error names | correct it |
/// | `Over` | the last fire time of the schedule has passed | give it a later fire time |
/// | `Busy` | something else that is in progress is in the way: a run, the node's bound of runs, a cancellation | ask again later |
/// | `Unavailable` | the store, or the job, cannot do it in its present state | ask again later, or mend what the error names |
/// | `Stopped` | the scheduler shuts down, or has stopped | start another one, or ask another node |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such job, or no such run, on this node.
    NotFound,
    /// There is a job of this name.
    Exists,
    /// What was asked breaks a rule.
    Invalid,
    /// The last fire time of the schedule has passed.
    Over,
    /// Something else that is in progress is in the way.
    Busy,
    /// The store, or the job, cannot do it in its present state.
    Unavailable,
    /// The scheduler shuts down, or has stopped.
    Stopped,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::NotFound,
        Self::Exists,
        Self::Invalid,
        Self::Over,
        Self::Busy,
        Self::Unavailable,
        Self::Stopped,
    ];

    /// The kind in one word, for logs and answers: `not_found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Invalid => "invalid",
            Self::Over => "over",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name as it was given, which may be anything.
pub(crate) fn given_name(name: &str) -> String {
    bounded(name, NAME_MAX)
}

/// Who holds a key, if it is known.
fn by(holder: Option<RunId>) -> String {
    holder.map(|run| format!(" by run {run}")).unwrap_or_default()
}

/// Why jobs were not added. None of a batch was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Something is wrong with the definitions.
    #[error("{0}")]
    Invalid(Faults),
    /// The definitions are right, but jobs of these names exist.
    #[error("{0}")]
    Exists(Faults),
    /// The definitions are right, but the last fire times of these jobs have passed: they would never run. At
    /// least one.
    #[error("{}", AllOver(.0))]
    Over(Vec<Over>),
    /// The engine shuts down or has stopped.
    #[error("no job is added any more: the engine shuts down")]
    ShuttingDown,
}

impl AddError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Exists(_) => ErrorKind::Exists,
            Self::Over(_) => ErrorKind::Over,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// A job whose last fire time has passed, so that it would never run: the ticks of a job count only from the
/// instant on at which it was added, or got its schedule. A fire time at that very instant, and one a moment
/// before, have passed as well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Over {
    /// The job.
    pub job: JobName,
    /// Its last fire time.
    pub last: DateTime<Utc>,
    /// What the clock read by which it is decided: the store's, or this node's own if the job is
    /// [`Local`](crate::Fires::Local).
    pub now: DateTime<Utc>,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let Self { job, last, now } = self;
        write!(
            f,
            "job {job:?} would never run: its last fire time {} has passed, since it is {}; give it a later fire time, or do \
             its work now",
            text(*last),
            text(*now)
        )
    }
}

impl std::error::Error for Over {}

/// The first of them, one a line, and how many more there are.
struct AllOver<'a>(&'a [Over]);

impl fmt::Display for AllOver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all) = self;
        for (nth, over) in all.iter().take(OVER_SHOWN_MAX).enumerate() {
            write!(f, "{}{over}", if nth > 0 { "\n" } else { "" })?;
        }
        match all.len().saturating_sub(OVER_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {} more like these", Grouped(more as u64)),
        }
    }
}

/// So many jobs that are over are shown.
const OVER_SHOWN_MAX: usize = 10;

/// Why no job was selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is no job of this name. A tag that no job has, and "all" of none, are no errors.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`] bytes of it.
        name: String,
    },
    /// It is a stored job, which is deleted on all nodes at once.
    #[error(
        "job {job:?} is stored, and removing it here would leave it to the other nodes; delete it (DeleteJob)"
    )]
    Stored {
        /// The job.
        job: JobName,
    },
}

impl SelectError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Stored { .. } => ErrorKind::Invalid,
        }
    }
}

/// Why no run was cancelled: this node neither runs it nor is to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "run {run} is neither in progress nor waits on this node; it has ended, or another node runs it: cancel it there"
)]
pub struct UnknownRun {
    /// The run.
    pub run: RunId,
}

impl UnknownRun {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }
}

/// Why a job was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Something is wrong with the definition.
    #[error("{0}")]
    Invalid(Faults),
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; add it instead")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`] bytes of it.
        name: String,
    },
    /// The definition is right, but its schedule is another one, of which the last fire time has passed.
    #[error(transparent)]
    Over(#[from] Over),
    /// The engine shuts down or has stopped.
    #[error("no job is changed any more: the engine shuts down")]
    ShuttingDown,
}

impl UpdateError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Over(_) => ErrorKind::Over,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// Why jobs were not paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// There is no such job.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The pause itself is wrong.
    #[error("{0}")]
    Invalid(Faults),
    /// The store did not answer: some of the jobs may have been paused or resumed.
    #[error("the store did not answer: {reason}; ask again, it does no harm")]
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
    /// The store refuses this for its data, for some of the jobs. The others were paused or resumed.
    #[error("the store refuses its data for {count} of the jobs, the first of them {job:?}: {reason}")]
    BadData {
        /// The first of them.
        job: JobName,
        /// How many they are.
        count: usize,
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
}

impl PauseError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Select(error) => error.kind(),
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unavailable { .. } | Self::BadData { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why what jobs have missed was not skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipMissedError {
    /// There is no such job.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// This node does not decide the ticks of these jobs. Nothing was skipped.
    #[error("this node does not decide the ticks of {jobs}; {}", there(*leader))]
    NotDecidedHere {
        /// Of which.
        jobs: ProblemJobs,
        /// The node that leads, if it is known and is another one.
        leader: Option<NodeId>,
    },
    /// These jobs, or the store, did not answer in time, or were not asked any more. What the others had missed was
    /// skipped.
    #[error(
        "whether what {jobs} had missed was skipped is not known: the store or the jobs did not answer; ask again, it does no harm"
    )]
    Unanswered {
        /// Which.
        jobs: ProblemJobs,
    },
    /// The engine shuts down or has stopped.
    #[error("nothing is skipped any more: the engine shuts down")]
    ShuttingDown,
}

/// Where to ask instead.
fn there(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("node {leader} leads: ask there"),
        None => "ask the node that leads, once one does".to_owned(),
    }
}

impl SkipMissedError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Select(error) => error.kind(),
            Self::NotDecidedHere { .. } | Self::Unanswered { .. } => ErrorKind::Unavailable,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// Why there are no fire times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NextFireTimesError {
    /// More were asked for than [`FIRE_TIMES_MAX`].
    #[error(
        "{} fire times are more than the {} of one answer; ask for fewer, or preview the schedule from an instant on",
        Grouped(*count as u64), Grouped(FIRE_TIMES_MAX as u64)
    )]
    TooMany {
        /// How many were asked for.
        count: usize,
    },
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`] bytes of it.
        name: String,
    },
    /// The job's actor did not answer in time: its schedule panicked, or blocks its thread.
    #[error("job {job:?} did not answer; see the log for a panic of its schedule")]
    Unresponsive {
        /// The job.
        job: JobName,
    },
}

impl NextFireTimesError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany { .. } => ErrorKind::Invalid,
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Unresponsive { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why it is not explained what became of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`] bytes of it.
        name: String,
    },
    /// The range breaks a rule.
    #[error("{0}")]
    Invalid(Faults),
    /// The job's actor did not answer in time: its schedule panicked, or blocks its thread.
    #[error("job {job:?} did not answer; see the log for a panic of its schedule")]
    Unresponsive {
        /// The job.
        job: JobName,
    },
    /// The history did not answer. That none is kept is no error: the answer says so.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl ExplainError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unresponsive { .. } | Self::History(_) => ErrorKind::Unavailable,
        }
    }
}

/// Why a trigger started nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`] bytes of it.
        name: String,
    },
    /// What was asked breaks a rule: the fire time that the run is to [name](crate::TriggerJob::fire_time)
    /// has not come; or the task of the job cannot read the [arguments](crate::TriggerJob::arguments), or there is none.
    #[error("{0}")]
    Invalid(Faults),
    /// A run of the same lock key is in progress, or is being claimed.
    #[error("job {job:?} was not started: its lock key is held{}; wait for that run to end, or cancel it", by(*holder))]
    Overlap {
        /// The job.
        job: JobName,
        /// The run that holds the key, if known.
        holder: Option<RunId>,
    },
    /// The node runs as many bodies as it may, and is told to skip what finds no place.
    #[error("job {job:?} was not started: the node runs as many bodies as it may; try again later")]
    Concurrency {
        /// The job.
        job: JobName,
    },
    /// Its runs were [cancelled](crate::CancelRuns) before it started.
    #[error("job {job:?} was not started: its runs were cancelled meanwhile")]
    Cancelled {
        /// The job.
        job: JobName,
    },
    /// The store did not answer; if it granted the run all the same, it is closed as cancelled. Or it refused
    /// the run for its data, and perhaps refuses everybody: then the job is not to blame, and nothing was
    /// granted.
    #[error("job {job:?} was not started: the store did not grant it: {reason}; try again later")]
    Unavailable {
        /// The job.
        job: JobName,
        /// What happened.
        reason: String,
    },
    /// The job is [broken](crate::JobState::Broken), or its actor died before it answered.
    #[error("job {job:?} was not started: {reason}")]
    Broken {
        /// The job.
        job: JobName,
        /// What happened, and the cure.
        reason: Arc<str>,
    },
    /// The node does not fire the job: see [`JobState::Conflicting`](crate::JobState::Conflicting).
    #[error("job {job:?} was not started: {reason}")]
    Conflicting {
        /// The job.
        job: JobName,
        /// The key, both policies, and what would mend it.
        reason: Arc<str>,
    },
    /// The store refuses the job for its data: see [`JobState::Parked`](crate::JobState::Parked).
    #[error(
        "job {job:?} was not started: the store refuses its data: {reason}; update the job, or mend the store: it is tried again about once a minute"
    )]
    Parked {
        /// The job.
        job: JobName,
        /// What the store says.
        reason: Arc<str>,
    },
    /// The engine shuts down or has stopped.
    #[error("no job is started any more: the engine shuts down")]
    ShuttingDown,
}

impl TriggerError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Overlap { .. } | Self::Concurrency { .. } | Self::Cancelled { .. } => ErrorKind::Busy,
            Self::Unavailable { .. }
            | Self::Broken { .. }
            | Self::Conflicting { .. }
            | Self::Parked { .. } => ErrorKind::Unavailable,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// Why there is no backfill, or none was cancelled or listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackfillError {
    /// There is no job of this name.
    #[error("there is no job {name:?} on this node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`] bytes of it.
        name: String,
    },
    /// No backfill of this id is running.
    #[error("no backfill {backfill} is running; list the backfills to see their ids")]
    UnknownBackfill {
        /// The id.
        backfill: BackfillId,
    },
    /// What was asked breaks a rule.
    #[error("{0}")]
    Invalid(Faults),
    /// As many backfills are running as may.
    #[error(
        "{max} backfills of the scope are running, and no more may; wait for one to finish, or cancel one"
    )]
    TooMany {
        /// So many.
        max: usize,
    },
    /// The store keeps no backfills.
    #[error(
        "the {backend} store keeps no backfills; trigger the job for one fire time after the other (TriggerJob::fire_time), or use another store"
    )]
    NotKept {
        /// What the store is called.
        backend: &'static str,
    },
    /// The history did not say which fire times had a run.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The job's actor did not answer, or its schedule breaks its contract.
    #[error("job {job:?} did not answer which fire times it has; see the log, and ask again")]
    Unresponsive {
        /// The job.
        job: JobName,
    },
    /// The store did not answer: it may be done. Or it refuses it.
    #[error("the store did not answer: {reason}; list the backfills, and ask again if it is not there")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The engine shuts down or has stopped.
    #[error("no backfill is started or cancelled any more: the engine shuts down")]
    ShuttingDown,
}

impl BackfillError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } | Self::UnknownBackfill { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::TooMany { .. } => ErrorKind::Busy,
            Self::NotKept { .. } | Self::Unresponsive { .. } | Self::Unavailable { .. } => {
                ErrorKind::Unavailable
            }
            Self::History(error) => error.kind(),
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

impl HistoryError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotKept { .. } | Self::Unavailable { .. } | Self::BadData { .. } => ErrorKind::Unavailable,
            Self::Stopped => ErrorKind::Stopped,
        }
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something is wrong with the jobs or the options: everything at once.
    #[error("{0}")]
    Invalid(Faults),
    /// The store refuses this node, and asking again would not help: the reason names the cure.
    #[error("the {backend} store refuses this node: {reason}")]
    Refused {
        /// What the store is called.
        backend: &'static str,
        /// What happened.
        reason: String,
    },
    /// The store could not be reached before the connect timeout was over.
    #[error("the {backend} store could not be reached: {reason}")]
    Unreachable {
        /// What the store is called.
        backend: &'static str,
        /// What happened.
        reason: String,
    },
    /// [`Engine::start_on`](crate::Engine::start_on) runs everything where it is called, and there is no
    /// tokio runtime there.
    #[error(
        "start_on needs a tokio runtime; call it inside one, or call start, which brings its own threads"
    )]
    NoRuntime,
    /// A thread or a runtime could not be made.
    #[error("the engine's threads could not be started")]
    Threads(#[source] std::io::Error),
    /// A thread of the engine ended before it was ready.
    #[error("the engine's thread ended before it was ready; see the log for the panic")]
    Died,
}
