//! The task of one run: the body, contained, and the report of its end.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{AbortRegistration, Abortable, Aborted},
};
use tracing::Instrument;

use super::{handle::JobHandle, hook_calls, report::Report};
use crate::{
    body_queue::{Begin, QUICK_MAX},
    contained::{panic_text, unharmed},
    core::job::{BodyEnd, BodyEnded, Input, Start},
    event::EventKind,
    history::OpenRun,
    name::RunId,
    port::Session,
    run::{Origin, Run, RunResult},
};

/// One attempt of a run, before it begins. Whatever happens to it (it ends, panics, is aborted, or is dropped
/// by its runtime), the job hears of the end exactly once, when nothing of the body is left.
pub(crate) struct RunTask {
    start: Start,
    /// To which it was granted, if it was claimed.
    session: Option<Session>,
    run: Run,
    report: EndReport,
}

impl RunTask {
    pub(crate) fn new(job: Arc<JobHandle>, start: Start, session: Option<Session>, run: Run) -> Self {
        let report = EndReport { job, run: start.run, started: None, is_begun: false, sent: false };
        Self { start, session, run, report }
    }

    pub(super) fn job(&self) -> &Arc<JobHandle> {
        &self.report.job
    }

    /// A process that was frozen since the grant may go on right here, before anybody told the job that its
    /// lock is lost.
    fn is_trusted(&self) -> bool {
        self.session.is_none_or(|session| self.job().node().locker.trusts(session))
    }

    /// Hooks are to admit it: once per run on this node, and not in what follows a timeout or a failure.
    fn is_to_be_admitted(&self) -> bool {
        self.start.begins && self.job().has_before_hooks()
    }

    /// The body starts now. Answers the run, for the body, and the report of its end.
    fn say_started(self) -> (Run, EndReport) {
        let Self { start, run, mut report, .. } = self;
        let job = &report.job;
        let node = job.node();
        let elapsed = node.clock.elapsed();
        let started_at = job.wall_at(elapsed);
        if start.begins {
            let lateness = start.tick.map(|tick| tick.lateness(started_at)).unwrap_or_default();
            if start.tick.is_some() && start.attempt == 1 {
                job.meters.late(lateness);
            }
            node.publisher.publish_routine(|| {
                let (by, names) = match run.origin() {
                    Origin::Tick(_) => (None, None),
                    Origin::Trigger { by, fire_time, .. } => (by.clone(), *fire_time),
                    Origin::Backfill { by, fire_time, .. } => (by.clone(), Some(*fire_time)),
                };
                EventKind::RunStarted {
                    job: job.definition.name.clone(),
                    run: start.run,
                    fire_time: start.tick,
                    lateness,
                    attempt: start.attempt,
                    token: start.token,
                    by,
                    names,
                }
            });
        }
        if let Some(alarm) = job.definition.alarm() {
            let is_to_be_asked = alarm.lock().began(start.run, started_at);
            job.alarm_noted(is_to_be_asked);
        }
        report.started = Some((started_at, elapsed));
        (run, report)
    }

    async fn work(mut self) {
        if !self.is_trusted() {
            return self.report.send(BodyEnd::NotStarted { veto: None });
        }
        if self.is_to_be_admitted() {
            if let Err(veto) = hook_calls::admit(self.job(), &self.run).await {
                return self.report.send(BodyEnd::NotStarted { veto });
            }
            if !self.is_trusted() {
                return self.report.send(BodyEnd::NotStarted { veto: None });
            }
        }
        let (run, report) = self.say_started();
        let job = report.job.clone();
        let abort = if job.definition.body.get().abortable() { run.take_abort() } else { None };
        let own = report.records().then(|| run.clone());
        // `start` is called inside, so that a body that panics or blocks before its first await is contained
        // as well.
        finish(report, own, abort, async move { job.definition.start(run).await }).await;
    }

    /// On a thread for bodies: most bodies are over at once.
    fn try_now(mut self) -> Option<BoxFuture<'static, ()>> {
        if !self.is_trusted() {
            self.report.send(BodyEnd::NotStarted { veto: None });
            return None;
        }
        let (run, mut report) = self.say_started();
        let is_abortable = report.job.definition.body.get().abortable();
        let own = (is_abortable || report.records()).then(|| run.clone());
        if is_abortable && own.as_ref().is_some_and(Run::is_aborted) {
            report.end(Err(Aborted));
            return None;
        }
        report.is_begun = true;
        // Nobody is to be woken: what is not over is polled again at once, as a task of its own.
        let mut nobody = Context::from_waker(Waker::noop());
        let first = catch_unwind(AssertUnwindSafe(|| {
            let mut work = report.job.definition.start(run);
            match work.as_mut().poll(&mut nobody) {
                Poll::Ready(result) => Ok(result),
                Poll::Pending => Err(work),
            }
        }));
        let work = match first {
            Ok(Err(work)) => work,
            Ok(Ok(result)) => {
                report.end(Ok(Ok(result)));
                return None;
            }
            Err(payload) => {
                report.end(Ok(Err(payload)));
                return None;
            }
        };
        let abort = own.as_ref().filter(|_| is_abortable).and_then(Run::take_abort);
        Some(finish(report, own, abort, work).boxed())
    }
}

impl Begin for RunTask {
    fn begin(self) -> Option<BoxFuture<'static, ()>> {
        let span = self.run.span();
        if span.is_disabled() {
            return self.try_now();
        }
        let span = span.clone();
        let rest = span.in_scope(|| self.try_now());
        rest.map(|rest| rest.instrument(span).boxed())
    }

    fn task(self) -> BoxFuture<'static, ()> {
        let span = self.run.span().clone();
        if span.is_disabled() { self.work().boxed() } else { self.work().instrument(span).boxed() }
    }

    fn is_quick(&self) -> bool {
        !self.is_to_be_admitted() && !self.job().body_takes_time()
    }
}

/// Waits for a body, contained, and reports its end once nothing of it is left: whoever hears of the end may
/// start the next run.
///
/// `run` is there if the run is to be recorded as one in progress.
async fn finish(
    mut report: EndReport,
    run: Option<Run>,
    abort: Option<AbortRegistration>,
    work: impl Future<Output = RunResult>,
) {
    let mut open = None;
    let mut run = run.filter(|_| report.records());
    let (mut is_begun, mut is_aborted) = (report.is_begun, false);
    let end = {
        // The body is dropped inside, at the end of the block: what its destructors do is contained as well.
        let work = async {
            let work = async {
                is_begun = true;
                work.await
            };
            let Some(registration) = abort else { return Ok(work.await) };
            let mut work = pin!(Abortable::new(work, registration));
            let end = work.as_mut().await;
            is_aborted = end.is_err();
            end
        };
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        poll_fn(|task| {
            let polled = work.as_mut().poll(task);
            // Not one that ends at once.
            if polled.is_pending()
                && let Some(run) = run.take()
            {
                open = report.open(&run);
            }
            polled
        })
        .await
    };
    drop(open);
    report.is_begun = is_begun;
    report.end(match end {
        Ok(Ok(result)) => Ok(Ok(result)),
        Ok(Err(Aborted)) => Err(Aborted),
        Err(payload) if is_aborted => {
            drop_unharmed(payload);
            Err(Aborted)
        }
        Err(payload) => Ok(Err(payload)),
    });
}

/// Drops what a body has left, which may panic.
fn drop_unharmed<T>(left: T) {
    unharmed(|| drop(left));
}

/// Tells the job that its run ended; if nobody says how, that it was aborted.
struct EndReport {
    job: Arc<JobHandle>,
    run: RunId,
    started: Option<(DateTime<Utc>, Duration)>,
    /// The body was called, so that it is known how long it takes.
    is_begun: bool,
    sent: bool,
}

impl EndReport {
    /// Whether runs in progress are recorded.
    fn records(&self) -> bool {
        self.job.node().recorder.is_on()
    }

    /// It is in progress for as long as the answer is there.
    fn open(&self, run: &Run) -> Option<OpenRun> {
        let (started_at, _) = self.started?;
        self.job.node().recorder.open(self.job.generation, run, started_at)
    }

    fn end(mut self, end: Result<Result<RunResult, Box<dyn Any + Send>>, Aborted>) {
        let texts = &self.job.host.end_texts;
        let end = match end {
            Ok(Ok(Ok(()))) => BodyEnd::Returned,
            Ok(Ok(Err(error))) => {
                if error.resigns() {
                    self.job.report(Report::ResignWanted);
                }
                let severity = error.severity();
                let text = unharmed(|| texts.take(&error));
                drop_unharmed(error);
                match text {
                    Some(error) => BodyEnd::Failed { error, severity },
                    None => BodyEnd::Panicked(texts.take("the error panicked when its text was asked for")),
                }
            }
            Ok(Err(payload)) => {
                let text = texts.take(panic_text(&*payload));
                drop_unharmed(payload);
                BodyEnd::Panicked(text)
            }
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
        let takes_time = took > QUICK_MAX;
        if self.is_begun && self.job.body_takes_time() != takes_time {
            self.job.body_takes_time.store(takes_time, Ordering::Relaxed);
        }
        self.job.send(Input::BodyEnded(BodyEnded { run: self.run, end, started_at, took }));
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        let end = if self.started.is_some() { BodyEnd::Aborted } else { BodyEnd::NotStarted { veto: None } };
        self.send(end);
    }
}
