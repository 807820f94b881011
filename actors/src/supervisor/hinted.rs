//! A wait for a hint, after which the supervisor looks.

use actix::prelude::*;
use tokio::task::JoinHandle;

use super::SupervisorActor;

/// A task that waits for a hint, and tells the supervisor; dropped, it waits no more. It is not a future of the
/// actor's: each message to the actor would poll that as well.
pub(super) struct Hinted(JoinHandle<()>);

impl Hinted {
    /// The supervisor is sent what is awaited, unless it has stopped.
    pub(super) fn then_tell<M>(
        supervisor: &Addr<SupervisorActor>,
        hint: impl Future<Output = M> + 'static,
    ) -> Self
    where
        M: Message<Result: Send> + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        let supervisor = supervisor.downgrade();
        Self(actix::spawn(async move {
            let hint = hint.await;
            if let Some(supervisor) = supervisor.upgrade() {
                supervisor.do_send(hint);
            }
        }))
    }
}

impl Drop for Hinted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
