//! Who fires a job: what nodes tell the store, and what it answers.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{Authority, PendingRetry};
use crate::{
    core::{pause::Pause, policy::Overlap},
    name::{JobName, LockKey, NodeId, Term},
    port::{Schedule, ScheduleIdentity},
};

/// A job that a node schedules from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enrolment {
    /// The job.
    pub job: JobName,
    /// The identity of its schedule: one that [differs](ScheduleIdentity::differs_from) from the stored one
    /// is a changed schedule. It takes the place of the stored one in any case: so one of another version
    /// does, and the cursor stays.
    pub schedule: ScheduleIdentity,
    /// By what authority this node schedules it. Only a term is marked on the job.
    pub authority: Authority,
    /// What its runs exclude.
    pub key: LockKey,
    /// The policy that jobs with this key share: it is declared for as long as the term lasts, or, without
    /// one, the session.
    pub overlap: Overlap,
    /// How long this node has had the job with this schedule, by its monotonic clock: a new or changed job,
    /// or one that was withdrawn, owes ticks from then on, in the store's time. Zero: from now on.
    pub known_for: Duration,
    /// What the store's clock read when that was measured, as far as the node knows: what passed since, up to
    /// 5 s, counts as well. So the way to the store takes no tick from the job. `None`: nothing passed.
    pub asked_at: Option<DateTime<Utc>>,
    /// The last tick of a job that is deleted once that is decided. A new or changed job, or one that was withdrawn,
    /// owes it, however short a time the node has had the job, and whatever the store has forgotten: its cursor is
    /// before it, unless the store knows a later cursor of this very job. `None`, for all other jobs: there is none.
    pub owes: Option<DateTime<Utc>>,
    /// The name that it had. What is kept under that is moved to the job, unless a run of that is open, or
    /// somebody else who lives fires it: then nothing changes, see [`Enrolled::OtherName`]. And as long as the
    /// newest enrolment of the job names it, an enrolment under that name is one of the same job: it takes
    /// everything back, or is refused in the same way.
    pub formerly: Option<JobName>,
    /// Its lost runs are retried: see [`PendingRetry`]. Otherwise none is from now on.
    pub retry_lost: bool,
    /// Its cursor moves to the end of a run that is lost as well: see
    /// [`Completion::from_completion`](super::Completion::from_completion). A run that is lost to the job's
    /// own next tick moves it no further than that tick.
    pub from_completion: bool,
    /// The schedule itself, if whoever asks has it, as the engine does: of it a store that says up to when
    /// ticks are decided finds the next one. Others need only the identity.
    pub ticks: Option<EnrolledSchedule>,
}

/// A schedule that is enrolled. It is equal to itself.
#[derive(Debug, Clone)]
pub struct EnrolledSchedule(pub Arc<dyn Schedule>);

impl PartialEq for EnrolledSchedule {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for EnrolledSchedule {}

impl Enrolment {
    /// An enrolment of a job without further wishes.
    pub fn new(job: JobName, schedule: ScheduleIdentity, authority: Authority) -> Self {
        Self {
            key: LockKey::from(&job),
            job,
            schedule,
            authority,
            overlap: Overlap::default(),
            known_for: Duration::ZERO,
            asked_at: None,
            owes: None,
            formerly: None,
            retry_lost: false,
            from_completion: false,
            ticks: None,
        }
    }
}

/// What the store keeps of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredState {
    /// It is paused.
    pub pause: Option<Pause>,
    /// How many of its last runs in a row failed, panicked or timed out, since it was enrolled for the first
    /// time, withdrawn or resumed. Cancelled and lost runs are passed over.
    pub failures: u32,
    /// The lost runs that are to be retried, the oldest first, at most
    /// [`PENDING_RETRIES_MAX`](crate::PENDING_RETRIES_MAX).
    pub pending_retries: Vec<PendingRetry>,
    /// Ticks after the cursor, up to and including this instant, may have been started by a leader before, and
    /// nobody knows which: they are skipped as [`Unproven`](crate::SkipReason::Unproven). `None`, for every
    /// store that keeps claims: there are none.
    pub unproven_to: Option<DateTime<Utc>>,
}

/// The answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// The job's row is marked with the term.
    Done {
        /// Every tick up to here is decided. For a new job its creation, for a changed schedule the change,
        /// as the node that enrols it knows it and in the store's time; it never goes back.
        cursor: DateTime<Utc>,
        /// What else is kept of it.
        stored: Box<StoredState>,
    },
    /// A newer term was granted, or this one is over. Nothing changed.
    Deposed {
        /// The newest term.
        term: Term,
    },
    /// The answer to an enrolment by [`Authority::Leaderless`]: the leader schedules the job. Nothing
    /// changed.
    HasLeader,
    /// Somebody else, who lives, declares another overlap policy for the key. This session declares none for
    /// it any more, and the job is not marked with its term.
    Conflict {
        /// That policy, as the store keeps it.
        declared: String,
    },
    /// Somebody else has locked the job or the key at this moment. Nothing changed: ask again.
    Locked,
    /// What is kept of the job stands under another [name](Enrolment::formerly) of it, which is in use. Nothing
    /// changed.
    OtherName {
        /// That name.
        name: JobName,
        /// Who uses it.
        used: NameUse,
    },
}

/// What keeps a job from being moved to another name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameUse {
    /// Somebody else who lives fires the job under that name.
    Fired {
        /// The node, if the store knows it.
        node: Option<NodeId>,
    },
    /// A run under one of the names is open.
    Running,
}

impl fmt::Display for NameUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fired { node: Some(node) } => write!(f, "node {node} fires it"),
            Self::Fired { node: None } => f.write_str("another node fires it"),
            Self::Running => f.write_str("a run of it is in progress, or its loss is not noticed yet"),
        }
    }
}

/// The overlap policy that a job is to have for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The job.
    pub job: JobName,
    /// Its key.
    pub key: LockKey,
    /// The policy.
    pub overlap: Overlap,
}

/// A job as a node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The job.
    pub job: JobName,
    /// The identity of its schedule.
    pub schedule: ScheduleIdentity,
}

/// What the leader does with a job that another node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderView {
    /// It schedules it, by the same schedule; or by one whose identity is of another version, which counts as
    /// the same.
    Scheduled,
    /// It schedules a job of this name by a schedule that [differs](ScheduleIdentity::differs_from).
    OtherSchedule,
    /// It does not schedule it, as it does not have it.
    NotScheduled,
    /// Nobody leads.
    NoLeader,
}
