//! What a node was granted, to be held against a store that may be another one by now.

use serde::{Deserialize, Serialize};

use crate::{
    core::time::FireTime,
    name::{FencingToken, JobName, LockKey, RunId, Term},
};

/// The most runs that a node remembers, the newest ones, to compare them with the store.
pub const GRANTED_RUNS_MAX: usize = 1_024;

/// The most runs that one event names, the newest ones.
pub const DIVERGED_RUNS_MAX: usize = 20;

/// A run that the store granted to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedRun {
    /// The job.
    pub job: JobName,
    /// The lock key, or its slot, that the run took.
    pub key: LockKey,
    /// The run.
    pub run: RunId,
    /// The tick; `None` for a manual trigger.
    pub fire_time: Option<FireTime>,
    /// The token that it was granted.
    pub token: FencingToken,
}

/// What a node knows of the store's history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownHistory {
    /// The newest term that it was granted.
    pub term: Option<Term>,
    /// The newest runs that it was granted, at most [`GRANTED_RUNS_MAX`], the oldest first.
    pub runs: Vec<GrantedRun>,
}

/// What of it the store does not know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Divergence {
    /// The newest term of the store, if the node was granted a newer one.
    pub term: Option<Term>,
    /// The runs, in their order.
    pub runs: Vec<DivergedRun>,
}

/// A run that the store granted to this node and does not know any more.
///
/// The store knows a run if it has not granted a smaller token for its key only, and neither its token nor
/// its tick to another run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DivergedRun {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run: RunId,
    /// The tick; `None` for a manual trigger.
    pub fire_time: Option<FireTime>,
    /// The token that it was granted.
    pub token: FencingToken,
    /// Another run of the same lock key to which the store granted the same token, if there is one.
    pub token_also: Option<RunId>,
    /// Another run of the same tick, if there is one: the tick ran twice.
    pub tick_also: Option<RunId>,
}

impl DivergedRun {
    /// A run that was granted, and is not known.
    pub fn new(granted: &GrantedRun) -> Self {
        let GrantedRun { job, run, fire_time, token, .. } = granted;
        Self {
            job: job.clone(),
            run: *run,
            fire_time: *fire_time,
            token: *token,
            token_also: None,
            tick_also: None,
        }
    }
}
