//! Where runs begin: on the engine's own threads for bodies, or where the application says.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Begin, BodyQueue, Watch};
use crate::port::Spawner;

/// Where runs begin.
pub(crate) enum BodyPlace<T: Begin> {
    /// On the engine's own threads.
    Own(Arc<BodyQueue<T>>),
    /// Where the application says, each as a task.
    Given(Arc<dyn Spawner>),
}

impl<T: Begin> BodyPlace<T> {
    /// Has a run begun: at once as a task, or together with others, by [`start_all`](Self::start_all).
    pub(crate) fn start(&self, run: T, together: &mut Vec<T>) {
        match self {
            Self::Own(_) if run.is_quick() => together.push(run),
            Self::Own(queue) => queue.spawn(run),
            Self::Given(spawner) => spawner.spawn(run.task()),
        }
    }

    /// Has these begun, in their order. Answers what is to be [watched](Self::watch) if one of them waits
    /// behind another.
    pub(crate) fn start_all(&self, together: &mut Vec<T>) -> Option<Watch> {
        match self {
            Self::Own(queue) => queue.push_all(together),
            Self::Given(spawner) => {
                together.drain(..).for_each(|run| spawner.spawn(run.task()));
                None
            }
        }
    }

    /// Sees to it that no run waits for long behind bodies that are not quick. Answers when this is to be done
    /// again, unless nothing of what was watched waits any more.
    pub(crate) fn watch(&self, watch: &mut Watch) -> Option<Instant> {
        match self {
            Self::Own(queue) => queue.watch(watch),
            Self::Given(_) => None,
        }
    }

    /// Has these watched by another thread: who watched them is about to do what may block.
    pub(crate) fn hand_over(&self, watch: Watch) {
        match self {
            Self::Own(queue) => queue.hand_over(watch),
            Self::Given(_) => {}
        }
    }
}
