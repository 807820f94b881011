//! What the supervisor does with jobs that the store refuses for their data.
//!
//! Such a job is parked on this node: it is not asked about any more, so that it stands in nobody's way, and its ticks
//! are skipped as such. It is tried again when its definition changes, when it is resumed, and when the node is started
//! again.

use std::{ops::Bound, sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::TimeDelta;

use super::{Entry, SupervisorActor};
use crate::{
    core::{
        job::Input,
        operation::Operation,
        policy::Fires,
        suspects::Group,
        text::{TEXT_MAX, bounded},
    },
    event::EventKind,
    job::Letter,
    name::JobName,
    node::JobRef,
    port::Authority,
};

/// The store refuses something of a job for its data, alone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct JobRefusedForData {
    pub(crate) job: Arc<JobRef>,
    pub(crate) reason: Arc<str>,
}

/// The next of those that may be enrolled are to be.
#[derive(Message)]
#[rtype(result = "()")]
struct EnrolNext;

impl SupervisorActor {
    /// Jobs that are to be enrolled by themselves, if it is time for some.
    pub(super) fn next_suspects(&mut self, now: Duration) -> Option<Group> {
        let witness = if self.suspects.wants_witness(now) { self.find_witness() } else { None };
        let group = self.suspects.take(now, witness);
        if let Some(Group::Witness(name)) = &group {
            self.last_witness = Some(name.clone());
        }
        group
    }

    /// One after the other: what is wrong with one of them is wrong with no other one.
    fn find_witness(&self) -> Option<JobName> {
        let may_witness = |(name, entry): &(&JobName, &Entry)| {
            self.authority(entry).is_some() && entry.refused.is_none() && !self.suspects.is_alone(name)
        };
        let after = self.last_witness.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.jobs.range::<JobName, _>((after, Bound::Unbounded)).chain(&self.jobs);
        rest.find(may_witness).map(|(name, _)| name.clone())
    }

    /// The store refused the enrolment of these jobs for its data, or of one of them: of a page, unless they are a group
    /// that was enrolled by itself.
    pub(super) fn suspect(
        &mut self,
        group: Option<&Group>,
        jobs: &[(Arc<JobRef>, Authority)],
        reason: &str,
        ctx: &mut Context<Self>,
    ) {
        let now = self.node().clock.elapsed();
        let names = jobs.iter().map(|(job, _)| job.definition.name.clone()).collect();
        let blamed = match group {
            // Its enrolment stands.
            Some(Group::Witness(_)) => return,
            Some(Group::Part(_) | Group::Alone(_)) => self.suspects.refused(now, names),
            None => self.suspects.refused_page(now, names),
        };
        if blamed.is_some()
            && let [(job, _)] = jobs
        {
            self.node().failures.dropped(Operation::Enrol);
            self.park(job, bounded(reason, TEXT_MAX).into(), ctx);
        }
    }

    /// Enrols the next group of suspects when it is time.
    pub(super) fn enrol_suspects_later(&mut self, ctx: &mut Context<Self>) {
        if self.waking_for_suspects {
            return;
        }
        if let Some(at) = self.suspects.wake_at() {
            self.waking_for_suspects = true;
            ctx.notify_later(EnrolNext, at.saturating_sub(self.node().clock.elapsed()));
        }
    }

    fn park(&mut self, job: &Arc<JobRef>, reason: Arc<str>, ctx: &mut Context<Self>) {
        let name = &job.definition.name;
        let Some(entry) = self.jobs.get_mut(name) else { return };
        // One that was added or changed since has its own answer.
        if entry.parked.is_some() || !Arc::ptr_eq(&entry.job.definition, &job.definition) {
            return;
        }
        entry.parked = Some(reason.clone());
        entry.refused = None;
        entry.declares = false;
        let fires = entry.fires;
        self.troubled.insert(name.clone());
        self.publish(|| EventKind::JobParked { job: name.clone(), reason });
        self.skip_parked(name);
        if fires != Fires::Local {
            self.retract([job.definition.key.clone()], ctx);
        }
    }

    /// Has a parked job skip its ticks, if this node would fire it otherwise. A job that the leader does not hold may
    /// be parked on many followers: none of them speaks for the others.
    pub(super) fn skip_parked(&self, name: &JobName) {
        let Some(entry) = self.jobs.get(name).filter(|entry| entry.parked.is_some()) else { return };
        let (since, authority) = match self.right(entry) {
            Some(authority @ Authority::Term(_)) => (self.term_since, authority),
            Some(authority @ Authority::Any) => (self.connected_since, authority),
            Some(Authority::Unled) | None => return Letter::send(&entry.job, Input::Suspend),
        };
        let held = self.node().clock.elapsed().saturating_sub(since.max(entry.held_since));
        let held = TimeDelta::from_std(held).unwrap_or(TimeDelta::MAX);
        let now = self.node().now_in_store().wall;
        let since = now.checked_sub_signed(held).unwrap_or(now);
        Letter::send(&entry.job, Input::Park { since, authority });
    }

    /// This node fires jobs from now on: of those that are parked it skips the ticks.
    pub(super) fn park_again(&self, fires: Fires) {
        let parked = |entry: &&Entry| entry.parked.is_some() && entry.fires == fires;
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
        // What is due from now on is not skipped: it waits for the answer.
        Letter::send(&entry.job, Input::Suspend);
        self.publish(|| EventKind::JobUnparked { job: name.clone() });
        true
    }
}

impl Handler<JobRefusedForData> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobRefusedForData { job, reason }: JobRefusedForData, ctx: &mut Self::Context) {
        self.park(&job, reason, ctx);
    }
}

impl Handler<EnrolNext> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: EnrolNext, ctx: &mut Self::Context) {
        self.waking_for_suspects = false;
        self.enrol(ctx);
    }
}
