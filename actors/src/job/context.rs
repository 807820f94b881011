//! What the actor of a job says of itself in a step: when it is to be woken up next, and that it stops.

use actix::{
    dev::{Envelope as AnyEnvelope, EnvelopeProxy, ToEnvelope},
    prelude::*,
};
use tokio::{sync::oneshot, time::Instant};

use super::{actor::JobActor, message::Envelope};

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

/// A message that was sent to the address of an actor.
struct Addressed(Option<Envelope>, Option<oneshot::Sender<()>>);

impl EnvelopeProxy<JobActor> for Addressed {
    fn handle(&mut self, actor: &mut JobActor, ctx: &mut JobContext) {
        let Self(message, handled) = self;
        if let Some(message) = message.take() {
            actor.handle(message, ctx);
        }
        // Whoever sent it may not wait.
        let _ = handled.take().map(|handled| handled.send(()));
    }
}

impl ToEnvelope<JobActor, Envelope> for JobContext {
    fn pack(message: Envelope, handled: Option<oneshot::Sender<()>>) -> AnyEnvelope<JobActor> {
        AnyEnvelope::with_proxy(Box::new(Addressed(Some(message), handled)))
    }
}
