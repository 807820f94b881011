//! Why a node stops to lead.

use serde::{Deserialize, Serialize};

use crate::word::words;

/// Why a node does not lead any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepDownReason {
    /// It shuts down.
    Resigned,
    /// The store granted a newer term, or says that this one is over.
    Deposed,
    /// No renewal was acknowledged in time.
    TrustExpired,
    /// The session with the store is gone.
    SessionLost,
    /// Its wall clock is too far from the store's.
    ClockOffset,
    /// A thread of its job actors does not answer.
    Stalled,
    /// The application's own check says that it may not lead, or does not answer.
    Refused,
    /// Somebody asked it to [resign](crate::Resign), or a body [did](crate::RunError::resign).
    Requested,
    /// It [prefers not to lead](crate::EngineOptions::prefer_not_to_lead), and another node stands as a
    /// candidate.
    Yielded,
    /// The threads of its bodies are blocked, and another node stands as a candidate.
    BodiesBlocked,
    /// The actor that owns the term died: the node is not live any more.
    Died,
}

words!(StepDownReason {
    Resigned: "resigned",
    Deposed: "deposed",
    TrustExpired: "trust_expired",
    SessionLost: "session_lost",
    ClockOffset: "clock_offset",
    Stalled: "stalled",
    Refused: "refused",
    Requested: "requested",
    Yielded: "yielded",
    BodiesBlocked: "bodies_blocked",
    Died: "died",
});
