//! The one timer of a job's actor.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use actix::prelude::*;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::actor::JobActor;
use crate::core::job::Input;

pin_project! {
    /// Wakes the job up when its machine wants. One future for the life of the actor: it is polled after
    /// every message and follows the actor's `wake_at`, so that arming a timer allocates nothing.
    #[derive(Default)]
    pub(super) struct Alarm {
        armed: Option<Instant>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl ActorFuture<JobActor> for Alarm {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut JobActor,
        ctx: &mut Context<JobActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        loop {
            if *this.armed != actor.wake_at {
                *this.armed = actor.wake_at;
                match (actor.wake_at, this.sleep.as_mut().as_pin_mut()) {
                    (Some(at), Some(sleep)) => sleep.reset(at),
                    (Some(at), None) => this.sleep.set(Some(tokio::time::sleep_until(at))),
                    (None, _) => this.sleep.set(None),
                }
            }
            let Some(sleep) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
            if this.armed.is_none() || sleep.poll(task).is_pending() {
                return Poll::Pending;
            }
            *this.armed = None;
            actor.wake_at = None;
            actor.step(Input::WakeUp, ctx);
            if actor.wake_at.is_none() {
                // The sleep has elapsed and must not be polled again before it is reset.
                return Poll::Pending;
            }
        }
    }
}
