//! The threads of the job actors.

use std::{sync::Arc, task::Waker};

use actix_rt::ArbiterHandle;
use futures_util::{future::join_all, task::AtomicWaker};
use tokio::sync::oneshot;

use crate::coalesced::Coalesced;

/// The threads of the job actors; none if they live on the caller's.
#[derive(Clone)]
pub(crate) struct JobThreads(Arc<[JobThread]>);

struct JobThread {
    arbiter: ArbiterHandle,
    pings: Arc<Pings>,
}

/// Who asks whether a thread turns, and the task there that answers.
#[derive(Default)]
struct Pings {
    waiting: Coalesced<oneshot::Sender<()>>,
    task: AtomicWaker,
}

/// Answers whoever asks whether a thread turns. Once this is dropped nobody does.
pub(crate) struct Turns(Arc<Pings>);

impl JobThreads {
    pub(crate) fn new(arbiters: Vec<ArbiterHandle>) -> Self {
        Self(arbiters.into_iter().map(|arbiter| JobThread { arbiter, pings: Arc::default() }).collect())
    }

    /// Whether job actors live on threads of their own.
    pub(crate) fn exist(&self) -> bool {
        !self.0.is_empty()
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Calls this on the `nth` of them; on the caller's thread if there is none. It is to say when that turns.
    pub(crate) fn start(&self, nth: usize, work: impl FnOnce(Turns) + Send + 'static) {
        match self.0.get(nth) {
            Some(JobThread { arbiter, pings }) => {
                let turns = Turns(pings.clone());
                arbiter.spawn_fn(move || work(turns));
            }
            None => work(Turns(Arc::default())),
        }
    }

    /// Whether every thread turns: its job actors have theirs, and not only other work there.
    pub(crate) fn ping(&self) -> impl Future<Output = bool> + use<> {
        let asked = |thread: &JobThread| {
            let (reply, answer) = oneshot::channel();
            if thread.pings.waiting.push(reply) {
                thread.pings.task.wake();
            }
            answer
        };
        let answers: Vec<_> = self.0.iter().map(asked).collect();
        async move { join_all(answers).await.iter().all(Result::is_ok) }
    }
}

impl Turns {
    /// The thread turns. `task` is woken up when somebody asks again.
    pub(crate) fn say(&self, task: &Waker) {
        // Before the look: whoever asks after it wakes the task up.
        self.0.task.register(task);
        for asked in self.0.waiting.take() {
            // Whoever asked may have given up.
            let _ = asked.send(());
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.0.waiting.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, task::noop_waker_ref};

    use super::*;

    #[test]
    fn whoever_asks_is_answered_at_the_next_turn_or_told_that_there_is_none() {
        let pings = Arc::<Pings>::default();
        let turns = Turns(pings.clone());
        let ask = || {
            let (reply, answer) = oneshot::channel();
            let _ = pings.waiting.push(reply);
            answer
        };

        let mut answer = ask();
        assert!((&mut answer).now_or_never().is_none());
        turns.say(noop_waker_ref());
        assert!(matches!(answer.now_or_never(), Some(Ok(()))));

        let before_the_end = ask();
        drop(turns);
        assert!(
            [before_the_end, ask()].into_iter().all(|answer| matches!(answer.now_or_never(), Some(Err(_))))
        );
    }
}
