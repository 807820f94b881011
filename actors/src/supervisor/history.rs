//! How the supervisor answers what is asked of the history, and has it pruned while this node leads.
//!
//! Decided here: how often it is pruned. What need not be kept any more is the history's to say.

use std::time::Duration;

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::SupervisorActor;
use crate::{
    event::Outcome,
    history::Recorder,
    name::RunId,
    port::{
        AskGaps, DecisionPage, Decisions, HistoryError, JobHistory, JobRecord, OperationPage, Operations,
        RecordsOf, Retention, RunHistory, RunPage,
    },
};

/// How often the leader has the history pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// The pause before it goes on, if there is more.
const PRUNE_NEXT: Duration = Duration::from_millis(250);

impl SupervisorActor {
    /// Has the history pruned, now and then for as long as the term lasts.
    pub(super) fn prune_later(&mut self, ctx: &mut Context<Self>) {
        if self.node().recorder.is_to_be_pruned() {
            self.prune_after(PRUNE_EVERY, false, ctx);
        }
    }

    /// `failed`: it failed the last time, and that was logged.
    fn prune_after(&mut self, pause: Duration, failed: bool, ctx: &mut Context<Self>) {
        let Some(term) = self.term else { return };
        ctx.run_later(pause, move |actor, ctx| {
            if actor.term != Some(term) {
                return;
            }
            let (recorder, now) = (actor.node().recorder.clone(), actor.node().store_time());
            let retention = actor.parts.retention;
            let pruned = async move { recorder.prune(now, retention).await };
            ctx.spawn(pruned.into_actor(actor).map(move |pruned, actor, ctx| {
                if let Err(error) = &pruned
                    && !failed
                {
                    tracing::warn!(target: "callsheet", "old records of the history stay; it is tried again: {error}");
                }
                let pause = if pruned == Ok(true) { PRUNE_NEXT } else { PRUNE_EVERY };
                if actor.term == Some(term) {
                    actor.prune_after(pause, pruned.is_err(), ctx);
                }
            }));
        });
    }
}

impl SupervisorActor {
    /// What the history is asked with: where, the store's time, and for how long records are kept.
    fn to_ask(&self) -> (Recorder, DateTime<Utc>, Retention) {
        (self.node().recorder.clone(), self.node().store_time(), self.parts.retention)
    }
}

impl Handler<RunHistory> for SupervisorActor {
    type Result = ResponseFuture<Result<RunPage, HistoryError>>;

    fn handle(&mut self, asked: RunHistory, _: &mut Self::Context) -> Self::Result {
        let (recorder, now, retention) = self.to_ask();
        Box::pin(async move {
            let reader = recorder.read().await;
            let mut page = reader.runs(asked.clone()).await?;
            let of = AskGaps {
                of: RecordsOf::Runs,
                job: asked.job,
                from: page.next.as_ref().map(RunId::made_at).or(asked.from),
                to: asked.before.as_ref().map(RunId::made_at).or(asked.to),
            };
            let kept_for = match asked.outcome {
                None | Some(Outcome::Succeeded | Outcome::Cancelled) => retention.runs_for,
                Some(Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Lost) => {
                    retention.failures_for
                }
            };
            page.gaps = reader.gaps(of, now, kept_for).await?;
            Ok(page)
        })
    }
}

impl Handler<JobHistory> for SupervisorActor {
    type Result = ResponseFuture<Result<Option<JobRecord>, HistoryError>>;

    fn handle(&mut self, JobHistory(job): JobHistory, _: &mut Self::Context) -> Self::Result {
        let (recorder, now) = (self.node().recorder.clone(), self.node().store_time());
        Box::pin(async move {
            let record = recorder.read().await.job(job).await?;
            Ok(record.map(|mut record| {
                // Nobody says that a pause has ended by itself.
                record.pause.take_if(|pause| pause.until.is_some_and(|until| until <= now));
                record
            }))
        })
    }
}

impl Handler<Decisions> for SupervisorActor {
    type Result = ResponseFuture<Result<DecisionPage, HistoryError>>;

    fn handle(&mut self, asked: Decisions, _: &mut Self::Context) -> Self::Result {
        let (recorder, now, retention) = self.to_ask();
        Box::pin(async move {
            let reader = recorder.read().await;
            let mut page = reader.decisions(asked.clone()).await?;
            let of = AskGaps {
                of: RecordsOf::Decisions,
                job: asked.job,
                from: page.next.map(|next| next.at).or(asked.from),
                to: asked.before.map(|before| before.at).or(asked.to),
            };
            page.gaps = reader.gaps(of, now, retention.decisions_for).await?;
            Ok(page)
        })
    }
}

impl Handler<Operations> for SupervisorActor {
    type Result = ResponseFuture<Result<OperationPage, HistoryError>>;

    fn handle(&mut self, asked: Operations, _: &mut Self::Context) -> Self::Result {
        let (recorder, now, retention) = self.to_ask();
        Box::pin(async move {
            let reader = recorder.read().await;
            let mut page = reader.operations(asked.clone()).await?;
            let of = AskGaps {
                of: RecordsOf::Operations,
                job: asked.job,
                from: page.next.map(|next| next.at).or(asked.from),
                to: asked.before.map(|before| before.at).or(asked.to),
            };
            page.gaps = reader.gaps(of, now, retention.operations_for).await?;
            Ok(page)
        })
    }
}
