//! How the supervisor answers what became of a job, and why.
//!
//! Collected here: what the job's actor says of its schedule, and what is recorded. What follows from it is
//! decided by [`explain::decide`](crate::explain::decide), which is a function of values.

use std::sync::Arc;

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::ready;
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, SupervisorActor};
use crate::{
    error::{ExplainError, Fault, given_name},
    explain::{Explain, Explanations, Known, TickView, When, decide},
    history::Recorder,
    job::{JobHandle, JobMessage, TickViews},
    name::JobName,
    port::{
        Decision, DecisionRecord, Decisions, HISTORY_PAGE_MAX, HistoryError, OperationRecord, Operations,
        Retention, RunHistory, RunRecord,
    },
};

/// How long after a tick what was decided of it is looked for: first in the shortest time, then, if nothing
/// was found, in the next. What is recorded later than the last is not found.
const LOOKED_FOR: [TimeDelta; 4] =
    [TimeDelta::minutes(2), TimeDelta::minutes(30), TimeDelta::hours(13), TimeDelta::days(8)];
/// How long before a tick a record can be made that covers it: records of a minute are one, and clocks differ.
const BEFORE: TimeDelta = TimeDelta::seconds(75);
/// The most pages that are read for one instant and one kind of record in each of these times.
const PAGES_MAX: usize = 5;
/// How many operations are read: the newest up to a tick's decision.
const OPERATIONS_READ: usize = 100;

/// Where records of one job are read.
struct Records {
    recorder: Recorder,
    job: JobName,
    now: DateTime<Utc>,
    retention: Retention,
    held_since: DateTime<Utc>,
}

impl Records {
    /// What is known of an instant.
    async fn about(&self, view: &TickView) -> Result<Known, HistoryError> {
        let shortest = self.retention.runs_for.min(self.retention.decisions_for);
        let kept_since =
            TimeDelta::from_std(shortest).ok().and_then(|kept| self.now.checked_sub_signed(kept));
        let mut known = Known { held_since: self.held_since, kept_since, ..Known::default() };
        if !self.recorder.is_on() {
            return Ok(known);
        }
        known.is_kept = true;
        let mut from = view.at - BEFORE;
        for looked_for in LOOKED_FOR {
            if from > self.now {
                break;
            }
            let to = (view.at + looked_for).min(self.now + TimeDelta::seconds(1));
            known.runs.extend(self.runs(from, to).await?);
            known.decisions.extend(self.decisions(from, to).await?);
            if known.runs.iter().any(|run| run.fire_time.is_some_and(|tick| tick.instant() == view.at))
                || known.decisions.iter().any(|record| covers(record, view.at))
            {
                break;
            }
            from = to;
        }
        known.operations = self.operations().await?;
        known.was_there = self.was_there(view.at).await?;
        Ok(known)
    }

    async fn runs(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<RunRecord>, HistoryError> {
        let mut asked = RunHistory::new().job(self.job.clone()).from(from).to(to).limit(HISTORY_PAGE_MAX);
        let mut runs = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = self.recorder.runs(asked.clone()).await?;
            runs.extend(page.runs);
            let Some(next) = page.next else { break };
            asked = asked.before(next);
        }
        Ok(runs)
    }

    async fn decisions(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<DecisionRecord>, HistoryError> {
        let mut asked = Decisions::new().job(self.job.clone()).from(from).to(to).limit(HISTORY_PAGE_MAX);
        let mut decisions = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = self.recorder.decisions(asked.clone()).await?;
            decisions.extend(page.decisions);
            let Some(next) = page.next else { break };
            asked = asked.before(next);
        }
        Ok(decisions)
    }

    async fn operations(&self) -> Result<Vec<OperationRecord>, HistoryError> {
        let asked = Operations::new().job(self.job.clone()).limit(OPERATIONS_READ);
        Ok(self.recorder.operations(asked).await?.operations)
    }

    /// Whether anything is recorded of the job before an instant.
    async fn was_there(&self, at: DateTime<Utc>) -> Result<bool, HistoryError> {
        let run = RunHistory::new().job(self.job.clone()).to(at).limit(1);
        if !self.recorder.runs(run).await?.runs.is_empty() {
            return Ok(true);
        }
        let decision = Decisions::new().job(self.job.clone()).to(at).limit(HISTORY_PAGE_MAX);
        let of_job = |record: &DecisionRecord| record.job.is_some();
        if self.recorder.decisions(decision).await?.decisions.iter().any(of_job) {
            return Ok(true);
        }
        let operation = Operations::new().job(self.job.clone()).to(at).limit(1);
        Ok(!self.recorder.operations(operation).await?.operations.is_empty())
    }
}

/// Whether a skip covers an instant.
fn covers(record: &DecisionRecord, at: DateTime<Utc>) -> bool {
    let first = record.first.or(record.fire_time);
    matches!(record.decision, Decision::Skipped { .. })
        && first.is_some_and(|first| first.instant() <= at)
        && record.fire_time.is_some_and(|last| last.instant() >= at)
}

impl SupervisorActor {
    /// Asks the job's actor about its schedule, then the history about each instant.
    fn explain(
        &self,
        name: JobName,
        job: &Arc<JobHandle>,
        when: When,
        held_since: DateTime<Utc>,
    ) -> ResponseFuture<Result<Explanations, ExplainError>> {
        let views = job.ask(|reply| JobMessage::Explain { when, reply });
        let now = job.now().wall;
        let records = Records {
            recorder: self.node().recorder.clone(),
            job: name.clone(),
            now,
            retention: self.parts.retention,
            held_since,
        };
        Box::pin(async move {
            let Ok(Ok(views)) = timeout(ANSWER_DEADLINE, views).await else {
                return Err(ExplainError::Unresponsive { job: name });
            };
            let TickViews { views, next } = views;
            let mut explanations = Vec::with_capacity(views.len());
            for view in views {
                let known = records.about(&view).await?;
                explanations.push(decide(&name, now, &view, &known));
            }
            Ok(Explanations { job: name, explanations, next })
        })
    }
}

impl Handler<Explain> for SupervisorActor {
    type Result = ResponseFuture<Result<Explanations, ExplainError>>;

    fn handle(&mut self, Explain { job, when }: Explain, _: &mut Self::Context) -> Self::Result {
        if let When::Between { from, to } = when
            && from > to
        {
            let rule = "a range does not end before it starts";
            let fault =
                Fault::new("when", format!("{from} to {to}"), rule, "write the earlier instant first");
            return Box::pin(ready(Err(ExplainError::Invalid(fault.into()))));
        }
        let Some((name, entry)) = self.jobs.get_key_value(job.as_str()) else {
            return Box::pin(ready(Err(ExplainError::UnknownJob { name: given_name(&job) })));
        };
        let (wall, elapsed) = self.node().clock.read();
        let held_for = TimeDelta::from_std(elapsed.saturating_sub(entry.known_since)).unwrap_or_default();
        self.explain(name.clone(), &entry.job, when, wall - held_for)
    }
}
