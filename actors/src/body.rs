//! The kinds of bodies: an async closure or function, a future that is not `Send`, an actor.

use std::{
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use actix::Recipient;
use futures_util::{FutureExt, future::BoxFuture};
use tracing::Instrument;

use crate::{
    own_threads::WorkEnd,
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
            let (threads, clock) = (run.own_threads().clone(), run.clock().clone());
            let span = run.span().clone();
            let work = move || {
                // The call as well: a function may do something before it answers its future.
                let body = span.in_scope(|| function(run));
                body.map(IntoRunResult::into_run_result).instrument(span).boxed_local()
            };
            result_of(threads.run_local(work, abort, clock).await)
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
                    Ok(result) => WorkEnd::Returned(result),
                    Err(payload) => WorkEnd::Panicked(payload),
                }
            };
            result_of(threads.run_blocking(work, abort, clock).await)
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

fn result_of(end: WorkEnd<RunResult>) -> RunResult {
    match end {
        WorkEnd::Returned(result) => result,
        WorkEnd::Panicked(payload) => resume_unwind(payload),
        WorkEnd::Aborted => Err("the body was dropped before it returned".into()),
        WorkEnd::NoThread(error) => Err(error.into()),
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
