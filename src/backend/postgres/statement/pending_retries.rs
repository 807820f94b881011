//! Lost runs that go on: the table `debts`, whose rows are made when a run is closed as lost, and go when a
//! claim takes it up. A debt is a pending retry; `retake` is `resume_lost`.

use std::sync::atomic::{AtomicBool, Ordering};

use callsheet_actors::{
    FencingToken, FireTime, JobName, LOSSES_MAX, NodeId, PENDING_RETRIES_MAX, RunId,
    adapter::one_line,
    port::{LostRun, PendingRetry, PendingRetryOfJob},
};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Asker;

/// [`LOSSES_MAX`] and [`PENDING_RETRIES_MAX`], as the statements take them.
pub(super) const LOSSES_BOUND: i32 = LOSSES_MAX.cast_signed();
pub(super) const PENDING_RETRIES_BOUND: i64 = PENDING_RETRIES_MAX as i64;

/// So many bytes are shown of what is wrong with a name.
const FAULT_MAX: usize = 512;

/// Drops the pending retries of jobs ($jobs: by their names), whose rows are locked. What somebody else has
/// locked is dropped just now.
macro_rules! forgive {
    ($jobs:literal) => {
        concat!(
            "
    DELETE FROM debts WHERE ctid = ANY (ARRAY(
        SELECT d.place
        FROM (",
            $jobs,
            ") AS f (job)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM debts WHERE scope = $1 AND job = f.job FOR UPDATE SKIP LOCKED
        ) AS d
    ))"
        )
    };
}

/// The pending retries of runs that were closed as lost ($from). Of all those of a job, the oldest
/// runs beyond the bound are dropped; one that somebody else is just taking up is left to them. The rows of
/// the jobs are read without a lock: one that is withdrawn, or enrolled to record its losses, at this very
/// moment may be left with a pending retry, which no claim takes up for as long as it stays so.
macro_rules! owing {
    (from: $from:literal, numbers: $numbers:literal, taken_up: $taken_up:literal, losses_max: $losses_max:literal, pending_retries_max: $pending_retries_max:literal) => {
        concat!(
            ", owing AS MATERIALIZED (
    SELECT l.*, l.holder IS NOT NULL AND l.run_losses + 1 < ",
            $losses_max,
            " AND EXISTS (
               SELECT FROM names n WHERE n.name = l.run_job AND n.scope = CASE WHEN l.run_job IS NOT NULL THEN $1 END AND n.retry_lost AND NOT n.withdrawn
           ) AS owes
    FROM ",
            $from,
            " l
), ranked AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY owes, run_job ORDER BY holder DESC) AS nth
    FROM (
        SELECT ",
            $numbers,
            ", token, holder, run_job, run_fire_time, run_named, run_node, run_losses + 1 AS losses, owes, false AS former FROM owing
        UNION ALL
        SELECT NULL, NULL, NULL, d.run, d.job, NULL, NULL, NULL, NULL, true, true
        FROM (SELECT DISTINCT run_job FROM owing WHERE owes) AS o
        CROSS JOIN LATERAL (SELECT run, job FROM debts WHERE scope = $1 AND job = o.run_job) AS d
        WHERE d.run NOT IN (",
            $taken_up,
            ")
    ) AS r
), dropped AS (
    DELETE FROM debts WHERE ctid = ANY (ARRAY(
        SELECT d.place
        FROM (SELECT holder FROM ranked WHERE former AND nth > ",
            $pending_retries_max,
            ") AS r
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM debts WHERE scope = $1 AND run = r.holder FOR UPDATE SKIP LOCKED
        ) AS d
    ))
), owed AS (
    INSERT INTO debts (scope, run, job, fire_time, losses, token, named_fire_time)
    SELECT $1, holder, run_job, run_fire_time, losses, token, run_named FROM ranked
    WHERE owes AND NOT former AND nth <= ",
            $pending_retries_max,
            "
    ON CONFLICT DO NOTHING
)"
        )
    };
}

/// What the answer says of a run that was closed as lost, and the notification of it on a channel.
macro_rules! debt {
    (channel: $channel:literal, pending_retries_max: $pending_retries_max:literal) => {
        concat!(
            "run_named AS lost_named, CASE WHEN owes AND nth <= ",
            $pending_retries_max,
            " THEN losses END AS losses,
    CASE WHEN owes AND nth <= ",
            $pending_retries_max,
            " THEN pg_notify(",
            $channel,
            "::text, json_build_object('owed', json_build_object('job', run_job, 'owed', json_build_object(
        'run', holder, 'fire_time', run_fire_time, 'named', run_named, 'losses', losses)))::text)::text END AS told"
        )
    };
}

/// Pending retries of jobs that resume them, in the order of the runs. Locks nothing. $1 scope, $2 the run
/// after which to begin, $3 the most to answer.
pub(in super::super) const PENDING_RETRIES: &str = "
SELECT d.job, d.run, d.fire_time, d.named_fire_time, d.losses FROM debts d
WHERE d.scope = $1 AND d.run > $2
  AND EXISTS (SELECT FROM names n WHERE n.name = d.job AND n.scope = CASE WHEN d.job IS NOT NULL THEN $1 END AND n.retry_lost AND NOT n.withdrawn)
ORDER BY d.run LIMIT $3";

pub(super) use {debt, forgive, owing};

parameters! {
    /// What [`PENDING_RETRIES`] is asked.
    struct Page<'a> {
        scope: &'a str,
        after: Uuid,
        limit: i64,
    }
}

impl<'a> Page<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, after: Option<RunId>, limit: usize) -> Self {
        Self {
            scope: asker.scope,
            after: after.map_or(Uuid::nil(), |after| after.as_uuid()),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        }
    }
}

/// The name of a job in the store. It was checked when the job was claimed: one that is none was written by
/// somebody else. What stands under it is passed over, and the first one is said.
fn stored_job(name: &str) -> Option<JobName> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let job = JobName::new(name);
    if let Err(fault) = &job
        && !SAID.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            target: "callsheet",
            "a row of the store names a job as no job can be named, and is passed over, as others will be: {}",
            one_line(fault, FAULT_MAX)
        );
    }
    job.ok()
}

/// Reads a row of [`PENDING_RETRIES`], unless it names no job.
pub(in super::super) fn pending(row: &Row) -> Result<Option<PendingRetryOfJob>, Error> {
    let run: Uuid = row.try_get("run")?;
    let fire_time: Option<DateTime<Utc>> = row.try_get("fire_time")?;
    let named: Option<DateTime<Utc>> = row.try_get("named_fire_time")?;
    let losses: i32 = row.try_get("losses")?;
    let [fire_time, named] = [fire_time, named].map(|at| at.map(FireTime::new));
    let retry = PendingRetry { run: RunId::from(run), fire_time, named, losses: losses.unsigned_abs() };
    Ok(stored_job(row.try_get("job")?).map(|job| PendingRetryOfJob { job, retry }))
}

/// Reads a run that was closed as lost, if the row holds one, and names a job.
pub(in super::super) fn lost_run(row: &Row) -> Result<Option<LostRun>, Error> {
    let (Some(job), Some(run)) =
        (row.try_get::<_, Option<&str>>("lost_job")?, row.try_get::<_, Option<Uuid>>("run")?)
    else {
        return Ok(None);
    };
    let fire_time: Option<DateTime<Utc>> = row.try_get("lost_fire_time")?;
    let named: Option<DateTime<Utc>> = row.try_get("lost_named")?;
    let (run, [fire_time, named]) = (RunId::from(run), [fire_time, named].map(|at| at.map(FireTime::new)));
    let node = row.try_get::<_, Option<Uuid>>("lost_node")?.map(|node| NodeId::numbered(node.as_u128()));
    let token: Option<i64> = row.try_get("lost_token")?;
    let token = token.map(|token| FencingToken(token.unsigned_abs()));
    let losses: Option<i32> = row.try_get("losses")?;
    let retry = losses.map(|losses| PendingRetry { run, fire_time, named, losses: losses.unsigned_abs() });
    Ok(stored_job(job).map(|job| LostRun { job, run, node, token, fire_time, retry }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_names_no_job_is_passed_over() {
        assert_eq!(stored_job("mail").as_ref().map(JobName::as_str), Some("mail"));
        assert_eq!(stored_job(""), None);
        assert_eq!(stored_job(&"x".repeat(10_000)), None);
    }
}
