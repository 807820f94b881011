//! Lost runs, and those of them that are to go on.

use crate::{
    core::time::FireTime,
    name::{JobName, RunId},
};

/// A run that was lost and is to go on with its next attempt: a debt of its job. It is settled once the run is taken up, by a
/// claim that [retakes](crate::port::ClaimRequest::retake) it, and forgiven if the job is withdrawn, or is enrolled without
/// [`retry_lost`](crate::port::Enrolment::retry_lost). Nothing else ends it: not the end of another run of the job.
///
/// A job owes at most [`DEBTS_MAX`](crate::DEBTS_MAX) runs: of more, the oldest runs stay lost. A run that was lost
/// [`LOSSES_MAX`](crate::LOSSES_MAX) times is owed no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwedRun {
    /// The run.
    pub run: RunId,
    /// The tick, unless it was a manual trigger.
    pub fire_time: Option<FireTime>,
    /// How often it was lost, from 1.
    pub losses: u32,
}

/// A run that a job owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// The job.
    pub job: JobName,
    /// The run.
    pub owed: OwedRun,
}

/// A run whose session died before it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run: RunId,
    /// The tick, unless it was a manual trigger.
    pub fire_time: Option<FireTime>,
    /// It is owed another attempt, by whichever node fires the job and takes it up.
    pub owed: Option<OwedRun>,
}

/// What a search for runs of dead sessions closed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClosedRuns {
    /// The runs, each of them closed as lost by this call.
    pub lost: Vec<LostRun>,
    /// The search is not over: ask again at once.
    pub more: bool,
}
