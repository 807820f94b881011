//! What the supervisor does when this node starts or stops to lead.

use std::{ops::Bound, sync::Arc, time::Duration};

use actix::prelude::*;

use super::{Entry, Phase, SupervisorActor, adding::inquiry, keys::refusal, outlook::warn_over};
use crate::{
    core::{
        job::Input,
        operation::Operation,
        policy::{Fires, OnLost},
        suspects::Group,
    },
    definition::Definition,
    election::{SessionChanged, StandAside, TermRefused},
    event::{EventKind, Outcome, StepDownReason},
    job::Letter,
    lock::{
        AllEnrolled, AskDebts, BATCH_MAX, CloseLostRuns, EnrolJobs, InquireJobs, InquiryPurpose,
        always_locked, publish_lost,
    },
    message::{PAGE_MAX, Resign},
    name::{JobName, RunId, Term},
    node::JobRef,
    port::{Authority, ClosedRuns, Debt, Enrolled, Enrolment, LockError, LostRun, Standing},
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

/// How often the leader looks for runs of dead sessions.
const LOST_RUNS_EVERY: Duration = Duration::from_secs(60);

/// How long after it has connected a node asks so first: a leader that starts together with it should be done.
const INQUIRE_FIRST: Duration = Duration::from_secs(2);

/// The pause between two pages of such questions.
const INQUIRE_NEXT: Duration = Duration::from_millis(250);

/// The most jobs of one such question: more than in other pages, since it changes nothing, and few questions are asked by nodes that
/// have nothing to do.
const INQUIRE_PAGE: usize = 2 * PAGE_MAX;

/// How often a node that does not lead asks whether the leader holds its jobs.
const INQUIRE_EVERY: Duration = Duration::from_secs(30);

/// How often a job that was refused because of its key is enrolled again, and the pause before a retraction that failed is tried again.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_secs(30);

/// How often a node that fires jobs which retry what is lost asks what is owed: it may not have been told.
const DEBTS_EVERY: Duration = Duration::from_secs(60);

/// The pause between two pages of such questions.
const DEBTS_NEXT: Duration = Duration::from_millis(250);

/// Jobs owe lost runs another attempt.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DebtsFound(pub(crate) Vec<Debt>);

/// Runs were lost.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RunsLost(pub(crate) Vec<LostRun>);

/// The leader schedules a job that this node fired, because it did not hold it before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TakenByLeader(pub(crate) JobName);

/// The store does not know a job (any more) that this node fires.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct UnknownToStore(pub(crate) JobName);

/// What the lock actor says about its session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum SessionNews {
    Opened,
    Lost,
}

/// What the election actor says: the term in which this node leads from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeadershipChanged(pub(crate) Option<Term>);

/// The election actor died while this node led, in this term.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ElectionDied(pub(crate) Term);

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
            if let Some(term) = self.term.filter(|_| self.pages_locked == 0) {
                self.node().lock().do_send(AllEnrolled(term));
            }
            return self.enrol_suspects_later(ctx);
        }
        let retries = page.iter().any(|enrolment| enrolment.retry_lost);
        if retries && !self.parts.single_node && !std::mem::replace(&mut self.asking_debts, true) {
            self.ask_debts_later(DEBTS_EVERY, None, ctx);
        }
        self.enrolling = true;
        // It is enrolled already, and goes on as it is.
        let is_witness = matches!(group, Some(Group::Witness(_)));
        let enrolled = self.node().lock().send(EnrolJobs(page));
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

    /// The next jobs to be enrolled, of a group or of all.
    fn next_page(&mut self, group: Option<&Group>) -> (Vec<Enrolment>, Vec<(Arc<JobRef>, Authority)>) {
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
                held_for: elapsed.saturating_sub(entry.held_since),
                asked_at: Some(asked_at),
                retry_lost: policies.on_lost == OnLost::Retry,
                from_completion: schedule.counts_from_completion(),
                ..Enrolment::new(name, *identity, authority)
            });
            let job = entry.job.clone();
            if authority.term().is_none()
                && let Some(entry) = self.jobs.get_mut(&job.definition.name)
            {
                entry.declares = true;
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
        jobs: Vec<(Arc<JobRef>, Authority)>,
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
                (Enrolled::Done { cursor, kept }, _) => {
                    if let Some(entry) = self.jobs.get_mut(name) {
                        entry.refused = None;
                    }
                    over.extend(self.never_runs(name, cursor).map(|last| (name.clone(), last)));
                    Letter::send(&job, Input::Resume { cursor, authority: Some(authority), kept });
                }
                (Enrolled::Locked, _) => locked.push(name.clone()),
                (Enrolled::Conflict { declared }, _) => self.on_conflict(&job, &declared, ctx),
                (Enrolled::Deposed { .. } | Enrolled::Led, Authority::Term(term)) => {
                    self.parts.election.do_send(TermRefused(term));
                    return locked;
                }
                (Enrolled::Deposed { .. } | Enrolled::Led, Authority::Any | Authority::Unled) => {
                    self.leave_to_leader(name, ctx);
                }
            }
        }
        warn_over(&over);
        locked
    }

    /// The leader schedules the job, and declares the policy of its key.
    fn leave_to_leader(&mut self, name: &JobName, ctx: &mut Context<Self>) {
        let Some(entry) = self.jobs.get_mut(name) else { return };
        entry.refused = None;
        entry.unled = false;
        if std::mem::take(&mut entry.declares) {
            let key = entry.job.definition.key.clone();
            self.retract([key], ctx);
        }
    }

    /// Others declare another policy for the job's key: this node does not fire it until they do not.
    fn on_conflict(&mut self, job: &Arc<JobRef>, declared: &str, ctx: &mut Context<Self>) {
        let reason = refusal(&job.definition, declared);
        let name = &job.definition.name;
        Letter::send(job, Input::Suspend);
        let Some(entry) = self.jobs.get_mut(name) else { return };
        if entry.refused.replace(reason.clone()).is_none_or(|former| former != reason) {
            self.troubled.insert(name.clone());
            self.publish(|| EventKind::JobRefused { job: name.clone(), reason });
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

    /// Enrols the jobs that any node may fire, and looks for those that the leader does not hold.
    fn on_connected(&mut self, ctx: &mut Context<Self>) {
        self.connected = true;
        self.connected_since = self.node().clock.elapsed();
        self.park_again(Fires::AnyNode);
        let any = self.jobs.values().filter(|entry| entry.job.definition.policies.fires == Fires::AnyNode);
        let any: Vec<_> = any.map(|entry| entry.job.definition.name.clone()).collect();
        self.to_enrol.extend(any);
        self.enrol(ctx);
        self.hold_later(ctx);
        if !std::mem::replace(&mut self.inquiring, true) {
            ctx.run_later(INQUIRE_FIRST, Self::inquire_and_go_on);
        } else if self.node().failures.reason(Operation::Inquire).is_some() {
            // What failed with the last session would be said to fail until the next question, half a minute later.
            ctx.run_later(INQUIRE_FIRST, |actor, ctx| actor.inquire(ctx));
        }
    }

    fn on_disconnected(&mut self) {
        self.connected = false;
        self.suspects.forget_refusals();
        self.keys.on_disconnected();
        for entry in self.jobs.values_mut() {
            entry.refused = None;
            entry.declares = false;
            let fires = entry.job.definition.policies.fires;
            if fires == Fires::AnyNode || std::mem::take(&mut entry.unled) {
                Letter::send(&entry.job, Input::Suspend);
            }
        }
    }

    /// Asks, for one page of jobs after the other, whether the leader holds them, for as long as the engine runs.
    fn inquire_and_go_on(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.inquire(ctx);
        match self.inquired.is_some() {
            true => ctx.run_later(INQUIRE_NEXT, Self::inquire_and_go_on),
            false => self.look_again(INQUIRE_EVERY, ctx, Self::inquire_and_go_on),
        };
    }

    fn inquire(&mut self, ctx: &mut Context<Self>) {
        if self.term.is_some() || !self.connected || self.parts.single_node {
            return;
        }
        let after = match &self.inquired {
            Some(last) => Bound::Excluded(last.clone()),
            None => Bound::Unbounded,
        };
        let asked = |entry: &&Entry| {
            entry.job.definition.policies.fires == Fires::Leader && entry.broken.is_none() && !entry.unled
        };
        let rest = self.jobs.range((after, Bound::Unbounded)).map(|(_, entry)| entry);
        let page: Vec<_> = rest.filter(asked).take(INQUIRE_PAGE).map(|entry| entry.job.clone()).collect();
        let last = page.last().map(|job| job.definition.name.clone());
        self.inquired = last.filter(|_| page.len() == INQUIRE_PAGE);
        if !page.is_empty() {
            self.find_unled(page, ctx);
        }
    }

    /// Fires at once those of the jobs, which are new to this node, that the leader does not hold.
    pub(super) fn find_unled_among(&mut self, jobs: &[Arc<JobRef>], ctx: &mut Context<Self>) {
        let led = jobs.iter().filter(|job| job.definition.policies.fires == Fires::Leader);
        let led: Vec<_> = led.cloned().collect();
        if self.term.is_none() && self.connected && !led.is_empty() {
            self.find_unled(led, ctx);
        }
    }

    /// Fires those of the jobs that the leader does not hold.
    fn find_unled(&mut self, jobs: Vec<Arc<JobRef>>, ctx: &mut Context<Self>) {
        let asked = jobs.iter().map(|job| inquiry(job)).collect();
        let asked = InquireJobs { jobs: asked, purpose: InquiryPurpose::Firing };
        let standings = self.node().lock().send(asked);
        ctx.spawn(standings.into_actor(self).map(move |standings, actor, ctx| {
            // No answer: the next inquiry asks again.
            let Ok(Ok(standings)) = standings else { return };
            if actor.term.is_some() || !actor.connected {
                return;
            }
            for (job, standing) in jobs.iter().zip(standings) {
                let name = &job.definition.name;
                if standing == Standing::NotHeld
                    && let Some(entry) = actor.jobs.get_mut(name)
                    && entry.job.generation == job.generation
                {
                    entry.unled = true;
                    actor.to_enrol.push_back(name.clone());
                }
            }
            actor.enrol(ctx);
        }));
    }

    /// Closes the runs of dead sessions, page by page, and looks again for as long as the term lasts: sessions die later, too.
    fn close_lost_runs(&mut self, ctx: &mut Context<Self>) {
        let term = self.term;
        let lost = self.node().lock().send(CloseLostRuns);
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
}

impl SupervisorActor {
    /// Counts runs that were closed because their sessions are dead. They are owed another attempt, if this node fires their
    /// jobs.
    fn on_runs_lost(&self, lost: &[LostRun]) {
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
    fn on_debts(&self, debts: impl IntoIterator<Item = Debt>) {
        for Debt { job, owed } in debts {
            let entry = self.jobs.get(&job);
            if let Some(entry) = entry.filter(|entry| self.authority(entry).is_some()) {
                Letter::send(&entry.job, Input::Owed(owed));
            }
        }
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
            let debts = actor.node().lock().send(AskDebts(after));
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

impl Handler<UnknownToStore> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, UnknownToStore(job): UnknownToStore, ctx: &mut Self::Context) {
        if self.jobs.contains_key(&job) {
            self.to_enrol.push_back(job);
            self.enrol(ctx);
        }
    }
}

impl Handler<TakenByLeader> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, TakenByLeader(job): TakenByLeader, ctx: &mut Self::Context) {
        self.leave_to_leader(&job, ctx);
    }
}

impl Handler<DebtsFound> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, DebtsFound(debts): DebtsFound, _: &mut Self::Context) {
        self.on_debts(debts);
    }
}

impl Handler<RunsLost> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, RunsLost(lost): RunsLost, _: &mut Self::Context) {
        self.on_runs_lost(&lost);
    }
}

impl Handler<SessionNews> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, news: SessionNews, ctx: &mut Self::Context) {
        match news {
            SessionNews::Opened if matches!(self.phase, Phase::Running) => {
                self.on_connected(ctx);
                self.compare_zone_data(ctx);
            }
            SessionNews::Opened => {}
            SessionNews::Lost => self.on_disconnected(),
        }
        self.parts.election.do_send(match news {
            SessionNews::Opened => SessionChanged::Opened,
            SessionNews::Lost => SessionChanged::Lost,
        });
    }
}

impl Handler<ElectionDied> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ElectionDied(term): ElectionDied, ctx: &mut Self::Context) {
        let node = self.node();
        node.leader.heard(node.id, node.clock.elapsed());
        node.meters.leader.set(0);
        node.meters.leadership_changes.increment(1);
        node.publisher.publish(|| EventKind::LeadershipLost { term, why: StepDownReason::Died });
        self.handle(LeadershipChanged(None), ctx);
    }
}

/// Kills the election actor, for a rig.
#[cfg(any(test, feature = "testkit"))]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KillElection;

#[cfg(any(test, feature = "testkit"))]
impl Handler<KillElection> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: KillElection, _: &mut Self::Context) {
        self.parts.election.do_send(crate::election::Die);
    }
}

impl Handler<Resign> for SupervisorActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, _: Resign, _: &mut Self::Context) -> Self::Result {
        if !matches!(self.phase, Phase::Running) {
            return Box::pin(async { false });
        }
        // The change reaches this actor before the answer reaches whoever asks.
        let led = self.parts.election.send(StandAside);
        Box::pin(async move { led.await.unwrap_or(false) })
    }
}

impl Handler<LeadershipChanged> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, LeadershipChanged(term): LeadershipChanged, ctx: &mut Self::Context) {
        let led = self.term.is_some();
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.term = term;
        // A leader does not inquire, and who stops to lead neither enrols what it led nor closes what others lost.
        self.node().failures.dropped(Operation::Inquire);
        self.node().failures.dropped(Operation::Enrol);
        self.node().failures.dropped(Operation::CloseLost);
        // What it claimed and moved as the leader is the next one's; what it still asks fails anew.
        self.node().failures.dropped(Operation::Claim);
        self.node().failures.dropped(Operation::Advance);
        self.enrolments_locked = 0;
        let by_leader =
            |entry: &&Entry| entry.job.definition.policies.fires == Fires::Leader && entry.broken.is_none();
        if led {
            let ours = self.jobs.values_mut().filter(|entry| by_leader(&&**entry));
            ours.for_each(|entry| {
                entry.refused = None;
                Letter::send(&entry.job, Input::Suspend);
            });
        }
        if term.is_some() {
            self.term_since = self.node().clock.elapsed();
            self.park_again(Fires::Leader);
            self.jobs.values_mut().for_each(|entry| entry.unled = false);
            let ours = self.jobs.values().filter(by_leader);
            self.to_enrol.extend(ours.map(|entry| entry.job.definition.name.clone()));
            self.close_lost_runs(ctx);
            self.forget_later(ctx);
            self.enrol(ctx);
        } else if led {
            // What it fired before it led, it does not fire any more either.
            let let_go = |entry: &mut Entry| {
                let definition = &entry.job.definition;
                let lets_go = entry.declares && definition.policies.fires == Fires::Leader;
                entry.declares &= !lets_go;
                lets_go.then(|| definition.key.clone())
            };
            let keys: Vec<_> = self.jobs.values_mut().filter_map(let_go).collect();
            self.retract(keys, ctx);
        }
    }
}
