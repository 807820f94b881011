//! The schema: whether it is there, its steps, and the lock of those who take them.

/// Whether there is a table ($2) in a schema ($1) that this role may read.
pub(in super::super) const READABLE: &str = "
SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')";

/// The newest step that was taken.
pub(in super::super) const NEWEST_STEP: &str =
    "SELECT version, coalesce(name, '') AS name FROM migrations ORDER BY version DESC LIMIT 1";

/// The lock that serialises migrations of one schema ($1), for which `lock_timeout` is waited.
pub(in super::super) const MIGRATION_LOCK: &str =
    "SELECT pg_advisory_lock(hashtextextended('callsheet migration ' || $1, 0))";

/// Who holds the lock of migrations of a schema ($1); a prepared transaction has no process.
pub(in super::super) const MIGRATION_LOCK_HOLDER: &str = "
SELECT coalesce(l.pid, 0) AS pid, coalesce(pg_get_userbyid(a.usesysid)::text, '') AS role,
       coalesce(a.application_name, '') AS application
FROM pg_locks l LEFT JOIN LATERAL pg_stat_get_activity(coalesce(l.pid, 0)) AS a ON true
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::int8 << 32 | l.objid::int8 = hashtextextended('callsheet migration ' || $1, 0)
LIMIT 1";

/// Whether there is a schema ($1).
pub(in super::super) const SCHEMA_EXISTS: &str = "SELECT FROM pg_namespace WHERE nspname = $1";

/// A name may be a word of the language.
pub(in crate::backend) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
