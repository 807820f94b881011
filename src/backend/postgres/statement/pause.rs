//! Pauses of jobs.

use callsheet_actors::{By, adapter::storable, port::Pause};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};

use super::{super::text::Text, Asker};

/// Pauses or resumes jobs, and tells it. A claim of one of their ticks, which locks the row as well, is
/// granted before or not at all.
macro_rules! pause {
    (locked: $locked:literal) => {
        concat!(
            "
WITH asked AS MATERIALIZED (
    SELECT job, $3::bool AND coalesce($4::timestamptz > clock_timestamp(), true) AS pauses FROM unnest($2::text[]) AS a (job)
), found AS MATERIALIZED (
    SELECT a.job, a.pauses,
           CASE
               WHEN n.paused AND coalesce(n.paused_until > clock_timestamp(), true)
                   THEN NOT a.pauses OR (n.paused_until, n.pause_note) IS DISTINCT FROM ($4::timestamptz, $5::text)
               ELSE a.pauses
           END AS changes
    FROM (SELECT * FROM asked ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE",
            $locked,
            "
    ) AS n
), changed AS (
    UPDATE names n
    SET paused = f.pauses,
        paused_until = CASE WHEN f.pauses THEN $4::timestamptz END,
        pause_note = CASE WHEN f.pauses THEN $5::text END,
        paused_by = CASE WHEN f.pauses THEN $8::text END,
        failures = CASE WHEN f.pauses THEN n.failures ELSE 0 END
    FROM found f WHERE f.changes AND n.name = f.job AND n.scope = CASE WHEN f.job IS NOT NULL THEN $1 END
    RETURNING n.name, n.paused
), made AS (
    INSERT INTO names (scope, name, token, held_age, paused, paused_until, pause_note, paused_by)
    SELECT $1, job, coalesce(l.token_bound, 0), coalesce(l.age, 0), true, $4::timestamptz, $5::text, $8::text
    FROM asked a LEFT JOIN leader l ON l.scope = $1
    WHERE pauses AND NOT EXISTS (SELECT FROM names WHERE name = a.job AND scope = CASE WHEN a.job IS NOT NULL THEN $1 END) ORDER BY job
    ON CONFLICT DO NOTHING
    RETURNING name, paused
)
SELECT name AS job, true AS changed,
       pg_notify($7::text, json_build_object('pause', json_build_object(
           'job', name, 'pause', CASE WHEN paused THEN $6::text::json END))::text)::text AS told
FROM (SELECT * FROM changed UNION ALL SELECT * FROM made) AS c
UNION ALL SELECT job, false, NULL FROM found WHERE NOT changes
UNION ALL SELECT job, false, NULL FROM asked a
WHERE NOT pauses AND NOT EXISTS (SELECT FROM names WHERE name = a.job AND scope = CASE WHEN a.job IS NOT NULL THEN $1 END)"
        )
    };
}

/// Pauses or resumes jobs. Locks their rows in the order of their names; those that are locked are missing in
/// the answer.
///
/// $1 scope, $2 jobs (each once), $3 whether to pause, $4 until when (none: until resumed), $5 the note, $6
/// all that as JSON, $7 the channel of the scope, $8 who asks. Who asks once more for the same pause changes nothing.
pub(in super::super) const SKIPPING: &str = pause!(locked: " SKIP LOCKED");

/// The same for one job, whose row it waits for, for `lock_timeout`, holding no other: so a pause gets its
/// turn among claims and ends that hardly ever leave the row alone. What its session asks meanwhile waits as
/// well.
pub(in super::super) const IN_TURN: &str = pause!(locked: "");

parameters! {
    /// What [`SKIPPING`] and [`IN_TURN`] are asked.
    struct Parameters<'a> {
        scope: &'a str,
        jobs: &'a [&'a str],
        pauses: bool,
        until: Option<DateTime<Utc>>,
        note: Option<Text<'a>>,
        json: Text<'a>,
        channel: &'a str,
        by: Option<&'a str>,
    }
}

impl<'a> Parameters<'a> {
    /// `json` is the same pause as [`notified`].
    pub(in super::super) fn of(
        asker: Asker<'a>,
        jobs: &'a [&'a str],
        pause: Option<&'a Pause>,
        json: &'a str,
    ) -> Self {
        Self {
            scope: asker.scope,
            jobs,
            pauses: pause.is_some(),
            until: pause.and_then(|pause| pause.until),
            note: pause.and_then(|pause| pause.note.as_deref()).map(Text::of),
            json: Text::of(json),
            channel: asker.channel,
            by: pause.and_then(|pause| pause.by.as_ref()).map(By::as_str),
        }
    }
}

/// A pause as other nodes are notified of it: with its note as the store keeps it.
pub(in super::super) fn notified(pause: Option<&Pause>) -> String {
    let stored = pause
        .map(|pause| Pause { note: pause.note.as_deref().map(storable).map(Into::into), ..pause.clone() });
    serde_json::to_string(&stored).expect("invariant: a pause can be written as JSON")
}

/// Reads a row: the job, and whether its pause was changed.
pub(in super::super) fn changed(row: &Row) -> Result<(String, bool), Error> {
    Ok((row.try_get("job")?, row.try_get("changed")?))
}

/// Reads the pause of a job that is paused, as a claim answers it: without who paused it.
pub(in super::super) fn paused(row: &Row) -> Result<Pause, Error> {
    Ok(Pause { until: row.try_get("paused_until")?, note: row.try_get("pause_note")?, by: None })
}

/// Reads the pause of a job that is paused.
pub(in super::super) fn paused_by(row: &Row) -> Result<Pause, Error> {
    let by: Option<String> = row.try_get("paused_by")?;
    // Another program may have written anything there.
    Ok(Pause { by: by.and_then(|by| By::new(by).ok()), ..paused(row)? })
}
