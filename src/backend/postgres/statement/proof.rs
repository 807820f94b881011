//! The proof that a node could claim, on a row of its own.

/// Locks and writes what a claim and an end lock and write, on a row that no job and no key can have: its
/// name is empty. One row of the scope, of which each version takes the place of the one before: no index is
/// touched.
///
/// What changes no row asks for the rights that its change would need, and for the table. Order of locks as
/// everywhere: the leader row, then the row of the name; whoever waits for that one holds nothing that its
/// holder waits for.
///
/// A leader leaves there since when a tick is due and not decided, which holds for the present term only, and
/// by when the missed ticks that wait for their turns are to have begun, for as long; and
/// when it said last that all that was due is decided, which holds until a leader says so again. A leader of
/// the version before never says the latter: its session is not the one that `tells`.
///
/// It stands in for a heartbeat: so it looks at the server process, and reads the clock.
///
/// $1 scope, $2 the term of a leader, $3 since when a tick is overdue, $4 whether all is decided, $5 by when those
/// that wait are to have begun.
pub(in super::super) const PROVE: &str = "
WITH lead AS MATERIALIZED (
    SELECT epoch, tells = beacon AS tells FROM leader WHERE scope = $1 FOR SHARE
), proved AS (
    INSERT INTO names AS n (scope, name, claimed_at, run_term, fire_time, decided_at, catching_up_until)
    SELECT $1, '', clock_timestamp(), $2, $3,
           CASE WHEN $4 AND (SELECT epoch FROM lead) = $2 THEN clock_timestamp() END, $5
    WHERE (SELECT count(*) FROM lead) >= 0
    ON CONFLICT (scope, name) DO UPDATE
    SET claimed_at = excluded.claimed_at,
        decided_at = coalesce(excluded.decided_at, n.decided_at),
        run_term = coalesce(excluded.run_term, n.run_term),
        fire_time = CASE WHEN excluded.run_term IS NULL THEN n.fire_time ELSE excluded.fire_time END,
        catching_up_until = CASE WHEN excluded.run_term IS NULL THEN n.catching_up_until ELSE excluded.catching_up_until END
    RETURNING run_term, fire_time, decided_at, catching_up_until
), ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, claimed_at, run_node, scope, name, name, name FROM names WHERE false
), owed AS (
    INSERT INTO debts (scope, run, job, losses, token) SELECT scope, run, job, 1, token FROM runs WHERE false
), settled AS (
    DELETE FROM debts WHERE false
)
SELECT epoch, EXISTS (SELECT FROM proved) AS written,
       (SELECT fire_time FROM proved WHERE run_term = epoch) AS overdue_since,
       (SELECT catching_up_until FROM proved WHERE run_term = epoch) AS catching_up_until,
       (SELECT tells FROM lead) AS tells, (SELECT decided_at FROM proved) AS decided_at,
       pg_backend_pid() AS pid, clock_timestamp() AS now
FROM (SELECT (SELECT epoch FROM lead) AS epoch) AS l";
