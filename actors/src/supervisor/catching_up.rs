//! How the supervisor gives the jobs that make up for missed ticks their turns.
//!
//! Whose turn it is, and when, is decided by the [pacer](crate::core::pacer). Here is its timer. It is set while
//! anybody waits, and only then.

use std::time::Duration;

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::{SupervisorActor, alarms::after};
use crate::{
    core::{job::Input, pacer::NextTurn},
    health::CatchingUp,
    job::JobHandle,
};

/// How long after its turn a tick is started, as a rule: then its alarm goes off.
const STARTS_WITHIN: Duration = Duration::from_secs(1);

impl SupervisorActor {
    /// Gives the turns that there are by now, and comes back for the next one.
    pub(super) fn give_turns(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.giving_turns.take() {
            ctx.cancel_future(timer);
        }
        let now = self.node().clock.elapsed();
        loop {
            match self.parts.jobs.catch_ups.next(now) {
                NextTurn::Of(job) => job.send(Input::Turn),
                NextTurn::At(at) => {
                    let timer = ctx.run_later(at.saturating_sub(now), |actor, ctx| {
                        actor.giving_turns = None;
                        actor.give_turns(ctx);
                    });
                    self.giving_turns = Some(timer);
                    return;
                }
                NextTurn::Nobody => return,
            }
        }
    }

    /// Which jobs wait for their turns.
    pub(super) fn catching_up(&self) -> Option<CatchingUp> {
        let waiting = self.parts.jobs.catch_ups.waiting()?;
        let wait = waiting.until.saturating_sub(self.node().clock.elapsed());
        Some(CatchingUp { jobs: waiting.count, until: after(self.node().store_time(), wait) })
    }

    /// By when a job starts that waits for its turn.
    pub(super) fn turn_by(&self, job: &JobHandle) -> Option<DateTime<Utc>> {
        let by = self.parts.jobs.catch_ups.turn_by(job.instance)? + STARTS_WITHIN;
        Some(after(job.wall(), by.saturating_sub(self.node().clock.elapsed())))
    }
}
