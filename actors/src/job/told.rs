//! What a job is told within a step, by whoever answers at once.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{ask::AnswersAtOnce, handle::JobHandle, message::JobMessage};
use crate::{
    core::job::Input,
    name::RunId,
    port::{Session, Verdict},
};

/// How often one step may ask and be answered at once. What it asks beyond this is asked by a message, so
/// that other jobs have their turn.
const AT_ONCE_MAX: u32 = 64;

/// What a job is told at once.
pub(crate) enum AnswerAtOnce {
    /// An input for the machine.
    Input(Input),
    /// A claim was granted to a session.
    Granted { session: Session, run: RunId, verdict: Verdict },
}

impl From<AnswerAtOnce> for JobMessage {
    fn from(answer: AnswerAtOnce) -> Self {
        match answer {
            AnswerAtOnce::Input(input) => Self::Input(input),
            AnswerAtOnce::Granted { session, run, verdict } => Self::Granted { session, run, verdict },
        }
    }
}

/// The answers that a step has still to take in.
///
/// If the step panics they go the way of every message: to the actor that follows.
#[derive(Default)]
pub(super) struct Told {
    /// Whose they are, if there was any.
    job: Option<Arc<JobHandle>>,
    /// In their order; nearly always one, which takes no memory of its own.
    waiting: SmallVec<[AnswerAtOnce; 1]>,
    turns: Turns,
    /// What the monotonic clock read when the job decided what it asks.
    pub(super) asked_at: Duration,
    /// What the monotonic clock read when a claim was answered.
    pub(super) answered_at: Option<Duration>,
}

impl Told {
    /// Whoever answers at once, if anybody does, and this step may ask once more.
    pub(super) fn at_once<'a>(&mut self, job: &'a JobHandle) -> Option<&'a dyn AnswersAtOnce> {
        let may = self.turns.take();
        job.host.asks.at_once().filter(|_| may)
    }

    pub(super) fn push(&mut self, job: &Arc<JobHandle>, answer: AnswerAtOnce) {
        self.job.get_or_insert_with(|| job.clone());
        self.waiting.push(answer);
    }

    pub(super) fn next(&mut self) -> Option<AnswerAtOnce> {
        (!self.waiting.is_empty()).then(|| self.waiting.remove(0))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            self.waiting.drain(..).for_each(|answer| job.post(answer.into()));
        }
    }
}

/// How often a step may still ask at once.
struct Turns(u32);

impl Default for Turns {
    fn default() -> Self {
        Self(AT_ONCE_MAX)
    }
}

impl Turns {
    /// Takes one, if one is left.
    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_asks_at_once_no_more_often_than_it_may() {
        let mut turns = Turns::default();

        let asked = (0..1_000).filter(|_| turns.take()).count();

        assert_eq!(asked, 64);
    }
}
