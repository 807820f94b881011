//! What a job's actor does of what its machine says.

use std::{future::poll_fn, sync::OnceLock};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{
    actor::JobActor,
    ask::{AdvanceCursor, Ask, ClaimRun, RecordEnd},
    conclude::{Conclusion, conclude},
    context::JobContext,
    hook_calls,
    message::SkipAsked,
    record::record_own_pause,
    report::Report,
    run_span,
    run_task::RunTask,
    told::{AnswerAtOnce, Told},
    triggered::{Asked, TriggerReply, Triggered, TriggeredRun, not_triggered},
};
use crate::{
    body_queue::Begin,
    core::{
        backfill::BackfillId,
        contract::Breach,
        end_text::EndText,
        job::{
            Advance, Claim, Effect, Effects, Input, Missed, Refusal, Retried, RunEnded, Start, TriggerAnswer,
        },
        pacer::Turn,
        time::FireTime,
    },
    drain::HowDrained,
    error::TriggerError,
    event::{CancelReason, EventKind, Outcome},
    hooks::SkippedTicks,
    name::{JobName, RunId},
    port::{PendingRetry, SkipReason},
    run::{Origin, Parts, Run},
    signal::Signal,
};

impl JobActor {
    /// What is answered at once is in `told`.
    pub(super) fn perform(&mut self, effects: &mut Effects, told: &mut Told, ctx: &mut JobContext) {
        let mut completes = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Claim(claim) => self.claim(claim, told),
                Effect::AskPermit { priority, catches_up } => {
                    let (permits, job) = (&self.job.host.permits, self.job.instance);
                    let answer = permits.ask(priority, catches_up, job, || self.job.clone());
                    told.push(&self.job, AnswerAtOnce::Input(Input::Permit(answer)));
                }
                Effect::HurryPermit { priority } => self.job.host.permits.hurry(priority, self.job.instance),
                Effect::ReleasePermit => self.job.release_permit(),
                Effect::AskTurn { deadline } => self.ask_turn(deadline, told),
                Effect::LeaveTurn => {
                    self.job.host.catch_ups.leave(self.node().clock.elapsed(), self.job.instance);
                }
                Effect::Advance(advance) => self.advance(advance, told),
                Effect::Start(start) => self.start(start, ctx),
                Effect::Cancel { run, why } => self.cancel(run, why),
                Effect::Abort { run } => self.abort(run),
                // It comes right before what is to be said of the end.
                Effect::Complete { .. } => completes = true,
                Effect::Retried(retried) => self.retried(retried),
                Effect::RunEnded(ended) => self.ended(ended, std::mem::take(&mut completes), told),
                Effect::Skipped { first, newest, reason, count, at_least } => {
                    self.skipped(Missed { first, newest, count, at_least }, reason, None);
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
                Effect::Elsewhere => self.job.meters.elsewhere(),
                Effect::Stop(pause) => self.job.report(Report::Stop(pause)),
                Effect::Paused(pause) => {
                    record_own_pause(&self.job, &pause);
                    self.publish(|job| EventKind::JobPaused { job, pause });
                }
                Effect::Answer { run, answer } => self.answer(run, answer),
            }
        }
    }

    fn claim(&self, mut claim: Claim, told: &mut Told) {
        claim.named = self.named(claim.run);
        let key = self.former_keys.key_of(claim.run, &self.job.definition.key);
        match told.at_once(&self.job).and_then(|at_once| at_once.claim(&self.job, &claim, key, told.asked_at))
        {
            Some((answer, at)) => {
                told.push(&self.job, answer);
                told.answered_at = Some(at);
            }
            None => {
                let (job, key) = (self.job.clone(), key.clone());
                self.job.ask_store(Ask::Claim(ClaimRun { job, claim, key, tries: 0 }));
            }
        }
    }

    fn ask_turn(&self, deadline: DateTime<Utc>, told: &mut Told) {
        let (job, now) = (&self.job, self.node().clock.elapsed());
        let Some(tick) = self.machine.waiting_for_turn() else { return };
        match job.host.catch_ups.ask(now, job.instance, (tick, deadline), job.clone()) {
            Turn::Now => told.push(job, AnswerAtOnce::Input(Input::Turn)),
            Turn::Later { is_first: true } => job.report(Report::CatchesUp),
            Turn::Later { is_first: false } => {}
        }
    }

    fn advance(&self, advance: Advance, told: &mut Told) {
        match told.at_once(&self.job).and_then(|at_once| at_once.advance(&self.job, &advance)) {
            Some(answer) => told.push(&self.job, answer),
            None => {
                let job = self.job.clone();
                self.job.ask_store(Ask::Advance(AdvanceCursor { job, advance, tries: 0 }));
            }
        }
    }

    /// Ticks were skipped, perhaps as somebody asked.
    pub(super) fn skipped(&self, ticks: Missed, reason: SkipReason, asked: Option<&SkipAsked>) {
        let Missed { newest, count, at_least, .. } = ticks;
        let kind = |job| EventKind::TickSkipped { job, fire_time: newest, reason, count, at_least };
        match reason {
            SkipReason::Misfire | SkipReason::Operator | SkipReason::Unproven | SkipReason::Contended => {
                self.publish(kind);
            }
            SkipReason::Overlap
            | SkipReason::Paused
            | SkipReason::Concurrency
            | SkipReason::Parked
            | SkipReason::Removed => self.publish_routine(kind),
        }
        self.record_skipped(ticks, reason, asked);
        if let Some(alarm) = self.job.definition.alarm().filter(|_| reason != SkipReason::Parked) {
            let is_to_be_asked = alarm.lock().skipped(newest);
            self.job.alarm_noted(is_to_be_asked);
        }
        let fire_time = newest.instant();
        hook_calls::skipped(&self.job, |job| SkippedTicks { job, fire_time, reason, count, at_least });
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

    fn start(&mut self, start: Start, ctx: &mut JobContext) {
        if self.running.is_empty() {
            // As the machine does: a vector would make room for four.
            self.running.reserve_exact(1);
        }
        if let Some(drain) = &self.drain {
            drain.expect(&self.job.definition.name, start.run);
        }
        if let Some(alarm) = self.job.definition.alarm() {
            alarm.lock().starts(start.run, start.tick);
        }
        self.node().meters.runs_in_progress.increment(1);
        let run = self.run(&start);
        if start.tick.is_none() {
            self.follow_request(&run);
        }
        self.running.push(run.clone());
        if self.job.has_after_hooks() {
            // Of the last attempt only.
            self.keep_for_hooks(&run);
        }
        // A job without claims has no token, and asks no session.
        let session = start.token.and(self.session);
        let task = RunTask::new(self.job.clone(), start, session, run);
        if self.job.definition.body.get().elsewhere() {
            // Not behind bodies that block every thread for bodies, of which it needs none. The thread has
            // timers only: should it wait for I/O, the runtime of bodies serves it.
            let (runtime, mut work) = (self.job.host.body_runtime.clone(), task.task());
            actix_rt::spawn(poll_fn(move |task| {
                let _entered = runtime.enter();
                work.as_mut().poll(task)
            }));
        } else {
            self.job.host.bodies.start(task, &mut ctx.starts);
        }
    }

    fn run(&self, start: &Start) -> Run {
        let (node, host, definition) = (self.node(), &self.job.host, &self.job.definition);
        Run::new(Parts {
            id: start.run,
            job: definition.name.clone(),
            key: self.former_keys.key_of(start.run, &definition.key).slot(start.slot),
            origin: start.tick.map_or_else(|| self.trigger_origin(start.run), Origin::Tick),
            attempt: start.attempt,
            term: start.term,
            token: start.token,
            deadline: start.deadline,
            cancellation: Signal::default(),
            abort: Signal::default(),
            span: run_span::of(&definition.name, start, node.id),
            reporting: OnceLock::new(),
            shared: host.of_runs.clone(),
        })
    }

    /// Who triggered a run, and what it names, as far as this node was told.
    fn trigger_origin(&self, run: RunId) -> Origin {
        self.origin_of(run).cloned().unwrap_or(Origin::UNKNOWN)
    }

    /// What is known of who asked for a run.
    pub(super) fn origin_of(&self, run: RunId) -> Option<&Origin> {
        self.asked.iter().find(|asked| asked.run == run).map(|asked| &asked.origin)
    }

    /// The first attempt of a run follows from the request that triggered it, whose span may close then.
    fn follow_request(&mut self, run: &Run) {
        let asked = self.asked.iter_mut().find(|asked| asked.run == run.id());
        if let Some(request) = asked.and_then(|asked| asked.request.take()) {
            run.span().follows_from(&request);
        }
    }

    /// The fire time that a run names, without taking its tick.
    fn named(&self, run: RunId) -> Option<FireTime> {
        match self.origin_of(run)? {
            Origin::Trigger { fire_time, .. } => *fire_time,
            Origin::Backfill { fire_time, .. } => Some(*fire_time),
            Origin::Tick(_) => None,
        }
    }

    /// A lost run may go on here: its body is to see what it names.
    pub(super) fn name_retry(&mut self, retry: &PendingRetry) {
        let Some(fire_time) = retry.named else { return };
        let origin = match BackfillId::of_run(retry.run) {
            Some((backfill, _)) => Origin::Backfill { backfill, fire_time, by: None },
            None => Origin::Trigger { by: None, fire_time: Some(fire_time), task: None },
        };
        if self.origin_of(retry.run).is_none() {
            self.asked.list_mut().push(Asked::new(retry.run, origin));
        }
    }

    fn cancel(&self, run: RunId, why: CancelReason) {
        if why == CancelReason::LockLost {
            self.publish(|job| EventKind::LockLost { job, run });
        }
        if let Some(running) = self.running.iter().find(|running| running.id() == run) {
            running.cancel();
        }
    }

    fn abort(&self, run: RunId) {
        if let Some(running) = self.running.iter().find(|running| running.id() == run) {
            running.abort();
        }
    }

    /// Answers the attempt that is over.
    fn body_ended(&mut self, run: RunId, outcome: Outcome) -> Option<Run> {
        let at = self.running.iter().position(|running| running.id() == run)?;
        let run = self.running.swap_remove(at);
        run_span::ended(run.span(), outcome);
        self.node().meters.runs_in_progress.decrement(1);
        Some(run)
    }

    fn retried(&mut self, retried: Retried) {
        self.keep_attempt(&retried);
        let Retried { run, attempt, outcome, wait, end, took, .. } = retried;
        drop(self.body_ended(run, outcome));
        self.job.meters.took(took);
        self.job.meters.retried();
        let error = end.error().map(EndText::share).unwrap_or_default();
        self.publish(|job| EventKind::RunRetried { job, run, attempt, outcome, took, wait, error });
    }

    /// A run is over; the store is to record it, or is not.
    fn ended(&mut self, ended: RunEnded, completes: bool, told: &mut Told) {
        let outcome = ended.outcome_told();
        let last = self.body_ended(ended.run, outcome);
        self.note_failures(outcome);
        let at = self.ends.iter().position(|(run, _)| *run == ended.run);
        let waiting = at.map(|at| self.ends.list_mut().swap_remove(at).1);
        if let Some(drain) = &self.drain {
            drain.record(&self.job.definition.name, ended.run, HowDrained::of(&ended));
        }
        let mut unfinished = self.take_unfinished(ended.run);
        let run = unfinished.as_mut().and_then(|unfinished| unfinished.of_hooks.take());
        let notes = self.notes(ended.run, last.as_ref(), unfinished);
        drop(last);
        if completes {
            // By the definition by which the machine goes on, which may not be that of the run.
            let from_completion = self.job.definition.schedule.counts_from_completion();
            let conclusion = Conclusion::new(self.job.clone(), ended, run, waiting, notes);
            let answers = self.job.host.asks.record_end(RecordEnd { conclusion, from_completion });
            return answers.into_iter().for_each(|input| told.push(&self.job, AnswerAtOnce::Input(input)));
        }
        conclude(&self.job, ended, run, None, notes);
        // Perhaps nobody waits.
        let _ = waiting.map(|waiting| waiting.send(outcome));
    }

    /// Says whether the job fails again and again.
    fn note_failures(&self, outcome: Outcome) {
        let (failing, job) = (&self.node().failing, &self.job.definition.name);
        match outcome {
            Outcome::Succeeded => failing.well(job),
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => {
                let failed = self.machine.last_runs().take_while(|run| run.outcome != Outcome::Succeeded);
                let since = failed.map(|run| run.started_at).min();
                failing.failed(job, self.machine.failures(), since.unwrap_or_else(|| self.job.wall()));
            }
            Outcome::Cancelled | Outcome::Lost => {}
        }
    }

    fn answer(&mut self, run: RunId, answer: Result<TriggerAnswer, Refusal>) {
        let at = self.triggers.iter().position(|(asked, _)| *asked == run);
        let reply = at.map(|at| self.triggers.list_mut().swap_remove(at).1);
        // Whoever asked may have given up; the run is recorded all the same.
        match reply {
            Some(TriggerReply::Leader(reply)) => {
                let _ = reply.send(answer.map(|answer| self.triggered(run, answer)));
            }
            Some(TriggerReply::Caller(reply)) => {
                let answer = self.told(run, answer).map(|answer| self.triggered(run, answer));
                let _ = reply.send(answer);
            }
            // The leader asks again for a run of a backfill.
            None if BackfillId::of_run(run).is_some() => {}
            None => drop(self.told(run, answer)),
        }
    }

    /// As a caller is told of it; what started nothing is recorded.
    fn told(
        &self,
        run: RunId,
        answer: Result<TriggerAnswer, Refusal>,
    ) -> Result<TriggerAnswer, TriggerError> {
        answer.map_err(|refusal| {
            let error = not_triggered(&self.job.definition.name, refusal);
            self.record_refused(run, &error);
            error
        })
    }

    /// A run whose end can be waited for.
    fn triggered(&mut self, run: RunId, answer: TriggerAnswer) -> TriggeredRun {
        let triggered = match answer {
            TriggerAnswer::Started => Triggered::Started(run),
            TriggerAnswer::Queued => Triggered::Queued(run),
        };
        let (ended, end) = oneshot::channel();
        self.ends.list_mut().push((run, ended));
        TriggeredRun::new(triggered, end, self.node().over.clone())
    }
}
