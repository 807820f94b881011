//! The labels of what became of hooks.

use crate::word::words;

/// The label `hook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookKind {
    Before,
    AfterSuccess,
    AfterFailure,
    OnSkip,
    OnOverdue,
}

impl HookKind {
    pub(super) const ALL: [Self; 5] =
        [Self::Before, Self::AfterSuccess, Self::AfterFailure, Self::OnSkip, Self::OnOverdue];
}

words!(pub(crate) HookKind {
    Before: "before",
    AfterSuccess: "after_success",
    AfterFailure: "after_failure",
    OnSkip: "on_skip",
    OnOverdue: "on_overdue"
});

/// The label `reason` of a call of a hook that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookFault {
    /// It answered an error.
    Error,
    Panic,
    Timeout,
    /// It was not called.
    Dropped,
}

impl HookFault {
    pub(super) const ALL: [Self; 4] = [Self::Error, Self::Panic, Self::Timeout, Self::Dropped];
}

words!(pub(crate) HookFault { Error: "error", Panic: "panic", Timeout: "timeout", Dropped: "dropped" });
