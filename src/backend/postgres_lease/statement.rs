//! Every statement, and what it locks.
//!
//! A commit is two texts of several statements, and what changes a session is one: what varies is written into them as
//! numbers and as hexadecimal literals, which mean the same under every setting of the server. The server begins a text
//! only when it has come as a whole, so that one that is cut leaves it waiting, with its timers, and does nothing after
//! the first error. Reads are sent without a name, with their parameters and their types. Every table is named with its
//! schema: between two transactions a pooler may hand this node another process of the server, which knows nothing of
//! the one before. What a transaction needs is set for it alone.
//!
//! **What locks what.** A commit locks the leader, then the sessions that guard it, then records by their names. The
//! leader and the sessions are locked `FOR KEY SHARE`: that stops their deletion, and whoever locks them `FOR UPDATE`,
//! as all do that write a record; it lets others read and lock the same, and a renewal write its row. Each statement of
//! a transaction sees what was committed before it (READ COMMITTED), and so the versions that it has waited for.
//!
//! **A session is alive while its row is there.** Its time may be over, and a renewal that has waited for the row be
//! made all the same, with a time from before it waited. So whoever finds that the time is over deletes the row, if
//! it still is over then, and looks once more.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use callsheet_actors::port::{RecordSession, Version};

use crate::backend::{
    postgres::quoted,
    sql::{
        LOCK_TIMEOUT, SWEPT_MAX,
        plan::{LeaderLock, Locks, Writes, leader},
    },
};

/// The statements of a scope on the tables of a schema.
pub(super) struct Statements {
    /// The scope, as a literal.
    scope: String,
    /// Begins a commit. The server ends it if nothing more comes: a client that stands still keeps its locks no longer.
    begin: String,
    /// `$1`: the scope, `$2`: names, `$3`: sessions. Reads them in one statement, which sees one instant; and the time
    /// of the server in microseconds, and whether it is none that is written to.
    pub(super) read: String,
    /// `$1`: the scope, `$2`: the first name, `$3`: whether it belongs to them, `$4`: the end, `$5`: how many.
    pub(super) list: String,
    /// Makes the schema and its tables.
    pub(super) ddl: [String; 3],
    /// `$1`: the tables. Answers which of them are there.
    pub(super) find_tables: &'static str,
    /// Changes nothing, and fails where a right is missing.
    pub(super) probe: String,
    /// Two nodes make tables one after the other.
    pub(super) begin_ddl: String,
    /// The tables, as texts: of records, and of sessions.
    pub(super) tables: [String; 2],
}

/// Whether the server is none that is written to.
const READ_ONLY: &str = "pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";

/// What the server says of itself: its version, whether it is none that is written to.
pub(super) const INSPECT: &str = "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";

/// The number of the lock under which tables are made: 'callshee' in ASCII.
const DDL_LOCK: i64 = 0x6361_6c6c_7368_6565;

/// Begins what changes a session, unless the server is read-only by default. That it was done is answered once it is on
/// the disk, whatever the role is set to.
const BEGIN_SESSION: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on";
/// How many statements of what changes a session come before its COMMIT.
pub(super) const BEFORE_SESSION_COMMIT: usize = 3;

impl Statements {
    pub(super) fn new(schema: &str, scope: &str, deadline: Duration) -> Self {
        let schema = quoted(schema);
        let (records, sessions) = (format!("{schema}.records"), format!("{schema}.sessions"));
        let lock_timeout = LOCK_TIMEOUT.as_millis();
        let set = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {lock_timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            deadline.as_millis()
        );
        Self {
            scope: literal(scope.as_bytes()),
            read: format!(
                "SELECT NULL::bytea AS name, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS number, NULL::bytea AS bytes, \
                 {READ_ONLY} AS flag, true AS is_header \
                 UNION ALL SELECT name, version, bytes, false, false FROM {records} \
                 WHERE scope = $1 AND name = ANY($2) AND version <> 0 \
                 UNION ALL SELECT NULL, id, NULL, expires <= statement_timestamp(), false FROM {sessions} WHERE scope = $1 AND id = ANY($3)"
            ),
            list: format!(
                "SELECT NULL::bytea AS name, 0::int8, NULL::bytea, {READ_ONLY} \
                 UNION ALL (SELECT name, version, bytes, false FROM {records} \
                 WHERE scope = $1 AND name >= $2 AND ($3 OR name <> $2) AND name < $4 AND version <> 0 ORDER BY name LIMIT $5)"
            ),
            // The plans are those of a table that may just have been made: by its index, however small it is.
            begin: format!(
                "{set}; SET LOCAL synchronous_commit = on; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
                 SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"
            ),
            // No index but the primary keys: a renewal writes a new version of its row beside the old one, and no
            // index.
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
) WITH (fillfactor = 50)"
                ),
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

    /// The first half of a commit: locks what it rests on and reads it, and answers which transaction it is in. The
    /// versions of the records are answered in the order of their names, and without them: a long answer to a client
    /// that does not read it would keep the server from waiting for the second half, and so from its timer.
    pub(super) fn lock(&self, locks: &Locks, alive: &[RecordSession]) -> String {
        let (scope, [records, sessions]) = (&self.scope, &self.tables);
        let mut text = self.begin.clone();
        if let Some(lock) = locks.leader {
            let of_leader = leader();
            let mode = match lock {
                LeaderLock::Shared => "FOR KEY SHARE",
                LeaderLock::Exclusive => "FOR UPDATE",
                LeaderLock::Absent => {
                    self.hold(&mut text, &BTreeSet::from([of_leader.clone()]));
                    "FOR UPDATE"
                }
            };
            let name = literal(of_leader.as_bytes());
            add(
                &mut text,
                format_args!(
                    "; SELECT version FROM {records} WHERE scope = {scope} AND name = {name} {mode}"
                ),
            );
        }
        if !alive.is_empty() {
            add(
                &mut text,
                format_args!(
                    "; SELECT id, expires <= clock_timestamp() FROM {sessions} WHERE scope = {scope} AND id = ANY({}) ORDER BY id FOR KEY SHARE",
                    ids(alive)
                ),
            );
        }
        self.hold(&mut text, &locks.absent);
        if !locks.names.is_empty() {
            add(
                &mut text,
                format_args!(
                    "; SELECT held.version FROM unnest({}) WITH ORDINALITY AS wanted (name, at) LEFT JOIN LATERAL \
                     (SELECT version FROM {records} WHERE scope = {scope} AND name = wanted.name FOR UPDATE) AS held ON true \
                     ORDER BY wanted.at",
                    literals(locks.names.iter().map(String::as_bytes))
                ),
            );
        }
        text.push_str("; SELECT pg_current_xact_id()");
        text
    }

    /// Puts rows of version 0 where there is no record. Waits for others who do the same.
    fn hold(&self, text: &mut String, names: &BTreeSet<String>) {
        if !names.is_empty() {
            add(
                text,
                format_args!(
                    "; INSERT INTO {} (scope, name, version, bytes) SELECT {}, name, 0, '' FROM unnest({}) AS name ON CONFLICT DO NOTHING",
                    self.tables[0],
                    self.scope,
                    literals(names.iter().map(String::as_bytes))
                ),
            );
        }
    }

    /// The second half of a commit: writes what was decided, answers the server's time, and ends the transaction. All
    /// rows that are written are there, and locked, so that they stay where they are: they are looked up one by one,
    /// and written by their places. Joined by their names, the server may read all records of the scope for each of
    /// them, as long as it has not counted how many there are. Its first statement divides by zero unless the
    /// transaction is the one of the first half: what stands between may have handed this node another process of the
    /// server.
    pub(super) fn write(&self, writes: &Writes<'_>, made: Version, transaction: u64) -> String {
        let (scope, records) = (&self.scope, &self.tables[0]);
        let mut text = format!(
            "SELECT 1 / coalesce((pg_current_xact_id_if_assigned()::text = '{transaction}')::int4, 0); "
        );
        if !writes.put.is_empty() {
            add(
                &mut text,
                format_args!(
                    "UPDATE {records} AS stored SET version = {}, bytes = put.bytes FROM unnest({}, {}) AS put (name, bytes) \
                     CROSS JOIN LATERAL (SELECT ctid AS place FROM {records} WHERE scope = {scope} AND name = put.name OFFSET 0) AS held \
                     WHERE stored.ctid = held.place; ",
                    made.0.cast_signed(),
                    literals(writes.put.keys().map(String::as_bytes)),
                    literals(writes.put.values().copied())
                ),
            );
        }
        if deletes(writes) {
            add(
                &mut text,
                format_args!(
                    "DELETE FROM {records} WHERE scope = {scope} AND name = ANY({}); ",
                    literals(writes.delete.iter().map(String::as_bytes))
                ),
            );
        }
        let end = if writes.only_compares { "ROLLBACK" } else { "COMMIT" };
        add(&mut text, format_args!("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8; {end}"));
        text
    }

    /// How many statements [`write`](Self::write) makes before the one that ends it.
    pub(super) fn before_commit(writes: &Writes<'_>) -> usize {
        2 + usize::from(!writes.put.is_empty()) + usize::from(deletes(writes))
    }

    /// Opens a session, of so many microseconds. Answers a row if there was none of this number.
    pub(super) fn open(&self, session: RecordSession, ttl: i64) -> String {
        self.change(&format!(
            "INSERT INTO {} (scope, id, ttl, expires) \
             VALUES ({}, {}, {ttl}, statement_timestamp() + {ttl} * interval '1 microsecond') ON CONFLICT DO NOTHING RETURNING id",
            self.tables[1],
            self.scope,
            session.0.cast_signed()
        ))
    }

    /// Looks at a page of sessions that come after a number, and from the first one on once it is at the end; deletes
    /// those whose time is over, without those that somebody has locked. Answers the page.
    pub(super) fn sweep(&self, after: i64) -> String {
        let (scope, sessions) = (&self.scope, &self.tables[1]);
        let of_page = |from: &str| {
            format!("(SELECT id FROM {sessions} WHERE scope = {scope}{from} ORDER BY id LIMIT {SWEPT_MAX})")
        };
        let page = format!(
            "SELECT id FROM ({} UNION ALL {}) AS page LIMIT {SWEPT_MAX}",
            of_page(&format!(" AND id > {after}")),
            of_page("")
        );
        self.change(&format!(
            "WITH page AS MATERIALIZED ({page}), gone AS (DELETE FROM {sessions} WHERE scope = {scope} AND id = ANY(ARRAY( \
             SELECT id FROM {sessions} WHERE scope = {scope} AND id = ANY(ARRAY(SELECT id FROM page)) \
             AND expires <= statement_timestamp() FOR UPDATE SKIP LOCKED))) SELECT id FROM page"
        ))
    }

    /// Renews a session. Answers a row if its time was not over.
    pub(super) fn renew(&self, session: RecordSession) -> String {
        self.change(&format!(
            "UPDATE {} SET expires = statement_timestamp() + ttl * interval '1 microsecond' \
             WHERE scope = {} AND id = {} AND expires > statement_timestamp() RETURNING id",
            self.tables[1],
            self.scope,
            session.0.cast_signed()
        ))
    }

    /// Deletes those of these sessions whose time is over.
    pub(super) fn delete_expired(&self, sessions: &[RecordSession]) -> String {
        self.change(&format!(
            "DELETE FROM {} WHERE scope = {} AND id = ANY({}) AND expires <= statement_timestamp()",
            self.tables[1],
            self.scope,
            ids(sessions)
        ))
    }

    /// Ends a session.
    pub(super) fn end(&self, session: RecordSession) -> String {
        let (sessions, scope, id) = (&self.tables[1], &self.scope, session.0.cast_signed());
        self.change(&format!("DELETE FROM {sessions} WHERE scope = {scope} AND id = {id}"))
    }

    fn change(&self, statement: &str) -> String {
        format!("{BEGIN_SESSION}; {statement}; COMMIT")
    }
}

/// Whether a commit deletes something: what only compares leaves that to the end of its transaction.
fn deletes(writes: &Writes<'_>) -> bool {
    !writes.only_compares && !writes.delete.is_empty()
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // A text takes everything.
    let _ = text.write_fmt(more);
}

/// Bytes, in a form that rests on no setting of the server: one of them gives backslashes another meaning.
fn add_literal(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.reserve(2 * bytes.len() + 16);
    text.push_str("decode('");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.push_str("','hex')");
}

fn literal(bytes: &[u8]) -> String {
    let mut text = String::new();
    add_literal(&mut text, bytes);
    text
}

fn literals<'a>(all: impl Iterator<Item = &'a [u8]>) -> String {
    let mut text = "ARRAY[".to_owned();
    for (at, bytes) in all.enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        add_literal(&mut text, bytes);
    }
    text.push_str("]::bytea[]");
    text
}

fn ids(sessions: &[RecordSession]) -> String {
    let ids: Vec<_> = sessions.iter().map(|session| session.0.cast_signed().to_string()).collect();
    format!("ARRAY[{}]::int8[]", ids.join(","))
}

#[cfg(test)]
mod tests {
    use callsheet_actors::port::{Change, Commit, RecordChange, RecordKind, RecordName, Unit};

    use super::*;

    fn statements() -> Statements {
        Statements::new("callsheet_lease", "it's", Duration::from_secs(2))
    }

    fn commit() -> Commit {
        let change = |id: &str, version| RecordChange {
            name: RecordName::new(RecordKind::Name, id),
            version: Version(version),
            change: Change::Put(b"'; DROP".to_vec()),
        };
        let unit = Unit { records: vec![change("a'; DROP", 0), change("b", 7)], hints: Vec::new() };
        Commit {
            alive: vec![RecordSession(u64::MAX)],
            leader: Some(Version::ABSENT),
            server: None,
            units: vec![unit],
        }
    }

    fn all() -> Vec<String> {
        let (statements, commit, session) = (statements(), commit(), RecordSession(7));
        let writes = Writes {
            put: [("name/a'; DROP".to_owned(), b"'; DROP".as_slice())].into(),
            delete: ["name/'; DROP".to_owned()].into(),
            ..Writes::default()
        };
        let Statements { read, list, ddl, probe, begin_ddl, .. } = &statements;
        let mut all: Vec<String> = ddl.to_vec();
        all.extend([read, list, probe, begin_ddl].map(Clone::clone));
        all.extend([
            statements.lock(&Locks::of(&commit), &commit.alive),
            statements.write(&writes, Version(u64::MAX), 9),
            statements.open(session, 1),
            statements.sweep(-1),
            statements.renew(session),
            statements.delete_expired(&[session]),
            statements.end(session),
        ]);
        all
    }

    #[test]
    fn nothing_outlives_its_transaction() {
        for text in all() {
            for session_level in
                ["LISTEN", "NOTIFY", "PREPARE", "DECLARE", "TEMP", "pg_advisory_lock", "SET SESSION"]
            {
                assert!(!text.contains(session_level), "{session_level}: {text}");
            }
            assert_eq!(
                text.matches(" SET ").count(),
                text.matches("SET LOCAL ").count()
                    + text.matches("SET version").count()
                    + text.matches("SET expires").count()
                    + text.matches("SET ttl").count(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_varies_is_written_so_that_it_ends_no_literal() {
        for text in all() {
            assert!(!text.contains("DROP") && !text.contains("it's") && !text.contains('\\'), "{text}");
        }
    }

    #[test]
    fn the_commit_comes_last_and_its_place_is_known() {
        let place = |text: &str| text.split("; ").position(|one| one == "COMMIT");
        let statements = statements();
        assert_eq!(place(&statements.end(RecordSession(7))), Some(BEFORE_SESSION_COMMIT));
        for (puts, deletes) in [(true, true), (true, false), (false, true)] {
            let mut writes = Writes::default();
            writes.put.extend(puts.then_some(("a".to_owned(), b"b".as_slice())));
            writes.delete.extend(deletes.then(|| "c".to_owned()));
            let text = statements.write(&writes, Version(1), 9);
            assert_eq!(place(&text), Some(Statements::before_commit(&writes)), "{text}");
            assert!(text.ends_with("; COMMIT"), "{text}");
        }
    }
}
