//! How all of it is.

use callsheet_actors::{HealthReport, JobState};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    super::board::{overdue, overdue_counts},
    Row,
};

/// The most jobs that need attention in one answer.
const ATTENTION_MAX: usize = 50;
/// How many of the next fire times are shown.
const NEXT_MAX: usize = 10;

/// How the node is, and what needs attention.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Overview {
    pub(crate) now: DateTime<Utc>,
    node: String,
    name: String,
    backend: String,
    /// `local`, `leader` or `follower`.
    role: String,
    /// The node that leads, as this one has heard.
    leader: Option<String>,
    term: Option<String>,
    live: bool,
    ready: bool,
    healthy: bool,
    zone_data: String,
    /// `stands`, `reluctant`, or `{"withdrawn": {…}}`.
    #[schema(value_type = Value)]
    candidacy: Value,
    warning: Option<String>,
    /// What is wrong, each with `problem`, `reason`, `cure`, and perhaps `since`, `count`, `jobs`, `overdue`,
    /// `failing`.
    #[schema(value_type = Vec<Object>)]
    problems: Vec<Value>,
    jobs: Counts,
    /// How many runs are in progress on this node.
    running: usize,
    /// How many ticks and triggers wait on this node.
    waiting: usize,
    /// The worst first, at most 50.
    attention: Vec<Attention>,
    /// How many jobs need attention, without overdue ones that are not named.
    attention_total: usize,
    /// How many expectations of jobs are not met; a job may have several.
    overdue_total: usize,
    /// Of these, those of jobs that are not named, neither here nor in `api/jobs`: the engine names the first 10.
    overdue_unnamed: usize,
    next: Vec<NextView>,
    #[schema(value_type = Option<Object>)]
    catching_up: Option<Value>,
    /// When the jobs were looked at.
    pub(crate) as_of: DateTime<Utc>,
}

/// How many jobs are in which state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Counts {
    total: usize,
    scheduled: usize,
    standby: usize,
    paused: usize,
    running: usize,
    still_running: usize,
    exhausted: usize,
    conflicting: usize,
    parked: usize,
    broken: usize,
    unresponsive: usize,
}

impl Counts {
    fn add(&mut self, state: JobState) {
        self.total += 1;
        *match state {
            JobState::Scheduled => &mut self.scheduled,
            JobState::Standby => &mut self.standby,
            JobState::Paused => &mut self.paused,
            JobState::Running => &mut self.running,
            JobState::StillRunning => &mut self.still_running,
            JobState::Exhausted => &mut self.exhausted,
            JobState::Conflicting => &mut self.conflicting,
            JobState::Parked => &mut self.parked,
            JobState::Broken => &mut self.broken,
            JobState::Unresponsive => &mut self.unresponsive,
            // It is not listed; or a later version of the engine has it.
            JobState::Removed | _ => return,
        } += 1;
    }
}

/// A job that needs attention.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Attention {
    pub(crate) job: String,
    /// `broken`, `overdue`, `failing`, `parked`, `conflicting`, `unresponsive` or `still_running`.
    #[schema(value_type = String)]
    pub(crate) why: &'static str,
    text: Option<String>,
    /// Since when it is overdue.
    since: Option<DateTime<Utc>>,
}

/// A fire time that comes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct NextView {
    job: String,
    at: DateTime<Utc>,
}

/// Why a job needs attention, the worst first.
fn attention(row: &Row) -> Option<(u8, &'static str)> {
    match row.state {
        JobState::Broken => Some((0, "broken")),
        _ if row.overdue => Some((1, "overdue")),
        _ if row.is_failing() => Some((2, "failing")),
        JobState::Parked => Some((3, "parked")),
        JobState::Conflicting => Some((4, "conflicting")),
        JobState::Unresponsive => Some((5, "unresponsive")),
        JobState::StillRunning => Some((6, "still_running")),
        _ => None,
    }
}

impl Overview {
    pub(crate) fn of<'a>(
        health: &HealthReport,
        rows: impl Iterator<Item = &'a Row> + Clone,
        as_of: DateTime<Utc>,
    ) -> Self {
        let mut jobs = Counts::default();
        rows.clone().for_each(|row| jobs.add(row.state));
        let mut worst: Vec<_> = rows.clone().filter_map(|row| Some((attention(row)?, row))).collect();
        worst.sort_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
        let attention_total = worst.len();
        let (overdue_total, overdue_unnamed) = overdue_counts(health);
        let attention = worst.into_iter().take(ATTENTION_MAX).map(|((_, why), row)| {
            let (text, since) = told(row, why, health);
            Attention { job: row.name.clone(), why, text, since }
        });
        let mut next: Vec<_> = rows.clone().filter_map(|row| Some((row.next_fire_time?, row))).collect();
        next.retain(|(_, row)| row.pause.is_none());
        next.sort_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
        let next = next.into_iter().take(NEXT_MAX).map(|(at, row)| NextView { job: row.name.clone(), at });
        Self {
            now: Utc::now(),
            node: health.node.to_string(),
            name: health.name.clone(),
            backend: health.backend.clone(),
            role: health.role.to_string(),
            leader: health.leader.map(|leader| leader.to_string()),
            term: health.term.map(|term| term.to_string()),
            live: health.live,
            ready: health.ready,
            healthy: health.healthy,
            zone_data: health.zone_data.clone(),
            candidacy: shown(&health.candidacy),
            warning: health.warning.clone(),
            problems: health.problems.iter().map(shown).collect(),
            jobs,
            running: rows.clone().map(|row| row.running).sum(),
            waiting: rows.map(|row| row.waiting).sum(),
            attention: attention.collect(),
            attention_total,
            overdue_total,
            overdue_unnamed,
            next: next.collect(),
            catching_up: health.catching_up.as_ref().map(shown),
            as_of,
        }
    }

    /// Whether it tells the same, but for the time.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        Self { now: other.now, as_of: other.as_of, ..self.clone() } == *other
    }
}

/// What there is to say of why a job needs attention, and since when it does.
fn told(row: &Row, why: &str, health: &HealthReport) -> (Option<String>, Option<DateTime<Utc>>) {
    match why {
        "failing" => (Some(format!("{} times in a row", row.failures)), None),
        "overdue" => {
            let overdue = overdue(health).find(|overdue| overdue.job.as_str() == row.name);
            overdue.map(|overdue| (format!("no {} in time", overdue.expectation), overdue.since)).unzip()
        }
        _ => (row.reason.clone(), None),
    }
}

fn shown(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
