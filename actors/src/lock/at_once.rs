//! Answering jobs at once, for a store in the memory of this process: on the thread of the job that asks,
//! without a round trip and without the lock actor.
//!
//! The lock actor opens and closes the session, hears its notifications, and serves whatever is not answered
//! here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;

use super::{
    consequences::{after_advance, after_claim, after_end, note_end},
    holdings::{Held, Holdings},
    report::Report,
    rounds::{cursor_advance, request},
};
use crate::{
    contained::panic_text,
    core::{
        job::{Advance, Claim, Input},
        operation::Operation,
        text::{TEXT_MAX, one_line},
    },
    job::{AnswerAtOnce, Answers, AnswersAtOnce, JobHandle, RecordEnd},
    name::LockKey,
    node::Node,
    port::{Advanced, AtOnce, Completed, Verdict},
};

/// The way to a store that answers at once.
pub(crate) struct OnTheSpot {
    node: Arc<Node>,
    reports: Recipient<Report>,
    holdings: Arc<Holdings>,
}

impl OnTheSpot {
    /// If the store of the node, which has one node, answers at once.
    pub(crate) fn for_store_of(
        node: &Arc<Node>,
        holdings: &Arc<Holdings>,
        reports: Recipient<Report>,
        single_node: bool,
    ) -> Option<Arc<dyn AnswersAtOnce>> {
        node.locker.at_once().filter(|_| single_node)?;
        Some(Arc::new(Self { node: node.clone(), reports, holdings: holdings.clone() }))
    }

    /// Asks the store. If it panics it is not known what it did: the answer is one that is asked again.
    fn ask<T>(
        &self,
        call: impl FnOnce(&dyn AtOnce) -> Option<T>,
        unavailable: impl FnOnce(String) -> T,
    ) -> Option<T> {
        let store = self.node.locker.at_once()?;
        catch_unwind(AssertUnwindSafe(|| call(store))).unwrap_or_else(|payload| {
            Some(unavailable(one_line(
                format_args!("the store panicked: {}", panic_text(&*payload)),
                TEXT_MAX,
            )))
        })
    }

    fn note(&self, operation: Operation, unavailable: Option<&String>) {
        match unavailable {
            Some(reason) => self.node.failures.failed(operation, reason),
            None => self.node.failures.succeeded(operation),
        }
    }
}

impl AnswersAtOnce for OnTheSpot {
    fn claim(
        &self,
        job: &Arc<JobHandle>,
        claim: &Claim,
        key: &LockKey,
        asked_at: Duration,
    ) -> Option<(AnswerAtOnce, Duration)> {
        let request = request(job, claim, key);
        let (session, verdict) = self.holdings.ask(claim.run, || {
            let (session, verdict) = self.ask(
                |store| store.claim_now(&request).map(|(session, verdict)| (Some(session), verdict)),
                |reason| (None, Verdict::Unavailable { reason }),
            )?;
            let held = match verdict {
                Verdict::Granted { token, .. } => Some(Held::new(job.clone(), request.key.clone(), token)),
                _ => None,
            };
            Some(((session, verdict), held))
        })?;
        let answered_at = self.node.clock.elapsed();
        let took = answered_at.saturating_sub(asked_at);
        self.node.meters.claim_duration.record(took.as_secs_f64());
        let unavailable = if let Verdict::Unavailable { reason } = &verdict { Some(reason) } else { None };
        self.note(Operation::Claim, unavailable);
        after_claim(job, claim.tick.as_ref(), &verdict, &self.reports);
        let run = claim.run;
        let answer = match (session, verdict) {
            (Some(session), verdict @ Verdict::Granted { .. }) => {
                AnswerAtOnce::Granted { session, run, verdict }
            }
            (_, verdict) => AnswerAtOnce::Input(Input::Claimed { run, verdict }),
        };
        Some((answer, answered_at))
    }

    fn advance(&self, job: &Arc<JobHandle>, advance: &Advance) -> Option<AnswerAtOnce> {
        let asked = cursor_advance(job, advance);
        let answer =
            self.ask(|store| store.advance_now(&asked), |reason| Advanced::Unavailable { reason })?;
        let unavailable = if let Advanced::Unavailable { reason } = &answer { Some(reason) } else { None };
        self.note(Operation::Advance, unavailable);
        after_advance(job, advance, &answer, &self.reports);
        Some(AnswerAtOnce::Input(Input::Advanced(answer)))
    }

    fn record_end(&self, end: RecordEnd) -> Result<Answers, RecordEnd> {
        let asked = end.conclusion.run().and_then(|(run, outcome)| {
            self.holdings.end(run, |held| {
                let completion = held.completion(run, outcome, end.from_completion);
                let complete = |store: &dyn AtOnce| store.complete_now(&completion);
                match self.ask(complete, |reason| Completed::Unavailable { reason })? {
                    Completed::Unavailable { .. } | Completed::Locked => None,
                    answer @ (Completed::Recorded { .. } | Completed::Stale | Completed::Unknown) => {
                        Some((completion, answer))
                    }
                }
            })
        });
        // The lock actor asks again, until it is recorded.
        let Some((completion, answer)) = asked else { return Err(end) };
        self.note(Operation::Complete, None);
        note_end(&self.node, &completion, &answer, &self.reports);
        let RecordEnd { conclusion, from_completion } = end;
        let job = conclusion.job().clone();
        conclusion.on_answered(&answer);
        Ok(after_end(&job, from_completion, &answer))
    }

    fn close(&self) {
        self.holdings.close();
    }
}
