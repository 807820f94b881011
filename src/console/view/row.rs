//! A job in the list.

use std::time::Duration;

use callsheet_actors::{JobState, JobStatus, LastRunStatus, Outcome, Pause, ScheduleOverride, Scheduled};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{id, instant};

/// A job in the list, as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The schedule in words.
    pub(crate) schedule: String,
    /// The IANA name of its time zone.
    pub(crate) timezone: Option<String>,
    /// What it is doing.
    #[schema(value_type = String)]
    pub(crate) state: JobState,
    pub(crate) tags: Vec<String>,
    /// The task that it runs; `null` if its body is code.
    pub(crate) task: Option<String>,
    /// The name of its backend; `null` is the default one.
    pub(crate) backend: Option<String>,
    pub(crate) next_fire_time: Option<DateTime<Utc>>,
    /// Who fires it: `here`, `by_leader`, `no_leader`, `without_leader`, `other_schedule`, `unknown`.
    #[schema(value_type = Option<String>)]
    pub(crate) scheduled: Option<&'static str>,
    pub(crate) pause: Option<PauseView>,
    /// How many runs are in progress on this node.
    pub(crate) running: usize,
    /// How many ticks and triggers wait on this node.
    pub(crate) waiting: usize,
    /// How many runs in a row failed, as far as this node knows.
    pub(crate) failures: u32,
    /// It does not do in time what is expected of it.
    pub(crate) overdue: bool,
    /// Why it is broken, parked or conflicting.
    pub(crate) reason: Option<String>,
    /// What an operator has put in the place of the schedule of the code.
    pub(crate) overridden: Option<OverrideView>,
    /// What a run excludes; the page of the job shows it.
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) lock_key: String,
    /// It is stored as data.
    pub(crate) stored: bool,
    /// The last runs that ended on this node, the newest first, at most ten.
    pub(crate) last_runs: Vec<LastRunView>,
}

/// Why a job does not fire.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct PauseView {
    /// `null`: until it is resumed.
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) note: Option<String>,
    pub(crate) by: Option<String>,
}

impl From<Pause> for PauseView {
    fn from(Pause { until, note, by }: Pause) -> Self {
        Self { until, note, by: by.map(|by| by.to_string()) }
    }
}

/// Who has overridden a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct OverrideView {
    /// The schedule of the code, in words.
    code: String,
    by: Option<String>,
    since: DateTime<Utc>,
    note: Option<String>,
}

impl From<&ScheduleOverride> for OverrideView {
    fn from(given: &ScheduleOverride) -> Self {
        Self {
            code: given.code.to_string(),
            by: given.by.as_ref().map(ToString::to_string),
            since: given.since,
            note: given.note.as_ref().map(ToString::to_string),
        }
    }
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct LastRunView {
    pub(crate) run: String,
    #[schema(value_type = String)]
    pub(crate) outcome: Outcome,
    pub(crate) started_at: DateTime<Utc>,
    #[serde(with = "crate::serde::duration")]
    #[schema(value_type = String)]
    pub(crate) took: Duration,
}

impl From<&LastRunStatus> for LastRunView {
    fn from(last: &LastRunStatus) -> Self {
        Self { run: id(last.run), outcome: last.outcome, started_at: last.started_at, took: last.took }
    }
}

pub(crate) fn scheduled(scheduled: &Scheduled) -> &'static str {
    match scheduled {
        Scheduled::Here => "here",
        Scheduled::ByLeader => "by_leader",
        Scheduled::NoLeader => "no_leader",
        Scheduled::WithoutLeader => "without_leader",
        Scheduled::OtherSchedule => "other_schedule",
        // Also what a later version of the engine adds.
        Scheduled::Unknown { .. } | _ => "unknown",
    }
}

impl Row {
    pub(crate) fn of(job: &JobStatus, overdue: bool) -> Self {
        let reason = job.broken.as_ref().or(job.parked.as_ref()).or(job.conflicting.as_ref());
        Self {
            name: job.name.to_string(),
            schedule: job.schedule.to_string(),
            timezone: job.timezone.clone(),
            state: job.state,
            tags: job.tags.iter().map(ToString::to_string).collect(),
            task: job.task.as_ref().map(|task| task.name.clone()),
            backend: job.backend.as_deref().map(str::to_owned),
            next_fire_time: instant(job.next_fire_time),
            scheduled: job.scheduled.as_ref().map(scheduled),
            pause: job.pause.clone().map(PauseView::from),
            running: job.active_runs.len(),
            waiting: job.waiting,
            failures: job.failures,
            overdue,
            reason: reason.map(|reason| reason.to_string()),
            overridden: job.overridden.as_ref().map(OverrideView::from),
            lock_key: job.lock_key.to_string(),
            stored: job.stored.is_some(),
            last_runs: job.last_runs.iter().map(LastRunView::from).collect(),
        }
    }

    /// Three or more runs in a row failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures >= callsheet_actors::FAILING_RUNS_MIN
    }
}
