//! Runs that dead sessions left open.
//!
//! The table of sessions says which there were, and an index finds the names whose last owner each was. So a
//! search reads what that session held last, in pages, and nothing of names that are long gone.

use callsheet_actors::port::LostRun;
use tokio_postgres::{Error, Row};

use super::{
    Asker,
    claim::of_job,
    pending_retries::{LOSSES_BOUND, PENDING_RETRIES_BOUND, debt, lost_run, owing},
};

/// The first session of a scope ($1) after a beacon ($3) that is registered, but dead; not the own one
/// (beacon $2).
pub(in super::super) const NEXT_DEAD: &str = "
SELECT beacon FROM sessions
WHERE scope = $1 AND beacon > $3 AND beacon <> $2 AND is_over($1, beacon)
ORDER BY beacon LIMIT 1";

/// Takes a session (beacon $2) out of the table of a scope ($1), if it is dead.
pub(in super::super) const FORGET_SESSION: &str = "
DELETE FROM sessions WHERE scope = $1 AND beacon = $2 AND is_over($1, beacon)";

/// Closes runs of a dead session: of up to $3 names whose last owner it was, from the first one after $8 on,
/// up to $7 that have a run. Locks the rows of the keys in their order, skipping those that are locked, and
/// reads the owner again once a row is locked: somebody may have taken the key over since. Then the rows of
/// their jobs, if they are other ones whose cursors move to the ends. One statement changes a row once: what
/// would change one twice is left over.
///
/// $1 scope, $2 the dead session's beacon, $4 the channel of the scope, $5 how often a run is lost that is
/// retried no more, $6 the most pending retries of a job. With $7 zero it only looks. The row without a job
/// says how far it looked, whether that was all, and whether a run was left over.
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
      AND EXISTS (SELECT FROM names n WHERE n.name = f.run_job AND n.scope = CASE WHEN f.run_job IS NOT NULL THEN $1 END AND n.from_completion)
), elsewhere AS MATERIALIZED (
    SELECT l.name AS key, n.name
    FROM (SELECT * FROM losing WHERE alone ORDER BY run_job COLLATE \"C\") AS l
    CROSS JOIN LATERAL (
        SELECT name FROM names WHERE scope = $1 AND name = l.run_job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), closed AS MATERIALIZED (
    SELECT name AS key, run AS holder, token, claimed_at, run_node, run_job, run_term, fire_time AS run_fire_time,
           losses AS run_losses, CASE WHEN named_run = run THEN named_fire_time END AS run_named, clock_timestamp() AS decided_at,
           -- No claim takes their keys.
           NULL::text AS job, NULL::uuid AS run, NULL::timestamptz AS fire_time
    FROM found WHERE name NOT IN (SELECT name FROM losing EXCEPT SELECT key FROM elsewhere)
), freed AS (
    UPDATE names n
    SET run = NULL, ",
    of_job!(),
    "
    FROM closed d WHERE n.name = d.key AND n.scope = CASE WHEN d.key IS NOT NULL THEN $1 END
    RETURNING d.*
), kept AS (
    UPDATE names n
    SET ",
    of_job!(),
    "
    FROM closed d JOIN elsewhere e ON e.key = d.key
    WHERE n.name = e.name AND n.scope = CASE WHEN e.name IS NOT NULL THEN $1 END
), lost AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT holder, token, claimed_at, decided_at, run_fire_time, run_term, run_node, $1, run_job, key, 'lost' FROM freed
)",
    owing!(
        from: "freed",
        numbers: "NULL::int8 AS ord, NULL::int8 AS granted",
        taken_up: "SELECT NULL::uuid WHERE false",
        losses_max: "$5",
        pending_retries_max: "$6"
    ),
    "
SELECT run_job AS lost_job, holder AS run, run_fire_time AS lost_fire_time, run_node AS lost_node,
    token AS lost_token, ",
    debt!(channel: "$4", pending_retries_max: "$6"),
    ",
    NULL AS last, NULL::bool AS complete, NULL::bool AS left_over
FROM ranked WHERE NOT former
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    CASE WHEN o.count < $7 OR $7 = 0 THEN (SELECT max(name) FROM looked) ELSE (SELECT max(name) FROM open) END,
    (o.count < $7 OR $7 = 0) AND (SELECT count(*) FROM looked) < $3,
    o.count > (SELECT count(*) FROM freed)
FROM (SELECT count(*) FROM open) AS o"
);

parameters! {
    /// What [`NEXT_DEAD`] is asked.
    struct NextDead<'a> {
        scope: &'a str,
        beacon: i64,
        after: i64,
    }
}

parameters! {
    /// What [`FORGET_SESSION`] is asked.
    struct Session<'a> {
        scope: &'a str,
        dead: i64,
    }
}

parameters! {
    /// What [`CLOSE_LOST`] is asked.
    struct Names<'a> {
        scope: &'a str,
        dead: i64,
        looked_at: i64,
        channel: &'a str,
        losses_max: i32,
        pending_retries_max: i64,
        closed_max: i64,
        after: &'a str,
    }
}

impl<'a> NextDead<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, after: i64) -> Self {
        Self { scope: asker.scope, beacon: asker.beacon, after }
    }
}

impl<'a> Session<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, dead: i64) -> Self {
        Self { scope: asker.scope, dead }
    }
}

impl<'a> Names<'a> {
    /// Of a session (beacon `dead`), after a name: up to `looked_at` names, of which up to `closed_max` are
    /// closed.
    pub(in super::super) fn of(
        asker: Asker<'a>,
        dead: i64,
        after: &'a str,
        looked_at: i64,
        closed_max: usize,
    ) -> Self {
        Self {
            scope: asker.scope,
            dead,
            looked_at,
            channel: asker.channel,
            losses_max: LOSSES_BOUND,
            pending_retries_max: PENDING_RETRIES_BOUND,
            closed_max: i64::try_from(closed_max).unwrap_or(i64::MAX),
            after,
        }
    }
}

/// What a row of [`CLOSE_LOST`] says.
pub(in super::super) enum Closed {
    /// A run that was closed; `None`: its job has a name that no claim can have checked.
    Run(Option<LostRun>),
    /// How far it looked, whether that was all, and whether a run was left over.
    Summary { last: Option<String>, complete: bool, left_over: bool },
}

/// Reads a row of [`CLOSE_LOST`].
pub(in super::super) fn closed(row: &Row) -> Result<Closed, Error> {
    let complete: Option<bool> = row.try_get("complete")?;
    let left_over: Option<bool> = row.try_get("left_over")?;
    Ok(match complete.zip(left_over) {
        Some((complete, left_over)) => Closed::Summary { last: row.try_get("last")?, complete, left_over },
        None => Closed::Run(lost_run(row)?),
    })
}

/// Reads the row of [`NEXT_DEAD`].
pub(in super::super) fn next_dead(row: &Row) -> Result<i64, Error> {
    row.try_get("beacon")
}
