//! How jobs are removed. The store hears that the leader does not schedule a job any more once what was due
//! before is decided; until then, nothing of its name is enrolled again.
//!
//! Decided here: what has to be accounted for before a name is withdrawn.
//! [`Enrolling`](crate::core::enrolling::Enrolling) keeps enrolments behind withdrawals, and each job's
//! machine accounts for its ticks.

use std::collections::BTreeSet;

use actix::prelude::*;

use super::SupervisorActor;
use crate::{
    core::policy::Fires,
    error::SelectError,
    event::EventKind,
    job::{JobMessage, Retirement, record_operation},
    lock::WithdrawJobs,
    message::{PAGE_MAX, RemoveJobs, Selector},
    name::JobName,
    note::Attribution,
    port::JobOperation,
};

/// Actors of one name are still to account for the ticks before their job was removed, or got another
/// schedule.
#[derive(Default)]
pub(super) struct Leaving {
    generations: BTreeSet<u64>,
    withdraws: bool,
}

impl SupervisorActor {
    pub(super) fn remove(
        &mut self,
        selector: &Selector,
        asked: &Attribution,
        ctx: &mut Context<Self>,
    ) -> Result<Vec<JobName>, SelectError> {
        let mut names = self.select(selector)?;
        match selector {
            Selector::Name(_) => {
                let stored = names.iter().find(|name| self.keeping.machine.is_held(name.as_str()));
                stored.map_or(Ok(()), |job| Err(SelectError::Stored { job: job.clone() }))?;
            }
            Selector::Tag(_) | Selector::All => {
                names.retain(|name| !self.keeping.machine.is_held(name.as_str()));
            }
        }
        for name in &names {
            record_operation(self.node(), name, JobOperation::Removed, asked, || None);
            self.job_changed(name, ctx);
        }
        self.remove_named(&names, asked, ctx);
        Ok(names)
    }

    /// Removes jobs that are there.
    pub(super) fn remove_named(&mut self, names: &[JobName], asked: &Attribution, ctx: &mut Context<Self>) {
        let (mut withdrawn, mut keys) = (Vec::new(), Vec::new());
        let (waits, mut freed) = (self.keeping.machine.has_blocked(), BTreeSet::new());
        for name in names {
            let fired = self.jobs.get(name).is_some_and(|entry| self.authority(entry).is_some());
            let Some(entry) = self.jobs.remove(name) else { continue };
            self.parts.names.iter().for_each(|names| names.release(&entry.job.definition));
            self.over.remove(name);
            self.leave_override(name);
            self.forget_alarm(&entry.job);
            self.hide(&entry.job);
            self.node().failing.well(name);
            self.troubled.remove(name);
            if fired || entry.firing.is_declared() {
                keys.extend(entry.job.definition.noted_under());
            }
            self.keys.remove(entry.job.definition.declares());
            freed.extend(waits.then(|| entry.job.definition.key.clone()));
            self.tags.remove(&entry.job.definition);
            self.former_names.remove(&entry.job.definition);
            let generation = entry.job.generation;
            if entry.firing.fires() == Fires::Leader {
                if fired && self.term.is_some() {
                    self.await_leave(name, generation, true);
                } else {
                    withdrawn.push(name.clone());
                }
            }
            self.retiring.insert((name.clone(), generation), entry.job.clone());
            entry.job.post(JobMessage::Retire { why: Retirement::Removed });
            self.node()
                .publisher
                .publish_routine(|| EventKind::JobRemoved { job: name.clone(), by: asked.by.clone() });
        }
        self.node().meters.jobs.set(self.jobs.len() as f64);
        self.withdraw(&withdrawn, ctx);
        self.retract(keys, ctx);
        if waits {
            let names: BTreeSet<_> = names.iter().map(JobName::as_str).collect();
            self.freed(|job, key| names.contains(job) || freed.contains(key));
        }
    }

    /// Enrols nothing of this name until its actor has accounted for what was due.
    pub(super) fn await_leave(&mut self, name: &JobName, generation: u64, withdraws: bool) {
        let leaving = self.leaving.entry(name.clone()).or_default();
        leaving.generations.insert(generation);
        leaving.withdraws |= withdraws;
    }

    /// Whether actors of this name are still to account for something: then it is withdrawn after that.
    pub(super) fn withdraws_once_left(&mut self, name: &JobName) -> bool {
        self.leaving.get_mut(name).map(|leaving| leaving.withdraws = true).is_some()
    }

    pub(super) fn on_left(&mut self, name: &JobName, generation: u64, ctx: &mut Context<Self>) {
        let Some(leaving) = self.leaving.get_mut(name) else { return };
        leaving.generations.remove(&generation);
        if !leaving.generations.is_empty() {
            return;
        }
        let withdraws = leaving.withdraws;
        self.leaving.remove(name);
        if withdraws {
            self.to_withdraw.push(name.clone());
            self.withdraw_next(ctx);
        }
        if self.jobs.contains_key(name) {
            self.enrolling.push(name.clone());
            self.enrol(ctx);
        }
    }

    /// The next page of jobs of which nothing is to be decided any more.
    fn withdraw_next(&mut self, ctx: &mut Context<Self>) {
        if self.enrolling.is_free_of_withdrawals() && !self.to_withdraw.is_empty() {
            let rest = self.to_withdraw.split_off(self.to_withdraw.len().min(PAGE_MAX));
            let page = std::mem::replace(&mut self.to_withdraw, rest);
            self.withdraw(&page, ctx);
        }
    }

    /// Says that the leader does not schedule these jobs any more. On a follower only this node lets go of
    /// them: the leader goes on.
    pub(super) fn withdraw(&mut self, jobs: &[JobName], ctx: &mut Context<Self>) {
        let Some(term) = self.term else { return };
        for page in jobs.chunks(PAGE_MAX) {
            let withdrawn = self.parts.lock.send(WithdrawJobs { term, jobs: page.to_vec() });
            self.hold_enrolments_for(withdrawn, ctx);
        }
    }

    /// Enrols nothing until the store has answered.
    pub(super) fn hold_enrolments_for(&mut self, answer: impl Future + 'static, ctx: &mut Context<Self>) {
        self.enrolling.withdrawal_started();
        ctx.spawn(answer.into_actor(self).map(|_, actor, ctx| {
            actor.enrolling.withdrawal_ended();
            actor.withdraw_next(ctx);
            actor.enrol(ctx);
        }));
    }
}

impl Handler<RemoveJobs> for SupervisorActor {
    type Result = Result<Vec<JobName>, SelectError>;

    fn handle(&mut self, RemoveJobs { jobs, asked }: RemoveJobs, ctx: &mut Self::Context) -> Self::Result {
        self.remove(&jobs, &asked, ctx)
    }
}
