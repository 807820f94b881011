//! What jobs ask of whoever serves claims, and the ways there: at once, if the store can, or by a message.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use smallvec::SmallVec;

use super::{conclude::Conclusion, handle::JobHandle, told::AnswerAtOnce};
use crate::{
    coalesced::Coalesced,
    core::job::{Advance, Claim, Input},
    name::LockKey,
};

/// What a job asks.
pub(crate) enum Ask {
    Claim(ClaimRun),
    Advance(AdvanceCursor),
    RecordEnd(RecordEnd),
}

/// Asks the store for a run. The answer goes to the job's machine.
pub(crate) struct ClaimRun {
    pub(crate) job: Arc<JobHandle>,
    pub(crate) claim: Claim,
    /// The lock key of which it takes a slot: that of the definition under which the run was asked for first.
    pub(crate) key: LockKey,
    /// How often it was found locked.
    pub(crate) tries: u32,
}

/// Asks the store to move a job's cursor over skipped ticks. The answer goes to the job's machine.
pub(crate) struct AdvanceCursor {
    pub(crate) job: Arc<JobHandle>,
    pub(crate) advance: Advance,
    /// How often it was found locked.
    pub(crate) tries: u32,
}

/// A run is over: record it, and free its key.
pub(crate) struct RecordEnd {
    pub(crate) conclusion: Conclusion,
    /// The job's next tick counts from this end.
    pub(crate) from_completion: bool,
}

/// Jobs have asked something: see [`Asks::take`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AsksWait;

/// Answers what a job asks on the job's own thread.
///
/// What it does not answer, because no session is open or the run was granted the other way, is asked by a
/// message.
pub(crate) trait AnswersAtOnce: Send + Sync {
    /// Asks the store for a run that takes a slot of the key, which was decided when the monotonic clock read
    /// `asked_at`. Answers what the job is to be told, and what that clock read then.
    fn claim(
        &self,
        job: &Arc<JobHandle>,
        claim: &Claim,
        key: &LockKey,
        asked_at: Duration,
    ) -> Option<(AnswerAtOnce, Duration)>;

    /// Asks the store to move the job's cursor. Answers what the job is to be told.
    fn advance(&self, job: &Arc<JobHandle>, advance: &Advance) -> Option<AnswerAtOnce>;

    /// Has the end of a run recorded. Answers what the job is to be told; the end, if it is not answered.
    #[allow(clippy::result_large_err, reason = "it is no error, and goes the other way")]
    fn record_end(&self, end: RecordEnd) -> Result<Answers, RecordEnd>;

    /// Answers nothing any more, and forgets what is held.
    fn close(&self);
}

/// What a job is told of the end of a run: where its cursor is, and that it is paused.
pub(crate) type Answers = SmallVec<[Input; 2]>;

/// What the jobs of a node ask, on its way to whoever serves claims.
pub(crate) struct Asks {
    waiting: Coalesced<Ask>,
    server: Recipient<AsksWait>,
    at_once: Option<Arc<dyn AnswersAtOnce>>,
}

impl Asks {
    pub(crate) fn new(server: Recipient<AsksWait>, at_once: Option<Arc<dyn AnswersAtOnce>>) -> Self {
        Self { waiting: Coalesced::default(), server, at_once }
    }

    /// Whoever answers at once, if anybody does.
    pub(crate) fn at_once(&self) -> Option<&dyn AnswersAtOnce> {
        self.at_once.as_deref()
    }

    /// Has the end of a run recorded, at once or by a message. Answers what the job is to be told already.
    pub(crate) fn record_end(&self, end: RecordEnd) -> Answers {
        let asked = match self.at_once() {
            Some(at_once) => at_once.record_end(end),
            None => Err(end),
        };
        asked.unwrap_or_else(|end| {
            self.ask(Ask::RecordEnd(end));
            Answers::default()
        })
    }

    /// Asks. Nobody answers once this is closed: what is asked then is dropped, since it holds its job, and
    /// the job holds this.
    pub(crate) fn ask(&self, ask: Ask) {
        if self.waiting.push(ask) {
            self.server.do_send(AsksWait);
        }
    }

    /// Takes all that was asked, in order.
    pub(crate) fn take(&self) -> Vec<Ask> {
        self.waiting.take()
    }

    /// Takes no more asks.
    pub(crate) fn close(&self) {
        self.waiting.close();
        self.at_once.iter().for_each(|at_once| at_once.close());
    }
}
