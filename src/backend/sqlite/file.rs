//! Opening a file: what may be wrong with its path is named before anything is done.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    durability::Durability,
    failure::Trouble,
    migrations::{Format, migrate},
};

/// How long a statement waits for another program that has the file open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// The log of a file is cut to so many bytes when all of it is in the file.
const LOG_KEPT_MAX: i64 = 16 * 1_024 * 1_024;
/// How many prepared statements a connection keeps.
const STATEMENTS_MAX: usize = 64;

/// Where a file is, and how it is opened.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) format: &'static Format,
    pub(super) durability: Durability,
    /// Nobody else may even read it.
    pub(super) exclusive: bool,
}

/// The absolute path, if there can be a file.
pub(super) fn checked(path: &Path) -> Result<PathBuf, Trouble> {
    const CURE: &str =
        "name a file in a directory that there is, as in Local::at(\"/var/lib/app/callsheet.db\")";
    let path = std::path::absolute(path).map_err(|error| Trouble::new(error.to_string(), CURE))?;
    let (Some(directory), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(Trouble::new("it is no path of a file", CURE));
    };
    if path.is_dir() {
        return Err(Trouble::new("it is a directory", CURE));
    }
    match directory.metadata() {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(Trouble::new(format!("{} is no directory", directory.display()), CURE)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let rule = format!("there is no directory {}", directory.display());
            Err(Trouble::new(rule, "create it, for the user of this process"))
        }
        Err(error) => Err(Trouble::of_io(&directory.display().to_string(), &error)),
    }
}

/// The path beside it that ends so.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(end);
    beside.into()
}

/// Opens a file to read and write. One that is made is for its user alone: notes and errors stand in it.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Place {
    /// Opens the file, and makes it if there is none.
    pub(super) fn open(&self) -> Result<Connection, Trouble> {
        // SQLite would make it with the rights of the process's mask. What it makes beside it has those of the file.
        open_private(&self.path).map_err(|error| Trouble::of_io("it cannot be opened", &error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(&self.path, flags).map_err(|error| Trouble::of(&error))?;
        self.set_up(&connection).map_err(|error| Trouble::of(&error))?;
        migrate(&mut connection, self.format)?;
        self.start_log(&connection)?;
        Ok(connection)
    }

    fn set_up(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // Before the first access: then the log needs no shared memory, and the lock stays until the end.
        let locking = if self.exclusive { "EXCLUSIVE" } else { "NORMAL" };
        connection.pragma_update(None, "locking_mode", locking)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")
    }

    /// From here on what is written goes to a log first.
    fn start_log(&self, connection: &Connection) -> Result<(), Trouble> {
        let started: rusqlite::Result<String> = (|| {
            let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
            connection.pragma_update_and_check(None, "journal_size_limit", LOG_KEPT_MAX, |_| Ok(()))?;
            let [synchronous, full] = match self.durability {
                // The second one is for macOS, whose `fsync` does not wait for the disk.
                Durability::PowerLoss => ["FULL", "ON"],
                Durability::ProcessCrash => ["NORMAL", "OFF"],
            };
            connection.pragma_update(None, "fullfsync", full)?;
            connection.pragma_update(None, "synchronous", synchronous)?;
            Ok(mode)
        })();
        match started {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => Ok(()),
            Ok(mode) => Err(Trouble::new(
                format!("its journal cannot be a log ahead of the file: it is {mode:?}"),
                "name a path on a local disk",
            )),
            Err(error) => Err(Trouble::of(&error)),
        }
    }
}
