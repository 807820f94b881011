//! How the supervisor shows in the metrics what becomes of each job: for alerts on jobs of which nothing is heard.
//!
//! Nothing of it is in the way of a run. The jobs that have a label of their own are asked what they do, page by
//! page, and what they answer is set. What the history knows of them is asked now and then, for many at once.
//! While nobody keeps metrics, nothing is done.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Phase, SupervisorActor, alarms::next_due};
use crate::{
    core::{sweep::Sweep, time::FireTime},
    event::Outcome,
    job::{AsksSchedule, JobHandle, JobState, JobStatus},
    labels::Label,
    metrics::{JobFacts, SHOWN_EVERY},
    name::JobName,
    port::{LAST_ENDS_MAX, LastEnds},
};

/// How many jobs are asked at once.
const PAGE: usize = 100;

/// The pause between two pages.
const NEXT_PAGE: Duration = Duration::from_millis(100);

/// How old what the history says of a job may be, if not many are to be asked about: before each walk it is
/// asked one question, about at most [`LAST_ENDS_MAX`] jobs.
const ENDS_FOR: Duration = Duration::from_mins(5);

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
    /// When a run succeeded last, as it is shown: this node forgets it sooner than the history tells it.
    last_success: Option<DateTime<Utc>>,
    /// What the history said last.
    ends: Option<Box<LastEnds>>,
    /// When the history was asked.
    asked_at: Option<Duration>,
}

impl Shows {
    /// The jobs of which nothing is known yet, or what is known is old.
    fn about_whom_to_ask(&mut self, now: Duration) -> Vec<JobName> {
        let is_old = |show: &Show| show.asked_at.is_none_or(|at| now.saturating_sub(at) >= ENDS_FOR);
        let old = self.jobs.iter_mut().filter(|(_, show)| is_old(show)).take(LAST_ENDS_MAX);
        old.map(|(name, show)| {
            show.asked_at = Some(now);
            name.clone()
        })
        .collect()
    }

    fn know(&mut self, ends: LastEnds) {
        if let Some(show) = self.jobs.get_mut(&ends.job) {
            show.ends = Some(Box::new(ends));
        }
    }

    /// There was no answer: they are asked about before the next walk.
    fn ask_again(&mut self, jobs: &[JobName]) {
        for name in jobs {
            if let Some(show) = self.jobs.get_mut(name) {
                show.asked_at = None;
            }
        }
    }
}

impl SupervisorActor {
    /// Shows a job that was added or changed, if it has a label of its own.
    pub(super) fn show(&mut self, job: &JobHandle) {
        if !self.node().meters.are_kept {
            return;
        }
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
        if !matches!(self.phase, Phase::Running) || !self.node().meters.are_kept {
            return;
        }
        if !self.shows.sweep.goes_on() {
            self.ask_for_ends(ctx);
        }
        self.show_page(ctx);
        match self.shows.sweep.goes_on() {
            true => drop(ctx.run_later(NEXT_PAGE, Self::show_and_go_on)),
            false => drop(self.look_again(SHOWN_EVERY, ctx, Self::show_and_go_on)),
        }
    }

    /// Asks the history about jobs of which what it said is old.
    fn ask_for_ends(&mut self, ctx: &mut Context<Self>) {
        let (recorder, now) = (self.node().recorder.clone(), self.node().clock.elapsed());
        if !recorder.is_on() {
            return;
        }
        let asked = self.shows.about_whom_to_ask(now);
        if asked.is_empty() {
            return;
        }
        let about = asked.clone();
        let ends = async move { recorder.last_ends(about).await };
        ctx.spawn(ends.into_actor(self).map(move |ends, actor, _| match ends {
            Ok(ends) => ends.into_iter().for_each(|ends| actor.shows.know(ends)),
            Err(_) => actor.shows.ask_again(&asked),
        }));
    }

    fn show_page(&mut self, ctx: &mut Context<Self>) {
        self.show_turns();
        let page = self.shows.sweep.next_page(&self.shows.jobs, PAGE, |_| true);
        let entries = page.into_iter().filter_map(|(name, _)| self.jobs.get(name));
        let host = self.parts.jobs.clone();
        let held = host.placement.hold();
        // Not by its actor: a schedule that panics would bring it down.
        let statuses: Vec<_> = entries.map(|entry| self.status_with(entry, AsksSchedule::No)).collect();
        drop(held);
        if statuses.is_empty() {
            return;
        }
        ctx.spawn(all_of(statuses).into_actor(self).map(|statuses, actor, _| {
            statuses.iter().for_each(|status| actor.show_status(status));
        }));
    }

    fn show_status(&mut self, status: &JobStatus) {
        let name = &status.name;
        let Some((entry, show)) = self.jobs.get(name).zip(self.shows.jobs.get(name)) else { return };
        let mut facts = facts_of(status, show.ends.as_deref(), self.fires_here(entry));
        // A schedule that may block would hold up this actor.
        let may_ask = status.broken.is_none() && !entry.job.definition.may_block;
        if facts.next_fire_time.is_none() && !self.fires_here(entry) && may_ask {
            facts.next_fire_time = next_due(&entry.job.definition, entry.job.wall()).map(FireTime::instant);
            if facts.state == Some(JobState::Standby) && facts.next_fire_time.is_none() {
                facts.state = Some(JobState::Exhausted);
            }
        }
        facts.last_success = facts.last_success.max(show.last_success);
        let (meters, former) = (entry.job.meters.clone(), show.state);
        meters.show(&facts, former);
        if let Some(show) = self.shows.jobs.get_mut(name) {
            (show.state, show.last_success) = (facts.state, facts.last_success);
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

/// What is shown of a job. Of the runs of this node it knows itself, of others the history.
fn facts_of(status: &JobStatus, ends_known: Option<&LastEnds>, fires: bool) -> JobFacts {
    let ends = status.last_runs.iter().map(|run| {
        let took = TimeDelta::from_std(run.took).unwrap_or_default();
        (run.outcome, run.started_at.checked_add_signed(took).unwrap_or(run.started_at))
    });
    let newest = |ends: &mut dyn Iterator<Item = (Outcome, DateTime<Utc>)>| ends.map(|(_, at)| at).max();
    let success = newest(&mut ends.clone().filter(|(outcome, _)| *outcome == Outcome::Succeeded));
    let failures = u64::from(status.failures);
    let failures_known = ends_known.map_or(0, |known| known.consecutive_failures);
    JobFacts {
        last_success: success.max(ends_known.and_then(|known| known.last_success)),
        last_run: newest(&mut ends.clone()).max(ends_known.and_then(|known| known.last_run)),
        next_fire_time: status.next_fire_time.map(|next| next.instant()),
        failures: if fires { failures } else { failures.max(failures_known) },
        state: Some(status.state),
        is_paused: status.pause.is_some(),
        running_since: status.active_runs.iter().map(|run| run.started_at).min(),
        waiting: status.waiting,
    }
}
