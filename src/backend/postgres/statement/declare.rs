//! Policies of keys: a node that has a job declares one for its key, and one key has one policy.

use callsheet_actors::port::{Declaration, Enrolment};
use tokio_postgres::{Error, Row};

use super::{Asker, authorities};

/// Who leads, to tell whether a declaration of a policy stands. Whoever decides by it locks the row for
/// share: a renewal under way may keep a term that seems to be over.
macro_rules! lead {
    ($lock:literal) => {
        concat!(
            "lead AS MATERIALIZED (
    SELECT epoch, beacon, expires_at, age, token_bound, cursor_bound FROM leader WHERE scope = $1 ",
            $lock,
            "
)"
        )
    };
}

/// Whether the declarations of a key (`declared`, `declared_term`, `declared_by`, of rows `f` that are
/// locked, by whoever asks with a policy `overlap`, perhaps under a `term`) contradict it, and which other
/// sessions that live declare a policy. Each is probed once.
macro_rules! judged {
    (found: $found:literal, own: $own:literal) => {
        concat!(
            "declarers AS MATERIALIZED (
    SELECT beacon, is_over($1, beacon) AS dead
    FROM (SELECT DISTINCT unnest(declared_by) AS beacon FROM ",
            $found,
            ") AS d WHERE beacon <> ",
            $own,
            "
), judged AS MATERIALIZED (
    SELECT f.*, coalesce(o.others, '{}') AS others, coalesce(f.declared <> f.overlap, false) AND (
        o.others IS NOT NULL
        -- The first term of all may have just begun.
        OR coalesce(f.declared_term IS DISTINCT FROM f.term AND (
            f.declared_term > coalesce(l.epoch, 0) OR (f.declared_term = l.epoch AND l.expires_at > clock_timestamp() AND l.beacon <> ",
            $own,
            ")
        ), false)
    ) AS conflicts,
    coalesce(f.declared_term = l.epoch AND l.beacon = ",
            $own,
            ", false) AS own_term
    FROM ",
            $found,
            " f LEFT JOIN lead l ON true
    CROSS JOIN LATERAL (
        SELECT array_agg(beacon) AS others FROM declarers
        WHERE f.declared_by IS NOT NULL AND NOT dead AND beacon = ANY (f.declared_by)
    ) AS o
)"
        )
    };
}

/// What an enrolment changes of the declarations of a key on its row (`n`), as it was judged (`j`). Who is
/// contradicted declares nothing any more. Sessions that are dead are left out, so that there are never more
/// than nodes.
macro_rules! declares {
    (alone: $alone:literal, own: $own:literal) => {
        concat!(
            "overlap = CASE WHEN j.conflicts THEN n.overlap ELSE j.overlap END,
        declared_term = CASE
            WHEN NOT j.conflicts THEN coalesce(j.term, n.declared_term)
            WHEN NOT j.own_term THEN n.declared_term
        END,
        declared_by = nullif(j.others || CASE
            WHEN NOT j.conflicts AND (",
            $alone,
            " OR coalesce(",
            $own,
            " = ANY (n.declared_by), false)) THEN ARRAY[",
            $own,
            "]
            ELSE '{}'
        END, '{}')"
        )
    };
}

/// Declares the policies of keys that are not the names of their jobs, before these are enrolled. Locks the
/// leader row for share and the rows of the keys in their order, skipping those that are locked: that is all
/// that decides. A job that the leader schedules declares nothing. Answers what contradicts.
///
/// $1 scope, $2 own beacon, then the enrolments, whose rows there are: $3 jobs, $4 keys, $5 policies, $6
/// terms, $7 whether only unless the leader schedules the job. All are of one node, which sees to it that
/// those with one key have one policy.
pub(in super::super) const DECLARE: &str = concat!(
    "
WITH ",
    lead!("FOR SHARE"),
    ", asked AS MATERIALIZED (
    SELECT a.key, (array_agg(a.overlap ORDER BY a.ord))[1] AS overlap, max(a.term) AS term, bool_or(a.term IS NULL) AS alone
    FROM unnest($3::text[], $4::text[], $5::text[], $6::int8[], $7::bool[])
         WITH ORDINALITY AS a (job, key, overlap, term, unled, ord)
    LEFT JOIN lead l ON true
    LEFT JOIN LATERAL (
        SELECT withdrawn, term FROM names WHERE scope = $1 AND name = a.job LIMIT 1
    ) AS n ON a.unled
    WHERE CASE WHEN a.term IS NULL THEN (a.unled AND l.expires_at > clock_timestamp() AND NOT n.withdrawn AND n.term = l.epoch) IS NOT TRUE
          ELSE l.expires_at > clock_timestamp() AND a.term = l.epoch END
    GROUP BY a.key
), found AS MATERIALIZED (
    SELECT a.*, n.overlap AS declared, n.declared_term, n.declared_by, n.ctid AS place
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), ",
    judged!(found: "found", own: "$2"),
    ", declared AS (
    UPDATE names n
    SET ",
    declares!(alone: "j.alone", own: "$2"),
    "
    FROM judged j WHERE n.ctid = j.place
)
SELECT key, declared FROM judged WHERE conflicts"
);

/// Which policies contradict those ($5) that jobs ($3) are to have for their keys ($4), in their order, as it
/// stands now: of others than the own session ($2) of a scope ($1), unless one is the leader and schedules
/// the job. Locks nothing.
pub(in super::super) const CONFLICTS: &str = concat!(
    "
WITH ",
    lead!(""),
    ", found AS MATERIALIZED (
    SELECT a.*, NULL::int8 AS term, k.overlap AS declared, k.declared_term, k.declared_by,
           l.expires_at > clock_timestamp() AND k.declared_term = l.epoch AND n.term = l.epoch AND NOT n.withdrawn AS led
    FROM unnest($3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS a (job, key, overlap, ord)
    LEFT JOIN lead l ON l.beacon <> $2
    LEFT JOIN LATERAL (
        SELECT overlap, declared_term, declared_by FROM names WHERE scope = $1 AND name = a.key LIMIT 1
    ) AS k ON true
    LEFT JOIN LATERAL (SELECT withdrawn, term FROM names WHERE scope = $1 AND name = a.job LIMIT 1) AS n ON true
), ",
    judged!(found: "found", own: "$2"),
    "
SELECT CASE WHEN conflicts AND led IS NOT TRUE THEN declared END AS declared FROM judged ORDER BY ord"
);

/// Takes back what a session ($2) of a scope ($1), or its term, declares of keys ($3), and that it fires the jobs of
/// these names without a term. Those that are locked
/// are missing in the answer.
pub(in super::super) const RETRACT: &str = concat!(
    "
WITH ",
    lead!(""),
    ", found AS MATERIALIZED (
    SELECT n.name, n.ctid AS place, coalesce(n.declared_term = l.epoch AND l.beacon = $2, false) AS own_term,
           coalesce($2 = ANY (n.declared_by), false) OR coalesce($2 = ANY (n.fired_by), false) AS declares
    FROM (SELECT * FROM unnest($3::text[]) AS a (key) ORDER BY key COLLATE \"C\") AS a
    LEFT JOIN lead l ON true
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), retracted AS (
    UPDATE names n
    SET declared_by = nullif(array_remove(n.declared_by, $2), '{}'), fired_by = nullif(array_remove(n.fired_by, $2), '{}'),
        declared_term = CASE WHEN f.own_term THEN NULL ELSE n.declared_term END
    FROM found f WHERE (f.own_term OR f.declares) AND n.ctid = f.place
    RETURNING n.name
)
SELECT name FROM retracted
UNION ALL SELECT name FROM found WHERE NOT (own_term OR declares)
UNION ALL
SELECT key FROM unnest($3::text[]) AS a (key) WHERE NOT EXISTS (SELECT FROM names WHERE name = a.key AND scope = CASE WHEN a.key IS NOT NULL THEN $1 END)"
);

pub(super) use {judged, lead};

parameters! {
    /// What [`DECLARE`] is asked.
    struct Declarations<'a> {
        scope: &'a str,
        beacon: i64,
        jobs: Vec<&'a str>,
        keys: Vec<&'a str>,
        overlaps: Vec<String>,
        terms: Vec<Option<i64>>,
        leaderless: Vec<bool>,
    }
}

parameters! {
    /// What [`CONFLICTS`] is asked.
    struct Asked<'a> {
        scope: &'a str,
        beacon: i64,
        jobs: Vec<&'a str>,
        keys: Vec<&'a str>,
        overlaps: Vec<String>,
    }
}

parameters! {
    /// What [`RETRACT`] is asked.
    struct Retracted<'a> {
        scope: &'a str,
        beacon: i64,
        keys: Vec<&'a str>,
    }
}

impl<'a> Declarations<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, jobs: &[&'a Enrolment]) -> Self {
        let (terms, leaderless) = authorities(jobs.iter().map(|job| Some(job.authority)));
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            jobs: jobs.iter().map(|job| job.job.as_str()).collect(),
            keys: jobs.iter().map(|job| job.key.as_str()).collect(),
            overlaps: jobs.iter().map(|job| job.overlap.to_string()).collect(),
            terms,
            leaderless,
        }
    }
}

impl<'a> Asked<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, asked: &'a [Declaration]) -> Self {
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            jobs: asked.iter().map(|asked| asked.job.as_str()).collect(),
            keys: asked.iter().map(|asked| asked.key.as_str()).collect(),
            overlaps: asked.iter().map(|asked| asked.overlap.to_string()).collect(),
        }
    }
}

impl<'a> Retracted<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, keys: Vec<&'a str>) -> Self {
        Self { scope: asker.scope, beacon: asker.beacon, keys }
    }
}

/// Reads a row of [`CONFLICTS`].
pub(in super::super) fn conflict(row: &Row) -> Result<Option<String>, Error> {
    row.try_get("declared")
}

/// Reads a row of [`RETRACT`].
pub(in super::super) fn retracted(row: &Row) -> Result<String, Error> {
    row.try_get("name")
}

/// Reads a row of [`DECLARE`]: a key, and the policy that contradicts.
pub(in super::super) fn contradicted(row: &Row) -> Result<(String, String), Error> {
    Ok((row.try_get("key")?, row.try_get("declared")?))
}
