//! How the last runs ended.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{CALL_DEADLINE, core::seldom::SeldomQueue, event::Outcome, name::RunId};

/// How many ended runs a job remembers.
pub(crate) const HISTORY_MAX: usize = 10;

/// A run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRun {
    /// The run.
    pub(crate) run: RunId,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// When it started.
    pub(crate) started_at: DateTime<Utc>,
    /// How long its last attempt took.
    pub(crate) took: Duration,
    /// When it ended, by the monotonic clock; `None` once failures are counted anew.
    pub(crate) ended: Option<Duration>,
}

/// The last runs of a job, and how many of them failed in a row.
#[derive(Debug, Default)]
pub(super) struct History {
    runs: SeldomQueue<LastRun>,
    failures: u32,
}

impl History {
    pub(super) fn runs(&self) -> impl Iterator<Item = &LastRun> {
        self.runs.iter()
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Failures are counted anew from now on.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        self.runs.iter_mut().for_each(|run| run.ended = None);
    }

    /// Takes what the store says, which may not have heard of the last ends when it said so: an answer is no
    /// older than [`CALL_DEADLINE`].
    pub(super) fn hear_failures(&mut self, now: Duration, failures: u32) {
        let is_fresh = |ended: Duration| now.saturating_sub(ended) <= CALL_DEADLINE;
        let fresh = self.runs.iter().take_while(|run| run.ended.is_some_and(is_fresh));
        let mut unheard = 0;
        for run in fresh {
            match run.outcome {
                Outcome::Succeeded => break,
                Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => unheard += 1,
                Outcome::Cancelled | Outcome::Lost => {}
            }
        }
        self.failures = failures.max(unheard);
    }

    pub(super) fn add(&mut self, last: LastRun) {
        let runs = self.runs.queue_mut();
        runs.truncate(HISTORY_MAX - 1);
        runs.push_front(last);
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
