//! What went wrong with a file, in words with a cure.

use std::{io, path::Path};

use callsheet_actors::{
    Fault,
    adapter::bounded,
    port::{HistoryError, RecordsError},
};
use rusqlite::{Error, ErrorCode};

/// What the store is called in health reports and errors.
pub(super) const NAME: &str = "sqlite";

/// The longest message of SQLite that is quoted, in bytes.
const MESSAGE_MAX: usize = 512;

/// Why a call was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The file is not open, or too much waits for it. Nothing was done.
    Unavailable(String),
    /// Nobody knows whether it was done.
    Unknown,
    /// Nothing was done, and nothing will be until somebody changes something.
    Refused(String),
    /// Nothing was done.
    NotDone(String),
}

/// What is wrong, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) rule: String,
    pub(super) cure: &'static str,
    /// Asking again does not help until somebody changes something.
    pub(super) stays: bool,
}

impl Trouble {
    pub(super) fn new(rule: impl Into<String>, cure: &'static str) -> Self {
        Self { rule: rule.into(), cure, stays: false }
    }

    /// One that does not go away by itself.
    pub(super) fn staying(rule: impl Into<String>, cure: &'static str) -> Self {
        Self { stays: true, ..Self::new(rule, cure) }
    }

    pub(super) fn of_io(what: &str, error: &io::Error) -> Self {
        let rule = format!("{what}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::new(rule, "let the user of this process write there, or name another path")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::new(rule, FULL_CURE),
            _ => Self::new(rule, "name a path on a local disk that this process may write to"),
        }
    }

    pub(super) fn of(error: &Error) -> Self {
        let rule = bounded(error.to_string(), MESSAGE_MAX);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::new(rule, FULL_CURE),
            Some(ErrorCode::NotADatabase) => Self::staying(
                "it is no SQLite database",
                "name another path, or move that file away: a new one is made",
            ),
            Some(ErrorCode::DatabaseCorrupt) => Self::staying(
                format!("it is damaged: {rule}"),
                "put a copy of it back, or move it away: a new one is made, which knows of nothing",
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::new(rule, "close the program that has the file open")
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::new(rule, "let the user of this process write the file and its directory")
            }
            _ => Self::new(rule, "look at the disk, and at the log of the kernel"),
        }
    }

    /// What is wrong with what the application named.
    pub(super) fn fault(&self, path: &Path) -> Fault {
        Fault::new("Local::at", path.display().to_string(), self.rule.clone(), self.cure)
    }

    /// In one line.
    pub(super) fn text(&self, path: &Path) -> String {
        format!("{}: {}; {}", path.display(), self.rule, self.cure)
    }

    /// Nothing was done for that reason.
    pub(super) fn not_done(&self, path: &Path) -> Failure {
        if self.stays { Failure::Refused(self.text(path)) } else { Failure::NotDone(self.text(path)) }
    }

    /// The file could not be opened for that reason.
    pub(super) fn unavailable(&self, path: &Path) -> Failure {
        if self.stays { Failure::Refused(self.text(path)) } else { Failure::Unavailable(self.text(path)) }
    }
}

const FULL_CURE: &str = "free some space on that disk";

impl From<Failure> for RecordsError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => Self::Unavailable { reason },
            Failure::Unknown => Self::Timeout,
            Failure::Refused(reason) => Self::Refused { reason },
            Failure::NotDone(reason) => Self::NotDone { reason },
        }
    }
}

impl From<Failure> for HistoryError {
    fn from(failure: Failure) -> Self {
        let reason = match failure {
            Failure::Unavailable(reason) | Failure::Refused(reason) | Failure::NotDone(reason) => reason,
            Failure::Unknown => "no answer within the deadline".to_owned(),
        };
        Self::Unavailable { history: NAME, reason }
    }
}
