//! What is said of a store that does not answer, and how soon it is asked again.

use std::time::Duration;

use callsheet_actors::port::RecordsError;

/// The pauses between attempts to connect.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What waiting may cure.
pub(super) fn unavailable(reason: impl Into<String>) -> RecordsError {
    RecordsError::Unavailable { reason: reason.into() }
}

/// What somebody has to change.
pub(super) fn refused(reason: impl Into<String>) -> RecordsError {
    RecordsError::Refused { reason: reason.into() }
}
