//! How runs are cancelled: those of jobs, and one by its id.
//!
//! Nothing is decided here but who is asked: the holder that the lock actor knows, then the jobs page by
//! page. Each job's machine decides what a cancellation means for its runs.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use actix::prelude::*;
use futures_util::future::{join_all, ready};
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, SupervisorActor};
use crate::{
    error::{SelectError, UnknownRun, given_name},
    job::{FirstReply, JobHandle, JobMessage, record_cancelled},
    lock::FindHolder,
    message::{CancelRun, CancelRuns, Selector},
    name::{JobName, RunId},
};

/// How many jobs at a time are asked whether a run is one of theirs.
const ASK_PAGE: usize = 1_000;

/// Asks for what [`CancelRuns`] asks for, by whoever has to know whether all jobs have answered.
#[derive(Message)]
#[rtype(result = "Result<CancelledHere, SelectError>")]
pub(super) struct CancelRunsHere(pub(super) CancelRuns);

/// The runs of this node that were cancelled.
pub(super) struct CancelledHere {
    pub(super) runs: Vec<(JobName, RunId)>,
    /// Jobs have not answered in time. They were told all the same.
    pub(super) is_partial: bool,
}

/// The same of [`CancelRun`].
#[derive(Message)]
#[rtype(result = "Result<JobName, NotFound>")]
pub(super) struct CancelRunHere(pub(super) CancelRun);

/// Why a run was not found on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFound {
    /// No job knows it.
    Unknown,
    /// Jobs have not answered in time. They were told all the same.
    Unanswered,
}

impl SupervisorActor {
    /// The jobs that the selector means, and those that were removed while runs of them were in progress.
    fn select_with_removed(&self, selector: &Selector) -> Result<Vec<Arc<JobHandle>>, SelectError> {
        let is_meant = |job: &&Arc<JobHandle>| match selector {
            Selector::Name(name) => job.definition.name.as_str() == name,
            Selector::Tag(tag) => job.definition.tags().iter().any(|other| other.as_str() == tag),
            Selector::All => true,
        };
        let removed: Vec<_> = self.retiring.values().filter(is_meant).cloned().collect();
        let held = match self.select(selector) {
            Err(_) if !removed.is_empty() => Vec::new(),
            selected => selected?,
        };
        let held = held.iter().filter_map(|name| Some(self.jobs.get(name)?.job.clone()));
        Ok(removed.into_iter().chain(held).collect())
    }

    /// Asks jobs, page by page, whether the run is one of theirs, and ends it where it is.
    fn cancel_run(
        &self,
        run: RunId,
        page: Vec<Arc<JobHandle>>,
        after: Bound<JobName>,
        not_found: NotFound,
    ) -> ResponseActFuture<Self, Result<JobName, NotFound>> {
        let (reply, answer) = FirstReply::new();
        for job in &page {
            job.post(JobMessage::CancelRun { run, reply: reply.clone() });
        }
        drop(reply);
        let answer = timeout(ANSWER_DEADLINE, answer);
        Box::pin(answer.into_actor(self).then(move |answer, actor, _| {
            let not_found = match answer {
                Ok(Ok(job)) => return actor.answered(Ok(job)),
                Ok(Err(_)) => not_found,
                Err(_) => NotFound::Unanswered,
            };
            let rest = actor.jobs.range((after, Bound::Unbounded)).take(ASK_PAGE);
            let next: Vec<_> = rest.map(|(_, entry)| entry.job.clone()).collect();
            match next.last().map(|job| job.definition.name.clone()) {
                Some(last) => actor.cancel_run(run, next, Bound::Excluded(last), not_found),
                None => actor.answered(Err(not_found)),
            }
        }))
    }

    fn answered<T: 'static>(&self, answer: T) -> ResponseActFuture<Self, T> {
        Box::pin(ready(answer).into_actor(self))
    }
}

impl Handler<CancelRuns> for SupervisorActor {
    type Result = ResponseFuture<Result<Vec<(JobName, RunId)>, SelectError>>;

    fn handle(&mut self, asked: CancelRuns, ctx: &mut Self::Context) -> Self::Result {
        let cancelled = self.handle(CancelRunsHere(asked), ctx);
        Box::pin(async move { Ok(cancelled.await?.runs) })
    }
}

impl Handler<CancelRunsHere> for SupervisorActor {
    type Result = ResponseFuture<Result<CancelledHere, SelectError>>;

    fn handle(
        &mut self,
        CancelRunsHere(CancelRuns { jobs: selector, asked: attribution }): CancelRunsHere,
        _: &mut Self::Context,
    ) -> Self::Result {
        let selected = self.select_with_removed(&selector);
        let node = self.node().clone();
        let held: BTreeSet<_> = self.select(&selector).unwrap_or_default().into_iter().collect();
        let asked = selected.map(|jobs| {
            let ask = |job: &Arc<JobHandle>| {
                let name = job.definition.name.clone();
                let answer = job.ask(|reply| JobMessage::CancelAll { reply });
                async move {
                    match timeout(ANSWER_DEADLINE, answer).await {
                        Ok(Ok(runs)) => Some((name, runs)),
                        // It has ended.
                        Ok(Err(_)) => Some((name, Vec::new())),
                        Err(_) => None,
                    }
                }
            };
            join_all(jobs.iter().map(ask).collect::<Vec<_>>())
        });
        Box::pin(async move {
            let answers = asked?.await;
            let is_partial = answers.iter().any(Option::is_none);
            let of_job =
                |(job, runs): (JobName, Vec<RunId>)| runs.into_iter().map(move |run| (job.clone(), run));
            let runs: Vec<_> = answers.into_iter().flatten().flat_map(of_job).collect();
            runs.iter().for_each(|(job, run)| record_cancelled(&node, job, *run, &attribution));
            match selector {
                // It was removed, and had nothing left to cancel.
                Selector::Name(name) if held.is_empty() && runs.is_empty() => {
                    Err(SelectError::UnknownJob { name: given_name(&name) })
                }
                Selector::Name(_) | Selector::Tag(_) | Selector::All => {
                    Ok(CancelledHere { runs, is_partial })
                }
            }
        })
    }
}

impl Handler<CancelRun> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<JobName, UnknownRun>>;

    fn handle(&mut self, asked: CancelRun, ctx: &mut Self::Context) -> Self::Result {
        let run = asked.run;
        let cancelled = self.handle(CancelRunHere(asked), ctx);
        Box::pin(cancelled.map(move |job, _, _| job.map_err(|_| UnknownRun { run })))
    }
}

impl Handler<CancelRunHere> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<JobName, NotFound>>;

    /// The lock actor knows whose run it is if the store granted it. Others are looked for: those of local
    /// jobs, and what waits for its turn.
    fn handle(
        &mut self,
        CancelRunHere(CancelRun { run, asked }): CancelRunHere,
        _: &mut Self::Context,
    ) -> Self::Result {
        let holder = self.parts.lock.send(FindHolder(run));
        let holder = timeout(ANSWER_DEADLINE, holder);
        Box::pin(holder.into_actor(self).then(move |holder, actor, _| {
            let holder = holder.ok().and_then(Result::ok).flatten();
            let first = holder.into_iter().chain(actor.retiring.values().cloned()).collect();
            let cancelled = actor.cancel_run(run, first, Bound::Unbounded, NotFound::Unknown);
            Box::pin(cancelled.map(move |job, actor, _| {
                if let Ok(job) = &job {
                    record_cancelled(actor.node(), job, run, &asked);
                }
                job
            }))
        }))
    }
}
