//! Moves of cursors over ticks that nobody runs.

use callsheet_actors::port::{Advanced, CursorAdvance};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    Asker,
    answer::{Answer, term},
    authorities,
};

/// Moves cursors over ticks that nobody runs. Locks the leader row, or its epoch, unless no move cares who
/// leads, then the rows of the jobs in their order, skipping those that are locked.
///
/// $1 scope, then the moves, at most one per job: $2 jobs, $3 expected cursors, $4 new cursors, $5 terms, $6
/// whether only unless the leader schedules the job, $7 the ids of the moves.
pub(in super::super) const ADVANCE: &str = concat!(
    "
WITH ",
    term!(terms: "$5", leaderless: "$6"),
    ", found AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_move, n.withdrawn, n.term AS job_term
    FROM (
        SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::int8[], $6::bool[], $7::uuid[])
        WITH ORDINALITY AS a (job, expected, until, term, unled, id, ord)
        WHERE (SELECT count(*) FROM term) >= 0
        ORDER BY job COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), decided AS MATERIALIZED (
    SELECT f.*,
        CASE
            -- The same call before, whose answer was lost.
            WHEN f.cursor_move = f.id THEN 'done before'
            WHEN f.term IS NOT NULL
                 AND (SELECT t.epoch = f.term AND t.expires_at > clock_timestamp() FROM term t) IS NOT TRUE
                THEN 'deposed'
            WHEN f.unled AND NOT f.withdrawn
                 AND (SELECT t.epoch = f.job_term AND t.expires_at > clock_timestamp() FROM term t)
                THEN 'led'
            -- Ticks that are not due are decided by a clock that is wrong.
            WHEN f.withdrawn OR f.cursor IS NULL THEN 'unknown'
            WHEN f.cursor <> f.expected OR f.until > clock_timestamp() THEN 'elsewhere'
            ELSE 'done'
        END AS verdict
    FROM found f
), moved AS (
    UPDATE names n SET cursor = d.until, cursor_run = NULL, cursor_move = d.id
    FROM decided d WHERE d.verdict = 'done' AND n.name = d.job AND n.scope = CASE WHEN d.job IS NOT NULL THEN $1 END
    RETURNING d.ord
)
SELECT ord, verdict, coalesce(cursor, clock_timestamp()) AS cursor, (SELECT epoch FROM term) AS epoch FROM decided
-- Nothing is done but what the change itself says.
WHERE verdict <> 'done' OR ord IN (SELECT ord FROM moved)"
);

parameters! {
    /// What [`ADVANCE`] is asked.
    struct Parameters<'a> {
        scope: &'a str,
        jobs: Vec<&'a str>,
        expected: Vec<DateTime<Utc>>,
        until: Vec<DateTime<Utc>>,
        terms: Vec<Option<i64>>,
        leaderless: Vec<bool>,
        ids: Vec<Uuid>,
    }
}

impl<'a> Parameters<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, advances: &[&'a CursorAdvance]) -> Self {
        let (terms, leaderless) = authorities(advances.iter().map(|asked| Some(asked.authority)));
        Self {
            scope: asker.scope,
            jobs: advances.iter().map(|asked| asked.job.as_str()).collect(),
            expected: advances.iter().map(|asked| asked.expected).collect(),
            until: advances.iter().map(|asked| asked.to.instant()).collect(),
            terms,
            leaderless,
            ids: advances.iter().map(|asked| asked.id).collect(),
        }
    }
}

words! {
    /// What became of a move.
    Word {
        Done = "done",
        DoneBefore = "done before",
        Deposed = "deposed",
        HasLeader = "led",
        Unknown = "unknown",
        Elsewhere = "elsewhere",
    }
}

/// Reads a row of [`ADVANCE`].
pub(in super::super) fn advanced(row: &Row) -> Result<Answer<Advanced>, Error> {
    Ok(Answer::Is(match row.try_get("verdict")? {
        Word::Done | Word::DoneBefore => Advanced::Done,
        Word::Deposed => Advanced::Deposed { term: term(row)? },
        Word::HasLeader => Advanced::HasLeader,
        Word::Unknown => Advanced::Unknown,
        Word::Elsewhere => Advanced::Elsewhere { cursor: row.try_get("cursor")? },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_move_is_known() {
        super::super::answer::assert_words(&[ADVANCE], "verdict", Word::WORDS);
    }
}
