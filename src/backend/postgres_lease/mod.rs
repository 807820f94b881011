//! Coordination on PostgreSQL through a pooler.
//!
//! What nodes share is records: rows of one table, by scope and name. Sessions are rows of another, which expire by the
//! server's clock. A commit is a transaction of two round trips: it locks what it rests on and reads it, and then
//! writes what the node decided. No connection holds anything between two transactions.
//!
//! * `records`: the port. `statement`: every statement, and what it locks.
//! * `connection`: one connection, and whether the server behind it is of use.
//! * `settings`, `failure`: what a node is told, and what it says when it fails.
//! * What it has in common with other databases is in [`sql`](super::sql), and with `Postgres` in
//!   [`postgres`](super::postgres).

mod connection;
mod failure;
mod records;
mod settings;
mod statement;

use std::{error::Error, sync::Arc, time::Duration};

use callsheet_actors::port::Records;

use self::{
    records::LeaseRecords,
    settings::{Settings, Target},
    statement::Statements,
};
use super::{
    postgres::{Callback, Server},
    store::{Node, RecordStore, backend_of_node},
};

/// Many nodes on one PostgreSQL database, version 14 or newer, that is reached through a pooler in transaction mode:
/// PgBouncer, or what a provider puts before its database.
///
/// Where a node can reach the server itself, use [`Postgres`](super::Postgres): a node that dies is noticed at
/// once there, candidates wait for the lead instead of looking for it, and there is a history. Here nothing outlives a
/// transaction: no advisory locks, no prepared statements, no `LISTEN`, no settings of a connection. The server itself,
/// and a pooler in session mode, do as well.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application in the same database needs another scope.
/// What is wrong with the server, the role or the URL is told when a session is opened, with its cure, and without the
/// password.
///
/// # What the server must be like
///
/// * It is the primary: a standby is refused by name, also if it becomes one while nodes run.
/// * Its clock is not set back or forth while nodes run: sessions expire by it.
///
/// # What a fail-over loses
///
/// A standby that is promoted may lack what the primary had committed last, unless the replication is synchronous
/// (`synchronous_standby_names`). Then a claim that was granted is forgotten, a tick can run twice, and two runs can
/// hold one key at the same time.
///
/// # Tables
///
/// A [schema](Self::schema), `callsheet_lease`, with the tables `records` and `sessions` is made when the first node
/// connects, if they are not there. That takes the right to `CREATE` in the database; without it let another role run
/// the statements of [`ddl`](Self::ddl). `USAGE` of the schema, and `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the
/// two tables, are enough otherwise.
///
/// # Sessions, and what nodes hear of each other
///
/// A node that dies is noticed when its [`lease`](Self::lease) is over, 15 s by default; one that stops in order gives
/// everything up at once. If it stood still in the middle of a commit, the server ends that first, which takes as
/// much longer as a call may take.
///
/// A pooler in transaction mode hands on no notifications, so this backend has
/// [none](crate::port::Capability::Notifications): jobs that [replace](crate::Overlap::Replace) a run are refused,
/// candidates look for a leader twice a second, a pause is noticed when a tick is
/// claimed, and its end within a minute.
///
/// # Connecting
///
/// A node keeps two connections to the pooler: one for reads and commits, one for sessions. They are made within 4.5 s,
/// and again when they are lost, or silent beyond the deadline of a call, after pauses from 50 ms to 1 s. What the
/// server rolls back, since others did something at the same time, is tried up to six times. What the URL says of
/// encryption means what it does for [`Postgres`](super::Postgres#encryption).
pub struct PostgresLease(Node<Target>);

impl PostgresLease {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. The URL is one of libpq,
    /// `postgres://user:password@host:6432/database?sslmode=…`, or its keys and values, and is never shown. Poolers
    /// refuse most `options` in it.
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self(Node::new(scope.into(), url.as_ref()))
    }

    /// Makes a node of a scope that asks for the URL of each connection, since user, password or host may change: see
    /// [credentials that change](super::Postgres#credentials-that-change), of which the same is so here. Errors of the
    /// callback are shown: they must not contain the secret.
    ///
    /// ```no_run
    /// use callsheet::backend::PostgresLease;
    ///
    /// // As mounted from a Kubernetes secret.
    /// let backend = PostgresLease::url_from("billing", async || std::fs::read_to_string("/run/secrets/database-url"));
    /// ```
    pub fn url_from<F, A, E>(scope: impl Into<String>, callback: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let server = Server::asked(Callback::new("url_from", callback));
        Self(Node::on(scope.into(), Target::on(server)))
    }

    /// Asks for the password of each connection, instead of taking the URL's: see [credentials that
    /// change](super::Postgres#credentials-that-change). Errors of the callback are shown: they must not contain the
    /// secret.
    ///
    /// ```no_run
    /// use callsheet::backend::PostgresLease;
    ///
    /// # async fn token() -> std::io::Result<String> { unimplemented!() }
    /// let backend = PostgresLease::new("billing", "postgres://billing@pooler.example:6432/billing?sslrootcert=system")
    ///     .password_from(token);
    /// ```
    #[must_use]
    pub fn password_from<F, A, E>(self, callback: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let callback = Callback::new("password_from", callback);
        Self(self.0.set(|settings| settings.store.server.password_from = Some(callback)))
    }

    /// Sets the schema that the tables are in, 1 to 63 bytes. Default: `callsheet_lease`. Nodes of one scope must name
    /// the same one, and it must not be that of [`Postgres`](super::Postgres).
    #[must_use]
    pub fn schema(self, schema: impl Into<String>) -> Self {
        Self(self.0.set(|settings| settings.store.schema = schema.into()))
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
        Self(self.0.set(|settings| settings.store.server.tls.trust(pem.as_ref())))
    }

    /// Sets the certificate by which the server knows this node, and its key. Default: the URL's `sslcert` and
    /// `sslkey`, or none, which is right unless the server asks for one.
    ///
    /// Both are in PEM format. The certificates that lead up to the authority follow the node's own. The key has
    /// no password.
    #[must_use]
    pub fn client_certificate(self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self(self.0.set(|settings| settings.store.server.tls.identify(pem.as_ref(), key.as_ref())))
    }

    /// Answers the statements that make the schema and its tables, for a role that may create them. They change nothing
    /// if the tables are there.
    pub fn ddl(&self) -> String {
        let Statements { ddl, .. } =
            Statements::new(&self.0.settings.store.schema, "", self.0.settings.deadline());
        ddl.map(|step| format!("{step};\n")).concat()
    }

    /// The records of the scope, as a client of this node's sees them. Connections are made when they are needed,
    /// on the runtime of whoever asks first.
    pub fn records(&self) -> Arc<dyn Records> {
        self.0.records()
    }
}

impl RecordStore for Target {
    fn records(settings: Arc<Settings>) -> Arc<dyn Records> {
        Arc::new(LeaseRecords::new(settings))
    }
}

backend_of_node!(PostgresLease);
