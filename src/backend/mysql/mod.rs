//! Coordination on MySQL and MariaDB.
//!
//! What nodes share is records: rows of one table, by scope and name. Sessions are rows of another, which expire by the
//! server's clock. A commit is a transaction of two round trips: it locks what it rests on and reads it, and then
//! writes what the node decided.
//!
//! * `records`: the port. `statement`: every statement, and what it locks.
//! * `connection`: one connection, and whether the server at its end is of use.
//! * `settings`, `address`, `failure`: what a node is told, and what it says when it fails.
//! * What it has in common with other databases is in [`sql`](super::sql).

mod address;
mod connection;
mod failure;
mod records;
mod settings;
mod statement;

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::Records;

use self::{
    records::MysqlRecords,
    settings::{Settings, Target},
};
use super::store::{Node, RecordStore, backend_of_node};

/// Many nodes on one database of MySQL, version 8.0 or newer, or MariaDB, version 10.6 or newer.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application in the same database needs another scope.
/// What is wrong with the server, the user or the URL is told when a session is opened, with its cure, and without
/// the password.
///
/// # What the server must be like
///
/// * It is the one that is written to: one with `read_only` is refused by name, also when it becomes so while nodes
///   run.
/// * It is the only one. A Galera cluster is refused by name, and so is a group of MySQL servers of which several are
///   written to: there a row that is locked on one server is not on another. In a group of which one is written to,
///   `group_replication_consistency` must not be `EVENTUAL`, which is refused; `BEFORE_ON_PRIMARY_FAILOVER` will do.
/// * It keeps what it was told. With `innodb_flush_log_at_trx_commit = 1` and `sync_binlog = 1`, the defaults of
///   MySQL, a failure of its machine loses nothing; MariaDB has `sync_binlog = 0`, which concerns its replicas.
/// * `max_allowed_packet` is at least 4 MiB; less is refused by name. `binlog_format` is not `STATEMENT`.
/// * Its clock is not set back or forth while nodes run: sessions expire by it.
///
/// Modes, character sets, collations, the time zone, `autocommit` and the timeouts of the server do not matter: each
/// connection sets its own, and names are compared byte by byte.
///
/// # What a fail-over loses
///
/// A replica that is promoted may lack what the primary had committed last, unless the replication waits for it.
/// Then a claim that was granted is forgotten, a tick can run twice, and two runs can hold one key at the same time.
/// Where that matters, let the primary wait for a replica (semi-synchronous replication with
/// `rpl_semi_sync_source_wait_point = AFTER_SYNC`, and a timeout that is never reached), or use `backend::Postgres`.
///
/// # Tables
///
/// Two tables, `callsheet_records` and `callsheet_sessions`, are made in the database of the URL when the first node
/// connects, if they are not there. That takes the right to `CREATE`; without it let another user run the statements
/// of [`ddl`](Self::ddl). `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the two are enough otherwise.
///
/// # Sessions, and what nodes hear of each other
///
/// A node that dies is noticed when its [`lease`](Self::lease) is over, 15 s by default; one that stops in order gives
/// everything up at once. If it stood still in the middle of a commit, the server ends that first: that can take
/// as much longer as a call may take, rounded up to seconds.
///
/// The server tells nobody what others did, so this backend has no
/// [notifications](crate::port::Capability::Notifications): jobs that
/// [replace](crate::Overlap::Replace) a run are refused, candidates look for a leader twice a second, a pause is
/// noticed when a tick is claimed, and its end within a minute.
///
/// # Connecting
///
/// A node keeps two connections: one for reads and commits, one for sessions. They are made within 4.5 s, and again
/// when they are lost, or silent beyond the deadline of a call, after pauses from 50 ms to 1 s. What the server rolls
/// back, since others did something at the same time, is tried up to six times.
///
/// # Encryption
///
/// An encrypted connection always verifies the server's certificate, and that it is for the host that the URL names.
///
/// | `sslmode` | no authority given | an authority given |
/// |---|---|---|
/// | none | to this machine (`localhost`, loopback addresses): plain text; to any other: refused | encrypted |
/// | `require`, `verify-ca`, `verify-full` | refused | encrypted |
/// | `disable` | plain text | refused, as a contradiction |
///
/// The authority is a file in PEM format that the URL names (`sslrootcert=/path/to/authority.pem`), those that this
/// machine trusts (`sslrootcert=system`), or [`root_certificates`](Self::root_certificates). A Unix socket is never
/// encrypted. The driver goes by the cryptography that the process has chosen for `rustls`; if it has chosen none when
/// the first encrypted connection is made, *ring* is.
pub struct Mysql(Node<Target>);

impl Mysql {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. The URL is `mysql://user:password@host:3306/database`, and is never shown.
    /// Schemes are `mysql` and `mariadb`. Parameters are `socket`, the path of a socket of this machine, as in
    /// `mysql://user:password@/database?socket=/run/mysqld/mysqld.sock`, and those of [encryption](Self#encryption):
    /// `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self(Node::new(scope.into(), url.as_ref()))
    }

    /// Sets how long the server keeps what a silent node holds, 1 s to 1 h. Default: 15 s. It is renewed four times
    /// in that time.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self(self.0.set(|settings| settings.lease = lease))
    }

    /// Sets how long one call to the server may take, 50 ms to 5 s, and at most half of the lease. Default: 2 s,
    /// or two fifths of a shorter lease.
    ///
    /// After it the connection is given up, and it is unknown whether what was asked was done: the engine asks
    /// again in a way that does no harm.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self(self.0.set(|settings| settings.deadline = Some(deadline)))
    }

    /// Sets the certificates, in PEM format, of the authorities that may sign the server's. Default: the URL's
    /// `sslrootcert`. Connections are then encrypted.
    #[must_use]
    pub fn root_certificates(self, pem: impl AsRef<[u8]>) -> Self {
        Self(self.0.set(|settings| settings.store.certificates.trust(pem.as_ref())))
    }

    /// Sets the certificate by which the server knows this node, and its key. Default: the URL's `sslcert` and
    /// `sslkey`, or none, which is right unless the server asks for one.
    ///
    /// Both are in PEM format. The certificates that lead up to the authority follow the node's own. The key has
    /// no password.
    #[must_use]
    pub fn client_certificate(self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self(self.0.set(|settings| settings.store.certificates.identify(pem.as_ref(), key.as_ref())))
    }

    /// Answers the statements that make the tables, for a user that may create them. They change nothing if the
    /// tables are there.
    pub fn ddl() -> String {
        statement::DDL.map(|table| format!("{table};\n")).concat()
    }

    /// The records of the scope, as a client of this node's sees them. Connections are made when they are needed,
    /// on the runtime of whoever asks first.
    pub fn records(&self) -> Arc<dyn Records> {
        self.0.records()
    }
}

impl RecordStore for Target {
    fn records(settings: Arc<Settings>) -> Arc<dyn Records> {
        Arc::new(MysqlRecords::new(settings))
    }
}

backend_of_node!(Mysql);
