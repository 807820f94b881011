//! Runs whose session is dead: the leader closes them, and whoever fires their jobs takes up those that are
//! to go on.
//!
//! The store decides which runs are lost, and the policy of each job whether they go on. Here the leader asks
//! the store to close them, and each node hands what is pending to the jobs that it fires; what is left to
//! decide is how often.

use std::time::Duration;

use actix::prelude::*;

use super::{Phase, SupervisorActor};
use crate::{
    core::{job::Input, operation::Operation},
    event::Outcome,
    lock::{AskPendingRetries, BATCH_MAX, CloseLostRuns, publish_lost},
    name::RunId,
    port::{ClosedRuns, LostRun, PendingRetryOfJob},
};

/// How often the leader looks for runs of dead sessions.
const LOST_RUNS_EVERY: Duration = Duration::from_secs(60);

/// How often a node that fires jobs which retry lost runs asks for pending retries: it may have missed a
/// notification.
const PENDING_RETRIES_EVERY: Duration = Duration::from_secs(60);

/// The pause between two pages of such questions.
const PENDING_RETRIES_NEXT: Duration = Duration::from_millis(250);

impl SupervisorActor {
    /// Closes the runs of dead sessions, page by page, and looks again for as long as the term lasts:
    /// sessions die later, too.
    pub(super) fn close_lost_runs(&mut self, ctx: &mut Context<Self>) {
        let term = self.term;
        let lost = self.parts.lock.send(CloseLostRuns);
        ctx.spawn(lost.into_actor(self).map(move |answer, actor, ctx| {
            if actor.term != term {
                actor.node().failures.dropped(Operation::CloseLost);
            }
            let close = move |actor: &mut Self, ctx: &mut Context<Self>| {
                if term.is_some() && actor.term == term {
                    actor.close_lost_runs(ctx);
                }
            };
            match answer {
                Ok(Ok(ClosedRuns { lost, more })) => {
                    actor.close_lost_backoff.succeeded();
                    lost.iter().for_each(|lost| publish_lost(actor.node(), lost));
                    actor.on_runs_lost(&lost);
                    match more {
                        true => ctx.run_later(Duration::ZERO, close),
                        false => actor.look_again(LOST_RUNS_EVERY, ctx, close),
                    };
                }
                Ok(Err(_)) | Err(_) => {
                    ctx.run_later(actor.close_lost_backoff.failed(), close);
                }
            }
        }));
    }

    /// Counts runs that were closed because their sessions are dead. They are retried, if this node fires
    /// their jobs.
    pub(super) fn on_runs_lost(&self, lost: &[LostRun]) {
        for LostRun { job, .. } in lost {
            let held = self.jobs.get(job).map(|entry| &entry.job).or_else(|| self.removed(job).last());
            match held {
                Some(held) => held.meters.ended(Outcome::Lost),
                None => self.node().meters.of_stranger(job).ended(Outcome::Lost),
            }
        }
        let pending = |lost: &LostRun| Some(PendingRetryOfJob { job: lost.job.clone(), retry: lost.retry? });
        self.on_pending_retries(lost.iter().filter_map(pending));
    }

    /// Who else fires a job takes the run up as well: the claim decides. Who comes to fire it later is told
    /// by the store then.
    pub(super) fn on_pending_retries(&self, pending_retries: impl IntoIterator<Item = PendingRetryOfJob>) {
        for PendingRetryOfJob { job, retry } in pending_retries {
            let entry = self.jobs.get(&job);
            if let Some(entry) = entry.filter(|entry| self.authority(entry).is_some()) {
                entry.job.send(Input::PendingRetry(retry));
            }
        }
    }

    /// Asks for pending retries from now on.
    pub(super) fn ask_pending_retries(&self, ctx: &mut Context<Self>) {
        self.ask_pending_retries_later(PENDING_RETRIES_EVERY, None, ctx);
    }

    /// Asks for pending retries, page by page, and again for as long as the engine runs: a notification may
    /// have been lost. What no node fires here is let pass.
    fn ask_pending_retries_later(&self, pause: Duration, after: Option<RunId>, ctx: &mut Context<Self>) {
        ctx.run_later(pause, move |actor, ctx| {
            if !matches!(actor.phase, Phase::Running) {
                return;
            }
            if !actor.connected {
                return actor.ask_pending_retries_later(PENDING_RETRIES_EVERY, None, ctx);
            }
            let pending_retries = actor.parts.lock.send(AskPendingRetries(after));
            ctx.spawn(pending_retries.into_actor(actor).map(|pending_retries, actor, ctx| {
                let (pause, after) = match pending_retries {
                    Ok(Ok(pending_retries)) => {
                        let last = pending_retries.last().map(|pending| pending.retry.run);
                        let last = last.filter(|_| pending_retries.len() == BATCH_MAX);
                        actor.on_pending_retries(pending_retries);
                        (if last.is_some() { PENDING_RETRIES_NEXT } else { PENDING_RETRIES_EVERY }, last)
                    }
                    Ok(Err(_)) | Err(_) => (PENDING_RETRIES_EVERY, None),
                };
                actor.ask_pending_retries_later(pause, after, ctx);
            }));
        });
    }
}
