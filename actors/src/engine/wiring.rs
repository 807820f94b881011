//! Making the actors of a node, and handing each its recipients: nobody else knows who gets what.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{
    dev::channel::{AddressReceiver, channel},
    prelude::*,
};
use actix_rt::ArbiterHandle;
use futures_util::future::{Either, select};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;

use super::{
    options::{EngineOptions, Share},
    threads::{BodyThreads, Threads},
};
use crate::{
    body_queue::{BodyPlace, BodyQueue, RunnerQueue},
    body_watch::BodyWatch,
    candidacy::Candidacy,
    catch_ups::CatchUps,
    core::{
        byte_budget::ByteBudget,
        end_text::EndTexts,
        reported::REPORTED_BYTES_MAX,
        text::{TEXT_MAX, bounded},
    },
    deadline,
    definition::Job,
    drain::ShutdownReport,
    election::{CandidacyOptions, ElectionActor},
    error::{AddError, StartError},
    failing::Failing,
    failure_log::FailureLog,
    history::{HistoryThread, Recorder},
    hooks::NODE_HOOK_CALL_BYTES_MAX,
    job::{Asks, JobHost, Placement},
    job_names::JobNames,
    listener::{ListenTo, ListenerActor, Publisher},
    lock::{AwaitSession, Holdings, LockActor, OnTheSpot},
    message::{PAGE_MAX, Shutdown},
    metrics::Meters,
    name::RunIds,
    node::{ClockMoves, ClockOffset, KnownLeader, Leadership, Node},
    overdue::Overdue,
    own_threads::OwnThreads,
    permits::Permits,
    port::LockError,
    run::SharedParts,
    supervisor::{AddFirstJobs, Stored, Supervised, SupervisorActor},
};

/// Whom an application deals with once the actors have started.
pub(super) struct Started {
    pub(super) supervisor: Addr<SupervisorActor>,
    pub(super) publisher: Publisher,
}

/// Starts the actors, the supervisor on the current thread, unless whoever wants them gives up first.
pub(super) async fn start_actors(
    options: EngineOptions,
    threads: Threads,
    abandoned: impl Future<Output = ()>,
) -> Result<(Started, oneshot::Receiver<ShutdownReport>), StartError> {
    let EngineOptions {
        backend,
        jobs,
        tasks,
        listeners,
        hooks,
        clock,
        job_labels_max,
        shutdown_abort_after,
        ..
    } = options;
    let EngineOptions {
        forget_after,
        connect_timeout,
        clock_offset_max,
        node,
        max_concurrent_runs,
        when_full,
        catch_up_per_second,
        zone_data,
        may_lead,
        prefer_not_to_lead,
        resign_pause,
        error_bytes_max,
        overdue_after,
        history,
        node_name,
        warning,
        share,
        catalogue,
        schedule_reader,
        ..
    } = options;
    #[cfg(any(test, feature = "testkit"))]
    let definitions = options.definitions;
    backend.set_clock(clock.clone());
    backend.set_zone_data(zone_data.clone());
    backend.set_node_name(node_name.clone());
    let id = backend.node().unwrap_or(node);
    let (names, permits) = match share {
        Some(Share { names, permits }) => (Some(names), permits),
        None => (None, Permits::new(max_concurrent_runs, when_full)),
    };
    let backend_name = names.as_ref().and_then(JobNames::backend);
    let meters = Arc::new(Meters::new(backend.scope(), backend_name, job_labels_max, &zone_data));
    let publisher = Publisher::new(id, clock.clone(), meters.clone());
    let recorder =
        Recorder::new(&history, backend.name(), (id, clock.clone()), meters.history_dropped.clone());
    recorder.start(threads.history.clone().map_or(HistoryThread::Here, HistoryThread::Own));
    let (body_runtime, bodies, runner) = match threads.bodies {
        Some(BodyThreads { runner, bodies }) => {
            let queue = BodyQueue::on(&runner, bodies.clone());
            (bodies, BodyPlace::Own(queue.clone()), Some(queue as Arc<dyn RunnerQueue>))
        }
        None => {
            let runtime = threads.spawner.runtime().unwrap_or_else(runtime::Handle::current);
            (runtime, BodyPlace::Given(threads.spawner.clone()), None)
        }
    };
    let node = Arc::new(Node {
        id,
        name: node_name,
        run_ids: RunIds::of(id),
        leadership: Leadership::default(),
        clock_offset: ClockOffset::new(clock_offset_max, &*clock),
        clock_moves: ClockMoves::default(),
        leader: KnownLeader::new(id, clock.elapsed()),
        candidacy: Mutex::new(if prefer_not_to_lead { Candidacy::Reluctant } else { Candidacy::Stands }),
        bodies: BodyWatch::new(clock.clone(), threads.spawner.clone(), runner, threads.own_threads.clone()),
        failures: FailureLog::new(clock.clone(), meters.clone()),
        failing: Failing::default(),
        overdue: Overdue::default(),
        clock,
        zone_data,
        publisher: publisher.clone(),
        recorder,
        meters,
        spawner: threads.spawner,
        job_threads: threads.jobs.clone(),
        over: CancellationToken::new(),
        locker: backend.locker(),
        timers: runtime::Handle::current(),
    });

    let listener = ListenerActor::new(&publisher).start();
    for (filter, recipient) in listeners {
        // Before anything happens that they should hear of.
        listener.send(ListenTo { filter, listener: recipient }).await.map_err(|_| StartError::Died)?;
    }
    // Each actor's address is known before it is there: so each is made with its recipients.
    let (supervisor, supervisor_mailbox) = mailbox::<SupervisorActor>(SUPERVISOR_MAILBOX);
    let (lock, lock_mailbox) = mailbox::<LockActor>(LOCK_MAILBOX);
    let held = Arc::new(Holdings::new(node.meters.locks_held.clone()));
    let at_once =
        OnTheSpot::for_store_of(&node, &held, supervisor.clone().recipient(), backend.single_node());
    let asks = Arc::new(Asks::new(lock.clone().recipient(), at_once));
    let coordination = threads.coordination.as_ref();
    let has_io = matches!(threads.own_threads, OwnThreads::OfEngine(_));
    let election = {
        let (node, elector, reports) = (node.clone(), backend.elector(), supervisor.clone().recipient());
        let candidature =
            CandidacyOptions { may_lead, prefer_not_to_lead, resign_pause, lease: backend.lease() };
        let (election, mailbox) = mailbox::<ElectionActor>(ELECTION_MAILBOX);
        start_on(coordination, mailbox, move || ElectionActor::new(node, elector, reports, candidature));
        election
    };
    let (stopped, over) = oneshot::channel();
    let catch_ups = Arc::new(CatchUps::new(catch_up_per_second));
    let jobs_host = Arc::new(JobHost {
        node: node.clone(),
        asks: asks.clone(),
        reports: supervisor.clone().recipient(),
        placement: Placement::on(&threads.jobs),
        permits,
        catch_ups: catch_ups.clone(),
        bodies,
        body_runtime,
        of_runs: Arc::new(SharedParts {
            clock: node.clock.clone(),
            own_threads: threads.own_threads,
            extension: backend.run_extension(),
            reported_bytes: ByteBudget::new(REPORTED_BYTES_MAX),
            outlet: Box::new(node.clone()),
        }),
        hooks,
        end_texts: EndTexts::new(error_bytes_max),
        hook_call_bytes: ByteBudget::new(NODE_HOOK_CALL_BYTES_MAX),
        hooking: watch::Sender::new(()),
        #[cfg(any(test, feature = "testkit"))]
        definitions,
    });
    let stored = catalogue.or_else(|| backend.catalogue()).zip(schedule_reader);
    let stored = stored.map(|(catalogue, reader)| Stored { catalogue, reader });
    let supervised = Supervised {
        jobs: jobs_host,
        names,
        tasks,
        stored,
        able: backend.able(),
        has_io,
        warning: warning.clone(),
        forget_after,
        retention: history.retention,
        lease: backend.lease(),
        abort_within: backend.abort_within(),
        overdue_after,
        listener,
        election,
        lock: lock.clone(),
        backfills: backend.backfills(),
        control: backend.control(),
        shutdown_abort_after,
        stopped: Some(stopped),
    };
    start_on(None, supervisor_mailbox, move || SupervisorActor::new(supervised));
    // The lock actor comes last: its first session sets everything going.
    let lease = (!backend.single_node()).then(|| backend.lease());
    {
        let (node, reports) = (node.clone(), supervisor.clone().recipient());
        let watched = lease.map(|lease| (lease, catch_ups));
        start_on(coordination, lock_mailbox, move || LockActor::new(node, asks, held, reports, watched));
    }

    let given_up = StopOnDrop(Some(supervisor.clone()));
    let ready = async {
        first_session(&lock, connect_timeout, backend.name()).await?;
        add_first(&supervisor, jobs).await
    };
    let ready = match select(pin!(ready), pin!(abandoned)).await {
        Either::Left((ready, _)) => ready,
        Either::Right(((), _)) => Err(StartError::Died),
    };
    match ready {
        Ok(()) => {
            tracing::info!(target: "callsheet", version = &*node.zone_data, "time zone data");
            if !node.name.is_empty() {
                tracing::info!(target: "callsheet", node = %node.id, name = &*node.name, "name of this node");
            }
            if let Some(warning) = warning {
                tracing::warn!(target: "callsheet", "{warning}");
            }
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
pub(super) struct StopOnDrop(pub(super) Option<Addr<SupervisorActor>>);

impl StopOnDrop {
    pub(super) fn disarm(mut self) -> Addr<SupervisorActor> {
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

/// How many messages may wait for the lock actor before those who wait for room do.
const LOCK_MAILBOX: usize = 65_536;
/// The same for the election actor.
const ELECTION_MAILBOX: usize = 16;
/// The same for the supervisor.
const SUPERVISOR_MAILBOX: usize = PAGE_MAX;

/// The address of an actor that is not there yet.
fn mailbox<A: Actor<Context = Context<A>>>(capacity: usize) -> (Addr<A>, AddressReceiver<A>) {
    let (sender, receiver) = channel(capacity);
    (Addr::new(sender), receiver)
}

/// Makes an actor on an arbiter, or on this thread.
fn start_on<A: Actor<Context = Context<A>>>(
    arbiter: Option<&ArbiterHandle>,
    mailbox: AddressReceiver<A>,
    make: impl FnOnce() -> A + Send + 'static,
) {
    let start = move || {
        actix_rt::spawn(Context::with_receiver(mailbox).into_future(make()));
    };
    match arbiter {
        Some(arbiter) => drop(arbiter.spawn_fn(start)),
        None => start(),
    }
}
