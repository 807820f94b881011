//! Runs whose session is dead: the leader closes them, and whoever fires their jobs takes up those that are to go on.

use std::time::Duration;

use actix::prelude::*;

use super::{Phase, SupervisorActor};
use crate::{
    core::{job::Input, operation::Operation},
    event::Outcome,
    lock::{AskDebts, BATCH_MAX, CloseLostRuns, publish_lost},
    name::RunId,
    port::{ClosedRuns, Debt, LostRun},
};

/// How often the leader looks for runs of dead sessions.
const LOST_RUNS_EVERY: Duration = Duration::from_secs(60);

/// How often a node that fires jobs which retry what is lost asks what is owed: it may not have been told.
const DEBTS_EVERY: Duration = Duration::from_secs(60);

/// The pause between two pages of such questions.
const DEBTS_NEXT: Duration = Duration::from_millis(250);

impl SupervisorActor {
    /// Closes the runs of dead sessions, page by page, and looks again for as long as the term lasts: sessions die later, too.
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

    /// Counts runs that were closed because their sessions are dead. They are owed another attempt, if this node fires their
    /// jobs.
    pub(super) fn on_runs_lost(&self, lost: &[LostRun]) {
        for LostRun { job, .. } in lost {
            let held = self.jobs.get(job).map(|entry| &entry.job).or_else(|| self.removed(job).last());
            match held {
                Some(held) => held.meters.ended(Outcome::Lost),
                None => self.node().meters.of_stranger(job).ended(Outcome::Lost),
            }
        }
        let debt = |lost: &LostRun| Some(Debt { job: lost.job.clone(), owed: lost.owed? });
        self.on_debts(lost.iter().filter_map(debt));
    }

    /// Who else fires a job takes the run up as well: the claim decides. Who comes to fire it later is told by the store then.
    pub(super) fn on_debts(&self, debts: impl IntoIterator<Item = Debt>) {
        for Debt { job, owed } in debts {
            let entry = self.jobs.get(&job);
            if let Some(entry) = entry.filter(|entry| self.authority(entry).is_some()) {
                entry.job.send(Input::Owed(owed));
            }
        }
    }

    /// Asks what is owed from now on.
    pub(super) fn ask_debts(&self, ctx: &mut Context<Self>) {
        self.ask_debts_later(DEBTS_EVERY, None, ctx);
    }

    /// Asks for what is owed, page by page, and again for as long as the engine runs: news of it may have been lost. What no node
    /// fires here is let pass.
    fn ask_debts_later(&self, pause: Duration, after: Option<RunId>, ctx: &mut Context<Self>) {
        ctx.run_later(pause, move |actor, ctx| {
            if !matches!(actor.phase, Phase::Running) {
                return;
            }
            if !actor.connected {
                return actor.ask_debts_later(DEBTS_EVERY, None, ctx);
            }
            let debts = actor.parts.lock.send(AskDebts(after));
            ctx.spawn(debts.into_actor(actor).map(|debts, actor, ctx| {
                let (pause, after) = match debts {
                    Ok(Ok(debts)) => {
                        let last = debts.last().map(|debt| debt.owed.run);
                        let last = last.filter(|_| debts.len() == BATCH_MAX);
                        actor.on_debts(debts);
                        (if last.is_some() { DEBTS_NEXT } else { DEBTS_EVERY }, last)
                    }
                    Ok(Err(_)) | Err(_) => (DEBTS_EVERY, None),
                };
                actor.ask_debts_later(pause, after, ctx);
            }));
        });
    }
}
