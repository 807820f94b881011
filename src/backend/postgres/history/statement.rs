//! The statements of the history; `old` has those that delete. None locks a row by which anything is decided: ends that
//! are old enough to be deleted are none any more.
//!
//! Each is planned for the values that it is asked with, so that a condition that is not asked for costs nothing.
//! Names are qualified, since the application may hand in its own connections. `{s}` is the schema.

use callsheet_actors::port::OPEN_RUN_STALE;

use super::old::{
    ENDS_DECIDED_BY, ENDS_TO_PRUNE, JOBS_TO_PRUNE, OLD_END, PRUNE_DECISIONS, PRUNE_ENDS, PRUNE_JOB,
    PRUNE_OPERATIONS, PRUNE_RUNS, PRUNE_STALE, TO_PRUNE,
};

/// The columns of a run besides its id, and their types.
const RUN: [(&str, &str); 22] = [
    ("job", "text"),
    ("key", "text"),
    ("slot", "int4"),
    ("origin", "text"),
    ("asked_by", "text"),
    ("node", "uuid"),
    ("term", "int8"),
    ("token", "int8"),
    ("fire_time", "timestamptz"),
    ("started_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("lateness", "int8"),
    ("took", "int8"),
    ("outcome", "text"),
    ("cancelled", "text"),
    ("error", "text"),
    ("attempt", "int4"),
    ("attempts", "text"),
    ("report", "text"),
    ("measures", "text"),
    ("progress", "float8"),
    ("next_fire_time", "timestamptz"),
];

/// Outcomes that count as failures.
const FAILED: &str = "('failed', 'panicked', 'timed_out', 'lost')";

/// The texts, for one schema.
pub(super) struct Statements {
    /// $1 scope, $2 runs, then a column each: see [`RUN`].
    pub(super) write_runs: String,
    /// $1 scope, $2 at, $3 node, $4 job, $5 reason, $6 lost, $7 first, $8 fire time, $9 term, $10 decision.
    pub(super) write_decisions: String,
    /// $1 scope, $2 at, $3 node, $4 number, $5 job, $6 operation, $7 by, $8 note, $9 detail.
    pub(super) write_operations: String,
    /// $1 scope, $2 jobs (each once), $3 at, $4 pauses (none: resumed), $5 until.
    pub(super) write_pauses: String,
    /// $1 scope, $2 job, $3 outcome, $4 from, $5 to, $6 before, $7 limit, $8 fire times from, $9 fire times to.
    pub(super) runs: String,
    /// $1 scope, $2 job.
    pub(super) job: String,
    /// $1 scope, $2 jobs.
    pub(super) last_ends: String,
    /// $1 scope, $2 job, $3 from, $4 to, $5 before (time), $6 before (number), $7 limit.
    pub(super) decisions: String,
    /// The same of a job.
    pub(super) decisions_of_job: String,
    /// As `decisions`.
    pub(super) operations: String,
    /// The same of a job.
    pub(super) operations_of_job: String,
    /// $1 scope, $2 job (empty: all), $3 from, $4 to.
    pub(super) gaps: String,
    /// $1 scope, $2 the first id of runs, $3 of failures, that are young, $4 decisions before, $5 operations before, $6
    /// least number of digits of the number of new runs, $7 runs that ended before, $8 failures that did.
    pub(super) to_prune: String,
    /// $1 the first id of runs whose ends nodes decide by.
    pub(super) ends_to_prune: String,
    /// $1 scope, $2 outcome, $3 the first id that is young, $4 limit, $5 ended before.
    pub(super) prune_runs: String,
    /// $1 scope, $2 the first id that is young, $3 limit, $4 written before.
    pub(super) prune_stale: String,
    /// $1 the first id that is young, $2 limit.
    pub(super) prune_ends: String,
    /// $1 scope, $2 least number of digits of the number of new runs, $3 limit.
    pub(super) jobs_to_prune: String,
    /// $1 scope, $2 job, $3 how many stay, $4 limit.
    pub(super) prune_job: String,
    /// $1 scope, $2 before, $3 limit.
    pub(super) prune_decisions: String,
    /// $1 scope, $2 before, $3 limit.
    pub(super) prune_operations: String,
}

impl Statements {
    pub(super) fn of(schema: &str) -> Self {
        let stale = format!("{} s", OPEN_RUN_STALE.as_secs());
        let decided_by = format!("{} s", ENDS_DECIDED_BY.as_secs());
        let qualified = |text: &str| {
            text.replace("{old end}", OLD_END)
                .replace("{s}", schema)
                .replace("{failed}", FAILED)
                .replace("{stale}", &stale)
                .replace("{decided by}", &decided_by)
        };
        Self {
            write_runs: qualified(&write_runs()),
            write_decisions: qualified(WRITE_DECISIONS),
            write_operations: qualified(WRITE_OPERATIONS),
            write_pauses: qualified(WRITE_PAUSES),
            runs: qualified(RUNS),
            job: qualified(JOB),
            last_ends: qualified(LAST_ENDS),
            decisions: qualified(DECISIONS),
            decisions_of_job: qualified(DECISIONS_OF_JOB),
            operations: qualified(&OPERATIONS.replace("{job}", "")),
            operations_of_job: qualified(&OPERATIONS.replace("{job}", "AND job = $2")),
            gaps: qualified(GAPS),
            to_prune: qualified(TO_PRUNE),
            ends_to_prune: qualified(ENDS_TO_PRUNE),
            prune_runs: qualified(PRUNE_RUNS),
            prune_stale: qualified(PRUNE_STALE),
            prune_ends: qualified(PRUNE_ENDS),
            jobs_to_prune: qualified(JOBS_TO_PRUNE),
            prune_job: qualified(PRUNE_JOB),
            prune_decisions: qualified(PRUNE_DECISIONS),
            prune_operations: qualified(PRUNE_OPERATIONS),
        }
    }
}

/// Writes runs, each once in a call, and counts those of them that are ended and were not before for their jobs.
fn write_runs() -> String {
    let names: Vec<_> = RUN.iter().map(|(name, _)| *name).collect();
    let arrays: Vec<_> = RUN.iter().zip(3..).map(|((_, of), nth)| format!("${nth}::{of}[]")).collect();
    let set = RUN.iter().map(|(name, _)| match *name {
        "outcome" | "ended_at" => format!("{name} = excluded.{name}"),
        "started_at" => "started_at = coalesce(h.started_at, excluded.started_at)".to_owned(),
        "lateness" => {
            "lateness = CASE WHEN excluded.outcome = 'lost' OR h.started_at IS NOT NULL THEN h.lateness ELSE excluded.lateness END"
                .to_owned()
        }
        "term" => "term = coalesce(excluded.term, h.term)".to_owned(),
        "token" => {
            "token = CASE WHEN excluded.outcome = 'lost' THEN greatest(h.token, excluded.token) ELSE excluded.token END"
                .to_owned()
        }
        // A loss knows nothing else.
        _ => format!("{name} = CASE WHEN excluded.outcome = 'lost' THEN h.{name} ELSE excluded.{name} END"),
    });
    let set: Vec<_> = set.collect();
    format!(
        "WITH written AS (
    INSERT INTO {{s}}.history_runs AS h (scope, run, {names})
    SELECT $1, g.* FROM unnest($2::uuid[], {arrays}) AS g (run, {names}) ORDER BY g.run
    ON CONFLICT (scope, run) DO UPDATE SET {set}, written_at = clock_timestamp()
    WHERE CASE
        -- That it goes on, or was lost, is said of the newest grant: what concerns a former one may be said late.
        WHEN coalesce(excluded.outcome, 'lost') = 'lost' AND h.outcome IS NULL THEN coalesce(excluded.token >= h.token, true)
        WHEN excluded.outcome IS NULL AND h.outcome = 'lost' THEN coalesce(excluded.token > h.token, true)
        WHEN excluded.outcome = 'lost' AND h.outcome = 'lost' THEN coalesce(excluded.token > h.token, false)
        ELSE h.outcome IS NULL OR h.outcome = 'lost'
    END
    RETURNING run, job, outcome, started_at, ended_at, took, error, next_fire_time
), ended AS (
    SELECT *, outcome IN {{failed}} AS failed FROM written WHERE outcome IS NOT NULL
), succeeded AS (
    SELECT job, max(ended_at) AS at FROM ended WHERE outcome = 'succeeded' GROUP BY job
), last AS (
    SELECT DISTINCT ON (job) job, run, ended_at, outcome, next_fire_time FROM ended ORDER BY job, ended_at DESC, run DESC
), last_failed AS (
    SELECT DISTINCT ON (job) job, run, ended_at, error FROM ended WHERE failed ORDER BY job, ended_at DESC, run DESC
), totals AS (
    SELECT e.job, count(*) AS runs, count(*) FILTER (WHERE failed) AS failures, s.at AS success_at,
           count(*) FILTER (WHERE failed AND (s.at IS NULL OR e.ended_at > s.at)) AS in_a_row,
           coalesce(sum(took) FILTER (WHERE started_at IS NOT NULL), 0) AS took,
           count(took) FILTER (WHERE started_at IS NOT NULL) AS timed
    FROM ended e LEFT JOIN succeeded s USING (job) GROUP BY e.job, s.at
)
INSERT INTO {{s}}.history_jobs AS j (scope, job, last_run, last_at, last_outcome, success_at, failed_run, failed_at, failed_error,
                                   consecutive_failures, runs, failures, took, timed, next_fire_time, unpruned)
SELECT $1, t.job, l.run, l.ended_at, l.outcome, t.success_at, f.run, f.ended_at, f.error,
       t.in_a_row, t.runs, t.failures, t.took, t.timed, l.next_fire_time, t.runs
FROM totals t JOIN last l USING (job) LEFT JOIN last_failed f USING (job) ORDER BY t.job
ON CONFLICT (scope, job) DO UPDATE SET
    last_run = CASE WHEN j.last_at > excluded.last_at THEN j.last_run ELSE excluded.last_run END,
    last_outcome = CASE WHEN j.last_at > excluded.last_at THEN j.last_outcome ELSE excluded.last_outcome END,
    last_at = greatest(j.last_at, excluded.last_at),
    success_at = greatest(j.success_at, excluded.success_at),
    failed_run = CASE WHEN j.failed_at > excluded.failed_at OR excluded.failed_at IS NULL THEN j.failed_run ELSE excluded.failed_run END,
    failed_error = CASE WHEN j.failed_at > excluded.failed_at OR excluded.failed_at IS NULL THEN j.failed_error ELSE excluded.failed_error END,
    failed_at = greatest(j.failed_at, excluded.failed_at),
    consecutive_failures = excluded.consecutive_failures
        + CASE WHEN excluded.success_at IS NULL THEN j.consecutive_failures ELSE 0 END,
    runs = j.runs + excluded.runs,
    failures = j.failures + excluded.failures,
    took = j.took + excluded.took,
    timed = j.timed + excluded.timed,
    next_fire_time = coalesce(excluded.next_fire_time, j.next_fire_time),
    unpruned = j.unpruned + excluded.runs",
        names = names.join(", "),
        arrays = arrays.join(", "),
        set = set.join(", "),
    )
}

const WRITE_DECISIONS: &str = "
INSERT INTO {s}.history_decisions (scope, at, node, job, reason, lost, first, fire_time, term, decision)
SELECT $1, g.* FROM unnest($2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::timestamptz[],
                           $8::timestamptz[], $9::int8[], $10::text[]) AS g (at, node, job, reason, lost, first, fire_time, term, decision)
ORDER BY at, node, job, reason, lost
ON CONFLICT (scope, at, node, job, reason, lost) DO UPDATE
SET first = excluded.first, fire_time = excluded.fire_time, term = excluded.term, decision = excluded.decision";

const WRITE_OPERATIONS: &str = "
INSERT INTO {s}.history_operations (scope, at, node, number, job, operation, asked_by, note, detail)
SELECT $1, g.* FROM unnest($2::timestamptz[], $3::uuid[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::text[],
                           $9::text[]) AS g (at, node, number, job, operation, asked_by, note, detail)
ON CONFLICT DO NOTHING";

/// A change that was made before another one changes nothing. A pause stays while it lasts.
const WRITE_PAUSES: &str = "
INSERT INTO {s}.history_jobs AS j (scope, job, paused_at, pause, pause_until)
SELECT $1, g.* FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::timestamptz[]) AS g (job, at, pause, until) ORDER BY job
ON CONFLICT (scope, job) DO UPDATE
SET (paused_at, pause, pause_until) = (
    SELECT excluded.paused_at, CASE WHEN stays THEN j.pause ELSE excluded.pause END,
           CASE WHEN stays THEN j.pause_until ELSE excluded.pause_until END
    FROM (SELECT excluded.pause IS NOT NULL AND j.pause IS NOT NULL
                 AND coalesce(j.pause_until > excluded.paused_at, true) AS stays) AS former
)
WHERE j.paused_at IS NULL OR j.paused_at <= excluded.paused_at";

const RUNS: &str = "
SELECT *, outcome IS NULL AND ended_at IS NULL AND written_at < clock_timestamp() - interval '{stale}' AS is_stale
FROM {s}.history_runs
WHERE scope = $1 AND ($2::text IS NULL OR job = $2) AND ($3::text IS NULL OR outcome = $3)
  AND ($4::uuid IS NULL OR run >= $4) AND ($5::uuid IS NULL OR run < $5) AND ($6::uuid IS NULL OR run < $6)
  AND ($8::timestamptz IS NULL OR fire_time >= $8) AND ($9::timestamptz IS NULL OR fire_time < $9)
ORDER BY scope DESC, run DESC LIMIT $7";

/// The percentile is that of the newest thousand runs that are kept.
const JOB: &str = "
SELECT j.*, j.took::float8 AS took_all, h.run AS open_run, h.node AS open_node, coalesce(p.p95, j.p95::float8) AS p95_now
FROM {s}.history_jobs j
LEFT JOIN LATERAL (
    SELECT run, node FROM {s}.history_runs
    WHERE scope = $1 AND job = $2 AND outcome IS NULL AND written_at >= clock_timestamp() - interval '{stale}'
    ORDER BY run DESC LIMIT 1
) AS h ON true
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY took) AS p95 FROM (
        SELECT took FROM {s}.history_runs WHERE scope = $1 AND job = $2 AND started_at IS NOT NULL AND outcome IS NOT NULL
        ORDER BY run DESC LIMIT 1000
    ) AS newest
) AS p
WHERE j.scope = $1 AND j.job = $2";

/// Each is looked for by itself: of how many there are, the server would otherwise guess how many rows there are.
const LAST_ENDS: &str = "
SELECT j.* FROM unnest($2::text[]) AS asked (job)
CROSS JOIN LATERAL (
    SELECT job, last_at, success_at, consecutive_failures FROM {s}.history_jobs WHERE scope = $1 AND job = asked.job LIMIT 1
) AS j";

const DECISIONS: &str = "
SELECT * FROM {s}.history_decisions
WHERE scope = $1 AND $2::text IS NULL AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
  AND ($5::timestamptz IS NULL OR (at, nth) < ($5, $6))
ORDER BY at DESC, nth DESC LIMIT $7";

/// Those about all jobs are about each.
const DECISIONS_OF_JOB: &str = "
SELECT * FROM (
    (SELECT * FROM {s}.history_decisions
     WHERE scope = $1 AND job = $2 AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
       AND ($5::timestamptz IS NULL OR (at, nth) < ($5, $6))
     ORDER BY at DESC, nth DESC LIMIT $7)
    UNION ALL
    (SELECT * FROM {s}.history_decisions
     WHERE scope = $1 AND job = '' AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
       AND ($5::timestamptz IS NULL OR (at, nth) < ($5, $6))
     ORDER BY at DESC, nth DESC LIMIT $7)
) AS d
ORDER BY at DESC, nth DESC LIMIT $7";

const OPERATIONS: &str = "
SELECT * FROM {s}.history_operations
WHERE scope = $1 AND ($2::text IS NULL OR job = $2) {job} AND ($3::timestamptz IS NULL OR at >= $3)
  AND ($4::timestamptz IS NULL OR at < $4) AND ($5::timestamptz IS NULL OR (at, nth) < ($5, $6))
ORDER BY at DESC, nth DESC LIMIT $7";

/// What is not there of a time. The decisions about all jobs are few.
const GAPS: &str = "
SELECT (SELECT pruned_to FROM {s}.history_jobs WHERE scope = $1 AND job = $2) AS pruned_to,
       (SELECT coalesce(sum((decision::json->>'count')::int8), 0)::int8 FROM {s}.history_decisions
        WHERE scope = $1 AND job = '' AND ($3::timestamptz IS NULL OR at >= $3)
          AND CASE WHEN reason = 'records_dropped' THEN coalesce((decision::json->>'from')::timestamptz < $4, true) ELSE false END
       ) AS dropped";
