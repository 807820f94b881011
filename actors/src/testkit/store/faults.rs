//! What goes wrong with a shared store, on request.

use std::time::Duration;

/// Something that goes wrong with one call of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// The call takes effect, but its reply is lost.
    ReplyLost,
    /// The call does not reach the store.
    RequestLost,
    /// The call, and every other one of the node meanwhile, takes this long.
    Stall(Duration),
}

/// Something that the store refuses for its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadData {
    /// Enrolments.
    Enrolment,
    /// Claims.
    Claim,
    /// The ends of runs.
    End,
    /// Advances of cursors.
    Advance,
    /// Pauses.
    Pause,
    /// What is only asked or taken back: inquiries, conflicts, retractions, withdrawals.
    Other,
}

impl BadData {
    /// Everything.
    pub const ALL: [Self; 6] =
        [Self::Enrolment, Self::Claim, Self::End, Self::Advance, Self::Pause, Self::Other];
}
