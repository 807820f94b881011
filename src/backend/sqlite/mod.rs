//! One node that forgets nothing: coordination and history in files, by SQLite.
//!
//! * `file`, `lock_file`, `migrations`: opening a file; `durability`: what it survives. `thread`: it belongs to one thread, which makes the calls
//!   that wait in one transaction. `failure`: what goes wrong, in words.
//! * `records`, `sessions`: the port on which the engine's rules run.
//! * `history`: what happened, in a file of its own.

mod durability;
mod failure;
mod file;
mod history;
mod lock_file;
mod migrations;
mod records;
mod sessions;
#[cfg(test)]
mod tests;
mod thread;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use callsheet_actors::{
    Fault, NodeId,
    adapter::RecordsBackend,
    metrics::SCOPE_LABEL_LOCAL,
    port::{Backend, Capabilities, Capability, Clock, Elector, History, Locker, MemoryBounds, Records},
};
use rusqlite::Connection;

pub use self::durability::Durability;
use self::{
    failure::{NAME, Trouble},
    file::{Place, beside, checked},
    history::{HISTORY, HistoryBooks, SqliteHistory},
    lock_file::LockFile,
    records::{Hints, RECORDS, RecordBooks, SqliteRecords, hints},
    thread::FileThread,
};
use super::Local;

/// For how long the process may not say that it lives before its runs are lost. Nobody else can take them, and when
/// the process ends its sessions end with it, so it is long: a process that was stopped for a while goes on.
const LEASE: Duration = Duration::from_hours(1);

/// A single node whose coordination and history outlive the process, without a server: made by [`Local::at`].
///
/// What is where, for `Local::at("/var/lib/app/callsheet.db")`; SQLite makes `-wal` files beside them:
///
/// | file | what is in it |
/// |---|---|
/// | `callsheet.db` | cursors, pauses, open runs, pending retries. While the process runs it can be opened by no other one |
/// | `callsheet.db-history` | the [history](crate::HistoryOptions). Other programs may read it meanwhile; if it is damaged the jobs run all the same |
/// | `callsheet.db-lock` | which process has the files |
///
/// New files can be read and written by the user of the process alone. They belong on a local disk. To copy them
/// stop the process, or use the [backup of SQLite](https://sqlite.org/backup.html) for the history.
///
/// Every call is made by a thread that the file belongs to; calls that wait for it are made in one transaction.
#[derive(Clone)]
pub struct LocalFile {
    path: PathBuf,
    durability: Durability,
    /// Opened once, by whoever needs it first.
    store: Arc<OnceLock<Store>>,
}

/// The files.
struct Store {
    records: SqliteRecords,
    backend: RecordsBackend,
    /// What is wrong with them, if they could not be opened.
    history: Result<Arc<SqliteHistory>, Fault>,
}

impl Local {
    /// A single node that forgets nothing when it restarts: cursors, pauses, open runs, pending retries and the
    /// history are kept in a file, by SQLite. Feature `sqlite`.
    ///
    /// The file is made if there is none. It is opened when the engine starts, or when
    /// [`check`](crate::Builder::check) is called; what is wrong with the path is said then. One process at a
    /// time has it: a second one is refused, and told the number and the host of the first, after it has waited
    /// for a second.
    ///
    /// What ran when the process died is a [lost run](crate::OnLost) as soon as it starts again, and ticks that
    /// passed meanwhile are [made up for](crate::Misfire) or skipped with a reason.
    pub fn at(path: impl AsRef<Path>) -> LocalFile {
        LocalFile { path: path.as_ref().to_owned(), durability: Durability::default(), store: Arc::default() }
    }
}

impl LocalFile {
    /// What an answer survives. Default: [`Durability::PowerLoss`]. The history survives the end of the process,
    /// and may lose its newest records with the power.
    ///
    /// Has no effect on a file that is open already.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// The store of records in the file, for a backend of one's own. Opens the file, if it is not open.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn records(&self) -> Result<Arc<dyn Records>, Fault> {
        let Store { records, history, .. } = self.store();
        history.as_ref().map_err(Clone::clone)?;
        Ok(Arc::new(records.clone()))
    }

    fn store(&self) -> &Store {
        self.store.get_or_init(|| {
            let (thread, history, hints) = match Threads::start(&self.path, self.durability) {
                Ok(Threads { records, history, hints }) => (Ok(Arc::new(records)), Ok(history), hints),
                Err(trouble) => {
                    let fault = trouble.fault(&self.path);
                    (Err(fault.to_string()), Err(fault), hints())
                }
            };
            let records = SqliteRecords::new(thread, hints);
            let backend = RecordsBackend::new(Arc::new(records.clone()), SCOPE_LABEL_LOCAL, LEASE);
            Store { records, backend, history: history.map(|thread| Arc::new(SqliteHistory::new(thread))) }
        })
    }
}

impl Backend for LocalFile {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scope(&self) -> Arc<str> {
        SCOPE_LABEL_LOCAL.into()
    }

    /// Opens the file: what is wrong with it is known before anything is started.
    fn faults(&self) -> Vec<Fault> {
        let Store { backend, history, .. } = self.store();
        history.as_ref().err().cloned().into_iter().chain(backend.faults()).collect()
    }

    fn node(&self) -> Option<NodeId> {
        self.store().backend.node()
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.store().backend.set_clock(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        self.store().backend.set_zone_data(version);
    }

    fn set_node_name(&self, name: Arc<str>) {
        self.store().backend.set_node_name(name);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        self.store().backend.elector()
    }

    fn locker(&self) -> Arc<dyn Locker> {
        self.store().backend.locker()
    }

    /// Beside the file. If it cannot be opened, it says so when it is asked.
    fn history(&self, _: MemoryBounds) -> Option<Arc<dyn History>> {
        self.store().history.as_ref().ok().map(|history| history.clone() as _)
    }

    fn single_node(&self) -> bool {
        true
    }

    /// All: the node's time is that of its only node.
    fn capabilities(&self) -> Capabilities {
        self.store().backend.capabilities().with(Capability::StoreTime)
    }
}

impl fmt::Debug for LocalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFile").field("path", &self.path).field("durability", &self.durability).finish()
    }
}

/// The threads to which the files belong.
struct Threads {
    records: FileThread<RecordBooks>,
    history: FileThread<HistoryBooks>,
    hints: Hints,
}

impl Threads {
    fn start(path: &Path, durability: Durability) -> Result<Self, Trouble> {
        let path = checked(path)?;
        let lock = Arc::new(LockFile::take(&beside(&path, "-lock"))?);
        let history = Place {
            path: beside(&path, "-history"),
            format: &HISTORY,
            durability: Durability::ProcessCrash,
            exclusive: false,
        };
        let place = Place { path, format: &RECORDS, durability, exclusive: true };
        let (connection, books) = open_records(&place)?;
        let hints = books.hints();
        let no_thread = |error| Trouble::of_io("no thread can be started", &error);
        let records = FileThread::start("callsheet-sqlite", place, Some(connection), books, lock.clone());
        let records = records.map_err(no_thread)?;
        let history = FileThread::start("callsheet-history", history, None, HistoryBooks, lock);
        Ok(Self { records, history: history.map_err(no_thread)?, hints })
    }
}

/// Opens the file of the records for the first time in this process.
fn open_records(place: &Place) -> Result<(Connection, RecordBooks), Trouble> {
    let connection = place.open()?;
    let mut books = RecordBooks::new(hints());
    books.first_opened(&connection).map_err(|error| Trouble::of(&error))?;
    Ok((connection, books))
}
