//! The supervisor actor owns the jobs, by name, and is the one address that an application talks to.
//!
//! It validates definitions, starts a job actor for each, and keeps definition and generation. When a job
//! actor dies it gets a snapshot of it and starts another one within a restart budget. When this node starts
//! to lead, it enrols its jobs with the store page by page and resumes each from its cursor. It shuts the
//! node down in order. Nothing of it survives a restart of the engine but what the store keeps.

mod adding;
mod alarms;
mod asked_schedules;
mod backfilling;
mod backfills;
mod cancelling;
mod catalogue;
mod catching_up;
mod clock;
mod cluster;
mod enrolment;
mod explaining;
mod forgetting;
mod former_names;
mod gauges;
mod health;
mod hinted;
mod history;
mod key_policies;
mod leaderless;
mod leading;
mod lost_runs;
mod one_shots;
mod outlook;
mod overriding;
mod parking;
mod pausing;
mod questions;
mod removing;
mod reports;
mod restarts;
mod shutdown;
mod skipping;
mod storing;
mod tags;
mod tasks;
mod triggering;
mod updating;
mod zone_data;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep},
};

pub(crate) use self::adding::{AddFirstJobs, CheckJobs, define_all};
pub(crate) use self::catalogue::Stored;
pub(crate) use self::former_names::FormerNames;
#[cfg(any(test, feature = "testkit"))]
pub(crate) use self::leading::KillElection;
pub(crate) use self::shutdown::JOIN_MAX;
pub use self::shutdown::{SHUTDOWN_ABORT_AFTER_DEFAULT, SHUTDOWN_END_MAX};
use self::{
    alarms::Watch,
    backfills::Driving,
    catalogue::Keeping,
    clock::Rearming,
    cluster::{Describing, Serving},
    gauges::Shows,
    one_shots::Done,
    outlook::LintLog,
    overriding::Overrides,
    parking::Parked,
    questions::WaitingQuestions,
    removing::Leaving,
    restarts::Deaths,
    tags::Tags,
};
pub use crate::core::restarts::{RESTART_PERIOD, RESTARTS_MAX};
use crate::{
    contained::caught,
    core::{
        backoff::Backoff,
        clock::ClockWatch,
        enrolling::{ENROL_AGAIN_MAX, ENROL_AGAIN_MIN, Enrolling},
        firing::{Firing, NodeState},
        job::Input,
        key_policies::Keys,
        policy::Fires,
        suspects::Suspects,
        sweep::Sweep,
        trials::Trials,
        zone_data::ZoneDataWatch,
    },
    definition::Definition,
    drain::ShutdownReport,
    election::ElectionActor,
    error::{SelectError, given_name},
    event::EventKind,
    event_filter::EventFilter,
    event_log::Level,
    health::Part,
    job::{Beginning, HookCalls, JobHandle, JobHost, OnTrial, WakeTime},
    job_names::{JobNames, KeyInUse},
    labels::{JOB_LABEL_OTHER, Labelled},
    listener::{EventStream, Events, Listen, ListenTo, ListenerActor},
    lock::LockActor,
    message::{PAGE_MAX, Selector},
    metrics::{GaugeShare, JobMeters},
    name::{JobName, Term},
    node::Node,
    port::{Able, Authority, Backfills, Control, Retention},
    task::Tasks,
};

/// How long the supervisor waits for another actor's answer.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

struct Entry {
    job: Arc<JobHandle>,
    /// Since when, by the monotonic clock, this node has held the job with its schedule.
    known_since: Duration,
    /// By what authority this node fires it, and what it has declared for it.
    firing: Firing,
    /// `None` if its actor has not died.
    deaths: Option<Box<Deaths>>,
    /// The store refuses it for its data: it is neither enrolled nor started, unless it is on trial.
    parked: Option<Box<Parked>>,
}

impl Entry {
    /// By what authority this node decides the ticks of the job, if it does.
    fn authority(&self, node: NodeState) -> Option<Authority> {
        let is_taken = self.parked.as_ref().is_none_or(|parked| parked.is_on_trial);
        self.firing.authority(node).filter(|_| is_taken)
    }
}

/// How many bytes a supervisor takes for a job, besides its name and what others share.
#[cfg(any(test, feature = "testkit"))]
pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();

/// What a supervisor is made of.
pub(crate) struct Supervised {
    /// What its jobs share, the node among it.
    pub(crate) jobs: Arc<JobHost>,
    /// The names of all jobs of the node, if it has several engines.
    pub(crate) names: Option<JobNames>,
    /// What jobs of data may name.
    pub(crate) tasks: Tasks,
    /// Where jobs are kept as data, if they are.
    pub(crate) stored: Option<Stored>,
    /// What decides which jobs can be added.
    pub(crate) able: Able,
    /// Its thread is the engine's: its runtime waits for files as well.
    pub(crate) has_io: bool,
    /// What its health says of the way the backend was set up.
    pub(crate) warning: Option<Arc<str>>,
    pub(crate) forget_after: Duration,
    pub(crate) retention: Retention,
    /// What lasts longer is a problem.
    pub(crate) lease: Duration,
    /// How long a run may go on after the lead was lost, if other nodes do not know of it.
    pub(crate) abort_within: Option<Duration>,
    /// How long after its fire time a tick of any job is to start.
    pub(crate) overdue_after: Option<Duration>,
    pub(crate) listener: Addr<ListenerActor>,
    pub(crate) election: Addr<ElectionActor>,
    pub(crate) lock: Addr<LockActor>,
    /// Where backfills are kept, if they are.
    pub(crate) backfills: Option<Arc<dyn Backfills>>,
    /// How it asks other nodes, if it can.
    pub(crate) control: Option<Arc<dyn Control>>,
    pub(crate) shutdown_abort_after: Duration,
    /// Gets the report when the engine has stopped.
    pub(crate) stopped: Option<oneshot::Sender<ShutdownReport>>,
}

/// Owns the jobs.
pub struct SupervisorActor {
    parts: Supervised,
    jobs: BTreeMap<JobName, Entry>,
    keys: Keys,
    tags: Tags,
    former_names: FormerNames,
    /// Removed, or replaced after their death, with a run still in progress.
    retiring: BTreeMap<(JobName, u64), Arc<JobHandle>>,
    generations: u64,
    term: Option<Term>,
    /// When the term began, by the monotonic clock.
    term_since: Duration,
    /// There is a session with the store.
    connected: bool,
    /// When it was opened, by the monotonic clock.
    connected_since: Duration,
    /// Since when parts of the engine have been asked without an answer, by the monotonic clock.
    asked_parts: [Option<Duration>; Part::ALL.len()],
    /// Jobs that may be broken or refused; whether they still are is to be seen at themselves.
    troubled: BTreeSet<JobName>,
    enrolling: Enrolling,
    /// Of pages that the store refused for their data.
    suspects: Suspects,
    /// When the next group of them, or of parked jobs, is to be enrolled, and the timer for it.
    next_group: Option<(Duration, SpawnHandle)>,
    /// When parked jobs are tried again.
    trials: Trials,
    /// The job that was enrolled last as a witness.
    last_witness: Option<JobName>,
    close_lost_backoff: Backoff,
    /// It asks now and then whether the leader has its jobs.
    inquiring: bool,
    /// It says again and again which jobs it has, so that their names are not forgotten.
    keeping_names: bool,
    /// It asks now and then whether jobs that were refused still are.
    asking_refused: bool,
    /// It asks now and then whether the other names of jobs are still in use.
    asking_renamed: bool,
    /// Which jobs it asks about next: whether the leader has them.
    inquiry: Sweep<JobName>,
    /// It asks now and then for pending retries.
    asks_pending_retries: bool,
    /// What is still to account for the ticks before it was removed, or got another schedule; what is to be
    /// withdrawn once it has.
    leaving: BTreeMap<JobName, Leaving>,
    to_withdraw: Vec<JobName>,
    /// What it knows of the time zone data of other nodes, and the timer of its next look.
    zone_data: ZoneDataWatch,
    looking_at_zone_data: Option<SpawnHandle>,
    wall_clock: ClockWatch,
    /// Timers are wrong.
    rearming: Option<Rearming>,
    /// Notifications were missed: which jobs are told so next.
    telling: Option<Sweep<JobName>>,
    /// The last fire times of the jobs that were over when the engine started, until they are enrolled.
    over: BTreeMap<JobName, DateTime<Utc>>,
    lint_log: LintLog,
    questions: WaitingQuestions,
    /// The timer of the next turn to make up for a missed tick.
    giving_turns: Option<SpawnHandle>,
    /// How many jobs wait for one, as it is shown.
    waiting_for_turns: GaugeShare,
    /// What is expected of jobs.
    watch: Watch,
    /// What is shown of jobs in the metrics.
    shows: Shows,
    /// The backfills that this node drives.
    driving: Driving,
    /// What it knows of the catalogue.
    keeping: Keeping,
    /// The stored jobs that are done and are to be deleted.
    done: Done,
    /// What it knows of overridden schedules.
    overrides: Overrides,
    /// What others ask of it, and what it knows of them.
    serving: Serving,
    describing: Describing,
    /// The node is not ready any more, though jobs go on.
    shutdown_announced: bool,
    /// Since when a shutdown waits for nothing any more.
    at_once: watch::Sender<Option<Instant>>,
    phase: Phase,
}

enum Phase {
    Running,
    ShuttingDown(Vec<oneshot::Sender<ShutdownReport>>),
    Stopped(ShutdownReport),
}

impl SupervisorActor {
    pub(crate) fn new(parts: Supervised) -> Self {
        let (wall, elapsed) = parts.jobs.node.clock.read();
        let seed = parts.jobs.node.seed();
        let backoff = Backoff::new(ENROL_AGAIN_MIN, ENROL_AGAIN_MAX, seed);
        Self {
            wall_clock: ClockWatch::new(wall, elapsed),
            waiting_for_turns: parts.jobs.node.meters.catching_up(),
            jobs: BTreeMap::new(),
            keys: Keys::default(),
            tags: Tags::default(),
            former_names: FormerNames::default(),
            retiring: BTreeMap::new(),
            generations: parts.names.as_ref().map_or(0, JobNames::first_generation),
            term: None,
            term_since: elapsed,
            connected: false,
            connected_since: elapsed,
            asked_parts: [None; Part::ALL.len()],
            troubled: BTreeSet::new(),
            enrolling: Enrolling::new(seed),
            suspects: Suspects::new(backoff, PAGE_MAX),
            next_group: None,
            trials: Trials::new(PAGE_MAX),
            last_witness: None,
            close_lost_backoff: backoff,
            inquiring: false,
            keeping_names: false,
            asking_refused: false,
            asking_renamed: false,
            inquiry: Sweep::default(),
            asks_pending_retries: false,
            leaving: BTreeMap::new(),
            to_withdraw: Vec::new(),
            zone_data: ZoneDataWatch::default(),
            looking_at_zone_data: None,
            rearming: None,
            telling: None,
            over: BTreeMap::new(),
            lint_log: LintLog::default(),
            questions: WaitingQuestions::default(),
            giving_turns: None,
            watch: Watch::default(),
            shows: Shows::default(),
            driving: Driving::new(seed),
            keeping: Keeping::default(),
            done: Done::default(),
            overrides: Overrides::default(),
            serving: Serving::default(),
            describing: Describing::default(),
            shutdown_announced: false,
            at_once: watch::Sender::new(None),
            phase: Phase::Running,
            parts,
        }
    }

    fn node(&self) -> &Arc<Node> {
        &self.parts.jobs.node
    }

    fn publish(&self, kind: impl FnOnce() -> EventKind) {
        self.node().publisher.publish(kind);
    }

    /// Starts an actor: of a new job, or in the place of one that died.
    fn start_actor(
        &mut self,
        definition: Arc<Definition>,
        former: Option<&JobHandle>,
        beginning: Beginning,
    ) -> Arc<JobHandle> {
        self.generations += 1;
        let job = Arc::new(JobHandle {
            key_in_use: self.key_in_use(&definition),
            meters: former.map_or_else(|| self.meters_of(&definition, false), |former| former.meters.clone()),
            definition,
            generation: self.generations,
            instance: former.map_or(self.generations, |former| former.instance),
            place: self.parts.jobs.placement.place(self.generations),
            hook_calls: former.map_or_else(HookCalls::default, |former| former.hook_calls.share()),
            wake_time: WakeTime::default(),
            on_trial: former.map_or_else(OnTrial::default, |former| former.on_trial.share()),
            body_takes_time: AtomicBool::new(former.is_some_and(JobHandle::body_takes_time)),
            host: self.parts.jobs.clone(),
        });
        self.parts.jobs.placement.start(job.clone(), beginning);
        job
    }

    /// No job on another backend of the node may have this key meanwhile.
    fn key_in_use(&self, definition: &Definition) -> Option<Arc<KeyInUse>> {
        self.parts.names.as_ref().map(|names| names.in_use(&definition.key))
    }

    /// The metrics of a job, under its label if one is free. A job that `keeps` its label has it for good.
    fn meters_of(&self, definition: &Definition, keeps: bool) -> Arc<Labelled<JobMeters>> {
        let (meters, first_without) = self.node().meters.of_job(definition.label(), keeps);
        if first_without {
            let name = &definition.name;
            let line = format_args!(
                "{name} and the jobs that come after it share the label {JOB_LABEL_OTHER} in metrics, as all others are in use;                  group jobs by metrics_label, or raise job_labels_max"
            );
            self.node().publisher.log("no metrics label", Level::Warn, name, &line);
        }
        meters
    }

    /// Lets a job fire: at once if it is local, else after it is enrolled.
    fn resume(&mut self, job: &Arc<JobHandle>, cursor: DateTime<Utc>) {
        if self.lets_fire(job, cursor)
            && let Some(entry) = self.jobs.get_mut(&job.definition.name)
        {
            entry.firing.await_enrolment();
        }
    }

    /// The same of a job that may have no entry yet. Answers whether it awaits its enrolment.
    fn lets_fire(&mut self, job: &Arc<JobHandle>, cursor: DateTime<Utc>) -> bool {
        let is_local = job.definition.policies.fires == Fires::Local;
        if is_local {
            job.send(Input::Resume { cursor, authority: None, stored: Box::default() });
        } else {
            self.enrolling.push(job.definition.name.clone());
        }
        !is_local
    }

    /// By what authority this node decides the ticks of a job, if it does.
    fn authority(&self, entry: &Entry) -> Option<Authority> {
        entry.authority(self.node_state())
    }

    /// The same, whether the store takes the job or not.
    fn firing_authority(&self, entry: &Entry) -> Option<Authority> {
        entry.firing.authority(self.node_state())
    }

    fn node_state(&self) -> NodeState {
        let is_running = matches!(self.phase, Phase::Running);
        NodeState { term: self.term, is_connected: self.connected, is_running }
    }

    fn select(&self, selector: &Selector) -> Result<Vec<JobName>, SelectError> {
        match selector {
            Selector::Name(name) => match self.jobs.get_key_value(name.as_str()) {
                Some((name, _)) => Ok(vec![name.clone()]),
                None => Err(SelectError::UnknownJob { name: given_name(name) }),
            },
            Selector::Tag(tag) => Ok(self.tags.jobs(tag, Bound::Unbounded).cloned().collect()),
            Selector::All => Ok(self.jobs.keys().cloned().collect()),
        }
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(PAGE_MAX);
        self.watch_clocks(ctx);
        self.show_and_go_on(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let report = match &self.phase {
            Phase::Stopped(report) => report.clone(),
            // It panicked: there is nobody left to report anything.
            Phase::Running | Phase::ShuttingDown(_) => ShutdownReport::default(),
        };
        self.node().over.cancel();
        if let Some(stopped) = self.parts.stopped.take() {
            // The engine waits for it, unless it is gone as well.
            let _ = stopped.send(report);
        }
    }
}

impl SupervisorActor {
    /// Does something after `pause`, or later, once it may be worthwhile: it looks at what this node may not
    /// have been told.
    fn look_again(
        &self,
        pause: Duration,
        ctx: &mut Context<Self>,
        look: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) -> SpawnHandle {
        let locker = self.node().locker.clone();
        let worthwhile = async move {
            if caught(async { locker.next_look(pause).await }).await.is_err() {
                // The adapter panicked.
                sleep(pause).await;
            }
        };
        ctx.spawn(worthwhile.into_actor(self).map(|(), actor, ctx| look(actor, ctx)))
    }
}

impl Handler<Listen> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Listen(listener): Listen, _: &mut Self::Context) {
        self.parts.listener.do_send(ListenTo { filter: EventFilter::new(), listener });
    }
}

impl Handler<ListenTo> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, listen: ListenTo, _: &mut Self::Context) {
        self.parts.listener.do_send(listen);
    }
}

impl Handler<Events> for SupervisorActor {
    type Result = MessageResult<Events>;

    fn handle(&mut self, Events(filter): Events, _: &mut Self::Context) -> Self::Result {
        MessageResult(EventStream::subscribe(&self.node().publisher, filter))
    }
}
