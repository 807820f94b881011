//! Connections that hold what others need: who they are, and their end.

/// Who has the leadership lock of a schema ($1) and scope ($2) in the way of this connection. Of another
/// role's connection it may not be known when it last did something: then it is how long it has had the lock
/// that counts. $3 own lease in milliseconds.
pub(in super::super) const LOCK_HOLDERS: &str = "
SELECT l.pid AS holder, l.classid::int8 << 32 | l.objid::int8 AS beacon, NULL::text AS transaction,
       pg_get_userbyid(a.usesysid)::text AS role,
       a.application_name AS application, true AS may_end, $3::float8 AS lease, coalesce(a.state_change::text, '') AS mark,
       a.query_start::text AS changed,
       (extract(epoch FROM clock_timestamp() - a.state_change) * 1e3)::float8 AS quiet
FROM pg_locks l CROSS JOIN LATERAL pg_stat_get_activity(l.pid) AS a
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::int8 << 32 | l.objid::int8 = hashtextextended('callsheet leader ' || $1 || '/' || $2, 0)
  AND l.pid <> pg_backend_pid()";

/// The transactions that keep another process ($1) waiting, and wait for nobody themselves; a prepared one
/// has no process.
///
/// One of a node may be silent for the lease of its session: it is told by its beacon, a leader's second
/// connection by its lock ($2 schema, $3 scope). Any other one may be silent for $4 milliseconds, and is not
/// ended while it works: it begins and ends statements, it copies, or what it waits for is not a word of its
/// client.
pub(in super::super) const BLOCKERS: &str = "
WITH RECURSIVE chain (pid) AS (
    SELECT unnest(pg_blocking_pids($1)) UNION SELECT unnest(pg_blocking_pids(c.pid)) FROM chain c WHERE c.pid <> 0
)
SELECT c.pid AS holder, NULL::int8 AS beacon, t.virtualtransaction AS transaction,
       pg_get_userbyid(a.usesysid)::text AS role, a.application_name AS application,
       -- Of what it does, the state is shown or nothing.
       CASE WHEN s.lease IS NOT NULL OR o.lease IS NOT NULL THEN true WHEN a.state IS NOT NULL THEN w.waits END AS may_end,
       coalesce((extract(epoch FROM coalesce(s.lease, o.lease)) * 1e3)::float8, $4::float8) AS lease,
       concat_ws(' ', t.virtualtransaction, a.state_change, w.waits, p.bytes_processed, p.tuples_processed) AS mark,
       a.state_change::text AS changed,
       (extract(epoch FROM clock_timestamp() - a.state_change) * 1e3)::float8 AS quiet
FROM chain c
LEFT JOIN LATERAL (SELECT * FROM pg_stat_get_activity(nullif(c.pid, 0)) WHERE pid = c.pid) AS a ON true
LEFT JOIN LATERAL (
    SELECT virtualtransaction FROM pg_locks WHERE locktype = 'virtualxid' AND pid = c.pid AND granted LIMIT 1
) AS t ON true
CROSS JOIN LATERAL (
    SELECT a.state LIKE 'idle in transaction%' OR coalesce(a.wait_event = 'ClientRead', false) AS waits
) AS w
LEFT JOIN pg_stat_progress_copy p ON p.pid = c.pid
LEFT JOIN LATERAL (
    SELECT n.lease FROM sessions n
    WHERE n.scope = $3 AND n.pid = c.pid AND n.role = a.usesysid AND EXISTS (
        SELECT FROM pg_locks k
        WHERE k.pid = c.pid AND k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
          AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND k.classid::int8 << 32 | k.objid::int8 = n.beacon
    )
    LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT n.lease
    FROM leader l JOIN sessions n ON n.scope = l.scope AND n.beacon = l.beacon AND n.role = a.usesysid
    WHERE l.scope = $3 AND EXISTS (
        SELECT FROM pg_locks k
        WHERE k.pid = c.pid AND k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
          AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND k.classid::int8 << 32 | k.objid::int8 = hashtextextended('callsheet leader ' || $2 || '/' || $3, 0)
    )
) AS o ON true
WHERE NOT EXISTS (SELECT FROM unnest(pg_blocking_pids(nullif(c.pid, 0))))";

/// Ends the connection of a process ($1) that is still in a transaction ($2), and has done nothing since ($3)
/// it was looked at.
pub(in super::super) const EVICT_TRANSACTION: &str = "
SELECT pg_terminate_backend(pid) AS ended FROM pg_locks
WHERE pid = $1 AND locktype = 'virtualxid' AND granted AND virtualtransaction = $2
  AND EXISTS (SELECT FROM pg_stat_get_activity($1) AS a WHERE a.state_change::text IS NOT DISTINCT FROM $3)";

/// Ends the connection of a process ($1) that still holds a lock ($2), and was asked nothing since ($3) it
/// was looked at: the id may have been given to another one.
pub(in super::super) const EVICT: &str = "
SELECT pg_terminate_backend(pid) AS ended FROM pg_locks
WHERE pid = $1 AND classid::int8 << 32 | objid::int8 = $2
  AND locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND EXISTS (SELECT FROM pg_stat_get_activity($1) AS a WHERE a.query_start::text IS NOT DISTINCT FROM $3)";
