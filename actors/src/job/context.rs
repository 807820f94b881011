//! What the actor of a job says in a step: when it is to be woken up next, that it stops, and which runs are to
//! begin.

use actix::prelude::*;
use tokio::time::Instant;

use super::run_task::RunTask;

/// Lent to the actor for a step: an idle actor needs none.
#[derive(Default)]
pub(crate) struct JobContext {
    /// The runs that are to begin together with those of other jobs: whoever lent this sees to it.
    pub(super) starts: Vec<RunTask>,
    /// `None` if nothing was said of it.
    pub(super) wake_at: Option<Option<Instant>>,
    stops: bool,
}

impl JobContext {
    /// The list is empty, or what was started before.
    pub(super) fn lent(starts: Vec<RunTask>) -> Self {
        Self { starts, ..Self::default() }
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
