//! One node that forgets nothing: coordination and history in files, by SQLite.
//!
//! * `file`, `lock_file`, `migrations`: opening a file. `thread`: it belongs to one thread, which makes the calls
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
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use callsheet_actors::{
    Fault,
    port::{History, Records},
};
use rusqlite::Connection;

pub use self::durability::Durability;
use self::{
    failure::Trouble,
    file::{Place, beside, checked},
    history::{HISTORY, HistoryBooks, SqliteHistory},
    lock_file::LockFile,
    records::{RECORDS, RecordBooks, SqliteRecords, hints},
    thread::FileThread,
};
use super::Local;

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
#[derive(Debug, Clone)]
pub struct LocalFile {
    path: PathBuf,
    durability: Durability,
    /// Opened once, by whoever needs it first.
    store: Arc<OnceLock<Result<Store, Fault>>>,
}

/// The files, open.
#[derive(Debug)]
struct Store {
    records: SqliteRecords,
    history: Arc<SqliteHistory>,
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
    /// What ran when the process died is a [lost run](crate::OnLost) as soon as it starts again.
    pub fn at(path: impl AsRef<Path>) -> LocalFile {
        LocalFile { path: path.as_ref().to_owned(), durability: Durability::default(), store: Arc::default() }
    }
}

impl LocalFile {
    /// What an answer survives. Default: [`Durability::PowerLoss`]. The history survives the end of the process,
    /// and may lose its newest records with the power.
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
        Ok(Arc::new(self.store()?.records.clone()))
    }

    /// The history beside the file. Opens the file, if it is not open.
    ///
    /// # Errors
    ///
    /// What is wrong with the file. A history that cannot be opened says so when it is asked.
    pub fn history(&self) -> Result<Arc<dyn History>, Fault> {
        Ok(self.store()?.history.clone())
    }

    fn store(&self) -> Result<&Store, Fault> {
        let opened = self.store.get_or_init(|| {
            Store::open(&self.path, self.durability).map_err(|trouble| trouble.fault(&self.path))
        });
        opened.as_ref().map_err(Clone::clone)
    }
}

impl Store {
    fn open(path: &Path, durability: Durability) -> Result<Self, Trouble> {
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
        let thread = FileThread::start("callsheet-sqlite", place, Some(connection), books, lock.clone());
        let records = SqliteRecords::new(thread.map_err(no_thread)?, hints);
        let thread = FileThread::start("callsheet-history", history, None, HistoryBooks, lock);
        let history = Arc::new(SqliteHistory::new(thread.map_err(no_thread)?));
        Ok(Self { records, history })
    }
}

/// Opens the file of the records for the first time in this process.
fn open_records(place: &Place) -> Result<(Connection, RecordBooks), Trouble> {
    let connection = place.open()?;
    let mut books = RecordBooks::new(hints());
    books.first_opened(&connection).map_err(|error| Trouble::of(&error))?;
    Ok((connection, books))
}
