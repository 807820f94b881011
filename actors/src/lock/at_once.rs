//! Answering jobs at once, for a store in the memory of this process: on the thread of the job that asks, without a round
//! trip and without the lock actor.
//!
//! The lock actor opens and closes the session, hears its notifications, and serves whatever is not answered here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use foldhash::HashMap;

use super::{
    actor::Held,
    consequences::{after_advance, after_claim, after_end, note_end},
    report::Report,
    rounds::{cursor_advance, request},
};
use crate::{
    core::{
        job::{Advance, Claim, Input},
        operation::Operation,
    },
    job::{Answers, AnswersAtOnce, JobHandle, JobMessage, RecordEnd},
    name::{LockKey, RunId},
    node::Node,
    port::{AtOnce, Verdict},
};

/// What was granted at once, and the way to the store.
pub(crate) struct OnTheSpot {
    node: Arc<Node>,
    reports: Recipient<Report>,
    /// The claims whose ends are not recorded; `None` once nothing is answered any more.
    held: Mutex<Option<HashMap<RunId, Held>>>,
}

impl OnTheSpot {
    /// If the store of the node answers at once.
    pub(crate) fn new(node: &Arc<Node>, reports: Recipient<Report>) -> Option<Arc<Self>> {
        node.locker.at_once()?;
        let held = Mutex::new(Some(HashMap::default()));
        Some(Arc::new(Self { node: node.clone(), reports, held }))
    }

    /// Whose run it is, if it was granted here and its end is not recorded.
    pub(super) fn holder(&self, run: RunId) -> Option<Arc<JobHandle>> {
        Some(self.held().as_ref()?.get(&run)?.job.clone())
    }

    fn held(&self) -> MutexGuard<'_, Option<HashMap<RunId, Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> Option<&dyn AtOnce> {
        self.node.locker.at_once()
    }
}

impl AnswersAtOnce for OnTheSpot {
    fn claim(&self, job: &Arc<JobHandle>, claim: &Claim, key: &LockKey) -> Option<JobMessage> {
        let request = request(job, claim, key);
        let began = self.node.clock.elapsed();
        // Locked until the run is held: nobody may look for it in between.
        let mut held = self.held();
        let open = held.as_mut()?;
        let (session, verdict) = self.store()?.claim_now(&request)?;
        if let Verdict::Granted { token, .. } = verdict {
            let (job, key) = (job.clone(), request.key);
            open.insert(claim.run, Held { job, key, token, tries: 0, ended: None });
            self.node.meters.locks_held.set(open.len() as f64);
        }
        drop(held);
        let took = self.node.clock.elapsed().saturating_sub(began);
        self.node.meters.claim_duration.record(took.as_secs_f64());
        self.node.failures.succeeded(Operation::Claim);
        after_claim(job, claim.tick.as_ref(), &verdict, &self.reports);
        let run = claim.run;
        Some(match verdict {
            Verdict::Granted { .. } => JobMessage::Granted { session, run, verdict },
            verdict => JobMessage::Input(Input::Claimed { run, verdict }),
        })
    }

    fn advance(&self, job: &Arc<JobHandle>, advance: &Advance) -> Option<JobMessage> {
        let answer = self.store()?.advance_now(&cursor_advance(job, advance))?;
        self.node.failures.succeeded(Operation::Advance);
        after_advance(job, advance, &answer, &self.reports);
        Some(JobMessage::Input(Input::Advanced(answer)))
    }

    fn record_end(&self, end: RecordEnd) -> Result<Answers, RecordEnd> {
        let asked = end.conclusion.run().and_then(|(run, outcome)| {
            let completion = self.held().as_ref()?.get(&run)?.completion(run, outcome, end.from_completion);
            let answer = self.store()?.complete_now(&completion)?;
            self.node.failures.succeeded(Operation::Complete);
            note_end(&self.node, &completion, &answer, &self.reports);
            let mut held = self.held();
            let open = held.as_mut()?;
            let released = open.remove(&run)?;
            self.node.meters.locks_held.set(open.len() as f64);
            Some((released.job, answer))
        });
        let Some((job, answer)) = asked else { return Err(end) };
        let RecordEnd { conclusion, from_completion } = end;
        conclusion.on_answered(&answer);
        Ok(after_end(&job, from_completion, &answer))
    }

    fn close(&self) {
        let held = self.held().take();
        // Only now, when nothing is locked: what is dropped may ask.
        drop(held);
    }
}
