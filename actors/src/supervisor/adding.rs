//! How jobs are added.
//!
//! Decided here: whether a definition may be added at this moment, and what is wrong with it if not. Who
//! fires the job is not: that is a question to the store, asked after the job was added, and answered by
//! [`Firing`]. A job stays added whatever the store answers.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use foldhash::{HashSet, HashSetExt};
use futures_util::future::{BoxFuture, ready};
use tokio::time::timeout;

use super::{Entry, Phase, SupervisorActor, outlook::Hopeless};
use crate::{
    CALL_DEADLINE,
    core::{
        firing::Firing,
        key_policies::conflicts,
        policy::Fires,
        text::{TEXT_MAX, bounded},
    },
    definition::{Definition, Job},
    error::{AddError, Fault, Faults},
    event::EventKind,
    job::{Beginning, JobHandle, Scheduled, record_operation},
    job_names::{JobNames, on_unknown},
    lock::{InquireJobs, InquiryPurpose},
    message::{AddJob, AddJobs, Added, PAGE_MAX},
    name::{By, JobName},
    note::Attribution,
    port::{Inquiry, JobOperation},
    task::Tasks,
};

/// Adds the jobs that the engine starts with. Who fires them is decided by the election that follows.
#[derive(Message)]
#[rtype(result = "Result<(), AddError>")]
pub(crate) struct AddFirstJobs(pub(crate) Vec<Job>);

/// Asks whether jobs can be added, and adds none.
#[derive(Message)]
#[rtype(result = "Result<(), AddError>")]
pub(crate) struct CheckJobs(pub(crate) Vec<Job>);

impl SupervisorActor {
    /// As [`check`](Self::check), of jobs that the application adds now.
    pub(super) fn check_new(
        &self,
        definitions: &[Definition],
        mut faults: Vec<Fault>,
    ) -> Result<(), AddError> {
        let Hopeless { broken, over } = self.hopeless(definitions);
        faults.extend(broken);
        self.check(definitions, faults)?;
        if over.is_empty() { Ok(()) } else { Err(AddError::Over(over)) }
    }

    /// What is wrong with the backends that jobs name.
    pub(super) fn misplaced(&self, jobs: &[Job]) -> Vec<Fault> {
        self.parts.names.as_ref().map_or_else(|| on_unknown(jobs, &[]), |names| names.misplaced(jobs))
    }

    /// What is wrong with jobs by themselves, and those of which nothing is.
    fn define(&self, jobs: Vec<Job>) -> (Vec<Definition>, Vec<Fault>) {
        let misplaced = self.misplaced(&jobs);
        let (definitions, faults) = define_all(jobs, self.node().clock.now(), &self.parts.tasks);
        (definitions, misplaced.into_iter().chain(faults).collect())
    }

    /// Takes the names and keys of definitions that are to be added now, if no other engine of the node has them.
    pub(super) fn take_names(&self, definitions: &[Definition]) -> Result<(), AddError> {
        self.parts.names.as_ref().map_or(Ok(()), |names| names.take(definitions))
    }

    /// The names of the node, if a key of these definitions is about to be free.
    pub(super) fn names_left_by(&self, definitions: &[Definition]) -> Option<JobNames> {
        self.parts.names.clone().filter(|names| names.are_leaving(definitions))
    }

    /// Whether the definitions, in which these faults were found, can be added.
    pub(super) fn check(&self, definitions: &[Definition], mut faults: Vec<Fault>) -> Result<(), AddError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(AddError::ShuttingDown);
        }
        faults.extend(definitions.iter().flat_map(|job| job.faults_on(&self.parts.able)));
        faults.extend(self.former_names.conflicts(definitions, |name| self.jobs.contains_key(name)));
        let existing = definitions.iter().filter(|definition| self.jobs.contains_key(&definition.name));
        let existing: Vec<_> = existing.map(|definition| duplicate(&definition.name)).collect();
        let declared = || definitions.iter().map(Definition::declares);
        // Jobs that have keys and names of their own contradict nobody.
        let are_alone = faults.is_empty()
            && existing.is_empty()
            && !self.keys.are_shared()
            && !declared().any(|job| job.shares_a_key());
        if !are_alone {
            faults.extend(conflicts(declared(), |key| self.holder_of(key, None)));
        }
        let invalid = !faults.is_empty();
        faults.extend(existing);
        Faults::check(faults)
            .map_err(|faults| if invalid { AddError::Invalid(faults) } else { AddError::Exists(faults) })
    }

    pub(super) fn add(
        &mut self,
        definitions: Vec<Definition>,
        by: Option<By>,
        ctx: &mut Context<Self>,
    ) -> Vec<Arc<JobHandle>> {
        self.log_lints(&definitions);
        self.warn_of_slow_aborts(&definitions);
        let (now, known_since) = self.node().clock.read();
        let mut added = Vec::with_capacity(definitions.len());
        let mut entries = Vec::with_capacity(definitions.len());
        let mut watched = Vec::new();
        let host = self.parts.jobs.clone();
        let mut held = None;
        for (nth, mut definition) in definitions.into_iter().enumerate() {
            if nth % PAGE_MAX == 0 {
                // What was sent of the page before goes now.
                drop(held.take());
                held = Some(host.placement.hold());
            }
            let name = definition.name.clone();
            #[cfg(any(test, feature = "testkit"))]
            self.parts.jobs.note(&definition);
            self.keys.add(definition.declares());
            self.tags.add(&definition);
            self.former_names.add(&definition);
            self.give_alarm(&mut definition, None);
            let job = self.start_actor(Arc::new(definition), None, Beginning::New(now));
            self.node()
                .publisher
                .publish_routine(|| EventKind::JobAdded { job: name.clone(), by: by.clone() });
            let mut firing = Firing::new(job.definition.policies.fires);
            if self.lets_fire(&job, now) {
                firing.await_enrolment();
            }
            added.push(job.clone());
            self.show(&job);
            self.job_changed(&name, ctx);
            if job.definition.alarm().is_some() {
                watched.push(job.clone());
            }
            entries.push((name, Entry { job, firing, known_since, deaths: None, parked: None }));
        }
        self.insert(entries);
        watched.iter().for_each(|job| self.watch(job, ctx));
        drop(held);
        self.node().meters.jobs.set(self.jobs.len() as f64);
        self.enrol(ctx);
        added
    }

    /// Many at a time are laid out in one go, and close together; that takes all that there are in hand once.
    fn insert(&mut self, entries: Vec<(JobName, Entry)>) {
        if entries.len() > self.jobs.len() {
            self.jobs.append(&mut entries.into_iter().collect());
        } else {
            self.jobs.extend(entries);
        }
    }

    /// Adds jobs and finds out who fires them. They stay added whatever the store answers.
    fn add_and_inquire(
        &mut self,
        jobs: Vec<Job>,
        asked: Attribution,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Vec<Added>, AddError>> {
        let (definitions, faults) = self.define(jobs);
        if let Err(error) = self.check_new(&definitions, faults) {
            return Box::pin(ready(Err(error)).into_actor(self));
        }
        let Some(contradicted) = self.contradicted(&definitions) else {
            return self.added(definitions, asked, ctx);
        };
        Box::pin(contradicted.into_actor(self).then(|faults, actor, ctx| {
            // Much may have happened meanwhile.
            match actor.check_new(&definitions, faults) {
                Ok(()) => actor.added(definitions, asked, ctx),
                Err(error) => Box::pin(ready(Err(error)).into_actor(actor)),
            }
        }))
    }

    fn added(
        &mut self,
        definitions: Vec<Definition>,
        asked: Attribution,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Vec<Added>, AddError>> {
        let Some(names) = self.names_left_by(&definitions) else {
            return self.added_now(definitions, asked, ctx);
        };
        Box::pin(names.left(definitions).into_actor(self).then(|definitions, actor, ctx| {
            // Much may have happened meanwhile.
            match actor.check_new(&definitions, Vec::new()) {
                Ok(()) => actor.added_now(definitions, asked, ctx),
                Err(error) => Box::pin(ready(Err(error)).into_actor(actor)),
            }
        }))
    }

    fn added_now(
        &mut self,
        definitions: Vec<Definition>,
        asked: Attribution,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Vec<Added>, AddError>> {
        if let Err(error) = self.take_names(&definitions) {
            return Box::pin(ready(Err(error)).into_actor(self));
        }
        self.begin_to_keep(ctx);
        let definitions = self.overridden(definitions);
        let added = self.add(definitions, asked.by.clone(), ctx);
        for job in &added {
            record_operation(self.node(), &job.definition.name, JobOperation::Added, &asked, || None);
        }
        Box::pin(self.scheduled(added).map(|added, _, _| Ok(added)))
    }

    /// Finds out who fires jobs that were added or changed, and fires at once those that the leader does not
    /// hold.
    pub(super) fn scheduled(&self, added: Vec<Arc<JobHandle>>) -> ResponseActFuture<Self, Vec<Added>> {
        let scheduled = self.who_fires(added.clone(), CALL_DEADLINE, InquiryPurpose::Firing);
        Box::pin(scheduled.into_actor(self).map(move |scheduled, actor, ctx| {
            let answers = added.iter().zip(&scheduled);
            let lacking = answers.filter(|(_, scheduled)| **scheduled == Scheduled::WithoutLeader);
            actor.fire_without_leader(lacking.map(|(job, _)| job), ctx);
            let answer = |(job, scheduled): (&Arc<JobHandle>, _)| Added {
                job: job.definition.name.clone(),
                scheduled,
            };
            added.iter().zip(scheduled).map(answer).collect()
        }))
    }

    /// Finds out who fires each of these jobs, of a store that answers in time.
    pub(super) fn who_fires(
        &self,
        jobs: Vec<Arc<JobHandle>>,
        deadline: Duration,
        purpose: InquiryPurpose,
    ) -> BoxFuture<'static, Vec<Scheduled>> {
        let leads = self.term.is_some();
        let lock = self.parts.lock.clone();
        Box::pin(async move {
            let here = |job: &Arc<JobHandle>| leads || job.definition.policies.fires != Fires::Leader;
            let elsewhere: Vec<_> = jobs.iter().filter(|job| !here(job)).map(|job| inquiry(job)).collect();
            let mut answers = Vec::with_capacity(elsewhere.len());
            let asked = async {
                for page in elsewhere.chunks(PAGE_MAX) {
                    let standings = lock.send(InquireJobs { jobs: page.to_vec(), purpose }).await;
                    let standings = standings.map_err(|_| "the lock actor died".to_owned())?;
                    answers.extend(
                        standings.map_err(|error| bounded(error, TEXT_MAX))?.into_iter().map(Scheduled::from),
                    );
                }
                Ok(())
            };
            let asked = timeout(deadline, asked).await;
            let why = match asked
                .unwrap_or_else(|_| Err("the store did not answer within the deadline".to_owned()))
            {
                Ok(()) => String::new(),
                Err(reason) => reason,
            };
            let mut answers = answers.into_iter();
            let scheduled = |job: &Arc<JobHandle>| match here(job) {
                true => Scheduled::Here,
                false => answers.next().unwrap_or_else(|| Scheduled::Unknown { reason: why.clone() }),
            };
            jobs.iter().map(scheduled).collect()
        })
    }
}

pub(super) fn inquiry(job: &JobHandle) -> Inquiry {
    Inquiry { job: job.definition.name.clone(), schedule: job.definition.identity }
}

/// Checks all jobs, and that no name is given twice.
pub(crate) fn define_all(jobs: Vec<Job>, now: DateTime<Utc>, tasks: &Tasks) -> (Vec<Definition>, Vec<Fault>) {
    let mut definitions = Vec::<Definition>::with_capacity(jobs.len());
    let mut faults = Vec::new();
    let mut asked = None;
    for job in jobs {
        match job.define(now, &mut asked, Some(tasks)) {
            Ok(mut definition) => {
                // Many jobs have the policies of the one before.
                if let Some(before) =
                    definitions.last().filter(|before| before.policies == definition.policies)
                {
                    definition.policies = before.policies.clone();
                }
                definitions.push(definition);
            }
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
        let (definitions, faults) = self.define(jobs);
        self.check(&definitions, faults)?;
        self.take_names(&definitions)?;
        // That time has passed is no reason not to start.
        self.note_over(&definitions);
        definitions.iter().for_each(|definition| drop(self.meters_of(definition, true)));
        // A node without jobs of code has nothing to override, and without tasks nothing that is stored runs here.
        let keeps = !(definitions.is_empty() && self.parts.tasks.is_empty());
        if keeps {
            self.await_overrides(ctx);
        }
        self.add(definitions, None, ctx);
        // Those of code come first: they have their names.
        if keeps {
            self.begin_to_keep(ctx);
        }
        Ok(())
    }
}

impl Handler<CheckJobs> for SupervisorActor {
    type Result = Result<(), AddError>;

    fn handle(&mut self, CheckJobs(jobs): CheckJobs, _: &mut Self::Context) -> Self::Result {
        let (definitions, faults) = self.define(jobs);
        self.check_new(&definitions, faults)
    }
}

impl Handler<AddJob> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Added, AddError>>;

    fn handle(&mut self, AddJob { job, asked }: AddJob, ctx: &mut Self::Context) -> Self::Result {
        let added = self.add_and_inquire(vec![job], asked, ctx);
        Box::pin(added.map(|added, _, _| Ok(added?.pop().expect("invariant: one job, one answer"))))
    }
}

impl Handler<AddJobs> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<Added>, AddError>>;

    fn handle(&mut self, AddJobs { jobs, asked }: AddJobs, ctx: &mut Self::Context) -> Self::Result {
        self.add_and_inquire(jobs, asked, ctx)
    }
}
