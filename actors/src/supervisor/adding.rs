//! How jobs are added.

use std::{collections::HashSet, sync::Arc};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Entry, Phase, Restarts, SupervisorActor, keys::conflicts};
use crate::{
    CALL_DEADLINE,
    core::policy::Fires,
    definition::{Definition, Job},
    error::{AddError, Fault, Faults},
    event::EventKind,
    job::Remains,
    lock::InquireJobs,
    message::{AddJob, AddJobs, Added, PAGE_MAX, Scheduled},
    name::JobName,
    node::JobRef,
    port::Inquiry,
};

/// Adds the jobs that the engine starts with. Who fires them is decided by the election that follows.
#[derive(Message)]
#[rtype(result = "Result<(), AddError>")]
pub(crate) struct AddFirstJobs(pub(crate) Vec<Job>);

impl SupervisorActor {
    fn add(&mut self, jobs: Vec<Job>, ctx: &mut Context<Self>) -> Result<Vec<Arc<JobRef>>, AddError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(AddError::ShuttingDown);
        }
        let now = self.node().clock.now();
        let (definitions, mut faults) = define_all(jobs, now);
        faults.extend(conflicts(&definitions, |key| self.holder_of(key, None)));
        let invalid = !faults.is_empty();
        let existing = definitions.iter().filter(|definition| self.jobs.contains_key(&definition.name));
        faults.extend(existing.map(|definition| duplicate(&definition.name)));
        Faults::check(faults)
            .map_err(|faults| if invalid { AddError::Invalid(faults) } else { AddError::Exists(faults) })?;

        let mut added = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let name = definition.name.clone();
            self.keys.add(&definition);
            let job = self.start_actor(Arc::new(definition), None, move |job| Remains::none(job, now));
            self.publish(|| EventKind::JobAdded { job: name.clone() });
            self.resume(&job, now);
            added.push(job.clone());
            let fires = job.definition.policies.fires;
            let entry = Entry { job, fires, restarts: Restarts::default(), broken: false, unled: false };
            self.jobs.insert(name, entry);
        }
        self.node().meters.jobs.set(self.jobs.len() as f64);
        self.enrol(ctx);
        Ok(added)
    }

    /// Adds jobs and finds out who fires them. They stay added whatever the store answers.
    fn add_and_inquire(
        &mut self,
        jobs: Vec<Job>,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<Vec<Added>, AddError>> {
        let added = match self.add(jobs, ctx) {
            Ok(added) => added,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        self.find_unled_among(&added, ctx);
        let scheduled = self.scheduled(added);
        Box::pin(async move { Ok(scheduled.await) })
    }

    /// Finds out who fires jobs.
    pub(super) fn scheduled(&self, added: Vec<Arc<JobRef>>) -> BoxFuture<'static, Vec<Added>> {
        let leads = self.term.is_some();
        let lock = self.node().lock().clone();
        Box::pin(async move {
            let here = |job: &Arc<JobRef>| leads || job.definition.policies.fires != Fires::Leader;
            let elsewhere: Vec<_> = added.iter().filter(|job| !here(job)).map(|job| inquiry(job)).collect();
            let mut answers = Vec::with_capacity(elsewhere.len());
            let asked = async {
                for page in elsewhere.chunks(PAGE_MAX) {
                    let standings = lock.send(InquireJobs(page.to_vec())).await;
                    let standings = standings.map_err(|_| "the lock actor died".to_owned())?;
                    answers.extend(
                        standings.map_err(|error| error.to_string())?.into_iter().map(Scheduled::from),
                    );
                }
                Ok(())
            };
            let asked = timeout(CALL_DEADLINE, asked).await;
            let why = match asked
                .unwrap_or_else(|_| Err("the store did not answer within the deadline".to_owned()))
            {
                Ok(()) => String::new(),
                Err(reason) => reason,
            };
            let mut answers = answers.into_iter();
            let scheduled = |job: &Arc<JobRef>| match here(job) {
                true => Scheduled::Here,
                false => answers.next().unwrap_or_else(|| Scheduled::Unknown { reason: why.clone() }),
            };
            let scheduled: Vec<_> = added.iter().map(scheduled).collect();
            let names = added.iter().map(|job| job.definition.name.clone());
            names.zip(scheduled).map(|(job, scheduled)| Added { job, scheduled }).collect()
        })
    }
}

pub(super) fn inquiry(job: &JobRef) -> Inquiry {
    Inquiry { job: job.definition.name.clone(), schedule: job.definition.description.to_string() }
}

/// Checks all jobs, and that no name is given twice.
pub(crate) fn define_all(jobs: Vec<Job>, now: DateTime<Utc>) -> (Vec<Definition>, Vec<Fault>) {
    let mut definitions = Vec::with_capacity(jobs.len());
    let mut faults = Vec::new();
    for job in jobs {
        match job.define(now) {
            Ok(definition) => definitions.push(definition),
            Err(found) => faults.extend(found.into_vec()),
        }
    }
    let mut seen = HashSet::with_capacity(definitions.len());
    faults.extend(definitions.iter().filter(|one| !seen.insert(&one.name)).map(|one| duplicate(&one.name)));
    (definitions, faults)
}

fn duplicate(name: &JobName) -> Fault {
    let rule = "a job of this name exists";
    Fault::new("job name", name.as_str(), rule, "choose another name, or remove that job first")
}

impl Handler<AddFirstJobs> for SupervisorActor {
    type Result = Result<(), AddError>;

    fn handle(&mut self, AddFirstJobs(jobs): AddFirstJobs, ctx: &mut Self::Context) -> Self::Result {
        self.add(jobs, ctx).map(drop)
    }
}

impl Handler<AddJob> for SupervisorActor {
    type Result = ResponseFuture<Result<Added, AddError>>;

    fn handle(&mut self, AddJob(job): AddJob, ctx: &mut Self::Context) -> Self::Result {
        let added = self.add_and_inquire(vec![job], ctx);
        Box::pin(async move { Ok(added.await?.pop().expect("invariant: one job, one answer")) })
    }
}

impl Handler<AddJobs> for SupervisorActor {
    type Result = ResponseFuture<Result<Vec<Added>, AddError>>;

    fn handle(&mut self, AddJobs(jobs): AddJobs, ctx: &mut Self::Context) -> Self::Result {
        self.add_and_inquire(jobs, ctx)
    }
}
