//! What the supervisor does when a job actor dies or stops, and when a job breaks.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::{Entry, Phase, Restarts, SupervisorActor};
use crate::{
    core::{
        contract::Breach,
        job::{End, Ended, Input, PermitAnswer, RunEnd},
    },
    event::{CancelReason, EventKind, Outcome},
    event_log::Level,
    job::{Content, Letter, Remains, breach_of},
    lock::{Ask, CompleteRun, Conclusion},
    message::Selector,
    name::{JobName, RunId},
    node::JobRef,
    port::Verdict,
};

/// A job actor that dies more often than this within [`RESTART_PERIOD`] is not started again.
pub const RESTARTS_MAX: u32 = 5;
/// The time within which the deaths of a job actor are counted.
pub const RESTART_PERIOD: Duration = Duration::from_secs(60);

/// A job actor died, and left this.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct JobDied {
    pub(crate) job: Arc<JobRef>,
    pub(crate) remains: Remains,
}

/// A job actor stopped as it was told to.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct JobRetired {
    pub(crate) job: Arc<JobRef>,
}

/// A job that was removed, or got another schedule, has accounted for the ticks before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct JobLeft {
    pub(crate) job: Arc<JobRef>,
}

/// A job is done, and is to be removed then.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct JobDone {
    pub(crate) job: Arc<JobRef>,
}

/// The schedule of a job broke its contract: its machine decides nothing any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ScheduleBroken {
    pub(crate) job: Arc<JobRef>,
    /// Everything up to here is decided.
    pub(crate) cursor: DateTime<Utc>,
    pub(crate) breach: Breach,
}

/// What a job actor did not live to handle. Its [`JobDied`] came before: a mailbox closes after its actor has stopped.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Undelivered {
    pub(crate) job: Arc<JobRef>,
    pub(crate) content: Content,
}

impl SupervisorActor {
    fn on_died(&mut self, job: &Arc<JobRef>, mut remains: Remains, ctx: &mut Context<Self>) {
        let name = &job.definition.name;
        let now = self.node().clock.elapsed();
        self.on_left(name, job.generation, ctx);
        if self.retiring.remove(&(name.clone(), job.generation)).is_some() {
            let line = format_args!("the actor of {name}, which is removed, died and was started again");
            self.node().publisher.log("JobRestarted", Level::Error, name, &line);
            // It may have died before it heard of it.
            remains.retiring = true;
            let successor = self.start_actor(job.definition.clone(), Some(job), move |_| remains);
            self.retiring.insert((name.clone(), successor.generation), successor);
            return;
        }
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| entry.job.generation == job.generation)
        else {
            return;
        };
        let cursor = remains.machine.cursor();
        let restarts = entry.restarts.get_or_insert_default();
        if now.saturating_sub(restarts.since) > RESTART_PERIOD {
            **restarts = Restarts { since: now, ..Restarts::default() };
        }
        restarts.count += 1;
        restarts.cursor = cursor;
        let restarts = restarts.count;
        let was_broken = entry.broken.is_some();
        let definition = entry.job.definition.clone();
        let successor = self.start_actor(definition, Some(job), move |_| remains);
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.job = successor.clone();
        }
        if was_broken {
            // Somebody asked it for fire times. It is started for the run in progress, and dies again only if asked again.
            return;
        }
        if restarts > RESTARTS_MAX {
            // Its actor is not resumed, so it does not ask the schedule; it is there for the run in progress.
            let reason = format!(
                "its actor died {restarts} times within {RESTART_PERIOD:?}; see the log for the panic, then update the job \
                 or resume it"
            );
            self.break_job(name, reason.into(), ctx);
            return;
        }
        self.node().meters.job_actor_restarts.increment(1);
        self.publish(|| EventKind::JobRestarted { job: name.clone(), restarts });
        if matches!(self.phase, Phase::Running) {
            self.resume(&successor, cursor);
            self.skip_parked(name);
            self.enrol(ctx);
        }
    }

    fn on_schedule_broken(&mut self, broken: &ScheduleBroken, ctx: &mut Context<Self>) {
        let ScheduleBroken { job, cursor, breach } = broken;
        let name = &job.definition.name;
        // One that was changed since may be mended.
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| {
            entry.job.lineage == job.lineage && Arc::ptr_eq(&entry.job.definition, &job.definition)
        }) else {
            return;
        };
        if entry.broken.is_none() {
            entry.restarts.get_or_insert_default().cursor = *cursor;
            self.break_job(name, breach_of(*breach), ctx);
        }
    }

    /// The job does not fire until it is resumed or updated.
    fn break_job(&mut self, name: &JobName, reason: Arc<str>, ctx: &mut Context<Self>) {
        let Some(entry) = self.jobs.get_mut(name) else { return };
        entry.broken = Some(reason.clone());
        let declares = std::mem::take(&mut entry.declares);
        let key = entry.job.definition.key.clone();
        self.troubled.insert(name.clone());
        self.publish(|| EventKind::JobBroken { job: name.clone(), reason });
        if declares || self.term.is_some() {
            self.retract([key], ctx);
        }
    }

    /// Lets a broken or parked job fire again, from where it stood and with a new budget of restarts. Answers whether it was broken or
    /// parked.
    ///
    /// Its actor is there: whenever it died, it was started again with its remains.
    pub(super) fn revive(&mut self, name: &JobName, ctx: &mut Context<Self>) -> bool {
        let parked = self.unpark(name);
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| entry.broken.is_some() || parked) else {
            return false;
        };
        let broken = entry.broken.take().is_some();
        let Restarts { cursor, .. } = *entry.restarts.take().unwrap_or_default();
        let job = entry.job.clone();
        let cursor = if broken { cursor } else { self.node().clock.now() };
        if broken {
            self.publish(|| EventKind::JobRevived { job: name.clone() });
        }
        self.resume(&job, cursor);
        self.enrol(ctx);
        true
    }

    /// Hands a letter on to the actor that took the job over; if there is none, settles it.
    fn on_undelivered(&mut self, job: &Arc<JobRef>, content: Content) {
        let incarnation =
            |other: &&Arc<JobRef>| other.generation > job.generation && other.lineage == job.lineage;
        let current = self.jobs.get(&job.definition.name).map(|entry| &entry.job);
        let removed = || self.removed(&job.definition.name).find(incarnation);
        let successor = current.filter(incarnation).or_else(removed);
        if let Some(successor) = successor {
            match content {
                // Whoever starts an actor again also resumes it.
                Content::Input(
                    Input::Resume { .. }
                    | Input::Park { .. }
                    | Input::Suspend
                    | Input::Leave { .. }
                    | Input::WakeUp
                    | Input::Trigger,
                )
                // It was started with the newest definition, and knows whether it was removed.
                | Content::Redefine(_)
                | Content::Retire { .. } => {}
                Content::Input(
                    Input::Claimed { .. }
                    | Input::ClaimRefused { .. }
                    | Input::Advanced(_)
                    | Input::RunEnded(_)
                    | Input::Anchored { .. }
                    | Input::LockLost { .. }
                    | Input::Owed(_)
                    | Input::Pause(_)
                    | Input::NewsMissed
                    | Input::Permit(_)
                    | Input::Cancel { .. }
                    | Input::Drain
                    | Input::Abort,
                )
                | Content::Granted { .. }
                | Content::Drain { .. }
                | Content::Trigger { .. }
                | Content::CancelAll { .. }
                | Content::CancelRun { .. }
                | Content::PauseLocal { .. }
                | Content::Upcoming { .. }
                | Content::Status { .. } => Letter::post(successor, content),
            }
            return;
        }
        // Whoever asked something is told so when the question is dropped.
        let input = match content {
            Content::Input(input) => input,
            Content::Granted { run, verdict, .. } => Input::Claimed { run, verdict },
            Content::Drain { .. }
            | Content::Redefine(_)
            | Content::Retire { .. }
            | Content::Trigger { .. }
            | Content::CancelAll { .. }
            | Content::CancelRun { .. }
            | Content::PauseLocal { .. }
            | Content::Upcoming { .. }
            | Content::Status { .. } => return,
        };
        match input {
            Input::Claimed { run, verdict: Verdict::Granted { .. } } => {
                let why = Some(CancelReason::NotStarted);
                self.end_undelivered(job, ended(run, Outcome::Cancelled, why, End::Aborted));
            }
            Input::RunEnded(RunEnd { run, end, started_at, took }) => {
                let outcome = match &end {
                    End::Returned => Outcome::Succeeded,
                    End::Failed { .. } => Outcome::Failed,
                    End::Panicked(_) => Outcome::Panicked,
                    End::Aborted | End::BetweenAttempts | End::NotStarted { .. } => Outcome::Cancelled,
                };
                self.node().meters.runs_in_progress.decrement(1);
                self.node().permits.release();
                let ended = Ended { started_at, took, ..ended(run, outcome, None, end) };
                self.end_undelivered(job, ended);
            }
            Input::Permit(PermitAnswer::Granted) => self.node().permits.release(),
            Input::Claimed { .. }
            | Input::ClaimRefused { .. }
            | Input::Permit(_)
            | Input::Anchored { .. }
            | Input::Owed(_)
            | Input::Pause(_)
            | Input::NewsMissed
            | Input::Drain
            | Input::Resume { .. }
            | Input::Park { .. }
            | Input::Suspend
            | Input::Leave { .. }
            | Input::WakeUp
            | Input::Trigger
            | Input::Advanced(_)
            | Input::LockLost { .. }
            | Input::Cancel { .. }
            | Input::Abort => {}
        }
    }
}

impl SupervisorActor {
    /// Has the end of a run recorded of which no actor is left; its handle died with the actor.
    fn end_undelivered(&self, job: &Arc<JobRef>, ended: Ended) {
        let from_completion = job.definition.schedule.counts_from_completion();
        let conclusion = Conclusion::new(job.clone(), ended, None, None);
        self.node().ask(Ask::Complete(CompleteRun { conclusion, from_completion }));
    }
}

fn ended(run: RunId, outcome: Outcome, cancelled: Option<CancelReason>, end: End) -> Ended {
    Ended {
        run,
        outcome,
        cancelled,
        aborted: false,
        recorded: true,
        end,
        started_at: None,
        took: Duration::ZERO,
    }
}

impl Handler<JobDied> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobDied { job, remains }: JobDied, ctx: &mut Self::Context) {
        self.on_died(&job, remains, ctx);
    }
}

impl Handler<ScheduleBroken> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, broken: ScheduleBroken, ctx: &mut Self::Context) {
        self.on_schedule_broken(&broken, ctx);
    }
}

impl Handler<JobDone> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobDone { job }: JobDone, ctx: &mut Self::Context) {
        // One that was changed since may have more to do, and says so itself.
        let same = |entry: &&Entry| {
            entry.job.lineage == job.lineage && Arc::ptr_eq(&entry.job.definition, &job.definition)
        };
        let name = &job.definition.name;
        if matches!(self.phase, Phase::Running) && self.jobs.get(name).filter(same).is_some() {
            // It is there.
            let _ = self.remove(&Selector::from(name), ctx);
        }
    }
}

impl Handler<JobRetired> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobRetired { job }: JobRetired, _: &mut Self::Context) {
        self.retiring.remove(&(job.definition.name.clone(), job.generation));
    }
}

impl Handler<JobLeft> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobLeft { job }: JobLeft, ctx: &mut Self::Context) {
        self.on_left(&job.definition.name, job.generation, ctx);
    }
}

impl Handler<Undelivered> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Undelivered { job, content }: Undelivered, _: &mut Self::Context) {
        self.on_undelivered(&job, content);
    }
}
