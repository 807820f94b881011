//! A job actor performs the effects of one job's machine.
//!
//! It owns the machine, its timer and the run in progress. The supervisor starts, resumes, suspends and stops it, the
//! lock actor answers its claims, and each run reports its end. When it dies, the supervisor gets its remains and
//! starts a new one with them: machine, run and cursor survive.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use futures_util::stream::AbortHandle;
use pin_project_lite::pin_project;
use serde::Serialize;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        job::{Effect, Effects, End, Ended, Input, JobMachine, Refusal, Retried, Start},
        misfire::next_after,
        policy::{Fires, Policies},
        time::{FireTime, Now},
    },
    drain::{Drain, HowDrained},
    error::TriggerError,
    event::{CancelReason, EventKind, Outcome},
    lock::{AdvanceCursor, Ask, ClaimRun, CompleteRun},
    name::{JobName, LockKey, RunId, Tag},
    node::{JobRef, Node},
    run::Origin,
    run_task::{self, RunTask},
    supervisor::{JobDied, JobRetired, Undelivered},
};

/// The longest time a timer is armed for; waking up early is harmless, and once a day costs nothing.
///
/// A timer of the runtime reaches two years. That the clock is set meanwhile is the supervisor's to notice.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// Something on its way to a job's actor. If the actor is dead by then, it goes back to the supervisor: neither the end
/// of a run, nor a granted claim, nor a drain may get lost in a closed mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Letter {
    job: Arc<JobRef>,
    content: Option<Content>,
}

/// What a letter says.
pub(crate) enum Content {
    /// An input for the machine.
    Input(Input),
    /// The engine shuts down: no tick is armed any more; the drain is kept until nothing runs.
    Drain(Arc<Drain>),
}

impl Letter {
    pub(crate) fn send(job: &Arc<JobRef>, input: Input) {
        Self::post(job, Content::Input(input));
    }

    pub(crate) fn post(job: &Arc<JobRef>, content: Content) {
        job.node.placement.post(job.generation, Self { job: job.clone(), content: Some(content) });
    }

    /// Hands the letter to the actor's mailbox; best on the actor's own thread.
    pub(crate) fn deliver(self) {
        let job = self.job.clone();
        job.addr.do_send(self);
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        if let Some(content) = self.content.take() {
            self.job.node.supervisor().do_send(Undelivered { job: self.job.clone(), content });
        }
    }
}

/// Wants a run now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Trigger {
    pub(crate) reply: oneshot::Sender<Result<RunId, TriggerError>>,
}

/// The run in progress is to stop. Answers which one that is.
#[derive(Message)]
#[rtype(result = "Option<RunId>")]
pub(crate) struct CancelRun;

/// Asks for the next fire times, up to so many.
#[derive(Message)]
#[rtype(result = "Vec<FireTime>")]
pub(crate) struct Upcoming(pub(crate) usize);

/// Asks what the job is doing.
#[derive(Message)]
#[rtype(result = "JobStatus")]
pub(crate) struct Status;

/// The job was removed: no tick is armed any more, and the actor stops when nothing runs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// What is left of an actor that died.
pub(crate) struct Remains {
    pub(crate) machine: JobMachine,
    running: Option<Running>,
    drain: Option<Arc<Drain>>,
    /// The job was removed.
    pub(crate) retiring: bool,
}

impl Remains {
    pub(crate) fn none(job: &crate::definition::Definition, cursor: DateTime<Utc>) -> Self {
        let machine = JobMachine::new(job.schedule.clone(), job.policies, cursor);
        Self { machine, running: None, drain: None, retiring: false }
    }
}

/// The handles of the body in progress.
struct Running {
    run: RunId,
    cancellation: CancellationToken,
    abort: AbortHandle,
}

/// Performs the effects of one [`JobMachine`].
pub(crate) struct JobActor {
    job: Arc<JobRef>,
    machine: JobMachine,
    running: Option<Running>,
    trigger: Option<oneshot::Sender<Result<RunId, TriggerError>>>,
    /// When the machine wants to be woken up; the alarm follows.
    wake_at: Option<Instant>,
    drain: Option<Arc<Drain>>,
    /// It stops when nothing runs.
    retiring: bool,
    /// It was told to stop: whatever else ends it is a death.
    stopped_on_purpose: bool,
}

impl JobActor {
    pub(crate) fn new(job: Arc<JobRef>, remains: Remains) -> Self {
        let Remains { machine, running, drain, retiring } = remains;
        Self {
            job,
            machine: machine.revive(),
            running,
            trigger: None,
            wake_at: None,
            drain,
            retiring,
            stopped_on_purpose: false,
        }
    }

    fn node(&self) -> &Node {
        &self.job.node
    }

    /// Feeds the machine and does what it says.
    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let now = self.job.now();
        let effects = self.machine.feed(now, input);
        self.perform(effects);
        // Only now: the schedule is code of the application, and may panic.
        let effects = self.machine.decide(now);
        self.perform(effects);
        self.arm(now);
        self.settle(ctx);
    }

    fn arm(&mut self, now: Now) {
        self.wake_at = self.machine.wake_in(now).map(|wait| Instant::now() + wait.min(SLEEP_MAX));
    }

    /// Lets go of the drain, and of the actor itself, when nothing runs any more.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        if self.machine.is_drained() {
            self.drain = None;
        }
        if self.retiring && self.machine.is_idle() {
            self.stopped_on_purpose = true;
            ctx.stop();
        }
    }

    fn perform(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Claim { run, tick, settle } => {
                    self.node().ask(Ask::Claim(ClaimRun {
                        job: self.job.clone(),
                        run,
                        tick,
                        settle,
                        tries: 0,
                    }));
                }
                Effect::Advance(advance) => {
                    self.node().ask(Ask::Advance(AdvanceCursor { job: self.job.clone(), advance, tries: 0 }));
                }
                Effect::Start(start) => self.start(start),
                Effect::Cancel { run, why } => self.cancel(run, why),
                Effect::Abort { run } => self.abort(run),
                Effect::Complete { run, outcome, .. } => {
                    self.node().ask(Ask::Complete(CompleteRun { run, outcome }));
                }
                Effect::Retried(retried) => self.retried(retried),
                Effect::Ended(ended) => self.ended(ended),
                Effect::Skipped { newest, reason, count, at_least } => self.publish(|job| {
                    EventKind::TickSkipped { job, fire_time: newest, reason, count, at_least }
                }),
                Effect::Count { started, skips } => self.job.meters.decided(started, &skips),
                Effect::Contended { holder } => self.publish(|job| EventKind::LockContended { job, holder }),
                Effect::Unavailable { reason } => {
                    self.publish(|job| EventKind::LockUnavailable { job, reason });
                }
                Effect::Answer(answer) => self.answer(answer),
            }
        }
    }

    fn publish(&self, kind: impl FnOnce(JobName) -> EventKind) {
        self.node().publisher.publish(|| kind(self.job.definition.name.clone()));
    }

    fn start(&mut self, start: Start) {
        let cancellation = CancellationToken::new();
        let (abort, registration) = AbortHandle::new_pair();
        let body = self.job.definition.body.get();
        let (abortable, elsewhere) = (body.abortable(), body.elsewhere());
        self.running = Some(Running { run: start.run, cancellation: cancellation.clone(), abort });
        if let Some(drain) = &self.drain {
            drain.expect(&self.job.definition.name, start.run);
        }
        self.node().meters.runs_in_progress.increment(1);
        let origin = start.tick.map_or(Origin::Manual, Origin::Tick);
        let task = RunTask { job: self.job.clone(), start, origin, cancellation, registration, abortable };
        let work = run_task::future(task);
        if elsewhere {
            // Not behind bodies that block every thread for bodies, of which it needs none.
            actix_rt::spawn(work);
        } else {
            self.node().spawner.spawn(work);
        }
    }

    fn cancel(&self, run: RunId, why: CancelReason) {
        if why == CancelReason::LockLost {
            self.publish(|job| EventKind::LockLost { job, run });
        }
        if let Some(running) = self.running.as_ref().filter(|running| running.run == run) {
            running.cancellation.cancel();
        }
    }

    fn abort(&self, run: RunId) {
        if let Some(running) = self.running.as_ref().filter(|running| running.run == run) {
            running.abort.abort();
        }
    }

    fn body_ended(&mut self, run: RunId) {
        if self.running.take_if(|running| running.run == run).is_some() {
            self.node().meters.runs_in_progress.decrement(1);
        }
    }

    fn retried(&mut self, retried: Retried) {
        let Retried { run, attempt, outcome, pause, end, took } = retried;
        self.body_ended(run);
        self.job.meters.run_duration.record(took.as_secs_f64());
        self.job.meters.run_retries.increment(1);
        let error = match end {
            End::Failed { error, .. } => error,
            End::Panicked(message) => message,
            End::Returned | End::Aborted | End::BetweenAttempts => "".into(),
        };
        self.publish(|job| EventKind::RunRetried { job, run, attempt, outcome, took, pause, error });
    }

    fn ended(&mut self, ended: Ended) {
        self.body_ended(ended.run);
        if let Some(drain) = &self.drain {
            drain.record(&self.job.definition.name, ended.run, HowDrained::of(&ended));
        }
        conclude(&self.job, ended);
    }

    fn answer(&mut self, answer: Result<RunId, Refusal>) {
        let job = self.job.definition.name.clone();
        let answer = answer.map_err(|refusal| match refusal {
            Refusal::Overlap { holder } => TriggerError::Overlap { job, holder },
            Refusal::Unavailable { reason } => TriggerError::Unavailable { job, reason },
        });
        if let Some(reply) = self.trigger.take() {
            // Whoever triggered may have given up; the run is recorded all the same.
            let _ = reply.send(answer);
        }
    }

    fn status(&self, now: DateTime<Utc>) -> JobStatus {
        let definition = &self.job.definition;
        let next = match self.machine.next_fire_time() {
            Some(next) => Some(next),
            None => next_after(&*definition.schedule, now.max(self.machine.cursor())),
        };
        let state = match (self.machine.active_run(), self.machine.is_firing(), next) {
            (Some(run), _, _) if run.aborted => JobState::StillRunning,
            (Some(_), _, _) => JobState::Running,
            (None, _, None) => JobState::Exhausted,
            (None, true, Some(_)) => JobState::Scheduled,
            (None, false, Some(_)) => JobState::Standby,
        };
        JobStatus { next_fire_time: next, state, ..JobStatus::of(definition, &self.machine) }
    }
}

/// Counts a run that ended, and says so.
pub(crate) fn conclude(job: &JobRef, ended: Ended) {
    let Ended { run, outcome, cancelled, end, started_at, took, recorded, .. } = ended;
    if recorded {
        job.meters.ended(outcome);
    }
    if started_at.is_some() {
        job.meters.run_duration.record(took.as_secs_f64());
    }
    job.node.publisher.publish(|| {
        let name = job.definition.name.clone();
        match (outcome, end) {
            (Outcome::Failed, End::Failed { error, .. }) => {
                EventKind::RunFailed { job: name, run, took, error }
            }
            (Outcome::Panicked, End::Panicked(message)) => {
                EventKind::RunPanicked { job: name, run, took, message }
            }
            (Outcome::TimedOut, _) => EventKind::RunTimedOut { job: name, run, took },
            (Outcome::Succeeded, _) => EventKind::RunSucceeded { job: name, run, took },
            (Outcome::Cancelled | Outcome::Failed | Outcome::Panicked | Outcome::Lost, _) => {
                EventKind::RunCancelled {
                    job: name,
                    run,
                    took,
                    why: cancelled.unwrap_or(CancelReason::Dropped),
                }
            }
        }
    });
}

impl Actor for JobActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // What a predecessor's machine waits for: the timeout of its run, the next attempt, the claim to be asked again.
        self.arm(self.job.now());
        ctx.spawn(Alarm { armed: None, sleep: None });
        if self.retiring || self.drain.is_some() {
            self.settle(ctx);
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let name = &self.job.definition.name;
        if self.stopped_on_purpose {
            self.node().supervisor().do_send(JobRetired { generation: self.job.generation });
            return;
        }
        // During the unwinding of a panic: nothing here may panic again.
        let definition = &self.job.definition;
        let empty = JobMachine::new(definition.schedule.clone(), definition.policies, self.machine.cursor());
        let remains = Remains {
            machine: std::mem::replace(&mut self.machine, empty),
            running: self.running.take(),
            drain: self.drain.take(),
            retiring: self.retiring,
        };
        tracing::error!(target: "callsheet", job = %name, "the actor of a job died");
        self.node().supervisor().do_send(JobDied { job: self.job.clone(), remains });
    }
}

impl Handler<Letter> for JobActor {
    type Result = ();

    fn handle(&mut self, mut letter: Letter, ctx: &mut Self::Context) {
        match letter.content.take() {
            Some(Content::Input(input)) => self.step(input, ctx),
            Some(Content::Drain(drain)) => {
                if let Some(run) = self.machine.active_run() {
                    drain.expect(&self.job.definition.name, run.run);
                }
                let definition = &self.job.definition;
                if let (Some(next), true) =
                    (self.machine.next_fire_time(), definition.policies.fires != Fires::Local)
                {
                    drain.leave(&definition.name, next);
                }
                self.drain = Some(drain);
                self.step(Input::Suspend, ctx);
            }
            None => {}
        }
    }
}

impl Handler<Trigger> for JobActor {
    type Result = ();

    fn handle(&mut self, Trigger { reply }: Trigger, ctx: &mut Self::Context) {
        if self.trigger.is_some() {
            let job = self.job.definition.name.clone();
            // Whoever triggered may have given up.
            let _ = reply.send(Err(TriggerError::Overlap { job, holder: None }));
            return;
        }
        self.trigger = Some(reply);
        self.step(Input::Trigger, ctx);
    }
}

impl Handler<CancelRun> for JobActor {
    type Result = MessageResult<CancelRun>;

    fn handle(&mut self, _: CancelRun, ctx: &mut Self::Context) -> Self::Result {
        let run = self.machine.active_run().map(|run| run.run);
        self.step(Input::Cancel(CancelReason::Requested), ctx);
        MessageResult(run)
    }
}

impl Handler<Upcoming> for JobActor {
    type Result = MessageResult<Upcoming>;

    fn handle(&mut self, Upcoming(count): Upcoming, _: &mut Self::Context) -> Self::Result {
        let schedule = &*self.job.definition.schedule;
        let after = self.job.now().wall.max(self.machine.cursor());
        let first = self.machine.next_fire_time().or_else(|| next_after(schedule, after));
        let following = |last: &FireTime| next_after(schedule, last.instant());
        MessageResult(std::iter::successors(first, following).take(count).collect())
    }
}

impl Handler<Status> for JobActor {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status(self.node().clock.now()))
    }
}

impl Handler<Retire> for JobActor {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.retiring = true;
        self.step(Input::Suspend, ctx);
    }
}

pin_project! {
    /// Wakes the job up when its machine wants. One future for the life of the actor: it is polled after every message
    /// and follows the actor's `wake_at`, so that arming a timer allocates nothing.
    struct Alarm {
        armed: Option<Instant>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl ActorFuture<JobActor> for Alarm {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut JobActor,
        ctx: &mut Context<JobActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        loop {
            if *this.armed != actor.wake_at {
                *this.armed = actor.wake_at;
                match (actor.wake_at, this.sleep.as_mut().as_pin_mut()) {
                    (Some(at), Some(sleep)) => sleep.reset(at),
                    (Some(at), None) => this.sleep.set(Some(tokio::time::sleep_until(at))),
                    (None, _) => this.sleep.set(None),
                }
            }
            let Some(sleep) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
            if this.armed.is_none() || sleep.poll(task).is_pending() {
                return Poll::Pending;
            }
            *this.armed = None;
            actor.wake_at = None;
            actor.step(Input::WakeUp, ctx);
            if actor.wake_at.is_none() {
                // The sleep has elapsed and must not be polled again before it is reset.
                return Poll::Pending;
            }
        }
    }
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// This node waits for its next fire time.
    Scheduled,
    /// Another node, or nobody, fires it.
    Standby,
    /// A run is in progress on this node.
    Running,
    /// A run was aborted and has not ended yet: it blocks, or it cannot be aborted.
    StillRunning,
    /// It has no fire time any more.
    Exhausted,
    /// Its actor died too often. It does not fire until it is [resumed](crate::ResumeJobs).
    Broken,
    /// Its actor did not answer in time.
    Unresponsive,
}

/// A job, as its node sees it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The name.
    pub name: JobName,
    /// The schedule in words.
    pub schedule: Arc<str>,
    /// The IANA name of the schedule's time zone, if it has one.
    pub timezone: Option<String>,
    /// What a run excludes.
    pub lock_key: LockKey,
    /// The labels by which it is selected.
    pub tags: Vec<Tag>,
    /// The policies.
    pub policies: Policies,
    /// What it is doing.
    pub state: JobState,
    /// The next fire time, whichever node fires it; `None` if there is none or if it is not known.
    pub next_fire_time: Option<FireTime>,
    /// The run in progress on this node.
    pub active_run: Option<ActiveRunStatus>,
    /// The last run that ended on this node.
    pub last_run: Option<LastRunStatus>,
}

/// A run in progress.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ActiveRunStatus {
    /// The run.
    pub run: RunId,
    /// The tick; `None` for a manual trigger.
    pub fire_time: Option<FireTime>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// It was aborted and has not ended yet.
    pub still_running: bool,
}

/// A run that ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LastRunStatus {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// When its body started.
    pub started_at: DateTime<Utc>,
    /// How long its body took.
    pub took: Duration,
}

impl JobStatus {
    fn of(definition: &crate::definition::Definition, machine: &JobMachine) -> Self {
        Self {
            active_run: machine.active_run().map(|run| ActiveRunStatus {
                run: run.run,
                fire_time: run.tick,
                started_at: run.started_at,
                still_running: run.aborted,
            }),
            last_run: machine.last_run().map(|last| LastRunStatus {
                run: last.run,
                outcome: last.outcome,
                started_at: last.started_at,
                took: last.took,
            }),
            ..Self::without_actor(definition, JobState::Standby)
        }
    }

    /// What is known without asking the job's actor.
    pub(crate) fn without_actor(definition: &crate::definition::Definition, state: JobState) -> Self {
        Self {
            name: definition.name.clone(),
            schedule: definition.description.clone(),
            timezone: definition.schedule.timezone().map(str::to_owned),
            lock_key: definition.key.clone(),
            tags: definition.tags.to_vec(),
            policies: definition.policies,
            state,
            next_fire_time: None,
            active_run: None,
            last_run: None,
        }
    }
}
