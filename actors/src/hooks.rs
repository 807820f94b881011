//! Code of the application around the runs of a job, and at its skipped ticks.

use std::{
    mem::take,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    core::{alarm::Expectation, duration::DurationText},
    event::{CancelReason, Outcome},
    fault::Fault,
    name::JobName,
    port::SkipReason,
    run::{IntoRunResult, Run, RunResult},
};

/// How long a hook may take unless told otherwise.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest time that a hook may be given.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const HOOK_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The most calls of `after_success`, `after_failure`, `on_skip` and `on_overdue` hooks that may wait for the hooks of one
/// job. When they are that many, the newest is dropped, and counted.
pub const HOOK_CALLS_MAX: usize = 256;
/// The most bytes of errors in the calls that wait for the hooks of one job, and are under way. When they are
/// that many, the newest call that has an error is dropped, and counted.
pub const HOOK_CALL_BYTES_MAX: usize = 1024 * 1024;
/// The same for the hooks of all jobs of a node.
pub const NODE_HOOK_CALL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A run that ended, for the `after_success` and `after_failure` hooks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FinishedRun {
    /// The run, as its last attempt saw it; what its body said of it is [`reported`](Run::reported).
    pub run: Run,
    /// How it ended.
    pub outcome: Outcome,
    /// The error of the last attempt with its causes, or the message of its panic.
    pub error: Option<Arc<str>>,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<CancelReason>,
    /// How long the body took in its last attempt.
    pub took: Duration,
}

/// Ticks that passed without a run, for the `on_skip` hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedTicks {
    /// The job.
    pub job: JobName,
    /// The newest of them; for a misfire, the tick that runs in their place if there is one.
    pub fire_time: DateTime<Utc>,
    /// Why.
    pub reason: SkipReason,
    /// How many.
    pub count: u64,
    /// There may have been more: counting stopped at its bound.
    pub at_least: bool,
}

/// A job that did not do in time what is expected of it, for the `on_overdue` hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverdueAlarm {
    /// The job.
    pub job: JobName,
    /// What is expected.
    pub expectation: Expectation,
    /// The time that it had for it.
    pub within: Duration,
    /// When that time was over.
    pub since: DateTime<Utc>,
}

/// One hook.
pub(crate) type Hook<T> = Arc<dyn Fn(T) -> BoxFuture<'static, RunResult> + Send + Sync>;

/// Hooks of one kind, in the order in which they were added.
#[derive(Clone)]
pub struct HookList<T>(Vec<Hook<T>>);

impl<T: 'static> HookList<T> {
    /// Adds one: an async closure or function that returns nothing or a `Result`.
    pub fn add<F, Fut>(&mut self, hook: F)
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.0.push(Arc::new(move |told| hook(told).map(IntoRunResult::into_run_result).boxed()));
    }
}

impl<T> Default for HookList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for HookList<T> {
    type Target = [Hook<T>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The hooks of all jobs, or of one.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Called once before the body of each run. An error vetoes the run.
    pub before: HookList<Run>,
    /// Called after each run that succeeded.
    pub after_success: HookList<FinishedRun>,
    /// Called after each run that started and did not succeed.
    pub after_failure: HookList<FinishedRun>,
    /// Called when ticks were skipped.
    pub on_skip: HookList<SkippedTicks>,
    /// Called when a job does not do in time what is expected of it.
    pub on_overdue: HookList<OverdueAlarm>,
    pub(crate) timeout: Option<Duration>,
}

impl Hooks {
    /// How long each of these hooks may take, 1 ms to 1 h. Default: 10 s; of a job's own hooks that of the
    /// scheduler.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        let timeout = self.timeout.filter(|it| !(HOOK_TIMEOUT_MIN..=HOOK_TIMEOUT_MAX).contains(it))?;
        let rule = "a hook may take from 1 ms to 1 h";
        Some(Fault::new(
            "hook_timeout",
            DurationText(timeout).to_string(),
            rule,
            "choose a duration in this range, or leave it out for 10 s",
        ))
    }
}

impl Drop for Hooks {
    /// As with bodies: what an application's code captured may panic when it is dropped, on whatever thread
    /// that is.
    fn drop(&mut self) {
        let hooks = (
            take(&mut self.before),
            take(&mut self.after_success),
            take(&mut self.after_failure),
            take(&mut self.on_skip),
            take(&mut self.on_overdue),
        );
        if catch_unwind(AssertUnwindSafe(|| drop(hooks))).is_err() {
            tracing::error!(target: "callsheet", "what a hook captured panicked when it was dropped");
        }
    }
}
