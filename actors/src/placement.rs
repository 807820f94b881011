//! Where job actors live.

use actix::{Context, dev::channel::AddressReceiver};
use actix_rt::ArbiterHandle;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::job::JobActor;

/// Where job actors live.
#[derive(Clone)]
pub(crate) enum Placement {
    /// On arbiters, in turn.
    Arbiters(Vec<ArbiterHandle>),
    /// On the caller's thread and local set.
    Here,
}

impl Placement {
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
        match self {
            Self::Arbiters(arbiters) => {
                let turn = usize::try_from(nth).unwrap_or_default() % arbiters.len().max(1);
                if let Some(arbiter) = arbiters.get(turn) {
                    arbiter.spawn_fn(start);
                }
            }
            Self::Here => start(),
        }
    }

    /// Whether every thread turns.
    pub(crate) fn ping(&self) -> impl Future<Output = bool> + use<> {
        let arbiters = match self {
            Self::Arbiters(arbiters) => &arbiters[..],
            Self::Here => &[],
        };
        let answers: Vec<_> = arbiters
            .iter()
            .map(|arbiter| {
                let (reply, answer) = oneshot::channel();
                arbiter.spawn_fn(move || {
                    // Whoever asked may have given up.
                    let _ = reply.send(());
                });
                answer
            })
            .collect();
        async move { join_all(answers).await.iter().all(Result::is_ok) }
    }
}
