//! What a backfill asks about the ticks of its job: up to where they are decided, and which of them have open runs.

use callsheet_actors::{FireTime, JobName};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};

use super::Asker;

/// The cursor of a job ($2) of a scope ($1). Locks nothing.
pub(in super::super) const CURSOR: &str = "SELECT cursor FROM names WHERE scope = $1 AND name = $2";

/// The fire times of the open runs of a job ($2) of a scope ($1), and of those that were lost and are to be retried.
/// Any key may be that of an open run, so it reads all names of the scope. Locks nothing.
pub(in super::super) const OPEN: &str = "
SELECT fire_time FROM names WHERE scope = $1 AND run_job = $2 AND run IS NOT NULL AND fire_time IS NOT NULL
UNION ALL
SELECT fire_time FROM debts WHERE scope = $1 AND job = $2 AND fire_time IS NOT NULL";

parameters! {
    /// What [`CURSOR`] and [`OPEN`] are asked.
    struct Cursor<'a> {
        scope: &'a str,
        job: &'a str,
    }
}

impl<'a> Cursor<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, job: &'a JobName) -> Self {
        Self { scope: asker.scope, job: job.as_str() }
    }
}

/// Reads the cursor of a job; nothing if only a key has this name.
pub(in super::super) fn cursor(row: &Row) -> Result<Option<DateTime<Utc>>, Error> {
    row.try_get("cursor")
}

/// Reads the fire time of a run that is not over.
pub(in super::super) fn open_fire_time(row: &Row) -> Result<FireTime, Error> {
    row.try_get("fire_time").map(FireTime::new)
}
