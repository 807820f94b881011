//! What a ledger says to those who audit it.

use chrono::{DateTime, Utc};

use crate::{
    core::time::FireTime,
    event::Outcome,
    name::{JobName, RunId},
    port::{ScheduleIdentity, Session, Skips},
};

/// A change of the ledger, for those who audit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A job was enrolled, and its cursor was set to a new instant; or only the identity of its schedule is another one,
    /// of another version.
    Enrolled {
        /// The job.
        job: JobName,
        /// Its cursor.
        cursor: DateTime<Utc>,
        /// The schedule by which its ticks count from then on.
        schedule: ScheduleIdentity,
    },
    /// A cursor moved over ticks; the last of them was claimed if there is a run.
    Advanced {
        /// The job.
        job: JobName,
        /// The cursor before.
        from: DateTime<Utc>,
        /// The cursor after.
        to: FireTime,
        /// The ticks between that do not run.
        skips: Skips,
        /// The run of the tick at `to`.
        run: Option<RunId>,
        /// The session that moved it.
        session: Session,
    },
    /// A cursor moved to the end of a run; ticks between do not count.
    Anchored {
        /// The job.
        job: JobName,
        /// The cursor before.
        from: DateTime<Utc>,
        /// The cursor after.
        to: DateTime<Utc>,
    },
    /// What is kept of a job stands under another name of it from now on.
    Renamed {
        /// The name before.
        from: JobName,
        /// The name from now on.
        to: JobName,
        /// The cursor of the job.
        cursor: DateTime<Utc>,
    },
    /// A run that was lost goes on.
    LostResumed {
        /// The run.
        run: RunId,
    },
    /// A run ended.
    Closed {
        /// The run.
        run: RunId,
        /// How.
        outcome: Outcome,
    },
}
