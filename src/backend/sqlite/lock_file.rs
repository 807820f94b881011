//! One process at a time: a file beside the store that is locked for as long as the store is open.
//!
//! SQLite's own lock keeps a second process out as well, but says nothing about the first one.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    process,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{failure::Trouble, file::open_private};

/// How long a process waits for the one before it, which is about to end.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How long it waits between two attempts.
const LOCK_AGAIN: Duration = Duration::from_millis(10);
/// The longest text about a holder that is read, in bytes.
const HOLDER_MAX: u64 = 512;

/// The lock. It ends when this is dropped, or with the process, however it ends.
#[derive(Debug)]
pub(super) struct LockFile {
    /// Who holds it stands in it; it is locked as long as it is open.
    _held: File,
}

impl LockFile {
    /// Takes the lock, or says who has it.
    pub(super) fn take(path: &Path) -> Result<Self, Trouble> {
        let in_words =
            |error: &io::Error| Trouble::of_io(&format!("{} cannot be locked", path.display()), error);
        let mut file = open_private(path).map_err(|error| in_words(&error))?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(LOCK_AGAIN),
                Err(TryLockError::WouldBlock) => return Err(held(&mut file)),
                Err(TryLockError::Error(error)) => return Err(in_words(&error)),
            }
        }
        // Who has it is a courtesy: on a full disk it is not said.
        let _ = say_holder(&mut file);
        Ok(Self { _held: file })
    }
}

fn say_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    let host = host().map(|host| format!(" on host {host:?}")).unwrap_or_default();
    write!(file, "process {}{host}", process::id())
}

/// What a process that does not get it is told.
fn held(file: &mut File) -> Trouble {
    let mut text = String::new();
    // Where a lock keeps readers out as well, nobody knows.
    let read = file.take(HOLDER_MAX).read_to_string(&mut text);
    let holder = read.ok().and_then(|_| text.lines().next()).filter(|line| line.starts_with("process "));
    let holder = holder.unwrap_or("another process");
    Trouble::new(
        format!("{holder} has it open, and a file belongs to one process at a time"),
        "stop that process, or name another file; nodes that share their jobs need a server: Postgres",
    )
}

/// What this machine, or container, is called.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name = name.ok()?;
    let name = name.trim();
    (!name.is_empty() && name.len() < 256).then(|| name.to_owned())
}
