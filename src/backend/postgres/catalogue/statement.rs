//! The statements of the catalogue. Names are qualified, since the application may hand in its own connections. `{s}`
//! is
//! the schema, `{row}` the columns of a row.
//!
//! A trigger of the table gives each change its version, so that it is the same whoever makes it: see the migration.

use callsheet_actors::port::DEFINITION_BYTES_MAX;

use super::super::statement::schema::quoted;

/// How many bytes of definitions a page has, but for its last row: 16 MiB.
const PAGE_BYTES_MAX: usize = 16_777_216;

/// The columns of a row. Of a definition that is too long, whoever reads it needs no more than to see that it is.
const ROW: &str = "job, version, changed_at, changed_by, change, due_at,
           CASE WHEN octet_length(definition) > {definition max} THEN left(definition, {definition max} + 1) ELSE definition END AS definition";

/// The texts, for one schema.
pub(super) struct Statements {
    /// $1 scope.
    pub(super) lock: String,
    /// $1 scope, $2 job, $3 id, $4 definition (none: delete), $5 must be absent, $6 must have this version, $7 by, $8
    /// task, $9
    /// tags, $10 enabled, $11 how many jobs there may be, $12 when it is due, if it is a one-shot.
    pub(super) change: String,
    /// $1 scope, $2 how many.
    pub(super) forget: String,
    /// $1 scope, $2 job.
    pub(super) get: String,
    /// $1 scope, $2 after which name, $3 pattern of names, $4 tag, $5 task, $6 enabled, $7 limit.
    pub(super) list: String,
    /// The same of jobs that are no one-shots, and of one-shots only.
    pub(super) list_others: String,
    pub(super) list_one_shots: String,
    /// $1 scope, $2 before which instant, $3 after which one, $4 and which name, $5 limit.
    pub(super) due: String,
    /// $1 scope, $2 after which version, $3 limit.
    pub(super) changes: String,
}

impl Statements {
    pub(super) fn of(schema: &str) -> Self {
        let (schema, page) = (quoted(schema), PAGE_BYTES_MAX.to_string());
        let qualified = |text: &str| {
            text.replace("{row}", ROW)
                .replace("{s}", &schema)
                .replace("{page max}", &page)
                .replace("{definition max}", &DEFINITION_BYTES_MAX.to_string())
        };
        Self {
            lock: qualified(LOCK),
            change: qualified(CHANGE),
            forget: qualified(FORGET),
            get: qualified(GET),
            list: qualified(&LIST.replace("{kind}", "")),
            list_others: qualified(&LIST.replace("{kind}", "AND due_at IS NULL")),
            list_one_shots: qualified(&LIST.replace("{kind}", "AND due_at IS NOT NULL")),
            due: qualified(DUE),
            changes: qualified(CHANGES),
        }
    }
}

/// The history's connections do not wait for the disk. A change is made only once it cannot be lost any more. The
/// server
/// gives up what nobody waits for any more: the pool of an application may have no such bounds. Both are below
/// [`CALL_DEADLINE`](callsheet_actors::CALL_DEADLINE).
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; \
    SET LOCAL lock_timeout = '4s'; SET LOCAL statement_timeout = '4500ms'";

/// Locks the row of the version until the transaction ends, without a new version of that row.
const LOCK: &str = "
INSERT INTO {s}.catalogue_versions (scope) VALUES ($1) ON CONFLICT (scope) DO UPDATE SET version = 0 WHERE false";

/// Changes a job, if it may be changed, and answers how it stands: `made`, `elsewhere`, `full`. The version is
/// locked, so
/// that this statement sees all changes before it, but for one by hand that has the job's row locked: then it answers
/// no
/// row, and nothing is changed.
const CHANGE: &str = "
WITH standing AS MATERIALIZED (
    SELECT {row} FROM {s}.catalogue_jobs WHERE scope = $1 AND job = $2
), decided AS MATERIALIZED (
    SELECT CASE
               WHEN s.change = $3::uuid THEN 'made'
               WHEN $5::bool AND s.definition IS NOT NULL OR $4::text IS NULL AND s.definition IS NULL
                    OR $6::int8 IS NOT NULL AND (s.definition IS NULL OR s.version <> $6) THEN 'elsewhere'
               WHEN s.definition IS NULL AND v.jobs >= $11::int8 THEN 'full'
               WHEN s.job IS NULL THEN 'put'
               ELSE 'replaced'
           END AS decision, s.version, v.deleted
    FROM {s}.catalogue_versions v LEFT JOIN standing s ON true WHERE v.scope = $1
), put AS (
    INSERT INTO {s}.catalogue_jobs (scope, job, definition, task, tags, enabled, changed_at, changed_by, change, due_at)
    SELECT $1, $2, $4, $8, $9, $10, clock_timestamp(), $7, $3, $12::timestamptz FROM decided WHERE decision = 'put'
    ON CONFLICT DO NOTHING
    RETURNING {row}
), replaced AS (
    UPDATE {s}.catalogue_jobs
    SET definition = $4, task = $8, tags = $9, enabled = $10, changed_at = clock_timestamp(), changed_by = $7, change = $3,
        due_at = $12::timestamptz
    WHERE scope = $1 AND job = $2 AND version = (SELECT version FROM decided WHERE decision = 'replaced')
    RETURNING {row}
)
SELECT d.decision, d.deleted, s.* FROM decided d LEFT JOIN standing s ON true WHERE d.decision IN ('made', 'elsewhere', 'full')
UNION ALL SELECT 'made', d.deleted, p.* FROM put p CROSS JOIN decided d
UNION ALL SELECT 'made', d.deleted, r.* FROM replaced r CROSS JOIN decided d";

/// Forgets the jobs that were deleted first. The version is locked.
const FORGET: &str = "
WITH old AS MATERIALIZED (
    SELECT job, version FROM {s}.catalogue_jobs WHERE scope = $1 AND definition IS NULL ORDER BY version LIMIT $2
), gone AS (
    DELETE FROM {s}.catalogue_jobs j USING old o WHERE j.scope = $1 AND j.job = o.job AND j.version = o.version RETURNING j.version
)
UPDATE {s}.catalogue_versions
SET forgotten = greatest(forgotten, (SELECT max(version) FROM old)), deleted = deleted - (SELECT count(*) FROM gone)
WHERE scope = $1";

const GET: &str =
    "SELECT {row} FROM {s}.catalogue_jobs WHERE scope = $1 AND job = $2 AND definition IS NOT NULL";

/// Always answers a row, with the version; without a job if there is none. The order of the rows is not said.
const LIST: &str = "
SELECT coalesce((SELECT version FROM {s}.catalogue_versions WHERE scope = $1), 0) AS newest, found, j.*
FROM (VALUES (1)) AS one (nth)
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT *, sum(octet_length(definition)) OVER (ORDER BY job) - octet_length(definition) AS before, count(*) OVER () AS found
        FROM (
            SELECT {row} FROM {s}.catalogue_jobs
            WHERE scope = $1 AND definition IS NOT NULL AND ($2::text IS NULL OR job > $2) AND ($3::text IS NULL OR job LIKE $3)
              AND ($4::text IS NULL OR $4 = ANY (tags)) AND ($5::text IS NULL OR task = $5) AND ($6::bool IS NULL OR enabled = $6) {kind}
            ORDER BY job LIMIT $7
        ) AS page
    ) AS rows WHERE before < {page max}
) AS j ON true";

/// The one-shots that are due before an instant. How many the page would have had is beside each. The order of the
/// rows is
/// not said.
const DUE: &str = "
SELECT * FROM (
    SELECT *, sum(octet_length(definition)) OVER (ORDER BY due_at, job) - octet_length(definition) AS before, count(*) OVER () AS found
    FROM (
        SELECT {row} FROM {s}.catalogue_jobs
        WHERE scope = $1 AND due_at IS NOT NULL AND due_at < $2 AND (due_at, job) > ($3, $4) AND definition IS NOT NULL
        ORDER BY due_at, job LIMIT $5
    ) AS page
) AS rows WHERE before < {page max}";

/// Always answers a row, with what is forgotten and the newest version; without a job if there is none. The order of
/// the rows is not said.
const CHANGES: &str = "
SELECT coalesce(v.forgotten, 0) AS forgotten, coalesce(v.version, 0) AS newest, j.*
FROM (VALUES (1)) AS one (nth)
LEFT JOIN {s}.catalogue_versions v ON v.scope = $1
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT *, sum(octet_length(coalesce(definition, ''))) OVER (ORDER BY version) - octet_length(coalesce(definition, '')) AS before
        FROM (SELECT {row} FROM {s}.catalogue_jobs WHERE scope = $1 AND version > $2 ORDER BY version LIMIT $3) AS page
    ) AS rows WHERE before < {page max}
) AS j ON true";
