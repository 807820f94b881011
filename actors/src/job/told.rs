//! What a job is told within a step, by whoever answers at once.

use std::{collections::VecDeque, sync::Arc};

use super::{ask::AnswersAtOnce, handle::JobHandle, message::JobMessage};

/// How often one step may ask and be answered at once. What it asks beyond this is asked by a message, so that other jobs
/// have their turn.
const AT_ONCE_MAX: u32 = 64;

/// The answers that a step has still to take in.
///
/// If the step panics they go the way of every message: to the actor that follows.
pub(super) struct Told {
    job: Arc<JobHandle>,
    waiting: VecDeque<JobMessage>,
    asked: u32,
}

impl Told {
    pub(super) fn new(job: Arc<JobHandle>) -> Self {
        Self { job, waiting: VecDeque::new(), asked: 0 }
    }

    /// Whoever answers at once, if anybody does, and this step may ask once more.
    pub(super) fn at_once(&mut self) -> Option<&dyn AnswersAtOnce> {
        self.asked += 1;
        self.job.host.asks.at_once().filter(|_| self.asked <= AT_ONCE_MAX)
    }

    pub(super) fn push(&mut self, answer: JobMessage) {
        self.waiting.push_back(answer);
    }

    pub(super) fn next(&mut self) -> Option<JobMessage> {
        self.waiting.pop_front()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        for answer in self.waiting.drain(..) {
            self.job.post(answer);
        }
    }
}
