//! How a job gets another definition.

use std::{slice, sync::Arc};

use actix::prelude::*;

use super::{Phase, SupervisorActor, keys::conflicts};
use crate::{
    core::policy::Fires,
    definition::Job,
    error::{Faults, UpdateError},
    event::EventKind,
    hooks::HookCalls,
    job::{Content, Letter},
    message::{Added, UpdateJob},
    node::{JobRef, WakeTime},
};

impl SupervisorActor {
    fn update(&mut self, job: Job, ctx: &mut Context<Self>) -> Result<Arc<JobRef>, UpdateError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(UpdateError::ShuttingDown);
        }
        let now = self.node().clock.now();
        let definition = job.define(now).map_err(UpdateError::Invalid)?;
        let name = definition.name.clone();
        if !self.jobs.contains_key(&name) {
            return Err(UpdateError::UnknownJob { name: name.as_str().to_owned() });
        }
        let conflicts = conflicts(slice::from_ref(&definition), |key| self.holder_of(key, Some(&name)));
        Faults::check(conflicts).map_err(UpdateError::Invalid)?;

        let Some(entry) = self.jobs.get_mut(&name) else {
            return Err(UpdateError::UnknownJob { name: name.as_str().to_owned() });
        };
        let JobRef { generation, lineage, addr, meters, node, .. } = &*entry.job;
        let job = Arc::new(JobRef {
            definition: Arc::new(definition),
            generation: *generation,
            lineage: *lineage,
            addr: addr.clone(),
            meters: meters.clone(),
            node: node.clone(),
            hook_calls: HookCalls::default(),
            wake_time: WakeTime::default(),
        });
        let was_local = entry.job.definition.policies.fires == Fires::Local;
        let becomes_local = !was_local && job.definition.policies.fires == Fires::Local;
        self.keys.remove(&entry.job.definition);
        self.keys.add(&job.definition);
        entry.job = job.clone();
        entry.fires = job.definition.policies.fires;
        entry.unled = false;
        Letter::post(&job, Content::Redefine(job.clone()));
        self.publish(|| EventKind::JobUpdated { job: name.clone() });
        if becomes_local {
            // What its nodes fire on their own from now on is not owed when it comes back. A node that still shares it enrols it
            // again.
            self.withdraw(std::slice::from_ref(&name), ctx);
        }
        if !self.revive(&name, ctx) {
            self.resume(&job, now);
            self.enrol(ctx);
        }
        self.find_unled_among(slice::from_ref(&job), ctx);
        Ok(job)
    }
}

impl Handler<UpdateJob> for SupervisorActor {
    type Result = ResponseFuture<Result<Added, UpdateError>>;

    fn handle(&mut self, UpdateJob(job): UpdateJob, ctx: &mut Self::Context) -> Self::Result {
        match self.update(job, ctx) {
            Ok(job) => {
                let scheduled = self.scheduled(vec![job]);
                Box::pin(async move { Ok(scheduled.await.pop().expect("invariant: one job, one answer")) })
            }
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}
