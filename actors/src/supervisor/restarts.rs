//! What the supervisor does when a job actor dies, when a job breaks, and with what a dead actor did not
//! handle.
//!
//! [`Restarts`] decides whether another actor is started, and [`Fate`] what becomes of an undelivered input.
//! Here the actor is started with what the dead one left behind, and each message goes where it belongs.

use std::sync::Arc;

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::{Entry, Phase, SupervisorActor};
use crate::{
    core::{
        contract::Breach,
        job::Input,
        restarts::{AfterDeath, RESTART_PERIOD, Restarts},
        undelivered::Fate,
    },
    event::EventKind,
    event_log::Level,
    job::{Beginning, JobHandle, JobMessage, JobSnapshot, breach_of},
    message::Selector,
    name::JobName,
    note::Attribution,
};

/// The deaths of a job's actor.
#[derive(Default)]
pub(super) struct Deaths {
    restarts: Restarts,
    /// Where the job stood when its actor died last, or its schedule broke its contract.
    cursor: DateTime<Utc>,
}

impl SupervisorActor {
    pub(super) fn on_died(
        &mut self,
        job: &Arc<JobHandle>,
        mut snapshot: Box<JobSnapshot>,
        ctx: &mut Context<Self>,
    ) {
        let name = &job.definition.name;
        let now = self.node().clock.elapsed();
        self.on_left(name, job.generation, ctx);
        if let Some(removed) = self.retiring.remove(&(name.clone(), job.generation)) {
            let line = format_args!("the actor of {name}, which is removed, died and was started again");
            self.node().publisher.log("JobRestarted", Level::Error, name, &line);
            // It may have died before it heard of it.
            snapshot.retiring = true;
            let successor =
                self.start_actor(removed.definition.clone(), Some(job), Beginning::Left(snapshot));
            self.retiring.insert((name.clone(), successor.generation), successor);
            return;
        }
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| entry.job.generation == job.generation)
        else {
            return;
        };
        let cursor = snapshot.machine.cursor();
        let deaths = entry.deaths.get_or_insert_default();
        deaths.cursor = cursor;
        let after_death = deaths.restarts.died(now);
        let was_broken = entry.firing.broken().is_some();
        let definition = entry.job.definition.clone();
        let successor = self.start_actor(definition, Some(job), Beginning::Left(snapshot));
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.job = successor.clone();
        }
        if was_broken {
            // Somebody asked it for fire times. It is started for the run in progress, and dies again only if
            // asked again.
            return;
        }
        let restarts = match after_death {
            AfterDeath::Restart(restarts) => restarts,
            AfterDeath::GiveUp(deaths) => {
                // Its actor is not resumed, so it does not ask the schedule; it is there for the run in
                // progress.
                let reason = format!(
                    "its actor died {deaths} times within {RESTART_PERIOD:?}; see the log for the panic, then update the \
                     job or resume it"
                );
                return self.break_job(name, reason.into(), ctx);
            }
        };
        self.node().meters.job_actor_restarts.increment(1);
        self.publish(|| EventKind::JobRestarted { job: name.clone(), restarts });
        if matches!(self.phase, Phase::Running) {
            self.resume(&successor, cursor);
            self.skip_parked(name);
            self.enrol(ctx);
        }
    }

    pub(super) fn on_schedule_broken(
        &mut self,
        job: &Arc<JobHandle>,
        cursor: DateTime<Utc>,
        breach: Breach,
        ctx: &mut Context<Self>,
    ) {
        let name = &job.definition.name;
        // One that was changed since may be mended.
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| {
            entry.job.instance == job.instance && Arc::ptr_eq(&entry.job.definition, &job.definition)
        }) else {
            return;
        };
        if entry.firing.broken().is_none() {
            entry.deaths.get_or_insert_default().cursor = cursor;
            self.break_job(name, breach_of(breach), ctx);
        }
    }

    /// The job does not fire until it is resumed or updated.
    fn break_job(&mut self, name: &JobName, reason: Arc<str>, ctx: &mut Context<Self>) {
        let Some(entry) = self.jobs.get_mut(name) else { return };
        let declared_key_policy = entry.firing.broke(reason.clone());
        let noted = entry.job.definition.noted_under();
        self.troubled.insert(name.clone());
        self.publish(|| EventKind::JobBroken { job: name.clone(), reason });
        if declared_key_policy || self.term.is_some() {
            self.retract(noted, ctx);
        }
    }

    /// Lets a broken or parked job fire again, from where it stood and with a new budget of restarts. Answers
    /// whether it was broken or parked.
    ///
    /// Its actor is there: whenever it died, it was started again with its snapshot.
    pub(super) fn revive(&mut self, name: &JobName, ctx: &mut Context<Self>) -> bool {
        let parked = self.unpark(name);
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| entry.firing.broken().is_some() || parked)
        else {
            return false;
        };
        let broken = entry.firing.mended();
        let Deaths { cursor, .. } = *entry.deaths.take().unwrap_or_default();
        let job = entry.job.clone();
        let cursor = if broken { cursor } else { self.node().clock.now() };
        if broken {
            self.publish(|| EventKind::JobRevived { job: name.clone() });
        }
        self.resume(&job, cursor);
        self.enrol(ctx);
        true
    }

    /// Hands a message on to the actor that took the job over; if there is none, does what it was about.
    pub(super) fn on_undelivered(&self, job: &Arc<JobHandle>, message: JobMessage) {
        let takes_over =
            |other: &&Arc<JobHandle>| other.generation > job.generation && other.instance == job.instance;
        let current = self.jobs.get(&job.definition.name).map(|entry| &entry.job);
        let removed = || self.removed(&job.definition.name).find(takes_over);
        let successor = current.filter(takes_over).or_else(removed);
        let input = match (message, successor) {
            (JobMessage::Input(input), _) => input,
            // Whatever session granted it: what it started with, it knows.
            (JobMessage::Granted { run, verdict, .. }, None) => Input::Claimed { run, verdict },
            // It was started with the newest definition, and knows whether it was removed.
            (JobMessage::Redefine(_) | JobMessage::Retire { .. }, _) => return,
            (
                message @ (JobMessage::Granted { .. }
                | JobMessage::Drain { .. }
                | JobMessage::Trigger { .. }
                | JobMessage::Backfill { .. }
                | JobMessage::FireTimesIn { .. }
                | JobMessage::CancelAll { .. }
                | JobMessage::CancelRun { .. }
                | JobMessage::PauseLocal { .. }
                | JobMessage::SkipMissed { .. }
                | JobMessage::Upcoming { .. }
                | JobMessage::Explain { .. }
                | JobMessage::CountFireTimes { .. }
                | JobMessage::Status { .. }
                | JobMessage::Open(_)),
                Some(successor),
            ) => return successor.post(message),
            // Whoever asked something is told so when the question is dropped.
            (
                JobMessage::Drain { .. }
                | JobMessage::Trigger { .. }
                | JobMessage::Backfill { .. }
                | JobMessage::FireTimesIn { .. }
                | JobMessage::CancelAll { .. }
                | JobMessage::CancelRun { .. }
                | JobMessage::PauseLocal { .. }
                | JobMessage::SkipMissed { .. }
                | JobMessage::Upcoming { .. }
                | JobMessage::Explain { .. }
                | JobMessage::CountFireTimes { .. }
                | JobMessage::Status { .. }
                | JobMessage::Open(_),
                None,
            ) => return,
        };
        match Fate::of(input, successor.is_some()) {
            Fate::HandOn(input) => {
                if let Some(successor) = successor {
                    successor.send(input);
                }
            }
            Fate::Conclude { ended, had_body } => {
                if had_body {
                    self.node().meters.runs_in_progress.decrement(1);
                    job.release_permit();
                }
                job.conclude_undelivered(ended);
            }
            Fate::ReleasePermit => job.release_permit(),
            Fate::Nothing => {}
        }
    }

    /// Removes a job that is done, unless it was changed since: then it may have more to do, and says so
    /// itself.
    pub(super) fn on_done(&mut self, job: &Arc<JobHandle>, ctx: &mut Context<Self>) {
        let same = |entry: &&Entry| {
            entry.job.instance == job.instance && Arc::ptr_eq(&entry.job.definition, &job.definition)
        };
        let name = &job.definition.name;
        if matches!(self.phase, Phase::Running) && self.jobs.get(name).filter(same).is_some() {
            if self.keeping.machine.is_held(name.as_str()) {
                return self.delete_done(name, ctx);
            }
            // It is there.
            let _ = self.remove(&Selector::from(name), &Attribution::default(), ctx);
        }
    }
}
