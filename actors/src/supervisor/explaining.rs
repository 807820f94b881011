//! How the supervisor answers what became of a job, and why.
//!
//! Collected here: what the job's actor says of its schedule, and what is recorded. What follows from it is
//! decided by [`explain::decide`](crate::explain::decide), which is a function of values.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::ready;
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, SupervisorActor, alarms::cursor_in};
use crate::{
    core::time::FireTime,
    error::{ExplainError, Fault, given_name},
    explain::{
        EXPLAINED_MAX, Explain, Explanations, Known, TickView, When, decide, is_of_tick, is_skip_known,
    },
    history::Reader,
    job::{JobHandle, JobMessage, TickViews},
    name::JobName,
    port::{
        Decision, DecisionRecord, Decisions, HISTORY_PAGE_MAX, HistoryError, JobOperation, Operations,
        Retention, RunHistory, RunRecord,
    },
};

/// How long after a tick what was decided of it is looked for: first in the shortest time, then, if nothing
/// was found, in the next. What is recorded later than the last is not found.
const LOOKED_FOR: [TimeDelta; 4] =
    [TimeDelta::minutes(2), TimeDelta::minutes(30), TimeDelta::hours(13), TimeDelta::days(8)];
/// How long before a tick a record can be made that covers it: records of a minute are one, and clocks differ.
const BEFORE: TimeDelta = TimeDelta::seconds(75);
/// The most pages that are read of one kind of record in the first of these times.
const PAGES_MAX: usize = 20;
/// As [`PAGES_MAX`], of each later time.
const LATER_PAGES_MAX: usize = 5;
/// How many operations are read: the newest up to a tick's decision.
const OPERATIONS_READ: usize = 100;
/// How many operations are looked at that asked for runs which name fire times, the newest.
const NAMING_READ: usize = 20;
/// How many runs are read that began before: one of them may have been in the way.
const RUNS_BEFORE: usize = 20;
/// How long the history may take for one question.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(20);

/// Where records of one job are read.
struct Records<'a> {
    /// `None`: no history is kept.
    reader: Option<Reader<'a>>,
    job: JobName,
    now: DateTime<Utc>,
    /// How long the history keeps what it has room for.
    kept_for: Option<Duration>,
    /// What this node knows besides.
    known: Known,
}

impl Records<'_> {
    /// What is known of the instants from the first to the last. Something is to be found of each of `views`.
    async fn about(
        &self,
        job: &Arc<JobHandle>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
        views: &[TickView],
    ) -> Result<Known, ExplainError> {
        let mut known = self.known.clone();
        let Some(reader) = &self.reader else { return Ok(known) };
        known.is_kept = true;
        // Nothing is recorded from before; a store need not know such instants.
        let from = earlier(first, BEFORE).max(DateTime::UNIX_EPOCH);
        let until = later(self.now, TimeDelta::seconds(1));
        let to = |looked_for: TimeDelta| later(last.max(DateTime::UNIX_EPOCH), looked_for).min(until);
        let (mut read_to, mut pages_max) = (from, PAGES_MAX);
        for to in LOOKED_FOR.map(to) {
            if read_to >= to {
                break;
            }
            let (runs, all_runs) = self.runs(reader, read_to, to, pages_max).await?;
            let (decisions, unread, all_decisions) = self.decisions(reader, read_to, to, pages_max).await?;
            if read_to == from && first < last && !(all_runs && all_decisions) {
                return Err(too_many(first, last));
            }
            known.runs.extend(runs);
            known.decisions.extend(decisions);
            known.has_unread |= unread > 0;
            count_fire_times(job, views, &mut known).await;
            let is_missing = |view: &TickView| view.at < self.now && !is_found(&known, view.at, to);
            if !views.iter().any(is_missing) {
                break;
            }
            (read_to, pages_max) = (to, LATER_PAGES_MAX);
        }
        if views.iter().any(|view| view.waits) {
            let before = RunHistory::new().job(self.job.clone()).to(from).limit(RUNS_BEFORE);
            known.runs.extend(reader.runs(before).await?.runs);
        }
        let asked = Operations::new().job(self.job.clone()).limit(OPERATIONS_READ);
        known.operations = reader.operations(asked).await?.operations;
        self.add_named_runs(reader, first, last, &mut known).await?;
        known.was_there = self.was_there(reader, first.max(DateTime::UNIX_EPOCH).min(until)).await?;
        known.kept_since = self.kept_since(reader).await?;
        Ok(known)
    }

    /// Runs of triggers and backfills that name one of the instants, whenever they were asked for: the operations say
    /// when, and the ids of their runs are of that time.
    async fn add_named_runs(
        &self,
        reader: &Reader<'_>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
        known: &mut Known,
    ) -> Result<(), ExplainError> {
        let names =
            |operation: JobOperation| matches!(operation, JobOperation::Triggered | JobOperation::Backfilled);
        let asked = known.operations.iter().filter(|one| names(one.operation) && one.detail.is_some());
        let asked: Vec<_> = asked.map(|one| one.at).take(NAMING_READ).collect();
        let range = first..later(last, TimeDelta::milliseconds(1));
        for at in asked {
            let of_range = RunHistory::new().fire_times(self.job.clone(), range.clone());
            let then = of_range.from(earlier(at, BEFORE).max(DateTime::UNIX_EPOCH)).to(later(at, BEFORE));
            for run in reader.runs(then.limit(HISTORY_PAGE_MAX)).await?.runs {
                if known.runs.iter().all(|one| one.run != run.run) {
                    known.runs.push(run);
                }
            }
        }
        Ok(())
    }

    /// Those in a time, the newest first, and whether that is all of them.
    async fn runs(
        &self,
        reader: &Reader<'_>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        pages_max: usize,
    ) -> Result<(Vec<RunRecord>, bool), HistoryError> {
        let mut asked = RunHistory::new().job(self.job.clone()).from(from).to(to).limit(HISTORY_PAGE_MAX);
        let mut runs = Vec::new();
        for _ in 0..pages_max {
            let page = reader.runs(asked.clone()).await?;
            runs.extend(page.runs);
            let Some(next) = page.next else { return Ok((runs, true)) };
            asked = asked.before(next);
        }
        Ok((runs, false))
    }

    /// As [`runs`](Self::runs), and how many cannot be read.
    async fn decisions(
        &self,
        reader: &Reader<'_>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        pages_max: usize,
    ) -> Result<(Vec<DecisionRecord>, usize, bool), HistoryError> {
        let mut asked = Decisions::new().job(self.job.clone()).from(from).to(to).limit(HISTORY_PAGE_MAX);
        let (mut decisions, mut unread) = (Vec::new(), 0);
        for _ in 0..pages_max {
            let page = reader.decisions(asked.clone()).await?;
            decisions.extend(page.decisions);
            unread += page.unread;
            let Some(next) = page.next else { return Ok((decisions, unread, true)) };
            asked = asked.before(next);
        }
        Ok((decisions, unread, false))
    }

    /// From when on everything of the job is there that was recorded and not dropped.
    async fn kept_since(&self, reader: &Reader<'_>) -> Result<Option<DateTime<Utc>>, HistoryError> {
        let aged = self.kept_for.and_then(|kept| TimeDelta::from_std(kept).ok());
        let aged = aged.and_then(|kept| self.now.checked_sub_signed(kept));
        let pruned = reader.job(self.job.clone()).await?.and_then(|record| record.pruned_to);
        Ok(aged.max(pruned))
    }

    /// Whether anything is recorded of the job before an instant.
    async fn was_there(&self, reader: &Reader<'_>, at: DateTime<Utc>) -> Result<bool, HistoryError> {
        let run = RunHistory::new().job(self.job.clone()).to(at).limit(1);
        if !reader.runs(run).await?.runs.is_empty() {
            return Ok(true);
        }
        let decision = Decisions::new().job(self.job.clone()).to(at).limit(HISTORY_PAGE_MAX);
        let of_job = |record: &DecisionRecord| record.job.is_some();
        if reader.decisions(decision).await?.decisions.iter().any(of_job) {
            return Ok(true);
        }
        let operation = Operations::new().job(self.job.clone()).to(at).limit(1);
        Ok(!reader.operations(operation).await?.operations.is_empty())
    }

    /// Reads once what there is about all instants, then explains each.
    async fn explain(
        &self,
        job: &Arc<JobHandle>,
        views: TickViews,
        when: When,
    ) -> Result<Explanations, ExplainError> {
        let TickViews { mut views, mut next, recorded } = views;
        let instants = || views.iter().map(|view| view.at);
        let (mut first, mut last) =
            (instants().min().unwrap_or(self.now), instants().max().unwrap_or(self.now));
        if let (Some(_), When::Between { from, to }) = (&recorded, when) {
            (first, last) = (from, to.min(self.now).max(from));
        }
        let mut known = self.about(job, first, last, &views).await?;
        if let (Some(template), When::Between { from, to }) = (recorded, when) {
            next = add_recorded(&mut views, &template, &known, from..to);
        }
        count_fire_times(job, &views, &mut known).await;
        let (was_there, mut explanations) = (known.was_there, Vec::with_capacity(views.len()));
        for view in &views {
            known.was_there = was_there || is_recorded_before(&known, view.at);
            explanations.push(decide(&self.job, self.now, view, &known));
        }
        Ok(Explanations { job: self.job.clone(), explanations, next })
    }
}

fn earlier(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn too_many(first: DateTime<Utc>, last: DateTime<Utc>) -> ExplainError {
    let rule = format!("a range has at most {} records of each kind", PAGES_MAX * HISTORY_PAGE_MAX);
    ExplainError::Invalid(
        Fault::new("when", format!("{first} to {last}"), rule, "ask for a shorter range").into(),
    )
}

fn late() -> ExplainError {
    let reason = "it took too long for all that was asked".to_owned();
    HistoryError::Unavailable { history: "scheduler's", reason }.into()
}

/// Whether what became of a tick is known, and what delayed its run, from what was recorded before an instant.
fn is_found(known: &Known, at: DateTime<Utc>, before: DateTime<Utc>) -> bool {
    let has_run = |run: &RunRecord| {
        is_of_tick(run)
            && run.fire_time.is_some_and(|tick| tick.instant() == at)
            && run.started_at.is_none_or(|started| started < before)
    };
    known.runs.iter().any(has_run) || is_skip_known(FireTime::new(at), known)
}

fn is_recorded_before(known: &Known, at: DateTime<Utc>) -> bool {
    known.runs.iter().any(|run| run.started_at.or(run.ended_at).is_some_and(|run| run < at))
        || known.decisions.iter().any(|record| record.job.is_some() && record.at < at)
        || known.operations.iter().any(|operation| operation.at < at)
}

/// Views of the fire times that are recorded in a range, as `template` is, before those that are there.
/// Answers from when on there are more than one answer explains.
fn add_recorded(
    views: &mut Vec<TickView>,
    template: &TickView,
    known: &Known,
    range: Range<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let ran = known.runs.iter().filter(|run| is_of_tick(run)).filter_map(|run| run.fire_time);
    let skips = known.decisions.iter().filter(|record| matches!(record.decision, Decision::Skipped { .. }));
    let skipped = skips.flat_map(|record| [record.first, record.fire_time]).flatten();
    let recorded = ran.chain(skipped).map(FireTime::instant).filter(|at| range.contains(at));
    let mut all: BTreeMap<_, _> = recorded
        .map(|at| (at, TickView { at, is_fire_time: true, why_not: None, ..template.clone() }))
        .collect();
    // What is to come is known to the job's actor.
    all.extend(std::mem::take(views).into_iter().map(|view| (view.at, view)));
    if all.is_empty() {
        views.push(template.clone());
        return None;
    }
    let next = all.keys().nth(EXPLAINED_MAX).copied();
    views.extend(all.into_values().take(EXPLAINED_MAX));
    next
}

/// Asks the job how many fire times there are in the spans of decisions, as far as that was not asked before. Without
/// an answer less is known.
async fn count_fire_times(job: &Arc<JobHandle>, views: &[TickView], known: &mut Known) {
    let spans = uncounted(views, known);
    if !spans.is_empty() {
        let counted = job.ask(|reply| JobMessage::CountFireTimes { spans, reply });
        let counted = timeout(ANSWER_DEADLINE, counted).await.ok().and_then(Result::ok);
        known.counted.extend(counted.into_iter().flatten());
    }
}

/// The spans of decisions about several ticks, between whose ends one of the instants lies, that were not counted.
fn uncounted(views: &[TickView], known: &Known) -> Vec<(FireTime, FireTime)> {
    let between = |(first, last): &(FireTime, FireTime)| {
        let is_within = |view: &TickView| first.instant() < view.at && view.at < last.instant();
        views.iter().any(|view| view.is_fire_time && is_within(view))
    };
    let skips = known.decisions.iter().filter(|record| matches!(record.decision, Decision::Skipped { .. }));
    let spans: BTreeSet<_> =
        skips.filter_map(|record| record.first.zip(record.fire_time)).filter(between).collect();
    let is_counted = |span: &(FireTime, FireTime)| known.fire_times_in(span.0, span.1).is_some();
    spans.into_iter().filter(|span| !is_counted(span)).collect()
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
        let job = job.clone();
        let (recorder, now) = (self.node().recorder.clone(), job.wall());
        let leaderless_since = self.leaderless_since(&job);
        let store = self.cursor_store(&job);
        let Retention { runs_for, decisions_for, .. } = self.parts.retention;
        Box::pin(async move {
            let Ok(Ok(views)) = timeout(ANSWER_DEADLINE, views).await else {
                return Err(ExplainError::Unresponsive { job: name });
            };
            // Of all that is asked, once: what was recorded before the question is written.
            let reader = if recorder.is_on() { Some(recorder.read().await) } else { None };
            let kept_for = recorder.is_to_be_pruned().then(|| runs_for.min(decisions_for));
            let decided_to = match store {
                Some(store) => cursor_in(&*store, &name).await,
                None => None,
            };
            let known = Known { held_since, decided_to, leaderless_since, ..Known::default() };
            let records = Records { reader, job: name, now, kept_for, known };
            let explained = timeout(EXPLAIN_DEADLINE, records.explain(&job, views, when));
            explained.await.unwrap_or_else(|_| Err(late()))
        })
    }
}

impl SupervisorActor {
    /// Since when nobody is known to lead, if nobody does and only a leader decides the ticks of the job.
    fn leaderless_since(&self, job: &JobHandle) -> Option<DateTime<Utc>> {
        if !self.is_decided_by_leader(job) || self.parts.able.single_node || self.known_leader().is_some() {
            return None;
        }
        let silent = self.node().clock.elapsed().saturating_sub(self.node().leader.last().at);
        Some(earlier(job.wall(), TimeDelta::from_std(silent).unwrap_or(TimeDelta::MAX)))
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
        self.explain(name.clone(), &entry.job, when, earlier(wall, held_for))
    }
}
