//! How a run ends.

use serde::{Deserialize, Serialize};

use crate::word::words;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The body returned without an error.
    Succeeded,
    /// The body returned an error.
    Failed,
    /// The body panicked.
    Panicked,
    /// Its time was over; the body was cancelled, and perhaps aborted.
    TimedOut,
    /// It was cancelled or aborted before it ended, whatever the body then returned.
    Cancelled,
    /// Its node died.
    Lost,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::Failed, Self::Panicked, Self::TimedOut, Self::Cancelled, Self::Lost];
}

words!(Outcome {
    Succeeded: "succeeded",
    Failed: "failed",
    Panicked: "panicked",
    TimedOut: "timed_out",
    Cancelled: "cancelled",
    Lost: "lost",
});

/// Why a run was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelReason {
    /// Its timeout passed.
    TimedOut,
    /// The session that held its lock key is gone.
    LockLost,
    /// Somebody asked for it.
    Requested,
    /// A newer run of its lock key takes its place: [`Overlap::Replace`](crate::Overlap::Replace).
    Replaced,
    /// The engine shuts down and the deadline for draining passed.
    Shutdown,
    /// The body was dropped by its runtime.
    Dropped,
    /// The run was not wanted any more before its body started: the claim was granted too late, or what was
    /// queued was dropped. Or its node was frozen after the grant, until its session was trusted no more.
    NotStarted,
    /// A `before` hook vetoed it; the body never started.
    Vetoed,
}

words!(CancelReason {
    TimedOut: "timed_out",
    LockLost: "lock_lost",
    Requested: "requested",
    Replaced: "replaced",
    Shutdown: "shutdown",
    Dropped: "dropped",
    NotStarted: "not_started",
    Vetoed: "vetoed",
});
