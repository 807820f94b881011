//! How a node does what others ask of it.
//!
//! It looks for requests when its session was opened, on each hint, and once a minute. The store hands out each of them
//! once. What stands in it may be written by anybody who may write there, so it is checked.

use std::sync::Arc;

use actix::prelude::*;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    super::{Phase, SupervisorActor},
    performing::perform,
    wire::{Ask, Reply},
};
use crate::{
    contained::contained,
    core::{
        control::CLUSTER_WITHIN_MAX,
        operation::Operation,
        text::{TEXT_MAX, bounded},
    },
    message::JobPage,
    note::Attribution,
    port::{ANSWER_BYTES_MAX, Control, ControlError, ControlRequest, REQUEST_BYTES_MAX, TakenRequest},
};

/// How far a node is with what others ask of it.
#[derive(Default)]
pub(in super::super) struct Serving {
    /// The number of hints that it has seen of this session.
    seen: u64,
    /// The store is being asked, and is to be asked again.
    is_asking: bool,
    again: bool,
    /// What waits for the next hint.
    hinted: Option<Hinted>,
}

/// A task that waits for a hint. Not a future of the actor's: each message to it would poll that as well.
struct Hinted(JoinHandle<()>);

impl Drop for Hinted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// There may be requests: so many hints were there.
#[derive(Message)]
#[rtype(result = "()")]
struct TakeRequests(u64);

/// Asks the node to answer once it knows a version of the catalogue, or at an instant; `None`: it keeps to none.
#[derive(Message)]
#[rtype(result = "Option<()>")]
pub(super) struct AwaitVersion {
    pub(super) version: u64,
    pub(super) until: Instant,
}

/// A call into the store, contained and bounded in time.
pub(super) async fn call<T>(
    called: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    match contained(called).await {
        Ok(answer) => answer,
        Err(no_answer) => Err(ControlError::Unavailable { reason: no_answer.as_str().to_owned() }),
    }
}

impl SupervisorActor {
    /// A session was opened: hints count from 0.
    pub(in super::super) fn begin_serving(&mut self, ctx: &mut Context<Self>) {
        self.serving.seen = 0;
        self.take_requests(ctx);
        self.await_request(ctx);
    }

    /// Asks the store for requests to this node, and does them.
    pub(in super::super) fn take_requests(&mut self, ctx: &mut Context<Self>) {
        let Some(control) = self.parts.control.clone() else { return };
        // A node that drains has runs that can be cancelled, until its session is closed.
        match self.phase {
            Phase::Running | Phase::ShuttingDown(_) => {}
            Phase::Stopped(_) => return,
        }
        if self.serving.is_asking {
            self.serving.again = true;
            return;
        }
        self.serving.is_asking = true;
        let taken = async move { call(control.take()).await };
        ctx.spawn(taken.into_actor(self).map(|taken, actor, ctx| actor.on_taken_requests(taken, ctx)));
    }

    fn on_taken_requests(&mut self, taken: Result<Vec<TakenRequest>, ControlError>, ctx: &mut Context<Self>) {
        self.serving.is_asking = false;
        match taken {
            Ok(requests) => {
                self.node().failures.succeeded(Operation::Control);
                for request in requests {
                    self.serve(request, ctx);
                }
            }
            // Whoever asked names this node as one that did not answer.
            Err(error) => self.on_control_failed(&error, ctx),
        }
        if std::mem::take(&mut self.serving.again) {
            self.take_requests(ctx);
        }
    }

    fn serve(&self, TakenRequest { request, left }: TakenRequest, ctx: &mut Context<Self>) {
        let Some(control) = self.parts.control.clone() else { return };
        let own = ctx.address();
        let until = Instant::now() + left.min(CLUSTER_WITHIN_MAX);
        let served = async move {
            let id = request.id;
            // An answer after the deadline is for nobody.
            let answer = timeout_at(until, answer_to(&own, request, until)).await.ok()?;
            Some(call(control.answer(id, answer)).await)
        };
        ctx.spawn(served.into_actor(self).map(|answered, actor, ctx| match answered {
            Some(Ok(())) => actor.node().failures.succeeded(Operation::Control),
            Some(Err(error)) => actor.on_control_failed(&error, ctx),
            None => {}
        }));
    }

    fn await_request(&mut self, ctx: &mut Context<Self>) {
        let Some(control) = self.parts.control.clone() else { return };
        let (seen, own) = (self.serving.seen, ctx.address().downgrade());
        let hinted = actix::spawn(async move {
            let hints = hints(&control, seen).await;
            if let Some(own) = own.upgrade() {
                own.do_send(TakeRequests(hints));
            }
        });
        self.serving.hinted = Some(Hinted(hinted));
    }
}

/// Waits for a hint. An adapter that panics gives none.
async fn hints(control: &Arc<dyn Control>, seen: u64) -> u64 {
    let hinted = crate::contained::caught(async { control.asked(seen).await });
    match hinted.await {
        Ok(hints) => hints,
        Err(_) => std::future::pending().await,
    }
}

impl Handler<TakeRequests> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, TakeRequests(hints): TakeRequests, ctx: &mut Self::Context) {
        self.serving.seen = hints;
        self.take_requests(ctx);
        self.await_request(ctx);
    }
}

impl Handler<AwaitVersion> for SupervisorActor {
    type Result = ResponseFuture<Option<()>>;

    fn handle(
        &mut self,
        AwaitVersion { version, until }: AwaitVersion,
        _: &mut Self::Context,
    ) -> Self::Result {
        let known = self.parts.stored.is_some().then(|| self.await_version(version));
        Box::pin(async move {
            // An error is the expected end: the sender is dropped when the version is known. At the instant nobody
            // waits
            // for the answer any more.
            let _ = timeout_at(until, known?).await;
            Some(())
        })
    }
}

/// The answer to a request, as JSON.
async fn answer_to(own: &Addr<SupervisorActor>, request: ControlRequest, until: Instant) -> Arc<str> {
    let ControlRequest { body, by, note, .. } = request;
    let reply = match read(&body) {
        Ok(ask) => perform(own, ask, Attribution { by, note }, until).await,
        Err(reason) => Reply::Unable(reason.into()),
    };
    written(reply)
}

/// Reads what is asked.
fn read(body: &str) -> Result<Ask, String> {
    if body.len() > REQUEST_BYTES_MAX {
        return Err(format!("the request has more than {REQUEST_BYTES_MAX} bytes"));
    }
    serde_json::from_str(body).map_err(|error| {
        // It may be anything: the text of the error quotes it.
        bounded(
            format_args!("it cannot read the request, which may be of another version: {error}"),
            TEXT_MAX,
        )
    })
}

/// An answer as JSON; one that is too large with fewer jobs.
fn written(reply: Reply) -> Arc<str> {
    let unable = |reason: String| {
        let reply = Reply::Unable(bounded(reason, TEXT_MAX).into());
        serde_json::to_string(&reply).unwrap_or_default()
    };
    let text = serde_json::to_string(&reply).unwrap_or_else(|error| unable(error.to_string()));
    if text.len() <= ANSWER_BYTES_MAX {
        return text.into();
    }
    match reply {
        Reply::Page(JobPage { mut jobs, .. }) if jobs.len() > 1 => {
            jobs.truncate(jobs.len() / 2);
            let next = jobs.last().map(|job| job.name.as_str().to_owned());
            written(Reply::Page(JobPage { jobs, next }))
        }
        Reply::Runs(mut runs) if !runs.runs.is_empty() => {
            runs.runs.truncate(runs.runs.len() / 2);
            written(Reply::Runs(runs))
        }
        Reply::Now(_)
        | Reply::Runs(_)
        | Reply::Cancelled(_)
        | Reply::Changed(_)
        | Reply::Triggered(_)
        | Reply::Details(_)
        | Reply::Page(_)
        | Reply::Known
        | Reply::Unknown
        | Reply::Refused { .. }
        | Reply::Unable(_) => {
            unable(format!("it is done, but the answer has more than {ANSWER_BYTES_MAX} bytes")).into()
        }
    }
}
