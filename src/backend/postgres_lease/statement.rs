//! Every statement, and what it locks.
//!
//! Each is sent without a name, with its parameters and their types, and names its tables with their schema: between
//! two transactions a pooler may hand this node another process of the server, which knows nothing of the one before.
//! What a transaction needs is set for it alone.
//!
//! **What locks what.** A commit locks the leader, then the sessions that guard it, then records by their names. The leader
//! and the sessions are locked `FOR KEY SHARE`: that stops their deletion, and whoever locks them `FOR UPDATE`, as all do
//! that write a record; it lets others read and lock the same, and a renewal write its row. Each statement of a
//! transaction sees what was committed before it (READ COMMITTED), and so the versions that it has waited for.
//!
//! **A session is alive while its row is there.** Its time may be over, and a renewal that has waited for the row be
//! made all the same, with a time from before it waited. So whoever finds that the time is over deletes the row, if
//! it still is over then, and looks once more.

use std::time::Duration;

use crate::backend::{
    postgres::quoted,
    sql::{LOCK_TIMEOUT, SWEPT_MAX},
};

/// The statements on the tables of a schema.
pub(super) struct Statements {
    /// `$1`: the scope, `$2`: names, `$3`: sessions. Reads them in one statement, which sees one instant; and the time
    /// of the server in microseconds, and whether it is none that is written to.
    pub(super) read: String,
    /// `$1`: the scope, `$2`: the first name, `$3`: whether it belongs to them, `$4`: the end, `$5`: how many.
    pub(super) list: String,
    /// Begins a commit. The server ends it if nothing more comes: a client that stands still keeps its locks no longer.
    pub(super) begin: String,
    /// `$1`: the scope, `$2`: the leader's name.
    pub(super) leader_shared: String,
    /// The same, alone.
    pub(super) leader_alone: String,
    /// `$1`: the scope, `$2`: sessions.
    pub(super) guards: String,
    /// `$1`: the scope, `$2`: names, in order. Puts rows of version 0 where there is no record. Waits for others who do
    /// the same.
    pub(super) hold: String,
    /// `$1`: the scope, `$2`: names.
    pub(super) lock: String,
    /// `$1`: the scope, `$2`: names, `$3`: the version, `$4`: what is written. All rows are there, and locked.
    pub(super) put: String,
    /// `$1`: the scope, `$2`: names.
    pub(super) delete: String,
    /// `$1`: the scope, `$2`: the id, `$3`: its time to live in microseconds.
    pub(super) open: String,
    /// `$1`: the scope. Deletes some sessions whose time is over, without those that somebody has locked.
    pub(super) sweep: String,
    /// `$1`: the scope, `$2`: the session. Answers a row if its time was not over.
    pub(super) renew: String,
    /// `$1`: the scope, `$2`: sessions. Deletes those whose time is over.
    pub(super) delete_expired: String,
    /// `$1`: the scope, `$2`: the session.
    pub(super) end: String,
    /// Makes the schema and its tables.
    pub(super) ddl: [String; 4],
    /// `$1`: the tables. Answers which of them are there.
    pub(super) find_tables: &'static str,
    /// Changes nothing, and fails where a right is missing.
    pub(super) probe: String,
    /// Two nodes make tables one after the other.
    pub(super) begin_ddl: String,
    /// The tables, as texts.
    pub(super) tables: [String; 2],
}

/// Whether the server is none that is written to.
const READ_ONLY: &str = "pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";

/// What the server says of itself: its version, whether it is none that is written to.
pub(super) const INSPECT: &str = "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";

/// The number of the lock under which tables are made: 'callshee' in ASCII.
const DDL_LOCK: i64 = 0x6361_6c6c_7368_6565;

impl Statements {
    pub(super) fn new(schema: &str, deadline: Duration) -> Self {
        let schema = quoted(schema);
        let (records, sessions) = (format!("{schema}.records"), format!("{schema}.sessions"));
        let lock_timeout = LOCK_TIMEOUT.as_millis();
        let set = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {lock_timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            deadline.as_millis()
        );
        Self {
            read: format!(
                "SELECT NULL::bytea AS name, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS number, NULL::bytea AS bytes, \
                 {READ_ONLY} AS flag, true AS is_header \
                 UNION ALL SELECT name, version, bytes, false, false FROM {records} WHERE scope = $1 AND name = ANY($2) \
                 UNION ALL SELECT NULL, id, NULL, expires <= statement_timestamp(), false FROM {sessions} WHERE scope = $1 AND id = ANY($3)"
            ),
            list: format!(
                "SELECT NULL::bytea AS name, 0::int8, NULL::bytea, {READ_ONLY} \
                 UNION ALL (SELECT name, version, bytes, false FROM {records} \
                 WHERE scope = $1 AND name >= $2 AND ($3 OR name <> $2) AND name < $4 ORDER BY name LIMIT $5)"
            ),
            // The plans are those of a table that may just have been made: by its index, however small it is.
            begin: format!(
                "{set}; SET LOCAL synchronous_commit = on; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
                 SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"
            ),
            leader_shared: format!(
                "SELECT version FROM {records} WHERE scope = $1 AND name = $2 FOR KEY SHARE"
            ),
            leader_alone: format!("SELECT version FROM {records} WHERE scope = $1 AND name = $2 FOR UPDATE"),
            guards: format!(
                "SELECT id, expires <= statement_timestamp() FROM {sessions} WHERE scope = $1 AND id = ANY($2) ORDER BY id FOR KEY SHARE"
            ),
            hold: format!(
                "INSERT INTO {records} (scope, name, version, bytes) SELECT $1, name, 0, '' FROM unnest($2) AS name \
                 ON CONFLICT DO NOTHING"
            ),
            lock: format!(
                "SELECT name, version FROM {records} WHERE scope = $1 AND name = ANY($2) ORDER BY name FOR UPDATE"
            ),
            put: format!(
                "UPDATE {records} AS stored SET version = $3, bytes = put.bytes FROM unnest($2, $4) AS put (name, bytes) \
                 WHERE stored.scope = $1 AND stored.name = put.name"
            ),
            delete: format!("DELETE FROM {records} WHERE scope = $1 AND name = ANY($2)"),
            open: format!(
                "INSERT INTO {sessions} (scope, id, ttl, expires) \
                 VALUES ($1, $2, $3, statement_timestamp() + $3 * interval '1 microsecond') ON CONFLICT DO NOTHING RETURNING id"
            ),
            sweep: format!(
                "DELETE FROM {sessions} WHERE scope = $1 AND id = ANY(ARRAY(SELECT id FROM {sessions} \
                 WHERE scope = $1 AND expires <= statement_timestamp() ORDER BY expires LIMIT {SWEPT_MAX} FOR UPDATE SKIP LOCKED))"
            ),
            renew: format!(
                "UPDATE {sessions} SET expires = statement_timestamp() + ttl * interval '1 microsecond' \
                 WHERE scope = $1 AND id = $2 AND expires > statement_timestamp() RETURNING id"
            ),
            delete_expired: format!(
                "DELETE FROM {sessions} WHERE scope = $1 AND id = ANY($2) AND expires <= statement_timestamp()"
            ),
            end: format!("DELETE FROM {sessions} WHERE scope = $1 AND id = $2"),
            ddl: [
                format!("CREATE SCHEMA IF NOT EXISTS {schema}"),
                format!(
                    "CREATE TABLE IF NOT EXISTS {records} (
    scope bytea NOT NULL,
    name bytea NOT NULL,
    version int8 NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (scope, name)
) WITH (fillfactor = 70)"
                ),
                format!(
                    "CREATE TABLE IF NOT EXISTS {sessions} (
    scope bytea NOT NULL,
    id int8 NOT NULL,
    ttl int8 NOT NULL, -- microseconds
    expires timestamptz NOT NULL,
    PRIMARY KEY (scope, id)
)"
                ),
                format!("CREATE INDEX IF NOT EXISTS sessions_expires ON {sessions} (scope, expires)"),
            ],
            find_tables: "SELECT count(to_regclass(name)) FROM unnest($1) AS name",
            probe: format!(
                "SELECT 1 FROM {records}, {sessions} WHERE false; \
                 INSERT INTO {records} SELECT * FROM {records} WHERE false; \
                 UPDATE {records} SET version = 0 WHERE false; DELETE FROM {records} WHERE false; \
                 INSERT INTO {sessions} SELECT * FROM {sessions} WHERE false; \
                 UPDATE {sessions} SET ttl = 0 WHERE false; DELETE FROM {sessions} WHERE false"
            ),
            begin_ddl: format!("{set}; SELECT pg_advisory_xact_lock({DDL_LOCK})"),
            tables: [records, sessions],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_its_transaction() {
        let statements = Statements::new("callsheet_lease", Duration::from_secs(2));
        let Statements {
            read,
            list,
            begin,
            leader_shared,
            leader_alone,
            guards,
            hold,
            lock,
            put,
            delete,
            ..
        } = &statements;
        let Statements { open, sweep, renew, delete_expired, end, ddl, probe, begin_ddl, .. } = &statements;
        let all = [
            read,
            list,
            begin,
            leader_shared,
            leader_alone,
            guards,
            hold,
            lock,
            put,
            delete,
            open,
            sweep,
            renew,
        ]
        .into_iter()
        .chain([delete_expired, end, probe, begin_ddl])
        .chain(ddl);
        for text in all {
            for session_level in
                ["LISTEN", "NOTIFY", "PREPARE", "DECLARE", "TEMP", "pg_advisory_lock", "SET SESSION"]
            {
                assert!(!text.contains(session_level), "{session_level}: {text}");
            }
            assert_eq!(
                text.matches("SET ").count(),
                text.matches("SET LOCAL ").count()
                    + text.matches("SET version").count()
                    + text.matches("SET expires").count()
                    + text.matches("SET ttl").count(),
                "{text}"
            );
        }
    }
}
