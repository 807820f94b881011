//! How the supervisor stops the engine.
//!
//! Decided here: the order of the steps and the deadline of each, from the one that was asked for. What a run
//! does when it is to drain, is cancelled or aborted is decided by the machine of its job.

use std::{
    pin::pin,
    sync::{Arc, PoisonError},
    time::Duration,
};

use actix::prelude::*;
use futures_util::future::{Either, join, select};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{ANSWER_DEADLINE, Phase, Supervised, SupervisorActor};
use crate::{
    CALL_DEADLINE,
    core::job::Input,
    deadline,
    drain::{Drain, ShutdownReport},
    election::{EndCandidacy, StopElection},
    event::{CancelReason, EventKind},
    job::{JobHandle, JobMessage, Retirement},
    listener::{Flush, StopListening},
    lock::CloseSession,
    message::{AnnounceShutdown, Shutdown, ShutdownNow},
};

/// How long the threads of an engine that were told to stop may take, all together, before they are left
/// behind.
pub(crate) const JOIN_MAX: Duration = Duration::from_secs(2);
/// How long aborted bodies get to end before a shutdown leaves them behind.
const ABORT_WAIT: Duration = Duration::from_secs(1);
/// How long the store and the listeners get at the end of a shutdown that has used up all of its time, or
/// that is to end at once.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long a shutdown may take after it has aborted the runs: 5 s. If nothing is blocked, it is
/// milliseconds.
pub const SHUTDOWN_END_MAX: Duration = ABORT_WAIT.saturating_add(CLOSE_WAIT).saturating_add(JOIN_MAX);
/// The default time between cancelling and aborting the runs that did not drain.
pub const SHUTDOWN_ABORT_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// How long a shutdown waits: it may be told, at whatever point, to end at once.
struct Patience(watch::Receiver<Option<Instant>>);

impl Patience {
    /// Waits until an instant, but no longer than for `rest` after the shutdown was told to end at once.
    async fn wait<T>(&self, awaited: impl Future<Output = T>, until: Instant, rest: Duration) -> Option<T> {
        let mut told = self.0.clone();
        let hurry = async move {
            // An error: the supervisor has died, and nobody waits any more.
            let told = told.wait_for(Option::is_some).await.ok().and_then(|told| *told);
            if let Some(told) = told {
                sleep_until(told + rest).await;
            }
        };
        match select(pin!(awaited), select(pin!(sleep_until(until)), pin!(hurry))).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }
}

/// What a shutdown does when its patience is over.
#[derive(Message)]
#[rtype(result = "()")]
enum ShutdownStage {
    Cancel,
    Abort,
    GiveUp,
}

impl SupervisorActor {
    fn everybody(&self) -> impl Iterator<Item = &Arc<JobHandle>> {
        self.jobs.values().map(|entry| &entry.job).chain(self.retiring.values())
    }

    fn tell_everybody(&self, input: impl Fn() -> Input) {
        self.everybody().for_each(|job| job.send(input()));
    }

    fn drain_everybody(&self, drain: &Arc<Drain>) {
        for entry in self.jobs.values() {
            let fires = self.authority(entry).is_some() && entry.firing.refused().is_none();
            entry.job.post(JobMessage::Drain { drain: drain.clone(), fires });
        }
        for job in self.retiring.values() {
            job.post(JobMessage::Drain { drain: drain.clone(), fires: false });
        }
    }

    fn start_shutdown(
        &mut self,
        reply: oneshot::Sender<ShutdownReport>,
        deadline: Duration,
        ctx: &mut Context<Self>,
    ) {
        self.publish(|| EventKind::ShutdownStarted { deadline });
        let (drain, tally, mut over) = Drain::new(!self.parts.able.single_node);
        // Before the phase and the term change: in a moment this node fires nothing any more, and a job's
        // actor may see so before it hears of the drain.
        self.drain_everybody(&Arc::new(drain));
        self.leave_backfills(ctx);
        self.phase = Phase::ShuttingDown(vec![reply]);
        self.term = None;
        self.enrolling.clear();

        let report = move || tally.lock().unwrap_or_else(PoisonError::into_inner).report();
        let Supervised { election, lock, listener, shutdown_abort_after, .. } = &self.parts;
        let (election, lock, listener) = (election.clone(), lock.clone(), listener.clone());
        let abort_after = *shutdown_abort_after;
        let own = ctx.address();
        let (node, jobs) = (self.node().clone(), self.parts.jobs.clone());
        let patience = Patience(self.at_once.subscribe());
        let shutdown = async move {
            let drained_until = deadline::from_now(deadline);
            let aborted_at = deadline::after(drained_until, abort_after);
            let closed_until = aborted_at + ABORT_WAIT + CLOSE_WAIT;
            let resigned_until = (aborted_at + ABORT_WAIT).min(Instant::now() + CALL_DEADLINE);
            // Given up now, so that another node can take over while this one drains. No answer: the term
            // lapses.
            let resigned = patience.wait(election.send(EndCandidacy), resigned_until, ABORT_WAIT);
            let drained = async {
                for (until, then) in
                    [(drained_until, ShutdownStage::Cancel), (aborted_at, ShutdownStage::Abort)]
                {
                    if patience.wait(&mut over, until, Duration::ZERO).await.is_some() {
                        return;
                    }
                    own.do_send(then);
                }
                if timeout(ABORT_WAIT, over).await.is_err() {
                    own.do_send(ShutdownStage::GiveUp);
                }
            };
            join(resigned, drained).await;
            let report = report();
            // What could not be written is closed as lost by whoever takes over.
            let close_until = closed_until.min(Instant::now() + CALL_DEADLINE);
            let end = ABORT_WAIT + CLOSE_WAIT;
            // Each may take all of the time: neither is cut short by the other.
            let closed = patience.wait(lock.send(CloseSession), close_until, end);
            join(closed, patience.wait(node.recorder.close(), close_until, end)).await;
            let ShutdownReport { drained, cancelled, aborted, .. } = report;
            // Nothing ends any more, so no hook is added. Those that take longer are dropped with their
            // runtime.
            patience.wait(jobs.hooking.closed(), drained_until, Duration::ZERO).await;
            node.publisher.publish(|| EventKind::ShutdownFinished { drained, cancelled, aborted });
            // A listener that does not keep up misses the end.
            let flush_until = closed_until.min(Instant::now() + ANSWER_DEADLINE);
            patience.wait(listener.send(Flush), flush_until, end).await;
            report
        };
        ctx.spawn(shutdown.into_actor(self).map(|report, actor, ctx| actor.finish_shutdown(report, ctx)));
    }

    fn finish_shutdown(&mut self, report: ShutdownReport, ctx: &mut Context<Self>) {
        let host = &self.parts.jobs;
        host.permits.close(|job| Arc::ptr_eq(&job.host, host));
        self.parts.jobs.catch_ups.close();
        self.everybody().for_each(|job| job.post(JobMessage::Retire { why: Retirement::EngineOver }));
        self.parts.election.do_send(StopElection);
        self.parts.listener.do_send(StopListening);
        let phase = std::mem::replace(&mut self.phase, Phase::Stopped(report.clone()));
        if let Phase::ShuttingDown(waiting) = phase {
            // Whoever waited may have given up.
            waiting.into_iter().for_each(|reply| drop(reply.send(report.clone())));
        }
        ctx.stop();
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ResponseFuture<ShutdownReport>;

    fn handle(&mut self, Shutdown { deadline }: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (reply, report) = oneshot::channel();
        match &mut self.phase {
            Phase::Running => self.start_shutdown(reply, deadline, ctx),
            Phase::ShuttingDown(waiting) => waiting.push(reply),
            Phase::Stopped(report) => {
                let report = report.clone();
                return Box::pin(async move { report });
            }
        }
        Box::pin(async move { report.await.unwrap_or_default() })
    }
}

impl Handler<AnnounceShutdown> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: AnnounceShutdown, _: &mut Self::Context) {
        self.shutdown_announced = true;
    }
}

impl Handler<ShutdownNow> for SupervisorActor {
    type Result = ResponseFuture<ShutdownReport>;

    fn handle(&mut self, _: ShutdownNow, ctx: &mut Self::Context) -> Self::Result {
        self.at_once.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert_with(Instant::now);
            first
        });
        self.handle(Shutdown { deadline: Duration::ZERO }, ctx)
    }
}

impl Handler<ShutdownStage> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, stage: ShutdownStage, _: &mut Self::Context) {
        match stage {
            ShutdownStage::Cancel => {
                self.tell_everybody(|| Input::Cancel { run: None, why: CancelReason::Shutdown })
            }
            ShutdownStage::Abort => self.tell_everybody(|| Input::Abort),
            ShutdownStage::GiveUp => {
                tracing::warn!(target: "callsheet", "a shutdown leaves runs behind that do not end")
            }
        }
    }
}
