//! How somebody has skipped what jobs missed.
//!
//! Decided here: whether this node decides the ticks of all the selected jobs, and that a job is asked again until
//! the store knows of it. Each job's machine decides what is skipped.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{ANSWER_DEADLINE, Phase, SupervisorActor};
use crate::{
    core::{
        job::{Missed, NotSkipped, Skipped},
        policy::Fires,
    },
    error::SkipMissedError,
    health::ProblemJobs,
    job::{JobHandle, JobMessage, SkipAsked, record_operation},
    message::{PAGE_MAX, SkipMissed, SkippedMissed},
    name::JobName,
    node::Node,
    port::JobOperation,
};

/// For how long a job is asked again whose ticks the store is being asked about.
const ASK_FOR: Duration = Duration::from_secs(5);

/// The pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl SupervisorActor {
    /// The jobs, if this node decides the ticks of all of them.
    fn decided_here(&self, names: &[JobName]) -> Result<Vec<Arc<JobHandle>>, SkipMissedError> {
        let entries = || names.iter().filter_map(|name| self.jobs.get(name));
        let elsewhere: Vec<_> = entries()
            .filter(|entry| !self.fires_here(entry) && entry.parked.is_none())
            .map(|entry| &entry.job.definition.name)
            .collect();
        if let Some(jobs) = ProblemJobs::of(elsewhere.into_iter()) {
            let leader = self.known_leader().filter(|leader| *leader != self.node().id);
            return Err(SkipMissedError::NotDecidedHere { jobs, leader });
        }
        Ok(entries().map(|entry| entry.job.clone()).collect())
    }
}

impl Handler<SkipMissed> for SupervisorActor {
    type Result = ResponseFuture<Result<Vec<SkippedMissed>, SkipMissedError>>;

    fn handle(&mut self, asked: SkipMissed, _: &mut Self::Context) -> Self::Result {
        let SkipMissed { jobs, asked: by } = asked;
        let refused = |error| Box::pin(async move { Err(error) });
        if !matches!(self.phase, Phase::Running) {
            return refused(SkipMissedError::ShuttingDown);
        }
        let jobs = self.select(&jobs).map_err(SkipMissedError::from);
        let jobs = match jobs.and_then(|names| self.decided_here(&names)) {
            Ok(jobs) => jobs,
            Err(error) => return refused(error),
        };
        let node = self.node().clone();
        // Once for all of them, each by the clock that decides its ticks.
        let (in_store, here) = (node.store_time(), node.clock.now());
        Box::pin(async move {
            let (mut skipped, mut unanswered) = (Vec::new(), Vec::new());
            for page in jobs.chunks(PAGE_MAX) {
                let asked = page.iter().map(|job| {
                    let until = if job.definition.policies.fires == Fires::Local { here } else { in_store };
                    let asked = SkipAsked { until, by: by.clone() };
                    skip(&node, job.clone(), asked)
                });
                for (job, answer) in page.iter().zip(join_all(asked).await) {
                    let name = job.definition.name.clone();
                    match answer {
                        Some(answer) => skipped.push(answer),
                        None => unanswered.push(name),
                    }
                }
            }
            match ProblemJobs::of(unanswered.iter()) {
                Some(jobs) => Err(SkipMissedError::Unanswered { jobs }),
                None => Ok(skipped),
            }
        })
    }
}

/// Has skipped what a job missed, and waits until the store knows of it. `None`: whether it does is not known.
async fn skip(node: &Node, job: Arc<JobHandle>, asked: SkipAsked) -> Option<SkippedMissed> {
    let started_at = Instant::now();
    let name = job.definition.name.clone();
    let mut all: Option<Missed> = None;
    while started_at.elapsed() < ASK_FOR {
        let answer = job.ask(|reply| JobMessage::SkipMissed { asked: Box::new(asked.clone()), reply });
        match timeout(ANSWER_DEADLINE, answer).await.ok()?.ok()? {
            Ok(Skipped::Decided { in_vain }) => {
                let all = all.filter(|_| !in_vain);
                if all.is_some() {
                    record_operation(node, &name, JobOperation::SkippedMissed, &asked.by, || None);
                }
                let (count, at_least) = all.map_or((0, false), |all| (all.count, all.at_least));
                return Some(SkippedMissed { job: name, count, at_least });
            }
            // Decided anew, as the cursor was moved by somebody else: what was skipped before is among it.
            Ok(Skipped::Now(more)) if all.is_some_and(|all| more.first <= all.newest) => all = Some(more),
            Ok(Skipped::Now(more)) => all = Some(all.map_or(more, |all| all.with(more))),
            Err(NotSkipped::Asked) => sleep(ASK_AGAIN).await,
            Err(NotSkipped::NotDecidedHere) => return None,
        }
    }
    None
}
