//! One job.

use std::time::Duration;

use callsheet_actors::{ActiveRunStatus, CancelReason, HeldStatus, JobRecord, JobStatus, Outcome, RunPhase};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{PauseView, PolicyView, Row, id, instant, record::MeasureView};

/// One job, with all that this node knows of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobAnswer {
    pub(crate) job: JobView,
    /// Its policies in words.
    pub(crate) policies: Vec<PolicyView>,
    /// What became of it so far; `null` if no history is kept, or it knows nothing of it.
    pub(crate) history: Option<HistoryView>,
    /// The next five fire times.
    pub(crate) next_fire_times: Vec<DateTime<Utc>>,
    /// `stored`: any member of its definition can be changed; `schedule`: only the schedule; `no`.
    #[schema(value_type = String)]
    pub(crate) editable: &'static str,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobView {
    #[serde(flatten)]
    pub(crate) row: Row,
    /// What a run excludes.
    pub(crate) lock_key: String,
    /// The version of a stored job.
    pub(crate) version: Option<String>,
    /// The definition of a stored job.
    #[schema(value_type = Option<Object>)]
    pub(crate) definition: Option<Value>,
    pub(crate) active_runs: Vec<ActiveRunView>,
    /// Runs in progress of former jobs of this name.
    pub(crate) former_runs: Vec<ActiveRunView>,
    pub(crate) held: Option<HeldView>,
    /// The arguments of its task.
    #[schema(value_type = Option<Value>)]
    pub(crate) task_arguments: Option<Value>,
    /// Who fires it, in words.
    pub(crate) scheduled_text: Option<String>,
}

/// Ticks that wait for the end of a pause.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeldView {
    count: usize,
    oldest: DateTime<Utc>,
    newest: DateTime<Utc>,
    reason: String,
}

impl From<HeldStatus> for HeldView {
    fn from(held: HeldStatus) -> Self {
        let (oldest, newest) = (held.oldest.instant(), held.newest.instant());
        Self { count: held.count, oldest, newest, reason: held.reason.to_string() }
    }
}

/// A run in progress.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActiveRunView {
    run: String,
    fire_time: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    attempt: u32,
    #[schema(value_type = String)]
    phase: RunPhase,
    #[schema(value_type = Option<String>)]
    cancelled: Option<CancelReason>,
    report: Option<String>,
    progress: Option<f64>,
    measures: Vec<MeasureView>,
}

impl From<&ActiveRunStatus> for ActiveRunView {
    fn from(run: &ActiveRunStatus) -> Self {
        Self {
            run: id(run.run),
            fire_time: instant(run.fire_time),
            started_at: run.started_at,
            attempt: run.attempt,
            phase: run.phase,
            cancelled: run.cancelled,
            report: run.reported.report.as_deref().map(str::to_owned),
            progress: run.reported.progress,
            measures: run.reported.measures.iter().map(MeasureView::from).collect(),
        }
    }
}

/// What became of a job so far.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryView {
    last_run: Option<EndedRunView>,
    last_success: Option<DateTime<Utc>>,
    last_failure: Option<FailedRunView>,
    consecutive_failures: u64,
    runs: u64,
    failures: u64,
    #[serde(with = "crate::serde::duration")]
    #[schema(value_type = Option<String>)]
    mean: Option<Duration>,
    #[serde(with = "crate::serde::duration")]
    #[schema(value_type = Option<String>)]
    p95: Option<Duration>,
    pause: Option<PauseView>,
    next_fire_time: Option<DateTime<Utc>>,
    holder: Option<HolderView>,
    pruned_to: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedRunView {
    run: String,
    at: DateTime<Utc>,
    #[schema(value_type = Option<String>)]
    outcome: Option<Outcome>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedRunView {
    run: String,
    at: DateTime<Utc>,
    error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HolderView {
    run: String,
    node: String,
}

impl From<JobRecord> for HistoryView {
    fn from(record: JobRecord) -> Self {
        let ended =
            record.last_run.map(|run| EndedRunView { run: id(run.run), at: run.at, outcome: run.outcome });
        let failed = record.last_failure.map(|run| FailedRunView {
            run: id(run.run),
            at: run.at,
            error: run.error.as_deref().map(str::to_owned),
        });
        let holder =
            record.holder.map(|holder| HolderView { run: id(holder.run), node: holder.node.to_string() });
        Self {
            last_run: ended,
            last_success: record.last_success,
            last_failure: failed,
            consecutive_failures: record.consecutive_failures,
            runs: record.runs,
            failures: record.failures,
            mean: record.mean,
            p95: record.p95,
            pause: record.pause.map(PauseView::from),
            next_fire_time: instant(record.next_fire_time),
            holder,
            pruned_to: record.pruned_to,
        }
    }
}

impl JobView {
    pub(crate) fn of(job: &JobStatus, overdue: bool, definition: Option<Value>) -> Self {
        let arguments = job.task.as_ref().map(|task| &task.arguments).filter(|given| !given.is_none());
        Self {
            row: Row::of(job, overdue),
            lock_key: job.lock_key.to_string(),
            version: job.stored.map(|version| version.to_string()),
            definition,
            active_runs: job.active_runs.iter().map(ActiveRunView::from).collect(),
            former_runs: job.former_runs.iter().map(ActiveRunView::from).collect(),
            held: job.held.map(HeldView::from),
            task_arguments: arguments.and_then(|given| serde_json::to_value(given).ok()),
            scheduled_text: job.scheduled.as_ref().map(ToString::to_string),
        }
    }
}
