//! How somebody has skipped what jobs missed.
//!
//! Decided here: whether this node decides the ticks of all the selected jobs, and that a job is asked again until
//! the store knows of it. Each job's machine decides what is skipped.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{ANSWER_DEADLINE, Phase, SupervisorActor};
use crate::{
    core::{
        job::{Missed, NotSkipped, Skipped},
        policy::Fires,
    },
    error::SkipMissedError,
    health::ProblemJobs,
    job::{JobHandle, JobMessage, SkipAsked, record_operation},
    message::{SkipMissed, SkippedMissed},
    name::JobName,
    node::Node,
    port::JobOperation,
};

/// For how long a job is asked again whose ticks the store is being asked about.
const ASK_FOR: Duration = Duration::from_secs(5);

/// How long all jobs together are asked, however many they are.
const SKIP_WITHIN: Duration = Duration::from_secs(30);

/// The pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How many jobs are asked at once: a million of them pause a hundred times.
const ASKED_AT_ONCE: usize = 10_000;

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
            let ask = |job: Arc<JobHandle>| {
                let until = if job.definition.policies.fires == Fires::Local { here } else { in_store };
                skip(&node, job, SkipAsked { until, by: by.clone() })
            };
            let until = Instant::now() + SKIP_WITHIN;
            let answers = answers_until(until, jobs.clone(), ask).await;
            let (mut skipped, mut unanswered) = (Vec::with_capacity(jobs.len()), Vec::new());
            for (job, answer) in jobs.iter().zip(answers) {
                match answer {
                    Some(answer) => skipped.push(answer),
                    None => unanswered.push(&job.definition.name),
                }
            }
            match ProblemJobs::of(unanswered.into_iter()) {
                Some(jobs) => Err(SkipMissedError::Unanswered { jobs }),
                None => Ok(skipped),
            }
        })
    }
}

/// What each answers by an instant, in their order. Whoever is not asked by then is not asked any more.
async fn answers_until<J, T, F>(until: Instant, jobs: Vec<J>, ask: impl Fn(J) -> F) -> Vec<Option<T>>
where
    F: Future<Output = Option<T>>,
{
    let asked = jobs.into_iter().map(|job| async {
        let in_time = Instant::now() < until;
        if in_time { timeout_at(until, ask(job)).await.ok()? } else { None }
    });
    stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_jobs_together_have_one_deadline_and_who_was_not_asked_by_then_has_not_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("it needs nothing that could be missing").block_on(async {
            let (began, within) = (Instant::now(), Duration::from_secs(12));
            let jobs = (0..5 * ASKED_AT_ONCE).collect();
            let ask = |job: usize| async move {
                sleep(Duration::from_secs(5)).await;
                (job % 2 == 0).then_some(job)
            };

            let answers = answers_until(began + within, jobs, ask).await;

            assert_eq!(began.elapsed(), within);
            // Two rounds of five seconds, and two seconds of the third.
            let answered = |nth: usize| nth < 2 * ASKED_AT_ONCE && nth % 2 == 0;
            let expected: Vec<_> = (0..answers.len()).map(|nth| answered(nth).then_some(nth)).collect();
            assert!(answers == expected, "in their order");
            assert_eq!(answers.len(), 5 * ASKED_AT_ONCE);
        });
    }
}
