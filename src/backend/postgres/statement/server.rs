//! The server, this role, and the session, as a connection finds them.

use super::schema::quoted;

/// Whether this server can coordinate: its version, whether it is a standby, whether it is read-only, whether
/// it took the settings of the connection (by one that only this connection has, $1 with the value $2, and
/// its schema $3), which of some ($4) have other values than these ($5), how texts are encoded in the
/// database and on the way there, its process; and its clock. Sets how many milliseconds ($6) a transaction
/// may take, if the server knows that.
pub(in super::super) const INSPECT: &str = "
SELECT current_setting('server_version_num')::int4 AS version,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only') = 'on' AS read_only,
       coalesce(current_setting($1, true) = $2, false) AND current_setting('search_path') = $3 AS configured,
       ARRAY(SELECT s.name FROM unnest($4::text[], $5::text[]) AS asked (name, value) JOIN pg_settings s USING (name)
             WHERE s.setting <> asked.value ORDER BY s.name) AS overridden,
       CASE WHEN current_setting('server_version_num')::int4 >= 170000
            THEN set_config('transaction_timeout', $6, false) ELSE $6 END AS transaction_timeout,
       getdatabaseencoding()::text AS encoding,
       pg_client_encoding()::text AS client_encoding,
       pg_backend_pid() AS pid,
       a.backend_start AS started,
       clock_timestamp() AS now
FROM pg_stat_get_activity(pg_backend_pid()) AS a";

/// What this role may do with the tables ($2) and routines ($4) of a schema ($1); from some tables ($3) it
/// deletes. No row: there is no such schema.
pub(in super::super) const RIGHTS: &str = "
SELECT has_schema_privilege(n.oid, 'USAGE') AS usable,
       ARRAY(SELECT name FROM unnest($2::text[]) AS asked (name)
             WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = name)
             UNION ALL
             SELECT name FROM unnest($4::text[]) AS asked (name)
             WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = name)) AS missing,
       ARRAY(SELECT c.relname::text FROM pg_class c
             WHERE c.relnamespace = n.oid AND c.relname = ANY ($2)
               AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                        AND has_table_privilege(c.oid, 'UPDATE')
                        AND (c.relname <> ALL ($3) OR has_table_privilege(c.oid, 'DELETE')))
             ORDER BY c.relname) AS lacking,
       ARRAY(SELECT p.proname::text FROM pg_proc p
             WHERE p.pronamespace = n.oid AND p.proname = ANY ($4) AND NOT has_function_privilege(p.oid, 'EXECUTE')
             ORDER BY p.proname) AS uncallable
FROM pg_namespace n WHERE n.nspname = $1";

/// Listens on a channel.
pub(in super::super) fn listen(channel: &str) -> String {
    format!("LISTEN {}", quoted(channel))
}

/// Whether the beacon ($1) of the node's session is held on this server as well: two connections to one name
/// may reach two servers.
pub(in super::super) const SEES_BEACON: &str = "SELECT NOT pg_try_advisory_xact_lock_shared($1) AS seen";
