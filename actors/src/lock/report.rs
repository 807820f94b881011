//! What the lock actor reports to the supervisor of the jobs.

use std::sync::Arc;

use actix::prelude::*;

use crate::{
    job::{JobHandle, RefusedStep},
    name::{JobName, Term},
    port::{LostRun, Pause, PendingRetryOfJob},
};

/// What the lock actor reports.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Report {
    SessionOpened,
    SessionLost,
    /// The store's time, as this node knows it, has moved against the monotonic clock.
    StoreClockMoved,
    /// The store refused a claim, or a move, of this node's term.
    Deposed(Term),
    /// Runs were lost.
    RunsLost(Vec<LostRun>),
    /// The leader schedules a job that this node fired, because it did not have it before.
    TakenByLeader(JobName),
    /// The store does not know a job (any more) that this node fires.
    UnknownToStore(JobName),
    /// The store refuses something of a job for its data, alone.
    Refused {
        job: Arc<JobHandle>,
        reason: Arc<str>,
        step: RefusedStep,
    },
    /// The store took of a job on trial what it had refused.
    Taken(Arc<JobHandle>),
    /// A job was paused or resumed, on this or another node.
    PauseChanged {
        job: JobName,
        pause: Option<Pause>,
    },
    /// A backfill was kept, or cancelled, by this or another node.
    BackfillsChanged,
    /// Too much was done at once for this node to hear all of it.
    NotificationsLagged,
    /// A lost run of a job is to be retried.
    PendingRetry(PendingRetryOfJob),
}
