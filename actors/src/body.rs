//! The kinds of bodies: an async closure or function, a future that is not `Send`, an actor.

use std::{
    any::Any,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::Recipient;
use actix_rt::ArbiterHandle;
use futures_util::{
    FutureExt,
    future::{BoxFuture, LocalBoxFuture},
    stream::{AbortRegistration, Abortable},
};
use tokio::sync::oneshot;

use crate::{
    port::Body,
    run::{IntoRunResult, Run, RunResult},
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
            let bodies = run.local_bodies().clone();
            let work = move || function(run).map(IntoRunResult::into_run_result).boxed_local();
            match bodies.run(work, abort).await {
                LocalEnd::Returned(result) => result,
                LocalEnd::Panicked(payload) => resume_unwind(payload),
                LocalEnd::Aborted => Err("the body was dropped before it returned".into()),
            }
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

/// Where futures that are not `Send` run.
#[derive(Clone)]
pub(crate) enum LocalBodies {
    /// On arbiters, in turn.
    Arbiters(Arc<(Vec<ArbiterHandle>, AtomicUsize)>),
    /// On the thread, and the local set, of the run's own task.
    Here,
}

enum LocalEnd {
    Returned(RunResult),
    Panicked(Box<dyn Any + Send>),
    Aborted,
}

impl LocalBodies {
    pub(crate) fn on(arbiters: Vec<ArbiterHandle>) -> Self {
        Self::Arbiters(Arc::new((arbiters, AtomicUsize::new(0))))
    }

    async fn run<W>(&self, work: W, abort: Option<AbortRegistration>) -> LocalEnd
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
                Ok(Ok(result)) => LocalEnd::Returned(result),
                Ok(Err(payload)) => LocalEnd::Panicked(payload),
                Err(_) => LocalEnd::Aborted,
            };
            // The run's task is gone only if its runtime is: nobody is left to tell.
            let _ = done.send(end);
        };
        match self {
            Self::Arbiters(arbiters) => {
                let (handles, turn) = &**arbiters;
                let nth = turn.fetch_add(1, Ordering::Relaxed) % handles.len().max(1);
                if let Some(arbiter) = handles.get(nth) {
                    arbiter.spawn_fn(move || {
                        actix_rt::spawn(task());
                    });
                }
            }
            Self::Here => {
                actix_rt::spawn(task());
            }
        }
        end.await.unwrap_or(LocalEnd::Aborted)
    }
}
