//! Coordination on PostgreSQL.
//!
//! Each node coordinates by at most two connections of its own, never from the application's pool, and one advisory
//! lock on each (what is kept of the past goes through others: `history`): the *session* carries the beacon, a lock by
//! which others see that the node lives, and every claim; the *leadership* is held or waited for. What a node holds is
//! rows that name its beacon, so that any number of jobs and keys costs no more locks.
//!
//! * `clock`: how far the node's clock is from the server's.
//! * `connection`: one connection, and whether the server at its end is of use; `tls`: whether it is
//!   encrypted. `loss`: why it ended.
//! * `credentials`: what the application is asked for each time that a connection is made.
//! * `session`: beacon and statements; what makes them lost. `heartbeat`: what keeps them. `sessions`: the
//!   table of them. `notification_reader`, `notifications`: what nodes tell each other.
//! * `former_connections`: connections that were given up, and what is left of them on the server.
//! * `silent_connections`: whether a connection is silent beyond its lease. `lock_holders`: what is done
//!   about one that is, and holds something.
//! * `elector`: one of the two ports; `leadership`: the second connection. `candidates`: who stands.
//! * `locker`: the other port, one call a method. `batch`: rounds; `claims`, `completions`, `advances`,
//!   `enrolments`, `pauses`: what is asked in them. `lost_runs`: the search for runs of dead sessions.
//!   `forget`: names that are out of use. `forgotten_ends`: ends that come later. `guard`: what runs get.
//! * `backfills`: where backfills are kept. `control`, `control_hints`: what nodes ask of each other.
//! * `statement`: every statement with its parameters and its answer, what it locks, and why. `text`:
//!   whatever somebody wrote, on its way to the server.
//! * `histories`: whether this server knows what the node was granted before.
//! * `history`: what happened, over connections of its own. `catalogue`: jobs as data, over the same connections.
//! * `proof`: whether a claim would be possible. `cure`: what would mend a refused statement.
//! * `settings`, `failure`, `migrations`: what a node is told, what it says when it fails, the schema.

mod advances;
mod backfills;
mod batch;
mod candidates;
mod catalogue;
mod claims;
mod clock;
mod completions;
mod connection;
mod control;
mod control_hints;
mod credentials;
mod cure;
mod elector;
mod enrolments;
mod failure;
mod forget;
mod forgotten_ends;
mod former_connections;
mod guard;
mod heartbeat;
mod histories;
mod history;
mod leader_row;
mod leadership;
mod lock_holders;
mod locker;
mod loss;
mod lost_runs;
mod migrations;
mod notification_reader;
mod notifications;
mod pauses;
mod places;
mod proof;
mod server;
mod session;
mod sessions;
mod settings;
mod silent_connections;
mod snapshots;
mod statement;
mod text;
mod tls;
mod url;

use std::{
    any::Any,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{
    Fault, Faults, NodeId,
    port::{
        Backend, Backfills, Catalogue, Clock, Control, Elector, History, LockError, Locker, MemoryBounds,
        Session,
    },
};

use tokio::sync::watch;

pub use self::guard::{Guard, GuardError};
use self::{
    catalogue::PostgresCatalogue,
    clock::Clocks,
    former_connections::{FAREWELL_MAX, Former},
    guard::RunStore,
    history::{HistoryPool, PostgresHistory},
    session::OpenSession,
    settings::Settings,
};
/// What the backend behind poolers has of this one.
pub(super) use self::{
    connection::is_cut_short,
    credentials::Callback,
    failure::{explain, not_taken, of_connection},
    server::Server,
    statement::schema::quoted,
};
/// The TLS of a connection: that of the crate tokio-postgres-rustls, version 0.14.
pub use tokio_postgres_rustls::MakeRustlsConnect;

/// Many nodes on one PostgreSQL database, version 14 or newer: each tick runs once, also if nodes die.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application on the same database needs another
/// scope. It must talk to the primary itself, not to a standby, nor through a pooler. What is wrong with the
/// server, the role or the URL is told when a session is opened, with its cure, and without the password.
///
/// # Encryption
///
/// An encrypted connection always verifies the server's certificate, and that it is for the host that the URL
/// names. No connection falls back to plain text: libpq's default, `prefer`, hands the password to whoever
/// answers that he does not encrypt, so to another machine it is refused, and one has to say which it shall
/// be.
///
/// | `sslmode` | no authority given | an authority given |
/// |---|---|---|
/// | none, `allow`, `prefer` | to this machine (`localhost`, loopback addresses): plain text; to any other: refused | encrypted |
/// | `require`, `verify-ca`, `verify-full` | refused | encrypted |
/// | `disable` | plain text | refused, as a contradiction |
///
/// The authority is a file in PEM format that the URL names (`sslrootcert=/path/to/authority.pem`), those
/// that this machine trusts (`sslrootcert=system`), or [`root_certificates`](Self::root_certificates). A file
/// is read once, when the node starts. A Unix socket is never encrypted. A node shows a certificate of its
/// own, if it is given one: `sslcert` and `sslkey`, or [`client_certificate`](Self::client_certificate);
/// then, too, the connection is encrypted.
///
/// # Connecting
///
/// A host of the URL has 3 s to answer, or its `connect_timeout` in whole seconds, if that is at least 1; a
/// session must be open within 4.5 s, whatever the URL says, as must the schema be made first. Of several
/// hosts the first that answers is taken: with standbys among them say `target_session_attrs=read-write`.
///
/// # Credentials that change
///
/// A password that is rotated, or a token that expires, is asked for: [`password_from`](Self::password_from)
/// and [`url_from`](Self::url_from) take a callback that is asked each time that a connection is made; those
/// that are made at the same time share an answer. A connection that is open stays open; when the server ends
/// it, the next one is made with what the callback answers then, and the node goes on without a restart. The
/// callback has 1.5 s, and may block; a line break at the end of its answer is left out. While it fails,
/// panics, or answers what the server does not take, the node is without a session: its health says so, with
/// the reason and without the secret, and it asks again within a second.
///
/// # What fails over
///
/// A database that fails over *asynchronously* may forget claims that it granted; a tick can then run twice.
///
/// ```no_run
/// # async fn start(url: &str) -> Result<(), callsheet::StartError> {
/// use callsheet::{backend::Postgres, prelude::*};
///
/// let jobs = Callsheet::builder().backend(Postgres::new("billing", url)).start().await?;
/// # Ok(())
/// # }
/// ```
pub struct Postgres {
    shared: Arc<Shared>,
}

impl Postgres {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. The URL is one of libpq,
    /// `postgres://user:password@host:5432/database?sslmode=…`, or its keys and values, `host=… user=…`; it
    /// is never shown. Its `application_name` is the name of this node in the table `sessions`, unless the
    /// [builder](crate::Builder::node_name) has one. Of libpq's parameters those of
    /// [`tokio_postgres::Config`](https://docs.rs/tokio-postgres/latest/tokio_postgres/config/struct.Config.html)
    /// are known, and those of [encryption](Self#encryption).
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self::with(Settings::new(scope.into(), Server::at(url.as_ref())))
    }

    /// Makes a node of a scope that asks for the URL of each connection, since user, password or host may
    /// change: see [credentials that change](Self#credentials-that-change).
    ///
    /// What the URL says of [encryption](Self#encryption) is decided again each time, and its files are read
    /// again. Errors of the callback are shown: they must not contain the secret.
    ///
    /// ```no_run
    /// use callsheet::backend::Postgres;
    ///
    /// // As mounted from a Kubernetes secret.
    /// let backend = Postgres::url_from("billing", async || std::fs::read_to_string("/run/secrets/database-url"));
    /// ```
    pub fn url_from<F, A, E>(scope: impl Into<String>, callback: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::with(Settings::new(scope.into(), Server::asked(Callback::new("url_from", callback))))
    }

    /// Asks for the password of each connection, instead of taking the URL's: see [credentials that
    /// change](Self#credentials-that-change). Errors of the callback are shown: they must not contain the
    /// secret.
    ///
    /// ```no_run
    /// use callsheet::backend::Postgres;
    ///
    /// # async fn token() -> std::io::Result<String> { unimplemented!() }
    /// let backend = Postgres::new("billing",
    /// "postgres://billing@db.example/billing?sslrootcert=system").password_from(token);
    /// ```
    #[must_use]
    pub fn password_from<F, A, E>(self, callback: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.set(|settings| settings.server.password_from = Some(Callback::new("password_from", callback)))
    }

    /// Answers what this node connects with, for the application's own connections: the same host, user,
    /// password and encryption, without what belongs to coordination. Callbacks are asked, so call it within
    /// a tokio runtime, and again when the password has changed.
    ///
    /// ```no_run
    /// use callsheet::backend::Postgres;
    ///
    /// # async fn pool() -> Result<(), Box<dyn std::error::Error>> {
    /// let backend = Postgres::new("billing",
    /// "postgres://billing:pw@db.example/billing?sslmode=verify-full&sslrootcert=system");
    /// let connector = backend.connector().await?;
    /// // Or: deadpool_postgres::Manager::from_config(connector.config, connector.tls, Default::default())
    /// let (client, connection) = connector.config.connect(connector.tls).await?;
    /// tokio::spawn(connection);
    /// client.execute("UPDATE accounts SET settled = now()", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong with the URL or with the certificates, or why a callback did not answer.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn connector(&self) -> Result<Connector, Faults> {
        let (config, connector) = self.shared.settings.server.address().await?;
        Ok(Connector { config, tls: connector.tls })
    }

    fn with(settings: Settings) -> Self {
        let shared = Shared {
            settings,
            clocks: Arc::default(),
            former: Arc::default(),
            zone_data: OnceLock::new(),
            node_name: OnceLock::new(),
            history_pool: OnceLock::new(),
            current: Mutex::default(),
            closes: watch::Sender::default(),
            migrated: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    fn set(&self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        set(&mut settings);
        Self::with(settings)
    }

    /// Sets the schema that the tables are in, 1 to 63 bytes. Default: `callsheet`. Nodes of one scope must
    /// name the same one.
    #[must_use]
    pub fn schema(self, schema: impl Into<String>) -> Self {
        self.set(|settings| settings.schema = schema.into())
    }

    /// Sets how long the server keeps what a silent node holds, 1 s to 1 h. Default: 5 s.
    ///
    /// A leader that is frozen or cut off is succeeded, and its keys can be taken over, after this time at
    /// the latest; the node itself gives everything up a fifth of it earlier.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.set(|settings| settings.lease = lease)
    }

    /// Sets the certificates, in PEM format, of the authorities that may sign the server's. Default: the
    /// URL's `sslrootcert`. Connections are then encrypted, unless the URL says `sslmode=disable`, which is
    /// refused.
    #[must_use]
    pub fn root_certificates(self, pem: impl AsRef<[u8]>) -> Self {
        self.set(|settings| settings.server.tls.trust(pem.as_ref()))
    }

    /// Sets the certificate by which the server knows this node, and its key. Default: the URL's `sslcert`
    /// and `sslkey`, or none, which is right unless the server asks for one.
    ///
    /// Both are in PEM format. The certificates that lead up to the authority follow the node's own. The key
    /// has no password.
    #[must_use]
    pub fn client_certificate(self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.set(|settings| settings.server.tls.identify(pem.as_ref(), key.as_ref()))
    }

    /// Sets the connections of the [history](crate::Builder::history), and of [stored jobs](crate::guide::stored_jobs).
    /// Default: two of this node's own, opened when they are needed, with the host, the credentials and the encryption
    /// of the others.
    ///
    /// They lead to the same database. Their pool should have timeouts; a statement that takes longer than 5 s is
    /// given up, with its connection. A pooler may stand between.
    #[must_use]
    pub fn history_pool(self, pool: deadpool_postgres::Pool) -> Self {
        self.set(|settings| settings.history_pool = Some(pool))
    }

    /// Sets whether to make and update the schema when the first session is opened. Default: `true`.
    ///
    /// That needs the right to create a schema in the database, unless there is nothing to do. Otherwise
    /// another role must have done it, or have run [`ddl`](Self::ddl); then `USAGE` of the schema, `SELECT`,
    /// `INSERT` and `UPDATE` on its tables, `DELETE` on `debts`, `names` and `sessions`, on `backfills` and
    /// `catalogue_jobs` if there are to be any, on `requests` if nodes are to ask each other, on `history_runs`,
    /// `history_decisions` and `history_operations` if old history is to go, and `EXECUTE` of the
    /// routines `is_over`, `take_over` and `wait_for_leadership`, which everybody has unless it was revoked, are
    /// enough.
    ///
    /// Nodes may migrate at once: one at a time, under an advisory lock. Anybody who may connect to the
    /// database can hold it. After 2 s the error names whoever does. A schema that is up to date needs no
    /// lock. One of the next version is left alone: it works for this one, so that nodes can be replaced one
    /// by one. One that is newer still is refused.
    #[must_use]
    pub fn migrate(self, migrate: bool) -> Self {
        self.set(|settings| settings.migrate = migrate)
    }

    /// Answers the statements that make the schema, for a role that may create. They fail, and change
    /// nothing, if it is there already. A later [`migrate(true)`](Self::migrate) goes on from what they made.
    pub fn ddl(&self) -> String {
        migrations::ddl(&self.shared.settings.schema)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.shared.settings).finish()
    }
}

impl Backend for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn scope(&self) -> Arc<str> {
        self.shared.settings.scope.as_str().into()
    }

    fn faults(&self) -> Vec<Fault> {
        self.shared.settings.faults()
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.shared.settings.node)
    }

    fn lease(&self) -> Duration {
        self.shared.settings.lease
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.shared.clocks.set(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        // Told once.
        let _ = self.shared.zone_data.set(version);
    }

    fn set_node_name(&self, name: Arc<str>) {
        // Told once.
        let _ = self.shared.node_name.set(name);
    }

    fn run_extension(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let Settings { scope, schema, .. } = &self.shared.settings;
        Some(Arc::new(RunStore::new(scope, schema)))
    }

    fn history(&self, _: MemoryBounds) -> Option<Arc<dyn History>> {
        Some(Arc::new(PostgresHistory::of(&self.shared.settings, self.shared.history_pool())))
    }

    fn catalogue(&self) -> Option<Arc<dyn Catalogue>> {
        Some(Arc::new(PostgresCatalogue::of(&self.shared)))
    }

    fn backfills(&self) -> Option<Arc<dyn Backfills>> {
        Some(Arc::new(backfills::PostgresBackfills { shared: self.shared.clone() }))
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        Some(Arc::new(control::PostgresControl { shared: self.shared.clone() }))
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(elector::PostgresElector { shared: self.shared.clone() })
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(locker::PostgresLocker { shared: self.shared.clone() })
    }
}

/// What connections are made with: see [`Postgres::connector`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Connector {
    /// Where to, as whom, and whether encrypted: of the crate tokio-postgres, version 0.7.
    pub config: tokio_postgres::Config,
    /// How the server's certificate is verified, and which one is shown.
    pub tls: MakeRustlsConnect,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without what may contain a password.
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// What the elector and the locker of a node share. Dropping the last of them ends the session.
struct Shared {
    settings: Settings,
    clocks: Arc<Clocks>,
    former: Arc<Former>,
    /// The version of the time zone data by which the node goes.
    zone_data: OnceLock<Arc<str>>,
    /// What the application calls the node.
    node_name: OnceLock<Arc<str>>,
    /// The connections for what decides nothing.
    history_pool: OnceLock<Result<HistoryPool, String>>,
    current: Mutex<Option<Arc<OpenSession>>>,
    /// How often it was closed: that ends what is being opened.
    closes: watch::Sender<u64>,
    migrated: AtomicBool,
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Option<Arc<OpenSession>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history_pool(&self) -> Result<HistoryPool, String> {
        self.history_pool.get_or_init(|| HistoryPool::of(&self.settings)).clone()
    }

    /// The session that is open, or was until it was lost.
    fn session(&self) -> Option<Arc<OpenSession>> {
        self.current().clone()
    }

    async fn open(&self) -> Result<Session, LockError> {
        // The former one, if the server still has it, ends with its connections.
        drop(self.current().take());
        Faults::check(self.settings.faults()).map_err(|faults| failure::refused(faults.to_string()))?;
        let migrate = self.settings.migrate && !self.migrated.load(Ordering::Relaxed);
        let mut settings = self.settings.clone();
        settings.zone_data = self.zone_data.get().cloned().unwrap_or_default();
        settings.name = self.node_name.get().cloned().unwrap_or_default();
        // It may lead to another server, or by another way.
        self.clocks.forget_round_trips();
        let mut closes = self.closes.subscribe();
        let open = OpenSession::open(settings, self.clocks.clone(), self.former.clone(), migrate);
        let opened = tokio::select! {
            opened = open => opened?,
            // An error cannot be, since this has the sender.
            _ = closes.changed() => return Err(failure::unavailable("it was closed")),
        };
        self.migrated.store(true, Ordering::Relaxed);
        let session = opened.id();
        *self.current() = Some(opened);
        Ok(session)
    }

    /// Ends the session, or the attempt to open one, and leaves nothing behind on the server, as far as it
    /// hears.
    async fn close(&self) {
        self.closes.send_modify(|closes| *closes += 1);
        let open = self.current().take();
        if let Some(open) = open {
            open.close().await;
        }
        self.former.farewell(&self.settings, FAREWELL_MAX).await;
    }
}
