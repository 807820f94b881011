//! Ends of runs of which it is known where their rows are.

use callsheet_actors::port::{Completed, Completion, LockError};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    Asker,
    answer::{Answer, placed, read},
    complete::token,
    names::Place,
};

/// Records ends as [`COMPLETE`](super::complete::COMPLETE) does, of runs of which it is known where their rows are: a look into no index
/// is needed. Answers one row, with the numbers of those that were recorded. What became of another one is
/// asked by [`COMPLETE`](super::complete::COMPLETE), which records as well: its row is elsewhere, locked, or not what it was.
///
/// A place that was given to another row since is not taken for that of the run: no other row has the run.
///
/// $1 scope, $2 own beacon, then the ends: $3 places, $4 runs, $5 tokens, $6 outcomes.
pub(in super::super) const COMPLETE_IN_PLACE: &str = "
WITH freed AS (
    UPDATE names n
    SET run = NULL, beacon = CASE WHEN n.withdrawn THEN NULL ELSE n.beacon END,
        failures = CASE
            WHEN d.outcome = 'succeeded' THEN 0
            WHEN d.outcome IN ('failed', 'panicked', 'timed_out') AND n.cursor IS NOT NULL THEN n.failures + 1
            ELSE n.failures
        END
    FROM (
        SELECT a.ord, a.run, a.outcome, l.place
        FROM (
            SELECT unnest($3::tid[]) AS place, unnest($4::uuid[]) AS run, unnest($5::int8[]) AS token, unnest($6::text[]) AS outcome,
                   generate_subscripts($3::tid[], 1)::int8 AS ord
        ) AS a
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM names
            -- No index helps with this: the place does.
            WHERE ctid = a.place AND run = a.run AND token = a.token AND beacon IS NOT DISTINCT FROM $2
            FOR UPDATE SKIP LOCKED
        ) AS l
    ) AS d
    WHERE n.ctid = d.place
    RETURNING d.ord, d.run, n.token, n.claimed_at, n.fire_time, n.run_term, n.run_node, n.run_job, n.name, d.outcome
), ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, clock_timestamp(), fire_time, run_term, run_node, $1, run_job, name, outcome
    FROM freed
)
SELECT array_agg(ord) AS ords FROM freed";

parameters! {
    /// What [`COMPLETE_IN_PLACE`] is asked.
    struct Ends<'a> {
        scope: &'a str,
        beacon: i64,
        places: Vec<Place>,
        runs: Vec<Uuid>,
        tokens: Vec<i64>,
        outcomes: Vec<&'static str>,
    }
}

impl<'a> Ends<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, ends: &[(Place, &Completion)]) -> Self {
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            places: ends.iter().map(|(place, _)| *place).collect(),
            runs: ends.iter().map(|(_, end)| end.run.as_uuid()).collect(),
            tokens: ends.iter().map(|(_, end)| token(end)).collect(),
            outcomes: ends.iter().map(|(_, end)| end.outcome.as_str()).collect(),
        }
    }

    /// Reads what [`COMPLETE_IN_PLACE`] answers.
    pub(in super::super) fn answers(&self, rows: &[Row]) -> Result<Vec<Answer<Completed>>, LockError> {
        let recorded = read(rows, recorded)?.into_iter().flatten();
        let recorded = recorded.map(|ord| (ord, Answer::Is(Completed::RECORDED)));
        placed(self.runs.len(), recorded, || Answer::NotSaid)
    }
}

/// The numbers of the ends that were recorded.
fn recorded(row: &Row) -> Result<Vec<i64>, Error> {
    Ok(row.try_get::<_, Option<Vec<i64>>>("ords")?.unwrap_or_default())
}
