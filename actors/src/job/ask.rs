//! What jobs ask of whoever serves claims, and the way there.

use std::sync::Arc;

use actix::prelude::*;

use super::{conclude::Conclusion, handle::JobHandle};
use crate::{
    coalesced::Coalesced,
    core::job::{Advance, Claim},
    name::LockKey,
};

/// What a job asks.
pub(crate) enum Ask {
    Claim(ClaimRun),
    Advance(AdvanceCursor),
    RecordEnd(RecordEnd),
}

/// Asks the store for a run. The answer goes to the job's machine.
pub(crate) struct ClaimRun {
    pub(crate) job: Arc<JobHandle>,
    pub(crate) claim: Claim,
    /// The lock key of which it takes a slot: that of the definition under which the run was asked for first.
    pub(crate) key: LockKey,
    /// How often it was found locked.
    pub(crate) tries: u32,
}

/// Asks the store to move a job's cursor over skipped ticks. The answer goes to the job's machine.
pub(crate) struct AdvanceCursor {
    pub(crate) job: Arc<JobHandle>,
    pub(crate) advance: Advance,
    /// How often it was found locked.
    pub(crate) tries: u32,
}

/// A run is over: record it, and free its key.
pub(crate) struct RecordEnd {
    pub(crate) conclusion: Conclusion,
    /// The job's next tick counts from this end.
    pub(crate) from_completion: bool,
}

/// Jobs have asked something: see [`Asks::take`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AsksWait;

/// What the jobs of a node ask, on its way to whoever serves claims.
pub(crate) struct Asks {
    waiting: Coalesced<Ask>,
    server: Recipient<AsksWait>,
}

impl Asks {
    pub(crate) fn new(server: Recipient<AsksWait>) -> Self {
        Self { waiting: Coalesced::default(), server }
    }

    /// Asks. Nobody answers once this is closed: what is asked then is dropped, since it holds its job, and
    /// the job holds this.
    pub(crate) fn ask(&self, ask: Ask) {
        if self.waiting.push(ask) {
            self.server.do_send(AsksWait);
        }
    }

    /// Takes all that was asked, in order.
    pub(crate) fn take(&self) -> Vec<Ask> {
        self.waiting.take()
    }

    /// Takes no more asks.
    pub(crate) fn close(&self) {
        self.waiting.close();
    }
}
