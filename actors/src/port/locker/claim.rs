//! The claim of a run, and the store's answer.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::LostRun;
use crate::{
    core::{
        outcome::Outcome,
        pause::Pause,
        skip::{SkipReason, Skips},
        time::FireTime,
    },
    name::{FencingToken, JobName, LockKey, RunId, Term},
};

/// A claim of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The job.
    pub job: JobName,
    /// The key that the run excludes.
    pub key: LockKey,
    /// The run's id, made by the node. Asking again with the same id is the same claim.
    pub run: RunId,
    /// The tick to take; `None` for a manual trigger, which moves no cursor and needs no term.
    pub tick: Option<TickClaim>,
    /// The fire time that a run without a tick names: of a manual trigger, or of a backfill. The store keeps it with
    /// the run, for a [retry](crate::port::PendingRetry::named) of it.
    pub named: Option<FireTime>,
    /// Takes nothing: only says whether this run was granted before, when there was no answer.
    /// [`NotGranted`](Verdict::NotGranted) is final: it is not answered while a former session of the node
    /// may still be granted the run.
    pub recheck: bool,
    /// This run was lost, and is to go on with its next attempt: it takes its key and the next token, but no
    /// tick, and the job has no pending retry of it any more. Refused as [`NotGranted`](Verdict::NotGranted)
    /// if there is no pending retry of it, or the job was withdrawn. Needs no term: one node gets it.
    pub resume_lost: bool,
    /// If the key is busy, its holder is asked to stop, on whichever node:
    /// [`Notification::Stop`](crate::port::Notification::Stop).
    pub replace: bool,
    /// How many ticks of the job may run in all, since it was first enrolled.
    pub limit: Option<u64>,
    /// The greatest lateness at which the tick may run: nobody asks for it later. Zero for a run without a tick.
    pub window: Duration,
}

impl ClaimRequest {
    /// A claim without a tick, as a manual trigger makes it.
    pub fn new(job: JobName, key: LockKey, run: RunId) -> Self {
        let (tick, named, limit, window) = (None, None, None, Duration::ZERO);
        Self { job, key, run, tick, named, recheck: false, resume_lost: false, replace: false, limit, window }
    }
}

/// By what authority a node decides the ticks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// It leads: refused as deposed unless this term is the newest one and is not over.
    Term(Term),
    /// Every node that has the job may: the cursor decides between them.
    Any,
    /// As `Any`, for as long as the leader does not schedule the job: refused while it is marked with a term
    /// that is not over.
    Leaderless,
}

impl Authority {
    /// The term, if it is one.
    pub fn term(self) -> Option<Term> {
        match self {
            Self::Term(term) => Some(term),
            Self::Any | Self::Leaderless => None,
        }
    }
}

/// The tick that a claim takes, and what it says of the ticks before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickClaim {
    /// The planned instant; the job's cursor after the claim.
    pub fire_time: FireTime,
    /// The job's cursor before the claim.
    pub expected: DateTime<Utc>,
    /// The ticks between `expected` and `fire_time`, none of which runs.
    pub skips: Skips,
    /// By what authority the node decides.
    pub authority: Authority,
}

/// The answer to a claim. Each leads to a decision of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The run may start: the cursor moved, the key is held by this node's session, the run is recorded.
    Granted {
        /// Greater than every token granted before for this key. At least the store's time in microseconds
        /// since 1970: greater also than those that a store granted which was created again, or restored from
        /// before.
        token: FencingToken,
        /// The run whose session died while it held the key. It is closed as lost; the node that was granted
        /// the run says so.
        lost: Option<Box<LostRun>>,
    },
    /// No session was granted the run, and none will be: the answer to a recheck, to a claim that resumes a run
    /// without a pending retry, and to one of a run of a [backfill](crate::port::Backfills) that is not in flight.
    NotGranted,
    /// A session that is over was granted the run, so a former one of this node, which made its id: the reply
    /// was lost. Its tick is taken and its cursor was moved. Whoever takes over closes the run as lost, or
    /// has closed it. Nothing changed now. The engine counts the tick, and those that were skipped with it.
    /// The run goes on only as a pending retry.
    GrantedBefore,
    /// The answer to a claim of a run of a [backfill](crate::port::Backfills): it was granted before, to whichever
    /// session. Nothing changed.
    RanBefore {
        /// How it ended; `None` if it goes on, also as a pending retry.
        outcome: Option<Outcome>,
    },
    /// The tick has a run already.
    AlreadyRun {
        /// That run.
        run: RunId,
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The tick was decided otherwise, or the job was changed: the cursor is not the expected one.
    Elsewhere {
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The store does not know the job (any more), or it was withdrawn. Nothing changed: enrol it.
    Unknown,
    /// A live session holds the key. Nothing changed.
    Busy {
        /// The run that holds it, if known.
        holder: Option<RunId>,
        /// Whether it is the session that asks. If that node does not hold the run, its end is not in the
        /// store any more, which somebody has set back: see [`Locker::discard`](crate::port::Locker::discard).
        own: bool,
    },
    /// A newer term was granted, or this one is over. Nothing changed.
    Deposed {
        /// The newest term.
        term: Term,
    },
    /// The answer to a claim by [`Authority::Leaderless`]: the leader schedules the job. Also to a claim without a
    /// tick, where claims are kept in the leader's memory: only the leader has any. Nothing changed.
    HasLeader,
    /// The job is paused. Nothing changed. Manual triggers run all the same. Who paused it need not be said.
    Paused(Pause),
    /// As many ticks of the job have run as may. Nothing changed.
    Exhausted,
    /// The tick is not due by the store's clock. Nothing changed.
    NotYet {
        /// How long until it is.
        wait: Duration,
    },
    /// Somebody else, perhaps an application's own transaction, has locked what the claim needs at this
    /// moment. Nothing changed: ask again. It is not an overlap yet.
    Locked {
        /// The run that held the key when it was last looked at, if its session lives.
        holder: Option<RunId>,
    },
    /// Nobody is known to have the tick, and this claim did not get the votes of a majority: what it took is free
    /// again. Ask again for the same run, while the tick's [window](ClaimRequest::window) lasts. Nothing is decided.
    Contended,
    /// The votes gave the tick to a run of another node, which knows nothing of what this one skipped before it: the
    /// engine says and counts that.
    TakenElsewhere {
        /// That run.
        run: RunId,
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The votes give the tick to nobody any more, and it is unknown who has it. Nothing changed: the engine skips it.
    Lapsed {
        /// Why it does not run.
        reason: SkipReason,
    },
    /// This claim is refused for its data: see [`LockError::BadData`](crate::port::LockError::BadData).
    /// Nothing changed. The job is parked once something of another job gets through.
    BadData {
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
    /// This claim failed alone, and it is unknown whether it was taken: ask again with the same run id.
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
