//! How a run ends: what is counted, published and told to hooks once it is known what became of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{handle::JobHandle, hook_calls};
use crate::{
    core::job::{End, Ended},
    event::{CancelReason, EventKind, Outcome},
    hooks::FinishedRun,
    name::RunId,
    port::Completed,
    run::Run,
};

/// What is to be said of a run whose body is over. Dropped, it says that the run is lost.
pub(crate) struct Conclusion {
    job: Arc<JobHandle>,
    at: DateTime<Utc>,
    unsaid: Option<Unsaid>,
}

struct Unsaid {
    ended: Ended,
    /// If hooks want to hear of its end.
    run: Option<Run>,
    /// Who waits for it.
    waiting: Option<oneshot::Sender<Outcome>>,
}

impl Conclusion {
    /// Of a run that ends now.
    pub(crate) fn new(
        job: Arc<JobHandle>,
        ended: Ended,
        run: Option<Run>,
        waiting: Option<oneshot::Sender<Outcome>>,
    ) -> Self {
        let at = job.node().clock.now();
        Self { job, at, unsaid: Some(Unsaid { ended, run, waiting }) }
    }

    pub(crate) fn run(&self) -> Option<(RunId, Outcome)> {
        self.unsaid.as_ref().map(|unsaid| (unsaid.ended.run, unsaid.ended.outcome))
    }

    /// The run came to what its body made of it.
    fn say(mut self) {
        if let Some(Unsaid { ended, run, waiting }) = self.unsaid.take() {
            // Perhaps nobody waits.
            let _ = waiting.map(|waiting| waiting.send(ended.outcome));
            conclude(&self.job, ended, run, self.at);
        }
    }

    /// What the store says became of its end.
    pub(crate) fn on_answered(self, answer: &Completed) {
        match answer {
            Completed::Recorded { .. } | Completed::Unknown => self.say(),
            Completed::Stale | Completed::Locked | Completed::Unavailable { .. } => drop(self),
        }
    }
}

impl Drop for Conclusion {
    fn drop(&mut self) {
        if let Some(Unsaid { ended, run, waiting }) = self.unsaid.take() {
            let _ = waiting.map(|waiting| waiting.send(Outcome::Lost));
            let cancelled = Some(CancelReason::LockLost);
            let end = End::Aborted;
            let ended = Ended { outcome: Outcome::Cancelled, cancelled, recorded: false, end, ..ended };
            conclude(&self.job, ended, run, self.at);
        }
    }
}

/// Counts a run that ended at an instant, and says so: to whoever listens, and to the hooks if the run is at hand.
pub(super) fn conclude(job: &Arc<JobHandle>, ended: Ended, run_at_hand: Option<Run>, at: DateTime<Utc>) {
    let Ended { run, outcome, cancelled, end, started_at, took, recorded, .. } = ended;
    if recorded {
        job.meters.ended(outcome);
    }
    if started_at.is_some() {
        job.meters.run_duration.record(took.as_secs_f64());
    }
    if let (Some(run), true) = (run_at_hand, started_at.is_some()) {
        let error = match &end {
            End::Failed { error: text, .. } | End::Panicked(text) => Some(text.share()),
            End::Returned | End::Aborted | End::BetweenAttempts | End::NotStarted { .. } => None,
        };
        hook_calls::ended(job, FinishedRun { run, outcome, error, cancelled, took });
    }
    let name = || job.definition.name.clone();
    if outcome == Outcome::Succeeded {
        return job.node().publisher.publish_routine_at(at, || EventKind::RunSucceeded {
            job: name(),
            run,
            took,
        });
    }
    job.node().publisher.publish_at(at, || {
        let name = name();
        match (outcome, end) {
            (Outcome::Failed, End::Failed { error, .. }) => {
                EventKind::RunFailed { job: name, run, took, error: error.share() }
            }
            (Outcome::Panicked, End::Panicked(message)) => {
                EventKind::RunPanicked { job: name, run, took, message: message.share() }
            }
            (Outcome::TimedOut, _) => EventKind::RunTimedOut { job: name, run, took },
            (Outcome::Cancelled, End::NotStarted { veto: Some(reason) }) => {
                let reason = Some(reason.share());
                EventKind::RunCancelled { job: name, run, took, why: CancelReason::Vetoed, reason }
            }
            (Outcome::Cancelled, End::NotStarted { veto: None }) => {
                let why = cancelled.unwrap_or(CancelReason::NotStarted);
                EventKind::RunCancelled { job: name, run, took, why, reason: None }
            }
            (
                Outcome::Cancelled | Outcome::Failed | Outcome::Panicked | Outcome::Lost | Outcome::Succeeded,
                _,
            ) => {
                let why = cancelled.unwrap_or(CancelReason::Dropped);
                EventKind::RunCancelled { job: name, run, took, why, reason: None }
            }
        }
    });
}
