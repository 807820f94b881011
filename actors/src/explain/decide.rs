//! What became of an instant, by what is known of it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    answer::{Answer, Evidence, Explanation, NotDecided, NotKnown},
    known::{Known, TickView},
    late,
};
use crate::{
    core::{
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
    Explanation { job: job.clone(), at: view.at, answer, evidence }
}

/// What asked for runs that name it, without being its tick.
fn triggers_for(view: &TickView, known: &Known) -> impl Iterator<Item = Evidence> {
    let note = triggered_for(FireTime::new(view.at));
    let asked = move |operation: &&OperationRecord| {
        operation.operation == JobOperation::Triggered && operation.note.as_deref() == Some(&*note)
    };
    known.operations.iter().filter(asked).map(|operation| Evidence::Operation(Box::new(operation.clone())))
}

/// The note of an operation that asks for a run which names a fire time.
pub(crate) fn triggered_for(fire_time: FireTime) -> String {
    format!("for {fire_time}")
}

/// The run of its tick, if it had one.
fn by_run(view: &TickView, known: &Known, evidence: &mut Vec<Evidence>) -> Option<Answer> {
    let tick = FireTime::new(view.at);
    let is_its = |run: &&RunRecord| run.fire_time == Some(tick) && tick.instant() == view.at;
    // A trigger may name a fire time: its run is not the tick's.
    let is_tick = |run: &&RunRecord| !matches!(run.origin, RunOrigin::Trigger { .. });
    // A tick has one; if a store was set back, the newest tells.
    let record = known.runs.iter().filter(is_its).filter(is_tick).max_by_key(|run| run.run)?;
    evidence.push(Evidence::Run(Box::new(record.clone())));
    let RunRecord { run, node, started_at, lateness: late, .. } = *record;
    let because = |evidence: &mut Vec<Evidence>| late::delays(view, record, known, evidence);
    Some(match record.outcome {
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

/// The decision that skipped its tick, if one did.
fn by_decision(view: &TickView, known: &Known, evidence: &mut Vec<Evidence>) -> Option<Answer> {
    let tick = FireTime::new(view.at);
    let covers = |record: &&DecisionRecord| {
        let first = record.first.or(record.fire_time);
        let is_skip = matches!(record.decision, Decision::Skipped { .. });
        is_skip && record.job.is_some() && first <= Some(tick) && record.fire_time >= Some(tick)
    };
    // Those of a minute are one record: the shortest of several says most.
    let span = |record: &&DecisionRecord| match (record.first, record.fire_time) {
        (Some(first), Some(last)) => since(first.instant(), last.instant()),
        (None, _) | (_, None) => Duration::ZERO,
    };
    // What counts from the end of runs does not know its former fire times: a record names its ends.
    let is_tick = |record: &&DecisionRecord| {
        view.is_fire_time || record.first == Some(tick) || record.fire_time == Some(tick)
    };
    let record = known.decisions.iter().filter(covers).filter(is_tick).min_by_key(span)?;
    evidence.push(Evidence::Decision(Box::new(record.clone())));
    let Decision::Skipped { reason, text, run, .. } = &record.decision else { return None };
    let mut by = None;
    if *reason == SkipReason::Paused {
        let pause = known.operations.iter().find(|operation| {
            operation.operation == JobOperation::Paused && operation.at <= record.at.max(view.at)
        });
        by = pause.and_then(|pause| pause.by.clone());
        evidence.extend(pause.map(|pause| Evidence::Operation(Box::new(pause.clone()))));
    }
    Some(Answer::Skipped { reason: *reason, text: text.clone(), by, run: *run })
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
    if view.at > now {
        return not_decided(NotDecided::Time);
    }
    let is_recent = since(view.at, now) <= RECORDED_WITHIN;
    let may_be_decided = view.at <= view.cursor || !(view.fires || is_recent);
    evidence.push(Evidence::Node { decided_up_to: view.cursor, fires: view.fires });
    if !may_be_decided {
        return not_decided(match (&view.held_by, view.run) {
            (Some(pause), _) => NotDecided::Pause(pause.clone()),
            (None, Some(run)) => NotDecided::Run { run },
            (None, None) if view.fires => NotDecided::Store,
            (None, None) => NotDecided::OtherNode,
        });
    }
    Answer::NotKnown {
        because: match known.kept_since {
            _ if !known.is_kept => NotKnown::NoHistory,
            Some(kept_since) if view.at < kept_since => NotKnown::Pruned { kept_since },
            Some(_) | None if !known.was_there && view.at < known.held_since => {
                NotKnown::BeforeJob { since: known.held_since }
            }
            Some(_) | None => NotKnown::NotRecorded,
        },
    }
}
