//! What a definition becomes when a job takes it.

use std::{fmt, sync::Arc};

use callsheet_actors::port::{NotDue, Schedule, ScheduleIdentity};
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    instant,
    lint::Warning,
    tree::{Compiled, Tree},
};

/// A compiled definition, and what its words alone are warned of.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) compiled: Compiled,
    pub(super) warnings: Box<[Warning]>,
    pub(super) identity: ScheduleIdentity,
}

impl Schedule for Checked {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.compiled.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.compiled.previous_before(before)
    }

    fn identity(&self) -> ScheduleIdentity {
        self.identity
    }

    fn why_not(&self, instant: DateTime<Utc>) -> Option<NotDue> {
        let is_whole = instant::ceiling(instant) < instant::following(instant);
        is_whole.then(|| self.compiled.tree.why_not(instant::ceiling(instant))).flatten()
    }

    fn timezone(&self) -> Option<&str> {
        self.compiled.tree.timezone()
    }

    fn counts_from_completion(&self) -> bool {
        self.compiled.tree.counts_from_completion()
    }

    fn period(&self) -> Option<TimeDelta> {
        self.compiled.tree.period().and_then(TimeDelta::try_milliseconds)
    }

    fn fires_once(&self) -> bool {
        self.compiled.tree.fires_once()
    }

    fn may_block(&self) -> bool {
        self.compiled.tree.may_block()
    }

    fn for_job(&self, job: &str) -> Option<Arc<dyn Schedule>> {
        let compiled = self.compiled.for_job(job)?;
        Some(Arc::new(Self { compiled, warnings: self.warnings.clone(), identity: self.identity }))
    }

    fn lints(&self, now: DateTime<Utc>) -> Vec<String> {
        let mut warnings = self.warnings.to_vec();
        self.compiled.lint(now, &mut warnings);
        // Whoever takes the job says that it is over.
        let mut lints: Vec<_> = warnings
            .iter()
            .filter(|warning| **warning != Warning::Exhausted)
            .map(ToString::to_string)
            .collect();
        self.compiled.tree.add_lints_of_customs(now, &mut lints);
        lints
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.compiled.text)
    }
}

impl Tree {
    /// What the schedules of the application in it say of themselves.
    fn add_lints_of_customs(&self, now: DateTime<Utc>, lints: &mut Vec<String>) {
        match self {
            Self::Custom(custom) => lints.extend(custom.0.lints(now)),
            Self::Any(members) => members.iter().for_each(|member| member.add_lints_of_customs(now, lints)),
            Self::Except(except) => except.of.add_lints_of_customs(now, lints),
            Self::Window(window) => window.of.add_lints_of_customs(now, lints),
            Self::Jitter(jitter) => jitter.of.add_lints_of_customs(now, lints),
            Self::Civil(_) | Self::Interval(_) | Self::AfterCompletion(_) | Self::Random(_) | Self::At(_) => {
            }
        }
    }
}
