//! What a job does.

use futures_util::future::BoxFuture;

use crate::run::{Run, RunResult};

/// The work of a job.
///
/// The engine calls [`start`](Self::start) inside the task of the run, so a body that panics or blocks harms
/// neither the timers nor the other jobs.
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
