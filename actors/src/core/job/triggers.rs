//! Manual triggers: what becomes of them until they start, and what whoever triggered the job is told.

use std::time::Duration;

use super::{
    BodyEnd, Effect, Effects, JobMachine, Refusal, RunEnded, TriggerAnswer,
    unscheduled::{Caller, Cause, UnscheduledRun},
};
use crate::{
    core::{policy::Overlap, time::Now},
    event::{CancelReason, Outcome},
    name::RunId,
};

impl JobMachine {
    pub(super) fn on_trigger(&mut self, now: Now, effects: &mut Effects) {
        let refused = match self.runs.spend_id(now) {
            _ if self.closing.has_begun() => Some(Refusal::Closing),
            None => Some(Refusal::Overlap { holder: None }),
            Some(_) => self.refusal(),
        };
        if let Some(refusal) = refused {
            effects.push(Effect::Answer { run: now.spare, answer: Err(refusal) });
            return;
        }
        let cause = Cause::Trigger(Caller::Waits);
        self.unscheduled.queue.queue_mut().push_back(UnscheduledRun::new(now.spare, cause));
        self.drain_unscheduled(now, effects);
        self.answer_those_behind(effects);
    }

    /// The leader asks for a run of a backfill. It asks again: such a run waits for nothing here but a permit.
    pub(super) fn on_backfill(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        let in_progress = self.unscheduled.queue.len() + self.runs.active.len();
        let max = match self.policies.overlap {
            Overlap::Skip | Overlap::Queue(_) | Overlap::Replace => 1,
            Overlap::Allow(max) => usize::try_from(max).unwrap_or(usize::MAX),
        };
        let refused = if self.closing.has_begun() {
            Some(Refusal::Closing)
        } else if self.pause.is_on() {
            Some(Refusal::Paused)
        } else if self.goes_on(run) || self.unscheduled.has(run) {
            Some(Refusal::Overlap { holder: Some(run) })
        } else {
            (in_progress >= max).then(|| Refusal::Overlap { holder: self.runs.first() })
        };
        if let Some(refusal) = refused {
            effects.push(Effect::Answer { run, answer: Err(refusal) });
            return;
        }
        let queued = UnscheduledRun::new(run, Cause::Trigger(Caller::Waits));
        self.unscheduled.queue.queue_mut().push_back(queued);
        self.drain_unscheduled(now, effects);
        self.answer_those_behind(effects);
    }

    /// Why a trigger that comes now is refused, if it is: the overlap policy lets it neither run nor wait.
    fn refusal(&self) -> Option<Refusal> {
        let waiting = self.unscheduled_waiting();
        let in_progress = self.unscheduled.open_runs().count() + self.runs.active.len();
        let less = |count: usize, max: u32| count < usize::try_from(max).unwrap_or(usize::MAX);
        let room = match self.policies.overlap {
            Overlap::Skip => in_progress + waiting == 0,
            Overlap::Queue(max) => less(waiting, max),
            Overlap::Replace => waiting == 0,
            Overlap::Allow(max) => less(in_progress + waiting, max),
        };
        let holder = || self.runs.first().or_else(|| Some(self.unscheduled.queue.front()?.run));
        if room { None } else { Some(Refusal::Overlap { holder: holder() }) }
    }

    /// All that wait for their turn, and were not told, are told that they do.
    pub(super) fn answer_queued(&mut self, effects: &mut Effects) {
        for queued in self.unscheduled.queue.iter_mut() {
            if queued.is_waiting() && queued.has_caller() && !queued.is_of_backfill() {
                queued.cause = Cause::Trigger(Caller::ToldQueued);
                effects.push(Effect::Answer { run: queued.run, answer: Ok(TriggerAnswer::Queued) });
            }
        }
    }

    /// Those that wait for others are told so; one that waits only for the node's answer is not, yet.
    fn answer_those_behind(&mut self, effects: &mut Effects) {
        // One that was asked for before was answered: wait.
        let first_waits_for_permit = self.permit.is_wanted() && !self.permit.is_requested();
        if !first_waits_for_permit || self.unscheduled.queue.len() > 1 {
            self.answer_queued(effects);
        }
    }

    /// What waits, and was not promised to start, does not start.
    pub(super) fn refuse_callers(&mut self, refusal: &Refusal, effects: &mut Effects) {
        self.refuse_all(refusal, effects, |queued| queued.is_waiting() && queued.has_caller());
    }

    /// What was to start later does not start any more.
    pub(super) fn drop_triggers(&mut self, refusal: &Refusal, effects: &mut Effects) {
        self.refuse_all(refusal, effects, UnscheduledRun::is_waiting);
        for queued in self.unscheduled.queue.iter_mut().filter(|queued| queued.is_trigger()) {
            queued.drop_if_queued();
        }
    }

    /// What is asked for, in the name of somebody who waits, does not start any more. A run of a backfill whose claim is
    /// under way does, as a tick: if it was granted and not started, no leader after this one would run its fire time.
    pub(super) fn give_callers_up(&mut self, effects: &mut Effects) {
        let is_given_up = |queued: &&mut UnscheduledRun| {
            queued.has_caller() && !(queued.is_of_backfill() && queued.is_refusable())
        };
        for queued in self.unscheduled.queue.iter_mut().filter(is_given_up) {
            queued.cause = Cause::Trigger(Caller::ToldNo);
            effects.push(Effect::Answer { run: queued.run, answer: Err(Refusal::Closing) });
        }
    }

    pub(super) fn refuse_all(
        &mut self,
        refusal: &Refusal,
        effects: &mut Effects,
        which: impl Fn(&UnscheduledRun) -> bool,
    ) {
        let (refused, kept): (Vec<_>, Vec<_>) =
            self.unscheduled.queue.take().into_iter().partition(|queued| which(queued));
        self.unscheduled.queue = kept.into_iter().collect();
        for queued in refused {
            refuse(&queued, refusal.clone(), effects);
        }
    }
}

/// Tells whoever waits for it; if nobody does, and it was promised to start, everybody.
pub(super) fn refuse(queued: &UnscheduledRun, refusal: Refusal, effects: &mut Effects) {
    match queued.cause {
        Cause::Trigger(Caller::Waits) => {
            effects.push(Effect::Answer { run: queued.run, answer: Err(refusal) });
        }
        Cause::Trigger(Caller::ToldQueued | Caller::Withdrawn) => {
            effects.push(Effect::RunEnded(never_started(queued)));
        }
        Cause::Trigger(Caller::ToldNo) | Cause::RetriedLoss(_) => {}
    }
}

/// An application's own transaction, perhaps, has the key.
pub(super) fn locked_key() -> Refusal {
    Refusal::Unavailable { reason: "somebody else has locked its key".to_owned() }
}

/// A trigger that was queued, and came to nothing. It was never claimed.
fn never_started(queued: &UnscheduledRun) -> RunEnded {
    RunEnded {
        run: queued.run,
        facts: Some(queued.start().facts()),
        outcome: Outcome::Cancelled,
        cancelled: Some(CancelReason::NotStarted),
        aborted: false,
        recorded: false,
        end: BodyEnd::Aborted,
        started_at: None,
        took: Duration::ZERO,
    }
}
