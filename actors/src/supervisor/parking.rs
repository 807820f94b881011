//! What the supervisor does with jobs that the store refuses for their data.
//!
//! Such a job is parked on this node: it is not asked about any more, so that it stands in nobody's way, and
//! its ticks are skipped as such. It is tried again when its definition changes, when it is resumed, and by
//! itself about once a minute: it is enrolled, and if it was refused later than that it is *on trial* until
//! the store takes what it refused.
//!
//! [`Suspects`](crate::core::suspects::Suspects) decides who is to blame for what is refused, and
//! [`Trials`](crate::core::trials::Trials) when a parked job is tried again. Here the jobs are parked, tried
//! and told.
//!
//! | refused was | a minute later its enrolment is | and then |
//! |---|---|---|
//! | its enrolment | refused | it stays parked for another minute |
//! | | taken | it is parked no more |
//! | a claim, a move or an end | refused | it stays parked for another minute |
//! | | taken | its next tick or trigger is claimed, by itself; it is parked no more once what was refused is taken |
//! | any of them | not for this node to make any more | it is parked no more: another node fires it |

use std::{ops::Bound, sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::TimeDelta;

use super::{Entry, Phase, SupervisorActor};
use crate::{
    core::{
        job::Input,
        operation::Operation,
        policy::Fires,
        suspects::Group,
        text::{PARKED_REASON_BYTES_MAX, bounded},
    },
    event::EventKind,
    job::{JobHandle, RefusedStep},
    name::JobName,
    port::{Authority, Enrolled},
};

/// The next of those that may be enrolled are to be.
#[derive(Message)]
#[rtype(result = "()")]
struct EnrolNext;

/// A job is parked.
pub(super) struct Parked {
    /// What the store says.
    pub(super) reason: Arc<str>,
    step: RefusedStep,
    /// It is being enrolled, or was, to see whether the store takes it.
    pub(super) is_on_trial: bool,
    /// When it is looked at next.
    look_at: Duration,
}

impl Parked {
    /// It is enrolled, and its next claim shows whether it stays parked.
    pub(super) fn is_tried_by_claims(&self) -> bool {
        self.is_on_trial && self.step != RefusedStep::Enrolment
    }
}

impl SupervisorActor {
    /// Jobs that are to be enrolled by themselves, if it is time for some.
    pub(super) fn next_suspects(&mut self, now: Duration) -> Option<Group> {
        self.collect_trials(now);
        let witness = if self.suspects.wants_witness(now) { self.find_witness() } else { None };
        let group = self.suspects.take(now, witness).or_else(|| self.trials.take(now).map(Group::Trial));
        if let Some(Group::Witness(name)) = &group {
            self.last_witness = Some(name.clone());
        }
        group
    }

    /// Has those be tried whose time has come. They are looked at a minute later again, whatever becomes of
    /// it.
    fn collect_trials(&mut self, now: Duration) {
        let mut tried = Vec::new();
        while let Some((at, name)) = self.trials.next_due(now) {
            let Some(entry) = self.jobs.get(&name) else { continue };
            // One that was parked again since has a time of its own.
            let Some(parked) = entry.parked.as_ref().filter(|parked| parked.look_at == at) else { continue };
            let may_fire = self.firing_authority(entry).is_some();
            let may_know =
                self.connected && entry.firing.broken().is_none() && matches!(self.phase, Phase::Running);
            if !may_fire && may_know {
                self.unpark(&name);
                continue;
            }
            if may_fire && !parked.is_on_trial {
                tried.push(name.clone());
            }
            self.look_again_later(&name, now);
        }
        for name in &tried {
            if let Some(parked) = self.parked(name) {
                parked.is_on_trial = true;
            }
        }
        self.trials.add(now, tried);
    }

    fn parked(&mut self, name: &JobName) -> Option<&mut Parked> {
        self.jobs.get_mut(name)?.parked.as_deref_mut()
    }

    fn look_again_later(&mut self, name: &JobName, now: Duration) {
        let look_at = self.trials.wait(now, name.clone());
        if let Some(parked) = self.parked(name) {
            parked.look_at = look_at;
        }
    }

    /// The enrolment of a parked job was not made: it is tried when it is looked at next.
    pub(super) fn end_trial(&mut self, name: &JobName) {
        if let Some(parked) = self.parked(name) {
            parked.is_on_trial = false;
        }
    }

    /// The store answered the enrolment of a job on trial.
    pub(super) fn on_trial_enrolled(&mut self, name: &JobName, answer: &Enrolled) {
        let Some(entry) = self.jobs.get(name) else { return };
        let Some(step) = entry.parked.as_ref().map(|parked| parked.step) else { return };
        match (answer, step) {
            (Enrolled::Done { .. }, RefusedStep::Claim | RefusedStep::Advance | RefusedStep::End) => {
                entry.job.on_trial.set(Some(step));
                // What is due from now on is not skipped: it waits for the answer.
                entry.job.send(Input::Suspend);
            }
            // The store took it, or said why not: it is not its data.
            (Enrolled::Done { .. } | Enrolled::Conflict { .. } | Enrolled::OtherName { .. }, _) => {
                self.unpark(name);
            }
            (Enrolled::Locked | Enrolled::HasLeader | Enrolled::Deposed { .. }, _) => self.end_trial(name),
        }
    }

    /// One after the other: what is wrong with one of them is wrong with no other one.
    fn find_witness(&self) -> Option<JobName> {
        let may_witness = |(name, entry): &(&JobName, &Entry)| {
            self.authority(entry).is_some()
                && !entry.firing.awaits_enrolment()
                && !self.keys.is_retracting(&entry.job.definition.key)
                && entry.firing.refused().is_none()
                && entry.parked.is_none()
                && !self.suspects.is_alone(name)
        };
        let after = self.last_witness.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.jobs.range::<JobName, _>((after, Bound::Unbounded)).chain(&self.jobs);
        rest.find(may_witness).map(|(name, _)| name.clone())
    }

    /// The store refused the enrolment of these jobs for its data, or of one of them: of a page, unless they
    /// are a group that was enrolled by itself.
    pub(super) fn suspect(
        &mut self,
        group: Option<&Group>,
        jobs: &[(Arc<JobHandle>, Authority)],
        reason: &str,
        ctx: &mut Context<Self>,
    ) {
        let now = self.node().clock.elapsed();
        let names = jobs.iter().map(|(job, _)| job.definition.name.clone()).collect();
        let blamed = match group {
            // Its enrolment stands.
            Some(Group::Witness(_)) => return,
            Some(Group::Part(_) | Group::Alone(_)) => self.suspects.refused(now, names),
            Some(Group::Trial(_)) => self.trials.refused(now, names),
            None => self.suspects.refused_page(now, names),
        };
        if blamed.is_some()
            && let [(job, _)] = jobs
        {
            self.node().failures.dropped(Operation::Enrol);
            let reason = bounded(reason, PARKED_REASON_BYTES_MAX).into();
            self.park(job, reason, RefusedStep::Enrolment, ctx);
        }
    }

    /// Enrols the next group of suspects, or of parked jobs, when it is time.
    pub(super) fn enrol_suspects_later(&mut self, ctx: &mut Context<Self>) {
        let wake_at = self.suspects.wake_at().into_iter().chain(self.trials.wake_at()).min();
        let Some(wake_at) = wake_at else { return };
        if let Some((at, timer)) = self.next_group {
            if at <= wake_at {
                return;
            }
            ctx.cancel_future(timer);
        }
        let timer = ctx.notify_later(EnrolNext, wake_at.saturating_sub(self.node().clock.elapsed()));
        self.next_group = Some((wake_at, timer));
    }

    /// The store refuses something of a job for its data, alone.
    pub(super) fn park(
        &mut self,
        job: &Arc<JobHandle>,
        reason: Arc<str>,
        step: RefusedStep,
        ctx: &mut Context<Self>,
    ) {
        let name = &job.definition.name;
        let now = self.node().clock.elapsed();
        let Some(entry) = self.jobs.get_mut(name) else { return };
        // One that was added or changed since has its own answer.
        if !Arc::ptr_eq(&entry.job.definition, &job.definition) {
            return;
        }
        let was_parked = entry.parked.as_ref().map(|parked| parked.is_on_trial);
        if was_parked == Some(false) {
            return;
        }
        let look_at = self.trials.wait(now, name.clone());
        // What was refused later shows more: its enrolment may be taken again before that is.
        let step = match (&entry.parked, step) {
            (Some(parked), RefusedStep::Enrolment) => parked.step,
            _ => step,
        };
        let was_enrolled = was_parked.is_none() || step != RefusedStep::Enrolment;
        let parked = Parked { reason: reason.clone(), step, is_on_trial: false, look_at };
        entry.parked = Some(Box::new(parked));
        entry.job.on_trial.set(None);
        entry.firing.parked();
        let fires = entry.firing.fires();
        if was_parked.is_none() {
            self.troubled.insert(name.clone());
            self.publish(|| EventKind::JobParked { job: name.clone(), reason });
        }
        self.skip_parked(name);
        if fires != Fires::Local && was_enrolled {
            self.retract(job.definition.noted_under(), ctx);
        }
        self.enrol_suspects_later(ctx);
    }

    /// Has a parked job skip its ticks, if this node would fire it otherwise. A job that the leader does not
    /// hold may be parked on many followers: none of them speaks for the others.
    pub(super) fn skip_parked(&self, name: &JobName) {
        let Some(entry) = self.jobs.get(name).filter(|entry| is_shut(entry)) else { return };
        let (since, authority) = match self.firing_authority(entry) {
            Some(authority @ Authority::Term(_)) => (self.term_since, authority),
            Some(authority @ Authority::Any) => (self.connected_since, authority),
            Some(Authority::Leaderless) | None => return entry.job.send(Input::Suspend),
        };
        let held = self.node().clock.elapsed().saturating_sub(since.max(entry.known_since));
        let held = TimeDelta::from_std(held).unwrap_or(TimeDelta::MAX);
        let now = self.node().now_in_store().wall;
        let since = now.checked_sub_signed(held).unwrap_or(now);
        entry.job.send(Input::Park { since, authority });
    }

    /// This node fires jobs from now on: of those that are parked it skips the ticks.
    pub(super) fn park_again(&self, fires: Fires) {
        let parked = |entry: &&Entry| is_shut(entry) && entry.firing.fires() == fires;
        for entry in self.jobs.values().filter(parked) {
            self.skip_parked(&entry.job.definition.name);
        }
    }

    /// Whether the job was parked: it is tried again once it is enrolled.
    pub(super) fn unpark(&mut self, name: &JobName) -> bool {
        let Some(entry) = self.jobs.get_mut(name) else { return false };
        if entry.parked.take().is_none() {
            return false;
        }
        entry.job.on_trial.set(None);
        // What is due from now on is not skipped: it waits for the answer.
        entry.job.send(Input::Suspend);
        self.publish(|| EventKind::JobUnparked { job: name.clone() });
        true
    }
}

impl SupervisorActor {
    /// The store took of a job on trial what it had refused.
    pub(super) fn on_taken(&mut self, job: &Arc<JobHandle>) {
        let name = &job.definition.name;
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| entry.job.instance == job.instance) else {
            return;
        };
        // It may have been refused again since.
        if entry.parked.take_if(|parked| parked.is_tried_by_claims()).is_some() {
            entry.job.on_trial.set(None);
            self.publish(|| EventKind::JobUnparked { job: name.clone() });
        }
    }
}

/// It is parked, and what comes due is not claimed.
fn is_shut(entry: &Entry) -> bool {
    entry.parked.as_ref().is_some_and(|parked| !parked.is_tried_by_claims())
}

impl Handler<EnrolNext> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: EnrolNext, ctx: &mut Self::Context) {
        self.next_group = None;
        self.enrol(ctx);
    }
}
