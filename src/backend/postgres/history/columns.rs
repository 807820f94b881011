//! Records on their way to the server, as arrays with a column each.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::Duration,
};

use callsheet_actors::{
    JobName, Outcome, RunId,
    port::{Decision, DecisionRecord, OperationRecord, PauseChange, RunOrigin, RunRecord},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::super::text::Text;

/// What is asked, with its type.
pub(in super::super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Runs, each once: what comes later takes the place of what came before.
pub(super) struct RunColumns<'a> {
    run: Vec<Uuid>,
    job: Vec<&'a str>,
    key: Vec<Text<'a>>,
    slot: Vec<i32>,
    origin: Vec<&'static str>,
    asked_by: Vec<Option<&'a str>>,
    node: Vec<Uuid>,
    term: Vec<Option<i64>>,
    token: Vec<Option<i64>>,
    fire_time: Vec<Option<DateTime<Utc>>>,
    started_at: Vec<Option<DateTime<Utc>>>,
    ended_at: Vec<Option<DateTime<Utc>>>,
    lateness: Vec<i64>,
    took: Vec<Option<i64>>,
    outcome: Vec<Option<&'static str>>,
    cancelled: Vec<Option<&'static str>>,
    error: Vec<Option<Text<'a>>>,
    attempt: Vec<i32>,
    attempts: Vec<Option<String>>,
    report: Vec<Option<Text<'a>>>,
    measures: Vec<Option<String>>,
    progress: Vec<Option<f64>>,
    next_fire_time: Vec<Option<DateTime<Utc>>>,
}

/// Runs of a batch, each once.
struct Merged<'a>(Vec<&'a RunRecord>);

impl<'a> Merged<'a> {
    /// What ended stays ended: the server merges what is left with what it has.
    fn of(runs: &'a [RunRecord]) -> Self {
        let mut places: HashMap<RunId, usize> = HashMap::with_capacity(runs.len());
        let mut merged: Vec<&RunRecord> = Vec::with_capacity(runs.len());
        for run in runs {
            match places.get(&run.run) {
                None => {
                    places.insert(run.run, merged.len());
                    merged.push(run);
                }
                Some(place) => {
                    let former = &mut merged[*place];
                    if run.supersedes(former) {
                        *former = run;
                    }
                }
            }
        }
        Self(merged)
    }
}

impl<'a> RunColumns<'a> {
    pub(super) fn of(runs: &'a [RunRecord]) -> Self {
        let Merged(runs) = Merged::of(runs);
        let text = |text: &'a Option<std::sync::Arc<str>>| text.as_deref().map(Text::of);
        macro_rules! column {
            ($run:ident => $value:expr) => {
                runs.iter().map(|$run| $value).collect()
            };
        }
        // What no run of a batch has is an array without elements: `unnest` fills it up.
        macro_rules! rare {
            ($run:ident => $value:expr) => {
                if runs.iter().all(|$run| $value.is_none()) { Vec::new() } else { column!($run => $value) }
            };
        }
        Self {
            run: column!(run => run.run.as_uuid()),
            job: column!(run => run.job.as_str()),
            key: column!(run => Text::of(run.key.as_str())),
            slot: column!(run => int(run.slot)),
            origin: column!(run => origin(&run.origin)),
            asked_by: rare!(run => asked_by(&run.origin)),
            node: column!(run => run.node.as_uuid()),
            term: column!(run => run.term.map(|term| bigint(term.0))),
            token: column!(run => run.token.map(|token| bigint(token.0))),
            fire_time: column!(run => run.fire_time.map(Into::into)),
            started_at: column!(run => run.started_at),
            ended_at: column!(run => run.ended_at),
            lateness: column!(run => micros(run.lateness)),
            took: column!(run => run.took.map(micros)),
            outcome: column!(run => run.outcome.map(Outcome::as_str)),
            cancelled: rare!(run => run.cancelled.map(|why| why.as_str())),
            error: rare!(run => text(&run.error)),
            attempt: column!(run => int(run.attempt)),
            attempts: rare!(run => json_unless_empty(&run.attempts)),
            report: rare!(run => text(&run.report)),
            measures: rare!(run => json_unless_empty(&run.measures)),
            progress: rare!(run => run.progress),
            next_fire_time: column!(run => run.next_fire_time.map(Into::into)),
        }
    }

    pub(super) fn parameters<'b>(&'b self, scope: &'b String) -> [Parameter<'b>; 24] {
        [
            (scope, Type::TEXT),
            (&self.run, Type::UUID_ARRAY),
            (&self.job, Type::TEXT_ARRAY),
            (&self.key, Type::TEXT_ARRAY),
            (&self.slot, Type::INT4_ARRAY),
            (&self.origin, Type::TEXT_ARRAY),
            (&self.asked_by, Type::TEXT_ARRAY),
            (&self.node, Type::UUID_ARRAY),
            (&self.term, Type::INT8_ARRAY),
            (&self.token, Type::INT8_ARRAY),
            (&self.fire_time, Type::TIMESTAMPTZ_ARRAY),
            (&self.started_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.ended_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.lateness, Type::INT8_ARRAY),
            (&self.took, Type::INT8_ARRAY),
            (&self.outcome, Type::TEXT_ARRAY),
            (&self.cancelled, Type::TEXT_ARRAY),
            (&self.error, Type::TEXT_ARRAY),
            (&self.attempt, Type::INT4_ARRAY),
            (&self.attempts, Type::TEXT_ARRAY),
            (&self.report, Type::TEXT_ARRAY),
            (&self.measures, Type::TEXT_ARRAY),
            (&self.progress, Type::FLOAT8_ARRAY),
            (&self.next_fire_time, Type::TIMESTAMPTZ_ARRAY),
        ]
    }
}

fn origin(origin: &RunOrigin) -> &'static str {
    match origin {
        RunOrigin::Tick => "tick",
        RunOrigin::Trigger { .. } => "trigger",
        RunOrigin::Backfill { .. } => "backfill",
        _ => "unknown",
    }
}

fn asked_by(origin: &RunOrigin) -> Option<&str> {
    match origin {
        RunOrigin::Trigger { by, .. } | RunOrigin::Backfill { by, .. } => by.as_ref().map(|by| by.as_str()),
        _ => None,
    }
}

/// What is too great for the server is the greatest that it has.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// As JSON, without NUL: JSON writes it as an escape, which the server takes as text.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn json_unless_empty<T: Serialize>(all: &[T]) -> Option<String> {
    (!all.is_empty()).then(|| json(&all))
}

/// Decisions, each once: of equal ones, the last.
pub(super) struct DecisionColumns<'a> {
    at: Vec<DateTime<Utc>>,
    node: Vec<Uuid>,
    job: Vec<&'a str>,
    reason: Vec<&'static str>,
    lost: Vec<Uuid>,
    first: Vec<Option<DateTime<Utc>>>,
    fire_time: Vec<Option<DateTime<Utc>>>,
    term: Vec<Option<i64>>,
    decision: Vec<String>,
}

fn lost(decision: &Decision) -> Uuid {
    match decision {
        Decision::RunLost { run, .. } => run.as_uuid(),
        _ => Uuid::nil(),
    }
}

/// As the server keeps instants: in whole microseconds.
fn stored(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

impl<'a> DecisionColumns<'a> {
    pub(super) fn of(decisions: &'a [DecisionRecord]) -> Self {
        let job = |one: &'a DecisionRecord| one.job.as_ref().map_or("", JobName::as_str);
        let all = last_of_each(decisions, |one| {
            let decision = &one.decision;
            (stored(one.at), one.node, one.job.clone(), decision.reason(), lost(decision))
        });
        Self {
            at: all.iter().map(|one| one.at).collect(),
            node: all.iter().map(|one| one.node.as_uuid()).collect(),
            job: all.iter().map(|one| job(one)).collect(),
            reason: all.iter().map(|one| one.decision.reason()).collect(),
            lost: all.iter().map(|one| lost(&one.decision)).collect(),
            first: all.iter().map(|one| one.first.map(Into::into)).collect(),
            fire_time: all.iter().map(|one| one.fire_time.map(Into::into)).collect(),
            term: all.iter().map(|one| one.term.map(|term| bigint(term.0))).collect(),
            decision: all.iter().map(|one| json(&one.decision)).collect(),
        }
    }

    pub(super) fn parameters<'b>(&'b self, scope: &'b String) -> [Parameter<'b>; 10] {
        [
            (scope, Type::TEXT),
            (&self.at, Type::TIMESTAMPTZ_ARRAY),
            (&self.node, Type::UUID_ARRAY),
            (&self.job, Type::TEXT_ARRAY),
            (&self.reason, Type::TEXT_ARRAY),
            (&self.lost, Type::UUID_ARRAY),
            (&self.first, Type::TIMESTAMPTZ_ARRAY),
            (&self.fire_time, Type::TIMESTAMPTZ_ARRAY),
            (&self.term, Type::INT8_ARRAY),
            (&self.decision, Type::TEXT_ARRAY),
        ]
    }
}

/// Operations.
pub(super) struct OperationColumns<'a> {
    at: Vec<DateTime<Utc>>,
    node: Vec<Uuid>,
    number: Vec<i64>,
    job: Vec<&'a str>,
    operation: Vec<&'static str>,
    asked_by: Vec<Option<&'a str>>,
    note: Vec<Option<Text<'a>>>,
    detail: Vec<Option<Text<'a>>>,
}

impl<'a> OperationColumns<'a> {
    pub(super) fn of(all: &'a [OperationRecord]) -> Self {
        Self {
            at: all.iter().map(|one| one.at).collect(),
            node: all.iter().map(|one| one.node.as_uuid()).collect(),
            number: all.iter().map(|one| bigint(one.number)).collect(),
            job: all.iter().map(|one| one.job.as_str()).collect(),
            operation: all.iter().map(|one| one.operation.as_str()).collect(),
            asked_by: all.iter().map(|one| one.by.as_ref().map(|by| by.as_str())).collect(),
            note: all.iter().map(|one| one.note.as_deref().map(Text::of)).collect(),
            detail: all.iter().map(|one| one.detail.as_deref().map(Text::of)).collect(),
        }
    }

    pub(super) fn parameters<'b>(&'b self, scope: &'b String) -> [Parameter<'b>; 9] {
        [
            (scope, Type::TEXT),
            (&self.at, Type::TIMESTAMPTZ_ARRAY),
            (&self.node, Type::UUID_ARRAY),
            (&self.number, Type::INT8_ARRAY),
            (&self.job, Type::TEXT_ARRAY),
            (&self.operation, Type::TEXT_ARRAY),
            (&self.asked_by, Type::TEXT_ARRAY),
            (&self.note, Type::TEXT_ARRAY),
            (&self.detail, Type::TEXT_ARRAY),
        ]
    }
}

/// Changes of pauses, of each job one.
#[derive(Default)]
pub(super) struct PauseColumns<'a> {
    job: Vec<&'a str>,
    at: Vec<DateTime<Utc>>,
    /// As JSON.
    pause: Vec<Option<String>>,
    until: Vec<Option<DateTime<Utc>>>,
}

impl<'a> PauseColumns<'a> {
    /// In rounds: in each of them a job changes once.
    pub(super) fn rounds(changes: &'a [PauseChange]) -> Vec<Self> {
        let mut rounds: Vec<Self> = Vec::new();
        let mut counts: HashMap<&JobName, usize> = HashMap::new();
        for PauseChange { job, at, pause, .. } in changes {
            let count = counts.entry(job).or_default();
            if *count == rounds.len() {
                rounds.push(Self::default());
            }
            let round = &mut rounds[*count];
            round.job.push(job.as_str());
            round.at.push(*at);
            round.pause.push(pause.as_ref().map(json));
            round.until.push(pause.as_ref().and_then(|pause| pause.until));
            *count += 1;
        }
        rounds
    }

    pub(super) fn parameters<'b>(&'b self, scope: &'b String) -> [Parameter<'b>; 5] {
        [
            (scope, Type::TEXT),
            (&self.job, Type::TEXT_ARRAY),
            (&self.at, Type::TIMESTAMPTZ_ARRAY),
            (&self.pause, Type::TEXT_ARRAY),
            (&self.until, Type::TIMESTAMPTZ_ARRAY),
        ]
    }
}

/// Of records with the same key, the last.
fn last_of_each<T, K: Hash + Eq>(all: &[T], key: impl Fn(&T) -> K) -> Vec<&T> {
    let mut seen = HashSet::with_capacity(all.len());
    let mut kept: Vec<_> = all.iter().rev().filter(|one| seen.insert(key(one))).collect();
    kept.reverse();
    kept
}
