//! Ends of runs.

use callsheet_actors::port::{Completed, Completion, LockError, Pause};
use tokio_postgres::{Error, Row, Statement, types::ToSql};
use uuid::Uuid;

use super::{
    Asker, Statements,
    answer::{Answer, in_order, most_in_order},
    unless_none,
};

/// How the note of a pause begins that too many failures brought about: as that of
/// [`Pause::after_failures`](callsheet_actors::port::Pause::after_failures).
macro_rules! failed_in_a_row {
    () => {
        "'runs that failed in a row: '"
    };
}

/// What the end of a run changes on the row of its job.
macro_rules! job_end {
    () => {
        concat!(
            "failures = d.failed,
        paused = n.paused OR d.pauses,
        paused_until = CASE WHEN d.pauses THEN NULL ELSE n.paused_until END,
        pause_note = CASE WHEN d.pauses THEN ",
            failed_in_a_row!(),
            " || d.failed ELSE n.pause_note END,
        paused_by = CASE WHEN d.pauses THEN NULL ELSE n.paused_by END,
        cursor = coalesce(d.anchor, n.cursor),
        cursor_run = CASE WHEN d.anchor > n.cursor THEN NULL ELSE n.cursor_run END"
        )
    };
}

macro_rules! complete {
    (jobs: $jobs:literal, job: $job:literal, found: $found:literal, freed: $freed:expr, ended: $ended:expr) => {
        concat!(
            "
WITH asked AS (
    SELECT * FROM unnest($3::text[], $4::uuid[], $5::int8[], $6::text[], $7::int8[], $8::bool[]",
            $jobs,
            ")
    WITH ORDINALITY AS a (key, run, token, outcome, failures_max, from_completion",
            $job,
            ", ord)
), ",
            $found,
            ", decided AS MATERIALIZED (
    SELECT f.*,
           coalesce(failed > failures AND failed >= failures_max AND NOT (paused AND paused_until IS NULL), false) AS pauses,
           CASE WHEN from_completion AND cursor IS NOT NULL
               -- Rounded up: it is not before the end.
               THEN greatest(cursor, date_trunc('milliseconds', ended_at + interval '999 microseconds'))
           END AS anchor
    FROM (
        SELECT f.*, f.holder IS NOT DISTINCT FROM f.run AND f.newest = f.token AND f.beacon = $2 AS now,
               clock_timestamp() AS ended_at,
               CASE
                   WHEN f.cursor IS NULL THEN f.failures
                   WHEN f.outcome = 'succeeded' THEN 0
                   WHEN f.outcome IN ('failed', 'panicked', 'timed_out') THEN f.failures + 1
                   ELSE f.failures
               END AS failed
        FROM found f
    ) AS f
), freed AS (
    UPDATE names n SET run = NULL, beacon = CASE WHEN n.withdrawn THEN NULL ELSE n.beacon END",
            $freed,
            "
    RETURNING d.*
), ",
            $ended,
            "ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, ended_at, fire_time, run_term, run_node, $1, run_job, key, outcome
    FROM freed
)
SELECT ord, true AS recorded, anchor AS cursor, pauses, note AS pause_note,
       CASE WHEN pauses THEN pg_notify($9::text, json_build_object('pause', json_build_object(
           'job', run_job, 'pause', json_build_object('until', NULL::text, 'note', note)))::text)::text END AS told
FROM freed CROSS JOIN LATERAL (SELECT CASE WHEN pauses THEN ",
            failed_in_a_row!(),
            " || failed END AS note) AS noted
UNION ALL
-- An end that was recorded before.
SELECT ord, EXISTS (SELECT FROM runs r WHERE r.run = d.run AND r.token = d.token AND r.outcome <> 'lost'),
    CASE WHEN from_completion THEN cursor END,
    coalesce(paused AND paused_until IS NULL AND failures >= failures_max, false), pause_note, NULL
FROM decided d WHERE NOT now"
        )
    };
}

/// Records ends, frees keys, and counts failures. For ends of runs whose key is the name of their job, that
/// neither pause it nor move its cursor: as for claims, what most ends do not need is left to
/// [`COMPLETE_FULLY`]. Locks the rows in their order, skipping those that are locked.
///
/// $1 scope, $2 own beacon, then the ends, at most one per name: $3 keys, $4 runs, $5 tokens, $6 outcomes.
/// Those that are recorded now are one row, with their numbers; each other one is a row of its own.
pub(in super::super) const COMPLETE: &str = "
WITH asked AS (
    SELECT unnest($3::text[]) AS key, unnest($4::uuid[]) AS run, unnest($5::int8[]) AS token, unnest($6::text[]) AS outcome,
           generate_subscripts($3::text[], 1)::int8 AS ord
), found AS MATERIALIZED (
    SELECT a.ord, a.run, a.token, a.outcome, n.ctid AS place,
           n.run IS NOT DISTINCT FROM a.run AND n.token = a.token AND n.beacon = $2 AS now
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
), freed AS (
    UPDATE names n
    SET run = NULL, beacon = CASE WHEN n.withdrawn THEN NULL ELSE n.beacon END,
        failures = CASE
            WHEN f.outcome = 'succeeded' THEN 0
            WHEN f.outcome IN ('failed', 'panicked', 'timed_out') AND n.cursor IS NOT NULL THEN n.failures + 1
            ELSE n.failures
        END
    FROM found f WHERE f.now AND n.ctid = f.place
    RETURNING f.ord, f.run, n.token, n.claimed_at, n.fire_time, n.run_term, n.run_node, n.run_job, n.name, f.outcome
), ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, clock_timestamp(), fire_time, run_term, run_node, $1, run_job, name, outcome
    FROM freed
)
SELECT NULL::int8 AS ord, true AS recorded, NULL::timestamptz AS cursor, false AS pauses, NULL AS pause_note, array_agg(ord) AS ords
FROM freed
UNION ALL
-- An end that was recorded before.
SELECT ord, EXISTS (SELECT FROM runs r WHERE r.run = f.run AND r.token = f.token AND r.outcome <> 'lost'), NULL, false, NULL, NULL
FROM found f WHERE NOT now";

/// The same with what follows for the job: too many failures pause it, and its cursor may move to the end.
///
/// As for [`COMPLETE`], and $7 after how many failures to pause the job, $8 whether the cursor moves to the
/// end; $9 the channel of the scope. Of what few ends have, the arrays may be shorter.
pub(in super::super) const COMPLETE_FULLY: &str = complete!(
    jobs: "", job: "",
    found: "found AS MATERIALIZED (
    SELECT a.*, n.token AS newest, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term, n.fire_time,
           n.cursor, n.paused, n.paused_until, n.pause_note, n.failures, n.ctid AS place
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
)",
    freed: concat!(", ", job_end!(), "\n    FROM decided d WHERE d.now AND n.ctid = d.place"),
    ended: ""
);

/// The same as [`COMPLETE_FULLY`] for runs with another key; $10 their jobs. Locks the rows of the jobs,
/// those that there are, then those of the keys; it waits for neither, so that their order does not matter.
pub(in super::super) const COMPLETE_WITH_KEY: &str = complete!(
    jobs: ", $10::text[]", job: ", job",
    found: "job_rows AS MATERIALIZED (
    SELECT a.*, n.cursor, n.paused, n.paused_until, n.pause_note, n.failures
    FROM (SELECT * FROM asked ORDER BY job COLLATE \"C\") AS a
    LEFT JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n ON true
    WHERE n.name IS NOT NULL OR NOT EXISTS (SELECT FROM names WHERE name = a.job AND scope = CASE WHEN a.job IS NOT NULL THEN $1 END)
), found AS MATERIALIZED (
    SELECT j.*, n.token AS newest, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term, n.fire_time
    FROM (SELECT * FROM job_rows ORDER BY key COLLATE \"C\") AS j
    CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = j.key FOR UPDATE SKIP LOCKED) AS n
)",
    freed: "
    FROM decided d WHERE d.now AND n.name = d.key AND n.scope = CASE WHEN d.key IS NOT NULL THEN $1 END",
    ended: concat!("counted AS (\n    UPDATE names n SET ", job_end!(), "\n    FROM freed d\n    WHERE n.name = d.job AND n.scope = CASE WHEN d.job IS NOT NULL THEN $1 END AND (d.failed <> d.failures OR d.pauses OR d.anchor > d.cursor)\n), ")
);

/// Frees keys of runs of whose ends nothing can be kept. Locks the rows in their order, skipping those that
/// are locked. A key that the run does not hold any more was freed by an earlier call, unless the run was
/// closed as lost.
///
/// $1 scope, $2 own beacon, then the ends, at most one per key: $3 keys, $4 runs, $5 tokens.
pub(in super::super) const RELEASE: &str = "
WITH found AS MATERIALIZED (
    SELECT a.ord, n.place, n.run = a.run AND n.token = a.token AND n.beacon = $2 AS now,
           n.token >= a.token AND n.run IS DISTINCT FROM a.run AND NOT EXISTS (
               SELECT FROM runs r WHERE r.run = a.run AND r.token = a.token AND r.outcome = 'lost'
           ) AS before
    FROM (
        SELECT * FROM unnest($3::text[], $4::uuid[], $5::int8[]) WITH ORDINALITY AS a (key, run, token, ord)
        ORDER BY key COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT ctid AS place, run, token, beacon FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
), freed AS (
    UPDATE names n SET run = NULL, beacon = NULL FROM found f WHERE f.now AND n.ctid = f.place RETURNING f.ord
)
SELECT ord, true AS recorded, NULL::timestamptz AS cursor, false AS pauses, NULL AS pause_note FROM freed
UNION ALL SELECT ord, before, NULL, false, NULL FROM found WHERE now IS NOT TRUE";

/// Which of the three statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Plain,
    Full,
    WithKey,
}

impl Kind {
    /// The least that an end needs.
    pub(in super::super) fn of(end: &Completion) -> Self {
        match end.job.as_str() == end.key.as_str() {
            true if end.pause_after.is_some() || end.from_completion => Self::Full,
            true => Self::Plain,
            false => Self::WithKey,
        }
    }

    pub(in super::super) fn statement(self, statements: &Statements) -> &Statement {
        match self {
            Self::Plain => &statements.complete,
            Self::Full => &statements.complete_fully,
            Self::WithKey => &statements.complete_with_key,
        }
    }

    /// Reads what it answers.
    pub(in super::super) fn answers(
        self,
        count: usize,
        rows: &[Row],
    ) -> Result<Vec<Answer<Completed>>, LockError> {
        match self {
            Self::Plain => completed_plainly(count, rows),
            Self::Full | Self::WithKey => in_order(count, rows, completed),
        }
    }

    /// Those that it takes are the first ones.
    pub(in super::super) fn takes<'a, 'b>(
        self,
        all: &'b [&'a (dyn ToSql + Sync)],
    ) -> &'b [&'a (dyn ToSql + Sync)] {
        match self {
            Self::Plain => &all[..6],
            Self::Full => &all[..9],
            Self::WithKey => all,
        }
    }
}

parameters! {
    /// What [`COMPLETE_WITH_KEY`] is asked, and the others of it: see [`Kind::takes`].
    struct Ends<'a> {
        scope: &'a str,
        beacon: i64,
        keys: Vec<&'a str>,
        runs: Vec<Uuid>,
        tokens: Vec<i64>,
        outcomes: Vec<&'static str>,
        pause_after: Vec<Option<i64>>,
        from_completion: Vec<Option<bool>>,
        channel: &'a str,
        jobs: Vec<&'a str>,
    }
}

parameters! {
    /// What [`RELEASE`] is asked.
    struct Released<'a> {
        scope: &'a str,
        beacon: i64,
        keys: Vec<&'a str>,
        runs: Vec<Uuid>,
        tokens: Vec<i64>,
    }
}

impl<'a> Ends<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, ends: &[&'a Completion]) -> Self {
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            keys: ends.iter().map(|end| end.key.as_str()).collect(),
            runs: ends.iter().map(|end| end.run.as_uuid()).collect(),
            tokens: ends.iter().map(|end| token(end)).collect(),
            outcomes: ends.iter().map(|end| end.outcome.as_str()).collect(),
            pause_after: unless_none(ends.iter().map(|end| end.pause_after.map(i64::from))),
            from_completion: unless_none(ends.iter().map(|end| end.from_completion.then_some(true))),
            channel: asker.channel,
            jobs: ends.iter().map(|end| end.job.as_str()).collect(),
        }
    }
}

impl<'a> Released<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, ends: &[&'a Completion]) -> Self {
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            keys: ends.iter().map(|end| end.key.as_str()).collect(),
            runs: ends.iter().map(|end| end.run.as_uuid()).collect(),
            tokens: ends.iter().map(|end| token(end)).collect(),
        }
    }
}

/// A token that is too large for the server is none that it granted.
pub(super) fn token(end: &Completion) -> i64 {
    i64::try_from(end.token.0).unwrap_or(-1)
}

/// Reads what [`COMPLETE`] answers: its first row says which ends are recorded now.
fn completed_plainly(count: usize, rows: &[Row]) -> Result<Vec<Answer<Completed>>, LockError> {
    let recorded = |row: &Row| {
        let ords: Option<Vec<i64>> = row.try_get("ords")?;
        Ok(ords.unwrap_or_default().into_iter().map(|ord| (ord, Answer::Is(Completed::RECORDED))).collect())
    };
    most_in_order(count, rows, recorded, completed)
}

/// Reads a row of any of them that is of one end.
pub(in super::super) fn completed(row: &Row) -> Result<Answer<Completed>, Error> {
    if !row.try_get("recorded")? {
        return Ok(Answer::Is(Completed::Stale));
    }
    let pauses: bool = row.try_get("pauses")?;
    let note = row.try_get("pause_note")?;
    let pause = pauses.then_some(Pause { until: None, note, by: None });
    Ok(Answer::Is(Completed::Recorded { cursor: row.try_get("cursor")?, pause }))
}

#[cfg(test)]
mod tests {
    use callsheet_actors::port::Pause;

    #[test]
    fn the_note_of_a_pause_after_failures_is_written_in_one_way() {
        let note = Pause::after_failures(3).note.expect("it says why");

        assert_eq!(format!("{note:?}").replace('"', "'"), failed_in_a_row!().replace(": '", ": 3'"));
    }
}
