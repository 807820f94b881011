//! How the supervisor shows in the metrics what becomes of each job: for alerts on jobs of which nothing is heard.
//!
//! Nothing of it is in the way of a run. The jobs that have a label of their own are asked what they do, page by
//! page, and what they answer is set. What the history knows of them is asked now and then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{join, join_all};

use super::{Phase, SupervisorActor, alarms::next_due};
use crate::{
    core::{sweep::Sweep, time::FireTime},
    event::Outcome,
    history::Recorder,
    job::{AsksSchedule, JobHandle, JobState, JobStatus},
    labels::Label,
    metrics::{JobFacts, SHOWN_EVERY},
    name::JobName,
    port::JobRecord,
};

/// How many jobs are asked at once.
const PAGE: usize = 100;

/// The pause between two pages.
const NEXT_PAGE: Duration = Duration::from_millis(100);

/// How old what the history says of a job may be, if not many are to be asked about.
const RECORD_FOR: Duration = Duration::from_mins(5);

/// About how many jobs of a page the history is asked.
const RECORDS_MAX: usize = 10;

/// The most descriptions of jobs that are shown in the life of a process: each is a series.
const DESCRIPTIONS_MAX: usize = 4_000;

/// The jobs that are shown.
#[derive(Default)]
pub(super) struct Shows {
    jobs: BTreeMap<JobName, Show>,
    sweep: Sweep<JobName>,
    descriptions: usize,
}

#[derive(Default)]
struct Show {
    /// In which it was shown last; `None` if it never was.
    state: Option<JobState>,
    /// The schedule, as it is shown.
    schedule: Option<Arc<str>>,
    /// What the history said, if it knew the job.
    recorded: Option<Box<Recorded>>,
    /// When the history was asked.
    asked_at: Option<Duration>,
}

/// What is shown of what the history says of a job.
struct Recorded {
    last_success: Option<DateTime<Utc>>,
    last_run: Option<DateTime<Utc>>,
    failures: u64,
}

impl Recorded {
    fn of(record: &JobRecord) -> Self {
        let last_run = record.last_run.map(|last| last.at);
        Self { last_success: record.last_success, last_run, failures: record.consecutive_failures }
    }
}

impl SupervisorActor {
    /// Shows a job that was added or changed, if it has a label of its own.
    pub(super) fn show(&mut self, job: &JobHandle) {
        let name = &job.definition.name;
        if job.definition.label() != Label::Own(name.as_str()) || !job.meters.is_own() {
            return self.hide(job);
        }
        let schedule = job.definition.description();
        let show = self.shows.jobs.entry(name.clone()).or_default();
        if show.schedule.as_ref() == Some(&schedule) {
            return;
        }
        if let Some(former) = show.schedule.take() {
            job.meters.describe(&former, false);
        }
        if self.shows.descriptions < DESCRIPTIONS_MAX {
            self.shows.descriptions += 1;
            job.meters.describe(&schedule, true);
            show.schedule = Some(schedule);
        }
    }

    /// The job was removed, or has another label from now on.
    pub(super) fn hide(&mut self, job: &JobHandle) {
        let Some(show) = self.shows.jobs.remove(&job.definition.name) else { return };
        if let Some(schedule) = show.schedule {
            job.meters.describe(&schedule, false);
        }
        if show.state.is_some() {
            job.meters.show(&JobFacts::default(), show.state);
        }
    }

    /// Shows one page of jobs after the other, for as long as the engine runs.
    pub(super) fn show_and_go_on(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.show_page(ctx);
        match self.shows.sweep.goes_on() {
            true => drop(ctx.run_later(NEXT_PAGE, Self::show_and_go_on)),
            false => drop(self.look_again(SHOWN_EVERY, ctx, Self::show_and_go_on)),
        }
    }

    fn show_page(&mut self, ctx: &mut Context<Self>) {
        let node = self.node().clone();
        let now = node.store_time();
        let oldest = node.overdue.first_undecided().map(|tick| (now - tick).to_std().unwrap_or_default());
        node.meters.oldest_undecided.set(oldest.unwrap_or_default().as_secs_f64());
        let (elapsed, recorder) = (node.clock.elapsed(), node.recorder.clone());
        let page: Vec<_> = self.shows.sweep.next_page(&self.shows.jobs, PAGE, |_| true);
        let names: Vec<_> = page.into_iter().map(|(name, _)| name.clone()).collect();
        let (mut asked, mut statuses) = (Vec::new(), Vec::new());
        let host = self.parts.jobs.clone();
        let held = host.placement.hold();
        for name in names {
            let Some(entry) = self.jobs.get(&name) else { continue };
            // Not by its actor: a schedule that panics would bring it down.
            statuses.push(self.status_with(entry, AsksSchedule::No));
            let Some(show) = self.shows.jobs.get_mut(&name).filter(|_| recorder.is_on()) else { continue };
            let is_old = show.asked_at.is_none_or(|at| elapsed.saturating_sub(at) >= RECORD_FOR);
            if is_old && asked.len() < RECORDS_MAX {
                show.asked_at = Some(elapsed);
                asked.push(name);
            }
        }
        drop(held);
        if statuses.is_empty() {
            return;
        }
        let answered = join(all_of(statuses), records(recorder, asked));
        ctx.spawn(answered.into_actor(self).map(|(statuses, records), actor, _| {
            for record in records {
                if let Some(show) = actor.shows.jobs.get_mut(&record.job) {
                    show.recorded = Some(Box::new(Recorded::of(&record)));
                }
            }
            statuses.iter().for_each(|status| actor.show_status(status));
        }));
    }

    fn show_status(&mut self, status: &JobStatus) {
        let name = &status.name;
        let Some((entry, show)) = self.jobs.get(name).zip(self.shows.jobs.get(name)) else { return };
        let mut facts = facts_of(status, show.recorded.as_deref(), self.fires_here(entry));
        // A schedule that may block would hold up this actor.
        let may_ask = status.broken.is_none() && !entry.job.definition.may_block;
        if facts.next_fire_time.is_none() && !self.fires_here(entry) && may_ask {
            facts.next_fire_time = next_due(&entry.job.definition, entry.job.wall()).map(FireTime::instant);
            if facts.state == Some(JobState::Exhausted) && facts.next_fire_time.is_some() {
                facts.state = Some(JobState::Standby);
            }
        }
        let (meters, former) = (entry.job.meters.clone(), show.state);
        meters.show(&facts, former);
        if let Some(show) = self.shows.jobs.get_mut(name) {
            show.state = facts.state;
        }
    }
}

/// The answers of jobs that were all asked.
///
/// The last one is waited for first: the others of its thread are there by then, so that this is not woken up for
/// each of them.
async fn all_of(statuses: Vec<impl Future<Output = JobStatus>>) -> Vec<JobStatus> {
    let mut answers = Vec::with_capacity(statuses.len());
    for status in statuses.into_iter().rev() {
        answers.push(status.await);
    }
    answers.reverse();
    answers
}

/// What the history says of jobs.
async fn records(recorder: Recorder, jobs: Vec<JobName>) -> Vec<JobRecord> {
    let reader = recorder.read().await;
    let records = jobs.into_iter().map(|job| reader.job(job));
    join_all(records).await.into_iter().filter_map(|record| record.ok()?).collect()
}

/// What is shown of a job. Of the runs of this node it knows itself, of others the history.
fn facts_of(status: &JobStatus, recorded: Option<&Recorded>, fires: bool) -> JobFacts {
    let ends = status.last_runs.iter().map(|run| {
        let took = TimeDelta::from_std(run.took).unwrap_or_default();
        (run.outcome, run.started_at.checked_add_signed(took).unwrap_or(run.started_at))
    });
    let newest = |ends: &mut dyn Iterator<Item = (Outcome, DateTime<Utc>)>| ends.map(|(_, at)| at).max();
    let success = newest(&mut ends.clone().filter(|(outcome, _)| *outcome == Outcome::Succeeded));
    let failures = u64::from(status.failures);
    let known = recorded.map_or(0, |recorded| recorded.failures);
    JobFacts {
        last_success: success.max(recorded.and_then(|recorded| recorded.last_success)),
        last_run: newest(&mut ends.clone()).max(recorded.and_then(|recorded| recorded.last_run)),
        next_fire_time: status.next_fire_time.map(|next| next.instant()),
        failures: if fires { failures } else { failures.max(known) },
        state: Some(status.state),
        is_paused: status.pause.is_some(),
        running_since: status.active_runs.iter().map(|run| run.started_at).min(),
        waiting: status.waiting,
    }
}
