//! Claims of what names a fire time and takes no tick. Their statements are prepared when they are asked, since most
//! nodes never ask them.

use super::super::pending_retries::{debt, owing};

/// What is asked besides.
macro_rules! asked_of_backfill {
    () => {
        ", unnest($12::bool[]) AS replace, unnest($13::bool[]) AS retake, unnest($17::timestamptz[]) AS named,
           unnest($18::uuid[]) AS backfill, unnest($19::int4[]) AS nth"
    };
}

/// The same as [`CLAIM_FULLY`](super::CLAIM_FULLY) for what names a fire time and takes no tick: manual triggers, and
/// runs of backfills.
///
/// The row of its backfill decides about a run of one. It is locked after that of the key, skipping one that is locked:
/// so a run is granted once, whatever its key, and only while its fire time is in flight. It remembers under which key
/// the run was granted last; there, or under another slot of the key that is asked for, the run is held, or it is in
/// the table of runs, or owed. A grant that this statement does not see yet has not ended.
///
/// As for [`CLAIM_FULLY`](super::CLAIM_FULLY), and $17 the fire times, $18 the backfills, $19 the numbers of their fire
/// times.
pub(in super::super::super) const CLAIM_NAMED: &str = claim!(
    asked: asked_of_backfill!(),
    found: "found AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until,
           n.pause_note, n.retry_lost, NULL::tid AS debt, NULL::timestamptz AS owed_fire_time, NULL::int4 AS owed_losses,
           NULL::int8 AS owed_token, n.token, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term,
           n.fire_time AS run_fire_time, n.losses AS run_losses, n.ctid AS place,
           CASE WHEN n.named_run = n.run THEN n.named_fire_time END AS run_named,
           b.state = 'running' AND a.nth = ANY (b.in_flight) AS in_flight, a.nth = ANY (b.granted) AS is_granted,
           b.granted_keys[array_position(b.granted, a.nth)] AS granted_key
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
    LEFT JOIN LATERAL (
        SELECT state, in_flight, granted, granted_keys FROM backfills
        WHERE scope = $1 AND backfill = a.backfill FOR UPDATE SKIP LOCKED
    ) AS b ON true
    WHERE b.state IS NOT NULL OR (SELECT true FROM backfills x WHERE x.scope = $1 AND x.backfill = a.backfill LIMIT 1) IS NULL
)",
    taken_up: "            WHEN f.backfill IS NOT NULL AND f.run = f.holder THEN 'ran before'
            WHEN f.backfill IS NOT NULL AND f.in_flight IS NOT TRUE THEN 'not granted'
            WHEN f.is_granted OR (f.backfill IS NOT NULL AND (SELECT true FROM runs r WHERE r.run = f.run LIMIT 1)) THEN 'ran before'\n",
    own: "",
    others: "",
    moved: "",
    set: concat!(of_job!(), ", named_fire_time = d.named, named_run = d.run"),
    at: "n.ctid = d.place",
    marked: ", granting AS MATERIALIZED (
    SELECT backfill, array_agg(nth) AS nths, array_agg(key) AS keys FROM taken WHERE backfill IS NOT NULL GROUP BY backfill
), marked AS (
    -- By its name, not by its place: it is locked as it is now, which may be newer than what the statement sees.
    UPDATE backfills b
    SET granted = b.granted || g.nths, granted_keys = b.granted_keys || g.keys, started_at = clock_timestamp()
    FROM granting g WHERE b.scope = $1 AND b.backfill = g.backfill
)",
    outcome: "CASE WHEN verdict = 'ran before'
        AND (SELECT true FROM names o WHERE o.name = granted_key AND o.scope = CASE WHEN granted_key IS NOT NULL THEN $1 END
             AND o.run = decided.run LIMIT 1) IS NULL
        -- The names of its slots are the key, a control character, and a number.
        AND (SELECT true FROM names o
             WHERE o.scope = $1 AND o.run = decided.run
               AND o.name >= split_part(key, chr(31), 1) AND o.name < split_part(key, chr(31), 1) || ' '
             LIMIT 1) IS NULL
        AND (SELECT true FROM debts o JOIN names n ON n.name = o.job AND n.scope = CASE WHEN o.job IS NOT NULL THEN $1 END
             WHERE o.scope = $1 AND o.run = decided.run AND n.retry_lost AND NOT n.withdrawn LIMIT 1) IS NULL
    THEN (SELECT r.outcome FROM runs r WHERE r.run = decided.run ORDER BY r.token DESC LIMIT 1) END"
);

/// The same as [`CLAIM_WITH_KEY`](super::CLAIM_WITH_KEY) for pending retries of runs of backfills, whatever their keys.
/// The row of the backfill, which is locked last, remembers the key under which a run goes on: it may be another one
/// than that under which it was granted first.
///
/// As for [`CLAIM_NAMED`].
pub(in super::super::super) const RESUME_BACKFILLED: &str = claim!(
    asked: asked_of_backfill!(),
    found: found_with_key!(),
    taken_up: of_retaken!(),
    own: " AND run_job <> job",
    others: " AND NOT run_job = ANY ($4::text[])",
    moved: concat!(
        ", moved AS (
    UPDATE names n
    SET ",
        of_job!(),
        "
    FROM decided d
    WHERE d.verdict = 'granted' AND d.ord NOT IN (SELECT ord FROM barred)
      -- One statement changes a row once.
      AND d.job <> d.key AND n.name = d.job AND n.scope = CASE WHEN d.job IS NOT NULL THEN $1 END
)"
    ),
    set: concat!(of_job!(), name_of_retaken!()),
    at: "n.name = d.key AND n.scope = CASE WHEN d.key IS NOT NULL THEN $1 END",
    marked: ", resumed AS MATERIALIZED (
    SELECT backfill, array_agg(nth) AS nths, array_agg(key) AS keys FROM taken GROUP BY backfill
), marked AS (
    UPDATE backfills b
    SET granted_keys = ARRAY(
        SELECT coalesce(r.keys[array_position(r.nths, g.nth)], g.key)
        FROM unnest(b.granted, b.granted_keys) WITH ORDINALITY AS g (nth, key, place) ORDER BY g.place
    )
    FROM resumed r WHERE b.scope = $1 AND b.backfill = r.backfill
)",
    outcome: "NULL"
);
