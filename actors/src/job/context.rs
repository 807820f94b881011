//! What the actor of a job says of itself in a step: when it is to be woken up next, that it stops, and which
//! mailbox is to be its own.

use std::fmt;

use actix::{dev::channel::AddressReceiver, prelude::*};
use tokio::time::Instant;

use super::actor::JobActor;

/// The context of a [`JobActor`]. It is lent to the actor for a step: an idle actor needs none.
#[derive(Default)]
pub struct JobContext {
    /// `None` if nothing was said of it.
    pub(super) wake_at: Option<Option<Instant>>,
    pub(super) mailbox: Option<Box<AddressReceiver<JobActor>>>,
    stops: bool,
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
