//! The kinds of bodies: an async closure or function, a future that is not `Send`, an actor.

use std::{
    any::Any,
    future::Future,
    io,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::Recipient;
use actix_rt::ArbiterHandle;
use futures_util::{
    FutureExt,
    future::{BoxFuture, LocalBoxFuture},
    stream::{AbortRegistration, Abortable},
};
use tokio::{runtime, sync::oneshot};
use tracing::Instrument;

use crate::{
    port::{Body, Clock},
    run::{IntoRunResult, Run, RunResult},
    starts::{BodyThreads, Place, Starts},
};

/// A body made of an async closure or function.
pub(crate) struct FunctionBody<F>(pub(crate) F);

impl<F, Fut> Body for FunctionBody<F>
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoRunResult,
{
    fn start(&self, run: Run) -> BoxFuture<'static, RunResult> {
        self.0(run).map(IntoRunResult::into_run_result).boxed()
    }
}

/// A body whose futures are not `Send`: made and polled on an arbiter of its own.
pub(crate) struct LocalBody<F, Fut> {
    function: Arc<F>,
    future: PhantomData<fn() -> Fut>,
}

impl<F, Fut> LocalBody<F, Fut> {
    pub(crate) fn new(function: F) -> Self {
        Self { function: Arc::new(function), future: PhantomData }
    }
}

impl<F, Fut> Body for LocalBody<F, Fut>
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future + 'static,
    Fut::Output: IntoRunResult,
{
    fn start(&self, run: Run) -> BoxFuture<'static, RunResult> {
        let function = self.function.clone();
        async move {
            let abort = run.take_abort();
            let (threads, clock) = (run.own_threads().clone(), run.clock().clone());
            let span = run.span().clone();
            let work = move || {
                // The call as well: a function may do something before it answers its future.
                let body = span.in_scope(|| function(run));
                body.map(IntoRunResult::into_run_result).instrument(span).boxed_local()
            };
            threads.run_local(work, abort, clock).await.into_result()
        }
        .boxed()
    }

    /// The task on the arbiter is told to end by itself; it is over when it says so.
    fn abortable(&self) -> bool {
        false
    }

    fn elsewhere(&self) -> bool {
        true
    }
}

/// A body that blocks its thread.
pub(crate) struct BlockingBody<F, R> {
    function: Arc<F>,
    result: PhantomData<fn() -> R>,
}

impl<F, R> BlockingBody<F, R> {
    pub(crate) fn new(function: F) -> Self {
        Self { function: Arc::new(function), result: PhantomData }
    }
}

impl<F, R> Body for BlockingBody<F, R>
where
    F: Fn(Run) -> R + Send + Sync + 'static,
    R: IntoRunResult + 'static,
{
    fn start(&self, run: Run) -> BoxFuture<'static, RunResult> {
        let function = self.function.clone();
        async move {
            let (threads, abort) = (run.own_threads().clone(), run.take_abort());
            let clock = run.clock().clone();
            let span = run.span().clone();
            let work = move || {
                let body = || function(run).into_run_result();
                match catch_unwind(AssertUnwindSafe(|| span.in_scope(body))) {
                    Ok(result) => BodyEnd::Returned(result),
                    Err(payload) => BodyEnd::Panicked(payload),
                }
            };
            threads.run_blocking(work, abort, clock).await.into_result()
        }
        .boxed()
    }

    /// Nobody can take a function off its thread.
    fn abortable(&self) -> bool {
        false
    }

    fn elsewhere(&self) -> bool {
        true
    }
}

/// A body that is a message to an actor, which may keep its own state and need not be `Send`.
pub(crate) struct ActorBody(pub(crate) Recipient<Run>);

impl Body for ActorBody {
    fn start(&self, run: Run) -> BoxFuture<'static, RunResult> {
        let reply = self.0.send(run);
        async move {
            match reply.await {
                Ok(result) => result,
                Err(_) => Err(ActorGone.into()),
            }
        }
        .boxed()
    }

    /// Nobody can take a message back from an actor that has it.
    fn abortable(&self) -> bool {
        false
    }

    fn elsewhere(&self) -> bool {
        true
    }
}

/// The actor that should have done the work has stopped, or panicked while it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor of the body stopped or panicked; its mailbox is closed")]
pub struct ActorGone;

/// The threads of bodies that do not run where the others do: those that are not `Send`, and those that block.
#[derive(Clone)]
pub(crate) enum OwnThreads {
    /// Of the engine.
    OfEngine(Arc<EngineBodies>),
    /// The thread, and the local set, of the run's own task, and the blocking threads of its runtime, for
    /// which bodies wait.
    Here(Starts),
}

/// What the engine has of them.
pub(crate) struct EngineBodies {
    /// For futures that are not `Send`, in turn, and the bodies that wait for each.
    arbiters: Vec<(ArbiterHandle, Starts)>,
    turn: AtomicUsize,
    blocking: Blocking,
}

impl EngineBodies {
    /// At most `blocking_threads` are started for bodies that block, when the first of them runs.
    pub(crate) fn new(arbiters: Vec<ArbiterHandle>, blocking_threads: usize) -> Self {
        let pool = Mutex::new(Pool::NotNeeded);
        let blocking = Blocking { threads: blocking_threads, pool, starts: Starts::default() };
        let arbiters = arbiters.into_iter().map(|arbiter| (arbiter, Starts::default())).collect();
        Self { arbiters, turn: AtomicUsize::new(0), blocking }
    }

    /// Starts no more blocking bodies, and waits so long for those that run. To be called outside async code.
    pub(crate) fn stop(&self, wait: Duration) {
        let mut pool = self.blocking.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Pool::Started(runtime) = std::mem::replace(&mut *pool, Pool::Stopped) {
            drop(pool);
            runtime.shutdown_timeout(wait);
        }
    }
}

/// A bounded number of threads for bodies that block.
struct Blocking {
    threads: usize,
    pool: Mutex<Pool>,
    /// The bodies that wait for one of them.
    starts: Starts,
}

enum Pool {
    NotNeeded,
    /// Nothing runs on the runtime itself: it is there for its blocking threads.
    Started(runtime::Runtime),
    Stopped,
}

impl Blocking {
    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Pool::NotNeeded = *pool {
            let mut builder = runtime::Builder::new_current_thread();
            let builder = builder.max_blocking_threads(self.threads).thread_name("callsheet-blocking");
            *pool = Pool::Started(builder.build()?);
        }
        if let Pool::Started(runtime) = &*pool {
            drop(runtime.spawn_blocking(work));
        }
        Ok(())
    }
}

enum BodyEnd {
    Returned(RunResult),
    Panicked(Box<dyn Any + Send>),
    Aborted,
}

impl BodyEnd {
    fn into_result(self) -> RunResult {
        match self {
            Self::Returned(result) => result,
            Self::Panicked(payload) => resume_unwind(payload),
            Self::Aborted => Err("the body was dropped before it returned".into()),
        }
    }
}

impl OwnThreads {
    /// For how long no body has started on threads of a kind although one waits for them.
    pub(crate) fn silences(&self, now: Duration) -> [(BodyThreads, Duration); 2] {
        let (blocking, local) = match self {
            Self::OfEngine(bodies) => {
                let each = bodies.arbiters.iter().map(|(_, starts)| starts.silence(now));
                (&bodies.blocking.starts, each.max().unwrap_or_default())
            }
            // On one thread, nobody who looks waits for another.
            Self::Here(starts) => (starts, Duration::ZERO),
        };
        [(BodyThreads::Blocking, blocking.silence(now)), (BodyThreads::Local, local)]
    }

    async fn run_local<W>(&self, work: W, abort: Option<AbortRegistration>, clock: Arc<dyn Clock>) -> BodyEnd
    where
        W: FnOnce() -> LocalBoxFuture<'static, RunResult> + Send + 'static,
    {
        let (done, end) = oneshot::channel();
        let task = move || async move {
            // Inside the task, so that a closure that panics harms nothing else.
            let body = AssertUnwindSafe(async move { work().await }).catch_unwind();
            let result = match abort {
                Some(abort) => Abortable::new(body, abort).await,
                None => Ok(body.await),
            };
            let end = match result {
                Ok(Ok(result)) => BodyEnd::Returned(result),
                Ok(Err(payload)) => BodyEnd::Panicked(payload),
                Err(_) => BodyEnd::Aborted,
            };
            // The run's task is gone only if its runtime is: nobody is left to tell.
            let _ = done.send(end);
        };
        match self {
            Self::OfEngine(bodies) => {
                let nth = bodies.turn.fetch_add(1, Ordering::Relaxed) % bodies.arbiters.len().max(1);
                if let Some((arbiter, starts)) = bodies.arbiters.get(nth) {
                    let place = starts.wait(clock);
                    arbiter.spawn_fn(move || {
                        // It starts when it is polled: what is spawned may stand behind a body that blocks.
                        actix_rt::spawn(async move {
                            place.take();
                            task().await;
                        });
                    });
                }
            }
            Self::Here(_) => {
                actix_rt::spawn(task());
            }
        }
        end.await.unwrap_or(BodyEnd::Aborted)
    }

    /// An abort drops work that has not begun. What has begun is waited for.
    async fn run_blocking<W>(
        &self,
        work: W,
        abort: Option<AbortRegistration>,
        clock: Arc<dyn Clock>,
    ) -> BodyEnd
    where
        W: FnOnce() -> BodyEnd + Send + 'static,
    {
        let (done, end) = oneshot::channel();
        let (begins, begun) = oneshot::channel::<()>();
        let place = match self {
            Self::OfEngine(bodies) => bodies.blocking.starts.wait(clock),
            Self::Here(starts) => starts.wait(clock),
        };
        // Whoever takes it decides what becomes of it.
        let work = Arc::new(Mutex::new(Some((work, place))));
        let take =
            |work: &Mutex<Option<(W, Place)>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let waiting = work.clone();
        let task = move || {
            if let Some((work, place)) = take(&waiting) {
                place.take();
                drop(begins);
                // The run's task is gone only if its runtime is: nobody is left to tell.
                let _ = done.send(work());
            }
        };
        match self {
            Self::OfEngine(bodies) => {
                if let Err(error) = bodies.blocking.spawn(task) {
                    return BodyEnd::Returned(Err(error.into()));
                }
            }
            Self::Here(_) => drop(tokio::task::spawn_blocking(task)),
        }
        if let Some(abort) = abort
            && Abortable::new(begun, abort).await.is_err()
            && take(&work).is_some()
        {
            return BodyEnd::Aborted;
        }
        end.await.unwrap_or(BodyEnd::Aborted)
    }
}
