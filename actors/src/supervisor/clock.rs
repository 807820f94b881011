//! How the supervisor notices that a clock was set or that the machine slept, and wakes up the jobs whose timers are wrong.
//!
//! Timers are monotonic: they see neither. One look a second at one pair of clocks stands for every job of the node.

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join;
use tokio::time::sleep;

use super::SupervisorActor;
use crate::{
    core::{job::Input, policy::Fires},
    event::EventKind,
    job::Letter,
    lock::ReadClock,
};

/// The shortest time between two looks, whatever the clock wants.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);

/// The store's time, as this node knows it, has moved against the monotonic clock.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StoreClockMoved;

impl SupervisorActor {
    /// Looks at the clocks now, and whenever one of them may have moved.
    pub(super) fn watch_clocks(&mut self, ctx: &mut Context<Self>) {
        // Before the look: a step that comes after it ends the wait.
        let next_look = self.node().clock.next_look();
        self.look_at_clocks();
        let next_look = join(next_look, sleep(LOOK_PAUSE_MIN));
        ctx.spawn(next_look.into_actor(self).map(|_, actor, ctx| actor.watch_clocks(ctx)));
    }

    fn look_at_clocks(&mut self) {
        // The store's clock is told by how far the node's is from it. If it has moved, too, `StoreClockMoved` comes back.
        self.node().lock().do_send(ReadClock);
        let (wall, elapsed) = self.node().clock.read();
        if let Some(by) = self.wall_clock.look(wall, elapsed) {
            self.node().meters.clock_steps.increment(1);
            self.publish(|| EventKind::ClockStepped { by });
            self.wake_up(|fires| fires == Fires::Local);
        }
    }

    /// A wake-up is harmless at any time: whoever is woken up reads the clock and arms its timer anew.
    fn wake_up(&self, which: impl Fn(Fires) -> bool) {
        let entries = self.jobs.values().filter(|entry| which(entry.job.definition.policies.fires));
        entries.for_each(|entry| Letter::send(&entry.job, Input::WakeUp));
    }
}

impl Handler<StoreClockMoved> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: StoreClockMoved, _: &mut Self::Context) {
        self.wake_up(|fires| fires != Fires::Local);
    }
}
