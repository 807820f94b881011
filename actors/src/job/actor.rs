//! The actor of one job: it performs the effects of the job's machine.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

use super::{
    backfilled::fire_times_in,
    context::JobContext,
    explain::{TickViews, count_fire_times},
    former_keys::FormerKeys,
    handle::{JobHandle, Reading},
    message::{AsksSchedule, Envelope, JobMessage, Retirement, SkipAsked},
    record::Unfinished,
    report::Report,
    snapshot::JobSnapshot,
    status::JobStatus,
    told::{AnswerAtOnce, Told},
    triggered::{Asked, TriggerReply, TriggeredRun},
};
use crate::{
    alarm::JobAlarm,
    contained::unharmed,
    core::{
        alarm::{Paused, Standing},
        job::{Effects, Farewell, Input, JobMachine, Lifecycle, NotSkipped, OverdueMark, Progress, Skipped},
        seldom::Seldom,
    },
    definition::Definition,
    drain::Drain,
    error::TriggerError,
    event::{CancelReason, Outcome},
    job_names::KeyInUse,
    metrics::GaugeShare,
    name::{LockKey, RunId},
    node::Node,
    overdue::Mark,
    port::{Pause, Session, SkipReason},
    run::{Origin, Run},
};

/// The longest time a timer is armed for; waking up early is harmless, and once a day costs nothing.
///
/// A timer of the runtime reaches two years. That the clock is set meanwhile is the supervisor's to notice.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// The actor of one job. Whoever asks with [`JobAddress`](crate::JobAddress) gets an address of it; it
/// understands [`FireTimes`](crate::FireTimes) and [`CancelItsRuns`](crate::CancelItsRuns).
// Performs the effects of one `JobMachine`.
pub struct JobActor {
    pub(super) job: Arc<JobHandle>,
    pub(super) machine: JobMachine,
    /// Those whose bodies are in progress.
    pub(super) running: Vec<Run>,
    /// The lock keys of the runs that began under another definition.
    pub(super) former_keys: FormerKeys,
    /// What is kept of runs in progress beyond the end of an attempt.
    pub(super) unfinished: Seldom<Unfinished>,
    /// Who waits to hear what became of a trigger.
    pub(super) triggers: Seldom<(RunId, TriggerReply)>,
    /// Who asked for runs, and what they name; only of those of which something is known.
    pub(super) asked: Seldom<Asked>,
    /// Who may wait to hear how a triggered run ended.
    pub(super) ends: Seldom<(RunId, oneshot::Sender<Outcome>)>,
    /// It is known to wait for the store to decide a due tick.
    overdue: Option<Box<Mark>>,
    /// How often the clock had moved when the timer was set for the job's wake time; `None` if it is to be set.
    armed_after: Option<u32>,
    pub(super) drain: Option<Arc<Drain>>,
    /// How far it is on the way to its end.
    lifecycle: Lifecycle,
    /// How many ticks the pause holds, as the metrics show it; `None` if it holds none.
    held: Option<Box<GaugeShare>>,
    /// To which the newest grant was given: what an earlier one was granted is not started any more, since
    /// the job hears of its loss before it hears of a grant to another one.
    pub(super) session: Option<Session>,
}

impl JobActor {
    pub(crate) fn new(job: Arc<JobHandle>, snapshot: JobSnapshot) -> Self {
        let JobSnapshot {
            machine,
            definition,
            running,
            former_keys,
            key_in_use,
            unfinished,
            asked,
            ends,
            drain,
            retiring,
            held,
            session,
        } = snapshot;
        let mut actor = Self {
            job,
            machine: machine.revive(),
            running,
            former_keys,
            unfinished,
            triggers: Seldom::default(),
            asked,
            ends,
            overdue: None,
            armed_after: None,
            drain,
            lifecycle: Lifecycle::new(retiring),
            held,
            session,
        };
        if !Arc::ptr_eq(&definition, &actor.job.definition) {
            // It was changed, and its actor died before it heard of it.
            let Definition { schedule, policies, .. } = &*actor.job.definition;
            actor.machine.redefine(schedule.clone(), policies.clone());
            actor.keep_former_keys(&definition.key, key_in_use.as_ref());
            actor.held = None;
        }
        actor
    }

    pub(super) fn node(&self) -> &Node {
        self.job.node()
    }

    /// Feeds the machine and does what it says.
    pub(super) fn step(&mut self, input: Input, ctx: &mut JobContext) {
        self.step_at(self.job.read(), input, ctx);
    }

    /// The time has come for which the timer was set.
    pub(super) fn on_time(&mut self, ctx: &mut JobContext) {
        #[cfg(any(test, feature = "testkit"))]
        if self.job.host.definitions.as_ref().is_some_and(|known| known.is_deaf(&self.job.definition.name)) {
            ctx.wake_at = Some(None);
            return;
        }
        self.armed_after = None;
        self.step(Input::WakeUp, ctx);
    }

    fn step_at(&mut self, mut reading: Reading, mut input: Input, ctx: &mut JobContext) {
        let mut told = Told::default();
        let mut effects = Effects::new();
        loop {
            told.asked_at = reading.now.elapsed;
            self.machine.feed(reading.now, input, &mut effects);
            self.perform(&mut effects, &mut told, ctx);
            // Only now: the schedule is code of the application, and may panic.
            self.machine.decide(reading.now, &mut effects);
            self.perform(&mut effects, &mut told, ctx);
            // In turn, not one inside the other: a full queue may ask for each of its ticks.
            input = match told.next() {
                Some(AnswerAtOnce::Input(input)) => input,
                Some(AnswerAtOnce::Granted { session, run, verdict }) => {
                    self.session = Some(session);
                    Input::Claimed { run, verdict }
                }
                None => break,
            };
            reading =
                told.answered_at.take().map_or_else(|| self.job.read(), |at| self.job.read_at(at, reading));
        }
        self.former_keys.forget_all_but(|| self.machine.open_runs());
        self.answer_lost_ends();
        self.mark_overdue(reading.now.elapsed);
        if let Some(alarm) = self.job.definition.alarm() {
            self.note_standing(alarm, reading.now.wall);
        }
        self.show_held();
        self.arm(reading, ctx);
        self.stop_if_done(ctx);
    }

    /// The runs in progress hold the keys that they were granted, and so will those that the store is being
    /// asked for.
    fn keep_former_keys(&mut self, former: &LockKey, in_use: Option<&Arc<KeyInUse>>) {
        self.former_keys.keep(former, in_use, &self.job.definition.key, self.machine.open_runs());
    }

    /// What this job knows nothing of any more is lost to those who wait for its end: it goes on elsewhere,
    /// perhaps. Who triggered it is forgotten.
    fn answer_lost_ends(&mut self) {
        if !self.asked.is_empty() {
            let machine = &self.machine;
            self.asked.list_mut().retain(|asked| machine.knows(asked.run));
        }
        if !self.ends.is_empty() {
            let machine = &self.machine;
            for (_, end) in self.ends.list_mut().extract_if(.., |(run, _)| !machine.knows(*run)) {
                let _ = end.send(Outcome::Lost);
            }
        }
    }

    /// Says whether the store decides what is due.
    fn mark_overdue(&mut self, now: Duration) {
        let marked_at = self.overdue.as_ref().map(|mark| mark.cursor);
        match OverdueMark::of(&self.machine, marked_at) {
            OverdueMark::Keep => {}
            OverdueMark::Remove => self.overdue = None,
            OverdueMark::Set(tick) => {
                let JobHandle { definition, generation, .. } = &*self.job;
                let (job, cursor) = ((&definition.name, *generation), self.machine.cursor());
                self.overdue = Some(self.node().overdue.mark(job, tick, cursor, now));
            }
        }
    }

    /// Tells the alarm how the job stands.
    fn note_standing(&self, alarm: &JobAlarm, now: DateTime<Utc>) {
        let machine = &self.machine;
        let standing = Standing {
            fires: machine.fires() || machine.is_parked(),
            is_parked: machine.is_parked(),
            cursor: machine.cursor(),
            granted: machine.granted_tick(),
            paused: machine.pause().map(|pause| Paused { until: pause.until }),
            is_exhausted: machine.is_exhausted(),
        };
        let is_to_be_asked = alarm.lock().stands(standing, now);
        self.job.alarm_noted(is_to_be_asked);
    }

    /// Shows in the metrics how many ticks the pause holds.
    fn show_held(&mut self) {
        if self.held.is_none() && self.machine.pause().is_none() {
            return;
        }
        match self.machine.held().count() {
            0 => self.held = None,
            count => {
                let meters = &self.job.meters;
                self.held.get_or_insert_with(|| Box::new(meters.held_ticks())).set(count);
            }
        }
    }

    fn arm(&mut self, mut reading: Reading, ctx: &mut JobContext) {
        loop {
            let wait = self.machine.wake_in(reading.now);
            let wake_time = reading.wake_time(wait);
            let was_armed = self.armed_after == Some(reading.clock_moves);
            // The end of a run, for one, leaves the timer as it is.
            if !was_armed || !self.job.wake_time.is(wake_time) {
                ctx.wake_at = Some(wait.map(|wait| Instant::now() + wait.min(SLEEP_MAX)));
                self.armed_after = Some(reading.clock_moves);
                self.job.wake_time.publish(wake_time);
            }
            if self.job.is_unmoved_since(&reading) {
                break;
            }
            reading = self.job.read();
        }
    }

    /// Lets go of the drain, and of the actor itself, when nothing runs any more.
    fn stop_if_done(&mut self, ctx: &mut JobContext) {
        let progress = Progress::of(&self.machine, self.job.definition.remove_when_done);
        let Farewell { says_done, says_left, stops } = self.lifecycle.after_step(progress);
        if says_done {
            self.job.report(Report::Done);
        }
        if self.machine.is_drained() {
            self.drain = None;
        }
        if says_left {
            self.job.report(Report::Left);
        }
        if stops {
            if self.machine.waits_for_permit() {
                self.job.host.permits.leave(self.job.instance);
            }
            ctx.stop();
        }
    }

    /// What is due by now is decided before the job is removed, or goes by another schedule; so is what it
    /// was to decide when it changed before.
    fn leave(&mut self, is_removed: bool, ctx: &mut JobContext) {
        self.lifecycle.leave();
        self.step(Input::Leave { is_removed }, ctx);
    }

    fn on_drain(&mut self, drain: Arc<Drain>, fires: bool, ctx: &mut JobContext) {
        for run in self.machine.active_runs() {
            drain.expect(&self.job.definition.name, run.run);
        }
        let given = self.machine.given_away().filter(|_| fires);
        self.drain = Some(drain.clone());
        self.step(Input::Drain, ctx);
        // Only now: the schedule is code of the application, and may panic. It is asked where the machine is
        // dormant already: the term was given up before the message came, or the actor was started again.
        if let Some(next) = given.and_then(|given| self.machine.tick_given_away(given)) {
            drain.leave(&self.job.definition.name, next);
        }
    }

    fn redefine(&mut self, job: Arc<JobHandle>, ctx: &mut JobContext) {
        if self.job.definition.identity.differs_from(job.definition.identity) {
            self.leave(false, ctx);
        }
        let Definition { schedule, policies, .. } = &*job.definition;
        self.machine.redefine(schedule.clone(), policies.clone());
        let former = std::mem::replace(&mut self.job, job);
        self.armed_after = None;
        self.keep_former_keys(&former.definition.key, former.key_in_use.as_ref());
        // It may have another label from now on.
        self.held = None;
        self.lifecycle.redefine();
        self.step(Input::WakeUp, ctx);
    }

    fn trigger(
        &mut self,
        origin: Option<Origin>,
        request: Span,
        reply: oneshot::Sender<Result<TriggeredRun, TriggerError>>,
        ctx: &mut JobContext,
    ) {
        let mut reading = self.job.read();
        let request = Some(request).filter(|request| !request.is_disabled());
        if origin.is_some() || request.is_some() {
            let origin = origin.unwrap_or(Origin::UNKNOWN);
            if let Origin::Trigger { task: Some(_), .. } = &origin {
                reading.now.spare = reading.now.spare.with_own_arguments();
            }
            self.asked.list_mut().push(Asked { run: reading.now.spare, origin, request });
        }
        self.triggers.list_mut().push((reading.now.spare, TriggerReply::Caller(reply)));
        self.step_at(reading, Input::Trigger, ctx);
    }

    /// The job was removed, or the engine is over.
    pub(super) fn is_retiring(&self) -> bool {
        self.lifecycle.is_retiring()
    }

    /// Answers which runs are in progress.
    pub(super) fn cancel_all(&mut self, ctx: &mut JobContext) -> Vec<RunId> {
        let runs = self.machine.active_runs().map(|run| run.run).collect();
        self.step(Input::Cancel { run: None, why: CancelReason::Requested }, ctx);
        runs
    }

    /// Answers whether that changes anything.
    fn pause(&mut self, pause: Option<Pause>, ctx: &mut JobContext) -> bool {
        let before = self.machine.pause().cloned();
        self.step(Input::Pause(pause), ctx);
        match (self.machine.pause(), &before) {
            // Whoever asks for the same once more changes nothing.
            (Some(pause), Some(before)) => !pause.is_same_as(before),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        }
    }

    /// Skips what was missed by an instant, and says who asked for it.
    fn skip_missed(&mut self, asked: &SkipAsked, ctx: &mut JobContext) -> Result<Skipped, NotSkipped> {
        let reading = self.job.read();
        let (mut effects, mut told) = (Effects::new(), Told::default());
        let skipped = self.machine.skip_missed(reading.now, asked.until, &mut effects);
        if let Ok(Skipped::Now(missed)) = &skipped {
            self.skipped(*missed, SkipReason::Operator, Some(asked));
        }
        self.perform(&mut effects, &mut told, ctx);
        self.step_at(reading, Input::WakeUp, ctx);
        skipped
    }

    fn retire(&mut self, why: Retirement, ctx: &mut JobContext) {
        match why {
            Retirement::Removed => self.leave(true, ctx),
            Retirement::EngineOver => self.lifecycle.leave_at_once(),
        }
        self.lifecycle.retire();
        self.step(Input::Drain, ctx);
    }

    fn status(&self, asks_schedule: AsksSchedule) -> JobStatus {
        JobStatus::of(&self.job.definition, &self.machine, &self.running, self.job.now(), asks_schedule)
    }
}

impl Actor for JobActor {
    type Context = JobContext;

    fn started(&mut self, ctx: &mut Self::Context) {
        // What a predecessor's machine waits for: the timeout of its run, the next attempt, the claim to be
        // asked again. What it had in hand, and nobody wants any more, it gives back.
        self.step(Input::WakeUp, ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if self.lifecycle.stopped_on_purpose() {
            self.job.report(Report::Retired);
            return;
        }
        // It panicked. Or its thread ends, with the engine or before it: whether that is a death is for the
        // supervisor to say, if it is still there.
        let JobSnapshot { machine: empty, held, .. } = JobSnapshot::fresh(&self.job, self.machine.cursor());
        let snapshot = JobSnapshot {
            machine: std::mem::replace(&mut self.machine, empty),
            held: std::mem::replace(&mut self.held, held),
            definition: self.job.definition.clone(),
            running: std::mem::take(&mut self.running),
            former_keys: std::mem::take(&mut self.former_keys),
            key_in_use: self.job.key_in_use.clone(),
            unfinished: std::mem::take(&mut self.unfinished),
            asked: std::mem::take(&mut self.asked),
            ends: std::mem::take(&mut self.ends),
            drain: self.drain.take(),
            retiring: self.lifecycle.is_retiring(),
            session: self.session,
        };
        self.job.report(Report::Died(Box::new(snapshot)));
    }
}

impl Handler<Envelope> for JobActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope, ctx: &mut Self::Context) {
        // Whoever asked may have given up.
        match envelope.open() {
            Some(JobMessage::Input(input)) => {
                if let Input::PendingRetry(retry) = &input {
                    self.name_retry(retry);
                } else if let Input::Resume { stored, .. } = &input {
                    stored.pending_retries.iter().for_each(|retry| self.name_retry(retry));
                }
                self.step(input, ctx);
            }
            Some(JobMessage::Granted { session, run, verdict }) => {
                self.session = Some(session);
                self.step(Input::Claimed { run, verdict }, ctx);
            }
            Some(JobMessage::Drain { drain, fires }) => self.on_drain(drain, fires, ctx),
            Some(JobMessage::Redefine(job)) => self.redefine(job, ctx),
            Some(JobMessage::Trigger { origin, request, reply }) => self.trigger(origin, request, reply, ctx),
            Some(JobMessage::Backfill { run, origin, reply }) => self.backfill(run, origin, reply, ctx),
            Some(JobMessage::FireTimesIn { range, max, reply }) => {
                let found = unharmed(|| fire_times_in(&*self.job.definition.schedule, range, max));
                let _ = found.map(|found| reply.send(found));
            }
            Some(JobMessage::CancelAll { reply }) => drop(reply.send(self.cancel_all(ctx))),
            Some(JobMessage::CancelRun { run, reply }) if self.machine.knows(run) => {
                self.step(Input::Cancel { run: Some(run), why: CancelReason::Requested }, ctx);
                reply.send(self.job.definition.name.clone());
            }
            Some(JobMessage::PauseLocal { pause, reply }) => drop(reply.send(self.pause(pause, ctx))),
            Some(JobMessage::SkipMissed { asked, reply }) => drop(reply.send(self.skip_missed(&asked, ctx))),
            Some(JobMessage::Upcoming { count, reply }) => {
                let _ = reply.send(self.machine.upcoming(self.job.wall(), count));
            }
            Some(JobMessage::Explain { when, reply }) => {
                let has_slots = self.job.host.permits.limited();
                let now = self.job.now();
                let views =
                    unharmed(|| TickViews::of(&self.job.definition, &self.machine, now, when, has_slots));
                // Without an answer, whoever asked is told that there is none.
                let _ = views.map(|views| reply.send(views));
            }
            Some(JobMessage::CountFireTimes { spans, reply }) => {
                let counted = unharmed(|| count_fire_times(&*self.job.definition.schedule, &spans));
                let _ = counted.map(|counted| reply.send(counted));
            }
            Some(JobMessage::Status { asks_schedule, reply }) => drop(reply.send(self.status(asks_schedule))),
            Some(JobMessage::Open(mailbox)) => ctx.mailbox = Some(mailbox),
            Some(JobMessage::Retire { why }) => self.retire(why, ctx),
            // It is the run of another job.
            Some(JobMessage::CancelRun { .. }) | None => {}
        }
    }
}
