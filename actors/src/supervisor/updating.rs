//! How a job gets another definition.
//!
//! Decided here: whether the definition may take the place of the present one, and what has to be accounted
//! for before. What the change means for ticks and runs is decided by the job's machine, and by what authority
//! it fires from then on by [`Firing`](crate::core::firing::Firing).

use std::{
    slice,
    sync::{Arc, atomic::AtomicBool},
};

use actix::prelude::*;
use futures_util::future::ready;

use super::{Phase, SupervisorActor, outlook::Hopeless};
use crate::{
    core::{key_policies::conflicts, policy::Fires},
    definition::Definition,
    error::{Fault, Faults, UpdateError, given_name},
    event::EventKind,
    job::{JobHandle, JobMessage, OnTrial, WakeTime, record_operation},
    job_names::KeyInUse,
    labels::Labelled,
    message::{Added, RescheduleJob, UpdateJob},
    metrics::JobMeters,
    name::{By, JobName},
    note::Attribution,
    port::JobOperation,
};

impl SupervisorActor {
    /// Whether the definition, in which these faults were found, can take the place of the present one.
    pub(super) fn check_update(
        &self,
        definition: &Definition,
        mut faults: Vec<Fault>,
    ) -> Result<(), UpdateError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(UpdateError::ShuttingDown);
        }
        let name = &definition.name;
        let Some(entry) = self.jobs.get(name) else {
            return Err(UpdateError::UnknownJob { name: name.as_str().to_owned() });
        };
        let Hopeless { broken, over } = self.hopeless([definition]);
        faults.extend(broken);
        faults.extend(definition.faults_on(&self.parts.able));
        faults.extend(
            self.former_names.conflicts(slice::from_ref(definition), |name| self.jobs.contains_key(name)),
        );
        faults.extend(conflicts([definition.declares()], |key| self.holder_of(key, Some(name))));
        Faults::check(faults).map_err(UpdateError::Invalid)?;
        // Its ticks by the present schedule are still to be decided.
        let differs = entry.job.definition.identity.differs_from(definition.identity);
        over.into_iter().next().filter(|_| differs).map_or(Ok(()), |over| Err(over.into()))
    }

    pub(super) fn update(
        &mut self,
        definition: Definition,
        by: Option<By>,
        ctx: &mut Context<Self>,
    ) -> Result<Arc<JobHandle>, UpdateError> {
        let (now, elapsed) = self.node().clock.read();
        self.warn_of_slow_aborts([&definition]);
        let meters = self.meters_of(&definition, false);
        let mut definition = definition;
        let former_job = self.jobs.get(&definition.name).map(|entry| entry.job.clone());
        if let Some(former) = &former_job {
            // Its gauge is that of the label before.
            self.forget_alarm(former);
        }
        self.give_alarm(&mut definition, former_job.as_ref().map(|job| &*job.definition));
        let definition = Arc::new(definition);
        let name = definition.name.clone();
        let former = self.jobs.get(&name).map(|entry| entry.job.definition.identity);
        let fires_here = self.jobs.get(&name).is_some_and(|entry| self.authority(entry).is_some());
        let differs = former.is_some_and(|former| former.differs_from(definition.identity));
        if differs {
            self.over.remove(&name);
            self.log_lints([&*definition]);
        }
        let key_in_use = self.key_in_use(&definition);
        let Some(entry) = self.jobs.get_mut(&name) else {
            return Err(UpdateError::UnknownJob { name: name.as_str().to_owned() });
        };
        #[cfg(any(test, feature = "testkit"))]
        entry.job.host.note(&definition);
        let job = Arc::new(by_definition(&entry.job, definition, meters, key_in_use));
        if differs && fires_here {
            self.await_leave(&name, job.generation, false);
        }
        let Some(entry) = self.jobs.get_mut(&name) else {
            return Err(UpdateError::UnknownJob { name: name.as_str().to_owned() });
        };
        let was_local = entry.firing.fires() == Fires::Local;
        let becomes_local = !was_local && job.definition.policies.fires == Fires::Local;
        if was_local || differs {
            entry.known_since = elapsed;
        }
        let former = std::mem::replace(&mut entry.job, job.clone()).definition.clone();
        let declared_key_policy = entry.firing.redefined(job.definition.policies.fires);
        self.keys.remove(former.declares());
        self.keys.add(job.definition.declares());
        self.tags.remove(&former);
        self.tags.add(&job.definition);
        self.former_names.remove(&former);
        self.former_names.add(&job.definition);
        job.post(JobMessage::Redefine(job.clone()));
        self.watch(&job, ctx);
        self.job_changed(&name, ctx);
        if let Some(former) = former_job.filter(|former| !Arc::ptr_eq(&former.meters, &job.meters)) {
            // It has another label from now on.
            self.hide(&former);
        }
        self.show(&job);
        self.publish(|| EventKind::JobUpdated { job: name.clone(), by });
        if becomes_local && !self.withdraws_once_left(&name) {
            // What this node fires on its own from now on is not owed when it comes back. A node that still
            // shares it enrols it again, and goes on from its cursor.
            self.withdraw(std::slice::from_ref(&name), ctx);
        }
        if becomes_local || declared_key_policy || former.key != job.definition.key {
            self.retract([former.key.clone()], ctx);
        }
        if !self.revive(&name, ctx) {
            self.resume(&job, now);
            self.enrol(ctx);
        }
        Ok(job)
    }
}

/// The same instance of a job, by another definition.
fn by_definition(
    job: &JobHandle,
    definition: Arc<Definition>,
    meters: Arc<Labelled<JobMeters>>,
    key_in_use: Option<Arc<KeyInUse>>,
) -> JobHandle {
    let JobHandle { generation, instance, place, hook_calls, host, .. } = job;
    JobHandle {
        definition,
        generation: *generation,
        instance: *instance,
        place: *place,
        meters,
        host: host.clone(),
        key_in_use,
        hook_calls: hook_calls.share(),
        wake_time: WakeTime::default(),
        on_trial: OnTrial::default(),
        // As far as is known: it may have another body.
        body_takes_time: AtomicBool::new(job.body_takes_time()),
    }
}

impl SupervisorActor {
    fn updated(
        &mut self,
        definition: Definition,
        asked: Attribution,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Added, UpdateError>> {
        let Some(names) = self.names_left_by(slice::from_ref(&definition)) else {
            return self.updated_now(definition, asked, ctx);
        };
        Box::pin(names.left(vec![definition]).into_actor(self).then(|mut left, actor, ctx| {
            let definition = left.pop().expect("invariant: it comes back");
            // Much may have happened meanwhile.
            match actor.check_update(&definition, Vec::new()) {
                Ok(()) => actor.updated_now(definition, asked, ctx),
                Err(error) => Box::pin(ready(Err(error)).into_actor(actor)),
            }
        }))
    }

    fn updated_now(
        &mut self,
        definition: Definition,
        asked: Attribution,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Added, UpdateError>> {
        let definition = self.by_override(definition);
        let changed = self.change_names(&definition);
        let job = match changed.and_then(|()| self.update(definition, asked.by.clone(), ctx)) {
            Ok(job) => job,
            Err(error) => return Box::pin(ready(Err(error)).into_actor(self)),
        };
        let definition = &job.definition;
        record_operation(self.node(), &definition.name, JobOperation::Changed, &asked, || {
            Some(definition.description())
        });
        // It may have had another key, or another policy for it.
        self.freed(|_, _| true);
        let scheduled = self.scheduled(vec![job]);
        Box::pin(scheduled.map(|mut added, _, _| Ok(added.pop().expect("invariant: one job, one answer"))))
    }
}

impl SupervisorActor {
    /// The names and keys of the node are those of this definition from now on.
    pub(super) fn change_names(&self, definition: &Definition) -> Result<(), UpdateError> {
        let former = self.jobs.get(&definition.name).map(|entry| &*entry.job.definition);
        let names = self.parts.names.as_ref().zip(former);
        names.map_or(Ok(()), |(names, former)| names.change(former, definition)).map_err(UpdateError::Invalid)
    }

    /// Refuses what would change a stored job on this node only.
    fn check_is_code(&self, job: &JobName) -> Result<(), UpdateError> {
        if !self.keeping.machine.is_held(job.as_str()) {
            return Ok(());
        }
        let rule = "it is stored, and this would change it on this node only";
        let cure = "put its new definition into the catalogue (PutJob)";
        Err(UpdateError::Invalid(Fault::new("job", job.as_str(), rule, cure).into()))
    }

    fn rescheduled(&self, asked: RescheduleJob) -> Result<Definition, UpdateError> {
        let RescheduleJob { job, schedule, asked: _ } = asked;
        let Some(entry) = self.jobs.get(job.as_str()) else {
            return Err(UpdateError::UnknownJob { name: given_name(&job) });
        };
        let now = self.node().clock.now();
        let definition = schedule.and_then(|schedule| entry.job.definition.rescheduled(schedule, now));
        self.check_is_code(&entry.job.definition.name)?;
        self.check_not_overridden(&entry.job.definition.name)?;
        let definition = definition.map_err(|faults| {
            let subject = format!("job {job:?}");
            UpdateError::Invalid(Faults::of(
                faults.into_vec().into_iter().map(|fault| fault.within(&subject)).collect(),
            ))
        })?;
        self.check_update(&definition, Vec::new())?;
        Ok(definition)
    }
}

impl Handler<RescheduleJob> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Added, UpdateError>>;

    /// Its key and its policies are as they were: nobody contradicts them who did not before.
    fn handle(&mut self, asked: RescheduleJob, ctx: &mut Self::Context) -> Self::Result {
        let attribution = asked.asked.clone();
        match self.rescheduled(asked) {
            Ok(definition) => self.updated(definition, attribution, ctx),
            Err(error) => Box::pin(ready(Err(error)).into_actor(self)),
        }
    }
}

impl Handler<UpdateJob> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Added, UpdateError>>;

    fn handle(&mut self, UpdateJob { job, asked }: UpdateJob, ctx: &mut Self::Context) -> Self::Result {
        let misplaced = Faults::check(self.misplaced(slice::from_ref(&job)));
        let (now, tasks) = (self.node().clock.now(), &self.parts.tasks);
        let definition = misplaced.and_then(|()| job.define(now, &mut None, Some(tasks)));
        let definition = definition.map_err(UpdateError::Invalid);
        let checked = definition.and_then(|definition| {
            self.check_is_code(&definition.name)?;
            self.check_update(&definition, Vec::new())?;
            Ok(definition)
        });
        let definition = match checked {
            Ok(definition) => definition,
            Err(error) => return Box::pin(ready(Err(error)).into_actor(self)),
        };
        let Some(contradicted) = self.contradicted(slice::from_ref(&definition)) else {
            return self.updated(definition, asked, ctx);
        };
        Box::pin(contradicted.into_actor(self).then(|faults, actor, ctx| {
            // Much may have happened meanwhile.
            match actor.check_update(&definition, faults) {
                Ok(()) => actor.updated(definition, asked, ctx),
                Err(error) => Box::pin(ready(Err(error)).into_actor(actor)),
            }
        }))
    }
}
