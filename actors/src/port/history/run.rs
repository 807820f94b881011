//! What is kept of a run.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{
        backfill::BackfillId,
        outcome::{CancelReason, Outcome},
        reported::Measure,
        time::FireTime,
    },
    name::{By, FencingToken, JobName, LockKey, NodeId, RunId, Term},
};

/// Why there was a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunOrigin {
    /// The schedule: the tick at [`fire_time`](RunRecord::fire_time).
    Tick,
    /// Somebody triggered the job.
    Trigger {
        /// Who, if it is known.
        by: Option<By>,
        /// The trigger [gave](crate::TriggerJob::arguments) it arguments of its own: as the id of the run
        /// [says](RunId::has_own_arguments).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        own_arguments: bool,
    },
    /// A [backfill](crate::Backfill), of the fire time that is [`fire_time`](RunRecord::fire_time).
    Backfill {
        /// Which one.
        backfill: BackfillId,
        /// Who asked for the backfill, if it is known.
        by: Option<By>,
    },
    /// It is not known: the actor of its job died before the end of the run.
    Unknown,
}

/// An attempt of a run that failed and was followed by another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The number of the try within the run, from 1.
    pub attempt: u32,
    /// When it ended, by the clock that decides the job's ticks.
    pub ended_at: DateTime<Utc>,
    /// How long the body took.
    #[serde(with = "crate::serde::duration")]
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The error with its causes, or the message of the panic.
    pub error: Option<Arc<str>>,
}

impl AttemptRecord {
    /// An attempt without an error.
    pub fn new(attempt: u32, ended_at: DateTime<Utc>, took: Duration, outcome: Outcome) -> Self {
        Self { attempt, ended_at, took, outcome, error: None }
    }
}

/// A run: one that ended, or one in progress.
///
/// Its times are those of the clock that decides the ticks of its job: the store's, unless the job is
/// [`Local`](crate::Fires::Local).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecord {
    /// The job.
    pub job: JobName,
    /// The run. Its id grows with the time at which the run was asked for: see
    /// [`RunId::made_at`](crate::RunId::made_at).
    pub run: RunId,
    /// Why there was a run.
    pub origin: RunOrigin,
    /// The lock key.
    pub key: LockKey,
    /// Which of the key's slots it held, from 0: see [`Overlap::Allow`](crate::Overlap::Allow).
    pub slot: u32,
    /// The node that ran it. If it was lost before its node recorded it: the node that closed it.
    pub node: NodeId,
    /// The term under which its tick was claimed.
    pub term: Option<Term>,
    /// The fencing token; `None` for a job without claims, and for a run that was never claimed.
    pub token: Option<FencingToken>,
    /// The tick; of a run of a backfill its fire time, which is no tick; of a trigger the fire time that it
    /// [names](crate::TriggerJob::fire_time), if it names one.
    pub fire_time: Option<FireTime>,
    /// When its first attempt started; `None` if its body never did.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended; `None` while it is in progress.
    pub ended_at: Option<DateTime<Utc>>,
    /// Actual start minus fire time; zero for a trigger.
    #[serde(with = "crate::serde::duration")]
    pub lateness: Duration,
    /// How long the body took in the last attempt; `None` while it is in progress.
    #[serde(with = "crate::serde::duration")]
    pub took: Option<Duration>,
    /// How it ended; `None` while it is in progress, and if it is not known: see
    /// [`is_stale`](Self::is_stale).
    pub outcome: Option<Outcome>,
    /// The store's word for how it ended, if it is of a newer version, which this one does not know; then there is
    /// no `outcome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_outcome: Option<Arc<str>>,
    /// It has no end, and its node has not said for [`OPEN_RUN_STALE`] that it is in progress: its end was
    /// not recorded, or the node is dead and nobody has closed the run.
    #[serde(default)]
    pub is_stale: bool,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<CancelReason>,
    /// The error with its causes, the message of the panic, or the reason of the veto.
    pub error: Option<Arc<str>>,
    /// The number of the last try, from 1.
    pub attempt: u32,
    /// The attempts before the last one that this node made, at most
    /// [`ATTEMPTS_RECORDED_MAX`]: of more, the newest.
    pub attempts: Vec<AttemptRecord>,
    /// What the body reported.
    pub report: Option<Arc<str>>,
    /// What the body measured.
    pub measures: Vec<Measure>,
    /// How far the body said that it is, from 0 to 1.
    pub progress: Option<f64>,
    /// The fire time that came next when this was recorded, if the node knew it.
    pub next_fire_time: Option<FireTime>,
}

/// The most attempts before the last one that are kept of a run, the newest.
pub const ATTEMPTS_RECORDED_MAX: usize = 20;

/// For how long a node may not say that a run is in progress before it is not known whether it is. It says so
/// each minute, and when its body has said something, at most once a second.
pub const OPEN_RUN_STALE: Duration = Duration::from_mins(5);

impl RunRecord {
    /// A run in progress of which nothing else is known.
    pub fn new(job: JobName, run: RunId, node: NodeId) -> Self {
        Self {
            key: LockKey::from(&job),
            job,
            run,
            origin: RunOrigin::Unknown,
            slot: 0,
            node,
            term: None,
            token: None,
            fire_time: None,
            started_at: None,
            ended_at: None,
            lateness: Duration::ZERO,
            took: None,
            outcome: None,
            unknown_outcome: None,
            is_stale: false,
            cancelled: None,
            error: None,
            attempt: 1,
            attempts: Vec::new(),
            report: None,
            measures: Vec::new(),
            progress: None,
            next_fire_time: None,
        }
    }

    /// How many bytes its texts take.
    pub fn text_bytes(&self) -> usize {
        let of = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let mut bytes = of(&self.error) + of(&self.report);
        if !self.attempts.is_empty() || !self.measures.is_empty() {
            bytes += self.attempts.iter().map(|one| size_of_val(one) + of(&one.error)).sum::<usize>();
            bytes += self.measures.iter().map(|one| size_of_val(one) + one.name.len()).sum::<usize>();
        }
        bytes
    }

    /// Whether this record takes the place of one of the same run that was written before.
    ///
    /// That a run is in progress, or lost, is said of one grant of it. A grant with a greater token is its retry: of
    /// the former one neither counts any more. A run that ended in another way than by a loss stays so.
    pub fn supersedes(&self, former: &Self) -> bool {
        let tokens = self.token.zip(former.token);
        let is_of_later_grant = tokens.map(|(token, former)| token > former);
        let is_of_former_grant = tokens.is_some_and(|(token, former)| token < former);
        match (self.outcome, former.outcome) {
            _ if former.unknown_outcome.is_some() => false,
            (None | Some(Outcome::Lost), None) => !is_of_former_grant,
            (None, Some(Outcome::Lost)) => is_of_later_grant != Some(false),
            (Some(Outcome::Lost), Some(Outcome::Lost)) => is_of_later_grant == Some(true),
            (Some(_), None | Some(Outcome::Lost)) => true,
            (None | Some(_), Some(_)) => false,
        }
    }

    /// Takes what is known of the same run from a record that was made before this one.
    ///
    /// What was lost keeps what its own node had recorded of it.
    pub fn follow(&mut self, former: &Self) {
        if self.outcome == Some(Outcome::Lost) {
            let (ended_at, term) = (self.ended_at, self.term.or(former.term));
            let token = self.token.max(former.token);
            *self = Self { ended_at, term, token, outcome: self.outcome, ..former.clone() };
        } else if former.started_at.is_some() {
            self.started_at = former.started_at;
            self.lateness = former.lateness;
        }
    }
}
