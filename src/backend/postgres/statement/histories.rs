//! Whether the server knows what it granted to a node before, perhaps by another history.

/// What this server does not know of the runs of a node, and its epoch if that is lower than a term that the
/// node was granted. Locks nothing.
///
/// Tokens of a key only grow, also when it is forgotten: a greater one than the newest was granted elsewhere.
/// So was one that another run has, and a tick that another run has. A run that is missing is neither open
/// nor ended. Those that ended since the oldest of them are looked at: their ids grow with time, and no index
/// begins with the scope. What belongs together is found by grouping, since nothing is joined by a hash.
///
/// $1 scope, $2 the newest term, then the runs: $3 jobs, $4 keys, $5 runs, $6 tokens, $7 fire times; $8 how
/// many that ended. A run may have several rows.
pub(in super::super) const COMPARE: &str = "
WITH lead AS MATERIALIZED (
    SELECT epoch, token_bound FROM leader WHERE scope = $1
), asked AS MATERIALIZED (
    SELECT * FROM unnest($3::text[], $4::text[], $5::uuid[], $6::int8[], $7::timestamptz[])
    WITH ORDINALITY AS a (job, key, run, token, fire_time, ord)
), compared AS MATERIALIZED (
    SELECT a.ord, a.job COLLATE \"C\" AS job, a.key COLLATE \"C\" AS key, a.run, a.token, a.fire_time,
           coalesce(n.token, (SELECT token_bound FROM lead), 0) < a.token AS unknown,
           n.run IS DISTINCT FROM a.run AND r.run IS NULL AS missing,
           CASE WHEN n.token = a.token AND n.run <> a.run THEN n.run END AS token_also,
           CASE WHEN j.cursor = a.fire_time AND j.cursor_run <> a.run THEN j.cursor_run END AS tick_also
    FROM asked a
    LEFT JOIN LATERAL (SELECT token, run FROM names WHERE scope = $1 AND name = a.key LIMIT 1) AS n ON true
    LEFT JOIN LATERAL (SELECT cursor, cursor_run FROM names WHERE scope = $1 AND name = a.job LIMIT 1) AS j ON true
    LEFT JOIN LATERAL (SELECT run FROM runs WHERE run = a.run LIMIT 1) AS r ON true
), newer AS MATERIALIZED (
    SELECT run, token, scope, job, key, fire_time FROM runs
    WHERE run >= (SELECT run FROM compared WHERE missing ORDER BY run LIMIT 1)
    ORDER BY run DESC LIMIT $8
)
SELECT ord, unknown, missing, token_also, tick_also, NULL::int8 AS epoch FROM compared
WHERE unknown OR missing OR token_also IS NOT NULL OR tick_also IS NOT NULL
UNION ALL
SELECT max(ord), false, true, (array_agg(run) FILTER (WHERE ord IS NULL))[1], NULL, NULL
FROM (
    SELECT ord, key, token, run FROM compared WHERE missing
    UNION ALL
    SELECT NULL, key, token, run FROM newer WHERE scope = $1
) AS of_tokens
GROUP BY key, token HAVING count(ord) BETWEEN 1 AND count(*) - 1
UNION ALL
SELECT max(ord), false, true, NULL, (array_agg(run) FILTER (WHERE ord IS NULL))[1], NULL
FROM (
    SELECT ord, job, fire_time, run FROM compared WHERE missing AND fire_time IS NOT NULL
    UNION ALL
    SELECT NULL, job, fire_time, run FROM newer WHERE scope = $1 AND fire_time IS NOT NULL
) AS of_ticks
GROUP BY job, fire_time HAVING count(ord) BETWEEN 1 AND count(*) - 1
UNION ALL
SELECT NULL, false, false, NULL, NULL, coalesce((SELECT epoch FROM lead), 0)
WHERE coalesce((SELECT epoch FROM lead), 0) < $2";
