//! How the supervisor enrols the jobs of this node with the store, page by page.
//!
//! [`Enrolling`](crate::core::enrolling::Enrolling) decides which jobs go next and when,
//! [`Suspects`](crate::core::suspects::Suspects) which are asked by themselves, and [`AfterEnrolment`] what
//! follows from each answer. Here a page is put together and sent, and each job is told what became of it.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::{Entry, SupervisorActor, outlook::warn_over};
use crate::{
    core::{
        enrolling::{AfterEnrolment, LocksOfOthers, next_page},
        firing::{Firing, Refusal},
        job::Input,
        operation::Operation,
        policy::OnLost,
        suspects::Group,
    },
    definition::Definition,
    election::TermRefused,
    event::EventKind,
    job::JobHandle,
    lock::{AllEnrolled, EnrolJobs, always_locked},
    message::PAGE_MAX,
    name::JobName,
    port::{Authority, Enrolled, EnrolledSchedule, Enrolment, LockError, NameUse},
};

/// A job that is being enrolled, and by what authority.
type Asked = (Arc<JobHandle>, Authority);

/// What most jobs do not have that are enrolled.
struct Troubles {
    is_parked: bool,
    is_refused: bool,
}

/// How often a job that was refused because of its key is enrolled again, and the pause before a retraction
/// that failed is tried again.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_secs(30);

/// How often a job is enrolled again that has another name elsewhere, which is in use.
const RENAMED_AGAIN: Duration = Duration::from_secs(5);

/// Why a job does not fire while another name of it is in use.
fn waits_for(other: &JobName, used: NameUse) -> String {
    format!("it waits for {:?}, another name of this job: {used}", other.as_str())
}

impl SupervisorActor {
    /// Enrols the next page of jobs, if this node fires some and no page is under way.
    pub(super) fn enrol(&mut self, ctx: &mut Context<Self>) {
        if self.awaits_overrides() || !self.enrolling.may_start() {
            return;
        }
        let (group, page) = self.next_page();
        if page.is_empty() {
            if let Some(term) = self.term.filter(|_| !self.enrolments_wait()) {
                self.parts.lock.do_send(AllEnrolled(term));
            }
            return self.enrol_suspects_later(ctx);
        }
        let (page, jobs): (Vec<_>, Vec<_>) = page.into_iter().unzip();
        let retries = page.iter().any(|enrolment| enrolment.retry_lost);
        if retries && !self.parts.able.single_node && !std::mem::replace(&mut self.asks_pending_retries, true)
        {
            self.ask_pending_retries(ctx);
        }
        self.enrolling.start();
        let enrolled = self.parts.lock.send(EnrolJobs(page));
        ctx.spawn(enrolled.into_actor(self).map(move |answer, actor, ctx| {
            actor.on_page_answered(group.as_ref(), jobs, answer, ctx);
        }));
    }

    /// The store has answered the page under way, or did not.
    fn on_page_answered(
        &mut self,
        group: Option<&Group>,
        jobs: Vec<Asked>,
        answer: Result<Result<Vec<Enrolled>, LockError>, MailboxError>,
        ctx: &mut Context<Self>,
    ) {
        self.enrolling.answered();
        match answer {
            Ok(Ok(answers)) => {
                let locked = self.on_enrolled(group, jobs, answers, ctx);
                self.note_locked(locked.first());
                self.retract_next(ctx);
                if let Some(pause) = self.enrolling.taken(group, &locked) {
                    ctx.run_later(pause, move |actor, ctx| {
                        actor.enrolling.come_back(locked);
                        actor.enrol(ctx);
                    });
                }
                self.enrol(ctx);
            }
            Ok(Err(LockError::BadData { reason })) => {
                self.note_answered(group, &jobs);
                self.suspect(group, &jobs, &reason, ctx);
                self.retract_next(ctx);
                self.enrol(ctx);
            }
            Ok(Err(_)) | Err(_) => {
                self.note_answered(group, &jobs);
                let names: Vec<_> = jobs.iter().map(|(job, _)| job.definition.name.clone()).collect();
                if let Some(Group::Trial(_)) = group {
                    names.iter().for_each(|name| self.end_trial(name));
                }
                let pause = self.enrolling.failed(group, names);
                self.retract_next(ctx);
                ctx.run_later(pause, |actor, ctx| actor.enrol(ctx));
            }
        }
        self.enrol_suspects_later(ctx);
    }

    /// Whoever waits for the answer to their enrolment has it, though the store did not take them. A witness
    /// is enrolled already; and one that was changed meanwhile is enrolled once more.
    fn note_answered(&mut self, group: Option<&Group>, jobs: &[Asked]) {
        if matches!(group, Some(Group::Witness(_))) {
            return;
        }
        for (job, _) in jobs {
            let name = &job.definition.name;
            let same = |entry: &&mut Entry| Arc::ptr_eq(&entry.job, job);
            if let Some(entry) = self.jobs.get_mut(name).filter(same) {
                entry.firing.enrolment_answered();
                self.questions.go_on(name);
            }
        }
    }

    /// Jobs are to be enrolled later: somebody else has them locked, their keys are being taken back, or the
    /// store refused them and it is not known yet who is to blame. Those that are parked are not waited for.
    fn enrolments_wait(&self) -> bool {
        self.enrolling.waits_for_locks() || self.keys.holds_jobs() || self.suspects.wake_at().is_some()
    }

    /// The next jobs to be enrolled, of a group or of all that wait.
    fn next_page(&mut self) -> (Option<Group>, Vec<(Enrolment, Asked)>) {
        let elapsed = self.node().clock.elapsed();
        let asked_at = self.node().clock_offset.store_time(elapsed);
        next_page(
            self,
            PAGE_MAX,
            |actor| actor.next_suspects(actor.node().clock.elapsed()),
            |actor| actor.enrolling.pop(),
            |actor, name| actor.admit(name, elapsed, asked_at),
        )
    }

    /// What the store is asked about a job, unless this node does not fire it any more, or it comes back
    /// later.
    fn admit(
        &mut self,
        name: JobName,
        elapsed: Duration,
        asked_at: DateTime<Utc>,
    ) -> Option<(Enrolment, Asked)> {
        if self.leaving.contains_key(&name) {
            // It comes back once what was due before is decided.
            return None;
        }
        let asked = self.jobs.get(&name).and_then(|entry| Some((entry, self.authority(entry)?)));
        let Some((entry, authority)) = asked else {
            self.suspects.drop_suspect(&name);
            self.on_enrolment_answered(&name);
            return None;
        };
        let (job, known_since) = (entry.job.clone(), entry.known_since);
        let known_for = elapsed.saturating_sub(known_since);
        let owes = self.owes(&job.definition);
        let Definition { identity, key, schedule, policies, .. } = &*job.definition;
        if self.keys.hold(key, &name) {
            return None;
        }
        if authority.term().is_none()
            && let Some(entry) = self.jobs.get_mut(&name)
        {
            entry.firing.declares();
        }
        let enrolment = Enrolment {
            key: key.clone(),
            overlap: policies.overlap,
            known_for,
            asked_at: Some(asked_at),
            owes,
            formerly: job.definition.formerly().cloned(),
            retry_lost: policies.on_lost == OnLost::Retry,
            from_completion: schedule.counts_from_completion(),
            ticks: Some(EnrolledSchedule(schedule.clone())),
            ..Enrolment::new(name, *identity, authority)
        };
        Some((enrolment, (job, authority)))
    }

    /// Now and then a job is locked; all the time, and it does not fire.
    fn note_locked(&mut self, locked: Option<&JobName>) {
        let said = self.enrolling.locks_of_others(locked.is_some());
        let failures = &self.node().failures;
        match (said, locked) {
            (LocksOfOthers::Always, Some(job)) => failures.failed(Operation::Enrol, &always_locked(job)),
            (LocksOfOthers::None, _) => failures.succeeded(Operation::Enrol),
            (LocksOfOthers::Now | LocksOfOthers::Always, _) => {}
        }
    }

    /// Does what follows from the answers, and answers the jobs that somebody else has locked.
    fn on_enrolled(
        &mut self,
        group: Option<&Group>,
        jobs: Vec<Asked>,
        answers: Vec<Enrolled>,
        ctx: &mut Context<Self>,
    ) -> Vec<JobName> {
        let (mut locked, mut over) = (Vec::new(), Vec::new());
        let is_witness = matches!(group, Some(Group::Witness(_)));
        let host = self.parts.jobs.clone();
        let _held = host.placement.hold();
        let mut answered = jobs.into_iter().zip(answers);
        while let Some(((job, authority), answer)) = answered.next() {
            self.note_enrolled(&job, &answer);
            let Some(troubles) = self.still_fires(&job, authority, is_witness) else { continue };
            let name = &job.definition.name;
            if troubles.is_parked {
                self.on_trial_enrolled(name, &answer);
            }
            match AfterEnrolment::of(answer, authority, is_witness) {
                AfterEnrolment::GoesOn => {}
                AfterEnrolment::Resume { cursor, stored } => {
                    if troubles.is_refused
                        && let Some(entry) = self.jobs.get_mut(name)
                    {
                        entry.firing.enrolled();
                    }
                    over.extend(self.never_runs(name, cursor).map(|last| (name.clone(), last)));
                    job.send(Input::Resume { cursor, authority: Some(authority), stored });
                }
                AfterEnrolment::Locked => locked.push(name.clone()),
                AfterEnrolment::Refuse(declared) => {
                    let reason = job.definition.declares().refusal(&declared);
                    self.on_refused(&job, Refusal::Policy(reason), ctx);
                }
                AfterEnrolment::WaitForName(other, used) => {
                    let reason = waits_for(&other, used).into();
                    self.on_refused(&job, Refusal::Name(reason), ctx);
                }
                AfterEnrolment::TermIsOver(term) => {
                    self.parts.election.do_send(TermRefused(term));
                    let rest: Vec<_> = answered.map(|(asked, _)| asked).collect();
                    self.note_answered(group, &rest);
                    return locked;
                }
                AfterEnrolment::LeaveToLeader => self.leave_to_leader(name, ctx),
            }
        }
        warn_over(&over);
        locked
    }

    /// What an answer says of the suspects.
    fn note_enrolled(&mut self, job: &JobHandle, answer: &Enrolled) {
        let now = self.node().clock.elapsed();
        match answer {
            Enrolled::Done { .. } => self.suspects.took(now, &job.definition.name),
            _ => self.suspects.drop_suspect(&job.definition.name),
        }
    }

    /// The troubles of a job, if this node has that very one and fires it by the same authority. One that was
    /// added or changed since has its own answer. Whoever waits for this one has it, but for a witness.
    fn still_fires(
        &mut self,
        job: &Arc<JobHandle>,
        authority: Authority,
        is_witness: bool,
    ) -> Option<Troubles> {
        let node = self.node_state();
        let name = &job.definition.name;
        // Of a million jobs each look at one more is felt: everything is done here at once.
        let entry = self.jobs.get_mut(name)?;
        if !is_witness && Arc::ptr_eq(&entry.job, job) {
            entry.firing.enrolment_answered();
            self.questions.go_on(name);
        }
        let same = |entry: &&mut Entry| {
            entry.job.generation == job.generation && Arc::ptr_eq(&entry.job.definition, &job.definition)
        };
        let entry = Some(entry).filter(same)?;
        if entry.authority(node) != Some(authority) {
            return None;
        }
        Some(Troubles { is_parked: entry.parked.is_some(), is_refused: entry.firing.refused().is_some() })
    }

    /// Others keep this node from firing a job: it asks now and then whether they still do.
    fn on_refused(&mut self, job: &Arc<JobHandle>, why: Refusal, ctx: &mut Context<Self>) {
        let name = &job.definition.name;
        job.send(Input::Suspend);
        let (asking, pause) = match &why {
            Refusal::Policy(_) => (&mut self.asking_refused, REFUSED_AGAIN),
            Refusal::Name(_) => (&mut self.asking_renamed, RENAMED_AGAIN),
        };
        if !std::mem::replace(asking, true) {
            let by_name = matches!(why, Refusal::Name(_));
            ctx.run_later(pause, move |actor, ctx| actor.ask_refused_again(by_name, ctx));
        }
        let Some(entry) = self.jobs.get_mut(name) else { return };
        if entry.firing.refuse(why)
            && let Some(reason) = entry.firing.refused().cloned()
        {
            self.troubled.insert(name.clone());
            self.publish(|| EventKind::JobConflicting { job: name.clone(), reason });
        }
    }

    /// Enrols the jobs that others keep this node from firing, for their names or for the policies of their keys.
    fn ask_refused_again(&mut self, by_name: bool, ctx: &mut Context<Self>) {
        let asking = if by_name { &mut self.asking_renamed } else { &mut self.asking_refused };
        *asking = false;
        let is_asked = |firing: &Firing| firing.refused().is_some() && firing.is_contradicted() != by_name;
        let refused = self.jobs.values().filter(|entry| is_asked(&entry.firing));
        let refused: Vec<_> = refused.map(|entry| entry.job.definition.name.clone()).collect();
        self.enrolling.extend(refused);
        self.enrol(ctx);
    }

    /// The store does not know a job (any more) that this node fires.
    pub(super) fn on_unknown_to_store(&mut self, job: JobName, ctx: &mut Context<Self>) {
        if self.jobs.contains_key(&job) {
            self.enrolling.push(job);
            self.enrol(ctx);
        }
    }
}
