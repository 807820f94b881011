//! Calls into adapters: bounded in time, and contained.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;

use crate::CALL_DEADLINE;

/// Why a call brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Deadline,
    Panic,
}

impl NoAnswer {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "the store did not answer within the deadline",
            Self::Panic => "the store's adapter panicked; see the log",
        }
    }
}

/// Waits for a call into an adapter. Whether it was done is unknown if there is no answer.
pub(crate) async fn contained<T>(call: impl Future<Output = T>) -> Result<T, NoAnswer> {
    contained_within(CALL_DEADLINE, call).await
}

/// Waits no longer than this for a call into an adapter.
pub(crate) async fn contained_within<T>(
    deadline: Duration,
    call: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    match timeout(deadline, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(NoAnswer::Panic),
        Err(_) => Err(NoAnswer::Deadline),
    }
}
