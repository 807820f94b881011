//! How the supervisor gives the jobs that make up for missed ticks their turns.
//!
//! Whose turn it is, and when, is decided by the [pacer](crate::core::pacer). Here is its timer. It is set while
//! anybody waits, and only then.

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::{SupervisorActor, alarms::after};
use crate::{
    core::{job::Input, pacer::NextTurn},
    health::{CatchingUp, PROBLEM_JOBS_MAX, Problem, ProblemJobs},
    job::JobHandle,
};

impl SupervisorActor {
    /// Gives the turns that there are by now, and comes back for the next one.
    pub(super) fn give_turns(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.giving_turns.take() {
            ctx.cancel_future(timer);
        }
        let now = self.node().clock.elapsed();
        let at = loop {
            match self.parts.jobs.catch_ups.next(now) {
                NextTurn::Of(job) => job.send(Input::Turn),
                NextTurn::At(at) => break Some(at),
                NextTurn::Nobody => break None,
            }
        };
        self.giving_turns = at.map(|at| {
            ctx.run_later(at.saturating_sub(now), |actor, ctx| {
                actor.giving_turns = None;
                actor.give_turns(ctx);
            })
        });
        self.show_turns();
    }

    /// Which jobs wait for their turns.
    pub(super) fn catching_up(&self) -> Option<CatchingUp> {
        let now = self.node().clock.elapsed();
        let waiting = self.parts.jobs.catch_ups.waiting(now)?;
        let wait = waiting.until.saturating_sub(now);
        Some(CatchingUp { jobs: waiting.count, until: after(self.node().store_time(), wait) })
    }

    /// The jobs that wait for their turns for longer than all who waited with them were to take.
    pub(super) fn late_turns(&self) -> Option<Problem> {
        let late = self.parts.jobs.catch_ups.late(self.node().clock.elapsed(), PROBLEM_JOBS_MAX)?;
        let first = late.some.iter().map(|job| job.definition.name.clone()).collect();
        let jobs = ProblemJobs { first, count: late.count };
        Some(Problem::TicksUndecided { jobs, since: late.first.instant() })
    }

    /// By when a job is to have begun that waits for its turn, on this node or on the one that leads.
    pub(super) fn turn_by(&self, job: &JobHandle) -> Option<DateTime<Utc>> {
        let now = self.node().clock.elapsed();
        if let Some(by) = self.parts.jobs.catch_ups.bound(now, job.instance) {
            return Some(after(job.wall(), by.saturating_sub(now)));
        }
        self.is_decided_by_leader(job).then(|| self.node().overdue.leader_catches_up_until())?
    }

    /// Shows how many wait, and since when the first tick that is not decided is due.
    pub(super) fn show_turns(&mut self) {
        let waiting = self.parts.jobs.catch_ups.waiting(self.node().clock.elapsed());
        self.waiting_for_turns.set(waiting.map_or(0, |waiting| waiting.count));
        let node = self.node();
        let first = waiting.map(|waiting| waiting.first.instant());
        let oldest = first.into_iter().chain(node.overdue.first_undecided()).min();
        let age = oldest.map(|tick| (node.store_time() - tick).to_std().unwrap_or_default());
        node.meters.oldest_undecided.set(age.unwrap_or_default().as_secs_f64());
    }
}
