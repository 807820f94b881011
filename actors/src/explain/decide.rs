//! What became of an instant, by what is known of it.

use std::{cmp::Reverse, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    answer::{Answer, Evidence, Explanation, NotDecided, NotKnown},
    known::{Known, TickView},
    late,
};
use crate::{
    core::{
        backfill::BackfillId,
        outcome::{CancelReason, Outcome},
        skip::SkipReason,
        time::{FireTime, since},
    },
    name::JobName,
    port::{Decision, DecisionRecord, JobOperation, OperationRecord, RunOrigin, RunRecord},
};

/// How long a node that does not fire a job waits for what others record of it, before it says that nothing
/// is recorded.
const RECORDED_WITHIN: Duration = Duration::from_secs(120);

/// What became of a job at an instant.
pub(crate) fn decide(job: &JobName, now: DateTime<Utc>, view: &TickView, known: &Known) -> Explanation {
    let mut evidence = vec![Evidence::Schedule { schedule: view.schedule.clone(), fires: view.is_fire_time }];
    evidence.extend(triggers_for(view, known));
    let answer = by_run(view, known, &mut evidence)
        .or_else(|| by_decision(view, known, &mut evidence))
        .or_else(|| by_schedule(view, known, &mut evidence))
        .unwrap_or_else(|| undecided(now, view, known, &mut evidence));
    evidence.extend(runs_for(view, known));
    Explanation { job: job.clone(), at: view.at, answer, evidence }
}

/// What asked for runs that name it, without being its tick.
fn triggers_for(view: &TickView, known: &Known) -> impl Iterator<Item = Evidence> {
    let begins = triggered_for(FireTime::new(view.at));
    let names_it = move |detail: &str| {
        detail.strip_prefix(&*begins).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
    };
    let asked = move |operation: &&OperationRecord| {
        operation.operation == JobOperation::Triggered && operation.detail.as_deref().is_some_and(&names_it)
    };
    known.operations.iter().filter(asked).map(|operation| Evidence::Operation(Box::new(operation.clone())))
}

/// The runs that name it, without being its tick: of triggers, and of backfills with who asked for them.
fn runs_for(view: &TickView, known: &Known) -> Vec<Evidence> {
    let names_it = |run: &&RunRecord| run.fire_time == Some(FireTime::new(view.at)) && !is_of_tick(run);
    let mut runs: Vec<_> = known.runs.iter().filter(names_it).collect();
    runs.sort_by_key(|run| run.run);
    let mut evidence = Vec::new();
    for run in runs {
        if let RunOrigin::Backfill { backfill, .. } = run.origin {
            let begins = backfilled(backfill);
            let asked = known.operations.iter().find(|operation| {
                operation.operation == JobOperation::Backfilled
                    && operation.detail.as_deref().is_some_and(|detail| detail.starts_with(&begins))
            });
            evidence.extend(asked.map(|asked| Evidence::Operation(Box::new(asked.clone()))));
        }
        evidence.push(Evidence::Run(Box::new(run.clone())));
    }
    evidence
}

/// How the detail of an operation begins that asked for a backfill.
pub(crate) fn backfilled(backfill: BackfillId) -> String {
    format!("backfill {backfill}, ")
}

/// How the detail of an operation begins that asks for a run which names a fire time.
pub(crate) fn triggered_for(fire_time: FireTime) -> String {
    format!("for {fire_time}")
}

/// The run of its tick, if it had one.
fn by_run(view: &TickView, known: &Known, evidence: &mut Vec<Evidence>) -> Option<Answer> {
    let tick = FireTime::new(view.at);
    let is_its = |run: &&RunRecord| run.fire_time == Some(tick) && tick.instant() == view.at;
    // A tick has one; if a store was set back, the newest tells.
    let record = known.runs.iter().filter(is_its).filter(|run| is_of_tick(run)).max_by_key(|run| run.run)?;
    evidence.push(Evidence::Run(Box::new(record.clone())));
    let RunRecord { run, node, started_at, lateness: late, .. } = *record;
    let because = |evidence: &mut Vec<Evidence>| late::delays(view, record, known, evidence);
    Some(match record.outcome {
        None if record.unknown_outcome.is_some() => {
            Answer::NotKnown { because: NotKnown::NewerVersion { outcome: record.unknown_outcome.clone() } }
        }
        None if record.is_stale => Answer::NotKnown { because: NotKnown::NoEnd { run, node } },
        None => Answer::Running { run, node, started_at, late, because: because(evidence) },
        Some(Outcome::Lost) => {
            let lost = known
                .decisions
                .iter()
                .find(|known| matches!(known.decision, Decision::RunLost { run: lost, .. } if lost == run));
            evidence.extend(lost.map(|lost| Evidence::Decision(Box::new(lost.clone()))));
            let is_retried =
                lost.is_some_and(|lost| matches!(lost.decision, Decision::RunLost { is_retried: true, .. }));
            Answer::Lost { run, node, is_retried }
        }
        Some(Outcome::Cancelled) if record.cancelled == Some(CancelReason::Vetoed) => {
            Answer::Vetoed { run, text: record.error.clone() }
        }
        Some(outcome) => Answer::Ran { run, node, started_at, outcome, late, because: because(evidence) },
    })
}

/// The decision that skipped its tick, if one did, or may have.
///
/// Those of a minute are one record, which names the first and the last tick. Between them others may have
/// run, or been skipped for another reason.
fn by_decision(view: &TickView, known: &Known, evidence: &mut Vec<Evidence>) -> Option<Answer> {
    let tick = FireTime::new(view.at);
    let mut spans: Vec<_> = known.decisions.iter().filter_map(SkippedSpan::of).collect();
    spans.retain(|span| span.covers(tick));
    spans.sort_by_key(|span| {
        (span.last != tick, span.first != tick, since_first(span), Reverse(span.record.at))
    });
    let named = spans.iter().find(|span| span.names(tick));
    // What counts from the end of runs does not know its former fire times.
    let is_known = |span: &&SkippedSpan<'_>| view.is_fire_time && span.is_whole(known);
    if let Some(span) = named.or_else(|| spans.iter().find(is_known)) {
        return Some(skipped(tick, span, known, evidence));
    }
    let span = spans.first().filter(|_| view.is_fire_time)?;
    evidence.push(Evidence::Decision(Box::new(span.record.clone())));
    let SkippedSpan { first, last, reason, count, at_least, .. } = *span;
    Some(Answer::NotKnown { because: NotKnown::SomeSkipped { reason, count, at_least, first, last } })
}

/// Whether a record says that a tick was skipped, or those of a span were all.
pub(crate) fn is_skip_known(tick: FireTime, known: &Known) -> bool {
    let mut spans = known.decisions.iter().filter_map(SkippedSpan::of);
    spans.any(|span| span.names(tick) || (span.covers(tick) && span.is_whole(known)))
}

/// The ticks that one record means.
struct SkippedSpan<'a> {
    record: &'a DecisionRecord,
    first: FireTime,
    last: FireTime,
    reason: SkipReason,
    count: u64,
    at_least: bool,
}

fn since_first(span: &SkippedSpan<'_>) -> Duration {
    since(span.first.instant(), span.last.instant())
}

impl<'a> SkippedSpan<'a> {
    fn of(record: &'a DecisionRecord) -> Option<Self> {
        let Decision::Skipped { reason, count, at_least, .. } = record.decision else { return None };
        let last = record.fire_time.filter(|_| record.job.is_some())?;
        let first = record.first.unwrap_or(last);
        Some(Self { record, first, last, reason, count, at_least })
    }

    /// The tick may be one of them.
    fn covers(&self, tick: FireTime) -> bool {
        (self.first..=self.last).contains(&tick)
    }

    /// The record itself says that this tick was skipped.
    fn names(&self, tick: FireTime) -> bool {
        self.first == tick || self.last == tick
    }

    /// Every tick of the span is accounted for: it was skipped for this reason, or is known to have run.
    fn is_whole(&self, known: &Known) -> bool {
        if self.at_least {
            return false;
        }
        let mut ran: Vec<_> =
            known.runs.iter().filter(|run| is_of_tick(run)).filter_map(|run| run.fire_time).collect();
        ran.retain(|tick| (self.first..=self.last).contains(tick));
        ran.sort_unstable();
        ran.dedup();
        let accounted = self.count.saturating_add(ran.len() as u64);
        known.fire_times_in(self.first, self.last) == Some(accounted)
    }
}

/// A trigger may name a fire time, and a backfill has one: their runs are not the tick's.
pub(crate) fn is_of_tick(run: &RunRecord) -> bool {
    !matches!(run.origin, RunOrigin::Trigger { .. } | RunOrigin::Backfill { .. })
}

fn skipped(tick: FireTime, span: &SkippedSpan<'_>, known: &Known, evidence: &mut Vec<Evidence>) -> Answer {
    let SkippedSpan { record, last, reason, .. } = *span;
    evidence.push(Evidence::Decision(Box::new(record.clone())));
    let Decision::Skipped { text, by, run, .. } = &record.decision else {
        return Answer::Skipped { reason, text: None, by: None, run: None };
    };
    let is_own = tick == last;
    if reason == SkipReason::Operator {
        let is_it = |one: &&OperationRecord| {
            one.operation == JobOperation::SkippedMissed && one.by == *by && one.note == *text
        };
        // It is recorded once the store knows the decision.
        let mut since = known.operations.iter().rev().filter(|one| one.at >= record.at);
        evidence.extend(since.find(is_it).map(|one| Evidence::Operation(Box::new(one.clone()))));
        return Answer::Skipped { reason, text: text.clone(), by: by.clone(), run: None };
    }
    if reason != SkipReason::Paused {
        let (text, run) = (text.clone().filter(|_| is_own), run.filter(|_| is_own));
        return Answer::Skipped { reason, text, by: None, run };
    }
    let changes = || {
        known
            .operations
            .iter()
            .filter(|one| matches!(one.operation, JobOperation::Paused | JobOperation::Resumed))
    };
    // The pause of the newest tick is also that of an earlier one if nobody paused or resumed between.
    let is_same =
        is_own || !changes().any(|change| change.at >= tick.instant() && change.at <= last.instant());
    let (text, by) = if is_same { (text.clone(), by.clone()) } else { (None, None) };
    // Somebody may have resumed it since: then that pause is not the one that is meant.
    let newest = changes().find(|change| change.at <= record.at.max(last.instant()));
    let pause = newest.filter(|newest| is_same && newest.operation == JobOperation::Paused);
    let pause = pause.filter(|pause| (by.is_none() || pause.by == by) && pause.note == text);
    // A node hears of a pause, from the answer to a claim, before it hears who asked for it.
    let by = by.or_else(|| pause?.by.clone());
    evidence.extend(pause.map(|pause| Evidence::Operation(Box::new(pause.clone()))));
    Answer::Skipped { reason, text, by, run: None }
}

/// It is no fire time by the schedule that the job has.
fn by_schedule(view: &TickView, known: &Known, evidence: &mut Vec<Evidence>) -> Option<Answer> {
    if view.is_fire_time {
        return None;
    }
    let changed = known
        .operations
        .iter()
        .find(|operation| operation.operation == JobOperation::Changed && operation.at > view.at);
    evidence.extend(changed.map(|changed| Evidence::Operation(Box::new(changed.clone()))));
    let TickView { previous, next, why_not, .. } = view;
    Some(Answer::NotFireTime { previous: *previous, next: *next, because: why_not.clone() })
}

/// Nothing is recorded of it.
fn undecided(now: DateTime<Utc>, view: &TickView, known: &Known, evidence: &mut Vec<Evidence>) -> Answer {
    let not_decided = |because| Answer::NotDecided { because };
    if let Some(limit) = view.used_up.filter(|_| view.at > view.cursor) {
        return Answer::Exhausted { limit };
    }
    if view.at > now {
        return not_decided(NotDecided::Time);
    }
    let is_recent = since(view.at, now) <= RECORDED_WITHIN;
    let (decided_to, leaderless_since) = (known.decided_to, known.leaderless_since);
    // Where the store does not say it, what was due while nobody led is not decided.
    let is_known_open = decided_to.or(leaderless_since).is_some_and(|decided_to| view.at > decided_to);
    // What is decided may not be recorded yet.
    let is_open = view.at > view.cursor && (is_known_open || view.fires || is_recent);
    let decided_up_to = decided_to.map_or(view.cursor, |decided_to| decided_to.max(view.cursor));
    evidence.push(Evidence::Node { decided_up_to, fires: view.fires });
    if is_open {
        // Whoever decides it holds it, if it has not come to a decision.
        let held_elsewhere = view.pause.as_ref().filter(|_| is_known_open && !view.fires);
        return not_decided(match (view.held_by.as_ref().or(held_elsewhere), view.run) {
            (Some(pause), _) => NotDecided::Pause(pause.clone()),
            (None, Some(run)) => NotDecided::Run { run },
            (None, None) if view.waits_for_turn => NotDecided::Turn,
            (None, None) if view.fires => NotDecided::Store,
            (None, None) => match leaderless_since.filter(|_| is_known_open) {
                Some(since) => NotDecided::NoLeader { since },
                None => NotDecided::OtherNode,
            },
        });
    }
    let dropped = known.decisions.iter().find_map(|record| Some((record, dropped_around(view, record)?)));
    evidence.extend(dropped.iter().map(|(record, _)| Evidence::Decision(Box::new((*record).clone()))));
    let because = if !known.is_kept {
        NotKnown::NoHistory
    } else if known.has_unread {
        NotKnown::NewerVersion { outcome: None }
    } else if let Some((_, dropped)) = dropped {
        dropped
    } else {
        match known.kept_since {
            Some(kept_since) if view.at < kept_since => NotKnown::Pruned { kept_since },
            Some(_) | None if !known.was_there && view.at < known.held_since => {
                NotKnown::BeforeJob { since: known.held_since }
            }
            Some(_) | None => NotKnown::NotRecorded,
        }
    };
    Answer::NotKnown { because }
}

/// Whether what was decided of a tick may be among records that were dropped.
fn dropped_around(view: &TickView, record: &DecisionRecord) -> Option<NotKnown> {
    let Decision::RecordsDropped { count, from, to } = record.decision else { return None };
    let is_around = to >= view.at && since(view.at, from) <= RECORDED_WITHIN;
    is_around.then_some(NotKnown::Dropped { node: record.node, count, from, to })
}
