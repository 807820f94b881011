//! What is kept of what somebody did to a job.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::pause::Pause,
    name::{By, JobName, NodeId},
    word::words,
};

/// What was done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobOperation {
    /// It was added to a node.
    Added,
    /// It got another definition on a node.
    Changed,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
    /// A run was asked for.
    Triggered,
    /// Fire times of the past are to be run.
    Backfilled,
    /// A backfill was told to stop.
    BackfillCancelled,
    /// Runs were told to stop.
    Cancelled,
    /// It was removed from a node.
    Removed,
    /// What it had missed was skipped.
    SkippedMissed,
    /// Its definition was put into the catalogue.
    Stored,
    /// It was deleted from the catalogue.
    Deleted,
    /// Its schedule was overridden.
    Overridden,
    /// The override of its schedule was cleared.
    OverrideCleared,
}

impl JobOperation {
    /// Every operation.
    pub const ALL: [Self; 14] = [
        Self::Added,
        Self::Changed,
        Self::Paused,
        Self::Resumed,
        Self::Triggered,
        Self::Backfilled,
        Self::BackfillCancelled,
        Self::Cancelled,
        Self::Removed,
        Self::SkippedMissed,
        Self::Stored,
        Self::Deleted,
        Self::Overridden,
        Self::OverrideCleared,
    ];
}

words!(JobOperation {
    Added: "added",
    Changed: "changed",
    Paused: "paused",
    Resumed: "resumed",
    Triggered: "triggered",
    Backfilled: "backfilled",
    BackfillCancelled: "backfill_cancelled",
    Cancelled: "cancelled",
    Removed: "removed",
    SkippedMissed: "skipped_missed",
    Stored: "stored",
    Deleted: "deleted",
    Overridden: "overridden",
    OverrideCleared: "override_cleared",
});

/// What somebody did to a job, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperationRecord {
    /// When, by the store's clock.
    pub at: DateTime<Utc>,
    /// The node that was told.
    pub node: NodeId,
    /// Who, if it was said; `None` also for what a job's body or its policies did.
    pub by: Option<By>,
    /// What.
    pub operation: JobOperation,
    /// The job.
    pub job: JobName,
    /// Why, in the words of whoever did it.
    pub note: Option<Arc<str>>,
    /// What exactly: the run that was told to stop, the fire time that a trigger names, its arguments, the new
    /// definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Arc<str>>,
    /// Which one it is of those that the node recorded, from 1: it tells two of one instant apart.
    #[serde(default)]
    pub number: u64,
}

impl OperationRecord {
    /// An operation of nobody who is known, without a note.
    pub fn new(job: JobName, operation: JobOperation, at: DateTime<Utc>, node: NodeId) -> Self {
        Self { at, node, by: None, operation, job, note: None, detail: None, number: 0 }
    }

    /// How many bytes its texts take.
    pub fn text_bytes(&self) -> usize {
        [&self.note, &self.detail].into_iter().flatten().map(|text| text.len()).sum()
    }
}

/// That a job is paused from an instant on, or is not.
///
/// Of the changes of a job the one that was made last counts, in whatever order they are written. Of several
/// pauses without a resumption between them it is the first, for as long as it lasts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PauseChange {
    /// The job.
    pub job: JobName,
    /// From when on, by the store's clock.
    pub at: DateTime<Utc>,
    /// The pause; `None`: it is resumed.
    pub pause: Option<Pause>,
}

impl PauseChange {
    /// A pause, or, if there is none, a resumption.
    pub fn new(job: JobName, at: DateTime<Utc>, pause: Option<Pause>) -> Self {
        Self { job, at, pause }
    }

    /// How many bytes its texts take.
    pub fn text_bytes(&self) -> usize {
        self.pause.as_ref().and_then(|pause| pause.note.as_ref()).map_or(0, String::len)
    }
}
