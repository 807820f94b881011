//! The threads of the job actors.

use std::sync::Arc;

use actix_rt::ArbiterHandle;
use futures_util::future::join_all;
use tokio::sync::oneshot;

/// The threads of the job actors; none if they live on the caller's.
#[derive(Clone)]
pub(crate) struct JobThreads(Arc<[ArbiterHandle]>);

impl JobThreads {
    pub(crate) fn new(arbiters: Vec<ArbiterHandle>) -> Self {
        Self(arbiters.into())
    }

    /// Whether job actors live on threads of their own.
    pub(crate) fn exist(&self) -> bool {
        !self.0.is_empty()
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Calls this on the `nth` of them; on the caller's thread if there is none.
    pub(crate) fn start(&self, nth: usize, work: impl FnOnce() + Send + 'static) {
        match self.0.get(nth) {
            Some(arbiter) => drop(arbiter.spawn_fn(work)),
            None => work(),
        }
    }

    /// Whether every thread turns.
    pub(crate) fn ping(&self) -> impl Future<Output = bool> + use<> {
        let asked = |arbiter: &ArbiterHandle| {
            let (reply, answer) = oneshot::channel();
            arbiter.spawn_fn(move || {
                // Whoever asked may have given up.
                let _ = reply.send(());
            });
            answer
        };
        let answers: Vec<_> = self.0.iter().map(asked).collect();
        async move { join_all(answers).await.iter().all(Result::is_ok) }
    }
}
