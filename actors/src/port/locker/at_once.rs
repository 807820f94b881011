//! A store that answers without waiting.

use super::{Advanced, ClaimRequest, Completed, Completion, CursorAdvance, Session, Verdict};

/// The calls of a round trip, for a store in the memory of this process: each is made by itself, on the
/// thread of the job that asks, and answered before it returns.
///
/// Asked only of a backend of [one node](crate::port::Backend::single_node) whose session ends by
/// [`Locker::close`](super::Locker::close) alone. They answer what [`Locker::claim`](super::Locker::claim),
/// [`complete`](super::Locker::complete) and [`advance`](super::Locker::advance) answer, on the same session,
/// and take effect in one order with them. They never wait for I/O or for another thread, but for a lock that
/// is held as briefly, and never answer that something is locked or unavailable, or is refused for its data.
/// `None`: no session is open, and nothing was done; the engine asks the other way, which says so.
pub trait AtOnce: Send + Sync {
    /// Claims one run. Answers the session that asked as well: it holds what is granted.
    fn claim_now(&self, request: &ClaimRequest) -> Option<(Session, Verdict)>;

    /// Records the end of one run and frees its key.
    fn complete_now(&self, end: &Completion) -> Option<Completed>;

    /// Moves one cursor over ticks that nobody runs.
    fn advance_now(&self, asked: &CursorAdvance) -> Option<Advanced>;
}
