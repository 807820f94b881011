//! What the schedule of a job that is added has still to do, and what is said of it: that it is over, that it
//! breaks its contract, that it is probably not meant.
//!
//! Decided here: which of these is an error for a job that is added at runtime, and which is only said; and
//! how much of it is logged. Nothing of it changes what a job does.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::SupervisorActor;
use crate::{
    core::{
        contract::{Breach, MILLISECOND, next_after, previous_before},
        duration::DurationText,
        policy::Fires,
        text::{Excerpt, Grouped},
    },
    definition::Definition,
    error::{Fault, Over},
    event_log::Level,
    name::JobName,
};

/// What a schedule has still to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It has a fire time, or panics when it is asked: its actor finds out.
    Fires,
    /// Its last fire time has passed.
    Over { last: DateTime<Utc> },
    /// It breaks its contract.
    Broken(Breach),
}

impl Outlook {
    /// As of `now`.
    fn of(definition: &Definition, now: DateTime<Utc>) -> Self {
        let schedule = &*definition.schedule;
        let asked = catch_unwind(AssertUnwindSafe(|| {
            if next_after(schedule, now)?.is_some() {
                return Ok(Self::Fires);
            }
            // A fire time at this very instant is neither before it nor after it.
            let last = previous_before(schedule, now.checked_add_signed(MILLISECOND).unwrap_or(now))?;
            Ok(last.map_or(Self::Fires, |last| Self::Over { last: last.instant() }))
        }));
        match asked {
            Ok(outlook) => outlook.unwrap_or_else(Self::Broken),
            Err(_) => Self::Fires,
        }
    }
}

/// What keeps jobs from being added, or one from being changed.
#[derive(Debug, Default)]
pub(super) struct Hopeless {
    /// Schedules that break their contract.
    pub(super) broken: Vec<Fault>,
    pub(super) over: Vec<Over>,
}

impl SupervisorActor {
    /// What the clock reads by which the ticks of a job are decided.
    fn time_of(&self, definition: &Definition) -> DateTime<Utc> {
        match definition.policies.fires {
            Fires::Leader | Fires::AnyNode => self.node().store_time(),
            Fires::Local => self.node().clock.now(),
        }
    }

    /// Which of the jobs would never run.
    pub(super) fn hopeless<'a>(&self, definitions: impl IntoIterator<Item = &'a Definition>) -> Hopeless {
        let mut hopeless = Hopeless::default();
        let mut fires: Option<&Definition> = None;
        for definition in definitions {
            // Many jobs share one schedule, which is asked once.
            if fires.is_some_and(|last| has_outlook_of(definition, last)) {
                continue;
            }
            let now = self.time_of(definition);
            let job = &definition.name;
            match Outlook::of(definition, now) {
                Outlook::Fires => fires = Some(definition),
                Outlook::Over { last } => hopeless.over.push(Over { job: job.clone(), last, now }),
                Outlook::Broken(breach) => {
                    let fault = Fault::new(
                        "schedule",
                        &*definition.description(),
                        format!("it breaks the contract of `Schedule`: {breach}"),
                        "mend its `next_after` and `previous_before`",
                    );
                    hopeless.broken.push(fault.within(&format!("job {:?}", job.as_str())));
                }
            }
        }
        hopeless
    }

    /// Keeps in mind which of the jobs that the engine starts with are over: whether they have run before is
    /// known when they are enrolled.
    pub(super) fn note_over<'a>(&mut self, definitions: impl IntoIterator<Item = &'a Definition>) {
        let mut local = Vec::new();
        for definition in definitions {
            if let Outlook::Over { last } = Outlook::of(definition, self.time_of(definition)) {
                match definition.policies.fires {
                    // Nobody knows whether it has.
                    Fires::Local => local.push((definition.name.clone(), last)),
                    Fires::Leader | Fires::AnyNode => drop(self.over.insert(definition.name.clone(), last)),
                }
            }
        }
        warn_over(&local);
    }

    /// The last fire time of a job that has never run and never will: it was over when the engine started
    /// with it, and the store, where everything up to `cursor` is decided, has known it only since then.
    pub(super) fn never_runs(&mut self, job: &JobName, cursor: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Most engines start with none.
        let last = if self.over.is_empty() { None } else { self.over.remove(job) };
        let last = last.filter(|last| *last <= cursor)?;
        let known_for = self.node().clock.elapsed().saturating_sub(self.jobs.get(job)?.known_since);
        let known_since =
            self.node().store_time().checked_sub_signed(TimeDelta::from_std(known_for).ok()?)?;
        (cursor >= known_since - CLOCK_TOLERANCE).then_some(last)
    }

    /// Logs what is right and probably not meant in definitions that are new to this node.
    pub(super) fn log_lints<'a>(&mut self, definitions: impl IntoIterator<Item = &'a Definition>) {
        let (wall, elapsed) = self.node().clock.read();
        self.lint_log.log(definitions, wall, elapsed);
    }
}

impl SupervisorActor {
    /// Says of which jobs a cancelled run may go on when another node runs them.
    pub(super) fn warn_of_slow_aborts<'a>(&self, definitions: impl IntoIterator<Item = &'a Definition>) {
        let Some(margin) = self.parts.abort_within else { return };
        let is_slow =
            |one: &&Definition| one.policies.fires == Fires::Leader && one.policies.abort_after > margin;
        let mut slow = definitions.into_iter().filter(is_slow);
        let Some(first) = slow.next() else { return };
        let (name, abort_after) = (&first.name, DurationText(first.policies.abort_after));
        let more = match slow.count() {
            0 => String::new(),
            more => format!(" and {} more like it", Grouped(more as u64)),
        };
        let line = format_args!(
            "{name}{more}: a run that ignores its cancellation may go on when another node leads and runs the job, since \
             abort_after, {abort_after}, is longer than {}, the margin of the lease; shorten it, or choose a longer lease",
            DurationText(margin)
        );
        self.node().publisher.log("slow abort", Level::Warn, name, &line);
    }
}

/// Whether two jobs have one schedule, and go by one clock.
fn has_outlook_of(one: &Definition, other: &Definition) -> bool {
    let is_local = |definition: &Definition| definition.policies.fires == Fires::Local;
    Arc::ptr_eq(&one.schedule, &other.schedule) && is_local(one) == is_local(other)
}

/// What two readings of the store's clock may differ by, if one of them was made here.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// Says that jobs which the engine started with do not run, once for all of them.
pub(super) fn warn_over(over: &[(JobName, DateTime<Utc>)]) {
    if over.is_empty() {
        return;
    }
    let mut shown = String::new();
    for (nth, (job, last)) in over.iter().take(NAMES_SHOWN_MAX).enumerate() {
        let last = last.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let comma = if nth > 0 { ", " } else { "" };
        // A text takes everything.
        let _ = write!(shown, "{comma}{:?} (last fire time {last})", job.as_str());
    }
    let jobs = over.len();
    tracing::warn!(
        target: "callsheet",
        jobs,
        "jobs do not run, since their last fire times had passed before they were first known: {shown}{}",
        AndMore(jobs, NAMES_SHOWN_MAX)
    );
}

/// How many of a list are not shown.
struct AndMore(usize, usize);

impl std::fmt::Display for AndMore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.saturating_sub(self.1) {
            0 => Ok(()),
            more => write!(f, " and {} more", Grouped(more as u64)),
        }
    }
}

/// So many names are shown in one line of the log.
const NAMES_SHOWN_MAX: usize = 10;
/// So many bytes of a lint are shown.
const LINT_SHOWN_MAX: usize = 500;
/// So many lines of lints are logged within [`LINTS_PERIOD`].
const LINT_LINES_MAX: usize = 20;
/// So many definitions are looked at within [`LINTS_PERIOD`].
const LINTED_MAX: usize = 10_000;
/// The time after which lints are logged again.
const LINTS_PERIOD: Duration = Duration::from_secs(60);

/// Logs lints, in bounded number and length: a line for each lint, however many of the definitions that come
/// together have it.
#[derive(Debug, Default)]
pub(super) struct LintLog {
    since: Duration,
    lines: usize,
    linted: usize,
    /// Definitions whose lints were not logged, or not looked for.
    left_out: u64,
}

impl LintLog {
    fn log<'a>(
        &mut self,
        definitions: impl IntoIterator<Item = &'a Definition>,
        now: DateTime<Utc>,
        elapsed: Duration,
    ) {
        if elapsed.saturating_sub(self.since) > LINTS_PERIOD {
            if self.left_out > 0 {
                let definitions = self.left_out;
                tracing::warn!(target: "callsheet", definitions, "the lints of some definitions were not logged");
            }
            *self = Self { since: elapsed, ..Self::default() };
        }
        for (lint, jobs) in self.collect(definitions, now) {
            let names: Vec<_> = jobs.names.iter().map(|job| format!("{:?}", job.as_str())).collect();
            tracing::warn!(
                target: "callsheet",
                jobs = jobs.count,
                "a schedule may not do what was meant: {}: {}{}",
                Excerpt::new(&lint, LINT_SHOWN_MAX),
                names.join(", "),
                AndMore(jobs.count, NAMES_SHOWN_MAX)
            );
        }
    }

    /// The lints that are to be logged, each once, with the jobs that have it.
    fn collect<'a>(
        &mut self,
        definitions: impl IntoIterator<Item = &'a Definition>,
        now: DateTime<Utc>,
    ) -> Vec<(String, Jobs)> {
        let mut found: Vec<(String, Jobs)> = Vec::new();
        for definition in definitions {
            if self.linted == LINTED_MAX || self.lines == LINT_LINES_MAX && found.is_empty() {
                self.left_out += 1;
                continue;
            }
            self.linted += 1;
            // Code of the application, which may panic: that it does is said when its job fires.
            let lints = catch_unwind(AssertUnwindSafe(|| definition.schedule.lints(now))).unwrap_or_default();
            let mut left_out = false;
            for lint in lints {
                match found.iter_mut().find(|(known, _)| *known == lint) {
                    Some((_, jobs)) => jobs.add(&definition.name),
                    None if self.lines < LINT_LINES_MAX => {
                        self.lines += 1;
                        found.push((lint, Jobs { names: vec![definition.name.clone()], count: 1 }));
                    }
                    None => left_out = true,
                }
            }
            self.left_out += u64::from(left_out);
        }
        found
    }
}

/// The jobs that have one lint.
#[derive(Debug, PartialEq, Eq)]
struct Jobs {
    /// The first of them.
    names: Vec<JobName>,
    count: usize,
}

impl Jobs {
    fn add(&mut self, job: &JobName) {
        self.count += 1;
        if self.names.len() < NAMES_SHOWN_MAX {
            self.names.push(job.clone());
        }
    }
}
