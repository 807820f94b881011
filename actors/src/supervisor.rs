//! The supervisor actor owns the jobs, by name, and is the one address that an application talks to.
//!
//! It validates definitions, starts a job actor for each, and keeps definition and generation. When a job actor dies it
//! gets its remains and starts another one within a restart budget. When this node starts to lead, it enrols its jobs
//! with the store page by page and resumes each from its cursor. It shuts the node down in order. Nothing of it
//! survives a restart of the engine but what the store keeps.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use actix::{dev::channel::channel, prelude::*};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::{
    sync::oneshot,
    time::{timeout, timeout_at},
};

use crate::{
    CALL_DEADLINE,
    core::{job::Input, policy::Fires},
    definition::{Definition, Job},
    drain::{Drain, ShutdownReport},
    election::{ElectionActor, PingElection, Resign, SessionChanged, StopElection},
    error::{AddError, Fault, Faults, RemoveError, TriggerError},
    event::{CancelReason, EventKind},
    job::{JobActor, JobState, JobStatus, Letter, Remains, Retire, StartDrain, Status, Trigger, conclude},
    listener::{Flush, Listen, ListenerActor, StopListening},
    lock::{AskLockHealth, CloseLostRuns, CloseSession, CompleteRun, EnrolJobs, WithdrawJobs, report_lost},
    name::{JobName, NodeId, RunId, Term},
    node::{JobRef, Node},
    placement::Placement,
    port::{Enrolled, Enrolment, Role},
};

/// The most jobs in one page of a listing, or of an enrolment.
pub const PAGE_MAX: usize = 1_024;
/// A job actor that dies more often than this within [`RESTART_PERIOD`] is not started again.
pub const RESTARTS_MAX: u32 = 5;
/// The time within which the deaths of a job actor are counted.
pub const RESTART_PERIOD: Duration = Duration::from_secs(60);
/// How long the supervisor waits for another actor's answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// The pause before an enrolment that failed is tried again.
const ENROL_AGAIN: Duration = Duration::from_millis(500);
/// A round trip to the store that takes longer makes the node unhealthy.
const STALL: Duration = Duration::from_secs(2);
/// How long aborted bodies get to end before a shutdown leaves them behind.
const ABORT_WAIT: Duration = Duration::from_secs(1);
/// The default time between cancelling and aborting the runs that did not drain.
pub const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// Adds one job.
#[derive(Message)]
#[rtype(result = "Result<JobName, AddError>")]
pub struct AddJob(pub Job);

/// Adds all of the jobs, or none.
#[derive(Message)]
#[rtype(result = "Result<Vec<JobName>, AddError>")]
pub struct AddJobs(pub Vec<Job>);

/// Which jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// The job of this name.
    Name(String),
    /// Every job with this tag.
    Tag(String),
    /// Every job.
    All,
}

impl From<&str> for Selector {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&JobName> for Selector {
    fn from(name: &JobName) -> Self {
        Self::Name(name.as_str().to_owned())
    }
}

/// Removes jobs, and answers their names. A run in progress goes on to its end.
#[derive(Message)]
#[rtype(result = "Result<Vec<JobName>, RemoveError>")]
pub struct RemoveJobs(pub Selector);

/// Starts a run now, on this node, under the job's lock key, without moving the schedule. Answers when it is decided
/// whether it starts.
#[derive(Message)]
#[rtype(result = "Result<RunId, TriggerError>")]
pub struct TriggerJob(pub String);

/// Lists jobs in the order of their names.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "JobPage")]
pub struct ListJobs {
    /// Only names after this one: [`JobPage::next`] of the page before.
    pub after: Option<String>,
    /// How many at most, up to [`PAGE_MAX`]; 0 is [`PAGE_MAX`].
    pub limit: usize,
}

/// One page of a listing.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs of the page.
    pub jobs: Vec<JobStatus>,
    /// Where the next page starts; `None` if this is the last.
    pub next: Option<String>,
}

/// Asks for one job.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<JobStatus>")]
pub struct JobDetails(pub String);

/// Asks how the node is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "HealthReport")]
pub struct Health;

/// How a node is.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// The node.
    pub node: NodeId,
    /// What its store is called.
    pub backend: &'static str,
    /// What it is to its cluster.
    pub role: Role,
    /// The term in which it leads; `None` for a follower.
    pub term: Option<Term>,
    /// How many jobs it holds.
    pub jobs: usize,
    /// It can do its work.
    pub healthy: bool,
    /// Why it cannot.
    pub problems: Vec<String>,
}

/// Stops the engine: no tick is armed any more, the term is given up, runs may end until `deadline` has passed, are then
/// cancelled, and aborted after a grace. Answers when it is over. Asking twice is harmless; the first deadline holds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct Shutdown {
    /// How long runs may drain.
    pub deadline: Duration,
}

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
    pub(crate) generation: u64,
}

/// An input that its job actor did not live to handle.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Undelivered {
    pub(crate) job: Arc<JobRef>,
    pub(crate) input: Input,
}

struct Entry {
    job: Arc<JobRef>,
    restarts: Restarts,
    broken: bool,
}

#[derive(Default)]
struct Restarts {
    since: Duration,
    count: u32,
}

/// What a supervisor is made of.
pub(crate) struct Supervised {
    pub(crate) node: Arc<Node>,
    pub(crate) backend: &'static str,
    pub(crate) single_node: bool,
    pub(crate) placement: Placement,
    pub(crate) listener: Addr<ListenerActor>,
    pub(crate) election: Addr<ElectionActor>,
    pub(crate) shutdown_grace: Duration,
    /// Dropped when the engine has stopped.
    pub(crate) stopped: Option<oneshot::Sender<()>>,
}

/// Owns the jobs.
pub struct SupervisorActor {
    parts: Supervised,
    jobs: BTreeMap<JobName, Entry>,
    /// Removed, or replaced after their death, with a run still in progress.
    retiring: BTreeMap<u64, Arc<JobRef>>,
    generations: u64,
    term: Option<Term>,
    to_enrol: VecDeque<JobName>,
    enrolling: bool,
    phase: Phase,
}

enum Phase {
    Running,
    ShuttingDown(Vec<oneshot::Sender<ShutdownReport>>),
    Stopped(ShutdownReport),
}

impl SupervisorActor {
    pub(crate) fn new(parts: Supervised) -> Self {
        Self {
            parts,
            jobs: BTreeMap::new(),
            retiring: BTreeMap::new(),
            generations: 0,
            term: None,
            to_enrol: VecDeque::new(),
            enrolling: false,
            phase: Phase::Running,
        }
    }

    fn node(&self) -> &Arc<Node> {
        &self.parts.node
    }

    fn publish(&self, kind: impl FnOnce() -> EventKind) {
        self.node().publisher.publish(kind);
    }

    // Adding and removing.

    fn add(&mut self, jobs: Vec<Job>, ctx: &mut Context<Self>) -> Result<Vec<JobName>, AddError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(AddError::ShuttingDown);
        }
        let now = self.node().clock.now();
        let (definitions, mut faults) = define_all(jobs, now);
        let invalid = !faults.is_empty();
        let existing = definitions.iter().filter(|definition| self.jobs.contains_key(&definition.name));
        faults.extend(existing.map(|definition| duplicate(&definition.name)));
        Faults::check(faults).map_err(|faults| if invalid { AddError::Invalid(faults) } else { AddError::Exists(faults) })?;

        let names: Vec<_> = definitions.iter().map(|definition| definition.name.clone()).collect();
        for definition in definitions {
            let name = definition.name.clone();
            let fires = definition.policies.fires;
            let job = self.start_actor(Arc::new(definition), move |job| Remains::none(&job.definition, now));
            self.publish(|| EventKind::JobAdded { job: name.clone() });
            self.resume(&job, fires, now);
            self.jobs.insert(name, Entry { job, restarts: Restarts::default(), broken: false });
        }
        self.node().meters.jobs.set(self.jobs.len() as f64);
        self.enrol(ctx);
        Ok(names)
    }

    fn start_actor<R>(&mut self, definition: Arc<Definition>, remains: R) -> Arc<JobRef>
    where
        R: FnOnce(&JobRef) -> Remains + Send + 'static,
    {
        self.generations += 1;
        let (sender, receiver) = channel(JOB_MAILBOX);
        let job = Arc::new(JobRef {
            meters: self.node().meters.of_job(&definition.name),
            definition,
            generation: self.generations,
            addr: Addr::new(sender),
            node: self.node().clone(),
        });
        let make = {
            let job = job.clone();
            move || {
                let remains = remains(&job);
                JobActor::new(job, remains)
            }
        };
        self.parts.placement.start(self.generations, make, receiver);
        job
    }

    /// Lets a job fire: at once if it is local, else after it is enrolled.
    fn resume(&mut self, job: &Arc<JobRef>, fires: Fires, cursor: chrono::DateTime<chrono::Utc>) {
        match fires {
            Fires::Local => Letter::send(job, Input::Resume { cursor, term: None }),
            Fires::Leader => {
                if self.term.is_some() {
                    self.to_enrol.push_back(job.definition.name.clone());
                }
            }
        }
    }

    fn remove(&mut self, selector: &Selector) -> Result<Vec<JobName>, RemoveError> {
        let names: Vec<JobName> = match selector {
            Selector::Name(name) => match self.jobs.get_key_value(name.as_str()) {
                Some((name, _)) => vec![name.clone()],
                None => return Err(RemoveError::UnknownJob { name: name.clone() }),
            },
            Selector::Tag(tag) => {
                let tagged = |entry: &Entry| entry.job.definition.tags.iter().any(|own| own.as_str() == tag);
                self.jobs.iter().filter(|(_, entry)| tagged(entry)).map(|(name, _)| name.clone()).collect()
            }
            Selector::All => self.jobs.keys().cloned().collect(),
        };
        let mut withdrawn = Vec::new();
        for name in &names {
            let Some(entry) = self.jobs.remove(name) else { continue };
            if entry.job.definition.policies.fires == Fires::Leader {
                withdrawn.push(name.clone());
            }
            self.retiring.insert(entry.job.generation, entry.job.clone());
            entry.job.addr.do_send(Retire);
            self.publish(|| EventKind::JobRemoved { job: name.clone() });
        }
        self.node().meters.jobs.set(self.jobs.len() as f64);
        for page in withdrawn.chunks(PAGE_MAX) {
            self.node().lock().do_send(WithdrawJobs(page.to_vec()));
        }
        Ok(names)
    }

    // Leading.

    /// Enrols the next page of jobs, if this node leads and no page is under way.
    fn enrol(&mut self, ctx: &mut Context<Self>) {
        let (Some(term), false) = (self.term, self.enrolling) else { return };
        let mut page = Vec::new();
        let mut jobs = Vec::new();
        while page.len() < PAGE_MAX
            && let Some(name) = self.to_enrol.pop_front()
        {
            let Some(entry) = self.jobs.get(&name).filter(|entry| !entry.broken) else { continue };
            let schedule = entry.job.definition.description.to_string();
            page.push(Enrolment { job: name, schedule, term });
            jobs.push(entry.job.clone());
        }
        if page.is_empty() {
            return;
        }
        self.enrolling = true;
        let enrolled = self.node().lock().send(EnrolJobs(page));
        ctx.spawn(enrolled.into_actor(self).map(move |answer, actor, ctx| {
            actor.enrolling = false;
            match answer {
                Ok(Ok(answers)) => {
                    actor.on_enrolled(term, jobs, answers);
                    actor.enrol(ctx);
                }
                Ok(Err(_)) | Err(_) => {
                    actor.node().meters.coordination_error("enrol");
                    if actor.term == Some(term) {
                        actor.to_enrol.extend(jobs.iter().map(|job| job.definition.name.clone()));
                    }
                    ctx.run_later(ENROL_AGAIN, |actor, ctx| actor.enrol(ctx));
                }
            }
        }));
    }

    fn on_enrolled(&mut self, term: Term, jobs: Vec<Arc<JobRef>>, answers: Vec<Enrolled>) {
        if self.term != Some(term) {
            return;
        }
        for (job, answer) in jobs.into_iter().zip(answers) {
            match answer {
                // To the actor that was asked for: one that was added anew under the same name has its own answer.
                Enrolled::Done { cursor } => Letter::send(&job, Input::Resume { cursor, term: Some(term) }),
                Enrolled::Deposed { .. } => {
                    self.parts.election.do_send(crate::election::TermRefused(term));
                    return;
                }
            }
        }
    }

    /// Closes the runs of dead sessions, page by page.
    fn close_lost_runs(&mut self, ctx: &mut Context<Self>) {
        let lost = self.node().lock().send(CloseLostRuns);
        ctx.spawn(lost.into_actor(self).map(|answer, actor, ctx| {
            let Ok(Ok(lost)) = answer else {
                actor.node().meters.coordination_error("close_lost");
                if actor.term.is_some() {
                    ctx.run_later(ENROL_AGAIN, |actor, ctx| actor.close_lost_runs(ctx));
                }
                return;
            };
            let more = lost.len() == crate::lock::BATCH_MAX;
            lost.iter().for_each(|lost| report_lost(actor.node(), lost));
            if more {
                actor.close_lost_runs(ctx);
            }
        }));
    }

    // Dying.

    fn on_died(&mut self, job: &Arc<JobRef>, remains: Remains, ctx: &mut Context<Self>) {
        let name = &job.definition.name;
        let now = self.node().clock.elapsed();
        if self.retiring.remove(&job.generation).is_some() {
            let successor = self.start_actor(job.definition.clone(), move |_| remains);
            self.retiring.insert(successor.generation, successor);
            return;
        }
        let Some(entry) = self.jobs.get_mut(name).filter(|entry| entry.job.generation == job.generation) else {
            return;
        };
        if now.saturating_sub(entry.restarts.since) > RESTART_PERIOD {
            entry.restarts = Restarts { since: now, count: 0 };
        }
        entry.restarts.count += 1;
        let restarts = entry.restarts.count;
        if entry.broken {
            // It died without being asked for a fire time: nothing that can be started again.
            return;
        }
        entry.broken = restarts > RESTARTS_MAX;
        let broken = entry.broken;
        let cursor = remains.machine.cursor();
        let successor = self.start_actor(job.definition.clone(), move |_| remains);
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.job = successor.clone();
        }
        if broken {
            // Its actor is never resumed, so it never asks the schedule; it is there for the run in progress.
            tracing::error!(target: "callsheet", job = %name, restarts, "a job died too often and does not fire any more");
            self.publish(|| EventKind::JobBroken { job: name.clone() });
            return;
        }
        self.node().meters.job_actor_restarts.increment(1);
        self.publish(|| EventKind::JobRestarted { job: name.clone(), restarts });
        if matches!(self.phase, Phase::Running) {
            self.resume(&successor, job.definition.policies.fires, cursor);
            self.enrol(ctx);
        }
    }

    /// Hands an input on to the actor that took the job over; if there is none, settles it.
    fn on_undelivered(&mut self, job: &Arc<JobRef>, input: Input) {
        use crate::{
            core::job::{End, Ended},
            event::Outcome,
            port::Verdict,
        };

        let incarnation = |other: &&Arc<JobRef>| {
            other.generation > job.generation && Arc::ptr_eq(&other.definition, &job.definition)
        };
        let current = self.jobs.get(&job.definition.name).map(|entry| &entry.job);
        let successor = current.filter(incarnation).or_else(|| self.retiring.values().find(incarnation));
        if let Some(successor) = successor {
            match input {
                // Whoever starts an actor again also resumes it.
                Input::Resume { .. } | Input::Suspend | Input::WakeUp | Input::Trigger => {}
                Input::Claimed { .. }
                | Input::Advanced(_)
                | Input::RunEnded(_)
                | Input::LockLost { .. }
                | Input::Cancel(_)
                | Input::Abort => Letter::send(successor, input),
            }
            return;
        }
        let lock = self.node().lock();
        match input {
            Input::Claimed { run, verdict: Verdict::Granted { .. } } => {
                lock.do_send(CompleteRun { run, outcome: Outcome::Cancelled });
                job.meters.ended(Outcome::Cancelled);
                self.publish(|| EventKind::RunCancelled {
                    job: job.definition.name.clone(),
                    run,
                    took: Duration::ZERO,
                    why: CancelReason::NotStarted,
                });
            }
            Input::RunEnded(ended) => {
                let outcome = match &ended.end {
                    End::Returned => Outcome::Succeeded,
                    End::Failed(_) => Outcome::Failed,
                    End::Panicked(_) => Outcome::Panicked,
                    End::Aborted => Outcome::Cancelled,
                };
                lock.do_send(CompleteRun { run: ended.run, outcome });
                self.node().meters.runs_in_progress.decrement(1);
                let crate::core::job::RunEnd { run, end, started_at, took } = ended;
                conclude(job, Ended { run, tick: None, outcome, cancelled: None, end, started_at, took });
            }
            Input::Claimed { .. }
            | Input::Resume { .. }
            | Input::Suspend
            | Input::WakeUp
            | Input::Trigger
            | Input::Advanced(_)
            | Input::LockLost { .. }
            | Input::Cancel(_)
            | Input::Abort => {}
        }
    }

    // Shutting down.

    fn everybody(&self) -> impl Iterator<Item = &Arc<JobRef>> {
        self.jobs.values().map(|entry| &entry.job).chain(self.retiring.values())
    }

    fn tell_everybody(&self, input: impl Fn() -> Input) {
        self.everybody().for_each(|job| Letter::send(job, input()));
    }

    fn start_shutdown(&mut self, deadline: Duration, ctx: &mut Context<Self>) {
        self.term = None;
        self.to_enrol.clear();
        self.publish(|| EventKind::ShutdownStarted { deadline });
        let (drain, tally, mut over) = Drain::new();
        let drain = Arc::new(drain);
        self.everybody().for_each(|job| job.addr.do_send(StartDrain(drain.clone())));
        drop(drain);

        let report = move || tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner).report();
        let election = self.parts.election.clone();
        let lock = self.node().lock().clone();
        let listener = self.parts.listener.clone();
        let grace = self.parts.shutdown_grace;
        let own = ctx.address();
        let node = self.node().clone();
        let shutdown = async move {
            let drained_until = tokio::time::Instant::now() + deadline;
            // Given up first, so that another node can take over while this one drains. No answer: the term lapses.
            let _ = timeout(CALL_DEADLINE, election.send(Resign)).await;
            for (until, then) in [
                (drained_until, Stage::Cancel),
                (drained_until + grace, Stage::Abort),
                (drained_until + grace + ABORT_WAIT, Stage::GiveUp),
            ] {
                if timeout_at(until, &mut over).await.is_ok() {
                    break;
                }
                own.do_send(then);
            }
            let report = report();
            // What could not be written is closed as lost by whoever takes over.
            let _ = timeout(CALL_DEADLINE, lock.send(CloseSession)).await;
            let ShutdownReport { drained, cancelled, aborted, .. } = report;
            node.publisher.publish(|| EventKind::ShutdownFinished { drained, cancelled, aborted });
            // A listener that does not keep up misses the end.
            let _ = timeout(ANSWER_DEADLINE, listener.send(Flush)).await;
            report
        };
        ctx.spawn(shutdown.into_actor(self).map(|report, actor, ctx| actor.finish_shutdown(report, ctx)));
    }

    fn finish_shutdown(&mut self, report: ShutdownReport, ctx: &mut Context<Self>) {
        self.everybody().for_each(|job| job.addr.do_send(Retire));
        self.parts.election.do_send(StopElection);
        self.parts.listener.do_send(StopListening);
        let phase = std::mem::replace(&mut self.phase, Phase::Stopped(report.clone()));
        if let Phase::ShuttingDown(waiting) = phase {
            // Whoever waited may have given up.
            waiting.into_iter().for_each(|reply| drop(reply.send(report.clone())));
        }
        ctx.stop();
    }
}

/// What a shutdown does when its patience is over.
#[derive(Message)]
#[rtype(result = "()")]
enum Stage {
    Cancel,
    Abort,
    GiveUp,
}

/// A job's mailbox takes its messages without waiting whatever its capacity; this bounds those who do wait.
const JOB_MAILBOX: usize = 16;

/// Checks all jobs, and that no name is given twice.
pub(crate) fn define_all(jobs: Vec<Job>, now: chrono::DateTime<chrono::Utc>) -> (Vec<Definition>, Vec<Fault>) {
    let mut definitions = Vec::with_capacity(jobs.len());
    let mut faults = Vec::new();
    for job in jobs {
        match job.define(now) {
            Ok(definition) => definitions.push(definition),
            Err(found) => faults.extend(found.into_vec()),
        }
    }
    let mut seen = HashSet::with_capacity(definitions.len());
    faults.extend(definitions.iter().filter(|one| !seen.insert(&one.name)).map(|one| duplicate(&one.name)));
    (definitions, faults)
}

fn duplicate(name: &JobName) -> Fault {
    let rule = "a job of this name exists";
    Fault::new("job name", name.as_str(), rule, "choose another name, or remove that job first")
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(PAGE_MAX);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(stopped) = self.parts.stopped.take() {
            // The engine waits for it, unless it is gone as well.
            let _ = stopped.send(());
        }
    }

}

impl Handler<AddJob> for SupervisorActor {
    type Result = Result<JobName, AddError>;

    fn handle(&mut self, AddJob(job): AddJob, ctx: &mut Self::Context) -> Self::Result {
        let mut names = self.add(vec![job], ctx)?;
        Ok(names.pop().expect("invariant: one job, one name"))
    }
}

impl Handler<AddJobs> for SupervisorActor {
    type Result = Result<Vec<JobName>, AddError>;

    fn handle(&mut self, AddJobs(jobs): AddJobs, ctx: &mut Self::Context) -> Self::Result {
        self.add(jobs, ctx)
    }
}

impl Handler<RemoveJobs> for SupervisorActor {
    type Result = Result<Vec<JobName>, RemoveError>;

    fn handle(&mut self, RemoveJobs(selector): RemoveJobs, _: &mut Self::Context) -> Self::Result {
        self.remove(&selector)
    }
}

impl Handler<TriggerJob> for SupervisorActor {
    type Result = ResponseFuture<Result<RunId, TriggerError>>;

    fn handle(&mut self, TriggerJob(name): TriggerJob, _: &mut Self::Context) -> Self::Result {
        let refused = |error| Box::pin(async move { Err(error) });
        if !matches!(self.phase, Phase::Running) {
            return refused(TriggerError::ShuttingDown);
        }
        let Some((job, entry)) = self.jobs.get_key_value(name.as_str()) else {
            return refused(TriggerError::UnknownJob { name });
        };
        let job = job.clone();
        if entry.broken {
            return refused(TriggerError::Broken { job });
        }
        let (reply, answer) = oneshot::channel();
        entry.job.addr.do_send(Trigger { reply });
        Box::pin(async move {
            match timeout(CALL_DEADLINE * 2, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(TriggerError::Broken { job }),
                Err(_) => {
                    let reason = "the job's actor did not answer within the deadline".to_owned();
                    Err(TriggerError::Unavailable { job, reason })
                }
            }
        })
    }
}

impl Handler<ListJobs> for SupervisorActor {
    type Result = ResponseFuture<JobPage>;

    fn handle(&mut self, ListJobs { after, limit }: ListJobs, _: &mut Self::Context) -> Self::Result {
        let limit = if limit == 0 { PAGE_MAX } else { limit.min(PAGE_MAX) };
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.jobs.range::<str, _>((start, Bound::Unbounded));
        let page: Vec<_> = rest.by_ref().take(limit).map(|(_, entry)| status_of(entry)).collect();
        let more = rest.next().is_some();
        Box::pin(async move {
            let jobs = join_all(page).await;
            let next = jobs.last().filter(|_| more).map(|job: &JobStatus| job.name.as_str().to_owned());
            JobPage { jobs, next }
        })
    }
}

impl Handler<JobDetails> for SupervisorActor {
    type Result = ResponseFuture<Option<JobStatus>>;

    fn handle(&mut self, JobDetails(name): JobDetails, _: &mut Self::Context) -> Self::Result {
        let status = self.jobs.get(name.as_str()).map(status_of);
        Box::pin(async move {
            match status {
                Some(status) => Some(status.await),
                None => None,
            }
        })
    }
}

/// Asks the job's actor; if it does not answer in time, says so.
fn status_of(entry: &Entry) -> impl Future<Output = JobStatus> + use<> {
    let broken = entry.broken;
    let job = entry.job.clone();
    async move {
        if broken {
            return JobStatus::without_actor(&job.definition, JobState::Broken);
        }
        match timeout(ANSWER_DEADLINE, job.addr.send(Status)).await {
            Ok(Ok(status)) => status,
            Ok(Err(_)) | Err(_) => JobStatus::without_actor(&job.definition, JobState::Unresponsive),
        }
    }
}

impl Handler<Listen> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, listen: Listen, _: &mut Self::Context) {
        self.parts.listener.do_send(listen);
    }
}

impl Handler<Health> for SupervisorActor {
    type Result = ResponseFuture<HealthReport>;

    fn handle(&mut self, _: Health, _: &mut Self::Context) -> Self::Result {
        let node = self.node();
        let term = node.leadership.term(node.clock.elapsed());
        let role = match (self.parts.single_node, term) {
            (true, _) => Role::Local,
            (false, Some(_)) => Role::Leader,
            (false, None) => Role::Follower,
        };
        let mut problems = Vec::new();
        if !matches!(self.phase, Phase::Running) {
            problems.push("the engine shuts down".to_owned());
        }
        let mut report = HealthReport {
            node: node.id,
            backend: self.parts.backend,
            role,
            term,
            jobs: self.jobs.len(),
            healthy: false,
            problems,
        };
        let lock = node.lock().send(AskLockHealth);
        let election = self.parts.election.send(PingElection);
        let arbiters = self.parts.placement.ping();
        Box::pin(async move {
            let asked = futures_util::future::join3(
                timeout(ANSWER_DEADLINE, lock),
                timeout(ANSWER_DEADLINE, election),
                timeout(ANSWER_DEADLINE, arbiters),
            );
            let (lock, election, arbiters) = asked.await;
            match lock {
                Ok(Ok(lock)) => {
                    if !lock.session_open {
                        report.problems.push("there is no session with the store".to_owned());
                    }
                    if let Some(waiting) = lock.waiting.filter(|waiting| *waiting > STALL) {
                        report.problems.push(format!("the store has not answered for {waiting:.1?}"));
                    }
                }
                Ok(Err(_)) | Err(_) => report.problems.push("the lock actor does not answer".to_owned()),
            }
            if !matches!(election, Ok(Ok(()))) {
                report.problems.push("the election actor does not answer".to_owned());
            }
            if !matches!(arbiters, Ok(true)) {
                report.problems.push("a thread of the job actors does not answer".to_owned());
            }
            report.healthy = report.problems.is_empty();
            report
        })
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ResponseFuture<ShutdownReport>;

    fn handle(&mut self, Shutdown { deadline }: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (reply, report) = oneshot::channel();
        match &mut self.phase {
            Phase::Running => {
                self.phase = Phase::ShuttingDown(vec![reply]);
                self.start_shutdown(deadline, ctx);
            }
            Phase::ShuttingDown(waiting) => waiting.push(reply),
            Phase::Stopped(report) => {
                let report = report.clone();
                return Box::pin(async move { report });
            }
        }
        Box::pin(async move { report.await.unwrap_or_default() })
    }
}

impl Handler<Stage> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, stage: Stage, _: &mut Self::Context) {
        match stage {
            Stage::Cancel => self.tell_everybody(|| Input::Cancel(CancelReason::Shutdown)),
            Stage::Abort => self.tell_everybody(|| Input::Abort),
            Stage::GiveUp => tracing::warn!(target: "callsheet", "a shutdown leaves runs behind that do not end"),
        }
    }
}

impl Handler<SessionNews> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, news: SessionNews, _: &mut Self::Context) {
        self.parts.election.do_send(match news {
            SessionNews::Opened => SessionChanged::Opened,
            SessionNews::Lost => SessionChanged::Lost,
        });
    }
}

impl Handler<LeadershipChanged> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, LeadershipChanged(term): LeadershipChanged, ctx: &mut Self::Context) {
        let led = self.term.is_some();
        self.to_enrol.clear();
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.term = term;
        let by_leader = |entry: &&Entry| entry.job.definition.policies.fires == Fires::Leader && !entry.broken;
        if led {
            let ours = self.jobs.values().filter(by_leader);
            ours.for_each(|entry| Letter::send(&entry.job, Input::Suspend));
        }
        if term.is_some() {
            let ours = self.jobs.values().filter(by_leader);
            self.to_enrol = ours.map(|entry| entry.job.definition.name.clone()).collect();
            self.close_lost_runs(ctx);
            self.enrol(ctx);
        }
    }
}

impl Handler<JobDied> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobDied { job, remains }: JobDied, ctx: &mut Self::Context) {
        self.on_died(&job, remains, ctx);
    }
}

impl Handler<JobRetired> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobRetired { generation }: JobRetired, _: &mut Self::Context) {
        self.retiring.remove(&generation);
    }
}

impl Handler<Undelivered> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Undelivered { job, input }: Undelivered, _: &mut Self::Context) {
        self.on_undelivered(&job, input);
    }
}
