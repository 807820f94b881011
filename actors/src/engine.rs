//! An engine: its actors, on threads of their own or on the caller's, from start to end.

mod merged;
mod named;
mod options;
mod routed;
mod threads;
mod wiring;

use std::{future::pending, pin::pin, slice, sync::Arc, thread, time::Duration};

use actix::prelude::*;
use actix_rt::{ArbiterHandle, System};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, join_all, select},
};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    task::LocalSet,
    time::{timeout, timeout_at},
};

pub use self::options::{
    BLOCKING_THREADS_DEFAULT, CLOCK_OFFSET_MAX_DEFAULT, CONNECT_TIMEOUT_DEFAULT, EngineOptions,
    FORGET_AFTER_DEFAULT, FORGET_AFTER_MIN, NODE_NAME_MAX, THREADS_MAX,
};
pub use self::routed::Routed;
use self::{
    named::Engines,
    threads::{EngineThreads, Threads},
    wiring::{Started, StopOnDrop, start_actors},
};
use crate::{
    deadline,
    drain::ShutdownReport,
    error::StartError,
    event_filter::EventFilter,
    listener::{EventStream, Publisher},
    message::{AnnounceShutdown, Shutdown, ShutdownNow},
    own_threads::OwnThreads,
    placement::JobThreads,
    port::{RuntimeSpawner, Spawner},
    starts::Starts,
    supervisor::{ANSWER_DEADLINE, SHUTDOWN_END_MAX, SupervisorActor},
};

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
    /// This one and those of the named backends, if there are any.
    others: Option<Arc<Engines>>,
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
        named::start(options, Self::start_on_threads).await
    }

    async fn start_on_threads(options: EngineOptions) -> Result<Self, StartError> {
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
        Ok(Self { supervisor, publisher, shutdown_abort_after, coordination, stopped, others: None })
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

    /// Sends a message to the actor that it concerns, or to those of all backends, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The engine has stopped.
    ///
    /// # Cancel safety
    ///
    /// That of the message.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Routed,
        SupervisorActor: Handler<M>,
    {
        match &self.others {
            None => self.supervisor.send(message).await,
            Some(engines) => message.route(engines).await,
        }
    }

    /// The engines of all backends.
    fn each(&self) -> &[Self] {
        self.others.as_ref().map_or(slice::from_ref(self), |engines| &engines.all)
    }

    /// The one address that an application talks to: of jobs on the default backend.
    pub fn supervisor(&self) -> &Addr<SupervisorActor> {
        &self.supervisor
    }

    /// A stream of the events that pass a filter, from now on; one that has ended if the engine has.
    pub fn events(&self, filter: EventFilter) -> EventStream {
        EventStream::of_all(self.each().iter().map(|engine| engine.publisher.clone()).collect(), filter)
    }

    /// The time between cancelling and aborting the runs that did not drain.
    pub fn shutdown_abort_after(&self) -> Duration {
        self.shutdown_abort_after
    }

    /// Stops the engine, and answers when every thread has ended or is left behind: see [`Shutdown`].
    ///
    /// An engine on threads of its own whose supervisor does not answer, because code of the application
    /// blocks its thread, is left behind [`SHUTDOWN_END_MAX`] after the runs were to be aborted; the report
    /// is [unanswered](ShutdownReport::unanswered). It stops when it can.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let aborted_after = deadline.saturating_add(self.shutdown_abort_after);
        let asked = |engine: &Self| engine.supervisor.send(Shutdown { deadline }).boxed();
        let ended = self.each().iter().map(|engine| engine.end(asked(engine), aborted_after));
        ShutdownReport::of_all(join_all(ended).await)
    }

    /// Stops at once: see [`ShutdownNow`]. Otherwise as [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown_now(&self) -> ShutdownReport {
        let asked = |engine: &Self| engine.supervisor.send(ShutdownNow).boxed();
        let ended = self.each().iter().map(|engine| engine.end(asked(engine), Duration::ZERO));
        ShutdownReport::of_all(join_all(ended).await)
    }

    async fn end(&self, mut asked: Asked, aborted_after: Duration) -> ShutdownReport {
        let Some(coordination) = &self.coordination else {
            // The only error is that there is nothing to stop any more. The report comes from the engine's
            // end.
            let _ = asked.await;
            return self.has_stopped().await;
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
        match select(pin!(self.has_stopped()), silent).await {
            Either::Left((report, _)) => report,
            Either::Right((Ok(()), _)) => ShutdownReport { unanswered: true, ..ShutdownReport::default() },
            Either::Right((Err(_), stopped)) => stopped.await,
        }
    }

    /// Resolves when the engine has stopped and its threads have ended, or are left behind because they are
    /// blocked.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn stopped(&self) -> ShutdownReport {
        ShutdownReport::of_all(join_all(self.each().iter().map(Self::has_stopped)).await)
    }

    async fn has_stopped(&self) -> ShutdownReport {
        match self.stopped.clone().wait_for(Option::is_some).await {
            Ok(report) => report.clone().unwrap_or_default(),
            // The sender is gone, and with it the engine.
            Err(_) => ShutdownReport::default(),
        }
    }

    /// On the `LocalSet` that it is called in, with options that were checked.
    pub(crate) async fn start_here(options: EngineOptions) -> Result<Self, StartError> {
        named::start(options, Self::start_one_here).await
    }

    async fn start_one_here(mut options: EngineOptions) -> Result<Self, StartError> {
        options.history.settle(&*options.backend);
        let shutdown_abort_after = options.shutdown_abort_after;
        let of_caller = || -> Arc<dyn Spawner> { Arc::new(RuntimeSpawner::new(runtime::Handle::current())) };
        let spawner = options.spawner.clone().unwrap_or_else(of_caller);
        let threads = Threads {
            jobs: JobThreads::new(Vec::new()),
            coordination: None,
            history: None,
            own_threads: OwnThreads::Here(Starts::default()),
            spawner,
            bodies: None,
        };
        let (Started { supervisor, publisher }, over) = start_actors(options, threads, pending()).await?;
        let (sender, stopped) = watch::channel(None);
        actix_rt::spawn(async move {
            sender.send_replace(Some(over.await.unwrap_or_default()));
        });
        Ok(Self { supervisor, publisher, shutdown_abort_after, coordination: None, stopped, others: None })
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
    mut options: EngineOptions,
    mut ready: oneshot::Sender<Result<Ready, StartError>>,
) -> ShutdownReport {
    options.history.settle(&*options.backend);
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
                // If nobody waits for it, or gives up before he has read it, nobody could ever stop the
                // engine.
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

/// Waits for the answer to a shutdown; not for ever if the supervisor `answers` nothing else. While it does,
/// another shutdown may be under way, which takes longer than this one would.
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
