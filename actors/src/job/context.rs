//! What the actor of a job says in a step: when it is to be woken up next, that it stops, which mailbox is to be
//! its own, and which runs are to begin.

use std::fmt;

use actix::{dev::channel::AddressReceiver, prelude::*};
use tokio::time::Instant;

use super::{actor::JobActor, run_task::RunTask};

/// The context of a [`JobActor`]. It is lent to the actor for a step: an idle actor needs none.
#[derive(Default)]
pub struct JobContext {
    /// The runs that are to begin together with those of other jobs: whoever lent this sees to it.
    pub(super) starts: Vec<RunTask>,
    /// `None` if nothing was said of it.
    pub(super) wake_at: Option<Option<Instant>>,
    pub(super) mailbox: Option<Box<AddressReceiver<JobActor>>>,
    stops: bool,
}

impl JobContext {
    /// The list is empty, or has what was started before.
    pub(super) fn lent(starts: Vec<RunTask>) -> Self {
        Self { starts, ..Self::default() }
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl ActorContext for JobContext {
    fn stop(&mut self) {
        self.stops = true;
    }

    fn terminate(&mut self) {
        self.stops = true;
    }

    fn state(&self) -> ActorState {
        if self.stops { ActorState::Stopping } else { ActorState::Running }
    }
}
