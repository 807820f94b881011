//! Where job actors live.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use actix::{Context, dev::channel::AddressReceiver};
use actix_rt::ArbiterHandle;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::job::{JobActor, Letter};

/// Where job actors live.
#[derive(Clone)]
pub(crate) enum Placement {
    /// On arbiters, in turn.
    Arbiters(Vec<Arc<Home>>),
    /// On the caller's thread and local set.
    Here,
}

/// An arbiter of job actors, and the letters on their way to it.
pub(crate) struct Home {
    arbiter: ArbiterHandle,
    letters: Mutex<Vec<Letter>>,
}

impl Home {
    /// Waking a thread up is what costs most of a letter, so only the first one of many does.
    fn post(self: &Arc<Self>, letter: Letter) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter);
        if letters.len() > 1 {
            return;
        }
        drop(letters);
        let home = self.clone();
        let delivery = Delivery(Some(home));
        // If the thread is gone, or goes before it comes to this, they come back to the supervisor.
        self.arbiter.spawn_fn(move || delivery.make());
    }

    fn take(&self) -> Vec<Letter> {
        mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A delivery under way. Dropped before it was made, it drops the letters: they hold their jobs, and the jobs hold this node.
struct Delivery(Option<Arc<Home>>);

impl Delivery {
    fn make(mut self) {
        if let Some(home) = self.0.take() {
            home.take().into_iter().for_each(Letter::deliver);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(home) = self.0.take() {
            drop(home.take());
        }
    }
}

impl Placement {
    pub(crate) fn on(arbiters: Vec<ArbiterHandle>) -> Self {
        let home = |arbiter| Arc::new(Home { arbiter, letters: Mutex::default() });
        Self::Arbiters(arbiters.into_iter().map(home).collect())
    }

    /// Starts the `nth` actor, whose mailbox was made before so that its address is known at once.
    ///
    /// It is made where it lives: what waits for a busy thread is small, and nothing is copied from the memory of one
    /// thread to that of another.
    pub(crate) fn start<F>(&self, nth: u64, make: F, mailbox: AddressReceiver<JobActor>)
    where
        F: FnOnce() -> JobActor + Send + 'static,
    {
        let start = move || {
            actix_rt::spawn(Context::with_receiver(mailbox).into_future(make()));
        };
        match self.home_of(nth) {
            Some(home) => {
                home.arbiter.spawn_fn(start);
            }
            None => start(),
        }
    }

    /// Sends a letter to the `nth` actor.
    pub(crate) fn post(&self, nth: u64, letter: Letter) {
        match self.home_of(nth) {
            Some(home) => home.post(letter),
            None => letter.deliver(),
        }
    }

    fn home_of(&self, nth: u64) -> Option<&Arc<Home>> {
        match self {
            Self::Arbiters(homes) => homes.get(usize::try_from(nth).unwrap_or_default() % homes.len().max(1)),
            Self::Here => None,
        }
    }

    /// Whether job actors live on threads of their own.
    pub(crate) fn has_threads(&self) -> bool {
        matches!(self, Self::Arbiters(_))
    }

    /// Whether every thread turns.
    pub(crate) fn ping(&self) -> impl Future<Output = bool> + use<> {
        let homes = match self {
            Self::Arbiters(homes) => &homes[..],
            Self::Here => &[],
        };
        let answers: Vec<_> = homes
            .iter()
            .map(|home| {
                let (reply, answer) = oneshot::channel();
                home.arbiter.spawn_fn(move || {
                    // Whoever asked may have given up.
                    let _ = reply.send(());
                });
                answer
            })
            .collect();
        async move { join_all(answers).await.iter().all(Result::is_ok) }
    }
}
