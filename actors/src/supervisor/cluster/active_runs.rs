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
            let holders = holders.ok().and_then(Result::ok).unwrap_or_default();
            let claims = holders.len();
            let held: BTreeMap<_, _> = holders.into_iter().map(|job| (job.generation, job)).collect();
            let local = actor.jobs.values().filter(|entry| entry.firing.fires() == Fires::Local);
            let others = actor.retiring.values().chain(local.map(|entry| &entry.job));
            let others = others.filter(|job| !held.contains_key(&job.generation));
            let others: Vec<_> = others.take(WITHOUT_CLAIM_MAX).cloned().collect();
            let mut held: Vec<_> = held.into_values().collect();
            held.sort_by(|one, other| one.definition.name.cmp(&other.definition.name));
            list(others, held, claims, limit).into_actor(actor)
        }))
    }
}

/// Asks jobs until there are enough runs.
async fn list(
    others: Vec<Arc<JobHandle>>,
    held: Vec<Arc<JobHandle>>,
    claims: usize,
    limit: usize,
) -> RunsOnNode {
    let mut runs = Vec::new();
    for page in others.chunks(ASK_PAGE) {
        runs.extend(runs_of(page).await);
    }
    let mut count = runs.len() + claims;
    let mut pages = held.chunks(ASK_PAGE);
    while runs.len() < limit {
        let Some(page) = pages.next() else {
            // All were asked.
            count = runs.len();
            break;
        };
        runs.extend(runs_of(page).await);
    }
    runs.sort_by(|one, other| (&one.job, one.status.run).cmp(&(&other.job, other.status.run)));
    let count = count.max(runs.len());
    runs.truncate(limit);
    RunsOnNode { runs, count }
}

async fn runs_of(jobs: &[Arc<JobHandle>]) -> Vec<ActiveRun> {
    let asked = jobs.iter().map(|job| {
        let name = job.definition.name.clone();
        let status = job.ask(|reply| JobMessage::Status { asks_schedule: AsksSchedule::No, reply });
        async move {
            // One that does not answer in time is counted all the same.
            let status = timeout(ANSWER_DEADLINE, status).await.ok()?.ok()?;
            Some(status.active_runs.into_iter().map(move |run| ActiveRun::new(name.clone(), run)))
        }
    });
    join_all(asked.collect::<Vec<_>>()).await.into_iter().flatten().flatten().collect()
}
