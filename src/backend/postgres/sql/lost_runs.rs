//! Runs that dead sessions left open.
//!
//! The table of sessions says which there were, and an index finds the names whose last owner each was. So a search reads what that
//! session held last, in pages, and nothing of names that are long gone.

/// The first session of a scope ($1) after a beacon ($3) that is registered, but dead; not the own one (beacon $2).
pub(in super::super) const NEXT_DEAD: &str = "
SELECT beacon FROM sessions
WHERE scope = $1 AND beacon > $3 AND beacon <> $2 AND is_over($1, beacon)
ORDER BY beacon LIMIT 1";

/// Takes a session (beacon $2) out of the table of a scope ($1), if it is dead.
pub(in super::super) const FORGET_SESSION: &str = "
DELETE FROM sessions WHERE scope = $1 AND beacon = $2 AND is_over($1, beacon)";

/// Closes runs of a dead session: of up to $3 names whose last owner it was, from the first one after $8 on, up to $7 that have a run.
/// Locks the rows of the keys in their order, skipping those that are locked, and reads the owner again once a row is locked: the
/// key may have been stolen since. Then the rows of their jobs, if they are other ones whose cursors move to the ends. One
/// statement changes a row once: what would change one twice is left over.
///
/// $1 scope, $2 the dead session's beacon, $4 the channel of the scope, $5 how often a run is lost that is owed no more,
/// $6 the most that a job owes. With $7 zero it only looks. The row without a job says how far it looked, whether that was all, and whether a run was left over.
pub(in super::super) const CLOSE_LOST: &str = concat!(
    "
WITH looked AS MATERIALIZED (
    SELECT name, run FROM names WHERE scope = $1 AND beacon = $2 AND name > $8 ORDER BY name LIMIT $3
), open AS MATERIALIZED (
    SELECT name FROM looked WHERE run IS NOT NULL ORDER BY name LIMIT $7
), found AS MATERIALIZED (
    SELECT n.*
    FROM (SELECT name FROM open ORDER BY name) AS o
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = o.name AND run IS NOT NULL AND beacon = $2 FOR UPDATE SKIP LOCKED
    ) AS n
), losing AS MATERIALIZED (
    SELECT name, run_job,
           row_number() OVER (PARTITION BY run_job ORDER BY name) = 1 AND run_job NOT IN (SELECT name FROM found) AS alone
    FROM found f
    WHERE run_job <> name
      AND EXISTS (SELECT FROM names n WHERE n.scope = $1 AND n.name = f.run_job AND n.from_completion)
), elsewhere AS MATERIALIZED (
    SELECT l.name AS key, n.name
    FROM (SELECT * FROM losing WHERE alone ORDER BY run_job COLLATE \"C\") AS l
    CROSS JOIN LATERAL (
        SELECT name FROM names WHERE scope = $1 AND name = l.run_job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), closed AS MATERIALIZED (
    SELECT name AS key, run AS holder, token, claimed_at, run_node, run_job, run_term, fire_time AS run_fire_time,
           losses AS run_losses, clock_timestamp() AS decided_at,
           -- No claim takes their keys.
           NULL::text AS job, NULL::uuid AS run, NULL::timestamptz AS fire_time
    FROM found WHERE name NOT IN (SELECT name FROM losing EXCEPT SELECT key FROM elsewhere)
), freed AS (
    UPDATE names n
    SET run = NULL, ",
    of_job!(),
    "
    FROM closed d WHERE n.scope = $1 AND n.name = d.key
    RETURNING d.*
), kept AS (
    UPDATE names n
    SET ",
    of_job!(),
    "
    FROM closed d JOIN elsewhere e ON e.key = d.key
    WHERE n.scope = $1 AND n.name = e.name
), lost AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT holder, token, claimed_at, decided_at, run_fire_time, run_term, run_node, $1, run_job, key, 'lost' FROM freed
)",
    owing!(
        from: "freed",
        numbers: "NULL::int8 AS ord, NULL::int8 AS granted",
        taken_up: "SELECT NULL::uuid WHERE false",
        losses_max: "$5",
        debts_max: "$6"
    ),
    "
SELECT run_job AS lost_job, holder AS run, run_fire_time AS lost_fire_time, ",
    debt!(channel: "$4", debts_max: "$6"),
    ",
    NULL AS last, NULL::bool AS complete, NULL::bool AS left_over
FROM ranked WHERE NOT former
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL,
    CASE WHEN o.count < $7 OR $7 = 0 THEN (SELECT max(name) FROM looked) ELSE (SELECT max(name) FROM open) END,
    (o.count < $7 OR $7 = 0) AND (SELECT count(*) FROM looked) < $3,
    o.count > (SELECT count(*) FROM freed)
FROM (SELECT count(*) FROM open) AS o"
);
