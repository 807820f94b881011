//! Threads for work that does not run where other bodies do: what is not `Send`, and what blocks.

use std::{
    any::Any,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_rt::ArbiterHandle;
use futures_util::{
    FutureExt,
    future::LocalBoxFuture,
    stream::{AbortRegistration, Abortable},
};
use tokio::{runtime, sync::oneshot};

use crate::{
    port::Clock,
    starts::{BodyThreads, Place, Starts},
};

/// The threads of bodies that do not run where the others do: those that are not `Send`, and those that
/// block.
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

/// How work on such a thread ended.
pub(crate) enum WorkEnd<R> {
    Returned(R),
    Panicked(Box<dyn Any + Send>),
    Aborted,
    /// No thread could be started.
    NoThread(io::Error),
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

    pub(crate) async fn run_local<W, R>(
        &self,
        work: W,
        abort: Option<AbortRegistration>,
        clock: Arc<dyn Clock>,
    ) -> WorkEnd<R>
    where
        W: FnOnce() -> LocalBoxFuture<'static, R> + Send + 'static,
        R: Send + 'static,
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
                Ok(Ok(result)) => WorkEnd::Returned(result),
                Ok(Err(payload)) => WorkEnd::Panicked(payload),
                Err(_) => WorkEnd::Aborted,
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
        end.await.unwrap_or(WorkEnd::Aborted)
    }

    /// An abort drops work that has not begun. What has begun is waited for.
    pub(crate) async fn run_blocking<W, R>(
        &self,
        work: W,
        abort: Option<AbortRegistration>,
        clock: Arc<dyn Clock>,
    ) -> WorkEnd<R>
    where
        W: FnOnce() -> WorkEnd<R> + Send + 'static,
        R: Send + 'static,
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
                    return WorkEnd::NoThread(error);
                }
            }
            Self::Here(_) => drop(tokio::task::spawn_blocking(task)),
        }
        if let Some(abort) = abort
            && Abortable::new(begun, abort).await.is_err()
            && take(&work).is_some()
        {
            return WorkEnd::Aborted;
        }
        end.await.unwrap_or(WorkEnd::Aborted)
    }
}
