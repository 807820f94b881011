//! Why a store of records did not answer.

/// Why a store of records did not answer. No text holds a password or a connection string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The store could not be reached, or is not ready. Nothing was done.
    #[error("{reason}")]
    Unavailable {
        /// What happened and, after `"; "`, what would mend it.
        reason: String,
    },
    /// No answer within the deadline: what was asked may have been done, or not, or may yet be done.
    #[error("the store did not answer within the deadline")]
    Timeout,
    /// The store cannot keep what the port promises, or keeps records of a format that this version does not
    /// know, and asking again does not help until somebody changes something. Nothing was done.
    #[error("{reason}")]
    Refused {
        /// What is refused, by name, and, after `"; "`, what would mend it.
        reason: String,
    },
    /// The store refuses this call, or cannot do it just now: rights, memory, a full disk, a replica that is
    /// read-only. Nothing was done.
    #[error("{reason}")]
    NotDone {
        /// What the store says and, after `"; "`, what would mend it.
        reason: String,
    },
    /// The call breaks a limit of the store, or a rule of this port. Nothing was done. It is a defect of the
    /// caller.
    #[error("{what}: {found}, and at most {most} is allowed")]
    OverLimit {
        /// Which limit.
        what: &'static str,
        /// What was asked.
        found: u64,
        /// The limit.
        most: u64,
    },
}

/// Refuses more than a limit.
pub(super) fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), RecordsError> {
    if found <= most {
        return Ok(());
    }
    Err(RecordsError::OverLimit { what, found: found as u64, most: most as u64 })
}
