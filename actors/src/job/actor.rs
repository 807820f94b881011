//! The actor of one job: it performs the effects of the job's machine.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::stream::{AbortHandle, AbortRegistration};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    alarm::Alarm,
    ask::{AdvanceCursor, Ask, ClaimRun, CompleteRun},
    conclude::{Conclusion, conclude},
    handle::{JobHandle, Reading},
    hook_calls,
    message::{AsksSchedule, Envelope, JobMessage, Retirement},
    report::Report,
    run_span,
    run_task::{self, RunTask},
    snapshot::{JobSnapshot, Running},
    status::{JobState, JobStatus, breach_of},
    triggered::{Triggered, TriggeredRun},
};
use crate::{
    core::{
        contract::{Breach, next_after},
        job::{
            Effect, Effects, End, Ended, Input, JobMachine, Refusal, Retried, Start,
            Triggered as HowTriggered,
        },
        policy::Fires,
        seldom::Seldom,
        time::FireTime,
    },
    definition::Definition,
    drain::{Drain, HowDrained},
    error::TriggerError,
    event::{CancelReason, EventKind, Outcome},
    hooks::SkippedTicks,
    metrics::HeldTicks,
    name::{JobName, LockKey, RunId},
    node::Node,
    overdue::Mark,
    port::{Session, SkipReason},
    run::{Origin, Parts, Run},
};

/// The longest time a timer is armed for; waking up early is harmless, and once a day costs nothing.
///
/// A timer of the runtime reaches two years. That the clock is set meanwhile is the supervisor's to notice.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// Performs the effects of one [`JobMachine`].
pub(crate) struct JobActor {
    job: Arc<JobHandle>,
    machine: JobMachine,
    running: Vec<Running>,
    /// The lock keys of the runs in progress, and of those that are being asked for, that began so under another definition.
    former_keys: Seldom<(RunId, LockKey)>,
    /// The runs in progress of whose ends hooks want to hear.
    after: Seldom<Run>,
    /// Who waits to hear what became of a trigger.
    triggers: Seldom<(RunId, oneshot::Sender<Result<TriggeredRun, TriggerError>>)>,
    /// Who may wait to hear how a triggered run ended.
    ends: Seldom<(RunId, oneshot::Sender<Outcome>)>,
    /// It is known to wait for the store to decide a due tick.
    overdue: Option<Box<Mark>>,
    /// When the machine wants to be woken up; the alarm follows.
    pub(super) wake_at: Option<Instant>,
    drain: Option<Arc<Drain>>,
    /// It stops when nothing runs.
    retiring: bool,
    /// It said that it is done, and is to be removed.
    done_said: bool,
    /// It is removed, or has another schedule, and the store does not know yet what became of the ticks before.
    leaves: bool,
    /// It was told to stop: whatever else ends it is a death.
    stopped_on_purpose: bool,
    /// How many ticks the pause holds, as the metrics show it; `None` if it holds none.
    held: Option<Box<HeldTicks>>,
    /// To which the newest grant was given: what an earlier one was granted is not started any more, since the job hears
    /// of its loss before it hears of a grant to another one.
    session: Option<Session>,
}

impl JobActor {
    pub(crate) fn new(job: Arc<JobHandle>, snapshot: JobSnapshot) -> Self {
        let JobSnapshot {
            machine,
            definition,
            running,
            former_keys,
            after,
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
            after,
            triggers: Seldom::default(),
            ends,
            overdue: None,
            wake_at: None,
            drain,
            retiring,
            done_said: false,
            leaves: false,
            stopped_on_purpose: false,
            held,
            session,
        };
        if !Arc::ptr_eq(&definition, &actor.job.definition) {
            // It was changed, and its actor died before it heard of it.
            let Definition { schedule, policies, .. } = &*actor.job.definition;
            actor.machine.redefine(schedule.clone(), policies.clone());
            actor.keep_former_keys(&definition.key);
            actor.held = None;
        }
        actor
    }

    fn node(&self) -> &Node {
        self.job.node()
    }

    /// Feeds the machine and does what it says.
    pub(super) fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.step_at(self.job.read(), input, ctx);
    }

    fn step_at(&mut self, mut reading: Reading, mut input: Input, ctx: &mut Context<Self>) {
        loop {
            let effects = self.machine.feed(reading.now, input);
            self.perform(effects);
            // Only now: the schedule is code of the application, and may panic.
            let effects = self.machine.decide(reading.now);
            let Some(priority) = self.perform(effects) else { break };
            // In turn, not one inside the other: a full queue may ask for each of its ticks.
            input = Input::Permit(self.job.host.permits.ask(priority, || self.job.clone()));
            reading = self.job.read();
        }
        self.forget_former_keys();
        self.answer_lost_ends();
        self.mark_overdue(reading.now.elapsed);
        self.show_held();
        self.arm(reading);
        self.stop_if_done(ctx);
    }

    /// Says whether the store decides what is due.
    fn mark_overdue(&mut self, now: Duration) {
        if self.overdue.is_none() && !self.machine.asks_in_vain() {
            return;
        }
        let cursor = self.machine.cursor();
        match (self.machine.asked_tick(), &self.overdue) {
            (None, None) | (Some((_, false)), None) => {}
            (None, Some(_)) => self.overdue = None,
            (Some((tick, true)), None) => {
                let JobHandle { definition, generation, .. } = &*self.job;
                self.overdue =
                    Some(self.node().overdue.mark((&definition.name, *generation), tick, cursor, now));
            }
            // Another tick, perhaps, but nothing is decided.
            (Some(_), Some(mark)) if mark.cursor == cursor => {}
            (Some(_), Some(_)) => self.overdue = None,
        }
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

    fn arm(&mut self, mut reading: Reading) {
        loop {
            let wait = self.machine.wake_in(reading.now);
            self.wake_at = wait.map(|wait| Instant::now() + wait.min(SLEEP_MAX));
            if self.job.publish_wake_time(&reading, wait) {
                break;
            }
            reading = self.job.read();
        }
    }

    /// Lets go of the drain, and of the actor itself, when nothing runs any more.
    fn stop_if_done(&mut self, ctx: &mut Context<Self>) {
        if self.job.definition.remove_when_done && !self.done_said && self.machine.is_done() {
            self.done_said = true;
            self.job.report(Report::Done);
        }
        if self.machine.is_drained() {
            self.drain = None;
        }
        if self.leaves && self.machine.has_left() {
            self.leaves = false;
            self.job.report(Report::Left);
        }
        if self.retiring && !self.leaves && self.machine.is_idle() {
            self.stopped_on_purpose = true;
            if self.machine.waits_for_permit() {
                self.job.host.permits.leave(|waits| waits.instance == self.job.instance);
            }
            ctx.stop();
        }
    }

    /// What is due by now is decided before the job is removed, or goes by another schedule; so is what it was to decide when it
    /// changed before.
    fn leave(&mut self, is_removed: bool, ctx: &mut Context<Self>) {
        self.leaves = true;
        self.step(Input::Leave { is_removed }, ctx);
    }

    /// Answers the priority by which a permit is to be asked for, if one is.
    fn perform(&mut self, mut effects: Effects) -> Option<i8> {
        let (mut wanted, mut completes) = (None, false);
        // Drained, not consumed: that would move all of it first.
        for effect in effects.drain(..) {
            match effect {
                Effect::Claim(claim) => {
                    let key = self.key_of(claim.run).clone();
                    self.job.ask_store(Ask::Claim(ClaimRun { job: self.job.clone(), claim, key, tries: 0 }));
                }
                Effect::AskPermit { priority } => wanted = Some(priority),
                Effect::ReleasePermit => self.job.release_permit(),
                Effect::Advance(advance) => {
                    self.job.ask_store(Ask::Advance(AdvanceCursor {
                        job: self.job.clone(),
                        advance,
                        tries: 0,
                    }));
                }
                Effect::Start(start) => self.start(start),
                Effect::Cancel { run, why } => self.cancel(run, why),
                Effect::Abort { run } => self.abort(run),
                // It comes right before what is to be said of the end.
                Effect::Complete { .. } => completes = true,
                Effect::Retried(retried) => self.retried(retried),
                Effect::Ended(ended) => self.ended(ended, std::mem::take(&mut completes)),
                Effect::Skipped { newest, reason, count, at_least } => {
                    let kind =
                        |job| EventKind::TickSkipped { job, fire_time: newest, reason, count, at_least };
                    match reason {
                        SkipReason::Misfire => self.publish(kind),
                        SkipReason::Overlap
                        | SkipReason::Paused
                        | SkipReason::Concurrency
                        | SkipReason::Parked
                        | SkipReason::Removed => self.publish_routine(kind),
                    }
                    let fire_time = newest.instant();
                    hook_calls::skipped(&self.job, |job| SkippedTicks {
                        job,
                        fire_time,
                        reason,
                        count,
                        at_least,
                    });
                }
                Effect::Held { fire_time, reason } => {
                    self.publish(|job| EventKind::TickHeld { job, fire_time, reason });
                }
                Effect::Broken(breach) => self.broken(breach),
                Effect::Count { started, skips } => self.job.meters.decided(started, &skips),
                Effect::Contended { holder } => {
                    self.publish_routine(|job| EventKind::LockContended { job, holder });
                }
                Effect::Unavailable { reason } => {
                    self.publish_routine(|job| EventKind::LockUnavailable { job, reason });
                }
                Effect::Elsewhere => self.job.meters.ticks_elsewhere.increment(1),
                Effect::Stop(pause) => self.job.report(Report::Stop(pause)),
                Effect::Paused(pause) => self.publish(|job| EventKind::JobPaused { job, pause }),
                Effect::Answer { run, answer } => self.answer(run, answer),
            }
        }
        wanted
    }

    fn on_drain(&mut self, drain: Arc<Drain>, fires: bool, ctx: &mut Context<Self>) {
        for run in self.machine.active_runs() {
            drain.expect(&self.job.definition.name, run.run);
        }
        let fires =
            fires && self.job.definition.policies.fires != Fires::Local && !self.machine.is_exhausted();
        let (next, left_after) = (self.machine.next_fire_time(), self.machine.left_after());
        self.drain = Some(drain.clone());
        self.step(Input::Drain, ctx);
        if !fires {
            return;
        }
        // Only now: the schedule is code of the application, and may panic. It is asked where the machine is dormant already: the
        // term was given up before the letter came, or the actor was started again.
        let definition = &self.job.definition;
        let next = next.or_else(|| next_after(&*definition.schedule, left_after?).ok()?);
        if let Some(next) = next {
            drain.leave(&definition.name, next);
        }
    }

    /// The job's schedule broke its contract.
    fn broken(&self, breach: Breach) {
        self.job.report(Report::ScheduleBroken { cursor: self.machine.cursor(), breach });
    }

    fn publish(&self, kind: impl FnOnce(JobName) -> EventKind) {
        self.node().publisher.publish(|| kind(self.job.definition.name.clone()));
    }

    /// As [`publish`](Self::publish), of what is logged at DEBUG.
    fn publish_routine(&self, kind: impl FnOnce(JobName) -> EventKind) {
        self.node().publisher.publish_routine(|| kind(self.job.definition.name.clone()));
    }

    fn start(&mut self, start: Start) {
        let (abort, registration) = AbortHandle::new_pair();
        let body = self.job.definition.body.get();
        let (abortable, elsewhere) = (body.abortable(), body.elsewhere());
        if self.running.is_empty() {
            // As the machine does: a vector would make room for four.
            self.running.reserve_exact(1);
        }
        if let Some(drain) = &self.drain {
            drain.expect(&self.job.definition.name, start.run);
        }
        self.node().meters.runs_in_progress.increment(1);
        let (outside, inside) =
            if abortable { (Some(registration), None) } else { (None, Some(registration)) };
        let run = self.run(&start, inside);
        self.running.push(Running { run: run.clone(), abort });
        if self.job.has_after_hooks() {
            // Of the last attempt only.
            let after = self.after.list_mut();
            after.retain(|former| former.id() != start.run);
            after.push(run.clone());
        }
        // A job without claims has no token, and asks no session.
        let session = start.token.and(self.session);
        let work = run_task::future(RunTask { job: self.job.clone(), start, session, run, abort: outside });
        if elsewhere {
            // Not behind bodies that block every thread for bodies, of which it needs none.
            actix_rt::spawn(work);
        } else {
            self.node().spawner.spawn(work);
        }
    }

    fn run(&self, start: &Start, abort: Option<AbortRegistration>) -> Run {
        let (node, host, definition) = (self.node(), &self.job.host, &self.job.definition);
        Run::new(Parts {
            id: start.run,
            job: definition.name.clone(),
            key: self.key_of(start.run).slot(start.slot),
            origin: start.tick.map_or(Origin::Manual, Origin::Tick),
            attempt: start.attempt,
            term: start.term,
            token: start.token,
            deadline: start.deadline,
            clock: node.clock.clone(),
            cancellation: CancellationToken::new(),
            span: run_span::of(&definition.name, start, node.id),
            abort: abort.into(),
            own_threads: host.own_threads.clone(),
            extension: host.run_extension.clone(),
        })
    }

    /// The lock key of a run: what it was asked for under it keeps until it ends.
    fn key_of(&self, run: RunId) -> &LockKey {
        let former = self.former_keys.iter().find(|(former, _)| *former == run);
        former.map_or(&self.job.definition.key, |(_, key)| key)
    }

    /// The runs in progress hold the keys that they were granted, and so will those that the store is being asked for.
    fn keep_former_keys(&mut self, former: &LockKey) {
        if *former == self.job.definition.key {
            return;
        }
        for run in self.machine.open_runs() {
            if self.former_keys.iter().all(|(known, _)| *known != run) {
                self.former_keys.list_mut().push((run, former.clone()));
            }
        }
    }

    /// What was asked for under another key, and came to nothing, needs it no more.
    fn forget_former_keys(&mut self) {
        if !self.former_keys.is_empty() {
            let machine = &self.machine;
            self.former_keys.list_mut().retain(|(former, _)| machine.open_runs().any(|run| run == *former));
        }
    }

    fn cancel(&self, run: RunId, why: CancelReason) {
        if why == CancelReason::LockLost {
            self.publish(|job| EventKind::LockLost { job, run });
        }
        if let Some(running) = self.running.iter().find(|running| running.run.id() == run) {
            running.run.cancel();
        }
    }

    fn abort(&self, run: RunId) {
        if let Some(running) = self.running.iter().find(|running| running.run.id() == run) {
            running.abort.abort();
        }
    }

    fn body_ended(&mut self, run: RunId, outcome: Outcome) {
        if let Some(at) = self.running.iter().position(|running| running.run.id() == run) {
            run_span::ended(self.running.remove(at).run.span(), outcome);
            self.node().meters.runs_in_progress.decrement(1);
        }
    }

    fn retried(&mut self, retried: Retried) {
        let Retried { run, attempt, outcome, pause, end, took } = retried;
        self.body_ended(run, outcome);
        self.job.meters.run_duration.record(took.as_secs_f64());
        self.job.meters.run_retries.increment(1);
        let error = match end {
            End::Failed { error: text, .. } | End::Panicked(text) => text.share(),
            End::Returned | End::Aborted | End::BetweenAttempts | End::NotStarted { .. } => "".into(),
        };
        self.publish(|job| EventKind::RunRetried { job, run, attempt, outcome, took, pause, error });
    }

    /// A run is over; the store is to record it, or is not.
    fn ended(&mut self, ended: Ended, completes: bool) {
        // Whose end is not recorded here is closed as lost by whoever takes over; what was never claimed is cancelled.
        let lost = !ended.recorded && ended.cancelled == Some(CancelReason::LockLost);
        let outcome = if lost { Outcome::Lost } else { ended.outcome };
        self.body_ended(ended.run, outcome);
        let at = self.ends.iter().position(|(run, _)| *run == ended.run);
        let waiting = at.map(|at| self.ends.list_mut().swap_remove(at).1);
        if let Some(drain) = &self.drain {
            drain.record(&self.job.definition.name, ended.run, HowDrained::of(&ended));
        }
        let at = self.after.iter().position(|run| run.id() == ended.run);
        let run = at.map(|at| self.after.list_mut().swap_remove(at));
        if completes {
            // By the definition by which the machine goes on, which may not be that of the run.
            let from_completion = self.job.definition.schedule.counts_from_completion();
            let conclusion = Conclusion::new(self.job.clone(), ended, run, waiting);
            return self.job.ask_store(Ask::Complete(CompleteRun { conclusion, from_completion }));
        }
        // Perhaps nobody waits.
        let _ = waiting.map(|waiting| waiting.send(outcome));
        conclude(&self.job, ended, run, self.node().clock.now());
    }

    /// What this job knows nothing of any more is lost to those who wait for its end: it goes on elsewhere, perhaps.
    fn answer_lost_ends(&mut self) {
        if !self.ends.is_empty() {
            let machine = &self.machine;
            for (_, end) in self.ends.list_mut().extract_if(.., |(run, _)| !machine.knows(*run)) {
                let _ = end.send(Outcome::Lost);
            }
        }
    }

    fn answer(&mut self, run: RunId, answer: Result<HowTriggered, Refusal>) {
        let job = self.job.definition.name.clone();
        let answer = match answer {
            Ok(HowTriggered::Started) => Ok(Triggered::Started(run)),
            Ok(HowTriggered::Queued) => Ok(Triggered::Queued(run)),
            Err(Refusal::Overlap { holder }) => Err(TriggerError::Overlap { job, holder }),
            Err(Refusal::Concurrency) => Err(TriggerError::Concurrency { job }),
            Err(Refusal::Cancelled) => Err(TriggerError::Cancelled { job }),
            Err(Refusal::ShuttingDown) => Err(TriggerError::ShuttingDown),
            Err(Refusal::Unavailable { reason }) => Err(TriggerError::Unavailable { job, reason }),
            Err(Refusal::Parked { reason }) => Err(TriggerError::Parked { job, reason }),
        };
        if let Some(at) = self.triggers.iter().position(|(asked, _)| *asked == run) {
            let (_, reply) = self.triggers.list_mut().swap_remove(at);
            let answer = answer.map(|triggered| {
                let (ended, end) = oneshot::channel();
                self.ends.list_mut().push((run, ended));
                TriggeredRun::new(triggered, end, self.node().over.clone())
            });
            // Whoever triggered may have given up; the run is recorded all the same.
            let _ = reply.send(answer);
        }
    }

    fn redefine(&mut self, job: Arc<JobHandle>, ctx: &mut Context<Self>) {
        if self.job.definition.identity.differs_from(job.definition.identity) {
            self.leave(false, ctx);
        }
        let Definition { schedule, policies, .. } = &*job.definition;
        self.machine.redefine(schedule.clone(), policies.clone());
        let former = std::mem::replace(&mut self.job, job);
        self.keep_former_keys(&former.definition.key);
        // It may have another label from now on.
        self.held = None;
        self.done_said = false;
        self.step(Input::WakeUp, ctx);
    }

    /// The next fire times, up to so many.
    fn upcoming(&self, count: usize) -> Vec<FireTime> {
        if self.machine.is_exhausted() {
            return Vec::new();
        }
        let schedule = &*self.job.definition.schedule;
        // No more is known ahead of what counts from the end of a run.
        let count = if schedule.counts_from_completion() { count.min(1) } else { count };
        let after = self.job.now().wall.max(self.machine.cursor());
        // What a schedule that breaks its contract answers is no fire time.
        let first = self.machine.next_fire_time().or_else(|| next_after(schedule, after).ok()?);
        let following = |last: &FireTime| next_after(schedule, last.instant()).ok()?;
        std::iter::successors(first, following).take(count).collect()
    }

    fn status(&self, asks_schedule: AsksSchedule) -> JobStatus {
        let definition = &self.job.definition;
        let now = self.job.now();
        let next = match (self.machine.next_fire_time(), asks_schedule) {
            (Some(next), _) => Ok(Some(next)),
            (None, AsksSchedule::No) => Ok(None),
            (None, AsksSchedule::Yes) => {
                let after = now.wall.max(self.machine.cursor());
                next_after(&*definition.schedule, after)
            }
        };
        let next = match next {
            Ok(next) => next,
            Err(breach) => return JobStatus::of(definition, &self.machine, now).broken(breach_of(breach)),
        };
        let next = next.filter(|_| !self.machine.is_exhausted());
        let runs = self.machine.active_runs();
        let state = if runs.len() > 0 {
            if self.machine.active_runs().any(|run| run.aborted) {
                JobState::StillRunning
            } else {
                JobState::Running
            }
        } else if self.machine.pause().is_some() {
            JobState::Paused
        } else {
            match (self.machine.firing(), next) {
                (_, None) => JobState::Exhausted,
                (Some(_), Some(_)) => JobState::Scheduled,
                (None, Some(_)) => JobState::Standby,
            }
        };
        JobStatus { next_fire_time: next, state, ..JobStatus::of(definition, &self.machine, now) }
    }
}

impl Actor for JobActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // What a predecessor's machine waits for: the timeout of its run, the next attempt, the claim to be asked again. What it
        // had in hand, and nobody wants any more, it gives back.
        self.step(Input::WakeUp, ctx);
        ctx.spawn(Alarm::default());
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if self.stopped_on_purpose {
            self.job.report(Report::Retired);
            return;
        }
        // During the unwinding of a panic: nothing here may panic again. Or its thread ends, with the engine or before
        // it: whether that is a death is for the supervisor to say, if it is still there.
        let JobSnapshot { machine: empty, held, .. } = JobSnapshot::fresh(&self.job, self.machine.cursor());
        let snapshot = JobSnapshot {
            machine: std::mem::replace(&mut self.machine, empty),
            held: std::mem::replace(&mut self.held, held),
            definition: self.job.definition.clone(),
            running: std::mem::take(&mut self.running),
            former_keys: std::mem::take(&mut self.former_keys),
            after: std::mem::take(&mut self.after),
            ends: std::mem::take(&mut self.ends),
            drain: self.drain.take(),
            retiring: self.retiring,
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
            Some(JobMessage::Input(input)) => self.step(input, ctx),
            Some(JobMessage::Granted { session, run, verdict }) => {
                self.session = Some(session);
                self.step(Input::Claimed { run, verdict }, ctx);
            }
            Some(JobMessage::Drain { drain, fires }) => self.on_drain(drain, fires, ctx),
            Some(JobMessage::Redefine(job)) => self.redefine(job, ctx),
            Some(JobMessage::Trigger { reply }) => {
                let reading = self.job.read();
                self.triggers.list_mut().push((reading.now.spare, reply));
                self.step_at(reading, Input::Trigger, ctx);
            }
            Some(JobMessage::CancelAll { reply }) => {
                let runs = self.machine.active_runs().map(|run| run.run).collect();
                self.step(Input::Cancel { run: None, why: CancelReason::Requested }, ctx);
                let _ = reply.send(runs);
            }
            Some(JobMessage::CancelRun { run, reply }) if self.machine.knows(run) => {
                self.step(Input::Cancel { run: Some(run), why: CancelReason::Requested }, ctx);
                reply.send(self.job.definition.name.clone());
            }
            Some(JobMessage::PauseLocal { pause, reply }) => {
                let before = self.machine.pause().cloned();
                self.step(Input::Pause(pause), ctx);
                let _ = reply.send(self.machine.pause() != before.as_ref());
            }
            Some(JobMessage::Upcoming { count, reply }) => drop(reply.send(self.upcoming(count))),
            Some(JobMessage::Status { asks_schedule, reply }) => drop(reply.send(self.status(asks_schedule))),
            Some(JobMessage::Retire { why }) => {
                match why {
                    Retirement::Removed => self.leave(true, ctx),
                    Retirement::EngineOver => self.leaves = false,
                }
                self.retiring = true;
                self.step(Input::Drain, ctx);
            }
            // It is the run of another job.
            Some(JobMessage::CancelRun { .. }) | None => {}
        }
    }
}
