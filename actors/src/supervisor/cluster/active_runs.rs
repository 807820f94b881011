//! Which runs are in progress on this node.
//!
//! The lock actor knows the jobs whose claims the store granted; the others, those of one node and those that were
//! removed, are asked as well.

use std::{collections::BTreeMap, sync::Arc};

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::super::{ANSWER_DEADLINE, SupervisorActor};
use crate::{
    core::policy::Fires,
    job::{AsksSchedule, JobHandle, JobMessage},
    lock::ListHolders,
    message::{ActiveRun, ActiveRuns, RunsOnNode},
};

/// How many jobs at a time are asked for their runs.
const ASK_PAGE: usize = 200;
/// How many jobs that claim nothing are asked for their runs.
const WITHOUT_CLAIM_MAX: usize = 1_000;

impl Handler<ActiveRuns> for SupervisorActor {
    type Result = ResponseActFuture<Self, RunsOnNode>;

    fn handle(&mut self, asked: ActiveRuns, _: &mut Self::Context) -> Self::Result {
        let limit = asked.page_limit();
        let holders = timeout(ANSWER_DEADLINE, self.parts.lock.send(ListHolders));
        Box::pin(holders.into_actor(self).then(move |holders, actor, _| {
            list(actor.jobs_with_runs(holders.ok().and_then(Result::ok)), limit).into_actor(actor)
        }))
    }
}

/// The jobs that may have runs.
struct Asked {
    /// Those that claim nothing.
    others: Vec<Arc<JobHandle>>,
    /// Those whose claims the store granted, in the order of their names.
    held: Vec<Arc<JobHandle>>,
    claims: usize,
    /// So many are not asked.
    unasked: usize,
}

impl SupervisorActor {
    /// By what the lock actor says, if it has answered.
    fn jobs_with_runs(&self, holders: Option<Vec<Arc<JobHandle>>>) -> Asked {
        let local = || self.jobs.values().filter(|entry| entry.firing.fires() == Fires::Local);
        // Without an answer any of them may have a run.
        let mut unasked = if holders.is_none() { self.jobs.len() - local().count() } else { 0 };
        let holders = holders.unwrap_or_default();
        let claims = holders.len();
        let held: BTreeMap<_, _> = holders.into_iter().map(|job| (job.generation, job)).collect();
        let others = self.retiring.values().chain(local().map(|entry| &entry.job));
        let mut others = others.filter(|job| !held.contains_key(&job.generation));
        let asked: Vec<_> = others.by_ref().take(WITHOUT_CLAIM_MAX).cloned().collect();
        unasked += others.count();
        let mut held: Vec<_> = held.into_values().collect();
        held.sort_by(|one, other| one.definition.name.cmp(&other.definition.name));
        Asked { others: asked, held, claims, unasked }
    }
}

/// Asks jobs until there are enough runs.
async fn list(Asked { others, held, claims, unasked }: Asked, limit: usize) -> RunsOnNode {
    let (mut runs, mut unanswered) = (Vec::new(), unasked);
    for page in others.chunks(ASK_PAGE) {
        unanswered += runs_of(page, &mut runs).await;
    }
    let mut count = runs.len() + claims;
    let mut pages = held.chunks(ASK_PAGE);
    while runs.len() < limit {
        let Some(page) = pages.next() else {
            // All were asked. Those that have not answered have a claim.
            if unanswered == 0 {
                count = runs.len();
            }
            break;
        };
        unanswered += runs_of(page, &mut runs).await;
    }
    runs.sort_by(|one: &ActiveRun, other| (&one.job, one.status.run).cmp(&(&other.job, other.status.run)));
    let count = count.max(runs.len());
    runs.truncate(limit);
    RunsOnNode { runs, count, unanswered }
}

/// Asks jobs for their runs. Answers how many have not answered.
async fn runs_of(jobs: &[Arc<JobHandle>], runs: &mut Vec<ActiveRun>) -> usize {
    let asked = jobs.iter().map(|job| {
        let name = job.definition.name.clone();
        let status = job.ask(|reply| JobMessage::Status { asks_schedule: AsksSchedule::No, reply });
        async move {
            match timeout(ANSWER_DEADLINE, status).await {
                Ok(Ok(status)) => Some((name, status.active_runs)),
                // It has ended.
                Ok(Err(_)) => Some((name, Vec::new())),
                Err(_) => None,
            }
        }
    });
    let answers = join_all(asked.collect::<Vec<_>>()).await;
    let unanswered = answers.iter().filter(|answer| answer.is_none()).count();
    for (name, active) in answers.into_iter().flatten() {
        runs.extend(active.into_iter().map(|run| ActiveRun::new(name.clone(), run)));
    }
    unanswered
}
