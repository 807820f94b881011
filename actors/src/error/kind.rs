//! What kind of error it is, whichever call it was.

use std::fmt;

use crate::port::HistoryError;

/// What kind of error it is: what a caller does about it, whichever call it was.
///
/// | kind | what it means | cure |
/// |---|---|---|
/// | `NotFound` | there is no such job, or no such run, on this node | list the jobs |
/// | `Exists` | there is a job of this name | choose another name, or update the job |
/// | `Invalid` | what was asked breaks a rule, which the error names | correct it |
/// | `Over` | the last fire time of the schedule has passed | give it a later fire time |
/// | `Busy` | something else that is in progress is in the way: a run, the node's bound of runs, a cancellation | ask again later |
/// | `Unavailable` | the store, or the job, cannot do it in its present state | ask again later, or mend what the error names |
/// | `Stopped` | the scheduler shuts down, or has stopped | start another one, or ask another node |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such job, or no such run, on this node.
    NotFound,
    /// There is a job of this name.
    Exists,
    /// What was asked breaks a rule.
    Invalid,
    /// The last fire time of the schedule has passed.
    Over,
    /// Something else that is in progress is in the way.
    Busy,
    /// The store, or the job, cannot do it in its present state.
    Unavailable,
    /// The scheduler shuts down, or has stopped.
    Stopped,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::NotFound,
        Self::Exists,
        Self::Invalid,
        Self::Over,
        Self::Busy,
        Self::Unavailable,
        Self::Stopped,
    ];

    /// The kind in one word, for logs and answers: `not_found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Invalid => "invalid",
            Self::Over => "over",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl HistoryError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotKept { .. } | Self::Unavailable { .. } | Self::BadData { .. } => ErrorKind::Unavailable,
            Self::Stopped => ErrorKind::Stopped,
        }
    }
}
