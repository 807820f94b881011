//! The task of one run: the body, contained, and the report of its end.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{AbortRegistration, Abortable, Aborted},
};
use tracing::Instrument;

use super::{handle::JobHandle, hook_calls, report::Report};
use crate::{
    contained::panic_text,
    core::job::{BodyEnd, BodyEnded, Input, Start},
    event::EventKind,
    name::RunId,
    port::Session,
    run::{Run, RunResult},
};

/// What the task of a run is made of.
pub(crate) struct RunTask {
    pub(crate) job: Arc<JobHandle>,
    pub(crate) start: Start,
    /// To which it was granted, if it was claimed.
    pub(crate) session: Option<Session>,
    pub(crate) run: Run,
    /// Drops the body; `None` if only the body itself can.
    pub(crate) abort: Option<AbortRegistration>,
}

/// The task. Whatever happens to it (it ends, panics, is aborted, or is dropped by its runtime), the job
/// hears of the end exactly once, when nothing of the body is left.
pub(crate) fn future(task: RunTask) -> BoxFuture<'static, ()> {
    let span = task.run.span().clone();
    let report = EndReport { job: task.job.clone(), run: task.start.run, started: None, sent: false };
    let work = run(task, report);
    if span.is_disabled() { work.boxed() } else { work.instrument(span).boxed() }
}

async fn run(task: RunTask, mut report: EndReport) {
    let RunTask { job, start, session, run, abort } = task;
    let node = job.node();
    // A process that was frozen since the grant may go on right here, before anybody told the job that its
    // lock is lost.
    let trusted = || session.is_none_or(|session| node.locker.trusts(session));
    if !trusted() {
        report.send(BodyEnd::NotStarted { veto: None });
        return;
    }
    // Once per run on this node, and not in what follows a timeout or a failure.
    if start.begins && job.has_before_hooks() {
        if let Err(veto) = hook_calls::admit(&job, &run).await {
            report.send(BodyEnd::NotStarted { veto });
            return;
        }
        if !trusted() {
            report.send(BodyEnd::NotStarted { veto: None });
            return;
        }
    }
    let (started_at, elapsed) = (node.clock.now(), node.clock.elapsed());
    report.started = Some((started_at, elapsed));
    let name = || job.definition.name.clone();
    if start.begins {
        let lateness =
            start.tick.map(|tick| tick.lateness(job.wall_at(started_at, elapsed))).unwrap_or_default();
        if start.tick.is_some() && start.attempt == 1 {
            job.meters.tick_lateness.record(lateness.as_secs_f64());
        }
        node.publisher.publish_routine(|| EventKind::RunStarted {
            job: name(),
            run: start.run,
            fire_time: start.tick,
            lateness,
            attempt: start.attempt,
            token: start.token,
        });
    }

    let body = job.definition.body.clone();
    // `start` is called inside, so that a body that panics or blocks before its first await is contained as
    // well.
    let work = AssertUnwindSafe(async move { body.get().start(run).await }).catch_unwind();
    let end = match abort {
        Some(registration) => Abortable::new(work, registration).await,
        None => Ok(work.await),
    };
    report.end(end);
}

/// Tells the job that its run ended; if nobody says how, that it was aborted.
struct EndReport {
    job: Arc<JobHandle>,
    run: RunId,
    started: Option<(DateTime<Utc>, Duration)>,
    sent: bool,
}

impl EndReport {
    fn end(mut self, end: Result<Result<RunResult, Box<dyn Any + Send>>, Aborted>) {
        let texts = &self.job.host.end_texts;
        let end = match end {
            Ok(Ok(Ok(()))) => BodyEnd::Returned,
            Ok(Ok(Err(error))) => {
                if error.resigns() {
                    self.job.report(Report::ResignWanted);
                }
                BodyEnd::Failed { error: texts.take(&error), severity: error.severity() }
            }
            Ok(Err(payload)) => BodyEnd::Panicked(texts.take(panic_text(&*payload))),
            Err(Aborted) => BodyEnd::Aborted,
        };
        self.send(end);
    }

    fn send(&mut self, end: BodyEnd) {
        if std::mem::replace(&mut self.sent, true) {
            return;
        }
        let elapsed = self.job.node().clock.elapsed();
        let took = self.started.map(|(_, began)| elapsed.saturating_sub(began)).unwrap_or_default();
        let started_at = self.started.map(|(at, _)| at);
        self.job.send(Input::BodyEnded(BodyEnded { run: self.run, end, started_at, took }));
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        let end = if self.started.is_some() { BodyEnd::Aborted } else { BodyEnd::NotStarted { veto: None } };
        self.send(end);
    }
}
