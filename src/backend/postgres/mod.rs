//! Coordination on PostgreSQL.
//!
//! Each node holds at most two connections of its own, never from the application's pool, and one advisory lock on each: the
//! *session* carries the beacon, a lock by which others see that the node lives, and every claim; the *leadership* is held or
//! waited for. What a node holds is rows that name its beacon, so that any number of jobs and keys costs no more locks.
//!
//! * `clock`: how far the node's clock is from the server's.
//! * `session`: connections, beacon, heartbeats; what makes them lost.
//! * `locker`, `elector`: the two ports.
//! * `sql`: every statement, what it locks, and why.
//! * `settings`, `failure`, `migrations`: what a node is told, what it says when it fails, the schema.

mod clock;
mod elector;
mod failure;
mod locker;
mod migrations;
mod session;
mod settings;
mod sql;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{
    Fault, NodeId,
    port::{Backend, Clock, Elector, LockError, Locker, Session},
};

use self::{clock::Clocks, session::OpenSession, settings::Settings};

/// Many nodes on one PostgreSQL database, version 14 or newer: each tick runs once, whoever dies.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application on the same database needs another scope. It must
/// talk to the primary itself, not to a standby, nor through a pooler in transaction mode. Connections are not encrypted
/// yet: keep them on a trusted network.
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
    /// A node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self::with(Settings::new(scope.into(), url.as_ref()))
    }

    fn with(settings: Settings) -> Self {
        let shared = Shared {
            settings,
            clocks: Arc::default(),
            current: Mutex::default(),
            migrated: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    fn set(&self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        set(&mut settings);
        Self::with(settings)
    }

    /// The schema that the tables are in. Default: `callsheet`. Nodes of one scope must name the same one.
    #[must_use]
    pub fn schema(self, schema: impl Into<String>) -> Self {
        self.set(|settings| settings.schema = schema.into())
    }

    /// How long the server keeps what a node holds that it does not hear of; at least 1 s. Default: 5 s.
    ///
    /// A leader that is frozen or cut off is succeeded, and its keys can be taken over, after this time at the latest; the
    /// node itself gives everything up a fifth of it earlier.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.set(|settings| settings.lease = lease)
    }

    /// Whether to make and update the schema when a session is opened. Default: `true`, which needs the right to create
    /// a schema in the database. Otherwise [`ddl`](Self::ddl) must have been run.
    #[must_use]
    pub fn migrate(self, migrate: bool) -> Self {
        self.set(|settings| settings.migrate = migrate)
    }

    /// The statements that make the schema, for a role that may create.
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

    fn faults(&self) -> Vec<Fault> {
        self.shared.settings.faults()
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.shared.settings.node)
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.shared.clocks.set(clock);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(elector::PostgresElector { shared: self.shared.clone() })
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(locker::PostgresLocker { shared: self.shared.clone() })
    }
}

/// What the elector and the locker of a node share. Dropping the last of them ends the session.
struct Shared {
    settings: Settings,
    clocks: Arc<Clocks>,
    current: Mutex<Option<Arc<OpenSession>>>,
    migrated: AtomicBool,
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Option<Arc<OpenSession>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that is open, or was until it was lost.
    fn session(&self) -> Option<Arc<OpenSession>> {
        self.current().clone()
    }

    async fn open(&self) -> Result<Session, LockError> {
        // The former one, if the server still has it, ends with its connections.
        drop(self.current().take());
        if let Some(fault) = self.settings.faults().first() {
            return Err(LockError::Unavailable { reason: fault.to_string() });
        }
        let migrate = self.settings.migrate && !self.migrated.load(Ordering::Relaxed);
        let opened = OpenSession::open(self.settings.clone(), self.clocks.clone(), migrate).await;
        let opened = opened.map_err(|reason| LockError::Unavailable { reason })?;
        self.migrated.store(true, Ordering::Relaxed);
        let session = opened.id();
        *self.current() = Some(opened);
        Ok(session)
    }
}
