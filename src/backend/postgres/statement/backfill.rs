//! Backfills: the table `backfills`, a row for each.
//!
//! These statements are prepared when they are asked, since most nodes never ask them. They lock the leader
//! row, if they need a term, and then a row of this table, which nothing else locks.

use std::time::Duration;

use callsheet_actors::{
    By, FireTime, JobName, Term,
    port::{
        BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillProgress, BackfillState, StoredBackfill,
    },
};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{Asker, forget::millis, number};

/// The columns of a row, in the words of [`stored`].
macro_rules! columns {
    () => {
        "backfill, job, range_from, range_to, max_concurrent, spacing_millis, again, asked_by, created_at, left_out, fire_times,
    revision, state, taken, in_flight, failed"
    };
}

/// Keeps a backfill, unless it is there already or as many are running as may ($14); of those that are over,
/// the newest stay ($15). Tells it to every session. Two that are asked at once may both be kept as the last.
///
/// $1 scope, $2 the channel of the scope, then the backfill: see [`Backfill`].
pub(in super::super) const PUT: &str = "
WITH put AS (
    INSERT INTO backfills (scope, backfill, job, range_from, range_to, max_concurrent, spacing_millis, again, asked_by, created_at,
                           left_out, fire_times)
    SELECT $1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::timestamptz[]
    WHERE (SELECT count(*) FROM backfills WHERE scope = $1 AND state = 'running') < $14::int8
    ON CONFLICT DO NOTHING
    RETURNING backfill
), old AS (
    DELETE FROM backfills WHERE scope = $1 AND backfill IN (
        SELECT backfill FROM backfills WHERE scope = $1 AND state <> 'running' ORDER BY backfill DESC OFFSET $15::int8
    )
), told AS (
    SELECT pg_notify($2::text, '{\"backfills\": {}}')::text AS told FROM put
)
SELECT EXISTS (SELECT FROM put) OR EXISTS (SELECT FROM backfills WHERE scope = $1 AND backfill = $3) AS kept,
       (SELECT count(told) FROM told) AS told";

/// The backfills of a scope ($1), of one job ($2) if it is given, only this one ($3) if it is given, only those
/// that are running ($4) or all. Locks nothing.
pub(in super::super) const LIST: &str = concat!(
    "
SELECT ",
    columns!(),
    "
FROM backfills
WHERE scope = $1 AND ($2::text IS NULL OR job = $2) AND ($3::uuid IS NULL OR backfill = $3)
  AND (state = 'running' OR NOT $4::bool)
ORDER BY backfill DESC"
);

/// The cursor of a job ($2) of a scope ($1). Locks nothing.
pub(in super::super) const CURSOR: &str = "SELECT cursor FROM names WHERE scope = $1 AND name = $2";

/// Changes how far a backfill ($3) of a scope ($1) is, from the revision before $4, as the leader of a term ($2)
/// that is not over: the leader row is locked for share, so that no successor is in between.
pub(in super::super) const ADVANCE: &str = "
WITH term AS MATERIALIZED (
    SELECT epoch FROM leader WHERE scope = $1 AND epoch = $2 AND expires_at > clock_timestamp() FOR SHARE
), moved AS (
    UPDATE backfills SET revision = $4, state = $5, taken = $6, in_flight = $7, failed = $8
    WHERE scope = $1 AND backfill = $3 AND state = 'running' AND revision = $4::int8 - 1 AND EXISTS (SELECT FROM term)
    RETURNING backfill
)
SELECT EXISTS (SELECT FROM term) AS leads, EXISTS (SELECT FROM moved) AS moved";

/// Cancels a backfill ($3) of a scope ($1) that is running, says who asked ($4), and tells it to every session
/// ($2 the channel of the scope).
pub(in super::super) const CANCEL: &str = concat!(
    "
WITH cancelled AS (
    UPDATE backfills SET state = 'cancelled', revision = revision + 1, cancelled_by = $4
    WHERE scope = $1 AND backfill = $3 AND state = 'running'
    RETURNING *
)
SELECT ",
    columns!(),
    ", pg_notify($2::text, '{\"backfills\": {}}')::text AS told FROM cancelled"
);

parameters! {
    /// What [`PUT`] is asked.
    struct Backfill<'a> {
        scope: &'a str,
        channel: &'a str,
        backfill: Uuid,
        job: &'a str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        max_concurrent: i32,
        spacing_millis: i64,
        again: bool,
        by: Option<&'a str>,
        created_at: DateTime<Utc>,
        left_out: i32,
        fire_times: Vec<DateTime<Utc>>,
        open_max: i64,
        kept_max: i64,
    }
}

parameters! {
    /// What [`LIST`] is asked.
    struct Asked<'a> {
        scope: &'a str,
        job: Option<&'a str>,
        backfill: Option<Uuid>,
        only_running: bool,
    }
}

parameters! {
    /// What [`CURSOR`] is asked.
    struct Cursor<'a> {
        scope: &'a str,
        job: &'a str,
    }
}

parameters! {
    /// What [`ADVANCE`] is asked.
    struct Advance<'a> {
        scope: &'a str,
        term: i64,
        backfill: Uuid,
        revision: i64,
        state: &'static str,
        taken: i32,
        in_flight: Vec<i32>,
        failed: i32,
    }
}

parameters! {
    /// What [`CANCEL`] is asked.
    struct Cancelled<'a> {
        scope: &'a str,
        channel: &'a str,
        backfill: Uuid,
        by: Option<&'a str>,
    }
}

fn count(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl<'a> Backfill<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, backfill: &'a StoredBackfill) -> Self {
        let bound = |max: usize| i64::try_from(max).unwrap_or(i64::MAX);
        Self {
            scope: asker.scope,
            channel: asker.channel,
            backfill: backfill.id.as_uuid(),
            job: backfill.job.as_str(),
            from: backfill.from,
            to: backfill.to,
            max_concurrent: count(backfill.max_concurrent),
            spacing_millis: millis(backfill.spacing),
            again: backfill.again,
            by: backfill.by.as_ref().map(By::as_str),
            created_at: backfill.created_at,
            left_out: count(backfill.left_out),
            fire_times: backfill.fire_times.iter().map(|fire_time| fire_time.instant()).collect(),
            open_max: bound(BACKFILLS_OPEN_MAX),
            kept_max: bound(BACKFILLS_KEPT_MAX),
        }
    }
}

impl<'a> Asked<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, job: Option<&'a JobName>, only_running: bool) -> Self {
        Self { scope: asker.scope, job: job.map(JobName::as_str), backfill: None, only_running }
    }

    pub(in super::super) fn one(asker: Asker<'a>, backfill: BackfillId) -> Self {
        Self { scope: asker.scope, job: None, backfill: Some(backfill.as_uuid()), only_running: false }
    }
}

impl<'a> Cursor<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, job: &'a JobName) -> Self {
        Self { scope: asker.scope, job: job.as_str() }
    }
}

impl<'a> Advance<'a> {
    pub(in super::super) fn of(
        asker: Asker<'a>,
        term: Term,
        backfill: BackfillId,
        progress: &BackfillProgress,
    ) -> Self {
        Self {
            scope: asker.scope,
            term: number(term),
            backfill: backfill.as_uuid(),
            revision: i64::try_from(progress.revision).unwrap_or(i64::MAX),
            state: progress.state.as_str(),
            taken: count(progress.taken),
            in_flight: progress.in_flight.iter().map(|nth| count(*nth)).collect(),
            failed: count(progress.failed),
        }
    }
}

impl<'a> Cancelled<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, backfill: BackfillId, by: Option<&'a By>) -> Self {
        Self {
            scope: asker.scope,
            channel: asker.channel,
            backfill: backfill.as_uuid(),
            by: by.map(By::as_str),
        }
    }
}

/// Reads whether a backfill is kept.
pub(in super::super) fn kept(row: &Row) -> Result<bool, Error> {
    row.try_get("kept")
}

/// Reads the cursor of a job; nothing if only a key has this name.
pub(in super::super) fn cursor(row: &Row) -> Result<Option<DateTime<Utc>>, Error> {
    row.try_get("cursor")
}

/// Reads whether the term leads, and whether the row was moved.
pub(in super::super) fn moved(row: &Row) -> Result<(bool, bool), Error> {
    Ok((row.try_get("leads")?, row.try_get("moved")?))
}

words! {
    /// Whether a backfill goes on.
    State {
        Running = "running",
        Finished = "finished",
        Cancelled = "cancelled",
    }
}

/// Reads a backfill; nothing if another program has written a job that cannot be.
pub(in super::super) fn stored(row: &Row) -> Result<Option<StoredBackfill>, Error> {
    let Ok(job) = JobName::new(row.try_get::<_, &str>("job")?) else { return Ok(None) };
    let by: Option<&str> = row.try_get("asked_by")?;
    let fire_times: Vec<DateTime<Utc>> = row.try_get("fire_times")?;
    let in_flight: Vec<i32> = row.try_get("in_flight")?;
    let number = |column: &str| Ok::<_, Error>(row.try_get::<_, i32>(column)?.unsigned_abs());
    let mut progress = BackfillProgress::new();
    progress.revision = row.try_get::<_, i64>("revision")?.unsigned_abs();
    progress.state = match row.try_get("state")? {
        State::Running => BackfillState::Running,
        State::Finished => BackfillState::Finished,
        State::Cancelled => BackfillState::Cancelled,
    };
    progress.taken = number("taken")?;
    progress.in_flight = in_flight.into_iter().map(i32::unsigned_abs).collect();
    progress.failed = number("failed")?;
    let id = BackfillId::from(row.try_get::<_, Uuid>("backfill")?);
    let range = (row.try_get("range_from")?, row.try_get("range_to")?);
    let mut stored = StoredBackfill::new(id, job, range, fire_times.into_iter().map(FireTime::new).collect());
    stored.max_concurrent = number("max_concurrent")?;
    stored.spacing = Duration::from_millis(row.try_get::<_, i64>("spacing_millis")?.unsigned_abs());
    stored.again = row.try_get("again")?;
    stored.by = by.and_then(|by| By::new(by).ok());
    stored.created_at = row.try_get("created_at")?;
    stored.left_out = number("left_out")?;
    stored.progress = progress;
    Ok(Some(stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_written_as_it_is_read() {
        let states = [BackfillState::Running, BackfillState::Finished, BackfillState::Cancelled];
        assert_eq!(State::WORDS, states.map(BackfillState::as_str));
        assert!(CANCEL.contains("state = 'cancelled'") && ADVANCE.contains("state = 'running'"));
    }
}
