//! An advance of a job's cursor over skipped ticks, and the store's answer.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Authority;
use crate::{
    core::{skip::Skips, time::FireTime},
    name::{JobName, Term},
};

/// An advance of a job's cursor over ticks that are skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorAdvance {
    /// Its own id. An advance that is asked again, because its answer was lost, has the same one.
    pub id: Uuid,
    /// The job.
    pub job: JobName,
    /// The cursor before.
    pub expected: DateTime<Utc>,
    /// The cursor after: the newest skipped tick.
    pub to: FireTime,
    /// The ticks between, `to` included.
    pub skips: Skips,
    /// On what basis the node decides.
    pub authority: Authority,
}

/// The answer to an advance of the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advanced {
    /// The cursor was advanced, now or when the same advance was asked before. The store keeps the id of a
    /// job's newest advance, and looks at it before it looks at who asks: a node whose term is over asks once
    /// more what became of it.
    Done,
    /// The cursor is not the expected one, or the ticks are not due by the store's clock. Nothing changed.
    Elsewhere {
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The store does not know the job (any more), or it was withdrawn. Nothing changed: enrol it.
    Unknown,
    /// A newer term was granted, or this one is over. Nothing changed.
    Deposed {
        /// The newest term.
        term: Term,
    },
    /// The answer to an advance by [`Authority::Leaderless`]: the leader schedules the job. Nothing changed.
    HasLeader,
    /// Somebody else has locked the job's cursor at this moment. Nothing changed: ask again.
    Locked,
    /// This advance is refused for its data: see [`LockError::BadData`](crate::port::LockError::BadData).
    /// Nothing changed. The job is parked once something of another job gets through.
    BadData {
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
    /// This advance failed alone, and it is unknown whether it was made.
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
