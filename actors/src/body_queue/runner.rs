//! Who begins the runs that wait for it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::task::coop::has_budget_remaining;

use super::{Begin, BodyQueue};
use crate::contained::unharmed;

/// So many runs begin before others of the runner's thread have their turn.
const RUNS_A_TURN: usize = 64;

/// Begins the runs that wait, one after the other.
pub(super) struct Runner<T: Begin>(Arc<BodyQueue<T>>);

impl<T: Begin> Runner<T> {
    pub(super) fn of(queue: Arc<BodyQueue<T>>) -> Self {
        Self(queue)
    }
}

impl<T: Begin> Future for Runner<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let queue = &self.0;
        let _entered = queue.bodies.enter();
        for _ in 0..RUNS_A_TURN {
            let Some(run) = queue.next(task.waker()) else { return Poll::Pending };
            // What panics in it, it contains itself; but the runner is not lost over a fault.
            if let Some(rest) = unharmed(|| run.begin()).flatten() {
                queue.bodies.spawn(rest);
            }
            if !has_budget_remaining() {
                // The next one would find nothing ready.
                break;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Its thread ends.
impl<T: Begin> Drop for Runner<T> {
    fn drop(&mut self) {
        self.0.runner_is_gone();
    }
}
