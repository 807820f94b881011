//! Instants that are so long from now, however long that is.

use std::time::Duration;

use tokio::time::Instant;

/// The deadline of every call to a store.
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Nobody waits for longer: the clock has no instant for every duration.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// So long after an instant that is not itself for ever away; at most a hundred years.
pub(crate) fn after(instant: Instant, wait: Duration) -> Instant {
    instant + wait.min(FOR_EVER)
}

/// So long from now, at most a hundred years.
pub(crate) fn from_now(wait: Duration) -> Instant {
    after(Instant::now(), wait)
}
