//! Names that are out of use, and how they are forgotten.
//!
//! A scope has an *age*, in milliseconds: for how long somebody has led, all told. Each name knows how old
//! the scope was when it was last held, and an index finds the names that were not for longest. That column
//! changes neither by claims nor by ends.

use std::time::Duration;

use callsheet_actors::{JobName, Term, port::AGES_AT_MOST};
use tokio_postgres::{Error, Row};

use super::{Asker, number};

/// Lets a scope ($1) grow older, up to $4 milliseconds, as the leader of a term ($3; own beacon $2) that is
/// not over.
pub(in super::super) const AGE: &str = "
UPDATE leader
SET age = age + least(greatest(0, date_part('epoch', clock_timestamp() - aged_at) * 1e3), $4::int8)::int8,
    aged_at = clock_timestamp()
WHERE scope = $1 AND beacon = $2 AND epoch = $3 AND expires_at > clock_timestamp()
RETURNING age";

/// Forgets names of a scope ($1) that were out of use for $4 milliseconds of its age, as the leader of a term
/// ($3; own beacon $2) that is not over. Looks at up to $5 names, those that were not held for longest, after
/// one ($6 its age, $7 its name): what is before was deleted a moment ago, and would be read once more. Locks
/// the leader row, so that nobody makes a name by former bounds, then rows of names, skipping those that are
/// locked. A name that is in use after all is looked at again when it is as old once more. Answers how many
/// were looked at, how many are gone, the last one and, if that is all, the age of the next: one that was
/// skipped waits until that one is looked at.
pub(in super::super) const FORGET: &str = "
WITH lead AS MATERIALIZED (
    SELECT epoch, age FROM leader
    WHERE scope = $1 AND beacon = $2 AND epoch = $3 AND expires_at > clock_timestamp() FOR NO KEY UPDATE
), looked AS MATERIALIZED (
    SELECT n.*, l.epoch
    FROM lead l
    CROSS JOIN LATERAL (
        SELECT ctid AS place, * FROM names
        WHERE scope = $1 AND held_age >= 0 AND held_age <= l.age - $4::int8 AND (held_age, name) > ($6::int8, $7::text)
        ORDER BY held_age, name LIMIT $5 FOR UPDATE SKIP LOCKED
    ) AS n
), judged AS MATERIALIZED (
    SELECT place, run IS NULL
        AND NOT (paused AND coalesce(paused_until > clock_timestamp(), true))
        -- A key, or a job that is only triggered by hand, is in use while it is claimed.
        AND (withdrawn OR coalesce(claimed_at <= clock_timestamp() - $4::int8 * interval '1 millisecond', true))
        AND coalesce(declared_term <> epoch, true)
        AND (SELECT true FROM sessions s WHERE s.scope = $1 AND s.beacon = ANY (declared_by) LIMIT 1) IS NULL
        -- Whoever comes with this name is to find the other one.
        AND (renamed_to IS NULL OR (SELECT r.formerly FROM names r WHERE r.scope = $1 AND r.name = looked.renamed_to LIMIT 1) IS NULL)
        AND (SELECT true FROM debts d WHERE d.scope = $1 AND d.job = name LIMIT 1) IS NULL AS goes
    FROM looked
), gone AS (
    DELETE FROM names WHERE ctid = ANY (ARRAY(SELECT place FROM judged WHERE goes)) RETURNING token, cursor
), bounds AS MATERIALIZED (
    SELECT count(*) AS count, max(token) AS token, max(cursor) AS cursor FROM gone
), bounded AS (
    UPDATE leader
    SET token_bound = greatest(token_bound, (SELECT token FROM bounds)),
        cursor_bound = greatest(cursor_bound, (SELECT cursor FROM bounds))
    WHERE scope = $1 AND (SELECT count FROM bounds) > 0
), stays AS (
    UPDATE names SET held_age = (SELECT age FROM lead) WHERE ctid = ANY (ARRAY(SELECT place FROM judged WHERE NOT goes))
)
SELECT (SELECT count(*) FROM looked) AS looked, count AS gone, o.held_age, o.name,
       CASE WHEN (SELECT count(*) FROM looked) < $5 THEN (
           SELECT held_age FROM names
           WHERE scope = $1 AND held_age >= 0 AND (held_age, name) > (coalesce(o.held_age, $6), coalesce(o.name, $7))
           ORDER BY held_age, name LIMIT 1
       ) END AS oldest
FROM bounds LEFT JOIN (SELECT held_age, name FROM looked ORDER BY held_age DESC, name DESC LIMIT 1) AS o ON true";

/// Says that jobs ($2) of a scope ($1) are still used, unless it was said within the last $3 milliseconds of
/// its age. Locks their rows in their order, skipping those that are locked.
pub(in super::super) const KEEP_NAMES: &str = "
WITH found AS MATERIALIZED (
    SELECT n.place, l.age
    FROM leader l
    CROSS JOIN (SELECT * FROM unnest($2::text[]) AS a (job) ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM names
        WHERE scope = $1 AND name = a.job AND NOT withdrawn AND held_age < l.age - $3::int8 FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
    WHERE l.scope = $1
)
UPDATE names n SET held_age = f.age FROM found f WHERE n.ctid = f.place";

parameters! {
    /// What [`AGE`] is asked.
    struct Ages<'a> {
        scope: &'a str,
        beacon: i64,
        term: i64,
        millis_max: i64,
    }
}

parameters! {
    /// What [`FORGET`] is asked.
    struct Page<'a> {
        scope: &'a str,
        beacon: i64,
        term: i64,
        unused_millis: i64,
        names_max: i64,
        after_age: i64,
        after_name: &'a str,
    }
}

parameters! {
    /// What [`KEEP_NAMES`] is asked.
    struct Held<'a> {
        scope: &'a str,
        jobs: Vec<&'a str>,
        fresh_millis: i64,
    }
}

impl<'a> Ages<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, term: Term) -> Self {
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            term: number(term),
            millis_max: millis(AGES_AT_MOST),
        }
    }
}

impl<'a> Page<'a> {
    /// The names that come after one, by their ages; without one, from the first on.
    pub(in super::super) fn of(
        asker: Asker<'a>,
        term: Term,
        unused: Duration,
        names_max: i64,
        after: Option<&'a (i64, String)>,
    ) -> Self {
        let (after_age, after_name) = after.map_or((-1, ""), |(age, name)| (*age, name.as_str()));
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            term: number(term),
            unused_millis: millis(unused),
            names_max,
            after_age,
            after_name,
        }
    }
}

impl<'a> Held<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, jobs: &'a [JobName], fresh: Duration) -> Self {
        Self {
            scope: asker.scope,
            jobs: jobs.iter().map(JobName::as_str).collect(),
            fresh_millis: millis(fresh),
        }
    }
}

/// What [`FORGET`] answers.
#[derive(Debug, Default)]
pub(in super::super) struct Looked {
    pub(in super::super) looked_at: i64,
    pub(in super::super) gone: i64,
    /// The last name, and its age.
    pub(in super::super) last: Option<(i64, String)>,
    /// The age of the next name, if there are no more that are old enough.
    pub(in super::super) next_age: Option<i64>,
}

/// Reads the row of [`FORGET`].
pub(in super::super) fn looked(row: &Row) -> Result<Looked, Error> {
    let held_age: Option<i64> = row.try_get("held_age")?;
    Ok(Looked {
        looked_at: row.try_get("looked")?,
        gone: row.try_get("gone")?,
        last: held_age.zip(row.try_get::<_, Option<String>>("name")?),
        next_age: row.try_get("oldest")?,
    })
}

/// Reads the row of [`AGE`].
pub(in super::super) fn age(row: &Row) -> Result<i64, Error> {
    row.try_get("age")
}

pub(in super::super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
