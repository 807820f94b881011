//! How the supervisor watches what is expected of jobs.
//!
//! [`Alarm`] decides what is overdue, and when it is to be asked next. Here it is asked: when the time has come,
//! when the job's actor says that something has changed, and when a clock was set. There is one timer for all
//! jobs. What other nodes did is known from what leaders say, and from the history.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::{SupervisorActor, asked_schedules::AskedSchedules, backfills::call};
use crate::{
    alarm::JobAlarm,
    core::{
        alarm::{Alarm, Change, Expectation, Expectations, Judgement, Paused, Slack},
        contract::{MILLISECOND, next_after},
        policy::Fires,
        time::FireTime,
    },
    definition::Definition,
    event::EventKind,
    health::{OverdueJob, PROBLEM_JOBS_MAX, Problem},
    history::Recorder,
    hooks::OverdueAlarm,
    job::{JobHandle, overdue},
    name::JobName,
    overdue::undecided_max,
    port::{Backfills, Decision, Decisions, HistoryError, JobRecord, RunHistory, RunOrigin, SkipReason},
};

/// How many alarms are looked at before other messages are handled.
const LOOKS_MAX: usize = 1_000;

/// How many questions to the history are open at once.
const QUESTIONS_MAX: usize = 16;

/// How many of the newest runs, and of the newest decisions, are asked for.
const NEWEST: usize = 5;

/// How long the store is asked for the cursor of a job: an alarm that goes off waits for it.
const CURSOR_DEADLINE: Duration = Duration::from_secs(1);

/// The longest time for which the timer is set: waking up early is harmless.
const SLEEP_MAX: Duration = Duration::from_hours(24);

/// The jobs of which something is expected.
#[derive(Default)]
pub(super) struct Watch {
    /// When each is looked at next, by the monotonic clock.
    looks: BTreeSet<(Duration, JobName)>,
    planned: BTreeMap<JobName, Duration>,
    timer: Option<(Duration, SpawnHandle)>,
    /// About which the history is being asked.
    asking: usize,
    /// Whose schedules are being asked.
    pub(super) schedules: AskedSchedules,
    /// Those of which something is overdue.
    overdue: BTreeSet<JobName>,
    /// Those whose starts are, and since when.
    late: BTreeSet<(DateTime<Utc>, JobName)>,
}

impl Watch {
    pub(super) fn plan(&mut self, job: &JobName, at: Option<Duration>) {
        let before = match at {
            Some(at) => self.planned.insert(job.clone(), at),
            None => self.planned.remove(job),
        };
        if let Some(before) = before {
            self.looks.remove(&(before, job.clone()));
        }
        if let Some(at) = at {
            self.looks.insert((at, job.clone()));
        }
    }
}

impl SupervisorActor {
    /// What is expected of a job.
    fn expected(&self, definition: &Definition) -> Expectations {
        let expected = definition.expected();
        Expectations { start: expected.start.or(self.parts.overdue_after), ..expected }
    }

    /// Gives a definition its alarm, if anything is expected of its job: that of the definition before, if there
    /// is one.
    pub(super) fn give_alarm(&self, definition: &mut Definition, former: Option<&Definition>) {
        let expected = self.expected(definition);
        if expected.is_empty() {
            return definition.set_alarm(None);
        }
        let now = match definition.policies.fires {
            Fires::Leader | Fires::AnyNode => self.node().store_time(),
            Fires::Local => self.node().clock.now(),
        };
        let alarm = match former.and_then(|former| Some((former, former.alarm()?))) {
            Some((former, alarm)) => {
                let is_rescheduled = former.identity.differs_from(definition.identity);
                alarm.lock().redefine(expected, is_rescheduled, now);
                alarm.clone()
            }
            None => Arc::new(JobAlarm::new(Alarm::new(expected, now))),
        };
        definition.set_alarm(Some(alarm));
    }

    /// Watches what is expected of a job that was added or changed.
    pub(super) fn watch(&mut self, job: &Arc<JobHandle>, ctx: &mut Context<Self>) {
        if job.definition.alarm().is_some() {
            self.look_at_alarm_now(job, ctx);
        } else {
            self.forget_alarm(job);
        }
    }

    /// Nothing is expected of a job any more: it was removed, or changed.
    pub(super) fn forget_alarm(&mut self, job: &JobHandle) {
        self.watch.plan(&job.definition.name, None);
        if let Some(alarm) = job.definition.alarm() {
            for (_, since) in alarm.lock().overdue() {
                self.watch.late.remove(&(since, job.definition.name.clone()));
            }
        }
        self.say_late();
        if self.watch.overdue.remove(&job.definition.name) {
            job.meters.overdue().decrement(1.0);
        }
    }

    /// Looks at an alarm as soon as what waits before it is handled.
    pub(super) fn look_at_alarm_now(&mut self, job: &JobHandle, ctx: &mut Context<Self>) {
        let name = &job.definition.name;
        if self.jobs.get(name).is_some_and(|entry| entry.job.instance == job.instance) {
            let now = self.node().clock.elapsed();
            self.watch.plan(name, Some(now));
            self.set_alarm_timer(ctx);
        }
    }

    /// A clock was set: the instants of all alarms are others.
    pub(super) fn look_at_all_alarms(&mut self, ctx: &mut Context<Self>) {
        let now = self.node().clock.elapsed();
        for at in self.watch.planned.values_mut() {
            *at = now;
        }
        self.watch.looks = self.watch.planned.keys().map(|job| (now, job.clone())).collect();
        self.set_alarm_timer(ctx);
    }

    pub(super) fn set_alarm_timer(&mut self, ctx: &mut Context<Self>) {
        let first = self.watch.looks.first().map(|(at, _)| *at);
        if self.watch.timer.as_ref().map(|(at, _)| *at) == first {
            return;
        }
        if let Some((_, timer)) = self.watch.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = first {
            let wait = at.saturating_sub(self.node().clock.elapsed()).min(SLEEP_MAX);
            let timer = ctx.run_later(wait, |actor, ctx| {
                actor.watch.timer = None;
                actor.look_at_alarms(ctx);
            });
            self.watch.timer = Some((at, timer));
        }
    }

    /// Looks at the alarms whose time has come.
    fn look_at_alarms(&mut self, ctx: &mut Context<Self>) {
        let now = self.node().clock.elapsed();
        for _ in 0..LOOKS_MAX {
            let due =
                self.watch.looks.first().filter(|(at, _)| *at <= now && self.watch.asking < QUESTIONS_MAX);
            let Some((_, name)) = due.cloned() else { break };
            self.watch.plan(&name, None);
            self.look_at_alarm(&name, None, ctx);
        }
        // Whoever is answered by the history looks at those that wait.
        if self.watch.asking < QUESTIONS_MAX {
            self.set_alarm_timer(ctx);
        }
    }

    /// Looks at an alarm, with what the history says if it was asked.
    fn look_at_alarm(&mut self, name: &JobName, said: Option<Said>, ctx: &mut Context<Self>) {
        let Some(job) = self.jobs.get(name).map(|entry| entry.job.clone()) else { return };
        let Some(alarm) = job.definition.alarm() else { return };
        let now = job.wall();
        let decided = self.decided_by_leader(&job);
        let is_asked = said.is_some() || !self.may_ask_history(&job);
        {
            let mut alarm = alarm.lock();
            if let Some(decided) = decided {
                alarm.leader_decided(decided);
            }
            if let Some(Said { record, decided }) = said {
                if let Some(decided) = decided {
                    alarm.leader_decided(decided);
                }
                if let Ok(record) = record {
                    let (success, pause) =
                        record.map_or((None, None), |record| (record.last_success, record.pause));
                    let pause = pause.filter(|pause| pause.until.is_none_or(|until| now < until));
                    alarm.history_says(success, pause.map(|pause| Paused { until: pause.until }), now);
                }
            }
        }
        self.look_at_next_tick(&job, is_asked, ctx);
    }

    /// Judges the alarm of a job by its first tick that is not decided, which the schedule may have to be asked for.
    pub(super) fn look_at_next_tick(
        &mut self,
        job: &Arc<JobHandle>,
        is_asked: bool,
        ctx: &mut Context<Self>,
    ) {
        let Some(alarm) = job.definition.alarm() else { return };
        let (after, known) = alarm.lock().due_after(job.wall());
        let due = match known {
            Some(known) => Some(known),
            None if job.definition.may_block => return self.ask_schedule(job.clone(), after, is_asked, ctx),
            None => next_due(&job.definition, after),
        };
        self.judge_alarm(job, due, is_asked, ctx);
    }

    /// Says what is overdue of a job whose first tick that is not decided is known.
    pub(super) fn judge_alarm(
        &mut self,
        job: &Arc<JobHandle>,
        due: Option<FireTime>,
        is_asked: bool,
        ctx: &mut Context<Self>,
    ) {
        let Some(alarm) = job.definition.alarm() else { return };
        let (name, now) = (&job.definition.name, job.wall());
        let slack = undecided_max(self.parts.lease);
        let turn_by = self.turn_by(job);
        let judgement = alarm.lock().judge(now, due, Slack { elsewhere: slack, turn_by }, is_asked);
        match judgement {
            Judgement::AskHistory => self.ask_history(job, ctx),
            Judgement::Known(changes) => {
                changes.into_iter().for_each(|change| self.on_alarm_changed(job, change));
                self.count_overdue(job, alarm.lock().is_overdue());
                let look_at = alarm.lock().look_at(now, self.parts.lease);
                let at = look_at.map(|at| self.node().clock.elapsed() + wait_until(at, now));
                self.watch.plan(name, at);
            }
        }
    }

    /// All that was due by this instant is decided, as a leader said; what this node says itself does not
    /// count.
    fn decided_by_leader(&self, job: &JobHandle) -> Option<DateTime<Utc>> {
        if !self.is_decided_by_leader(job) {
            return None;
        }
        let (node, now) = (self.node(), self.node().clock.elapsed());
        let ago = now.saturating_sub(node.overdue.all_decided_at()?);
        node.store_time().checked_sub_signed(TimeDelta::from_std(ago).ok()?)
    }

    /// Another node decides the ticks of the job, if any does.
    pub(super) fn is_decided_by_leader(&self, job: &JobHandle) -> bool {
        self.term.is_none() && job.definition.policies.fires == Fires::Leader
    }

    /// The history of a job that each node fires for itself is that of all nodes.
    fn may_ask_history(&self, job: &JobHandle) -> bool {
        let is_of_all = job.definition.policies.fires != Fires::Local;
        is_of_all && (self.node().recorder.is_on() || self.cursor_store(job).is_some())
    }

    /// Where the cursor of a job stands of which another node decides the ticks: a leader that makes up for missed ticks,
    /// or has died, does not say of any that all is decided.
    pub(super) fn cursor_store(&self, job: &JobHandle) -> Option<Arc<dyn Backfills>> {
        let is_asked = self.connected && self.is_decided_by_leader(job);
        self.parts.backfills.clone().filter(|_| is_asked)
    }

    fn ask_history(&mut self, job: &Arc<JobHandle>, ctx: &mut Context<Self>) {
        self.watch.asking += 1;
        let (recorder, name) = (self.node().recorder.clone(), job.definition.name.clone());
        let (asked, store) = (name.clone(), self.cursor_store(job));
        let said = async move {
            let record = recorder.read().await.job(asked.clone()).await;
            let decided = if record.is_ok() { newest_decided(&recorder, asked.clone()).await } else { None };
            let cursor = match store {
                Some(store) => cursor_in(&*store, &asked).await,
                None => None,
            };
            Said { record, decided: decided.max(cursor) }
        };
        ctx.spawn(said.into_actor(self).map(move |said, actor, ctx| {
            actor.watch.asking -= 1;
            actor.look_at_alarm(&name, Some(said), ctx);
            actor.set_alarm_timer(ctx);
        }));
    }

    /// Leaders tell others.
    fn say_late(&self) {
        self.node().overdue.set_late(self.watch.late.first().map(|(since, _)| *since));
    }

    fn on_alarm_changed(&mut self, job: &Arc<JobHandle>, change: Change) {
        let Change { expectation, since, is_overdue } = change;
        let name = job.definition.name.clone();
        if expectation == Expectation::Start {
            let late = (since, name.clone());
            let _ = if is_overdue { self.watch.late.insert(late) } else { self.watch.late.remove(&late) };
            self.say_late();
        }
        if !is_overdue {
            return self.publish(|| EventKind::JobRecovered { job: name, expectation, since });
        }
        let within = self.expected(&job.definition).within(expectation).unwrap_or_default();
        self.publish(|| EventKind::JobOverdue { job: name, expectation, within, since });
        overdue(job, |job| OverdueAlarm { job, expectation, within, since });
    }

    fn count_overdue(&mut self, job: &JobHandle, is_overdue: bool) {
        let name = &job.definition.name;
        if is_overdue && self.watch.overdue.insert(name.clone()) {
            job.meters.overdue().increment(1.0);
        } else if !is_overdue && self.watch.overdue.remove(name) {
            job.meters.overdue().decrement(1.0);
        }
    }

    /// The jobs of which something is overdue.
    pub(super) fn overdue_problem(&self) -> Option<Problem> {
        let (mut jobs, mut count) = (Vec::new(), 0);
        for name in &self.watch.overdue {
            let alarm = self.jobs.get(name).and_then(|entry| entry.job.definition.alarm());
            let Some(alarm) = alarm else { continue };
            for (expectation, since) in alarm.lock().overdue() {
                count += 1;
                if jobs.len() < PROBLEM_JOBS_MAX {
                    jobs.push(OverdueJob { job: name.clone(), expectation, since });
                }
            }
        }
        (count > 0).then_some(Problem::Overdue { jobs, count })
    }
}

/// What the history says of a job.
struct Said {
    record: Result<Option<JobRecord>, HistoryError>,
    /// The newest tick that was started, or skipped by a policy.
    decided: Option<DateTime<Utc>>,
}

/// Up to where the ticks of a job are decided, if the store says so in time.
pub(super) async fn cursor_in(store: &dyn Backfills, job: &JobName) -> Option<DateTime<Utc>> {
    timeout(CURSOR_DEADLINE, call(store.decided_to(job))).await.ok()?.ok()?
}

/// The newest tick of a job that was started, or skipped by a policy, as the history says.
async fn newest_decided(recorder: &Recorder, job: JobName) -> Option<DateTime<Utc>> {
    let reader = recorder.read().await;
    let runs = reader.runs(RunHistory::new().job(job.clone()).limit(NEWEST)).await.unwrap_or_default().runs;
    let started = runs.into_iter().filter(|run| run.origin == RunOrigin::Tick && run.started_at.is_some());
    let started = started.filter_map(|run| run.fire_time).max();
    let asked = Decisions { job: Some(job), limit: NEWEST, ..Decisions::default() };
    let decisions = reader.decisions(asked).await.unwrap_or_default().decisions;
    let skipped = decisions.into_iter().filter(|decision| match &decision.decision {
        Decision::Skipped { reason, .. } => *reason != SkipReason::Parked,
        Decision::Vetoed { .. }
        | Decision::TriggerRefused { .. }
        | Decision::LeaderGap { .. }
        | Decision::ClockStepped { .. }
        | Decision::RecordsDropped { .. }
        | Decision::RunLost { .. } => false,
    });
    started.max(skipped.filter_map(|decision| decision.fire_time).max()).map(FireTime::instant)
}

/// The first fire time after an instant. Of a schedule that panics or breaks its contract nobody knows: nothing
/// is decided from there on.
pub(super) fn next_due(definition: &Definition, after: DateTime<Utc>) -> Option<FireTime> {
    let asked = catch_unwind(AssertUnwindSafe(|| next_after(&*definition.schedule, after)));
    match asked {
        Ok(Ok(next)) => next,
        Ok(Err(_)) | Err(_) => unknown_after(after),
    }
}

/// What stands for a fire time that nobody knows.
pub(super) fn unknown_after(after: DateTime<Utc>) -> Option<FireTime> {
    after.checked_add_signed(MILLISECOND).map(FireTime::new)
}

/// The instant so long after another one.
pub(super) fn after(instant: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    let wait = TimeDelta::from_std(wait).ok();
    wait.and_then(|wait| instant.checked_add_signed(wait)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// From now until an instant, in whole milliseconds, rounded up.
fn wait_until(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    let wait = (at - now).to_std().unwrap_or_default();
    Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
}
