//! How the jobs of this node are enrolled with the store: page by page, and never while a withdrawal or a retraction of the same is
//! under way.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{Entry, SupervisorActor, key_policies::refusal, outlook::warn_over};
use crate::{
    core::{job::Input, operation::Operation, policy::OnLost, suspects::Group},
    definition::Definition,
    election::TermRefused,
    event::EventKind,
    job::JobHandle,
    lock::{AllEnrolled, EnrolJobs, always_locked},
    message::PAGE_MAX,
    name::JobName,
    port::{Authority, Enrolled, Enrolment, LockError},
};

/// The pause before an enrolment that failed is tried again, or the look for runs of dead sessions; it doubles up to
/// [`ENROL_AGAIN_MAX`].
pub(super) const ENROL_AGAIN_MIN: Duration = Duration::from_millis(500);

/// The longest pause before an enrolment whose row somebody else has locked is tried again.
pub(super) const LOCKED_AGAIN_MAX: Duration = Duration::from_secs(1);

/// The longest pause before an enrolment that failed is tried again.
pub(super) const ENROL_AGAIN_MAX: Duration = Duration::from_secs(5);

/// After so many enrolments in a row of which something was locked, what is locked counts as refused.
const ENROLMENTS_LOCKED_MAX: u32 = 8;

/// How often a job that was refused because of its key is enrolled again, and the pause before a retraction that failed is tried again.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_secs(30);

impl SupervisorActor {
    /// Enrols the next page of jobs, if this node leads and no page is under way.
    pub(super) fn enrol(&mut self, ctx: &mut Context<Self>) {
        // A withdrawal under way goes first: a job may have been removed and added again.
        if self.enrolling || self.withdrawing > 0 {
            return;
        }
        let (group, page, jobs) = loop {
            // What the store may refuse is asked by itself, on top of everything else.
            let group = self.next_suspects(self.node().clock.elapsed());
            let (page, jobs) = self.next_page(group.as_ref());
            // Of a group none may be to be enrolled any more: then others go.
            if !page.is_empty() || group.is_none() {
                break (group, page, jobs);
            }
        };
        if page.is_empty() {
            if let Some(term) = self.term.filter(|_| !self.enrolments_wait()) {
                self.parts.lock.do_send(AllEnrolled(term));
            }
            return self.enrol_suspects_later(ctx);
        }
        let retries = page.iter().any(|enrolment| enrolment.retry_lost);
        if retries && !self.parts.single_node && !std::mem::replace(&mut self.asks_pending_retries, true) {
            self.ask_pending_retries(ctx);
        }
        self.enrolling = true;
        // It is enrolled already, and goes on as it is.
        let is_witness = matches!(group, Some(Group::Witness(_)));
        let enrolled = self.parts.lock.send(EnrolJobs(page));
        ctx.spawn(enrolled.into_actor(self).map(move |answer, actor, ctx| {
            actor.enrolling = false;
            for (job, _) in &jobs {
                // One that was changed meanwhile is enrolled once more.
                let same = |entry: &&Entry| Arc::ptr_eq(&entry.job, job);
                if !is_witness && actor.jobs.get(&job.definition.name).filter(same).is_some() {
                    actor.on_enrolment_answered(&job.definition.name);
                }
            }
            match answer {
                Ok(Ok(answers)) => {
                    actor.enrol_backoff.succeeded();
                    let locked = actor.on_enrolled(is_witness, jobs, answers, ctx);
                    actor.note_locked(locked.first());
                    actor.retract_next(ctx);
                    if locked.is_empty() {
                        actor.locked_backoff.succeeded();
                    } else if !is_witness {
                        let pause = actor.locked_backoff.failed();
                        actor.pages_locked += 1;
                        ctx.run_later(pause, move |actor, ctx| {
                            actor.pages_locked -= 1;
                            actor.to_enrol.extend(locked);
                            actor.enrol(ctx);
                        });
                    }
                    actor.enrol(ctx);
                }
                Ok(Err(LockError::BadData { reason })) => {
                    actor.suspect(group.as_ref(), &jobs, &reason, ctx);
                    actor.retract_next(ctx);
                    actor.enrol(ctx);
                }
                Ok(Err(_)) | Err(_) => {
                    // Those that this node has no right to any more are left out then. What is asked alone
                    // stays a suspect.
                    let names = jobs.iter().map(|(job, _)| job.definition.name.clone());
                    match group {
                        None | Some(Group::Part(_)) => actor.to_enrol.extend(names),
                        Some(Group::Alone(_) | Group::Witness(_)) => {}
                        Some(Group::Trial(_)) => names.for_each(|name| actor.end_trial(&name)),
                    }
                    actor.retract_next(ctx);
                    let pause = actor.enrol_backoff.failed();
                    ctx.run_later(pause, |actor, ctx| actor.enrol(ctx));
                }
            }
            actor.enrol_suspects_later(ctx);
        }));
    }

    /// Jobs are to be enrolled later: somebody else has them locked, their keys are being taken back, or the store refused them and it is
    /// not known yet who is to blame. Those that are parked are not waited for.
    fn enrolments_wait(&self) -> bool {
        self.pages_locked > 0 || self.keys.holds_jobs() || self.suspects.wake_at().is_some()
    }

    /// The next jobs to be enrolled, of a group or of all.
    fn next_page(&mut self, group: Option<&Group>) -> (Vec<Enrolment>, Vec<(Arc<JobHandle>, Authority)>) {
        let elapsed = self.node().clock.elapsed();
        let asked_at = self.node().clock_offset.store_time(elapsed);
        let (mut page, mut jobs) = (Vec::new(), Vec::new());
        let mut by_itself = group.map(Group::jobs);
        while page.len() < PAGE_MAX
            && let Some(name) = match &mut by_itself {
                Some(jobs) => jobs.next().cloned(),
                None => self.to_enrol.pop_front(),
            }
        {
            if self.leaving.contains_key(&name) {
                // It comes back once what was due before is decided.
                continue;
            }
            let asked = self.jobs.get(&name).and_then(|entry| Some((entry, self.authority(entry)?)));
            let Some((entry, authority)) = asked else {
                self.suspects.drop_suspect(&name);
                self.on_enrolment_answered(&name);
                continue;
            };
            if self.keys.hold(&entry.job.definition.key, &name) {
                continue;
            }
            let Definition { identity, key, schedule, policies, .. } = &*entry.job.definition;
            page.push(Enrolment {
                key: key.clone(),
                overlap: policies.overlap,
                known_for: elapsed.saturating_sub(entry.known_since),
                asked_at: Some(asked_at),
                retry_lost: policies.on_lost == OnLost::Retry,
                from_completion: schedule.counts_from_completion(),
                ..Enrolment::new(name, *identity, authority)
            });
            let job = entry.job.clone();
            if authority.term().is_none()
                && let Some(entry) = self.jobs.get_mut(&job.definition.name)
            {
                entry.declared_key_policy = true;
            }
            jobs.push((job, authority));
        }
        (page, jobs)
    }

    /// Now and then a job is locked; all the time, and it does not fire.
    fn note_locked(&mut self, locked: Option<&JobName>) {
        let failures = &self.node().failures;
        match locked {
            Some(job) if self.enrolments_locked >= ENROLMENTS_LOCKED_MAX => {
                failures.failed(Operation::Enrol, &always_locked(job));
            }
            Some(_) => self.enrolments_locked += 1,
            None => {
                failures.succeeded(Operation::Enrol);
                self.enrolments_locked = 0;
            }
        }
    }

    /// Answers the jobs that somebody else has locked.
    fn on_enrolled(
        &mut self,
        is_witness: bool,
        jobs: Vec<(Arc<JobHandle>, Authority)>,
        answers: Vec<Enrolled>,
        ctx: &mut Context<Self>,
    ) -> Vec<JobName> {
        let (mut locked, mut over) = (Vec::new(), Vec::new());
        let now = self.node().clock.elapsed();
        for ((job, authority), answer) in jobs.into_iter().zip(answers) {
            let name = &job.definition.name;
            match answer {
                Enrolled::Done { .. } => self.suspects.took(now, name),
                _ => self.suspects.drop_suspect(name),
            }
            let Some(entry) = self.jobs.get(name).filter(|entry| {
                // One that was added or changed since has its own answer.
                entry.job.generation == job.generation && Arc::ptr_eq(&entry.job.definition, &job.definition)
            }) else {
                continue;
            };
            if self.authority(entry) != Some(authority) {
                continue;
            }
            if entry.parked.is_some() {
                self.on_trial_enrolled(name, &answer);
            }
            match (answer, authority) {
                // What waits in its queue, and what it skipped and did not write yet, would be decided again.
                (Enrolled::Done { .. }, _) if is_witness => {}
                (Enrolled::Done { cursor, stored }, _) => {
                    if let Some(entry) = self.jobs.get_mut(name) {
                        entry.refused = None;
                    }
                    over.extend(self.never_runs(name, cursor).map(|last| (name.clone(), last)));
                    job.send(Input::Resume { cursor, authority: Some(authority), stored });
                }
                (Enrolled::Locked, _) => locked.push(name.clone()),
                (Enrolled::Conflict { declared }, _) => self.on_conflict(&job, &declared, ctx),
                (Enrolled::Deposed { .. } | Enrolled::HasLeader, Authority::Term(term)) => {
                    self.parts.election.do_send(TermRefused(term));
                    return locked;
                }
                (Enrolled::Deposed { .. } | Enrolled::HasLeader, Authority::Any | Authority::Leaderless) => {
                    self.leave_to_leader(name, ctx);
                }
            }
        }
        warn_over(&over);
        locked
    }

    /// Others declare another policy for the job's key: this node does not fire it until they do not.
    fn on_conflict(&mut self, job: &Arc<JobHandle>, declared: &str, ctx: &mut Context<Self>) {
        let reason = refusal(&job.definition, declared);
        let name = &job.definition.name;
        job.send(Input::Suspend);
        let Some(entry) = self.jobs.get_mut(name) else { return };
        if entry.refused.replace(reason.clone()).is_none_or(|former| former != reason) {
            self.troubled.insert(name.clone());
            self.publish(|| EventKind::JobConflicting { job: name.clone(), reason });
        }
        if !std::mem::replace(&mut self.asking_refused, true) {
            ctx.run_later(REFUSED_AGAIN, |actor, ctx| {
                actor.asking_refused = false;
                let refused = actor.jobs.values().filter(|entry| entry.refused.is_some());
                let refused: Vec<_> = refused.map(|entry| entry.job.definition.name.clone()).collect();
                actor.to_enrol.extend(refused);
                actor.enrol(ctx);
            });
        }
    }

    /// The store does not know a job (any more) that this node fires.
    pub(super) fn on_unknown_to_store(&mut self, job: JobName, ctx: &mut Context<Self>) {
        if self.jobs.contains_key(&job) {
            self.to_enrol.push_back(job);
            self.enrol(ctx);
        }
    }
}
