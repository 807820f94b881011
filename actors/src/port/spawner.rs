//! Where bodies run.

use futures_util::future::BoxFuture;

/// Runs the bodies of jobs, each as a task of its own, away from the timers and from coordination.
///
/// A task that is dropped before it ended (the runtime shuts down) counts as aborted. A spawner that refuses
/// a task drops it.
pub trait Spawner: Send + Sync + 'static {
    /// Starts a task. Returns at once; never runs the task on the caller's stack.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// The runtime on which the tasks run, if they do: a body that works [elsewhere](super::Body::elsewhere)
    /// waits by its timers and its I/O, and what it spawns runs there. Default: none; the one on which the
    /// engine was started serves such bodies.
    fn runtime(&self) -> Option<tokio::runtime::Handle> {
        None
    }
}

/// Bodies run on a tokio runtime that somebody else owns.
///
/// Bodies that block its threads delay whatever else runs there.
#[derive(Debug, Clone)]
pub struct RuntimeSpawner(tokio::runtime::Handle);

impl RuntimeSpawner {
    /// Bodies run on the runtime behind `handle`.
    pub fn new(handle: tokio::runtime::Handle) -> Self {
        Self(handle)
    }
}

impl Spawner for RuntimeSpawner {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn runtime(&self) -> Option<tokio::runtime::Handle> {
        Some(self.0.clone())
    }
}
