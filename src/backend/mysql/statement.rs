//! Every statement, and what it locks.
//!
//! Statements are texts: what varies is written into them as numbers and as hexadecimal literals, which mean the same
//! under every character set and mode of the server. Several that belong together are sent at once.
//!
//! **What locks what.** A commit locks the leader, then the sessions that guard it, then records by their names, by the
//! primary keys, and nothing else: a transaction reads what was committed last (READ COMMITTED), so that no gaps are
//! locked. The leader and the sessions are locked together with other commits. Every statement on a table is held to
//! an index by name: a small table would be read as a whole otherwise, past rows that others have locked.
//!
//! **A session is alive while its row is there.** Its time may be over, and a renewal that has waited for the row be
//! made all the same, with a time from before it waited. So whoever finds that the time is over deletes the row, if
//! it still is over then, and looks once more.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use callsheet_actors::port::{RecordSession, Version};

use crate::backend::sql::{
    LOCK_TIMEOUT, SWEPT_MAX, micros,
    names::Range,
    plan::{LeaderLock, Locks, Writes, leader},
};

/// The tables, as they are made unless they are there.
pub(super) const DDL: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS callsheet_records (
    scope VARBINARY(100) NOT NULL,
    name VARBINARY(272) NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    bytes MEDIUMBLOB NOT NULL,
    PRIMARY KEY (scope, name)
) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS callsheet_sessions (
    scope VARBINARY(100) NOT NULL,
    id BIGINT UNSIGNED NOT NULL,
    ttl BIGINT UNSIGNED NOT NULL COMMENT 'microseconds',
    expires DATETIME(6) NOT NULL COMMENT 'UTC',
    PRIMARY KEY (scope, id),
    KEY expires (scope, expires)
) ENGINE=InnoDB",
];

/// How the tables are called.
pub(super) const TABLES: [&str; 2] = ["callsheet_records", "callsheet_sessions"];

/// The server's time in microseconds, and whether it is a replica, or was a primary.
const HEADER: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), @@GLOBAL.read_only";

/// What the server says of itself, by name.
pub(super) const INSPECT: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'read_only', 'super_read_only', \
     'innodb_read_only', 'max_allowed_packet', 'wsrep_on', 'group_replication_group_name', \
     'group_replication_single_primary_mode', \
     'group_replication_consistency')";

/// The tables that are there, and their engines.
pub(super) const FIND_TABLES: &str = "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE() \
     AND table_name IN ('callsheet_records', 'callsheet_sessions')";

/// Changes nothing, and fails where a right is missing.
pub(super) const PROBE: &str = "SELECT 1 FROM callsheet_records WHERE scope = '' AND name = ''; \
     INSERT INTO callsheet_records SELECT * FROM callsheet_records WHERE scope = '' AND name = ''; \
     UPDATE callsheet_records SET version = 0 WHERE scope = '' AND name = ''; \
     DELETE FROM callsheet_records WHERE scope = '' AND name = ''; \
     SELECT 1 FROM callsheet_sessions WHERE scope = '' AND id = 0; \
     INSERT INTO callsheet_sessions SELECT * FROM callsheet_sessions WHERE scope = '' AND id = 0; \
     UPDATE callsheet_sessions SET ttl = 0 WHERE scope = '' AND id = 0; \
     DELETE FROM callsheet_sessions WHERE scope = '' AND id = 0";

/// For how long the server keeps a connection that is silent outside of a transaction, in seconds.
const SILENCE_MAX: u32 = 28_800;

/// What a connection is told when it is made: nothing rests on what the server, the database or the user is set to.
/// After `silence` seconds the server ends a connection that it can write no answer to, or that ends in the middle of a
/// question: until then it may hold locks. MariaDB, and it alone, reads the part in the comment: it would make a table
/// of a long list, and read it in any order.
pub(super) fn set_up(silence: u64) -> String {
    let lock_timeout = LOCK_TIMEOUT.as_secs();
    format!(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, completion_type = 'NO_CHAIN', \
         innodb_lock_wait_timeout = {lock_timeout}, lock_wait_timeout = {lock_timeout}, wait_timeout = {SILENCE_MAX}, \
         net_write_timeout = {silence}, net_read_timeout = {silence}, sql_select_limit = 18446744073709551615 /*M! , in_predicate_conversion_threshold = 0 */; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
    )
}

/// After how many seconds of silence the server ends what a call of this deadline has begun.
pub(super) fn silence_of(deadline: Duration) -> u64 {
    deadline.as_secs() + u64::from(deadline.subsec_nanos() > 0)
}

/// The statements of a scope.
pub(super) struct Statements {
    /// The scope, as a literal.
    scope: String,
    /// After how long a silence in the middle of a transaction the server ends it, in seconds.
    silence: u64,
}

impl Statements {
    pub(super) fn new(scope: &str, deadline: Duration) -> Self {
        Self { scope: hex(scope.as_bytes()), silence: silence_of(deadline) }
    }

    /// After how many seconds the server ends a transaction in which nothing comes.
    pub(super) fn silence(&self) -> u64 {
        self.silence
    }

    /// Reads records and sessions in one statement, which sees one instant.
    pub(super) fn read(&self, names: &BTreeSet<String>, sessions: &[RecordSession]) -> String {
        let scope = &self.scope;
        let mut parts = Vec::new();
        if !names.is_empty() {
            parts.push(format!(
                "SELECT name, version, bytes, NULL FROM callsheet_records FORCE INDEX (PRIMARY) WHERE scope = {scope} AND name IN ({}) \
                 AND version <> 0",
                texts(names)
            ));
        }
        if !sessions.is_empty() {
            parts.push(format!(
                "SELECT NULL, id, NULL, expires <= UTC_TIMESTAMP(6) FROM callsheet_sessions FORCE INDEX (PRIMARY) \
                 WHERE scope = {scope} AND id IN ({})",
                ids(sessions)
            ));
        }
        if parts.is_empty() {
            return HEADER.to_owned();
        }
        format!("{HEADER}; {}", parts.join(" UNION ALL "))
    }

    /// Reads so many records of a kind, in order.
    pub(super) fn list(&self, range: &Range, limit: usize) -> String {
        let (scope, from, to) = (&self.scope, hex(range.from.as_bytes()), hex(range.to.as_bytes()));
        let after = if range.inclusive { ">=" } else { ">" };
        format!(
            "{HEADER}; SELECT name, version, bytes FROM callsheet_records FORCE INDEX (PRIMARY) \
             WHERE scope = {scope} AND name {after} {from} AND name < {to} AND version <> 0 ORDER BY name LIMIT {limit}"
        )
    }

    /// Begins a commit: locks what it rests on, and reads it. The server rolls it back if nothing more comes: a
    /// client that stands still keeps the locks no longer than that.
    pub(super) fn lock(&self, locks: &Locks, alive: &[RecordSession]) -> String {
        let scope = &self.scope;
        let mut text = format!("SET SESSION wait_timeout = {}; START TRANSACTION; {HEADER}", self.silence);
        if let Some(lock) = locks.leader {
            let name = hex(leader().as_bytes());
            let mode = match lock {
                LeaderLock::Shared => "LOCK IN SHARE MODE",
                LeaderLock::Exclusive => "FOR UPDATE",
                LeaderLock::Absent => {
                    self.hold(&mut text, &BTreeSet::from([leader()]));
                    "FOR UPDATE"
                }
            };
            add(
                &mut text,
                format_args!(
                    "; SELECT version FROM callsheet_records FORCE INDEX (PRIMARY) WHERE scope = {scope} AND name = {name} {mode}"
                ),
            );
        }
        if !alive.is_empty() {
            add(
                &mut text,
                format_args!(
                    "; SELECT id, expires <= UTC_TIMESTAMP(6) FROM callsheet_sessions FORCE INDEX (PRIMARY) \
                     WHERE scope = {scope} AND id IN ({}) ORDER BY id LOCK IN SHARE MODE",
                    ids(alive)
                ),
            );
        }
        self.hold(&mut text, &locks.absent);
        if !locks.names.is_empty() {
            add(
                &mut text,
                format_args!(
                    "; SELECT name, version FROM callsheet_records FORCE INDEX (PRIMARY) WHERE scope = {scope} AND name IN ({}) \
                     ORDER BY name FOR UPDATE",
                    texts(&locks.names)
                ),
            );
        }
        text
    }

    /// Puts a row of version 0 where there is no record. One that is there is locked, alone and as it is: a mere
    /// INSERT that fails would lock it together with others, and they would wait for each other.
    fn hold(&self, text: &mut String, names: &BTreeSet<String>) {
        let rows = names.iter().map(|name| format!("({}, {}, 0, '')", self.scope, hex(name.as_bytes())));
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            add(
                text,
                format_args!(
                    "; INSERT INTO callsheet_records (scope, name, version, bytes) VALUES {} ON DUPLICATE KEY UPDATE version = version",
                    rows.join(", ")
                ),
            );
        }
    }

    /// Writes what was decided, and ends the commit. All rows that are written are there, and locked.
    pub(super) fn write(&self, writes: &Writes<'_>, made: Version) -> String {
        let scope = &self.scope;
        let mut text = String::new();
        if !writes.put.is_empty() {
            text.push_str("INSERT INTO callsheet_records (scope, name, version, bytes) VALUES ");
            for (at, (name, bytes)) in writes.put.iter().enumerate() {
                let comma = if at == 0 { "" } else { ", " };
                add(&mut text, format_args!("{comma}({scope}, {}, {}, ", hex(name.as_bytes()), made.0));
                add_hex(&mut text, bytes);
                text.push(')');
            }
            text.push_str(" ON DUPLICATE KEY UPDATE version = VALUES(version), bytes = VALUES(bytes); ");
        }
        if !writes.delete.is_empty() {
            add(
                &mut text,
                format_args!(
                    "DELETE gone FROM callsheet_records AS gone FORCE INDEX (PRIMARY) WHERE gone.scope = {scope} AND gone.name IN ({}); ",
                    texts(&writes.delete)
                ),
            );
        }
        // The COMMIT comes last: no error comes behind its answer.
        add(&mut text, format_args!("SET SESSION wait_timeout = {SILENCE_MAX}; COMMIT"));
        text
    }

    /// How many statements [`write`](Self::write) makes before its COMMIT.
    pub(super) fn before_commit(writes: &Writes<'_>) -> usize {
        usize::from(!writes.put.is_empty()) + usize::from(!writes.delete.is_empty()) + 1
    }

    /// Ends a commit of which nothing is done.
    pub(super) fn roll_back(&self) -> String {
        format!("ROLLBACK; SET SESSION wait_timeout = {SILENCE_MAX}")
    }

    /// Opens a session.
    pub(super) fn open(&self, session: RecordSession, ttl: Duration) -> String {
        let (scope, id, ttl) = (&self.scope, session.0, micros(ttl));
        format!(
            "{HEADER}; INSERT INTO callsheet_sessions (scope, id, ttl, expires) \
             VALUES ({scope}, {id}, {ttl}, UTC_TIMESTAMP(6) + INTERVAL {ttl} MICROSECOND)"
        )
    }

    /// Renews a session whose time is not over, and says whether it is there, and whether its time is over.
    pub(super) fn renew(&self, session: RecordSession) -> String {
        let (scope, id) = (&self.scope, session.0);
        format!(
            "{HEADER}; UPDATE callsheet_sessions SET expires = UTC_TIMESTAMP(6) + INTERVAL ttl MICROSECOND \
             WHERE scope = {scope} AND id = {id} AND expires > UTC_TIMESTAMP(6); \
             SELECT expires <= UTC_TIMESTAMP(6) FROM callsheet_sessions FORCE INDEX (PRIMARY) WHERE scope = {scope} AND id = {id}"
        )
    }

    /// Ends a session.
    pub(super) fn end(&self, session: RecordSession) -> String {
        let (scope, id) = (&self.scope, session.0);
        format!("{HEADER}; DELETE FROM callsheet_sessions WHERE scope = {scope} AND id = {id}")
    }

    /// Deletes those of these sessions whose time is over.
    pub(super) fn delete_expired(&self, sessions: &[RecordSession]) -> String {
        format!(
            "DELETE gone FROM callsheet_sessions AS gone FORCE INDEX (PRIMARY) WHERE gone.scope = {} AND gone.id IN ({}) \
             AND gone.expires <= UTC_TIMESTAMP(6)",
            self.scope,
            ids(sessions)
        )
    }

    /// Some sessions whose time is over, without those that somebody has locked.
    pub(super) fn find_expired(&self) -> String {
        format!(
            "SET SESSION wait_timeout = {}; START TRANSACTION; SELECT id FROM callsheet_sessions FORCE INDEX (expires) \
             WHERE scope = {} AND expires <= UTC_TIMESTAMP(6) ORDER BY expires LIMIT {SWEPT_MAX} FOR UPDATE SKIP LOCKED",
            self.silence, self.scope
        )
    }

    /// Deletes what [`find_expired`](Self::find_expired) has found, and ends that.
    pub(super) fn sweep(&self, sessions: &[RecordSession]) -> String {
        let delete = self.delete_expired(sessions);
        format!("{delete}; SET SESSION wait_timeout = {SILENCE_MAX}; COMMIT")
    }
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // A text takes everything.
    let _ = text.write_fmt(more);
}

fn add_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.reserve(2 * bytes.len() + 3);
    text.push_str("x'");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.push('\'');
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    add_hex(&mut text, bytes);
    text
}

fn texts(texts: &BTreeSet<String>) -> String {
    let mut list = String::new();
    for (at, text) in texts.iter().enumerate() {
        list.push_str(if at == 0 { "" } else { "," });
        add_hex(&mut list, text.as_bytes());
    }
    list
}

fn ids(sessions: &[RecordSession]) -> String {
    let ids: BTreeSet<u64> = sessions.iter().map(|session| session.0).collect();
    let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
    ids.join(",")
}

/// How long the texts of the largest commit may be, in bytes: the server has to take as much at once.
pub(super) fn packet_min() -> u64 {
    let limits = crate::backend::sql::limits();
    // A name is 265 bytes at most, beside the literals of a scope of 100, a version, and what stands between.
    let row = 2 * (265 + 100) + 64;
    (2 * limits.commit_bytes + limits.commit_records * row + 4_096) as u64
}

#[cfg(test)]
mod tests {
    use callsheet_actors::port::{Change, Commit, RECORD_ID_MAX, RecordChange, RecordKind, RecordName, Unit};

    use super::*;
    use crate::backend::sql::plan::{Decision, Found, decide};

    #[test]
    fn the_largest_commit_is_no_longer_than_what_the_server_must_take() {
        let limits = crate::backend::sql::limits();
        let statements = Statements::new(&"s".repeat(100), Duration::from_secs(2));
        let bytes = vec![0; limits.commit_bytes / limits.commit_records];
        let units = (0..limits.commit_records).map(|nth| {
            let name = RecordName::new(RecordKind::Manifest, format!("{nth:0>RECORD_ID_MAX$}"));
            let record = RecordChange { name, version: Version::ABSENT, change: Change::Put(bytes.clone()) };
            Unit { records: vec![record], hints: Vec::new() }
        });
        let commit =
            Commit { alive: vec![RecordSession(u64::MAX); 2], units: units.collect(), ..Commit::default() };
        let locks = Locks::of(&commit);
        let decided = decide(
            &commit,
            &locks,
            &Found { alive: [u64::MAX].into(), ..Found::default() },
            Version(u64::MAX),
        );
        let Decision::Units(writes) = decided else { panic!("{decided:?}") };

        // What is held and what is locked is one text, without the bytes.
        let written = statements.write(&writes, Version(u64::MAX));
        assert_eq!(
            written.split("; ").position(|one| one == "COMMIT"),
            Some(Statements::before_commit(&writes))
        );
        assert!(written.ends_with("; COMMIT"), "no error comes behind it");
        for text in [statements.lock(&locks, &commit.alive), written] {
            assert!(text.len() as u64 <= packet_min(), "{} > {}", text.len(), packet_min());
        }
        assert!(packet_min() <= 4 * 1_024 * 1_024, "{}", packet_min());
    }

    #[test]
    fn what_varies_is_written_so_that_it_ends_no_text() {
        let statements = Statements::new("it's", Duration::from_millis(1_500));
        let names = BTreeSet::from(["name/a'; DROP TABLE x".to_owned()]);

        let text = statements.read(&names, &[RecordSession(7), RecordSession(7)]);

        assert!(!text.contains("DROP") && text.contains("scope = x'69742773'"), "{text}");
        assert!(text.contains("id IN (7)"), "{text}");
        assert!(statements.lock(&Locks::of(&Commit::default()), &[]).contains("wait_timeout = 2;"));
    }
}
