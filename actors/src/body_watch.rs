//! Whether bodies start.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;

use crate::{
    body_queue::RunnerQueue,
    own_threads::OwnThreads,
    port::{Clock, Spawner},
    starts::BodyThreads,
};

/// Since when the threads of bodies have been asked without an answer, by the monotonic clock.
pub(crate) struct BodyWatch {
    asked_at: Arc<Mutex<Option<Duration>>>,
    clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    /// Where quick bodies begin, if that is not where the spawner puts them.
    runner: Option<Arc<dyn RunnerQueue>>,
    own_threads: OwnThreads,
}

/// A task that says, when it is polled or dropped, that tasks start.
struct Started(Arc<Mutex<Option<Duration>>>);

impl Drop for Started {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl BodyWatch {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        spawner: Arc<dyn Spawner>,
        runner: Option<Arc<dyn RunnerQueue>>,
        own_threads: OwnThreads,
    ) -> Self {
        Self { asked_at: Arc::default(), clock, spawner, runner, own_threads }
    }

    /// For how long no ordinary body has started, as far as was asked. Asks, if nobody has.
    fn silence(&self) -> Duration {
        let now = self.clock.elapsed();
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked_at) = *asked_at {
            return now.saturating_sub(asked_at);
        }
        *asked_at = Some(now);
        drop(asked_at);
        let started = Started(self.asked_at.clone());
        self.spawner.spawn(async move { drop(started) }.boxed());
        Duration::ZERO
    }

    /// For how long no body has started, or one has waited for those before it, on threads of each kind.
    pub(crate) fn silences(&self) -> [(BodyThreads, Duration); 3] {
        let [blocking, local] = self.own_threads.silences(self.clock.elapsed());
        let waits = self.runner.as_ref().map(|runner| runner.longest_wait()).unwrap_or_default();
        [(BodyThreads::Body, self.silence().max(waits)), blocking, local]
    }

    /// The longest of them.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.silences().map(|(_, silence)| silence).into_iter().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::port::SystemClock;

    /// Tasks start at once.
    #[derive(Debug)]
    struct AtOnce;

    impl Spawner for AtOnce {
        fn spawn(&self, task: BoxFuture<'static, ()>) {
            drop(task);
        }
    }

    /// Runs wait for the runner.
    struct Waits(Duration);

    impl RunnerQueue for Waits {
        fn longest_wait(&self) -> Duration {
            self.0
        }
    }

    #[test]
    fn runs_that_wait_for_the_runner_are_seen_though_tasks_start() {
        for wait in [Duration::ZERO, Duration::from_secs(3)] {
            let (clock, own_threads) =
                (Arc::new(SystemClock::default()), OwnThreads::Here(Default::default()));
            let watch = BodyWatch::new(clock, Arc::new(AtOnce), Some(Arc::new(Waits(wait))), own_threads);

            assert_eq!(watch.silences()[0], (BodyThreads::Body, wait));
        }
    }
}
