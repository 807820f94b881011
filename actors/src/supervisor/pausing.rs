//! How jobs are paused and resumed, on all nodes.
//!
//! Decided here: whether a pause may be asked so, and that one which a body asked for is told to the store
//! until that knows it. The store decides what holds on all nodes, and each job's machine what a pause means
//! for its ticks.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, Entry, Phase, SupervisorActor, cluster::Written};
use crate::{
    core::{
        backoff::Backoff,
        job::Input,
        policy::Fires,
        storable::storable,
        sweep::Sweep,
        text::{TEXT_MAX, bounded},
    },
    error::{Fault, Faults, PauseError},
    event::EventKind,
    job::{JobHandle, JobMessage, record_operation, record_paused},
    lock::{LockActor, PauseInStore},
    message::{PAGE_MAX, PauseJobs, ResumeJobs, Selector},
    name::JobName,
    note::Attribution,
    port::{JobOperation, LockError, PAUSE_NOTE_MAX, Pause},
};

/// The store has paused, or resumed, these jobs for this node. They are told, after all that was sent to the
/// supervisor before.
#[derive(Message)]
#[rtype(result = "()")]
struct Told {
    jobs: Vec<Arc<JobHandle>>,
    pause: Option<Pause>,
}

/// A pause, as another node asks for it that may have written it already.
#[derive(Message)]
#[rtype(result = "Result<Vec<JobName>, PauseError>")]
pub(super) struct PauseUnwritten(pub(super) PauseJobs, pub(super) Written);

/// The end of a pause, as another node asks for it.
#[derive(Message)]
#[rtype(result = "Result<Vec<JobName>, PauseError>")]
pub(super) struct ResumeUnwritten(pub(super) ResumeJobs, pub(super) Written);

/// Asks which of the selected jobs have a pause that holds on all nodes.
#[derive(Message)]
#[rtype(result = "Vec<JobName>")]
pub(super) struct SharedJobs(pub(super) Selector);

/// The next jobs that may have missed a notification are to be told.
#[derive(Message)]
#[rtype(result = "()")]
struct TellNext;

/// The body of a job said that it is to stop for good.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopJob {
    job: JobName,
    pause: Pause,
    /// How long to wait before the store is told once more, if it does not answer.
    again: Backoff,
}

impl StopJob {
    pub(super) fn new(job: JobName, pause: Pause, seed: u64) -> Self {
        Self { job, pause, again: Backoff::new(STOP_AGAIN_MIN, STOP_AGAIN_MAX, seed) }
    }
}

/// The pause before the store is told once more that a job is to stop; it doubles up to [`STOP_AGAIN_MAX`].
const STOP_AGAIN_MIN: Duration = Duration::from_secs(1);
/// The longest pause before the store is told once more that a job is to stop.
const STOP_AGAIN_MAX: Duration = Duration::from_secs(60);

/// How many jobs at a time are told that notifications were missed.
const TELL_PAGE: usize = 1_000;

/// The pause between two pages of them, in which the supervisor and the jobs do what else there is to do.
const TELL_PAUSE: Duration = Duration::from_millis(10);

impl SupervisorActor {
    /// Which jobs were resumed is not known: each finds out by itself, if it matters to it.
    fn tell_next(&mut self, ctx: &mut Context<Self>) {
        let Some(mut telling) = self.telling.take() else { return };
        for (_, Entry { job, firing, .. }) in telling.next_page(&self.jobs, TELL_PAGE, |_| true) {
            if firing.fires() != Fires::Local {
                job.send(Input::NotificationsLagged);
            }
        }
        self.telling = telling.goes_on().then_some(telling);
        if self.telling.is_some() {
            ctx.notify_later(TellNext, TELL_PAUSE);
        }
    }

    /// Pauses the selected jobs, or has somebody resume them, except what is written already. Answers those that were
    /// changed by it.
    fn pause(
        &mut self,
        selector: &Selector,
        pause: Option<Pause>,
        asked: Attribution,
        written: &Written,
        ctx: &Context<Self>,
    ) -> ResponseActFuture<Self, Result<Vec<JobName>, PauseError>> {
        let mut names = match self.select(selector) {
            Ok(names) => names,
            Err(error) => return Box::pin(async move { Err(error.into()) }.into_actor(self)),
        };
        names.retain(|name| written.means(name));
        let jobs = names.iter().filter_map(|name| Some(self.jobs.get(name)?.job.clone()));
        let (local, mut shared): (Vec<_>, Vec<_>) =
            jobs.partition(|job| job.definition.policies.fires == Fires::Local);
        shared.retain(|job| !written.jobs.contains(&job.definition.name));
        let lock = self.parts.lock.clone();
        let stored = pause_all(local, shared, pause.clone(), lock, ctx.address());
        Box::pin(stored.into_actor(self).map(move |stored, actor, _| {
            let (changed, bad) = stored?;
            let mut names = Vec::new();
            for job in changed {
                let name = job.definition.name.clone();
                names.push(name.clone());
                actor.record_pause(&name, pause.as_ref(), &asked);
                if pause.is_none() {
                    // Its failures are counted anew.
                    actor.node().failing.well(&name);
                }
                actor.publish(|| match &pause {
                    Some(pause) => EventKind::JobPaused { job: name, pause: pause.clone() },
                    None => EventKind::JobResumed { job: name, by: asked.by.clone() },
                });
            }
            names.sort();
            let count = bad.len();
            match bad.into_iter().next() {
                Some((job, reason)) => Err(PauseError::BadData { job, count, reason }),
                None => Ok(names),
            }
        }))
    }
}

impl SupervisorActor {
    /// Records that a job is paused from now on, or is not.
    fn record_pause(&self, job: &JobName, pause: Option<&Pause>, asked: &Attribution) {
        let node = self.node();
        node.recorder.paused(job, node.store_time(), pause);
        match pause {
            Some(pause) => record_paused(node, job, pause),
            None => record_operation(node, job, JobOperation::Resumed, asked, || None),
        }
    }
}

/// Jobs that a pause, or its end, has changed, and those that the store refuses for their data.
type Paused = (Vec<Arc<JobHandle>>, Vec<(JobName, String)>);

/// Pauses, or resumes, the jobs of this node alone at their actors, and the others in the store, page by page.
async fn pause_all(
    local: Vec<Arc<JobHandle>>,
    shared: Vec<Arc<JobHandle>>,
    asked: Option<Pause>,
    lock: Addr<LockActor>,
    own: Addr<SupervisorActor>,
) -> Result<Paused, PauseError> {
    let (mut changed, mut bad) = (Vec::new(), Vec::new());
    for job in local {
        // One that does not answer in time is told all the same.
        let pause = asked.clone();
        let answer = job.ask(|reply| JobMessage::PauseLocal { pause, reply });
        if matches!(timeout(ANSWER_DEADLINE, answer).await, Ok(Ok(true))) {
            changed.push(job);
        }
    }
    for page in shared.chunks(PAGE_MAX) {
        let jobs = page.iter().map(|job| job.definition.name.clone()).collect();
        let answers = lock.send(PauseInStore { jobs, pause: asked.clone() }).await;
        let answers = answers.unwrap_or(Err(LockError::Timeout));
        let answers =
            answers.map_err(|error| PauseError::Unavailable { reason: bounded(error, TEXT_MAX) })?;
        let mut told = Vec::with_capacity(page.len());
        for (job, answer) in page.iter().zip(answers) {
            // Whatever the store answered of one, it stands as was asked: this node may not have
            // heard of it.
            if answer.is_ok() || asked.is_none() {
                told.push(job.clone());
            }
            match answer {
                Ok(true) => changed.push(job.clone()),
                Ok(false) => {}
                Err(reason) => bad.push((job.definition.name.clone(), bounded(reason, TEXT_MAX))),
            }
        }
        // The lock actor has handed on all notifications of older changes: first those, then this
        // one. Now, not after the last page: newer ones may come before. No answer: this actor stops.
        let _ = own.send(Told { jobs: told, pause: asked.clone() }).await;
    }
    Ok((changed, bad))
}

impl Handler<PauseJobs> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<JobName>, PauseError>>;

    fn handle(&mut self, asked: PauseJobs, ctx: &mut Self::Context) -> Self::Result {
        self.handle(PauseUnwritten(asked, Written::default()), ctx)
    }
}

impl Handler<PauseUnwritten> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<JobName>, PauseError>>;

    fn handle(
        &mut self,
        PauseUnwritten(asked, written): PauseUnwritten,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let PauseJobs { jobs, until, note, by } = asked;
        let note = note.map(|note| storable(&note).into_owned());
        let mut faults = Vec::new();
        if let Some(note) = note.as_ref().filter(|note| note.len() > PAUSE_NOTE_MAX) {
            let rule = format!("the note of a pause has at most {PAUSE_NOTE_MAX} bytes");
            faults.push(Fault::new("note", format!("{} bytes", note.len()), rule, "shorten it"));
        }
        let now = self.node().now_in_store().wall;
        if let Some(until) = until.filter(|until| *until <= now) {
            let rule = "a pause ends in the future";
            faults.push(Fault::new("until", until.to_string(), rule, "choose a later instant"));
        }
        if let Err(faults) = Faults::check(faults) {
            return Box::pin(async move { Err(PauseError::Invalid(faults)) }.into_actor(self));
        }
        self.pause(&jobs, Some(Pause { until, note, by }), Attribution::default(), &written, ctx)
    }
}

impl Handler<ResumeJobs> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<JobName>, PauseError>>;

    fn handle(&mut self, asked: ResumeJobs, ctx: &mut Self::Context) -> Self::Result {
        self.handle(ResumeUnwritten(asked, Written::default()), ctx)
    }
}

impl Handler<ResumeUnwritten> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<JobName>, PauseError>>;

    fn handle(
        &mut self,
        ResumeUnwritten(asked, written): ResumeUnwritten,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let ResumeJobs { jobs, asked } = asked;
        let mut revived = self.select(&jobs).unwrap_or_default();
        revived.retain(|name| written.means(name) && self.revive(name, ctx));
        let resumed = self.pause(&jobs, None, asked, &written, ctx);
        Box::pin(resumed.map(move |resumed, _, _| {
            let mut names = resumed?;
            names.extend(revived);
            names.sort();
            names.dedup();
            Ok(names)
        }))
    }
}

impl Handler<SharedJobs> for SupervisorActor {
    type Result = MessageResult<SharedJobs>;

    fn handle(&mut self, SharedJobs(jobs): SharedJobs, _: &mut Self::Context) -> Self::Result {
        let mut names = self.select(&jobs).unwrap_or_default();
        let policies = |name: &JobName| self.jobs.get(name).map(|entry| &entry.job.definition.policies);
        names.retain(|name| policies(name).is_some_and(|policies| policies.fires != Fires::Local));
        names.sort();
        MessageResult(names)
    }
}

impl Handler<StopJob> for SupervisorActor {
    type Result = ();

    /// Until the store knows, this node's machine keeps the job from firing. If the store refuses it for its
    /// data, that is all that does: it is not told once more.
    fn handle(&mut self, StopJob { job, pause, mut again }: StopJob, ctx: &mut Self::Context) {
        let (jobs, unwritten) = (Selector::from(&job), Written::default());
        let paused = self.pause(&jobs, Some(pause.clone()), Attribution::default(), &unwritten, ctx);
        ctx.spawn(paused.map(move |paused, actor, ctx| {
            if let Err(PauseError::BadData { reason, .. }) = &paused {
                tracing::error!(target: "callsheet", job = %job, "a job stops on this node only, as the store refuses its pause: {reason}");
            }
            let is_unknown = matches!(paused, Err(PauseError::Unavailable { .. }));
            if is_unknown && matches!(actor.phase, Phase::Running) {
                let pause_before = again.failed();
                ctx.notify_later(StopJob { job, pause, again }, pause_before);
            }
        }));
    }
}

impl Handler<Told> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Told { jobs, pause }: Told, _: &mut Self::Context) {
        for job in &jobs {
            job.send(Input::Pause(pause.clone()));
        }
    }
}

impl SupervisorActor {
    /// A job was paused or resumed, on this or another node.
    pub(super) fn on_pause_changed(&self, job: &JobName, pause: Option<Pause>) {
        let shared = |job: &&Arc<JobHandle>| job.definition.policies.fires != Fires::Local;
        if let Some(job) = self.jobs.get(job).map(|entry| &entry.job).filter(shared) {
            job.send(Input::Pause(pause));
        }
    }

    /// Too much was done at once for this node to hear all of it: each job is told, page by page, and one
    /// pass at a time. A change of very many jobs on one node may be missed over and over on this one.
    pub(super) fn on_notifications_lagged(&mut self, ctx: &mut Context<Self>) {
        match &mut self.telling {
            Some(telling) => telling.once_more(),
            None => {
                self.telling = Some(Sweep::default());
                self.tell_next(ctx);
            }
        }
    }
}

impl Handler<TellNext> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: TellNext, ctx: &mut Self::Context) {
        self.tell_next(ctx);
    }
}
