//! A definition that was checked: from here on nothing of it is wrong.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};

use super::{Job, SharedBody, TAGS_MAX};
use crate::{
    alarm::JobAlarm,
    core::{
        alarm::Expectations,
        duration::DurationText,
        key_policies::Declares,
        policy::{Fires, Policies},
        storable::storable,
        text::{TEXT_MAX, bounded},
    },
    error::{Fault, Faults},
    hooks::Hooks,
    labels::{JOB_LABEL_ONCE, JOB_LABEL_OTHER, Label},
    name::{JobName, LockKey, Tag, check_name},
    port::{Able, Schedule, ScheduleIdentity},
    run::{Origin, Run, RunError, RunResult},
    task::{BoundTask, TaskCall, Tasks},
};

/// A checked definition.
pub(crate) struct Definition {
    pub(crate) name: JobName,
    pub(crate) key: LockKey,
    /// What most jobs are not given.
    extras: Option<Box<Extras>>,
    /// It fires once in all.
    once: bool,
    /// Its schedule may block.
    pub(crate) may_block: bool,
    pub(crate) schedule: Arc<dyn Schedule>,
    pub(crate) identity: ScheduleIdentity,
    /// The job's machine shares them.
    pub(crate) policies: Arc<Policies>,
    pub(crate) remove_when_done: bool,
    pub(crate) body: SharedBody,
}

/// What most jobs are not given.
#[derive(Clone)]
struct Extras {
    tags: Box<[Tag]>,
    metrics_label: Option<Box<str>>,
    hooks: Option<Box<Hooks>>,
    expected: Expectations,
    /// Made when the job is added, if anything is expected of it.
    alarm: Option<Arc<JobAlarm>>,
    /// What its body runs, if that is a task.
    task: Option<BoundTask>,
    formerly: Option<JobName>,
}

impl Extras {
    /// `None` if the job was given nothing of it.
    fn of(
        tags: Vec<Tag>,
        metrics_label: Option<Box<str>>,
        hooks: Option<Box<Hooks>>,
        expected: Expectations,
        task: Option<BoundTask>,
        formerly: Option<JobName>,
    ) -> Option<Box<Self>> {
        let nothing = tags.is_empty() && metrics_label.is_none() && hooks.is_none();
        let nothing = nothing && expected.is_empty() && task.is_none() && formerly.is_none();
        let all = || Self { tags: tags.into(), metrics_label, hooks, expected, alarm: None, task, formerly };
        (!nothing).then(|| Box::new(all()))
    }
}

impl Definition {
    /// The same job by another schedule, checked as of `now`.
    pub(crate) fn rescheduled(
        &self,
        schedule: Arc<dyn Schedule>,
        now: DateTime<Utc>,
    ) -> Result<Self, Faults> {
        let schedule = schedule.for_job(self.name.as_str()).unwrap_or(schedule);
        let Checked { schedule, identity, once, may_block } = check_schedule(schedule, now, &mut None)?;
        Ok(Self {
            name: self.name.clone(),
            key: self.key.clone(),
            extras: self.extras.clone(),
            once: once || self.policies.limit == Some(1),
            may_block,
            schedule,
            identity,
            policies: self.policies.clone(),
            remove_when_done: self.remove_when_done,
            body: self.body.clone(),
        })
    }

    /// The policy that it declares for its key.
    pub(crate) fn declares(&self) -> Declares<'_> {
        Declares { job: &self.name, key: &self.key, overlap: self.policies.overlap }
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        self.extras.as_ref().map_or(&[], |extras| &extras.tags)
    }

    /// The name that it had.
    pub(crate) fn formerly(&self) -> Option<&JobName> {
        self.extras.as_ref()?.formerly.as_ref()
    }

    /// What of it a backend cannot do.
    pub(crate) fn faults_on(&self, able: &Able) -> Vec<Fault> {
        let counts_from_completion = self.schedule.counts_from_completion();
        able.faults(&self.name, &self.policies, counts_from_completion, self.formerly())
    }

    /// The keys whose rows say something of the node while it fires the job: that of the job, whose policy it
    /// declares, and that of its name.
    pub(crate) fn noted_under(&self) -> impl Iterator<Item = LockKey> + use<> {
        let own = (self.key.as_str() != self.name.as_str()).then(|| LockKey::from(&self.name));
        [self.key.clone()].into_iter().chain(own)
    }

    pub(crate) fn hooks(&self) -> Option<&Hooks> {
        self.extras.as_ref()?.hooks.as_deref()
    }

    /// What is expected of it.
    pub(crate) fn expected(&self) -> Expectations {
        self.extras.as_ref().map(|extras| extras.expected).unwrap_or_default()
    }

    /// The task that it runs, if its body is one.
    pub(crate) fn task(&self) -> Option<&BoundTask> {
        self.extras.as_ref()?.task.as_ref()
    }

    /// The work of one attempt: of its body, unless the run has arguments that were given for something else.
    pub(crate) fn start(&self, run: Run) -> BoxFuture<'static, RunResult> {
        match self.check_own_arguments(&run) {
            Ok(()) => self.body.get().start(run),
            Err(fault) => ready(Err(RunError::permanent(fault))).boxed(),
        }
    }

    /// The job may have been changed while a run waited: for its turn, or for its next attempt.
    fn check_own_arguments(&self, run: &Run) -> Result<(), Fault> {
        let Origin::Trigger { task: Some(given), .. } = run.origin() else { return Ok(()) };
        let runs = match self.task().map(|task| &task.call().name) {
            Some(name) if *name == given.name => return Ok(()),
            Some(name) => format!("task {name:?}"),
            None => "code".to_owned(),
        };
        let rule = format!("they are for task {:?}, and the job was changed to run {runs}", given.name);
        let cure = "trigger it again, with arguments for what it runs now";
        let value = given.arguments.excerpt().to_string();
        Err(Fault::new("own arguments of the run", value, rule, cure))
    }

    /// Its alarm, if anything is expected of it.
    pub(crate) fn alarm(&self) -> Option<&Arc<JobAlarm>> {
        self.extras.as_ref()?.alarm.as_ref()
    }

    /// It has this alarm from now on.
    pub(crate) fn set_alarm(&mut self, alarm: Option<Arc<JobAlarm>>) {
        match &mut self.extras {
            Some(extras) => extras.alarm = alarm,
            None if alarm.is_none() => {}
            None => {
                let (tags, expected) = (Box::default(), Expectations::default());
                let (metrics_label, hooks, task, formerly) = (None, None, None, None);
                let extras = Extras { tags, metrics_label, hooks, expected, alarm, task, formerly };
                self.extras = Some(Box::new(extras));
            }
        }
    }

    /// The schedule in words. They are made when somebody asks: a schedule has its text itself.
    pub(crate) fn description(&self) -> Arc<str> {
        // It is code of the application, and was asked before: if it panics now, nothing else shall fail.
        let described = catch_unwind(AssertUnwindSafe(|| describe(&*self.schedule)));
        described.unwrap_or_else(|_| "a schedule whose `Display` panicked".into())
    }

    /// The label of its metrics.
    pub(crate) fn label(&self) -> Label<'_> {
        match self.extras.as_ref().and_then(|extras| extras.metrics_label.as_ref()) {
            Some(label) => Label::Own(label),
            None if self.once => Label::Once,
            None => Label::Own(self.name.as_str()),
        }
    }
}

impl Job {
    /// Checks the definition, as adding it does. Which tasks there are, only a node knows: that the job names one of
    /// them, with arguments that it can read, is checked when it is added, and by the builder.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at once.
    pub fn check(&self) -> Result<(), Faults> {
        self.clone().define(Utc::now(), &mut None, None).map(drop)
    }

    /// Checks the definition as of `now` and takes it apart. `asked` is the schedule that was asked last: many
    /// jobs share one, and it is not asked again. Without the `tasks` of a node, one is not looked for.
    pub(crate) fn define(
        self,
        now: DateTime<Utc>,
        asked: &mut Option<Checked>,
        tasks: Option<&Tasks>,
    ) -> Result<Definition, Faults> {
        let mut faults = Vec::new();
        let subject = || format!("job {:?}", self.name.chars().take(40).collect::<String>());
        let note = |fault: Fault, faults: &mut Vec<Fault>| faults.push(fault.within(&subject()));

        let name = JobName::new(&self.name).map_err(|fault| faults.push(fault)).ok();
        let formerly = self.check_former_name().map_err(|fault| note(fault, &mut faults)).ok().flatten();
        let key = self.lock_key.map(LockKey::new).transpose().map_err(|fault| note(fault, &mut faults)).ok();
        let tags: Vec<_> = self
            .tags
            .iter()
            .filter_map(|tag| Tag::new(tag).map_err(|fault| note(fault, &mut faults)).ok())
            .collect();
        let metrics_label = self.metrics_label.as_deref().map(check_metrics_label).transpose();
        let metrics_label = metrics_label.map_err(|fault| note(fault, &mut faults)).ok().flatten();
        if tags.len() > TAGS_MAX {
            let rule = format!("a job has at most {TAGS_MAX} tags");
            note(Fault::new("tags", tags.len().to_string(), rule, "remove some"), &mut faults);
        }
        if let Some(timeout) = self.policies.timeout.filter(|timeout| *timeout < TIMEOUT_MIN) {
            let rule = "a timeout is at least 1 ms";
            let cure = "raise it, or leave it out for no limit";
            note(Fault::new("timeout", DurationText(timeout).to_string(), rule, cure), &mut faults);
        }
        if let Some(fault) = self.hooks.as_ref().and_then(|hooks| hooks.fault()) {
            note(fault, &mut faults);
        }
        for (what, value, rule) in self.policies.faults().into_iter().chain(self.expected.faults()) {
            note(Fault::new(what, value, format!("it is {rule}"), "choose another value"), &mut faults);
        }
        let (body, task) = body_of(self.body, self.task.map(|task| *task), tasks).unwrap_or_else(|fault| {
            note(fault, &mut faults);
            Default::default()
        });
        let schedule = match self.schedule.and_then(|schedule| check_schedule(schedule, now, asked)) {
            Ok(schedule) => Some(schedule),
            Err(found) => {
                found.into_vec().into_iter().for_each(|fault| note(fault, &mut faults));
                None
            }
        };

        match (name, key, schedule) {
            (Some(name), Some(key), Some(checked)) if faults.is_empty() => {
                let Checked { schedule, identity, once, may_block } = checked;
                Ok(Definition {
                    once: once || self.policies.limit == Some(1),
                    may_block,
                    extras: Extras::of(tags, metrics_label, self.hooks, self.expected, task, formerly),
                    key: key.unwrap_or_else(|| LockKey::from(&name)),
                    name,
                    schedule,
                    identity,
                    policies: Arc::new(self.policies),
                    remove_when_done: self.remove_when_done,
                    body,
                })
            }
            _ => Err(Faults::of(faults)),
        }
    }
}

impl<B> Job<B> {
    fn check_former_name(&self) -> Result<Option<JobName>, Fault> {
        const WHAT: &str = "formerly";
        let Some(former) = &self.former_name else { return Ok(None) };
        let fault = |rule, cure| Err(Fault::new(WHAT, former, rule, cure));
        if *former == self.name {
            return fault(
                "it is the name of the job",
                "leave it out, or name the one that the job had before",
            );
        }
        if self.policies.fires == Fires::Local {
            return fault(
                "nothing is kept in the store of a job that fires on this node only",
                "leave it out",
            );
        }
        check_name(WHAT, former)?;
        JobName::new(former).map(Some)
    }
}

/// What runs, and the task that it is, if it is one: a task that the job names takes the place of its body.
fn body_of(
    body: SharedBody,
    named: Option<Result<TaskCall, Fault>>,
    tasks: Option<&Tasks>,
) -> Result<(SharedBody, Option<BoundTask>), Fault> {
    match (named.transpose()?, tasks) {
        (Some(call), Some(tasks)) => {
            let bound = tasks.bind(call)?;
            Ok((SharedBody(Some(Arc::new(bound.clone()))), Some(bound)))
        }
        (None, _) if body.0.is_none() => {
            Err(Fault::new("task", "", "a job without code runs a task", "name one that is registered"))
        }
        (None, _) | (Some(_), None) => Ok((body, None)),
    }
}

const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// A schedule that may be asked.
#[derive(Clone)]
pub(crate) struct Checked {
    schedule: Arc<dyn Schedule>,
    identity: ScheduleIdentity,
    /// It has one fire time in all.
    once: bool,
    may_block: bool,
}

/// Refuses a label that no job can have, or that jobs share which have none of their own.
fn check_metrics_label(label: &str) -> Result<Box<str>, Fault> {
    const WHAT: &str = "metrics label";
    check_name(WHAT, label)?;
    if label.starts_with('_') {
        let rule = format!("labels that begin with `_` are reserved: {JOB_LABEL_OTHER}, {JOB_LABEL_ONCE}");
        return Err(Fault::new(WHAT, label, rule, "begin it with another character"));
    }
    Ok(label.into())
}

fn describe(schedule: &dyn Schedule) -> Arc<str> {
    storable(&bounded(schedule, TEXT_MAX)).into()
}

/// Refuses a schedule that never fires, and one that panics when it is asked: better now than in its actor.
fn check_schedule(
    schedule: Arc<dyn Schedule>,
    now: DateTime<Utc>,
    last: &mut Option<Checked>,
) -> Result<Checked, Faults> {
    if let Some(last) = last.as_ref().filter(|last| Arc::ptr_eq(&last.schedule, &schedule)) {
        return Ok(last.clone());
    }
    let asked = catch_unwind(AssertUnwindSafe(|| {
        // A fire time at this very instant is neither before it nor after it.
        let after_now = now.checked_add_signed(TimeDelta::milliseconds(1)).unwrap_or(now);
        let fires = schedule.next_after(now).is_some() || schedule.previous_before(after_now).is_some();
        let kind = (schedule.fires_once(), schedule.may_block());
        (describe(&*schedule), fires, schedule.identity(), kind)
    }));
    match asked {
        Ok((_, true, identity, (once, may_block))) => {
            Ok(last.insert(Checked { schedule, identity, once, may_block }).clone())
        }
        Ok((description, false, ..)) => {
            Err(Fault::new("schedule", &*description, "it never fires", "give it at least one fire time")
                .into())
        }
        Err(_) => Err(Fault::new(
            "schedule",
            "a type of the application",
            "it panicked when it was asked for its next fire time",
            "mend its `next_after`, `previous_before`, `identity` or `Display`",
        )
        .into()),
    }
}
