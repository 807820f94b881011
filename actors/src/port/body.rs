//! What a job does.

use futures_util::future::BoxFuture;

use crate::run::{Run, RunResult};

/// The work of a job.
///
/// A body that panics or blocks, in [`start`](Self::start) or in its future, harms neither the timers nor the
/// other jobs.
///
/// On the engine's own threads for bodies a runner, which begins one run after another, calls `start` and
/// polls its future once. What is not over then goes on as a task of its own, which polls it again at once.
/// So the waker of the first poll may do nothing, and the id of the task may differ between polls. Where the
/// application says on which runtime bodies run, for a body that works [elsewhere](Self::elsewhere), and
/// after `before` hooks, all of it happens inside the task of the run.
pub trait Body: Send + Sync + 'static {
    /// The work of one attempt.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the run is aborted, if the body is [`abortable`](Self::abortable).
    fn start(&self, run: Run) -> BoxFuture<'static, RunResult>;

    /// Whether dropping the future ends the work. If it does not (another task or an actor does it), the
    /// engine waits for the future even after an abort, and the lock key stays held until then. Default:
    /// `true`.
    fn abortable(&self) -> bool {
        true
    }

    /// Whether the work is done elsewhere (on another thread, by an actor), so that [`start`](Self::start)
    /// and its future only hand it over and wait. The task of the run then takes no thread for bodies: it is
    /// polled on that of the job's timer, which it must not block; timers and I/O that it waits for are those of
    /// the [runtime](super::Spawner::runtime) of bodies. Default: `false`.
    fn elsewhere(&self) -> bool {
        false
    }
}
