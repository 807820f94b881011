//! Explanations as people read them.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

use super::answer::{Answer, Delay, Evidence, Explanation, Explanations, NotDecided, NotKnown};
use crate::{
    core::{duration::DurationText, outcome::Outcome, pause::Pause, skip::SkipReason, time::FireTime},
    name::By,
    port::{Decision, DecisionRecord, NotDue, OperationRecord, RunOrigin, RunRecord},
};

fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A duration without what nobody reads.
fn span(duration: Duration) -> DurationText {
    let unit = if duration >= Duration::from_secs(1) { 1_000 } else { 1 };
    DurationText(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / unit * unit))
}

fn by(by: Option<&By>) -> String {
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

fn said(text: Option<&str>) -> String {
    text.map(|text| format!(": {text}")).unwrap_or_default()
}

/// One paragraph for each.
impl fmt::Display for Explanations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanations.iter().try_for_each(|explanation| writeln!(f, "{explanation}"))?;
        self.next.map_or(Ok(()), |next| writeln!(f, "there are more from {} on", text(next)))
    }
}

/// `report at 2026-11-29T03:00:00Z: skipped: it was paused by alice: the disk is full`, and a line for each
/// piece of evidence.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.job, text(self.at), self.answer)?;
        self.evidence.iter().try_for_each(|evidence| write!(f, "\n  {evidence}"))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFireTime { previous, next, because } => {
                f.write_str("it does not fire then")?;
                if let Some(because) = because {
                    write!(f, ": {because}")?;
                }
                match (because, next) {
                    (Some(NotDue::AfterCompletion), Some(next)) => write!(f, "; the next one is {next}"),
                    (Some(NotDue::AfterCompletion), None) => Ok(()),
                    _ => write_beside(f, *previous, *next),
                }
            }
            Self::Ran { run, node, started_at, outcome, late, because } => {
                write!(f, "it ran as run {run} on node {node}")?;
                write_start(f, *started_at, *late, because)?;
                write!(f, ", and {}", ended(*outcome))
            }
            Self::Running { run, node, started_at, late, because } => {
                write!(f, "it runs as run {run} on node {node}")?;
                write_start(f, *started_at, *late, because)
            }
            Self::Skipped { reason, text, by: who, run } => {
                f.write_str("skipped: ")?;
                match reason {
                    SkipReason::Misfire => f.write_str("it was too late for its misfire policy"),
                    SkipReason::Overlap => match run {
                        Some(run) => write!(f, "run {run} of the same lock key was in progress"),
                        None => f.write_str("a run of the same lock key was in progress"),
                    },
                    SkipReason::Paused => {
                        write!(f, "the job was paused{}{}", by(who.as_ref()), said(text.as_deref()))
                    }
                    SkipReason::Concurrency => f.write_str("the node ran as many bodies as it may"),
                    SkipReason::Parked => {
                        write!(f, "the store refused the job for its data{}", said(text.as_deref()))
                    }
                    SkipReason::Removed => {
                        f.write_str("the job was removed, or got another schedule, before it was decided")
                    }
                    SkipReason::Operator => {
                        let (who, why) = (by(who.as_ref()), said(text.as_deref()));
                        write!(f, "what was missed was skipped{who}{why}")
                    }
                    SkipReason::Unproven => f.write_str(
                        "another node may have started it: the lead changed, or the servers have forgotten their votes",
                    ),
                    SkipReason::Contended => f.write_str(
                        "no majority of servers gave it to this node in time, and another node may have run it",
                    ),
                }
            }
            Self::Vetoed { run, text } => {
                write!(f, "a before hook vetoed run {run}{}", said(text.as_deref()))
            }
            Self::Lost { run, node, is_retried } => {
                let then = if *is_retried { "it is to go on elsewhere" } else { "it is not retried" };
                write!(f, "node {node} died during run {run}, and {then}")
            }
            Self::Exhausted { limit } => {
                write!(f, "it does not run: the job has had all the runs that its limit allows, {limit}")
            }
            Self::NotDecided { because } => write!(f, "not decided yet: {because}"),
            Self::NotKnown { because } => write!(f, "not known: {because}"),
        }
    }
}

fn write_beside(
    f: &mut fmt::Formatter<'_>,
    before: Option<FireTime>,
    after: Option<FireTime>,
) -> fmt::Result {
    match (before, after) {
        (Some(before), Some(after)) => write!(f, "; the fire times beside it are {before} and {after}"),
        (Some(before), None) => write!(f, "; the last fire time was {before}"),
        (None, Some(after)) => write!(f, "; the first fire time is {after}"),
        (None, None) => f.write_str("; it never fires"),
    }
}

fn write_start(
    f: &mut fmt::Formatter<'_>,
    started_at: Option<DateTime<Utc>>,
    late: Duration,
    because: &[Delay],
) -> fmt::Result {
    let Some(started_at) = started_at else { return f.write_str(", without its body") };
    write!(f, " from {}", text(started_at))?;
    for (nth, delay) in because.iter().enumerate() {
        match nth {
            0 => write!(f, ", {} late: {delay}", span(late))?,
            _ => write!(f, "; {delay}")?,
        }
    }
    Ok(())
}

fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Panicked => "panicked",
        Outcome::TimedOut => "timed out",
        Outcome::Cancelled => "was cancelled",
        Outcome::Lost => "was lost",
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaderGap { from, to } => write!(f, "nobody led from {} to {}", text(*from), text(*to)),
            Self::ClockStepped { by } => {
                let direction = if *by < chrono::TimeDelta::zero() { "back" } else { "ahead" };
                let by = by.abs().to_std().unwrap_or_default();
                write!(f, "the machine slept or its clock was set, {} {direction}", span(by))
            }
            Self::Paused { resumed_by } => {
                write!(f, "it was paused until it was resumed{}", by(resumed_by.as_ref()))
            }
            Self::Run { run, ended_at } => {
                write!(f, "run {run} of the job was in progress until {}", text(*ended_at))
            }
            Self::Lost { attempt } => write!(f, "its node died, and this was attempt {attempt}"),
            Self::Slot => f.write_str("no cause is recorded: probably it waited for one of the node's slots"),
            Self::NotRecorded => {
                f.write_str("no cause is recorded: no node was there, or it had no processor time")
            }
        }
    }
}

impl fmt::Display for NotDecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("it has not come"),
            Self::Pause(Pause { until, note, by: who }) => {
                write!(f, "the job is paused{}{}", by(who.as_ref()), said(note.as_deref()))?;
                until.map_or(Ok(()), |until| write!(f, ", until {}", text(until)))
            }
            Self::Run { run } => write!(f, "run {run} of the job is in progress"),
            Self::OtherNode => f.write_str("another node decides it, and has recorded nothing yet"),
            Self::Turn => f.write_str("it was missed, and waits for its turn to be made up for"),
            Self::Store => f.write_str("it is due, and waits for a leader or for the store"),
            Self::NoLeader { since } => {
                write!(
                    f,
                    "nobody leads since {}; the next leader runs it, if it is not too late then",
                    text(*since)
                )
            }
        }
    }
}

impl fmt::Display for NotKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeJob { since } => {
                write!(f, "nothing is recorded of the job before; this node has it since {}", text(*since))
            }
            Self::NoEnd { run, node } => {
                write!(
                    f,
                    "run {run} began on node {node}, and its end is not recorded: the node died, or could not write"
                )
            }
            Self::Pruned { kept_since } => {
                write!(f, "what was recorded before {} is not kept any more", text(*kept_since))
            }
            Self::SomeSkipped { reason, count, at_least, first, last } => {
                let at_least = if *at_least { "at least " } else { "" };
                write!(
                    f,
                    "{at_least}{count} of the ticks from {first} to {last} were skipped for {reason}, and it is not \
                     recorded whether this was one of them"
                )
            }
            Self::NewerVersion { outcome: Some(outcome) } => {
                write!(f, "its run ended as {outcome:?}, a word of a newer version")
            }
            Self::NewerVersion { outcome: None } => {
                f.write_str("there are records of a newer version, which this one cannot read")
            }
            Self::NoHistory => f.write_str("no history is kept"),
            Self::Dropped { node, count, from, to } => {
                write!(
                    f,
                    "node {node} dropped {count} records from {} to {}, and one of them may have told it",
                    text(*from),
                    text(*to)
                )
            }
            Self::NotRecorded => {
                f.write_str("nothing is recorded: no node had the job then, or the record was dropped")
            }
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule { schedule, fires } => {
                let fires = if *fires { "fires" } else { "does not fire" };
                write!(f, "schedule: {schedule}: {fires} then")
            }
            Self::Run(run) => write_run(f, run),
            Self::Decision(decision) => write_decision(f, decision),
            Self::Operation(operation) => {
                let OperationRecord { at, by: who, operation, note, detail, .. } = &**operation;
                write!(
                    f,
                    "operation: {operation} at {}{}{}{}",
                    text(*at),
                    by(who.as_ref()),
                    said(detail.as_deref()),
                    said(note.as_deref())
                )
            }
            Self::Node { decided_up_to, fires } => {
                let fires = if *fires { "fires it" } else { "does not fire it" };
                write!(f, "node: it {fires}, and knows that all is decided up to {}", text(*decided_up_to))
            }
        }
    }
}

fn write_run(f: &mut fmt::Formatter<'_>, record: &RunRecord) -> fmt::Result {
    let RunRecord { run, origin, node, term, started_at, ended_at, outcome, error, report, .. } = record;
    write!(f, "run: {run} on node {node}")?;
    if let RunOrigin::Trigger { by: who, own_arguments } = origin {
        let with = if *own_arguments { " with arguments of its own" } else { "" };
        write!(f, ", triggered{}{with}", by(who.as_ref()))?;
    }
    if let RunOrigin::Backfill { backfill, by: who } = origin {
        write!(f, ", of backfill {backfill}{}", by(who.as_ref()))?;
    }
    term.map_or(Ok(()), |term| write!(f, " in term {term}"))?;
    started_at.map_or(Ok(()), |at| write!(f, ", started {}", text(at)))?;
    ended_at.map_or(Ok(()), |at| write!(f, ", ended {}", text(at)))?;
    outcome.map_or(Ok(()), |outcome| write!(f, ", {outcome}"))?;
    write!(f, "{}{}", said(error.as_deref()), said(report.as_deref()))
}

fn write_decision(f: &mut fmt::Formatter<'_>, record: &DecisionRecord) -> fmt::Result {
    let DecisionRecord { first, fire_time, at, node, decision, .. } = record;
    write!(f, "decision: at {} on node {node}: ", text(*at))?;
    match decision {
        Decision::Skipped { reason, count, at_least, .. } => {
            let at_least = if *at_least { "at least " } else { "" };
            write!(f, "skipped {at_least}{count} for {reason}")?;
            match (first, fire_time) {
                (Some(first), Some(last)) if first != last => write!(f, ", from {first} to {last}"),
                (_, Some(tick)) => write!(f, ", {tick}"),
                (_, None) => Ok(()),
            }
        }
        Decision::Vetoed { run, text, .. } => write!(f, "a hook vetoed run {run}: {text}"),
        Decision::TriggerRefused { text, .. } => write!(f, "a trigger was refused: {text}"),
        Decision::LeaderGap { from, to } => write!(f, "nobody led from {} to {}", text(*from), text(*to)),
        Decision::ClockStepped { .. } => f.write_str("the machine slept, or its clock was set"),
        Decision::RecordsDropped { count, from, to } => {
            write!(f, "{count} records were dropped from {} to {}", text(*from), text(*to))
        }
        Decision::RunLost { run, is_retried } => {
            let then = if *is_retried { ", and goes on" } else { "" };
            write!(f, "run {run} was lost{then}")
        }
    }
}
