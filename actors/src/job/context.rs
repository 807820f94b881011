//! What the actor of a job says of itself in a step: when it is to be woken up next, and that it stops.

use actix::prelude::*;
use tokio::time::Instant;

/// Lent to the actor for a step: an idle actor needs none.
#[derive(Debug, Default)]
pub(crate) struct JobContext {
    /// `None` if nothing was said of it.
    pub(super) wake_at: Option<Option<Instant>>,
    stops: bool,
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
