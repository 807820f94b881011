//! What is kept of a decision that started nothing.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{skip::SkipReason, time::FireTime},
    name::{By, JobName, NodeId, RunId, Term},
};

/// A decision that started nothing.
///
/// Equal decisions about a job on one node within a minute are one record: a job that fires ten times a
/// second and is paused has one record a minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DecisionRecord {
    /// The job; `None` if it is about all jobs of the scope.
    pub job: Option<JobName>,
    /// The first tick that is meant.
    pub first: Option<FireTime>,
    /// The newest tick that is meant; `None` if no tick is.
    pub fire_time: Option<FireTime>,
    /// When the first of what this record counts was decided, by the store's clock.
    pub at: DateTime<Utc>,
    /// The node that decided.
    pub node: NodeId,
    /// The term in which it led, if it did.
    pub term: Option<Term>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
}

/// A decision that started nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decision {
    /// Ticks were skipped.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// How many.
        count: u64,
        /// There may have been more: counting stopped at its bound.
        at_least: bool,
        /// The note of the pause, or of whoever had them skipped, or what the store says that refuses the job; of
        /// the newest of them.
        text: Option<Arc<str>>,
        /// Who had paused the job when the newest of them was skipped, or had them skipped, if somebody did who is
        /// known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The run in progress with which the newest of them overlapped, if it is known.
        run: Option<RunId>,
    },
    /// `before` hooks vetoed runs.
    Vetoed {
        /// The newest of them.
        run: RunId,
        /// How many.
        count: u64,
        /// What the hook said of the newest.
        text: Arc<str>,
    },
    /// Triggers started nothing.
    TriggerRefused {
        /// How many.
        count: u64,
        /// Who asked for the newest, if it is known.
        by: Option<By>,
        /// Why the newest was refused.
        text: Arc<str>,
    },
    /// Nobody was known to lead.
    LeaderGap {
        /// From when on, as far as the next leader knows: no earlier than its own start.
        from: DateTime<Utc>,
        /// Until when: a term was won.
        to: DateTime<Utc>,
    },
    /// The clock of the node was set, or its machine slept.
    ClockStepped {
        /// How much more it reads than it would have; negative: less.
        #[serde(with = "crate::serde::duration")]
        by: TimeDelta,
    },
    /// Records were dropped: the history did not take them in time, or not at all. It is about all jobs.
    RecordsDropped {
        /// How many, of whatever kind.
        count: u64,
        /// When the first of them was made.
        from: DateTime<Utc>,
        /// When the last of them was.
        to: DateTime<Utc>,
    },
    /// The node of a run died before the run ended.
    RunLost {
        /// The run.
        run: RunId,
        /// It is to go on with another attempt.
        is_retried: bool,
    },
}

/// The [reason](Decision::reason) of [`Decision::RecordsDropped`].
pub const RECORDS_DROPPED: &str = "records_dropped";

impl Decision {
    /// What kind of decision it is, in one word: `overlap`, `vetoed`. Skips have their
    /// [reason](SkipReason::as_str).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Skipped { reason, .. } => reason.as_str(),
            Self::Vetoed { .. } => "vetoed",
            Self::TriggerRefused { .. } => "trigger_refused",
            Self::LeaderGap { .. } => "leader_gap",
            Self::ClockStepped { .. } => "clock_stepped",
            Self::RecordsDropped { .. } => RECORDS_DROPPED,
            Self::RunLost { .. } => "run_lost",
        }
    }

    /// Whether equal ones within a minute are counted together.
    pub(crate) fn is_coalesced(&self) -> bool {
        match self {
            // Each is what somebody asked for once.
            Self::Skipped { reason, .. } => *reason != SkipReason::Operator,
            Self::Vetoed { .. } | Self::TriggerRefused { .. } => true,
            Self::LeaderGap { .. }
            | Self::ClockStepped { .. }
            | Self::RecordsDropped { .. }
            | Self::RunLost { .. } => false,
        }
    }
}

impl DecisionRecord {
    /// A decision about a job, or about the whole scope, without a tick.
    pub fn new(job: Option<JobName>, at: DateTime<Utc>, node: NodeId, decision: Decision) -> Self {
        Self { job, first: None, fire_time: None, at, node, term: None, decision }
    }

    /// How many bytes its texts take.
    pub fn text_bytes(&self) -> usize {
        match &self.decision {
            Decision::Skipped { text, by, .. } => {
                let by = by.as_ref().map_or(0, |by| by.as_str().len());
                text.as_ref().map_or(0, |text| text.len()) + by
            }
            Decision::Vetoed { text, .. } | Decision::TriggerRefused { text, .. } => text.len(),
            Decision::LeaderGap { .. }
            | Decision::ClockStepped { .. }
            | Decision::RecordsDropped { .. }
            | Decision::RunLost { .. } => 0,
        }
    }

    /// Counts a decision of the same kind that came later.
    pub(crate) fn add(&mut self, later: Self) {
        let Self { first, fire_time, term, mut decision, .. } = later;
        let (before, before_is_at_least) = match &self.decision {
            Decision::Skipped { count, at_least, .. } => (*count, *at_least),
            Decision::Vetoed { count, .. } | Decision::TriggerRefused { count, .. } => (*count, false),
            Decision::LeaderGap { .. }
            | Decision::ClockStepped { .. }
            | Decision::RecordsDropped { .. }
            | Decision::RunLost { .. } => (0, false),
        };
        match &mut decision {
            Decision::Skipped { count, at_least, .. } => {
                *count = count.saturating_add(before);
                *at_least |= before_is_at_least;
            }
            Decision::Vetoed { count, .. } | Decision::TriggerRefused { count, .. } => {
                *count = count.saturating_add(before);
            }
            Decision::LeaderGap { .. }
            | Decision::ClockStepped { .. }
            | Decision::RecordsDropped { .. }
            | Decision::RunLost { .. } => {}
        }
        // What was missed is told when a later tick is decided, which others may have been told before.
        self.first = self.first.into_iter().chain(first).min();
        self.fire_time = self.fire_time.max(fire_time);
        (self.term, self.decision) = (term, decision);
    }
}
