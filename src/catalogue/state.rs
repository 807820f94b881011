//! What is known of a file of jobs, and how it is read and written. All of it blocks.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, TryLockError},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use callsheet_actors::{
    DurationText,
    port::{CatalogueChange, CatalogueError, CatalogueRow, CatalogueTable, Changed, STORED_JOBS_MAX},
};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::form::Form;

/// The most bytes of a file of jobs: 64 MiB.
pub const FILE_BYTES_MAX: u64 = 67_108_864;

/// How long a change waits for one of another process.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The pause between two looks at the lock.
const LOCK_AGAIN: Duration = Duration::from_millis(5);
/// A file that was changed so short a time before it was read may be changed again without a sign of it: clocks of file
/// systems are coarse.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// By what it shows that a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
    /// Where it is on the disk; 0 where that is not known.
    inode: u64,
    /// When anything of it was changed, which nobody can set back, in seconds and nanoseconds; 0 where that is not
    /// known.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let (inode, changed) = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (inode, changed) = (0, (0, 0));
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Self { modified, bytes: metadata.len(), inode, changed }
    }
}

/// What is known of a file of jobs.
pub(super) struct State {
    path: PathBuf,
    form: Form,
    table: CatalogueTable,
    /// The jobs of the file as it was read last, as JSON.
    entries: BTreeMap<String, String>,
    /// Of the file as it was read last; none if it never was there.
    stamp: Option<Stamp>,
    /// When this stamp was seen first.
    seen_at: Instant,
    /// The stamp shows each later change.
    settled: bool,
    /// Whether that the file has its name is on the disk.
    synced: bool,
    sync: fn(&Path) -> io::Result<()>,
}

impl State {
    pub(super) fn new(path: PathBuf, form: Form) -> Self {
        let table = CatalogueTable::starting_after(first_version());
        Self {
            path,
            form,
            table,
            entries: BTreeMap::new(),
            stamp: None,
            seen_at: Instant::now(),
            settled: false,
            synced: true,
            sync: sync_directory,
        }
    }

    pub(super) fn table(&self) -> &CatalogueTable {
        &self.table
    }

    /// Takes over what is new in the file.
    pub(super) fn refresh(&mut self) -> Result<(), CatalogueError> {
        let stamp = self.look()?;
        if stamp.is_some() && stamp == self.stamp && self.settled {
            return Ok(());
        }
        self.read().map(drop)
    }

    /// Makes a change, if it may be made, and writes it.
    pub(super) fn change(&mut self, asked: &CatalogueChange) -> Result<Changed, CatalogueError> {
        let _turn = self.lock()?;
        let text = self.read()?;
        let mut table = self.table.clone();
        let changed = table.change(asked, Utc::now());
        if table.version() == self.table.version() {
            // It was made before, or is not made.
            return self.synced().map(|()| changed);
        }
        let job = asked.job.as_str();
        let definition = asked.definition.as_deref().map(serde_json::from_str::<Value>).transpose();
        let definition = definition.map_err(|error| bad(format!("it is no JSON: {error}")))?;
        let edited = self.form.edited(&text, job, definition.as_ref()).map_err(bad)?;
        let entries = self.form.entries(&edited).map_err(bad)?;
        if entries.get(job) != definition.as_ref() {
            return Err(bad(format!("{} cannot keep it as it is", self.form)));
        }
        if edited.len() as u64 > FILE_BYTES_MAX {
            return Err(bad(format!("the file would have more than {FILE_BYTES_MAX} bytes")));
        }
        self.write(&edited)?;
        (self.table, self.entries) = (table, as_json(&entries));
        // It is made, whether or not it outlives a loss of power: whoever asks again is answered that.
        self.synced().map(|()| changed)
    }

    /// The file as it is now, after what is new in it was taken over.
    fn read(&mut self) -> Result<String, CatalogueError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.check_missing()?;
                return Ok(String::new());
            }
            Err(error) => return Err(self.failed("opened", &error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed("read", &error))?;
        let (mut text, mut limited) = (String::new(), file.take(FILE_BYTES_MAX + 1));
        limited.read_to_string(&mut text).map_err(|error| self.failed("read", &error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.unavailable(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let entries = self.form.entries(&text).map_err(|reason| self.unavailable(reason))?;
        if entries.len() > STORED_JOBS_MAX {
            return Err(self.unavailable(format!("it has more than {STORED_JOBS_MAX} jobs")));
        }
        let stamp = Stamp::of(&metadata);
        self.take_over(as_json(&entries), stamp.modified.into());
        self.see(stamp);
        Ok(text)
    }

    /// The file has this stamp.
    fn see(&mut self, stamp: Stamp) {
        if self.stamp != Some(stamp) {
            (self.stamp, self.seen_at) = (Some(stamp), Instant::now());
        }
        // Its own time may be wrong, and may lie ahead.
        let is_old = stamp.modified.elapsed().is_ok_and(|age| age > SETTLED_AFTER);
        self.settled = is_old || self.seen_at.elapsed() > SETTLED_AFTER;
    }

    /// Numbers what is not as it was.
    fn take_over(&mut self, entries: BTreeMap<String, String>, at: DateTime<Utc>) {
        let row = |job: &str| CatalogueRow::new(job, 0, at);
        for (job, definition) in &entries {
            if self.entries.get(job) != Some(definition) {
                let mut row = row(job);
                row.definition = Some(definition.as_str().into());
                self.table.write(row);
            }
        }
        for job in self.entries.keys().filter(|job| !entries.contains_key(*job)) {
            self.table.write(row(job));
        }
        self.entries = entries;
    }

    /// A file that is not there has no jobs, unless it was there.
    fn check_missing(&self) -> Result<(), CatalogueError> {
        match self.stamp {
            None => Ok(()),
            Some(_) => Err(self.unavailable(
                "it is gone; put it back, or an empty one if there are to be no jobs".to_owned(),
            )),
        }
    }

    fn look(&self) -> Result<Option<Stamp>, CatalogueError> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("looked at", &error)),
        }
    }

    /// Puts another text in its place, once that is on the disk.
    fn write(&mut self, text: &str) -> Result<(), CatalogueError> {
        // What a link leads to, not the link.
        let place = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let beside = beside(&place, &format!("{}.new", std::process::id()));
        let written = write_beside(&place, &beside, text).and_then(|file| {
            if self.look().ok() != Some(self.stamp) {
                let reason = "it was edited by hand at the same time; it is read again";
                return Err(io::Error::new(ErrorKind::Interrupted, reason));
            }
            fs::rename(&beside, &place)?;
            Ok(file)
        });
        let file = written.map_err(|error| {
            // It may not be there.
            let _ = fs::remove_file(&beside);
            self.failed("written", &error)
        })?;
        self.synced = false;
        // A new name changes the stamp.
        match file.metadata() {
            Ok(metadata) => self.see(Stamp::of(&metadata)),
            // It is read again.
            Err(_) => self.settled = false,
        }
        Ok(())
    }

    /// That the file has its name is on the disk.
    fn synced(&mut self) -> Result<(), CatalogueError> {
        if !self.synced {
            let place = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
            (self.sync)(&place).map_err(|error| self.failed("written", &error))?;
            self.synced = true;
        }
        Ok(())
    }

    /// The lock of changes, freed when it is dropped, or with the process.
    fn lock(&self) -> Result<File, CatalogueError> {
        let place = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let path = beside(&place, "lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| self.failed("locked", &error))?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    let waited = DurationText(LOCK_WAIT);
                    let reason =
                        format!("for {waited} another process has changed it, and has {path:?} locked");
                    return Err(self.unavailable(reason));
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("locked", &error)),
            }
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> CatalogueError {
        self.unavailable(format!("it could not be {what}: {error}"))
    }

    fn unavailable(&self, reason: String) -> CatalogueError {
        CatalogueError::Unavailable { reason: format!("{:?}: {reason}", self.path) }
    }
}

/// Later than all versions of a process that began before, and unlike those of one that runs beside: milliseconds since
/// 1970, and eight bits of the nanoseconds. JSON keeps it exactly.
fn first_version() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or_default();
    millis << 8 | u64::from(since.subsec_nanos() >> 3 & 0xff)
}

fn bad(reason: impl Into<String>) -> CatalogueError {
    CatalogueError::BadData { reason: reason.into() }
}

fn as_json(entries: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    entries.iter().map(|(job, definition)| (job.clone(), definition.to_string())).collect()
}

/// A file in the same directory.
fn beside(place: &Path, what: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}.{what}"))
}

/// Writes a file that nobody else has, and that nobody else may read before it has the rights of the one in its place.
fn write_beside(place: &Path, beside: &Path, text: &str) -> io::Result<File> {
    // Left by a process of this number that died: whoever has the lock is alone.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let rights = fs::metadata(place).ok().map(|metadata| metadata.permissions());
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if rights.is_some() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(beside)?;
    file.write_all(text.as_bytes())?;
    rights.map_or(Ok(()), |rights| file.set_permissions(rights))?;
    file.sync_all()?;
    Ok(file)
}

/// That another file has the name is on the disk only with the directory.
fn sync_directory(place: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use callsheet_actors::{JobName, port::Expected};
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;

    fn put(job: &str) -> CatalogueChange {
        let job = JobName::new(job).expect("a good name");
        CatalogueChange::put(Uuid::new_v4(), job, "{}").expecting(Expected::Absent)
    }

    /// One for a file that is there, with a job.
    fn state(directory: &TempDir) -> State {
        let path = directory.path().join("jobs.json");
        fs::write(&path, r#"{"there": {}}"#).expect("it is written");
        State::new(path, Form::Json)
    }

    #[test]
    fn a_file_whose_time_lies_ahead_is_not_read_for_ever() {
        let directory = TempDir::new().expect("a directory");
        let mut state = state(&directory);
        let file = File::options().write(true).open(&state.path).expect("it is there");
        file.set_modified(SystemTime::now() + Duration::from_hours(1)).expect("it is set");
        state.refresh().expect("it is right");
        assert!(!state.settled, "it may be changed again without a sign of it");

        state.seen_at -= SETTLED_AFTER * 2;
        state.refresh().expect("it is right");

        assert!(state.settled);
    }

    #[cfg(unix)]
    #[test]
    fn an_edit_is_seen_though_the_size_and_the_time_are_as_before() {
        let directory = TempDir::new().expect("a directory");
        let mut state = state(&directory);
        let edit = |text: &str| {
            fs::write(directory.path().join("jobs.json"), text).expect("it is written");
            let file = File::options().write(true).open(directory.path().join("jobs.json"));
            file.and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH)).expect("it is set");
        };
        edit(r#"{"there": {}}"#);
        state.refresh().expect("it is right");
        assert!(state.settled);

        // The clock of the file system is coarse.
        thread::sleep(Duration::from_millis(50));
        edit(r#"{"other": {}}"#);
        state.refresh().expect("it is right");

        assert!(state.table().get("other").is_some() && state.table().get("there").is_none());
    }

    #[test]
    fn a_change_whose_name_is_not_on_the_disk_yet_is_made_once() {
        let directory = TempDir::new().expect("a directory");
        let mut state = state(&directory);
        state.sync = |_| Err(io::Error::other("the disk is ill"));
        let change = put("new");

        let error = state.change(&change).expect_err("nobody knows whether it outlives a loss of power");
        assert!(
            matches!(&error, CatalogueError::Unavailable { reason } if reason.contains("ill")),
            "{error}"
        );
        state.change(&change).expect_err("it is still ill");
        state.sync = sync_directory;
        let made = state.change(&change).expect("it is well");

        assert!(matches!(made, Changed::Done(row) if row.change == change.change), "it was made then");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_somebody_left_beside_leads_nowhere_and_rights_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = TempDir::new().expect("a directory");
        let mut state = state(&directory);
        fs::set_permissions(&state.path, fs::Permissions::from_mode(0o640)).expect("they are set");
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").expect("it is written");
        symlink(&victim, beside(&state.path, &format!("{}.new", std::process::id()))).expect("a link");

        state.change(&put("new")).expect("it is written");

        assert_eq!(fs::read_to_string(&victim).expect("it is there"), "untouched");
        let metadata = fs::symlink_metadata(&state.path).expect("it is there");
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o640);
    }
}
