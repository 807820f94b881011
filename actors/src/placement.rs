//! On which threads the job actors live, and how their messages get there.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_rt::ArbiterHandle;
use futures_util::{future::join_all, task::AtomicWaker};
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
pub(crate) trait Deliver: Send + Unpin + 'static {
    /// Hands it to the actor's mailbox; best on the actor's own thread.
    fn deliver(self);
}

/// Where the actors live: on the threads, in turn, or on the caller's thread and local set.
pub(crate) struct Placement<M>(Vec<Arc<Inbox<M>>>);

/// A thread of actors, and the messages on their way to it.
struct Inbox<M> {
    arbiter: ArbiterHandle,
    messages: Coalesced<M>,
    /// Wakes the thread's carrier up.
    carrier: AtomicWaker,
}

impl<M: Deliver> Placement<M> {
    pub(crate) fn on(threads: &JobThreads) -> Self {
        let inbox = |arbiter: &ArbiterHandle| {
            let arbiter = arbiter.clone();
            let inbox =
                Arc::new(Inbox { arbiter, messages: Coalesced::default(), carrier: AtomicWaker::new() });
            // If the thread is gone, or goes later, the carrier is dropped.
            inbox.arbiter.spawn(Carrier { inbox: inbox.clone(), taken: Vec::new() });
            inbox
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
            inbox.carrier.wake();
        }
    }

    fn inbox_of(&self, nth: u64) -> Option<&Arc<Inbox<M>>> {
        self.0.get(usize::try_from(nth).unwrap_or_default() % self.0.len().max(1))
    }
}

/// Hands the messages on that come to a thread: one task for the life of the thread, so that a message costs
/// neither a task nor memory. When it is dropped, with its thread, nothing comes in any more, and what waits
/// is dropped: it may hold what holds the inbox.
struct Carrier<M> {
    inbox: Arc<Inbox<M>>,
    /// Those that are being handed on.
    taken: Vec<M>,
}

impl<M: Deliver> Future for Carrier<M> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let Self { inbox, taken } = self.get_mut();
        // Before it looks: whatever comes in from now on wakes it.
        inbox.carrier.register(task.waker());
        inbox.messages.take_into(taken);
        taken.drain(..).for_each(M::deliver);
        taken.shrink_to(TAKEN_KEPT_MAX);
        Poll::Pending
    }
}

impl<M> Drop for Carrier<M> {
    fn drop(&mut self) {
        self.inbox.messages.close();
    }
}

/// For so many messages a thread keeps memory while none comes in.
const TAKEN_KEPT_MAX: usize = 1_024;
