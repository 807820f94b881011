//! What a job says of itself.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{message::AsksSchedule, scheduled::Scheduled};
use crate::{
    core::{
        contract::Breach,
        job::{ActiveRun, JobMachine, LastRun, RunPhase},
        policy::Policies,
        reported::Reported,
        time::{FireTime, Now},
    },
    definition::Definition,
    event::{CancelReason, Outcome},
    job_state::JobState,
    name::{JobName, LockKey, RunId, Tag},
    port::{Pause, SkipReason},
    run::Run,
    schedule_override::ScheduleOverride,
    task::TaskCall,
};

/// A job, as its node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The name.
    pub name: JobName,
    /// The name of its backend: see [`Job::on`](crate::Job::on). `None` is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Arc<str>>,
    /// The schedule in words.
    pub schedule: Arc<str>,
    /// The IANA name of the schedule's time zone, if it has one.
    pub timezone: Option<String>,
    /// What a run excludes.
    pub lock_key: LockKey,
    /// The labels by which it is selected.
    pub tags: Vec<Tag>,
    /// The policies.
    pub policies: Policies,
    /// What it is doing.
    pub state: JobState,
    /// The next fire time by the schedule of this node, whichever node fires it; `None` if there is none or
    /// if it is not known. The leader's is another one if `scheduled` says
    /// [`OtherSchedule`](Scheduled::OtherSchedule): then ask the leader.
    pub next_fire_time: Option<FireTime>,
    /// Who fires it, as the store says; `None` of a job that was removed.
    #[serde(flatten)]
    pub scheduled: Option<Scheduled>,
    /// Why, and for how long, it does not fire; `None` if it is not paused, or if this node does not know.
    pub pause: Option<Pause>,
    /// The runs in progress on this node, in the order in which they started.
    pub active_runs: Vec<ActiveRunStatus>,
    /// The runs in progress on this node of former jobs of this name, which were removed, the oldest first.
    /// They hold the lock keys that they were granted: where the key is the same, ticks and triggers overlap
    /// with them.
    pub former_runs: Vec<ActiveRunStatus>,
    /// How many ticks and manual triggers wait on this node for their turn.
    pub waiting: usize,
    /// The last runs that ended on this node, the newest first, at most ten.
    pub last_runs: Vec<LastRunStatus>,
    /// How many runs in a row failed, panicked or timed out, as far as this node knows.
    pub failures: u32,
    /// Why this node does not fire it: the other policy, or the other name and who fires that. `None` unless it is
    /// [conflicting](JobState::Conflicting), perhaps with a run in progress.
    pub conflicting: Option<Arc<str>>,
    /// What the store says that refuses it; `None` unless it is [parked](JobState::Parked), perhaps with a
    /// run in progress.
    pub parked: Option<Arc<str>>,
    /// What broke it; `None` unless it is [broken](JobState::Broken).
    pub broken: Option<Arc<str>>,
    /// The ticks that came due during its pause, and wait for the end of it; `None` if there is none on this
    /// node.
    pub held: Option<HeldStatus>,
    /// The task that it runs, with the arguments of each run that has none of its own; `None` if its body is code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskCall>,
    /// Its version in the catalogue, if it is a [stored](crate::PutJob) one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// What an operator has put in the place of the schedule that code says; `None` if it fires by that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<ScheduleOverride>,
}

/// Ticks that are due and wait for the end of a pause: see [`Misfire`](crate::Misfire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldStatus {
    /// How many, at least 1.
    pub count: usize,
    /// The first of them.
    pub oldest: FireTime,
    /// The last of them.
    pub newest: FireTime,
    /// Why they wait: what they are skipped with, unless they run.
    pub reason: SkipReason,
}

impl HeldStatus {
    fn of(machine: &JobMachine) -> Option<Self> {
        let (oldest, last) = (machine.held().next()?, machine.held().last()?);
        Some(Self { count: machine.held().count(), oldest, newest: last, reason: SkipReason::Paused })
    }
}

/// A run in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActiveRunStatus {
    /// The run.
    pub run: RunId,
    /// The tick; `None` for a manual trigger.
    pub fire_time: Option<FireTime>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// The number of the attempt that is in progress, from 1; while none is, of the next one.
    pub attempt: u32,
    /// What it does.
    pub phase: RunPhase,
    /// Why it was asked to stop; `Some` while it is [stopping](RunPhase::Stopping) or
    /// [still running](RunPhase::StillRunning).
    pub cancelled: Option<CancelReason>,
    /// What its body said of the attempt in progress: see [`Run::report`].
    #[serde(default, skip_serializing_if = "Reported::is_empty")]
    pub reported: Reported,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LastRunStatus {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// When its body started.
    pub started_at: DateTime<Utc>,
    /// How long its body took.
    #[serde(with = "crate::serde::duration")]
    pub took: Duration,
}

impl JobStatus {
    /// What the machine of a job says of it.
    pub(super) fn of(
        definition: &Definition,
        machine: &JobMachine,
        running: &[Run],
        now: Now,
        asks_schedule: AsksSchedule,
    ) -> Self {
        let next = match asks_schedule {
            AsksSchedule::Yes => machine.next_of_any_node(now.wall).map(|next| (next, next.is_some())),
            AsksSchedule::No => {
                let next = machine.next_fire_time().filter(|_| !machine.is_exhausted());
                // A node that does not decide the ticks does not know that none is to come.
                Ok((next, next.is_some() || !(machine.fires() || machine.is_exhausted())))
            }
        };
        let (next, has_next) = match next {
            Ok(next) => next,
            Err(breach) => {
                return Self::of_machine(definition, machine, running, now).broken(breach_of(breach));
            }
        };
        let state = Doing::of(machine, has_next).state();
        Self { next_fire_time: next, state, ..Self::of_machine(definition, machine, running, now) }
    }

    fn of_machine(definition: &Definition, machine: &JobMachine, running: &[Run], now: Now) -> Self {
        Self {
            pause: machine.pause().cloned(),
            active_runs: machine.active_runs().map(|run| ActiveRunStatus::of(run, running, now)).collect(),
            waiting: machine.waiting(),
            last_runs: machine.last_runs().map(LastRunStatus::from).collect(),
            failures: machine.failures(),
            held: HeldStatus::of(machine),
            ..Self::without_actor(definition, JobState::Standby)
        }
    }

    /// What is known without asking the job's actor.
    pub(crate) fn without_actor(definition: &Definition, state: JobState) -> Self {
        Self {
            name: definition.name.clone(),
            backend: None,
            schedule: definition.description(),
            timezone: definition.schedule.timezone().map(str::to_owned),
            lock_key: definition.key.clone(),
            tags: definition.tags().to_vec(),
            policies: *definition.policies,
            state,
            next_fire_time: None,
            scheduled: None,
            pause: None,
            active_runs: Vec::new(),
            former_runs: Vec::new(),
            waiting: 0,
            last_runs: Vec::new(),
            failures: 0,
            conflicting: None,
            broken: None,
            held: None,
            parked: None,
            task: definition.task().map(|task| task.call().clone()),
            stored: None,
            overridden: None,
        }
    }

    /// The status of a job that does not fire until it is mended.
    pub(crate) fn broken(self, reason: Arc<str>) -> Self {
        Self { state: JobState::Broken, next_fire_time: None, broken: Some(reason), ..self }
    }

    /// The status of a job that was removed, while runs of it go on.
    pub(crate) fn removed(self) -> Self {
        Self { state: JobState::Removed, next_fire_time: None, ..self }
    }

    /// The status of a job that this node may not fire.
    pub(crate) fn conflicting(self, reason: Arc<str>) -> Self {
        let state = match self.state {
            JobState::Scheduled | JobState::Standby => JobState::Conflicting,
            other => other,
        };
        Self { state, conflicting: Some(reason), ..self }
    }

    /// The status of a job that the store refuses.
    pub(crate) fn parked(self, reason: Arc<str>) -> Self {
        let state = match self.state {
            JobState::Scheduled | JobState::Standby | JobState::Paused => JobState::Parked,
            other => other,
        };
        Self { state, parked: Some(reason), ..self }
    }
}

impl ActiveRunStatus {
    fn of(run: &ActiveRun, running: &[Run], now: Now) -> Self {
        let attempt = running.iter().find(|attempt| attempt.id() == run.run);
        Self {
            run: run.run,
            fire_time: run.tick,
            started_at: run.started_at,
            attempt: run.current_attempt(),
            phase: run.phase(now),
            cancelled: run.cancelled(),
            reported: attempt.map(Run::reported).unwrap_or_default(),
        }
    }
}

impl From<&LastRun> for LastRunStatus {
    fn from(last: &LastRun) -> Self {
        let LastRun { run, outcome, started_at, took, .. } = *last;
        Self { run, outcome, started_at, took }
    }
}

/// Why a job is broken whose schedule answered so, and the cure.
pub(crate) fn breach_of(breach: Breach) -> Arc<str> {
    format!(
        "its schedule breaks the contract of `Schedule`: {breach}; mend it, then update the job or resume it"
    )
    .into()
}

/// What a job is doing, as far as its machine knows.
#[derive(Debug, Clone, Copy)]
struct Doing {
    runs: bool,
    /// A run was aborted and has not ended.
    still_runs: bool,
    is_paused: bool,
    /// This node fires it.
    fires: bool,
    has_next: bool,
}

impl Doing {
    fn of(machine: &JobMachine, has_next: bool) -> Self {
        Self {
            runs: machine.active_runs().len() > 0,
            still_runs: machine.active_runs().any(|run| run.aborted),
            is_paused: machine.pause().is_some(),
            fires: machine.fires(),
            has_next,
        }
    }

    fn state(self) -> JobState {
        match self {
            Self { still_runs: true, .. } => JobState::StillRunning,
            Self { runs: true, .. } => JobState::Running,
            Self { is_paused: true, .. } => JobState::Paused,
            Self { has_next: false, .. } => JobState::Exhausted,
            Self { fires: true, .. } => JobState::Scheduled,
            Self { fires: false, .. } => JobState::Standby,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Job,
        core::job::NodeBounds,
        name::{NodeId, RunIds},
        testkit::fakes::Period,
    };

    #[test]
    fn a_node_that_decides_no_ticks_and_asks_nobody_calls_no_job_exhausted() {
        let wall = DateTime::UNIX_EPOCH;
        let job = Job::new("job", Period::hours(1)).run(async |_| {});
        let definition = job.define(wall, &mut None, None).expect("it is one");
        let bounds = NodeBounds { runs: false, catch_ups: false };
        let (schedule, policies) = (definition.schedule.clone(), definition.policies.clone());
        let machine = JobMachine::new(schedule, policies, wall, bounds);
        let spare = RunIds::of(NodeId::numbered(1)).next(wall);
        let now = Now { wall, elapsed: Duration::ZERO, term: None, spare };

        let status = JobStatus::of(&definition, &machine, &[], now, AsksSchedule::No);

        assert_eq!((status.state, status.next_fire_time), (JobState::Standby, None));
    }

    #[test]
    fn what_a_job_does_now_comes_before_what_it_will_do() {
        let idle = Doing { runs: false, still_runs: false, is_paused: false, fires: true, has_next: true };
        for (doing, state) in [
            (idle, JobState::Scheduled),
            (Doing { fires: false, ..idle }, JobState::Standby),
            (Doing { has_next: false, ..idle }, JobState::Exhausted),
            (Doing { fires: false, has_next: false, ..idle }, JobState::Exhausted),
            (Doing { is_paused: true, has_next: false, ..idle }, JobState::Paused),
            (Doing { runs: true, is_paused: true, ..idle }, JobState::Running),
            (Doing { runs: true, still_runs: true, is_paused: true, ..idle }, JobState::StillRunning),
        ] {
            assert_eq!(doing.state(), state, "{doing:?}");
        }
    }
}
