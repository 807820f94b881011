//! Backfills: the table `backfills`, a row for each.
//!
//! These statements are prepared when they are asked, since most nodes never ask them. They lock the leader
//! row, if they need a term, and then a row of this table. Claims of runs lock it as well, after that of their key.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    By, FireTime, JobName, Term,
    port::{
        BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillProgress, BackfillPut, BackfillState,
        BackfillStatus, StoredBackfill,
    },
};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{Asker, forget::millis, number};

/// The columns of a row without its fire times, in the words of [`status`].
macro_rules! columns {
    () => {
        "backfill, job, range_from, range_to, max_concurrent, spacing_millis, again, asked_by, created_at, left_out, ticks,
    revision, state, taken, in_flight, failed,
    -- The array of all is read only if something is in flight.
    CASE WHEN in_flight = '{}' THEN '{}'::timestamptz[] ELSE ARRAY(
        SELECT fire_times[i.nth + 1] FROM unnest(in_flight) WITH ORDINALITY AS i (nth, place) ORDER BY i.place
    ) END AS in_flight_at"
    };
}

/// Keeps a backfill, unless it is there already, or as many are running as may ($14), or, if it is not to run them
/// again, one of the job has one of its fire times: one that is running, or one that is over and had a run of it
/// granted; of those that are over, the newest stay ($15). Tells it to every session.
///
/// Locks the row of the scope: whoever waited for it finds another number there than it sees, since others were asked
/// for that it does not see. Nothing is kept then, and it is to be asked again.
///
/// $1 scope, $2 the channel of the scope, then the backfill: see [`Backfill`].
pub(in super::super) const PUT: &str = "
WITH turn AS (
    UPDATE scopes SET backfills = backfills + 1
    WHERE scope = $1 AND backfills = (SELECT s.backfills FROM scopes s WHERE s.scope = $1)
    RETURNING backfills
), beside AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM turn) AS has_turn,
           EXISTS (SELECT FROM backfills WHERE scope = $1 AND backfill = $3) AS is_known,
           (SELECT count(*) FROM backfills WHERE scope = $1 AND state = 'running') >= $14::int8 AS is_full,
           NOT $9::bool AND EXISTS (
               SELECT FROM backfills b WHERE scope = $1 AND job = $4 AND fire_times && $13::timestamptz[] AND (
                   state = 'running' OR EXISTS (
                       SELECT FROM unnest(b.fire_times[:b.taken]) WITH ORDINALITY AS f (at, place)
                       WHERE f.at = ANY ($13::timestamptz[])
                         AND ((f.place - 1)::int4 <> ALL (b.in_flight) OR (f.place - 1)::int4 = ANY (b.granted))
                   )
               )
           ) AS is_taken
), put AS (
    INSERT INTO backfills (scope, backfill, job, range_from, range_to, max_concurrent, spacing_millis, again, asked_by, created_at,
                           left_out, fire_times, ticks)
    SELECT $1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, cardinality($13::timestamptz[])
    FROM beside WHERE has_turn AND NOT is_known AND NOT is_full AND NOT is_taken
    ON CONFLICT DO NOTHING
    RETURNING backfill
), old AS (
    DELETE FROM backfills WHERE scope = $1 AND backfill IN (
        SELECT backfill FROM backfills WHERE scope = $1 AND state <> 'running' ORDER BY backfill DESC OFFSET $15::int8
    )
), told AS (
    SELECT pg_notify($2::text, '{\"backfills\": {}}')::text AS told FROM put
)
SELECT CASE
           WHEN is_known THEN 'kept'
           WHEN NOT has_turn THEN 'again'
           WHEN is_full THEN 'full'
           WHEN is_taken THEN 'overlaps'
           ELSE 'kept'
       END AS put, (SELECT count(told) FROM told) AS told
FROM beside";

/// The backfills of a scope ($1), of one job ($2) if it is given, the newest first, without their fire times. Locks
/// nothing.
pub(in super::super) const LIST: &str = concat!(
    "
SELECT ",
    columns!(),
    "
FROM backfills WHERE scope = $1 AND ($2::text IS NULL OR job = $2) ORDER BY backfill DESC"
);

/// The backfills of a scope ($1), of one job ($2) if it is given, only this one ($3) if it is given, only those
/// that are running ($4) or all, with their fire times, and how long ago the last one started. Locks nothing.
pub(in super::super) const ROWS: &str = concat!(
    "
SELECT ",
    columns!(),
    ", fire_times, granted, (extract(epoch FROM clock_timestamp() - started_at) * 1e3)::int8 AS since_start
FROM backfills
WHERE scope = $1 AND ($2::text IS NULL OR job = $2) AND ($3::uuid IS NULL OR backfill = $3)
  AND (state = 'running' OR NOT $4::bool)
ORDER BY backfill DESC"
);

/// Changes how far a backfill ($3) of a scope ($1) is, from the revision before $4, as the leader of a term ($2)
/// that is not over: the leader row is locked for share, so that no successor is in between. What is not in flight any
/// more is granted no more.
pub(in super::super) const ADVANCE: &str = "
WITH term AS MATERIALIZED (
    SELECT epoch FROM leader WHERE scope = $1 AND epoch = $2 AND expires_at > clock_timestamp() FOR SHARE
), moved AS (
    UPDATE backfills
    SET revision = $4, state = $5, taken = $6, in_flight = $7, failed = $8,
        granted = ARRAY(
            SELECT g.nth FROM unnest(granted) WITH ORDINALITY AS g (nth, place) WHERE g.nth = ANY ($7::int4[]) ORDER BY g.place
        ),
        granted_keys = ARRAY(
            SELECT g.key FROM unnest(granted, granted_keys) WITH ORDINALITY AS g (nth, key, place)
            WHERE g.nth = ANY ($7::int4[]) ORDER BY g.place
        )
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
    struct Listed<'a> {
        scope: &'a str,
        job: Option<&'a str>,
    }
}

parameters! {
    /// What [`ROWS`] is asked.
    struct Asked<'a> {
        scope: &'a str,
        job: Option<&'a str>,
        backfill: Option<Uuid>,
        only_running: bool,
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

impl<'a> Listed<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, job: Option<&'a JobName>) -> Self {
        Self { scope: asker.scope, job: job.map(JobName::as_str) }
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

words! {
    /// What became of a new backfill.
    Put {
        Kept = "kept",
        Again = "again",
        Full = "full",
        Overlaps = "overlaps",
    }
}

/// Reads what became of a new backfill; nothing if it is to be asked again.
pub(in super::super) fn put(row: &Row) -> Result<Option<BackfillPut>, Error> {
    Ok(match row.try_get("put")? {
        Put::Kept => Some(BackfillPut::Kept),
        Put::Again => None,
        Put::Full => Some(BackfillPut::Full),
        Put::Overlaps => Some(BackfillPut::Overlaps),
    })
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

/// Reads how far a backfill is; nothing if another program has written a job that cannot be.
pub(in super::super) fn status(row: &Row) -> Result<Option<BackfillStatus>, Error> {
    let in_flight: Vec<DateTime<Utc>> = row.try_get("in_flight_at")?;
    let ticks = row.try_get::<_, i32>("ticks")?.unsigned_abs();
    let in_flight = in_flight.into_iter().map(FireTime::new).collect();
    Ok(without_fire_times(row)?.map(|stored| BackfillStatus::new(&stored, ticks, in_flight)))
}

/// Reads a backfill with its fire times; nothing if another program has written a job that cannot be.
pub(in super::super) fn stored(row: &Row) -> Result<Option<StoredBackfill>, Error> {
    let Some(mut stored) = without_fire_times(row)? else { return Ok(None) };
    let fire_times: Vec<DateTime<Utc>> = row.try_get("fire_times")?;
    stored.fire_times = fire_times.into_iter().map(FireTime::new).collect();
    let granted: Vec<i32> = row.try_get("granted")?;
    stored.granted = granted.into_iter().map(i32::unsigned_abs).collect();
    // A clock that was set back says of no start in the future.
    let since: Option<i64> = row.try_get("since_start")?;
    stored.since_start = since.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
    Ok(Some(stored))
}

fn without_fire_times(row: &Row) -> Result<Option<StoredBackfill>, Error> {
    let Ok(job) = JobName::new(row.try_get::<_, &str>("job")?) else { return Ok(None) };
    let by: Option<&str> = row.try_get("asked_by")?;
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
    let mut stored = StoredBackfill::new(id, job, range, Arc::default());
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

    #[test]
    fn every_word_of_a_new_backfill_is_known() {
        super::super::answer::assert_words(&[PUT], "put", Put::WORDS);
    }
}
