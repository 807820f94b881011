//! Enrolments: which jobs there are, and what the leader does with them.

use std::time::Duration;

use callsheet_actors::{
    JobName, Term,
    port::{Enrolled, Enrolment, Inquiry, LeaderView, StoredState},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Error, Row};

use super::{
    super::notifications,
    Asker,
    answer::term,
    authorities,
    declare::{judged, lead},
    number,
    pause::paused_by,
    pending_retries::{PENDING_RETRIES_BOUND, forgive},
    unless_none,
};

/// The ticks of a job that the node has had for longer count no further back: what is before has no place on
/// the server's calendar.
const KNOWN_FOR_MAX: Duration = Duration::from_secs(1_000 * 365 * 24 * 3600);

/// That a stored identity of a schedule and another one are known to be two rules: those of different
/// versions never are. The version is what stands before the colon, in any version.
macro_rules! differs {
    ($stored:literal, $other:literal) => {
        concat!(
            "(",
            $stored,
            " <> ",
            $other,
            " AND split_part(",
            $stored,
            ", ':', 1) = split_part(",
            $other,
            ", ':', 1))"
        )
    };
}

/// Enrols jobs, and marks them with the term of those who have one. The leader row is locked for share: a
/// newer term cannot begin, nor the present one be renewed, until this is committed. Jobs whose rows are
/// locked are missing in the answer.
///
/// $1 scope, $2 jobs (each once), $3 the identities of their schedules, $4 terms, $5 whether only unless the
/// leader schedules it, $6 whether lost runs are retried, $7 whether the cursor moves to their ends, $8 for
/// how many milliseconds they have been held, $9 own beacon, $10 the policies of their keys, $11 the keys
/// that are not their names: their policies were declared by [`DECLARE`](super::declare::DECLARE) just
/// before, $12 the most pending retries of a job, $13 what the node believes that this server's clock read
/// when it was asked, $14 the last ticks that they owe, $15 their former names. Of what few jobs have, the arrays may
/// be shorter. The policy that contradicts stands in the place of the note. What stands under another name is not
/// enrolled: it is [taken over](super::renames::TAKE_OVER) first.
pub(in super::super) const ENROL: &str = concat!(
    "
WITH ",
    lead!("FOR SHARE"),
    ", asked AS MATERIALIZED (
    SELECT a.job, a.schedule, a.term, a.unled, l.epoch,
           coalesce(a.retry_lost, false) AS retry_lost, coalesce(a.from_completion, false) AS from_completion,
           a.held_for * interval '1 millisecond'
               -- What the way here took.
               + least(greatest(statement_timestamp() - $13::timestamptz, interval '0'), interval '5 s') AS held_for,
           a.overlap, a.key, a.formerly, a.owes - interval '1 millisecond' AS owed_after,
           coalesce(l.expires_at > clock_timestamp(), false) AS led
    FROM unnest($2::text[], $3::text[], $4::int8[], $5::bool[], $6::bool[], $7::bool[], $8::float8[],
                $10::text[], $11::text[], $14::timestamptz[], $15::text[])
         AS a (job, schedule, term, unled, retry_lost, from_completion, held_for, overlap, key, owes, formerly)
    LEFT JOIN lead l ON true
), entitled AS MATERIALIZED (
    SELECT a.*, a.key IS NULL OR coalesce(
        k.overlap = a.overlap AND (coalesce(k.declared_term = a.term, false) OR $9 = ANY (k.declared_by)), false
    ) AS may
    FROM asked a
    LEFT JOIN LATERAL (
        SELECT overlap, declared_term, declared_by FROM names WHERE scope = $1 AND name = a.key LIMIT 1
    ) AS k ON a.key IS NOT NULL
    WHERE a.term IS NULL OR (a.led AND a.term = a.epoch)
), found AS MATERIALIZED (
    -- A new or changed job owes ticks only since it is so.
    SELECT a.job, a.schedule, a.term, a.retry_lost, a.from_completion, a.held_for, a.owed_after, a.key, a.overlap, a.may, a.formerly, n.ctid AS place,
           CASE WHEN a.key IS NULL THEN n.overlap END AS declared, n.declared_term,
           CASE WHEN a.key IS NULL THEN n.declared_by ELSE n.fired_by END AS declared_by,
           n.renamed_to IS NOT NULL OR (a.formerly IS NOT NULL AND n.formerly IS DISTINCT FROM a.formerly) AS renamed,
           n.cursor IS NULL OR n.withdrawn OR coalesce(",
    differs!("n.schedule", "a.schedule"),
    ", true) AS anew,
           n.withdrawn OR (n.retry_lost AND NOT a.retry_lost) AS forgives,
           -- The leader's own enrolment locks the same row: it is seen here, or comes later.
           a.unled AND a.led AND NOT n.withdrawn AND coalesce(n.term = a.epoch, false) AS refused
    FROM (SELECT * FROM entitled ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), ", judged!(found: "found", own: "$9"), ", contradicted AS (
    -- Followers that hold the job may fire it.
    UPDATE names n
    SET term = nullif(n.term, j.term),
        declared_term = CASE WHEN j.key IS NOT NULL OR NOT j.own_term THEN n.declared_term END,
        declared_by = CASE WHEN j.key IS NOT NULL THEN n.declared_by ELSE nullif(j.others, '{}') END,
        fired_by = nullif(array_remove(n.fired_by, $9), '{}')
    FROM judged j WHERE (j.conflicts OR NOT j.may) AND NOT j.refused AND NOT j.renamed AND n.ctid = j.place
    RETURNING n.name, j.declared, j.conflicts
), marked AS (
    UPDATE names n
    SET term = CASE WHEN f.anew THEN f.term ELSE coalesce(f.term, n.term) END,
        schedule = f.schedule,
        withdrawn = false,
        -- A copy that was held before the last tick is the same job; one that was added later begins anew.
        runs = CASE WHEN n.withdrawn AND statement_timestamp() - f.held_for > n.cursor THEN 0 ELSE n.runs END,
        failures = CASE WHEN n.withdrawn THEN 0 ELSE n.failures END,
        retry_lost = f.retry_lost,
        from_completion = f.from_completion,
        -- It never goes back. What this statement waits is not counted in how long the job was held.
        cursor = CASE
            -- What the job owes is not taken by what was forgotten; `least` passes over NULL.
            WHEN f.anew THEN greatest(n.cursor, least(f.owed_after, greatest(statement_timestamp() - f.held_for, (SELECT cursor_bound FROM lead))))
            ELSE n.cursor
        END,
        -- Not each time: the column is in an index.
        held_age = CASE
            WHEN n.withdrawn OR n.held_age < (SELECT age FROM lead) - 300000 THEN coalesce((SELECT age FROM lead), n.held_age)
            ELSE n.held_age
        END,
        cursor_run = CASE WHEN f.anew THEN NULL ELSE n.cursor_run END,
        overlap = CASE WHEN f.key IS NULL THEN f.overlap ELSE n.overlap END,
        declared_term = CASE WHEN f.key IS NULL THEN coalesce(f.term, n.declared_term) ELSE n.declared_term END,
        declared_by = CASE
            WHEN f.key IS NOT NULL THEN n.declared_by
            WHEN f.term IS NOT NULL AND n.declared_by IS NULL THEN NULL
            WHEN f.term IS NULL OR $9 = ANY (n.declared_by) THEN f.others || $9::int8
            ELSE nullif(f.others, '{}')
        END,
        formerly = f.formerly,
        fired_by = CASE
            WHEN f.term IS NOT NULL THEN n.fired_by
            ELSE ARRAY(SELECT b FROM unnest(n.fired_by) AS b WHERE b = ANY (f.others)) || $9::int8
        END
    FROM judged f WHERE f.may AND NOT f.conflicts AND NOT f.refused AND NOT f.renamed AND n.ctid = f.place
    RETURNING n.name, n.cursor, n.paused AND coalesce(n.paused_until > clock_timestamp(), true) AS paused,
              n.paused_until, n.pause_note, n.paused_by, n.failures, n.retry_lost AND NOT f.forgives AS owes, f.forgives
), forgiven AS (",
    // Not of a job whose row was changed since this statement began: it is not enrolled.
    forgive!("SELECT name FROM marked WHERE forgives"),
    "
), made AS (
    INSERT INTO names (scope, name, token, held_age, cursor, schedule, term, retry_lost, from_completion, overlap, declared_term, declared_by, fired_by)
    SELECT $1, job, coalesce((SELECT token_bound FROM lead), 0), coalesce((SELECT age FROM lead), 0),
           least(owed_after, greatest(statement_timestamp() - held_for, (SELECT cursor_bound FROM lead))), schedule, term, retry_lost, from_completion,
           CASE WHEN key IS NULL THEN overlap END, CASE WHEN key IS NULL THEN term END,
           CASE WHEN key IS NULL AND term IS NULL THEN ARRAY[$9] END, CASE WHEN term IS NULL THEN ARRAY[$9] END
    FROM entitled e WHERE may AND formerly IS NULL AND NOT EXISTS (SELECT FROM names WHERE name = e.job AND scope = CASE WHEN e.job IS NOT NULL THEN $1 END) ORDER BY job
    ON CONFLICT DO NOTHING
    RETURNING name, cursor
)
SELECT name AS job, 'done' AS answer, cursor, NULL::int8 AS epoch, paused, paused_until, pause_note, paused_by, failures,
    CASE WHEN owes THEN (
        SELECT json_agg(json_build_object('run', run, 'fire_time', fire_time, 'named', named_fire_time, 'losses', losses) ORDER BY run)::text
        FROM (
            SELECT run, fire_time, named_fire_time, losses FROM debts WHERE scope = $1 AND job = m.name ORDER BY run DESC LIMIT $12
        ) AS d
    ) END AS owed
FROM marked m
UNION ALL SELECT name, 'done', cursor, NULL, false, NULL, NULL, NULL, 0, NULL FROM made
UNION ALL SELECT name, 'conflict', NULL, NULL, NULL, NULL, declared, NULL, NULL, NULL FROM contradicted WHERE conflicts
UNION ALL SELECT name, 'undeclared', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM contradicted WHERE NOT conflicts
UNION ALL SELECT job, 'renamed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM found WHERE renamed AND NOT refused
UNION ALL SELECT job, 'renamed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM entitled e WHERE formerly IS NOT NULL AND NOT EXISTS (SELECT FROM names WHERE name = e.job AND scope = CASE WHEN e.job IS NOT NULL THEN $1 END)
UNION ALL SELECT job, 'undeclared', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM entitled e WHERE NOT may AND formerly IS NULL AND NOT EXISTS (SELECT FROM names WHERE name = e.job AND scope = CASE WHEN e.job IS NOT NULL THEN $1 END)
UNION ALL SELECT job, 'led', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM found WHERE refused
UNION ALL SELECT job, 'deposed', NULL, epoch, NULL, NULL, NULL, NULL, NULL, NULL
FROM asked WHERE (led AND term = epoch) IS NOT TRUE AND term IS NOT NULL"
);

/// What the leader does with jobs, as it stands now. Locks nothing. $1 scope, $2 jobs, $3 the identities of
/// their schedules.
pub(in super::super) const INQUIRE: &str = concat!(
    "
SELECT CASE
    WHEN l.scope IS NULL THEN 'no leader'
    WHEN n.withdrawn OR n.term IS DISTINCT FROM l.epoch THEN 'not held'
    WHEN ",
    differs!("n.schedule", "a.schedule"),
    " THEN 'other schedule'
    ELSE 'scheduled'
END AS standing
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a (job, schedule, ord)
LEFT JOIN leader l ON l.scope = $1 AND l.expires_at > clock_timestamp()
LEFT JOIN names n ON n.name = a.job AND n.scope = CASE WHEN a.job IS NOT NULL THEN $1 END
ORDER BY a.ord"
);

/// Says that jobs ($2) of a scope ($1) were removed by the leader of a term ($3) that is not over. Locks the
/// leader row for share until the commit. Jobs whose rows are locked stay as they are.
pub(in super::super) const WITHDRAW: &str = concat!(
    "
WITH term AS MATERIALIZED (
    SELECT epoch FROM leader WHERE scope = $1 AND epoch = $3 AND expires_at > clock_timestamp() FOR SHARE
), found AS MATERIALIZED (
    SELECT n.name, n.retry_lost
    FROM (
        SELECT * FROM unnest($2::text[]) AS a (job) WHERE EXISTS (SELECT FROM term) ORDER BY job COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job AND NOT withdrawn FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), forgiven AS (",
    forgive!("SELECT name FROM found WHERE retry_lost"),
    "
)
UPDATE names n SET withdrawn = true, held_age = coalesce((SELECT age FROM leader WHERE scope = $1), n.held_age), beacon = CASE WHEN n.run IS NULL THEN NULL ELSE n.beacon END
FROM found f WHERE n.name = f.name AND n.scope = CASE WHEN f.name IS NOT NULL THEN $1 END"
);

parameters! {
    /// What [`ENROL`] is asked.
    struct Enrolments<'a> {
        scope: &'a str,
        jobs: Vec<&'a str>,
        schedules: Vec<String>,
        terms: Vec<Option<i64>>,
        leaderless: Vec<bool>,
        retry_lost: Vec<Option<bool>>,
        from_completion: Vec<Option<bool>>,
        known_for_millis: Vec<f64>,
        beacon: i64,
        overlaps: Vec<String>,
        other_keys: Vec<Option<&'a str>>,
        pending_retries_max: i64,
        asked_at: DateTime<Utc>,
        owes: Vec<Option<DateTime<Utc>>>,
        former_names: Vec<Option<&'a str>>,
    }
}

parameters! {
    /// What [`INQUIRE`] is asked.
    struct Inquiries<'a> {
        scope: &'a str,
        jobs: Vec<&'a str>,
        schedules: Vec<String>,
    }
}

parameters! {
    /// What [`WITHDRAW`] is asked.
    struct Withdrawn<'a> {
        scope: &'a str,
        jobs: Vec<&'a str>,
        term: i64,
    }
}

/// The key of a job, if it is not its name.
pub(in super::super) fn other_key(job: &Enrolment) -> Option<&str> {
    Some(job.key.as_str()).filter(|key| *key != job.job.as_str())
}

impl<'a> Enrolments<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, jobs: &[&'a Enrolment]) -> Self {
        let (terms, leaderless) = authorities(jobs.iter().map(|job| Some(job.authority)));
        // They are of one page. What is not known takes nothing.
        let asked_at = jobs.iter().find_map(|job| job.asked_at).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Self {
            scope: asker.scope,
            jobs: jobs.iter().map(|job| job.job.as_str()).collect(),
            schedules: jobs.iter().map(|job| job.schedule.to_string()).collect(),
            terms,
            leaderless,
            retry_lost: unless_none(jobs.iter().map(|job| job.retry_lost.then_some(true))),
            from_completion: unless_none(jobs.iter().map(|job| job.from_completion.then_some(true))),
            known_for_millis: jobs
                .iter()
                .map(|job| job.known_for.min(KNOWN_FOR_MAX).as_secs_f64() * 1e3)
                .collect(),
            beacon: asker.beacon,
            overlaps: jobs.iter().map(|job| job.overlap.to_string()).collect(),
            other_keys: unless_none(jobs.iter().map(|job| other_key(job))),
            pending_retries_max: PENDING_RETRIES_BOUND,
            asked_at: asked_at.min(Utc::now() + TimeDelta::days(1)),
            owes: unless_none(jobs.iter().map(|job| job.owes)),
            former_names: unless_none(jobs.iter().map(|job| job.formerly.as_ref().map(JobName::as_str))),
        }
    }
}

impl<'a> Inquiries<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, jobs: &'a [Inquiry]) -> Self {
        Self {
            scope: asker.scope,
            jobs: jobs.iter().map(|job| job.job.as_str()).collect(),
            schedules: jobs.iter().map(|job| job.schedule.to_string()).collect(),
        }
    }
}

impl<'a> Withdrawn<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, term: Term, jobs: &'a [JobName]) -> Self {
        Self { scope: asker.scope, jobs: jobs.iter().map(JobName::as_str).collect(), term: number(term) }
    }
}

words! {
    /// What became of an enrolment.
    Word {
        Done = "done",
        Deposed = "deposed",
        HasLeader = "led",
        Conflict = "conflict",
        Undeclared = "undeclared",
        Renamed = "renamed",
    }
}

words! {
    /// What the leader does with a job.
    Stands {
        NoLeader = "no leader",
        NotScheduled = "not held",
        OtherSchedule = "other schedule",
        Scheduled = "scheduled",
    }
}

/// What [`ENROL`] says of a job.
pub(in super::super) enum Told {
    Is(Enrolled),
    /// Its key is contradicted, or somebody else has locked the row of the key; the job has no mark of this node's term
    /// any more.
    Undeclared,
    /// What is kept of it may stand under another name.
    Renamed,
}

/// Reads a row of [`ENROL`]: the job, and what became of it.
pub(in super::super) fn enrolled(row: &Row) -> Result<(String, Told), Error> {
    let enrolled = match row.try_get("answer")? {
        Word::Deposed => Told::Is(Enrolled::Deposed { term: term(row)? }),
        Word::HasLeader => Told::Is(Enrolled::HasLeader),
        Word::Conflict => Told::Is(Enrolled::Conflict { declared: row.try_get("pause_note")? }),
        Word::Undeclared => Told::Undeclared,
        Word::Renamed => Told::Renamed,
        Word::Done => {
            Told::Is(Enrolled::Done { cursor: row.try_get("cursor")?, stored: Box::new(stored(row)?) })
        }
    };
    Ok((row.try_get("job")?, enrolled))
}

/// Reads what is kept of a job.
fn stored(row: &Row) -> Result<StoredState, Error> {
    let pause = if row.try_get("paused")? { Some(paused_by(row)?) } else { None };
    let failures: i32 = row.try_get("failures")?;
    let pending_retries =
        match row.try_get::<_, Option<&str>>("owed")?.map(notifications::read_pending_retries) {
            Some(Ok(retries)) => retries,
            // It is asked for later.
            Some(Err(error)) => {
                tracing::error!(target: "callsheet", "the pending retries of a job cannot be read: {error}");
                Vec::new()
            }
            None => Vec::new(),
        };
    Ok(StoredState { pause, failures: failures.unsigned_abs(), pending_retries, unproven_to: None })
}

/// Reads a row of [`INQUIRE`].
pub(in super::super) fn standing(row: &Row) -> Result<LeaderView, Error> {
    Ok(match row.try_get("standing")? {
        Stands::NoLeader => LeaderView::NoLeader,
        Stands::NotScheduled => LeaderView::NotScheduled,
        Stands::OtherSchedule => LeaderView::OtherSchedule,
        Stands::Scheduled => LeaderView::Scheduled,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::answer::assert_words, *};

    #[test]
    fn every_word_of_an_enrolment_is_known() {
        assert_words(&[ENROL], "answer", Word::WORDS);
    }

    #[test]
    fn every_word_of_a_standing_is_known() {
        assert_words(&[INQUIRE], "standing", Stands::WORDS);
    }
}
