//! On which threads the job actors live, and how their messages get there.

use std::sync::Arc;

use actix_rt::ArbiterHandle;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::coalesced::Coalesced;

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

/// What is sent to an actor.
pub(crate) trait Deliver: Send + 'static {
    /// Hands it to the actor's mailbox; best on the actor's own thread.
    fn deliver(self);
}

/// Where the actors live: on the threads, in turn, or on the caller's thread and local set.
pub(crate) struct Placement<M>(Vec<Arc<Inbox<M>>>);

/// A thread of actors, and the messages on their way to it.
struct Inbox<M> {
    arbiter: ArbiterHandle,
    messages: Coalesced<M>,
}

impl<M: Deliver> Placement<M> {
    pub(crate) fn on(threads: &JobThreads) -> Self {
        let inbox = |arbiter: &ArbiterHandle| {
            Arc::new(Inbox { arbiter: arbiter.clone(), messages: Coalesced::default() })
        };
        Self(threads.0.iter().map(inbox).collect())
    }

    /// Starts the `nth` actor by calling `start` where it is to live.
    ///
    /// It is made there: what waits for a busy thread is small, and nothing is copied from the memory of one
    /// thread to that of another.
    pub(crate) fn start(&self, nth: u64, start: impl FnOnce() + Send + 'static) {
        match self.inbox_of(nth) {
            Some(inbox) => drop(inbox.arbiter.spawn_fn(start)),
            None => start(),
        }
    }

    /// Sends a message to the `nth` actor.
    pub(crate) fn post(&self, nth: u64, message: M) {
        let Some(inbox) = self.inbox_of(nth) else { return message.deliver() };
        if inbox.messages.push(message) {
            let pickup = Pickup(Some(inbox.clone()));
            // If the thread is gone, or goes before it comes to this, the messages are dropped.
            inbox.arbiter.spawn_fn(move || pickup.make());
        }
    }

    fn inbox_of(&self, nth: u64) -> Option<&Arc<Inbox<M>>> {
        self.0.get(usize::try_from(nth).unwrap_or_default() % self.0.len().max(1))
    }
}

/// A thread is to hand the messages in its inbox on. If it never does, they are dropped with this: they may
/// hold what holds the inbox.
struct Pickup<M>(Option<Arc<Inbox<M>>>);

impl<M> Pickup<M> {
    fn make(mut self)
    where
        M: Deliver,
    {
        if let Some(inbox) = self.0.take() {
            inbox.messages.take().into_iter().for_each(M::deliver);
        }
    }
}

impl<M> Drop for Pickup<M> {
    fn drop(&mut self) {
        if let Some(inbox) = self.0.take() {
            drop(inbox.messages.take());
        }
    }
}
