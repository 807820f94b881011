//! Lost runs, and those of them that are to be retried.

use crate::{
    core::time::FireTime,
    name::{FencingToken, JobName, NodeId, RunId},
};

/// A run that was lost and is to go on with its next attempt. The store keeps it until the run is resumed, by
/// a claim that [resumes](crate::port::ClaimRequest::resume_lost) it. It drops it if the job is withdrawn, or
/// is enrolled without [`retry_lost`](crate::port::Enrolment::retry_lost). Nothing else ends it: not the end
/// of another run of the job.
///
/// A job has at most [`PENDING_RETRIES_MAX`](crate::PENDING_RETRIES_MAX) of them: of more, the oldest runs
/// stay lost. A run that was lost [`LOSSES_MAX`](crate::LOSSES_MAX) times is not retried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRetry {
    /// The run.
    pub run: RunId,
    /// The tick, unless it was a manual trigger.
    pub fire_time: Option<FireTime>,
    /// The fire time that it [names](crate::port::ClaimRequest::named), if it has no tick and names one.
    pub named: Option<FireTime>,
    /// How often it was lost, from 1.
    pub losses: u32,
}

/// A pending retry, with its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRetryOfJob {
    /// The job.
    pub job: JobName,
    /// The retry.
    pub retry: PendingRetry,
}

/// A run whose session died before it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run: RunId,
    /// The node that ran it; `None` if the store does not know it.
    pub node: Option<NodeId>,
    /// The fencing token of the grant that was lost; `None` if the store does not know it.
    pub token: Option<FencingToken>,
    /// The tick, unless it was a manual trigger.
    pub fire_time: Option<FireTime>,
    /// Its next attempt, which any node that fires the job makes; `None`: it stays lost.
    pub retry: Option<PendingRetry>,
}

/// What a search for runs of dead sessions closed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClosedRuns {
    /// The runs, each of them closed as lost by this call.
    pub lost: Vec<LostRun>,
    /// The search is not over: ask again at once.
    pub more: bool,
}
