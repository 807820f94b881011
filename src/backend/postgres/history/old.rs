//! The texts of the statements that find and delete what need not be kept any more.

use std::time::Duration;

/// How long nodes decide by the end of a run, in the table `runs`: the longest time in which a claim or an end can be
/// asked again whose answer was lost. Whoever asks does so when a session opens, so for as long as the server was away
/// or the node was cut off from it. The leader deletes nothing in its first minute, in which the others come back as
/// well.
pub(super) const ENDS_DECIDED_BY: Duration = Duration::from_hours(7 * 24);

/// Which kinds of records have some that need not be kept any more. Of each the first one is looked for, in the order
/// of an index.
///
/// A run is as old as its end. It was asked for before, so that all that are old are among the first ids of the index;
/// of those only the runs that took long are young.
pub(super) const TO_PRUNE: &str = "
SELECT o.kind
FROM (VALUES ('succeeded', $2::uuid, $7::timestamptz), ('cancelled', $2, $7), ('failed', $3, $8), ('panicked', $3, $8),
             ('timed_out', $3, $8), ('lost', $3, $8)) AS o (kind, before, ended_before)
WHERE (SELECT true FROM {s}.history_runs
       WHERE scope = $1 AND outcome = o.kind AND run < o.before AND coalesce(ended_at < o.ended_before, true) ORDER BY run LIMIT 1)
UNION ALL
SELECT 'stale' WHERE (
    SELECT true FROM {s}.history_runs
    WHERE scope = $1 AND outcome IS NULL AND run < $3 AND written_at < least($8, clock_timestamp() - interval '{stale}') ORDER BY run LIMIT 1)
UNION ALL
SELECT 'decisions' WHERE (SELECT at FROM {s}.history_decisions WHERE scope = $1 ORDER BY at LIMIT 1) < $4
UNION ALL
SELECT 'operations' WHERE (SELECT at FROM {s}.history_operations WHERE scope = $1 ORDER BY at LIMIT 1) < $5
UNION ALL
SELECT 'too many' WHERE (
    SELECT unpruned_digits FROM {s}.history_jobs WHERE scope = $1 AND unpruned_digits > 0 ORDER BY unpruned_digits DESC LIMIT 1) >= $6";

/// Whether there is an end by which nothing is decided any more. By itself: the role, or the database, of the history
/// may not be that of the table.
pub(super) const ENDS_TO_PRUNE: &str =
    "SELECT 'ends' AS kind FROM {s}.runs r WHERE run < $1 AND {old end} ORDER BY run LIMIT 1";

/// An end (`r`) by which no claim and no end is decided any more, as the server's clock says: whatever time a node
/// takes it for. Whoever drives a backfill finds out by the ends of its runs, whose ids are of version 8. The others
/// are no concern of it: a backfill may last long, and those that stay are passed over each time.
pub(super) const OLD_END: &str = "ended_at < clock_timestamp() - interval '{decided by}'
    AND CASE WHEN get_byte(uuid_send(run), 6) / 16 = 8 THEN (
        SELECT true FROM {s}.backfills b WHERE b.scope = r.scope AND b.job = r.job AND b.state = 'running' LIMIT 1) IS NULL
    ELSE true END";

/// Deletes the oldest ends by which nothing is decided any more, of any scope.
pub(super) const PRUNE_ENDS: &str = "
DELETE FROM {s}.runs WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {s}.runs r WHERE run < $1 AND {old end} ORDER BY run LIMIT $2))";

/// Deletes the oldest runs of an outcome, by their places: whoever changes one meanwhile moves it, and it stays.
/// Before, what is to outlive them is kept for their jobs: of those that have no younger run. The row of a job that is
/// locked is not waited for: a run of it is being written. (Once all jobs had it computed anew, and their rows locked
/// meanwhile, in no order. Of 10,000 jobs that ran all the time most runs were then not recorded.)
pub(super) const PRUNE_RUNS: &str = "
WITH old AS MATERIALIZED (
    SELECT ctid, job FROM {s}.history_runs
    WHERE scope = $1 AND outcome = $2 AND run < $3 AND coalesce(ended_at < $5, true) ORDER BY run LIMIT $4
), resting AS MATERIALIZED (
    SELECT j.ctid AS place, j.job
    FROM (SELECT DISTINCT job FROM old) AS o
    CROSS JOIN LATERAL (
        SELECT run FROM {s}.history_runs WHERE scope = $1 AND job = o.job ORDER BY run DESC LIMIT 1
    ) AS newest
    CROSS JOIN LATERAL (
        SELECT ctid, job FROM {s}.history_jobs WHERE scope = $1 AND job = o.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS j
    WHERE newest.run < $3
), jobs AS (
    UPDATE {s}.history_jobs j SET p95 = p.p95
    FROM resting AS o
    CROSS JOIN LATERAL (
        SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY took)::int8 AS p95 FROM (
            SELECT took FROM {s}.history_runs h WHERE h.scope = $1 AND h.job = o.job AND started_at IS NOT NULL AND outcome IS NOT NULL
            ORDER BY h.run DESC LIMIT 100
        ) AS newest
    ) AS p
    WHERE j.ctid = o.place AND p.p95 IS NOT NULL
)
DELETE FROM {s}.history_runs WHERE ctid = ANY(ARRAY(SELECT ctid FROM old))";

/// Deletes runs whose end nobody wrote.
pub(super) const PRUNE_STALE: &str = "
DELETE FROM {s}.history_runs WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {s}.history_runs
    WHERE scope = $1 AND outcome IS NULL AND run < $2 AND written_at < least($4, clock_timestamp() - interval '{stale}')
    ORDER BY run LIMIT $3))";

pub(super) const JOBS_TO_PRUNE: &str = "
SELECT job FROM {s}.history_jobs WHERE scope = $1 AND unpruned_digits > 0 AND unpruned_digits >= $2
ORDER BY unpruned_digits DESC LIMIT $3";

/// Deletes what a job has beyond so many runs of each outcome. Answers how many it were. The index by outcome has
/// none that succeeded.
pub(super) const PRUNE_JOB: &str = "
WITH last AS MATERIALIZED (
    SELECT o.outcome, (
        SELECT run FROM {s}.history_runs WHERE scope = $1 AND job = $2 AND outcome = o.outcome AND outcome <> 'succeeded'
        ORDER BY run DESC OFFSET $3 LIMIT 1
    ) AS run
    FROM unnest(ARRAY['failed', 'panicked', 'timed_out', 'cancelled', 'lost']) AS o (outcome)
    UNION ALL
    SELECT 'succeeded', (
        SELECT run FROM {s}.history_runs WHERE scope = $1 AND job = $2 AND outcome = 'succeeded'
        ORDER BY run DESC OFFSET $3 LIMIT 1
    )
), old AS MATERIALIZED (
    SELECT h.ctid FROM last CROSS JOIN LATERAL (
        SELECT ctid FROM {s}.history_runs
        WHERE scope = $1 AND job = $2 AND outcome = last.outcome AND run <= last.run ORDER BY run LIMIT $4
    ) AS h WHERE last.run IS NOT NULL
), deleted AS (
    DELETE FROM {s}.history_runs WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING ended_at
), counted AS (
    SELECT count(*) AS deleted, max(ended_at) AS to FROM deleted
), done AS (
    UPDATE {s}.history_jobs SET unpruned = CASE WHEN deleted < $4 THEN 0 ELSE unpruned END, pruned_to = greatest(pruned_to, counted.to)
    FROM counted WHERE scope = $1 AND job = $2
), of_all AS (
    -- The row without a name is about all jobs.
    INSERT INTO {s}.history_jobs AS j (scope, job, pruned_to)
    SELECT $1, '', counted.to FROM counted WHERE counted.to IS NOT NULL
    ON CONFLICT (scope, job) DO UPDATE SET pruned_to = greatest(j.pruned_to, excluded.pruned_to)
)
SELECT deleted FROM counted";

pub(super) const PRUNE_DECISIONS: &str = "
DELETE FROM {s}.history_decisions WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {s}.history_decisions WHERE scope = $1 AND at < $2 ORDER BY at LIMIT $3))";

pub(super) const PRUNE_OPERATIONS: &str = "
DELETE FROM {s}.history_operations WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {s}.history_operations WHERE scope = $1 AND at < $2 ORDER BY at LIMIT $3))";
