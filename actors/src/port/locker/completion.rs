//! The end of a run, and the store's answer.

use chrono::{DateTime, Utc};

use crate::{
    core::{outcome::Outcome, pause::Pause},
    name::{FencingToken, JobName, LockKey, RunId},
};

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The job.
    pub job: JobName,
    /// The key that the run held.
    pub key: LockKey,
    /// The run.
    pub run: RunId,
    /// The token that it was granted.
    pub token: FencingToken,
    /// How it ended.
    pub outcome: Outcome,
    /// The job is paused when at least so many of its runs in a row have failed, panicked or timed out, this
    /// one included. It is left as it is if it is paused until it is resumed already. Resuming it starts the
    /// count again.
    pub pause_after: Option<u32>,
    /// The job's cursor moves to the end of the run, in the store's time rounded up to whole milliseconds,
    /// and never back: its next tick follows from there.
    pub from_completion: bool,
}

impl Completion {
    /// An end that pauses nothing and moves no cursor.
    pub fn new(job: JobName, key: LockKey, run: RunId, token: FencingToken, outcome: Outcome) -> Self {
        Self { job, key, run, token, outcome, pause_after: None, from_completion: false }
    }
}

impl Completed {
    /// The end is recorded, and nothing else happened.
    pub const RECORDED: Self = Self::Recorded { cursor: None, pause: None };
}

/// The answer to a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completed {
    /// The end is recorded and the key is free.
    Recorded {
        /// The job's cursor, if it was to move and the job was ever enrolled. Of an end that was recorded
        /// before: as it is now.
        cursor: Option<DateTime<Utc>>,
        /// The job is paused because too many of its runs failed in a row.
        pause: Option<Pause>,
    },
    /// The run was closed by somebody else, or the key has a newer token. Nothing changed.
    Stale,
    /// The store knows neither the key nor the run any more, so that nobody else says what became of it:
    /// enrol the job.
    Unknown,
    /// Somebody else has locked the key, or the job, at this moment. Nothing changed: ask again.
    Locked,
    /// It is not known yet what became of this end alone: ask again.
    Unavailable {
        /// Why, without passwords or connection strings.
        reason: String,
    },
}
