//! Any number of nodes on one paused runtime.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::{task::LocalSet, time::sleep};

use crate::{
    core::{ledger::Record, policy::Fires},
    definition::{Audited, Job},
    drain::ShutdownReport,
    engine::{Engine, EngineOptions},
    error::{AddError, StartError, UpdateError},
    event::EventKind,
    event_filter::EventFilter,
    message::{AddJob, Added, RescheduleJob, Shutdown, UpdateJob},
    name::{JobName, NodeId, RunId},
    port::{Clock, IntoSchedule, Schedule, ScheduleIdentity, SkipReason, Spawner},
    supervisor::SupervisorActor,
    testkit::{Recorded, Recorder, SharedStore, VirtualClock, clock::check_move, store::SCOPE},
};

/// Runs a story in virtual time, from `start` (RFC 3339) on: the runtime is paused, so that time passes only when nothing
/// else can happen, and a year takes as long as its events. At the end the promises are [verified](Rig::verify).
///
/// # Panics
///
/// If `start` is not RFC 3339, or if a promise was broken.
pub fn simulate<F>(start: &str, story: F)
where
    F: AsyncFnOnce(&mut Rig),
{
    let start = start.parse().expect("`start` is an instant in RFC 3339, such as 2026-03-28T00:00:00Z");
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could be missing");
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let mut rig = Rig::new(start, snapshotter);
            story(&mut rig).await;
            rig.verify();
        });
    });
}

/// The number of a node of a rig, from 0; it is called `n1`, `n2` … in transcripts.
pub type Node = usize;

/// Any number of nodes on one paused runtime, over one [`SharedStore`].
pub struct Rig {
    clock: VirtualClock,
    store: SharedStore,
    nodes: Vec<RigNode>,
    recorder: Recorder,
    snapshotter: Snapshotter,
    counters: HashMap<(String, String), u64>,
    gauges: HashMap<(String, String), f64>,
    /// The schedules that each job has had on whichever node, by their identities. The same one means other
    /// instants on nodes whose time zone data differs.
    schedules: HashMap<(JobName, ScheduleIdentity), Vec<Arc<dyn Schedule>>>,
    /// The jobs that were local at some time: of those ticks the store knows nothing.
    locals: HashSet<JobName>,
    /// A node lost its session, so that it may have missed the reply to a move that was made.
    sessions_lost: bool,
}

struct RigNode {
    id: NodeId,
    clock: VirtualClock,
    engine: Engine,
    /// The tasks of the node; `None` once it was killed.
    tasks: Option<LocalSet>,
    frozen: bool,
}

/// Bodies run on the local set of their node.
struct OnLocalSet;

impl Spawner for OnLocalSet {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::task::spawn_local(task);
    }
}

impl Rig {
    fn new(start: DateTime<Utc>, snapshotter: Snapshotter) -> Self {
        let clock = VirtualClock::starting_at(start);
        Self {
            store: SharedStore::new(clock.another()),
            clock,
            nodes: Vec::new(),
            recorder: Recorder::default(),
            snapshotter,
            counters: HashMap::new(),
            gauges: HashMap::new(),
            schedules: HashMap::new(),
            locals: HashSet::new(),
            sessions_lost: false,
        }
    }

    /// The lease of terms and sessions of the nodes that start from now on, 1 s to a day. Default: 60 s, so
    /// that a virtual month is cheap; a backend's own default is shorter.
    pub fn set_lease(&mut self, lease: Duration) {
        self.store = self.store.clone().with_lease(lease);
    }

    /// Starts a node with the jobs and options of `options`; its backend, clocks and threads are the rig's.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn node(&mut self, options: impl Into<EngineOptions>) -> Node {
        let options = options.into();
        self.drive_node(async move || options).await
    }

    /// Starts a node like [`node`](Self::node); `options` runs on the node itself, so that it can start actors there.
    /// Bodies run there as well, unless the options name a [spawner](EngineOptions::spawner).
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn drive_node<O: Into<EngineOptions> + 'static>(
        &mut self,
        options: impl AsyncFnOnce() -> O + 'static,
    ) -> Node {
        let nth = self.nodes.len();
        let id = NodeId::numbered(nth as u128 + 1);
        let clock = self.clock.another();
        let node_clock = clock.clone();
        let backend = Arc::new(self.store.backend(id, clock.clone()));
        let recorder = self.recorder.clone();
        let tasks = LocalSet::new();
        let started = tasks.spawn_local(async move {
            let mut options: EngineOptions = options().await.into();
            options.node = id;
            options.backend = backend;
            options.clock = Arc::new(node_clock);
            options.spawner.get_or_insert_with(|| Arc::new(OnLocalSet));
            options.listeners.push((EventFilter::new(), recorder.listen(&node_name(nth))));
            let audited: Vec<_> = options.jobs.iter().filter_map(Job::audited).collect();
            let started = match options.check() {
                Ok(()) => Engine::start_here(options).await,
                Err(faults) => Err(StartError::Invalid(faults)),
            };
            (audited, started)
        });
        let mut starting = tasks;
        let engine = {
            let mut started = pin!(started);
            let nodes = &mut self.nodes;
            poll_fn(|task| {
                poll_nodes(nodes, task);
                // A local set is never "done" as long as anything in it may wake up.
                let _ = Pin::new(&mut starting).poll(task);
                started.as_mut().poll(task)
            })
            .await
        };
        let (audited, engine) = engine.expect("the start of a node does not panic");
        let engine = engine.unwrap_or_else(|error| panic!("the node does not start: {error}"));
        audited.into_iter().for_each(|audited| self.audit(audited));
        self.nodes.push(RigNode { id, clock, engine, tasks: Some(starting), frozen: false });
        nth
    }

    /// Lets virtual time pass: timer by timer, every node in turn.
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub async fn advance(&mut self, time: Duration) {
        check_move(time);
        self.drive(sleep(time)).await;
    }

    /// Lets the nodes work until `future` is done.
    pub async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let nodes = &mut self.nodes;
        poll_fn(|task| {
            poll_nodes(nodes, task);
            future.as_mut().poll(task)
        })
        .await
    }

    /// Sends a message to a node's supervisor and waits for the answer.
    ///
    /// # Panics
    ///
    /// If the node has stopped.
    pub async fn send<M>(&mut self, node: Node, message: M) -> M::Result
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SupervisorActor: Handler<M>,
        <SupervisorActor as actix::Actor>::Context: ToEnvelope<SupervisorActor, M>,
    {
        let answer = self.supervisor(node).send(message);
        self.drive(answer).await.expect("the node runs")
    }

    /// Adds a job on a node.
    ///
    /// # Errors
    ///
    /// As for [`AddJob`].
    pub async fn add(&mut self, node: Node, job: Job) -> Result<Added, AddError> {
        job.audited().into_iter().for_each(|audited| self.audit(audited));
        self.send(node, AddJob(job)).await
    }

    /// Gives a job of a node another definition.
    ///
    /// # Errors
    ///
    /// As for [`UpdateJob`].
    pub async fn update(&mut self, node: Node, job: Job) -> Result<Added, UpdateError> {
        job.audited().into_iter().for_each(|audited| self.audit(audited));
        self.send(node, UpdateJob(job)).await
    }

    /// Gives a job of a node another schedule. One that it fires without claims is not audited.
    ///
    /// # Errors
    ///
    /// As for [`RescheduleJob`].
    pub async fn reschedule(
        &mut self,
        node: Node,
        job: &str,
        schedule: impl IntoSchedule,
    ) -> Result<Added, UpdateError> {
        let asked = RescheduleJob::new(job, schedule);
        let audited = asked
            .schedule
            .clone()
            .ok()
            .and_then(|schedule| Job::new(job, schedule).run(async |_| {}).audited());
        audited.into_iter().for_each(|audited| self.audit(audited));
        self.send(node, asked).await
    }

    fn audit(&mut self, Audited { job, schedule, identity, fires }: Audited) {
        if fires == Fires::Local {
            self.locals.insert(job.clone());
        }
        self.schedules.entry((job, identity)).or_default().push(schedule);
    }

    /// Shuts a node down.
    pub async fn shutdown(&mut self, node: Node, deadline: Duration) -> ShutdownReport {
        self.send(node, Shutdown { deadline }).await
    }

    /// The supervisor of a node.
    pub fn supervisor(&self, node: Node) -> Addr<SupervisorActor> {
        self.nodes[node].engine.supervisor().clone()
    }

    /// Kills a node: nothing of it runs any more, and the store sees its connections close.
    pub fn kill(&mut self, node: Node) {
        self.sessions_lost = true;
        self.nodes[node].tasks = None;
        self.store.end_session(self.nodes[node].id);
    }

    /// Freezes a node, as SIGSTOP does: nothing of it runs, its connections stay open.
    pub fn freeze(&mut self, node: Node) {
        self.sessions_lost = true;
        self.nodes[node].frozen = true;
    }

    /// Lets a frozen node go on.
    pub fn thaw(&mut self, node: Node) {
        self.nodes[node].frozen = false;
    }

    /// Cuts a node off from the store.
    pub fn cut_off(&mut self, node: Node) {
        self.sessions_lost = true;
        self.store.set_partitioned(self.nodes[node].id, true);
    }

    /// Connects a node with the store again.
    pub fn reconnect(&mut self, node: Node) {
        self.store.set_partitioned(self.nodes[node].id, false);
    }

    /// Ends the session of a node, as a server does that throws its client out.
    pub fn end_session(&mut self, node: Node) {
        self.sessions_lost = true;
        self.store.end_session(self.nodes[node].id);
    }

    /// Makes a node's wall clock read this much more than the true time.
    ///
    /// # Panics
    ///
    /// If it is further than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn set_skew(&mut self, node: Node, skew: TimeDelta) {
        self.nodes[node].clock.set_skew(skew);
    }

    /// Makes a node's wall clock gain (or lose) so many microseconds a second.
    pub fn set_drift(&mut self, node: Node, ppm: i32) {
        self.nodes[node].clock.set_drift(ppm);
    }

    /// Makes the store's clock read this much more than the true time.
    ///
    /// # Panics
    ///
    /// If it is further than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn set_store_skew(&mut self, skew: TimeDelta) {
        self.store.set_skew(skew);
    }

    /// Suspends the machine of all nodes and of the store, as a laptop that is shut: every wall clock goes on, the monotonic ones and the timers
    /// stand still. Leases are not touched; for a node that alone is frozen there is [`freeze`](Self::freeze).
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn suspend(&mut self, time: TimeDelta) {
        self.clock.suspend(time);
    }

    /// The id of a node.
    pub fn id(&self, node: Node) -> NodeId {
        self.nodes[node].id
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The true time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The node that leads, as the store sees it.
    pub fn leader(&self) -> Option<Node> {
        let leader = self.store.leader()?;
        self.nodes.iter().position(|node| node.id == leader)
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Recorded> {
        self.recorder.events()
    }

    /// One line per event: `01:00:00.000 n1 RunStarted …`.
    pub fn transcript(&self) -> String {
        self.recorder.transcript()
    }

    /// How many runs of a job started, on all nodes.
    pub fn started(&self, job: &str) -> usize {
        self.count(|kind| matches!(kind, EventKind::RunStarted { job: name, .. } if name.as_str() == job))
    }

    /// How many events satisfy a condition.
    pub fn count(&self, condition: impl Fn(&EventKind) -> bool) -> usize {
        self.events().iter().filter(|recorded| condition(&recorded.event.kind)).count()
    }

    /// The sum of a counter over all nodes, for the label sets that hold `label` (as in `name=hourly`, or
    /// `name=hourly,outcome=lost`), or over all label sets if it is empty.
    pub fn counter(&mut self, name: &str, label: &str) -> u64 {
        self.read_metrics();
        matching(&self.counters, name, label).sum()
    }

    /// The sum over all nodes of a gauge that is counted up and down, such as `callsheet_ticks_held`, otherwise as
    /// [`counter`](Self::counter).
    pub fn gauge(&mut self, name: &str, label: &str) -> f64 {
        self.read_metrics();
        matching(&self.gauges, name, label).sum()
    }

    /// Checks the promises that hold at every instant.
    ///
    /// * Every move of a cursor starts where the one before ended, and accounts for every tick between by the schedule that was
    ///   in force: at most one claimed, the others skipped with a reason. Moves to the end of a run only go forward: what is
    ///   between is not owed.
    /// * No tick is claimed twice, no run starts twice, unless it was lost and taken up again, and none without a claim.
    /// * `due = started + skipped` in the metrics; and unless a node lost its session, what they say of a job is what the
    ///   store says.
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub fn verify(&mut self) {
        self.verify_cursors();
        self.verify_runs();
        let due = self.counter("callsheet_ticks_due_total", "");
        let decided = self.counter("callsheet_ticks_total", "");
        assert_eq!(due, decided, "due = started + skipped");
        if !self.sessions_lost {
            self.verify_counts();
        }
    }

    fn verify_counts(&mut self) {
        let mut committed: BTreeMap<JobName, u64> = BTreeMap::new();
        for record in self.store.records() {
            if let Record::Moved { job, skips, run, .. } = record {
                let counted = skips.without(SkipReason::Parked).total();
                *committed.entry(job).or_default() += counted + u64::from(run.is_some());
            }
        }
        for (job, committed) in committed.into_iter().filter(|(job, _)| !self.locals.contains(job)) {
            let label = ("callsheet_ticks_due_total".to_owned(), format!("scope={SCOPE},name={job}"));
            // A job beyond the bound of the label has no counter of its own.
            if let Some(due) = self.counters.get(&label) {
                // Those of a parked job are counted before the store hears of them, if it ever does.
                let parked =
                    ("callsheet_ticks_total".to_owned(), format!("scope={SCOPE},name={job},outcome=parked"));
                let parked = self.counters.get(&parked).copied().unwrap_or_default();
                assert_eq!(
                    *due - parked,
                    committed,
                    "what is counted as due of {job} is what the store has committed"
                );
            }
        }
    }

    fn verify_cursors(&self) {
        let mut cursors: HashMap<JobName, DateTime<Utc>> = HashMap::new();
        let mut in_force: HashMap<JobName, &[Arc<dyn Schedule>]> = HashMap::new();
        for record in self.store.records() {
            match record {
                Record::Enrolled { job, cursor, schedule } => {
                    in_force.insert(job.clone(), &self.schedules[&(job.clone(), schedule)]);
                    let before = cursors.insert(job.clone(), cursor);
                    assert!(before.is_none_or(|before| before <= cursor), "the cursor of {job} went back");
                }
                Record::Moved { job, from, to, skips, run, .. } => {
                    let before = cursors.insert(job.clone(), to.instant());
                    assert_eq!(before, Some(from), "a move of {job} starts where the one before ended");
                    let accounted = skips.total() + u64::from(run.is_some());
                    // Not by one that the job had before, or has later.
                    let is_accounted = |schedule: &Arc<dyn Schedule>| {
                        let ticks = ticks_between(&**schedule, from, to.instant());
                        accounted == ticks || (skips.at_least && accounted < ticks)
                    };
                    assert!(
                        in_force[&job].iter().any(is_accounted),
                        "{job}: {accounted} ticks are accounted for in ({from}, {to}], which are not those that there are"
                    );
                }
                Record::Anchored { job, from, to } => {
                    let before = cursors.insert(job.clone(), to);
                    assert_eq!(before, Some(from), "a move of {job} starts where the one before ended");
                    assert!(from < to, "the cursor of {job} went back");
                }
                Record::Retaken { .. } | Record::Closed { .. } => {}
            }
        }
    }

    fn verify_runs(&self) {
        let mut claimed: HashSet<RunId> = HashSet::new();
        let mut ticks = HashSet::new();
        let mut retaken: HashMap<RunId, usize> = HashMap::new();
        for record in self.store.records() {
            match record {
                Record::Moved { job, to, run: Some(run), .. } => {
                    assert!(ticks.insert((job.clone(), to)), "tick {to} of {job} was claimed twice");
                    claimed.insert(run);
                }
                Record::Retaken { run } => *retaken.entry(run).or_default() += 1,
                Record::Moved { .. }
                | Record::Enrolled { .. }
                | Record::Anchored { .. }
                | Record::Closed { .. } => {}
            }
        }
        let mut started: HashMap<RunId, usize> = HashMap::new();
        let mut attempts = HashSet::new();
        for Recorded { node, event } in self.events() {
            let EventKind::RunStarted { job, run, fire_time, token, attempt, .. } = event.kind else {
                continue;
            };
            let once = attempts.insert((run, attempt));
            assert!(once, "attempt {attempt} of run {run} of {job} started twice, the second time on {node}");
            let starts = started.entry(run).or_default();
            *starts += 1;
            let most = 1 + retaken.get(&run).copied().unwrap_or_default();
            assert!(*starts <= most, "run {run} of {job} started {starts} times, the last time on {node}");
            let unclaimed = fire_time.is_some() && token.is_some() && !claimed.contains(&run);
            assert!(!unclaimed, "run {run} of {job} started on {node} without a claim");
        }
    }

    /// A snapshot takes the values away, so they are added up here.
    fn read_metrics(&mut self) {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let labels: Vec<_> =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let series = (key.key().name().to_owned(), labels.join(","));
            match value {
                DebugValue::Counter(value) => *self.counters.entry(series).or_default() += value,
                DebugValue::Gauge(value) => *self.gauges.entry(series).or_default() += value.into_inner(),
                DebugValue::Histogram(_) => {}
            }
        }
    }
}

/// The values of the series of one name whose labels hold each one of `label`, as in `name=hourly,outcome=lost`; of all
/// if it is empty.
fn matching<V: Copy>(
    series: &HashMap<(String, String), V>,
    name: &str,
    label: &str,
) -> impl Iterator<Item = V> {
    series.iter().filter_map(move |((metric, labels), value)| {
        let has = |label: &str| labels.split(',').any(|own| own == label);
        let selected = label.is_empty() || label.split(',').all(has);
        (metric == name && selected).then_some(*value)
    })
}

fn ticks_between(schedule: &dyn Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    let mut tick = schedule.next_after(from);
    let mut count = 0;
    while let Some(at) = tick.filter(|at| *at <= to) {
        count += 1;
        tick = schedule.next_after(at);
    }
    count
}

fn node_name(nth: Node) -> String {
    format!("n{}", nth + 1)
}

fn poll_nodes(nodes: &mut [RigNode], task: &mut std::task::Context<'_>) {
    for node in nodes.iter_mut().filter(|node| !node.frozen) {
        if let Some(tasks) = &mut node.tasks {
            // Its tasks end only when the node does.
            let _ = Pin::new(tasks).poll(task);
        }
    }
}
