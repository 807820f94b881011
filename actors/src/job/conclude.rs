//! How a run ends: what is counted, published and told to hooks once it is known what became of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{
    handle::JobHandle,
    hook_calls,
    record::{RunNotes, record_end},
};
use crate::{
    core::{
        end_text::EndText,
        job::{BodyEnd, RunEnded},
    },
    event::{CancelReason, EventKind, Outcome},
    hooks::FinishedRun,
    name::{JobName, RunId},
    port::Completed,
    run::Run,
};

/// What is to be said of a run whose body is over. Dropped, it says that the run is lost.
pub(crate) struct Conclusion {
    job: Arc<JobHandle>,
    /// When that was, if anybody wants to know.
    at: Option<DateTime<Utc>>,
    unsaid: Option<Unsaid>,
}

struct Unsaid {
    ended: RunEnded,
    /// If hooks want to hear of its end.
    run: Option<Run>,
    /// Who waits for it.
    waiting: Option<oneshot::Sender<Outcome>>,
    notes: RunNotes,
}

impl Conclusion {
    /// Of a run that ends now.
    pub(crate) fn new(
        job: Arc<JobHandle>,
        ended: RunEnded,
        run: Option<Run>,
        waiting: Option<oneshot::Sender<Outcome>>,
        notes: RunNotes,
    ) -> Self {
        let node = job.node();
        let at = node.publisher.is_heard().then(|| node.clock.now());
        Self { job, at, unsaid: Some(Unsaid { ended, run, waiting, notes }) }
    }

    pub(crate) fn job(&self) -> &Arc<JobHandle> {
        &self.job
    }

    pub(crate) fn run(&self) -> Option<(RunId, Outcome)> {
        self.unsaid.as_ref().map(|unsaid| (unsaid.ended.run, unsaid.ended.outcome))
    }

    /// The run came to what its body made of it.
    fn say(mut self) {
        if let Some(Unsaid { ended, run, waiting, notes }) = self.unsaid.take() {
            let outcome = ended.outcome;
            conclude(&self.job, ended, run, self.at, notes);
            // Now, so that whoever waited finds it recorded. Perhaps nobody does.
            let _ = waiting.map(|waiting| waiting.send(outcome));
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
        if let Some(Unsaid { ended, run, waiting, notes }) = self.unsaid.take() {
            let cancelled = Some(CancelReason::LockLost);
            let end = BodyEnd::Aborted;
            let ended = RunEnded { outcome: Outcome::Cancelled, cancelled, recorded: false, end, ..ended };
            conclude(&self.job, ended, run, self.at, notes);
            let _ = waiting.map(|waiting| waiting.send(Outcome::Lost));
        }
    }
}

/// Counts and records a run that ended at an instant, or now, and says so: to whoever listens, and to the hooks
/// if the run is at hand.
pub(super) fn conclude(
    job: &Arc<JobHandle>,
    ended: RunEnded,
    run_at_hand: Option<Run>,
    at: Option<DateTime<Utc>>,
    notes: RunNotes,
) {
    record_end(job, &ended, notes);
    let RunEnded { outcome, cancelled, started_at, took, recorded, .. } = ended;
    if let Some(alarm) = job.definition.alarm() {
        let is_to_be_asked = alarm.lock().ended(ended.run, ended.outcome_told(), took, job.wall());
        job.alarm_noted(is_to_be_asked);
    }
    if recorded {
        job.meters.ended(outcome);
    }
    if started_at.is_some() {
        job.meters.took(took);
    }
    if let (Some(run), true) = (run_at_hand, started_at.is_some()) {
        let error = ended.end.error().map(EndText::share);
        hook_calls::ended(job, FinishedRun { run, outcome, error, cancelled, took });
    }
    let event = || event_of(job.definition.name.clone(), ended);
    let publisher = &job.node().publisher;
    match outcome {
        Outcome::Succeeded => publisher.publish_routine_at(at, event),
        Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Cancelled | Outcome::Lost => {
            publisher.publish_at(at, event);
        }
    }
}

/// What is published of a run that ended.
fn event_of(job: JobName, ended: RunEnded) -> EventKind {
    let RunEnded { run, outcome, cancelled, end, took, .. } = ended;
    let cancelled_for = |why| EventKind::RunCancelled { job: job.clone(), run, took, why, reason: None };
    match (outcome, end) {
        (Outcome::Succeeded, _) => EventKind::RunSucceeded { job, run, took },
        (Outcome::Failed, BodyEnd::Failed { error, .. }) => {
            EventKind::RunFailed { job, run, took, error: error.share() }
        }
        (Outcome::Panicked, BodyEnd::Panicked(message)) => {
            EventKind::RunPanicked { job, run, took, message: message.share() }
        }
        (Outcome::TimedOut, _) => EventKind::RunTimedOut { job, run, took },
        (Outcome::Cancelled, BodyEnd::NotStarted { veto: Some(reason) }) => {
            let reason = Some(reason.share());
            EventKind::RunCancelled { job, run, took, why: CancelReason::Vetoed, reason }
        }
        (Outcome::Cancelled, BodyEnd::NotStarted { veto: None }) => {
            cancelled_for(cancelled.unwrap_or(CancelReason::NotStarted))
        }
        (Outcome::Cancelled | Outcome::Failed | Outcome::Panicked | Outcome::Lost, _) => {
            cancelled_for(cancelled.unwrap_or(CancelReason::Dropped))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        core::job::Severity,
        name::{NodeId, RunIds},
    };

    #[test]
    fn the_event_of_an_end_is_told_by_its_outcome_and_its_reason() {
        let job = || JobName::new("report").unwrap();
        let run = RunIds::of(NodeId::numbered(1)).next(Utc::now());
        let took = Duration::from_secs(3);
        let error: Arc<str> = "no paper".into();
        let failed = BodyEnd::Failed { error: "no paper".into(), severity: Severity::Transient };
        let vetoed = BodyEnd::NotStarted { veto: Some("no paper".into()) };
        let cancelled = |why, reason| EventKind::RunCancelled { job: job(), run, took, why, reason };
        let (requested, lock_lost) = (CancelReason::Requested, CancelReason::LockLost);
        for (outcome, why, end, event) in [
            (Outcome::Succeeded, None, BodyEnd::Returned, EventKind::RunSucceeded { job: job(), run, took }),
            (
                Outcome::Failed,
                None,
                failed,
                EventKind::RunFailed { job: job(), run, took, error: error.clone() },
            ),
            (
                Outcome::Panicked,
                None,
                BodyEnd::Panicked("no paper".into()),
                EventKind::RunPanicked { job: job(), run, took, message: error.clone() },
            ),
            (
                Outcome::TimedOut,
                Some(CancelReason::TimedOut),
                BodyEnd::Aborted,
                EventKind::RunTimedOut { job: job(), run, took },
            ),
            (Outcome::Cancelled, None, vetoed, cancelled(CancelReason::Vetoed, Some(error.clone()))),
            (
                Outcome::Cancelled,
                None,
                BodyEnd::NotStarted { veto: None },
                cancelled(CancelReason::NotStarted, None),
            ),
            (
                Outcome::Cancelled,
                Some(requested),
                BodyEnd::NotStarted { veto: None },
                cancelled(requested, None),
            ),
            (Outcome::Cancelled, Some(requested), BodyEnd::Returned, cancelled(requested, None)),
            (Outcome::Cancelled, None, BodyEnd::Aborted, cancelled(CancelReason::Dropped, None)),
            (Outcome::Lost, Some(lock_lost), BodyEnd::Aborted, cancelled(lock_lost, None)),
        ] {
            let (started_at, aborted, recorded, facts) = (None, false, true, None);
            let ended =
                RunEnded { run, facts, outcome, cancelled: why, aborted, recorded, end, started_at, took };

            assert_eq!(event_of(job(), ended), event, "{outcome:?}");
        }
    }
}
