//! How the last runs ended.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};

use crate::{event::Outcome, name::RunId};

/// How many ended runs a job remembers.
pub const HISTORY_MAX: usize = 10;

/// A run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long its last attempt took.
    pub took: Duration,
}

/// The last runs of a job, and how many of them failed in a row.
#[derive(Debug, Default)]
pub(super) struct History {
    runs: VecDeque<LastRun>,
    failures: u32,
}

impl History {
    pub(super) fn runs(&self) -> impl Iterator<Item = &LastRun> {
        self.runs.iter()
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn set_failures(&mut self, failures: u32) {
        self.failures = failures;
    }

    pub(super) fn add(&mut self, last: LastRun) {
        self.runs.truncate(HISTORY_MAX - 1);
        self.runs.push_front(last);
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => self.failures = 0,
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => {
                self.failures = self.failures.saturating_add(1);
            }
            Outcome::Cancelled | Outcome::Lost => {}
        }
    }
}
