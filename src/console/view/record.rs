//! What the history keeps.

use std::time::Duration;

use callsheet_actors::{
    ActiveRun, AttemptRecord, CancelReason, DecisionRecord, Measure, NodeId, OperationRecord, Outcome,
    RunOrigin, RunRecord,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{id, instant};

/// A run that the history keeps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunView {
    pub(crate) job: String,
    pub(crate) run: String,
    origin: OriginView,
    /// Its lock key, as far as it is known.
    pub(crate) key: Option<String>,
    slot: Option<u32>,
    pub(crate) node: String,
    pub(crate) term: Option<String>,
    /// Its fencing token.
    pub(crate) token: Option<String>,
    fire_time: Option<DateTime<Utc>>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    #[serde(with = "crate::serde::duration")]
    #[schema(value_type = String)]
    lateness: Duration,
    #[serde(with = "crate::serde::duration")]
    #[schema(value_type = Option<String>)]
    took: Option<Duration>,
    /// `null`: it is in progress.
    #[schema(value_type = Option<String>)]
    outcome: Option<Outcome>,
    /// Its node has not written for long: whether it is in progress is not known.
    pub(crate) is_stale: bool,
    #[schema(value_type = Option<String>)]
    cancelled: Option<CancelReason>,
    error: Option<String>,
    attempt: u32,
    attempts: Vec<AttemptView>,
    report: Option<String>,
    measures: Vec<MeasureView>,
    progress: Option<f64>,
    next_fire_time: Option<DateTime<Utc>>,
}

/// Why there was a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginView {
    /// `tick`, `trigger`, `backfill` or `unknown`.
    #[schema(value_type = String)]
    kind: &'static str,
    by: Option<String>,
    backfill: Option<String>,
    /// The trigger gave it arguments of its own.
    own_arguments: bool,
}

/// An attempt that failed and was followed by another one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptView {
    attempt: u32,
    ended_at: DateTime<Utc>,
    #[serde(with = "crate::serde::duration")]
    #[schema(value_type = String)]
    took: Duration,
    #[schema(value_type = String)]
    outcome: Outcome,
    error: Option<String>,
}

/// A number that a body measured.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MeasureView {
    name: String,
    value: f64,
}

impl From<&Measure> for MeasureView {
    fn from(measure: &Measure) -> Self {
        Self { name: measure.name.to_string(), value: measure.value }
    }
}

impl From<&AttemptRecord> for AttemptView {
    fn from(attempt: &AttemptRecord) -> Self {
        let error = attempt.error.as_deref().map(str::to_owned);
        let (ended_at, took, outcome) = (attempt.ended_at, attempt.took, attempt.outcome);
        Self { attempt: attempt.attempt, ended_at, took, outcome, error }
    }
}

impl From<&RunOrigin> for OriginView {
    fn from(origin: &RunOrigin) -> Self {
        let of = |kind| Self { kind, by: None, backfill: None, own_arguments: false };
        match origin {
            RunOrigin::Tick => of("tick"),
            RunOrigin::Trigger { by, own_arguments } => Self {
                by: by.as_ref().map(ToString::to_string),
                own_arguments: *own_arguments,
                ..of("trigger")
            },
            RunOrigin::Backfill { backfill, by } => Self {
                by: by.as_ref().map(ToString::to_string),
                backfill: Some(backfill.to_string()),
                ..of("backfill")
            },
            // Also what a later version of the engine adds.
            RunOrigin::Unknown | _ => of("unknown"),
        }
    }
}

impl RunView {
    /// A run in progress, as its node tells it.
    pub(crate) fn in_progress(node: NodeId, run: &ActiveRun, key: Option<String>) -> Self {
        let ActiveRun { job, status, .. } = run;
        let fire_time = instant(status.fire_time);
        let lateness = fire_time.and_then(|at| status.started_at.signed_duration_since(at).to_std().ok());
        Self {
            job: job.to_string(),
            run: id(status.run),
            origin: OriginView::from(&RunOrigin::Unknown),
            key,
            slot: None,
            node: node.to_string(),
            term: None,
            token: None,
            fire_time,
            started_at: Some(status.started_at),
            ended_at: None,
            lateness: lateness.unwrap_or_default(),
            took: None,
            outcome: None,
            is_stale: false,
            cancelled: status.cancelled,
            error: None,
            attempt: status.attempt,
            attempts: Vec::new(),
            report: status.reported.report.as_deref().map(str::to_owned),
            measures: status.reported.measures.iter().map(MeasureView::from).collect(),
            progress: status.reported.progress,
            next_fire_time: None,
        }
    }
}

impl From<RunRecord> for RunView {
    fn from(run: RunRecord) -> Self {
        Self {
            job: run.job.to_string(),
            run: id(run.run),
            origin: OriginView::from(&run.origin),
            key: Some(run.key.to_string()),
            slot: Some(run.slot),
            node: run.node.to_string(),
            term: run.term.map(|term| term.to_string()),
            token: run.token.map(|token| token.to_string()),
            fire_time: instant(run.fire_time),
            started_at: run.started_at,
            ended_at: run.ended_at,
            lateness: run.lateness,
            took: run.took,
            outcome: run.outcome,
            is_stale: run.is_stale,
            cancelled: run.cancelled,
            error: run.error.as_deref().map(str::to_owned),
            attempt: run.attempt,
            attempts: run.attempts.iter().map(AttemptView::from).collect(),
            report: run.report.as_deref().map(str::to_owned),
            measures: run.measures.iter().map(MeasureView::from).collect(),
            progress: run.progress,
            next_fire_time: instant(run.next_fire_time),
        }
    }
}

/// A decision that started nothing. What else there is depends on `decision`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecisionView {
    job: Option<String>,
    first: Option<DateTime<Utc>>,
    fire_time: Option<DateTime<Utc>>,
    at: DateTime<Utc>,
    node: String,
    term: Option<String>,
    /// In one word: the reason of a skip, or what else it is.
    #[schema(value_type = String)]
    reason: &'static str,
    /// `decision` (which one), and by it `count`, `at_least`, `text`, `by`, `run`, `from`, `to`, `is_retried`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    rest: Value,
}

impl From<&DecisionRecord> for DecisionView {
    fn from(record: &DecisionRecord) -> Self {
        let mut rest =
            serde_json::to_value(&record.decision).unwrap_or_else(|_| Value::Object(Default::default()));
        if let Value::Object(rest) = &mut rest {
            // It has it in its own words.
            rest.remove("reason");
        }
        Self {
            job: record.job.as_ref().map(ToString::to_string),
            first: instant(record.first),
            fire_time: instant(record.fire_time),
            at: record.at,
            node: record.node.to_string(),
            term: record.term.map(|term| term.to_string()),
            reason: record.decision.reason(),
            rest,
        }
    }
}

/// What somebody did to a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationView {
    at: DateTime<Utc>,
    node: String,
    by: Option<String>,
    #[schema(value_type = String)]
    operation: &'static str,
    job: String,
    note: Option<String>,
    detail: Option<String>,
    number: String,
}

impl From<&OperationRecord> for OperationView {
    fn from(record: &OperationRecord) -> Self {
        Self {
            at: record.at,
            node: record.node.to_string(),
            by: record.by.as_ref().map(ToString::to_string),
            operation: record.operation.as_str(),
            job: record.job.to_string(),
            note: record.note.as_deref().map(str::to_owned),
            detail: record.detail.as_deref().map(str::to_owned),
            number: record.number.to_string(),
        }
    }
}
