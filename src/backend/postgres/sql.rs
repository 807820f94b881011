//! Every statement, what it locks, and why.
//!
//! Order of locks, the same everywhere: the leader row, then job rows by name, then lock keys by name. Only the leader row,
//! enrolments and ends that were skipped once are waited for (for `lock_timeout`); job rows and keys that somebody else has locked are skipped and asked
//! again, because overlapping batches of three nodes deadlocked otherwise.
//!
//! Liveness of an owner: dead if nobody holds the advisory lock of its beacon. One's own beacon is never probed: the lock is
//! re-entrant, so a session would take itself for dead and steal from itself. The probe is *shared*, or two probers would
//! each take the other's probe for the owner.
//!
//! Parts of a statement are joined by `FULL JOIN` where one is known to hold all of the other: it cannot become a nested loop,
//! which cost 60 ms for a batch of 512.
//!
//! `READ COMMITTED` is taken for granted: a row that was locked is read again as it is then.

/// Whether this server can coordinate: its version, whether it is a standby, whether it is read-only, its process; and its
/// clock.
pub(super) const INSPECT: &str = "
SELECT current_setting('server_version_num')::int4 AS version,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only') = 'on' AS read_only,
       pg_backend_pid() AS pid,
       clock_timestamp() AS now";

/// Takes the beacon. The key is random and never used again, so there is nobody to wait for.
pub(super) const LIGHT_BEACON: &str = "SELECT pg_try_advisory_lock($1) AS lit";

/// Keeps the session's lease, notices a pooler that changes the server process between transactions, and reads the clock.
pub(super) const HEARTBEAT: &str = "SELECT pg_backend_pid() AS pid, clock_timestamp() AS now";

/// The lock that serialises migrations of one schema ($1).
pub(super) const MIGRATION_LOCK: &str =
    "SELECT pg_advisory_lock(hashtextextended('callsheet migration ' || $1, 0))";

/// Waits for the leadership of a schema ($1) and scope ($2), for `lock_timeout`.
pub(super) const WAIT_FOR_LEADERSHIP: &str =
    "SELECT pg_advisory_lock(hashtextextended('callsheet leader ' || $1 || '/' || $2, 0))";

/// Gives the leadership of a schema ($1) and scope ($2) up.
pub(super) const FREE_LEADERSHIP: &str =
    "SELECT pg_advisory_unlock(hashtextextended('callsheet leader ' || $1 || '/' || $2, 0))";

/// Raises the epoch; only while the leadership lock is held. Locks the leader row for update: claims of the old term, which
/// hold it for share, are committed before, or wait and then read the new epoch.
///
/// $1 scope, $2 own beacon, $3 node, $4 lease in milliseconds. No row: a term that is not over belongs to a live session.
pub(super) const GRANT: &str = "
INSERT INTO leader AS l (scope, epoch, node, beacon, granted_at, expires_at)
VALUES ($1, 1, $3, $2, clock_timestamp(), clock_timestamp() + $4::float8 * interval '1 millisecond')
ON CONFLICT (scope) DO UPDATE
SET epoch = l.epoch + 1,
    node = excluded.node,
    beacon = excluded.beacon,
    granted_at = clock_timestamp(),
    expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond'
WHERE l.expires_at <= clock_timestamp()
   OR CASE WHEN l.beacon = $2 THEN true ELSE pg_try_advisory_xact_lock_shared(l.beacon) END
RETURNING l.epoch, pg_is_in_recovery() AS standby";

/// Extends a term that is not over. $1 scope, $2 own beacon, $3 term, $4 lease in milliseconds.
pub(super) const RENEW: &str = "
UPDATE leader
SET expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond'
WHERE scope = $1 AND beacon = $2 AND epoch = $3 AND expires_at > clock_timestamp()
RETURNING pg_is_in_recovery() AS standby";

/// Ends a term. $1 scope, $2 own beacon, $3 term.
pub(super) const RESIGN: &str = "
UPDATE leader SET expires_at = '-infinity' WHERE scope = $1 AND beacon = $2 AND epoch = $3 RETURNING epoch";

/// Who leads, and for how many more milliseconds. $1 scope.
pub(super) const LEADER: &str = "
SELECT node, greatest(0, extract(epoch FROM expires_at - clock_timestamp()) * 1000)::float8 AS remaining
FROM leader WHERE scope = $1 AND expires_at > clock_timestamp()";

/// Marks jobs with a term. The leader row is locked for share: a newer term cannot begin until this is committed. Waits
/// for job rows that are locked; in the order of their names.
///
/// $1 scope, $2 jobs (each once), $3 schedules, $4 terms.
pub(super) const ENROL: &str = "
WITH term AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader WHERE scope = $1 FOR SHARE
), asked AS MATERIALIZED (
    SELECT a.job, sha256(convert_to(a.schedule, 'UTF8')) AS schedule, a.term,
           coalesce(t.epoch = a.term AND t.expires_at > clock_timestamp(), false) AS led
    FROM unnest($2::text[], $3::text[], $4::int8[]) AS a (job, schedule, term) LEFT JOIN term t ON true
), enrolled AS (
    INSERT INTO jobs AS j (scope, job, cursor, schedule, term)
    SELECT $1, job, clock_timestamp(), schedule, term FROM asked WHERE led ORDER BY job
    ON CONFLICT (scope, job) DO UPDATE
    SET term = excluded.term,
        schedule = excluded.schedule,
        withdrawn = false,
        -- A new or changed job owes ticks only from now on, and its cursor never goes back.
        cursor = CASE WHEN j.withdrawn OR j.schedule <> excluded.schedule
                      THEN greatest(j.cursor, excluded.cursor) ELSE j.cursor END,
        run = CASE WHEN j.withdrawn OR j.schedule <> excluded.schedule THEN NULL ELSE j.run END
    RETURNING j.job, j.cursor
)
SELECT a.job, e.cursor, coalesce((SELECT epoch FROM term), 0) AS epoch
FROM asked a LEFT JOIN enrolled e USING (job)";

/// What the leader does with jobs, as it stands now. Locks nothing. $1 scope, $2 jobs, $3 schedules.
pub(super) const INQUIRE: &str = "
SELECT CASE
    WHEN l.scope IS NULL THEN 'no leader'
    WHEN j.scope IS NULL OR j.withdrawn OR j.term <> l.epoch THEN 'not held'
    WHEN j.schedule <> sha256(convert_to(a.schedule, 'UTF8')) THEN 'other schedule'
    ELSE 'scheduled'
END AS standing
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a (job, schedule, ord)
LEFT JOIN leader l ON l.scope = $1 AND l.expires_at > clock_timestamp()
LEFT JOIN jobs j ON j.scope = $1 AND j.job = a.job
ORDER BY a.ord";

/// Says that jobs ($2) of a scope ($1) were removed by the leader of a term ($3). Locks the leader row for share until the
/// commit, then waits for the jobs' rows, in the order of their names.
pub(super) const WITHDRAW: &str = "
WITH term AS MATERIALIZED (
    SELECT epoch FROM leader WHERE scope = $1 AND epoch = $3 FOR SHARE
), found AS MATERIALIZED (
    SELECT job FROM jobs
    WHERE scope = $1 AND job = ANY ($2) AND NOT withdrawn AND EXISTS (SELECT FROM term)
    ORDER BY job FOR UPDATE
)
UPDATE jobs SET withdrawn = true WHERE scope = $1 AND job IN (SELECT job FROM found)";

/// Makes the rows of keys ($2) that were never claimed before, in their order.
pub(super) const MAKE_KEYS: &str = "
INSERT INTO lock_keys (scope, key) SELECT $1, key FROM unnest($2::text[]) AS a (key) ORDER BY key
ON CONFLICT DO NOTHING";

/// Claims runs: each takes its tick, its key, the next token, and a row of its own, or nothing.
///
/// Locks the leader row for share until the commit (without it an old term's claim was committed after the takeover), then
/// job rows and key rows in the order of their names, skipping those that are locked. Whoever holds the lock of a key row
/// decides alone about its owner: probing without it granted keys that were held.
///
/// $1 scope, $2 own beacon, $3 node, then the claims, at most one per job and one per key: $4 jobs, $5 keys, $6 runs, $7 fire
/// times (none for a manual trigger), $8 expected cursors, $9 terms.
pub(super) const CLAIM: &str = "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($4::text[], $5::text[], $6::uuid[], $7::timestamptz[], $8::timestamptz[], $9::int8[])
    WITH ORDINALITY AS a (job, key, run, fire_time, expected, term, ord)
), term AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader WHERE scope = $1 FOR SHARE
), job_rows AS MATERIALIZED (
    SELECT a.ord, j.cursor, j.run, j.withdrawn
    FROM asked a JOIN jobs j ON j.scope = $1 AND j.job = a.job
    WHERE a.fire_time IS NOT NULL
    ORDER BY j.job FOR UPDATE OF j SKIP LOCKED
), key_rows AS MATERIALIZED (
    SELECT a.ord, k.run, k.beacon, k.token
    FROM asked a JOIN lock_keys k ON k.scope = $1 AND k.key = a.key
    ORDER BY k.key FOR UPDATE OF k SKIP LOCKED
), owners AS MATERIALIZED (
    SELECT beacon, CASE WHEN beacon = $2 THEN false ELSE pg_try_advisory_xact_lock_shared(beacon) END AS dead
    FROM (SELECT DISTINCT beacon FROM key_rows WHERE run IS NOT NULL) AS held
), decided AS MATERIALIZED (
    SELECT a.*, k.run AS holder, j.run AS tick_run, t.epoch,
        CASE WHEN j.ord IS NULL AND a.fire_time IS NOT NULL
             THEN coalesce((SELECT x.cursor FROM jobs x WHERE x.scope = $1 AND x.job = a.job), clock_timestamp())
             ELSE j.cursor END AS cursor,
        (extract(epoch FROM a.fire_time - clock_timestamp()) * 1e6)::float8 AS wait,
        -- The row is locked: nobody else raises it.
        coalesce(r.token, k.token + 1) AS token,
        h.job AS lost_job, h.run AS lost_run, h.fire_time AS lost_fire_time,
        CASE
            -- Asked again after a reply was lost.
            WHEN r.beacon = $2 AND r.outcome IS NULL THEN 'again'
            WHEN a.fire_time IS NOT NULL AND (t.epoch = a.term AND t.expires_at > clock_timestamp()) IS NOT TRUE
                THEN 'deposed'
            WHEN a.fire_time > clock_timestamp() THEN 'not yet'
            WHEN a.fire_time IS NOT NULL AND j.ord IS NULL THEN
                CASE WHEN EXISTS (SELECT FROM jobs x WHERE x.scope = $1 AND x.job = a.job) THEN 'locked' ELSE 'moved' END
            WHEN j.withdrawn THEN 'moved'
            WHEN j.cursor = a.fire_time AND j.run IS NOT NULL AND j.cursor <> a.expected THEN 'already run'
            WHEN j.cursor <> a.expected THEN 'moved'
            WHEN r.run IS NOT NULL THEN 'not granted'
            WHEN k.ord IS NULL THEN
                CASE WHEN EXISTS (SELECT FROM lock_keys x WHERE x.scope = $1 AND x.key = a.key)
                     THEN 'locked' ELSE 'no key' END
            WHEN k.run IS NULL OR o.dead THEN 'granted'
            ELSE 'busy'
        END AS verdict
    FROM asked a
    FULL JOIN job_rows j ON j.ord = a.ord
    FULL JOIN key_rows k ON k.ord = a.ord
    LEFT JOIN term t ON true
    LEFT JOIN owners o ON o.beacon = k.beacon
    LEFT JOIN runs r ON r.run = a.run
    LEFT JOIN runs h ON h.run = k.run
), moved AS (
    UPDATE jobs j SET cursor = d.fire_time, run = d.run
    FROM decided d
    WHERE d.verdict = 'granted' AND d.fire_time IS NOT NULL AND j.scope = $1 AND j.job = d.job
), taken AS (
    UPDATE lock_keys k SET run = d.run, beacon = $2, token = d.token
    FROM decided d
    WHERE d.verdict = 'granted' AND k.scope = $1 AND k.key = d.key
), started AS (
    INSERT INTO runs (run, scope, job, key, token, beacon, node, term, fire_time, claimed_at)
    SELECT run, $1, job, key, token, $2, $3, term, fire_time, clock_timestamp()
    FROM decided WHERE verdict = 'granted'
), lost AS (
    UPDATE runs r SET outcome = 'lost', ended_at = clock_timestamp()
    FROM decided d
    WHERE d.verdict = 'granted' AND r.run = d.holder AND r.outcome IS NULL
)
SELECT ord, verdict, holder, tick_run, cursor, epoch, wait, token, lost_job, lost_run, lost_fire_time FROM decided";

/// Which runs ($2) the session of a beacon ($1) was granted and has not completed. Locks nothing: what an abandoned
/// statement of another session may still take belongs to that session.
pub(super) const SETTLE: &str =
    "SELECT run, token FROM runs WHERE run = ANY ($2) AND beacon = $1 AND outcome IS NULL";

macro_rules! complete {
    ($locked:literal) => {
        concat!(
            "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($3::text[], $4::uuid[], $5::int8[], $6::text[])
    WITH ORDINALITY AS a (key, run, token, outcome, ord)
), key_rows AS MATERIALIZED (
    SELECT a.ord, k.run, k.beacon, k.token
    FROM asked a JOIN lock_keys k ON k.scope = $1 AND k.key = a.key
    ORDER BY k.key FOR UPDATE OF k",
            $locked,
            "
), decided AS MATERIALIZED (
    SELECT a.*,
        CASE
            WHEN k.ord IS NULL THEN
                CASE WHEN EXISTS (SELECT FROM lock_keys x WHERE x.scope = $1 AND x.key = a.key)
                     THEN 'locked' ELSE 'stale' END
            WHEN k.run = a.run AND k.token = a.token AND k.beacon = $2 THEN 'now'
            WHEN r.outcome <> 'lost' AND r.token = a.token THEN 'before'
            ELSE 'stale'
        END AS verdict
    FROM asked a FULL JOIN key_rows k ON k.ord = a.ord LEFT JOIN runs r ON r.run = a.run
), freed AS (
    UPDATE lock_keys k SET run = NULL, beacon = NULL
    FROM decided d WHERE d.verdict = 'now' AND k.scope = $1 AND k.key = d.key
), ended AS (
    UPDATE runs r SET outcome = d.outcome, ended_at = clock_timestamp()
    FROM decided d WHERE d.verdict = 'now' AND r.run = d.run
)
SELECT ord, verdict FROM decided"
        )
    };
}

/// Records ends and frees keys. Locks the key rows in the order of their names, skipping those that are locked.
///
/// $1 scope, $2 own beacon, then the ends, at most one per key: $3 keys, $4 runs, $5 tokens, $6 outcomes.
pub(super) const COMPLETE: &str = complete!(" SKIP LOCKED");

/// The same for ends whose keys were locked: waits for them. Three nodes that claimed forty keys in a loop locked them so
/// often that an end found its key locked five times in a row. Claims never wait for a key, and ends wait in the order of
/// the keys, so they cannot deadlock.
pub(super) const COMPLETE_WAITING: &str = complete!("");

/// Moves cursors over ticks that nobody runs. Locks the leader row for share and the job rows in the order of their names,
/// skipping those that are locked.
///
/// $1 scope, then the moves, at most one per job: $2 jobs, $3 expected cursors, $4 new cursors, $5 terms.
pub(super) const ADVANCE: &str = "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::int8[])
    WITH ORDINALITY AS a (job, expected, until, term, ord)
), term AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader WHERE scope = $1 FOR SHARE
), job_rows AS MATERIALIZED (
    SELECT a.ord, j.cursor, j.withdrawn
    FROM asked a JOIN jobs j ON j.scope = $1 AND j.job = a.job
    ORDER BY j.job FOR UPDATE OF j SKIP LOCKED
), decided AS MATERIALIZED (
    SELECT a.*, t.epoch,
        CASE WHEN j.ord IS NULL
             THEN coalesce((SELECT x.cursor FROM jobs x WHERE x.scope = $1 AND x.job = a.job), clock_timestamp())
             ELSE j.cursor END AS cursor,
        CASE
            WHEN (t.epoch = a.term AND t.expires_at > clock_timestamp()) IS NOT TRUE THEN 'deposed'
            WHEN j.ord IS NULL THEN
                CASE WHEN EXISTS (SELECT FROM jobs x WHERE x.scope = $1 AND x.job = a.job)
                     THEN 'locked' ELSE 'elsewhere' END
            WHEN j.withdrawn OR j.cursor <> a.expected THEN 'elsewhere'
            ELSE 'done'
        END AS verdict
    FROM asked a FULL JOIN job_rows j ON j.ord = a.ord LEFT JOIN term t ON true
), moved AS (
    UPDATE jobs j SET cursor = d.until, run = NULL
    FROM decided d WHERE d.verdict = 'done' AND j.scope = $1 AND j.job = d.job
)
SELECT ord, verdict, cursor, epoch FROM decided";

/// Closes up to $3 runs of dead sessions. Locks their keys in the order of their names, skipping those that are locked, and
/// reads the owner again once a key is locked: it may have been stolen since.
///
/// $1 scope, $2 own beacon, $3 the most to close.
pub(super) const CLOSE_LOST: &str = "
WITH dead AS MATERIALIZED (
    SELECT beacon
    FROM (SELECT DISTINCT beacon FROM lock_keys WHERE scope = $1 AND run IS NOT NULL) AS held
    WHERE CASE WHEN beacon = $2 THEN false ELSE pg_try_advisory_xact_lock_shared(beacon) END
), found AS MATERIALIZED (
    SELECT k.key, k.run FROM lock_keys k
    WHERE k.scope = $1 AND k.run IS NOT NULL AND k.beacon IN (SELECT beacon FROM dead)
    ORDER BY k.key LIMIT $3 FOR UPDATE OF k SKIP LOCKED
), freed AS (
    UPDATE lock_keys k SET run = NULL, beacon = NULL FROM found f WHERE k.scope = $1 AND k.key = f.key
)
UPDATE runs r SET outcome = 'lost', ended_at = clock_timestamp()
FROM found f WHERE r.run = f.run AND r.outcome IS NULL
RETURNING r.job, r.run, r.fire_time";

/// Whether there is a schema ($1).
pub(super) const SCHEMA_EXISTS: &str = "SELECT FROM pg_namespace WHERE nspname = $1";
