//! Any number of nodes on one paused runtime.

mod named;

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Context,
    time::Duration,
};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::{task::LocalSet, time::sleep};

use crate::{
    definition::Job,
    drain::ShutdownReport,
    elected::{Elected, OnUnproven},
    engine::{Engine, EngineOptions},
    error::{AddError, StartError, UpdateError},
    event::EventKind,
    event_filter::EventFilter,
    message::{AddJob, Added, RescheduleJob, Shutdown, UpdateJob},
    name::NodeId,
    port::{Backend, Clock, IntoSchedule, Spawner},
    supervisor::{KillElection, SupervisorActor},
    testkit::{Definitions, Recorded, Recorder, SharedStore, VirtualClock, clock::check_move},
};

/// Runs a story in virtual time, from `start` (RFC 3339) on: the runtime is paused, so that time passes only
/// when nothing else can happen, and a year takes as long as its events. The nodes work whenever the story
/// awaits something. At the end the promises are [verified](Rig::verify).
///
/// # Bodies that do real I/O
///
/// Virtual time passes when every task waits, and it cannot see what a task waits for outside of the runtime:
///
/// | a body | what happens |
/// |---|---|
/// | blocks its thread, as `std::net` and `std::fs` do | time stands still meanwhile, and so does every node |
/// | blocks in [`run_blocking`](Job::run_blocking), `tokio::task::spawn_blocking` or `tokio::fs` | time stands still until it returns |
/// | uses sockets or processes of tokio | it panics: the runtime of a story has no I/O |
/// | awaits another runtime, or a thread | time does not wait: it jumps to the next timer, and a timeout of the job is over at once |
///
/// So give the body a fake of what it talks to, or let it do real I/O where it may block; an async client
/// needs a runtime of its own there. The guide to tests of the package `callsheet` (`guide::testing`) shows
/// it.
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
            let nodes = rig.nodes.clone();
            {
                let mut story = pin!(story(&mut rig));
                poll_fn(|task| {
                    nodes.poll(task);
                    let told = story.as_mut().poll(task);
                    if nodes.thawed.take() {
                        // What woke it while it was frozen came to nothing.
                        nodes.poll(task);
                    }
                    told
                })
                .await;
            }
            rig.verify();
        });
    });
}

/// How far the ids of a node on its named backends are apart.
const NAMED_IDS: u128 = 1_000;

/// The number of a node of a rig, from 0; it is called `n1`, `n2` … in transcripts.
pub type NodeIndex = usize;

/// Any number of nodes on one paused runtime, over one [`SharedStore`].
pub struct Rig {
    clock: VirtualClock,
    store: SharedStore,
    /// The stores of the named backends of its nodes.
    named: Rc<RefCell<BTreeMap<Arc<str>, SharedStore>>>,
    nodes: Nodes,
    recorder: Recorder,
    snapshotter: Snapshotter,
    pub(super) counters: HashMap<(String, String), u64>,
    gauges: HashMap<(String, String), f64>,
    pub(super) definitions: Definitions,
    /// A node lost its session, so that it may have missed the reply to a move that was made.
    pub(super) sessions_lost: bool,
    /// The store is only used to elect a leader.
    pub(super) elects_only: Option<OnUnproven>,
}

struct RigNode {
    id: NodeId,
    /// Its ids on its named backends.
    named: Vec<(Arc<str>, NodeId)>,
    clock: VirtualClock,
    engine: Engine,
    /// The tasks of the node; `None` once it was killed.
    tasks: Option<LocalSet>,
    frozen: bool,
}

/// The nodes. The story deals with them, and they are polled beside it.
#[derive(Clone, Default)]
struct Nodes {
    all: Rc<RefCell<Vec<RigNode>>>,
    /// A frozen one goes on.
    thawed: Rc<Cell<bool>>,
}

impl Nodes {
    fn of(&self, node: NodeIndex) -> RefMut<'_, RigNode> {
        RefMut::map(self.all.borrow_mut(), |nodes| &mut nodes[node])
    }

    fn poll(&self, task: &mut Context<'_>) {
        for node in self.all.borrow_mut().iter_mut().filter(|node| !node.frozen) {
            if let Some(tasks) = &mut node.tasks {
                // Its tasks end only when the node does.
                let _ = Pin::new(tasks).poll(task);
            }
        }
    }
}

/// What makes the options of a node, on the node: a closure, or an async one. `Kind` tells the compiler
/// which.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make the options of a node",
    note = "a closure, or an async one, without arguments does, if it answers a builder or `EngineOptions`"
)]
pub trait MakeOptions<Kind>: 'static {
    /// The options.
    fn make(self) -> impl Future<Output = EngineOptions>;
}

impl<F, O> MakeOptions<fn() -> O> for F
where
    F: FnOnce() -> O + 'static,
    O: Into<EngineOptions>,
{
    async fn make(self) -> EngineOptions {
        self().into()
    }
}

impl<F, O> MakeOptions<Awaited<O>> for F
where
    F: AsyncFnOnce() -> O + 'static,
    O: Into<EngineOptions>,
{
    async fn make(self) -> EngineOptions {
        self().await.into()
    }
}

/// Tells that an async closure answers an `O`.
#[derive(Debug)]
pub struct Awaited<O>(PhantomData<O>);

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
            named: Rc::default(),
            nodes: Nodes::default(),
            recorder: Recorder::default(),
            snapshotter,
            counters: HashMap::new(),
            gauges: HashMap::new(),
            definitions: Definitions::default(),
            sessions_lost: false,
            elects_only: None,
        }
    }

    /// The lease of terms and sessions of the nodes that start from now on, 1 s to a day. Default: an hour,
    /// so that a virtual month is cheap; a backend's own default is shorter.
    ///
    /// Set it in stories in which it matters how soon a node that is frozen, cut off, or not fit to lead is
    /// noticed: within a lease.
    pub fn set_lease(&mut self, lease: Duration) {
        self.store = self.store.clone().with_lease(lease);
    }

    /// The nodes that start from now on only elect a leader by the store, and keep claims in the leader's memory.
    pub fn elect_only(&mut self, on_unproven: OnUnproven) {
        self.elects_only = Some(on_unproven);
    }

    /// Starts a node with the jobs and options of `options`; its backends, clocks and threads are the rig's. There is
    /// one store more for each [name](EngineOptions::named) of a backend.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn node(&mut self, options: impl Into<EngineOptions>) -> NodeIndex {
        let options = options.into();
        self.drive_node(move || options).await
    }

    /// Starts a node like [`node`](Self::node); `options`, a closure or an async one, runs on the node
    /// itself, so that it can start actors there. Bodies run there as well, unless the options name a
    /// [spawner](EngineOptions::spawner).
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn drive_node<Kind>(&mut self, options: impl MakeOptions<Kind>) -> NodeIndex {
        let nth = self.nodes.all.borrow().len();
        let id = NodeId::numbered(nth as u128 + 1);
        let clock = self.clock.another();
        let node_clock = clock.clone();
        let stored = self.store.backend(id, clock.clone());
        let backend: Arc<dyn Backend> = match self.elects_only {
            Some(on_unproven) => Arc::new(Elected::over(stored).on_unproven(on_unproven)),
            None => Arc::new(stored),
        };
        let (recorder, definitions) = (self.recorder.clone(), self.definitions.clone());
        let (named, default_store) = (self.named.clone(), self.store.clone());
        let tasks = LocalSet::new();
        let started = tasks.spawn_local(async move {
            let mut options = options.make().await;
            let mut ids = Vec::new();
            for (nth, (name, backend)) in (1..).zip(&mut options.named) {
                let store =
                    named.borrow_mut().entry(name.clone()).or_insert_with(|| default_store.anew()).clone();
                let id = NodeId::numbered(id.as_uuid().as_u128() + nth * NAMED_IDS);
                *backend = Arc::new(store.backend(id, node_clock.another()));
                ids.push((name.clone(), id));
            }
            options.node = id;
            options.backend = backend;
            options.clock = Arc::new(node_clock);
            options.spawner.get_or_insert_with(|| Arc::new(OnLocalSet));
            options.listeners.push((EventFilter::new(), recorder.listen(&node_name(nth))));
            options.definitions = Some(definitions);
            match options.check() {
                Ok(()) => Ok((Engine::start_here(options).await?, ids)),
                Err(faults) => Err(StartError::Invalid(faults)),
            }
        });
        let mut starting = tasks;
        let engine = {
            let mut started = pin!(started);
            poll_fn(|task| {
                // A local set is never "done" as long as anything in it may wake up.
                let _ = Pin::new(&mut starting).poll(task);
                started.as_mut().poll(task)
            })
            .await
        };
        let engine = engine.expect("the start of a node does not panic");
        let (engine, named) = engine.unwrap_or_else(|error| panic!("the node does not start: {error}"));
        let node = RigNode { id, named, clock, engine, tasks: Some(starting), frozen: false };
        self.nodes.all.borrow_mut().push(node);
        nth
    }

    /// Lets virtual time pass: timer by timer, every node in turn.
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub async fn advance(&mut self, time: Duration) {
        check_move(time);
        sleep(time).await;
    }

    /// Sends a message to a node's supervisor and waits for the answer.
    ///
    /// # Panics
    ///
    /// If the node has stopped.
    pub async fn send<M>(&mut self, node: NodeIndex, message: M) -> M::Result
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SupervisorActor: Handler<M>,
        <SupervisorActor as actix::Actor>::Context: ToEnvelope<SupervisorActor, M>,
    {
        self.supervisor(node).send(message).await.expect("the node runs")
    }

    /// Adds a job on a node.
    ///
    /// # Errors
    ///
    /// As for [`AddJob`].
    pub async fn add(&mut self, node: NodeIndex, job: Job) -> Result<Added, AddError> {
        self.send(node, AddJob::new(job)).await
    }

    /// Gives a job of a node another definition.
    ///
    /// # Errors
    ///
    /// As for [`UpdateJob`].
    pub async fn update(&mut self, node: NodeIndex, job: Job) -> Result<Added, UpdateError> {
        self.send(node, UpdateJob::new(job)).await
    }

    /// Gives a job of a node another schedule.
    ///
    /// # Errors
    ///
    /// As for [`RescheduleJob`].
    pub async fn reschedule(
        &mut self,
        node: NodeIndex,
        job: &str,
        schedule: impl IntoSchedule,
    ) -> Result<Added, UpdateError> {
        self.send(node, RescheduleJob::new(job, schedule)).await
    }

    /// Shuts a node down.
    pub async fn shutdown(&mut self, node: NodeIndex, deadline: Duration) -> ShutdownReport {
        self.send(node, Shutdown { deadline }).await
    }

    /// The supervisor of a node.
    pub fn supervisor(&self, node: NodeIndex) -> Addr<SupervisorActor> {
        self.engine(node).supervisor().clone()
    }

    /// The engine of a node. The package `callsheet` makes a handle of it: `Callsheet::of_rig`.
    pub fn engine(&self, node: NodeIndex) -> Engine {
        self.nodes.of(node).engine.clone()
    }

    /// Kills a node: nothing of it runs any more, and the store sees its connections close.
    pub fn kill(&mut self, node: NodeIndex) {
        self.sessions_lost = true;
        let killed = self.nodes.of(node).tasks.take();
        drop(killed);
        self.store.end_session(self.id(node));
        for (name, id) in &self.nodes.of(node).named {
            self.store_named(name).end_session(*id);
        }
    }

    /// Kills the actor of a node that owns the term, as a panic in it would. The node is not live any more.
    pub fn kill_election(&mut self, node: NodeIndex) {
        self.supervisor(node).do_send(KillElection);
    }

    /// Freezes a node, as SIGSTOP does: nothing of it runs, its connections stay open.
    pub fn freeze(&mut self, node: NodeIndex) {
        self.sessions_lost = true;
        self.nodes.of(node).frozen = true;
    }

    /// Lets a frozen node go on.
    pub fn thaw(&mut self, node: NodeIndex) {
        self.nodes.of(node).frozen = false;
        self.nodes.thawed.set(true);
    }

    /// Cuts a node off from the store.
    pub fn cut_off(&mut self, node: NodeIndex) {
        self.sessions_lost = true;
        self.store.set_partitioned(self.id(node), true);
    }

    /// Connects a node with the store again.
    pub fn reconnect(&mut self, node: NodeIndex) {
        self.store.set_partitioned(self.id(node), false);
    }

    /// Ends the session of a node, as a server does that throws its client out.
    pub fn end_session(&mut self, node: NodeIndex) {
        self.sessions_lost = true;
        self.store.end_session(self.id(node));
    }

    /// Makes a node's wall clock read this much more than the true time.
    ///
    /// # Panics
    ///
    /// If it is further than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn set_skew(&mut self, node: NodeIndex, skew: TimeDelta) {
        self.nodes.of(node).clock.set_skew(skew);
    }

    /// Makes a node's wall clock gain (or lose) so many microseconds a second.
    pub fn set_drift(&mut self, node: NodeIndex, ppm: i32) {
        self.nodes.of(node).clock.set_drift(ppm);
    }

    /// Makes the store's clock read this much more than the true time.
    ///
    /// # Panics
    ///
    /// If it is further than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn set_store_skew(&mut self, skew: TimeDelta) {
        self.store.set_skew(skew);
    }

    /// Suspends the machine of all nodes and of the store, as a laptop that is shut: every wall clock goes
    /// on, the monotonic ones and the timers stand still. Leases are not touched; for a node that alone is
    /// frozen there is [`freeze`](Self::freeze).
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn suspend(&mut self, time: TimeDelta) {
        self.clock.suspend(time);
    }

    /// The id of a node.
    pub fn id(&self, node: NodeIndex) -> NodeId {
        self.nodes.of(node).id
    }

    /// The store of the default backend.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The actors of a job hear their timers no more, or again from their next step on: a bug, of which nothing
    /// else tells.
    pub fn set_deaf(&mut self, job: &str, deaf: bool) {
        let job = crate::JobName::new(job).expect("a good name");
        let deaf_jobs = &mut self.definitions.lock().deaf;
        let _ = if deaf { deaf_jobs.insert(job) } else { deaf_jobs.remove(&job) };
    }

    /// The true time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The node that leads, as the store sees it.
    pub fn leader(&self) -> Option<NodeIndex> {
        let leader = self.store.leader()?;
        self.nodes.all.borrow().iter().position(|node| node.id == leader)
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Recorded> {
        self.recorder.events()
    }

    /// One line per event: `01:00:00.000 n1 RunStarted …`; with the dates, if the story crosses days.
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

    /// The sum over all nodes of a gauge that is counted up and down, such as `callsheet_ticks_held`,
    /// otherwise as [`counter`](Self::counter).
    pub fn gauge(&mut self, name: &str, label: &str) -> f64 {
        self.read_metrics();
        matching(&self.gauges, name, label).sum()
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

/// The values of the series of one name whose labels hold each one of `label`, as in
/// `name=hourly,outcome=lost`; of all if it is empty.
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

fn node_name(nth: NodeIndex) -> String {
    format!("n{}", nth + 1)
}
