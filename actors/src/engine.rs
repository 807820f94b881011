//! Starting the actors, on threads of their own or on the caller's.

use std::{
    future::pending,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

use actix::prelude::*;
use actix_rt::{Arbiter, ArbiterHandle, System};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, select},
};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    task::LocalSet,
    time::{timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    body::{EngineBodies, OwnThreads},
    byte_budget::ByteBudget,
    candidacy::{BodyWatch, Candidacy, MayLead, RESIGN_PAUSE_DEFAULT, RESIGN_PAUSE_MIN},
    core::{
        duration::DurationText,
        text::{TEXT_MAX, bounded},
        zone_data::ZONE_DATA_VERSION_MAX,
    },
    deadline,
    definition::Job,
    drain::ShutdownReport,
    election::{Candidature, ElectionActor},
    error::{AddError, Fault, Faults, StartError},
    event::Event,
    event_filter::EventFilter,
    event_stream::EventStream,
    failure_log::FailureLog,
    hooks::{Hooks, NODE_HOOK_CALL_BYTES_MAX},
    listener::{ListenTo, ListenerActor, Publisher},
    lock::{AwaitSession, LockActor},
    message::{AnnounceShutdown, Shutdown, ShutdownNow},
    metrics::{JOB_LABELS_DEFAULT, Meters},
    name::{NodeId, RunIds},
    node::{ClockMoves, ClockOffset, KnownLeader, Leadership, Node},
    overdue::Overdue,
    permits::{Permits, WhenFull},
    placement::Placement,
    port::{Backend, Clock, LockError, RuntimeSpawner, Spawner, SystemClock},
    starts::Starts,
    supervisor::{
        ANSWER_DEADLINE, AddFirstJobs, SHUTDOWN_ABORT_AFTER_DEFAULT, SHUTDOWN_END_MAX, Supervised,
        SupervisorActor, conflicts, define_all,
    },
};

#[cfg(any(test, feature = "testkit"))]
use crate::testkit::Definitions;

/// How long a start waits for the store unless told otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How far a leader's wall clock may be from the store's unless told otherwise.
pub const CLOCK_OFFSET_MAX_DEFAULT: Duration = Duration::from_mins(5);
/// The shortest time that a start may wait for the store.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The smallest bound of a clock's offset, which is measured in milliseconds.
const CLOCK_OFFSET_MIN: Duration = Duration::from_millis(1);
/// How long a name must have been out of use before it is forgotten, unless told otherwise.
pub const FORGET_AFTER_DEFAULT: Duration = Duration::from_hours(7 * 24);
/// The shortest such time.
pub const FORGET_AFTER_MIN: Duration = Duration::from_hours(1);
/// The most threads of each kind.
pub const THREADS_MAX: usize = 256;

/// The most threads for bodies that block, unless the application says otherwise.
pub const BLOCKING_THREADS_DEFAULT: usize = 64;
/// How long the threads of an engine that were told to stop may take, all together, before they are left
/// behind.
pub(crate) const JOIN_MAX: Duration = Duration::from_secs(2);

/// What an engine is made of.
pub struct EngineOptions {
    /// Where nodes coordinate.
    pub backend: Arc<dyn Backend>,
    /// The jobs to start with.
    pub jobs: Vec<Job>,
    /// Who hears events from the first on, and which.
    pub listeners: Vec<(EventFilter, Recipient<Event>)>,
    /// The hooks of all jobs, called before those of each job.
    pub hooks: Hooks,
    /// The clocks. Default: the operating system's.
    pub clock: Arc<dyn Clock>,
    /// Who runs the bodies. Default: a multi-threaded runtime of the engine's own.
    pub spawner: Option<Arc<dyn Spawner>>,
    /// The threads of the job actors, 1 to [`THREADS_MAX`]. Default: the number of processors, at most 4.
    pub arbiters: usize,
    /// The threads of the engine's own body runtime. Default: the number of processors.
    pub body_threads: usize,
    /// The threads of bodies that are not `Send`. Default: 1.
    pub local_body_threads: usize,
    /// The most threads of bodies that block; they are started when they are needed. Default: [`BLOCKING_THREADS_DEFAULT`].
    pub blocking_threads: usize,
    /// The greatest number of job names in metric labels. Default: 1,000.
    pub job_labels_max: usize,
    /// The time between cancelling and aborting the runs that did not drain at shutdown. Default: 5 s.
    pub shutdown_abort_after: Duration,
    /// How long the start may wait for the store; `None` is for ever. Default: [`CONNECT_TIMEOUT_DEFAULT`].
    pub connect_timeout: Option<Duration>,
    /// How many runs may be in progress on the node at once, at least 1; `None` is no bound. Default: none.
    pub max_concurrent_runs: Option<usize>,
    /// What happens to a run beyond. Default: it waits.
    pub when_full: WhenFull,
    /// How far the node's wall clock may be from the store's if it is to lead. Default: [`CLOCK_OFFSET_MAX_DEFAULT`].
    pub clock_offset_max: Duration,
    /// How long a job or a lock key must have been withdrawn, or held by no node while somebody led, before the store
    /// forgets its name; at least [`FORGET_AFTER_MIN`]. Default: [`FORGET_AFTER_DEFAULT`].
    pub forget_after: Duration,
    /// The version of the time zone data by which the schedules of this node go, to be shown and compared with that of other
    /// nodes; at most 200 bytes. Default: empty, which means that it is not known.
    pub zone_data: Arc<str>,
    /// The application's own check whether this node may lead: see [`MayLead`]. Default: none.
    pub may_lead: Option<MayLead>,
    /// The node leads only while no other node stands as a candidate. Default: `false`.
    pub prefer_not_to_lead: bool,
    /// How long the node does not campaign after it was asked to resign, unless another node leads before; at least
    /// [`RESIGN_PAUSE_MIN`]. A node that led only between two of its questions, a second apart, may go
    /// unseen: then the whole pause passes. Default: [`RESIGN_PAUSE_DEFAULT`].
    pub resign_pause: Duration,
    /// The node's id, unless the backend has one for it. Default: random.
    pub node: NodeId,
    /// Hears of every definition, for the audit of a rig.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) definitions: Option<Definitions>,
}

impl EngineOptions {
    /// The defaults on `backend`, without jobs.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            backend,
            jobs: Vec::new(),
            listeners: Vec::new(),
            hooks: Hooks::default(),
            clock: Arc::new(SystemClock::default()),
            spawner: None,
            arbiters: processors.clamp(1, 4),
            body_threads: processors.min(THREADS_MAX),
            local_body_threads: 1,
            blocking_threads: BLOCKING_THREADS_DEFAULT,
            job_labels_max: JOB_LABELS_DEFAULT,
            shutdown_abort_after: SHUTDOWN_ABORT_AFTER_DEFAULT,
            connect_timeout: Some(CONNECT_TIMEOUT_DEFAULT),
            max_concurrent_runs: None,
            when_full: WhenFull::default(),
            clock_offset_max: CLOCK_OFFSET_MAX_DEFAULT,
            forget_after: FORGET_AFTER_DEFAULT,
            zone_data: "".into(),
            may_lead: None,
            prefer_not_to_lead: false,
            resign_pause: RESIGN_PAUSE_DEFAULT,
            node: NodeId::random(),
            #[cfg(any(test, feature = "testkit"))]
            definitions: None,
        }
    }

    /// Checks the options and the jobs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    pub fn check(&self) -> Result<(), Faults> {
        let (definitions, mut faults) = define_all(self.jobs.clone(), self.clock.now());
        faults.extend(conflicts(&definitions, |_| None));
        faults.extend(self.backend.faults());
        faults.extend(self.hooks.fault());
        let threads = [
            ("arbiters", self.arbiters),
            ("body_threads", self.body_threads),
            ("local_body_threads", self.local_body_threads),
            ("blocking_threads", self.blocking_threads),
        ];
        for (option, value) in threads {
            if !(1..=THREADS_MAX).contains(&value) {
                let rule = format!("it is at least 1 and at most {THREADS_MAX}");
                faults.push(Fault::new(option, value.to_string(), rule, "choose a number in this range"));
            }
        }
        if self.zone_data.len() > ZONE_DATA_VERSION_MAX {
            let rule = format!("the version of time zone data has at most {ZONE_DATA_VERSION_MAX} bytes");
            faults.push(Fault::new("zone_data", &*self.zone_data, rule, "shorten it, such as `2026f`"));
        }
        if self.max_concurrent_runs == Some(0) {
            let cure = "raise it, or leave it out for no bound";
            faults.push(Fault::new("max_concurrent_runs", "0", "it is at least 1", cure));
        }
        let spans = [
            ("connect_timeout", self.connect_timeout, CONNECT_TIMEOUT_MIN, "10s"),
            ("clock_offset_max", Some(self.clock_offset_max), CLOCK_OFFSET_MIN, "5m"),
            ("forget_after", Some(self.forget_after), FORGET_AFTER_MIN, "7d"),
            ("resign_pause", Some(self.resign_pause), RESIGN_PAUSE_MIN, "30s"),
        ];
        for (option, value, min, default) in spans {
            if let Some(value) = value.filter(|value| *value < min) {
                let rule = format!("it is at least {}", DurationText(min));
                let cure = format!("choose a longer time; {default} is the default");
                faults.push(Fault::new(option, DurationText(value).to_string(), rule, cure));
            }
        }
        Faults::check(faults)
    }
}

/// A started engine.
///
/// Dropping it stops nothing: the jobs go on until [`Shutdown`] or the end of the process.
#[derive(Clone)]
pub struct Engine {
    supervisor: Addr<SupervisorActor>,
    publisher: Publisher,
    shutdown_abort_after: Duration,
    /// Where somebody sees to it that a shutdown ends; `None` on threads of the caller.
    coordination: Option<ArbiterHandle>,
    /// The report, when every thread has ended.
    stopped: watch::Receiver<Option<ShutdownReport>>,
}

impl Engine {
    /// Starts the actors on threads of their own.
    ///
    /// Returns when the store has opened a session and every job is added.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started, without waiting for it.
    pub async fn start(options: EngineOptions) -> Result<Self, StartError> {
        options.check().map_err(StartError::Invalid)?;
        let shutdown_abort_after = options.shutdown_abort_after;
        let (ready, started) = oneshot::channel();
        let (sender, stopped) = watch::channel(None);
        thread::Builder::new()
            .name("callsheet".to_owned())
            .spawn(move || {
                let report = run_threads(options, ready);
                sender.send_replace(Some(report));
            })
            .map_err(StartError::Threads)?;
        let Ready { supervisor, publisher, coordination } = started.await.unwrap_or(Err(StartError::Died))?;
        let supervisor = supervisor.disarm();
        Ok(Self { supervisor, publisher, shutdown_abort_after, coordination, stopped })
    }

    /// Starts every actor on a `LocalSet` of the caller, and no thread: jobs fire only while the local set
    /// runs. Bodies run on the runtime that it is called in, or where the [spawner](EngineOptions::spawner)
    /// says. The options that say how many threads there are mean nothing.
    ///
    /// # Errors
    ///
    /// [`StartError`], [`NoRuntime`](StartError::NoRuntime) outside a tokio runtime; nothing is left running.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started, without waiting for it.
    pub async fn start_on(local: &LocalSet, options: EngineOptions) -> Result<Self, StartError> {
        options.check().map_err(StartError::Invalid)?;
        // Without one, nothing could be spawned.
        runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        local.run_until(Self::start_here(options)).await
    }

    /// The one address that an application talks to.
    pub fn supervisor(&self) -> &Addr<SupervisorActor> {
        &self.supervisor
    }

    /// A stream of the events that pass a filter, from now on; one that has ended if the engine has.
    pub fn events(&self, filter: EventFilter) -> EventStream {
        self.publisher.stream(filter)
    }

    /// The time between cancelling and aborting the runs that did not drain.
    pub fn shutdown_abort_after(&self) -> Duration {
        self.shutdown_abort_after
    }

    /// Stops the engine, and answers when every thread has ended or is left behind: see [`Shutdown`].
    ///
    /// An engine on threads of its own whose supervisor does not answer, because code of the application blocks its
    /// thread, is left behind [`SHUTDOWN_END_MAX`] after the runs were to be aborted; the report is
    /// [unanswered](ShutdownReport::unanswered). It stops when it can.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let aborted_after = deadline.saturating_add(self.shutdown_abort_after);
        self.end(self.supervisor.send(Shutdown { deadline }).boxed(), aborted_after).await
    }

    /// Stops at once: see [`ShutdownNow`]. Otherwise as [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown_now(&self) -> ShutdownReport {
        self.end(self.supervisor.send(ShutdownNow).boxed(), Duration::ZERO).await
    }

    async fn end(&self, mut asked: Asked, aborted_after: Duration) -> ShutdownReport {
        let Some(coordination) = &self.coordination else {
            // The only error is that there is nothing to stop any more. The report comes from the engine's end.
            let _ = asked.await;
            return self.stopped().await;
        };
        let (say, silent) = oneshot::channel();
        let supervisor = self.supervisor.clone();
        // False: the engine's threads end.
        coordination.spawn(async move {
            // It is what was asked for.
            let answers = || timeout(ANSWER_DEADLINE, supervisor.send(AnnounceShutdown)).map(|answer| answer.is_ok());
            if !ends(&mut asked, aborted_after, answers).await {
                tracing::warn!(
                    target: "callsheet",
                    "a shutdown leaves the scheduler's thread behind: it does not answer; code of the application, \
                     such as a schedule, blocks it"
                );
                // Whoever asked may have given up.
                let _ = say.send(());
                // A question that is dropped before it is read means nothing.
                let _ = asked.await;
            }
        });
        match select(pin!(self.stopped()), silent).await {
            Either::Left((report, _)) => report,
            Either::Right((Ok(()), _)) => ShutdownReport { unanswered: true, ..ShutdownReport::default() },
            Either::Right((Err(_), stopped)) => stopped.await,
        }
    }

    /// Resolves when the engine has stopped and its threads have ended, or are left behind because they are blocked.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn stopped(&self) -> ShutdownReport {
        match self.stopped.clone().wait_for(Option::is_some).await {
            Ok(report) => report.clone().unwrap_or_default(),
            // The sender is gone, and with it the engine.
            Err(_) => ShutdownReport::default(),
        }
    }

    /// On the `LocalSet` that it is called in, with options that were checked.
    pub(crate) async fn start_here(options: EngineOptions) -> Result<Self, StartError> {
        let shutdown_abort_after = options.shutdown_abort_after;
        let of_caller = || -> Arc<dyn Spawner> { Arc::new(RuntimeSpawner::new(runtime::Handle::current())) };
        let spawner = options.spawner.clone().unwrap_or_else(of_caller);
        let threads = Threads {
            placement: Placement::Here,
            coordination: None,
            own_threads: OwnThreads::Here(Starts::default()),
            spawner,
        };
        let (Started { supervisor, publisher }, over) = start_actors(options, threads, pending()).await?;
        let (sender, stopped) = watch::channel(None);
        actix_rt::spawn(async move {
            sender.send_replace(Some(over.await.unwrap_or_default()));
        });
        Ok(Self { supervisor, publisher, shutdown_abort_after, coordination: None, stopped })
    }
}

/// A shutdown that was asked for.
type Asked = BoxFuture<'static, Result<ShutdownReport, MailboxError>>;

/// What the engine's own thread answers when it has started.
struct Ready {
    supervisor: StopOnDrop,
    publisher: Publisher,
    coordination: Option<ArbiterHandle>,
}

/// The engine's own thread, from start to end.
fn run_threads(
    options: EngineOptions,
    mut ready: oneshot::Sender<Result<Ready, StartError>>,
) -> ShutdownReport {
    let system = System::new();
    // Outside async code, where a runtime can be dropped if another one cannot be made.
    let (engine, threads) = match EngineThreads::make(&options) {
        Ok(made) => made,
        Err(error) => {
            // Whoever started it may have given up.
            let _ = ready.send(Err(StartError::Threads(error)));
            return ShutdownReport::default();
        }
    };
    let coordination = threads.coordination.clone();
    let report = system.block_on(async {
        match start_actors(options, threads, ready.closed()).await {
            Ok((Started { supervisor, publisher }, over)) => {
                // If nobody waits for it, or gives up before he has read it, nobody could ever stop the engine.
                let supervisor = StopOnDrop(Some(supervisor));
                let _ = ready.send(Ok(Ready { supervisor, publisher, coordination }));
                let report = over.await.unwrap_or_default();
                for _ in 0..LAST_TURNS {
                    // Tasks of this thread still answer those who asked for the shutdown by message.
                    tokio::task::yield_now().await;
                }
                report
            }
            Err(error) => {
                // Whoever started it may have given up.
                let _ = ready.send(Err(error));
                ShutdownReport::default()
            }
        }
    });
    engine.stop();
    report
}

/// Waits for the answer to a shutdown; not for ever if the supervisor `answers` nothing else. While it does, another
/// shutdown may be under way, which takes longer than this one would.
async fn ends<A>(
    mut asked: impl Future + Unpin,
    aborted_after: Duration,
    mut answers: impl FnMut() -> A,
) -> bool
where
    A: Future<Output = bool>,
{
    let mut wait = aborted_after;
    loop {
        wait = wait.saturating_add(SHUTDOWN_END_MAX - ANSWER_DEADLINE);
        if timeout_at(deadline::from_now(wait), &mut asked).await.is_ok() {
            return true;
        }
        if !answers().await {
            return false;
        }
        wait = Duration::ZERO;
    }
}

/// How often the tasks of the engine's thread get another turn at its end.
const LAST_TURNS: usize = 16;

/// The threads that the engine owns.
struct EngineThreads {
    arbiters: Vec<Arbiter>,
    bodies: Option<runtime::Runtime>,
    own_threads: Option<Arc<EngineBodies>>,
}

impl EngineThreads {
    fn make(options: &EngineOptions) -> std::io::Result<(Self, Threads)> {
        let mut made = Self { arbiters: Vec::new(), bodies: None, own_threads: None };
        match made.fill(options) {
            Ok(threads) => Ok((made, threads)),
            Err(error) => {
                made.stop();
                Err(error)
            }
        }
    }

    fn fill(&mut self, options: &EngineOptions) -> std::io::Result<Threads> {
        let spawner = match &options.spawner {
            Some(spawner) => spawner.clone(),
            None => {
                let bodies = runtime::Builder::new_multi_thread()
                    .worker_threads(options.body_threads)
                    .thread_name("callsheet-body")
                    .enable_all()
                    .build()?;
                let handle = bodies.handle().clone();
                self.bodies = Some(bodies);
                Arc::new(RuntimeSpawner::new(handle))
            }
        };
        let placement = Placement::on(self.more(options.arbiters)?);
        let coordination = self.more(1)?.pop();
        let local = self.more(options.local_body_threads)?;
        let own_threads = Arc::new(EngineBodies::new(local, options.blocking_threads));
        self.own_threads = Some(own_threads.clone());
        Ok(Threads { placement, coordination, own_threads: OwnThreads::OfEngine(own_threads), spawner })
    }

    fn more(&mut self, count: usize) -> std::io::Result<Vec<ArbiterHandle>> {
        let first = self.arbiters.len();
        for _ in 0..count {
            self.arbiters.push(Arbiter::try_new()?);
        }
        Ok(self.arbiters[first..].iter().map(Arbiter::handle).collect())
    }

    /// Stops the threads and waits for them, but not for ever: code of the application may block them.
    fn stop(self) {
        let (done, ended) = mpsc::channel();
        let count = self.arbiters.len();
        for arbiter in self.arbiters {
            arbiter.stop();
            let done = done.clone();
            thread::spawn(move || {
                let joined = arbiter.join();
                // Nobody waits any more if it took too long.
                let _ = done.send(joined.is_ok());
            });
        }
        let until = std::time::Instant::now() + JOIN_MAX;
        for left in (1..=count).rev() {
            let wait = until.saturating_duration_since(std::time::Instant::now());
            if ended.recv_timeout(wait).is_err() {
                tracing::warn!(target: "callsheet", left, "threads of the engine are blocked and left behind");
                break;
            }
        }
        if let Some(own_threads) = self.own_threads {
            own_threads.stop(until.saturating_duration_since(std::time::Instant::now()));
        }
        if let Some(bodies) = self.bodies {
            bodies.shutdown_timeout(until.saturating_duration_since(std::time::Instant::now()));
        }
    }
}

/// Where the parts of an engine run.
struct Threads {
    placement: Placement,
    coordination: Option<ArbiterHandle>,
    own_threads: OwnThreads,
    spawner: Arc<dyn Spawner>,
}

/// Whom an application deals with once the actors have started.
struct Started {
    supervisor: Addr<SupervisorActor>,
    publisher: Publisher,
}

/// Starts the actors, the supervisor on the current thread, unless whoever wants them gives up first.
async fn start_actors(
    options: EngineOptions,
    threads: Threads,
    abandoned: impl Future<Output = ()>,
) -> Result<(Started, oneshot::Receiver<ShutdownReport>), StartError> {
    let EngineOptions {
        backend, jobs, listeners, hooks, clock, job_labels_max, shutdown_abort_after, ..
    } = options;
    let EngineOptions {
        forget_after,
        connect_timeout,
        clock_offset_max,
        node,
        max_concurrent_runs,
        when_full,
        zone_data,
        may_lead,
        prefer_not_to_lead,
        resign_pause,
        ..
    } = options;
    #[cfg(any(test, feature = "testkit"))]
    let definitions = options.definitions;
    backend.set_clock(clock.clone());
    backend.set_zone_data(zone_data.clone());
    let id = backend.node().unwrap_or(node);
    let meters = Arc::new(Meters::new(backend.scope(), job_labels_max));
    let publisher = Publisher::new(id, clock.clone(), meters.clone());
    let node = Arc::new(Node {
        id,
        run_ids: RunIds::of(id),
        leadership: Leadership::default(),
        clock_offset: ClockOffset::new(clock_offset_max, &*clock),
        clock_moves: ClockMoves::default(),
        leader: KnownLeader::new(clock.elapsed()),
        candidacy: Mutex::new(if prefer_not_to_lead { Candidacy::Reluctant } else { Candidacy::Stands }),
        bodies: BodyWatch::default(),
        failures: FailureLog::new(clock.clone(), meters.clone()),
        overdue: Overdue::default(),
        clock,
        zone_data,
        publisher: publisher.clone(),
        meters,
        spawner: threads.spawner,
        placement: threads.placement,
        permits: Permits::new(max_concurrent_runs, when_full),
        asks: Mutex::new(Some(Vec::new())),
        own_threads: threads.own_threads,
        over: CancellationToken::new(),
        hooks,
        hook_call_bytes: ByteBudget::new(NODE_HOOK_CALL_BYTES_MAX),
        hooking: watch::Sender::new(()),
        locker: backend.locker(),
        timers: runtime::Handle::current(),
        run_extension: backend.run_extension(),
        #[cfg(any(test, feature = "testkit"))]
        definitions,
        lock: OnceLock::new(),
        supervisor: OnceLock::new(),
    });

    let listener = ListenerActor::new(&publisher).start();
    for (filter, recipient) in listeners {
        // Before anything happens that they should hear of.
        listener.send(ListenTo { filter, listener: recipient }).await.map_err(|_| StartError::Died)?;
    }
    let elector = backend.elector();
    let on_coordination = threads.coordination;
    let election = {
        let node = node.clone();
        let candidature = Candidature { may_lead, prefer_not_to_lead, resign_pause, lease: backend.lease() };
        start_on(on_coordination.as_ref(), move || ElectionActor::new(node, elector, candidature))
    };
    let (stopped, over) = oneshot::channel();
    let supervisor = SupervisorActor::new(Supervised {
        node: node.clone(),
        backend: backend.name(),
        single_node: backend.single_node(),
        forget_after,
        lease: backend.lease(),
        listener,
        election: election.clone(),
        shutdown_abort_after,
        stopped: Some(stopped),
    })
    .start();
    let lease = (!backend.single_node()).then(|| backend.lease());
    // The lock actor comes last: its first session sets everything going.
    let known = node.supervisor.set(supervisor.clone()).is_ok();
    let lock = {
        let node = node.clone();
        let lock_election = election.clone();
        let (address, receiver) = actix::dev::channel::channel(LOCK_MAILBOX);
        let lock = Addr::new(address);
        let known = node.lock.set(lock.clone()).is_ok() && known;
        debug_assert!(known, "addresses are set once");
        let start = move || {
            let actor = LockActor::new(node, lock_election, lease);
            actix_rt::spawn(Context::with_receiver(receiver).into_future(actor));
        };
        match &on_coordination {
            Some(arbiter) => drop(arbiter.spawn_fn(start)),
            None => start(),
        }
        lock
    };

    let given_up = StopOnDrop(Some(supervisor.clone()));
    let settled = async {
        first_session(&lock, connect_timeout, backend.name()).await?;
        add_first(&supervisor, jobs).await
    };
    let settled = match select(pin!(settled), pin!(abandoned)).await {
        Either::Left((settled, _)) => settled,
        Either::Right(((), _)) => Err(StartError::Died),
    };
    match settled {
        Ok(()) => {
            tracing::info!(target: "callsheet", version = &*node.zone_data, "time zone data");
            Ok((Started { supervisor: given_up.disarm(), publisher }, over))
        }
        Err(error) => {
            // Nothing runs yet; an error means that nothing is left to stop.
            let _ = supervisor.send(Shutdown { deadline: Duration::ZERO }).await;
            Err(error)
        }
    }
}

/// Stops an engine whose start was given up.
struct StopOnDrop(Option<Addr<SupervisorActor>>);

impl StopOnDrop {
    fn disarm(mut self) -> Addr<SupervisorActor> {
        self.0.take().expect("invariant: it is disarmed once")
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(supervisor) = self.0.take() {
            supervisor.do_send(Shutdown { deadline: Duration::ZERO });
        }
    }
}

/// Waits for the first session, which the lock actor tries to open again and again.
async fn first_session(
    lock: &Addr<LockActor>,
    connect_timeout: Option<Duration>,
    backend: &'static str,
) -> Result<(), StartError> {
    let until = connect_timeout.map(deadline::from_now);
    let mut reason = "it did not answer within the deadline".to_owned();
    loop {
        let opened = lock.send(AwaitSession);
        let opened = match until {
            Some(until) => timeout_at(until, opened).await,
            None => Ok(opened.await),
        };
        match opened {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(LockError::Refused { reason }))) if until.is_some() => {
                return Err(StartError::Refused { backend, reason });
            }
            Ok(Ok(Err(error))) => reason = bounded(error, TEXT_MAX),
            Ok(Err(_)) => return Err(StartError::Died),
            Err(_) => return Err(StartError::Unreachable { backend, reason }),
        }
    }
}

async fn add_first(supervisor: &Addr<SupervisorActor>, jobs: Vec<Job>) -> Result<(), StartError> {
    match supervisor.send(AddFirstJobs(jobs)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(AddError::Invalid(faults) | AddError::Exists(faults))) => Err(StartError::Invalid(faults)),
        // No job is refused at the start because its time is over.
        Ok(Err(AddError::Over(_) | AddError::ShuttingDown)) | Err(_) => Err(StartError::Died),
    }
}

const LOCK_MAILBOX: usize = 65_536;

fn start_on<A: Actor<Context = Context<A>>>(
    arbiter: Option<&ArbiterHandle>,
    make: impl FnOnce() -> A + Send + 'static,
) -> Addr<A> {
    match arbiter {
        Some(arbiter) => A::start_in_arbiter(arbiter, |_| make()),
        None => make().start(),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use super::*;

    /// Runs on a clock that jumps from timer to timer.
    fn on_virtual_time(story: impl Future<Output = ()>) {
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(story);
    }

    #[test]
    fn a_shutdown_waits_on_while_the_supervisor_answers() {
        on_virtual_time(async {
            let asked_it = Cell::new(0);
            // As a shutdown that was asked for before, with more time.
            let ended = pin!(tokio::time::sleep(SHUTDOWN_END_MAX * 5));
            let answers = || {
                asked_it.set(asked_it.get() + 1);
                ready(true)
            };

            assert!(ends(ended, Duration::ZERO, answers).await);

            assert!(asked_it.get() >= 4, "{}", asked_it.get());
        });
    }

    #[test]
    fn a_shutdown_is_given_up_when_the_supervisor_does_not_answer() {
        on_virtual_time(async {
            let asked_it = Cell::new(0);
            let answers = || {
                asked_it.set(asked_it.get() + 1);
                ready(asked_it.get() < 3)
            };

            assert!(!ends(pin!(pending::<()>()), Duration::ZERO, answers).await);

            assert_eq!(asked_it.get(), 3);
        });
    }
}
