//! Runs that no tick starts, before they start: manual triggers, and lost runs that go on. They follow the
//! overlap policy and the node's bound as ticks do, and move no cursor.

use std::time::Duration;

use super::{Claim, Effect, Effects, JobMachine, Mode, Refusal, Start, TriggerAnswer, permit::Claimant};
use crate::{
    core::{
        backfill::BackfillId,
        policy::{Fires, Overlap},
        seldom::{Seldom, SeldomQueue},
        time::Now,
    },
    event::CancelReason,
    name::RunId,
    port::PendingRetry,
};

/// The runs that wait to start and that no tick starts.
#[derive(Debug, Default)]
pub(super) struct Unscheduled {
    /// In the order in which they start; only the first is asked for.
    pub(super) queue: SeldomQueue<UnscheduledRun>,
    /// Lost runs that are to go on, in the order of their ids, while this node fires the job; what was known
    /// of them when it last did, otherwise. One at a time goes to `queue`.
    pub(super) pending_retries: Seldom<RetriedLoss>,
}

/// A run that no tick starts, before it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnscheduledRun {
    pub(super) run: RunId,
    pub(super) cause: Cause,
    pub(super) stage: Stage,
    /// A claim of it got no answer: it may have been granted.
    pub(super) doubtful: bool,
    pub(super) slot: u32,
    /// It was said that somebody else holds its key: once, however often it asks.
    pub(super) contended: bool,
}

/// Why a run is to start that no tick starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Trigger(Caller),
    RetriedLoss(RetriedLoss),
}

/// What whoever triggered the job was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nothing yet.
    Waits,
    /// That it is queued: it starts when its turn comes.
    ToldQueued,
    /// That it does not start; a late grant is closed.
    ToldNo,
    /// That it is queued, but it was cancelled since; a late grant is closed.
    Withdrawn,
}

/// A lost run that is to go on with another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetriedLoss {
    pub(super) retry: PendingRetry,
    /// It is not wanted any more: it is taken up only to be closed.
    pub(super) dropped: bool,
}

/// What a run waits for that no tick starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// For its turn, and not before this reading.
    Waiting(Duration),
    /// For the answer of the store.
    Asked,
    /// To ask again, at this reading: there was no answer.
    Unanswered(Duration),
}

impl UnscheduledRun {
    pub(super) fn new(run: RunId, cause: Cause) -> Self {
        let stage = Stage::Waiting(Duration::ZERO);
        Self { run, cause, stage, doubtful: false, slot: 0, contended: false }
    }

    /// It waits for its turn.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    /// A claim of it is under way.
    pub(super) fn is_asked(&self) -> bool {
        self.stage == Stage::Asked
    }

    /// A claim of it is under way, and the store cannot have granted it before.
    pub(super) fn is_refusable(&self) -> bool {
        self.is_asked() && !self.doubtful
    }

    /// The lost run that goes on by it.
    pub(super) fn loss(&self) -> Option<RetriedLoss> {
        match self.cause {
            Cause::Trigger(_) => None,
            Cause::RetriedLoss(loss) => Some(loss),
        }
    }

    pub(super) fn is_trigger(&self) -> bool {
        self.loss().is_none()
    }

    /// It may take the place of what is in progress: neither a lost run nor one of a backfill does.
    pub(super) fn may_replace(&self) -> bool {
        self.is_trigger() && !self.is_of_backfill()
    }

    /// The leader asks for it again if it does not start now.
    pub(super) fn is_of_backfill(&self) -> bool {
        self.is_trigger() && BackfillId::of_run(self.run).is_some()
    }

    /// Whoever triggered it waits for an answer.
    pub(super) fn has_caller(&self) -> bool {
        self.cause == Cause::Trigger(Caller::Waits)
    }

    /// It is to start if it is granted.
    pub(super) fn is_wanted(&self) -> bool {
        match self.cause {
            Cause::Trigger(Caller::Waits | Caller::ToldQueued) => true,
            Cause::Trigger(Caller::ToldNo | Caller::Withdrawn) => false,
            Cause::RetriedLoss(loss) => !loss.dropped,
        }
    }

    /// It is to start, or to be closed, and nobody waits for an answer: it is asked for until it is decided.
    pub(super) fn is_promised(&self) -> bool {
        match self.cause {
            Cause::Trigger(Caller::ToldQueued) | Cause::RetriedLoss(_) => true,
            Cause::Trigger(Caller::Waits | Caller::ToldNo | Caller::Withdrawn) => false,
        }
    }

    /// Whoever triggered it is told that it is queued.
    pub(super) fn queued(self) -> Self {
        match self.cause {
            Cause::Trigger(_) => Self { cause: Cause::Trigger(Caller::ToldQueued), ..self },
            Cause::RetriedLoss(_) => self,
        }
    }

    /// The actor that waited in the caller's name died. Answers whether the store is still to say what became
    /// of it.
    pub(super) fn forget_caller(&mut self) -> bool {
        // The leader asks again for a run of a backfill: if it was granted, it is to start.
        if !self.has_caller() || (self.is_of_backfill() && !self.is_waiting()) {
            return true;
        }
        self.cause = Cause::Trigger(Caller::ToldNo);
        !self.is_waiting()
    }

    /// It is not wanted any more. Whoever waits for an answer still does.
    pub(super) fn drop_if_queued(&mut self) {
        match &mut self.cause {
            Cause::Trigger(caller @ Caller::ToldQueued) => *caller = Caller::Withdrawn,
            Cause::Trigger(Caller::Waits | Caller::ToldNo | Caller::Withdrawn) => {}
            Cause::RetriedLoss(loss) => loss.dropped = true,
        }
    }

    pub(super) fn start(&self) -> Start {
        let retry = self.loss().map(|loss| loss.retry);
        let attempt = retry.map_or(1, |retry| retry.losses.saturating_add(1));
        let tick = retry.and_then(|retry| retry.fire_time);
        Start { tick, attempt, slot: self.slot, ..Start::new(self.run) }
    }
}

impl Unscheduled {
    /// A claim of one of them is under way.
    pub(super) fn is_asked(&self) -> bool {
        self.queue.iter().any(UnscheduledRun::is_asked)
    }

    /// Those that the store is being asked for.
    pub(super) fn open_runs(&self) -> impl Iterator<Item = RunId> {
        self.queue.iter().filter(|queued| !queued.is_waiting()).map(|queued| queued.run)
    }

    pub(super) fn has(&self, run: RunId) -> bool {
        self.queue.iter().any(|queued| queued.run == run)
    }
}

impl JobMachine {
    /// How many triggers and lost runs wait for their turn here.
    pub(super) fn unscheduled_waiting(&self) -> usize {
        let dormant = self.mode == Mode::Dormant;
        let Unscheduled { queue, pending_retries } = &self.unscheduled;
        let pending_retries =
            pending_retries.iter().filter(|pending| !dormant && !self.goes_on(pending.retry.run)).count();
        pending_retries + queue.iter().filter(|queued| queued.is_waiting()).count()
    }

    /// Whether a run waits here for its turn, or for the store.
    pub(super) fn waits_unscheduled(&self, run: RunId) -> bool {
        let Unscheduled { queue, pending_retries } = &self.unscheduled;
        let is_pending =
            self.mode != Mode::Dormant && pending_retries.iter().any(|pending| pending.retry.run == run);
        is_pending || queue.iter().any(|queued| queued.run == run)
    }

    /// When the first one is to be looked at again.
    pub(super) fn unscheduled_wakes_at(&self, now: Now) -> Option<Duration> {
        let first = self.unscheduled.queue.front()?;
        match first.stage {
            Stage::Asked => None,
            Stage::Unanswered(at) => Some(at),
            Stage::Waiting(at) if at > now.elapsed => Some(at),
            Stage::Waiting(_) => (self.has_room_for(first) && self.permit.allows()).then_some(now.elapsed),
        }
    }

    /// It is still in progress here, or the store is yet to say whether it is.
    pub(super) fn goes_on(&self, run: RunId) -> bool {
        self.runs.has(run) || self.is_asked_for(run)
    }

    /// The runs in progress leave a slot for it, and it is not the lost one of them, or one of which the
    /// store is yet to say whether it is.
    fn has_room_for(&self, queued: &UnscheduledRun) -> bool {
        self.free_slot(0).is_some() && !self.goes_on(queued.run)
    }

    /// Asks for the first that waits, if it may start now.
    pub(super) fn drain_unscheduled(&mut self, now: Now, effects: &mut Effects) {
        loop {
            self.queue_retry();
            let Some(first) = self.unscheduled.queue.front().copied() else { return };
            let Stage::Waiting(not_before) = first.stage else { return };
            // A lost run goes on only where the job fires.
            if let (Some(loss), Mode::Dormant) = (first.loss(), self.mode) {
                self.unscheduled.queue.pop_front();
                self.add_pending_retry(loss);
                continue;
            }
            if not_before > now.elapsed {
                return;
            }
            let Some(slot) = self.free_slot(0) else {
                // A run that was lost takes nobody's place: what holds the key is newer.
                if self.policies.overlap == Overlap::Replace && first.may_replace() {
                    self.cancel_all(now, CancelReason::Replaced, effects);
                }
                if self.free_slot(0).is_some() {
                    continue;
                }
                self.answer_without_slot(effects);
                return;
            };
            if !self.has_room_for(&first) || !self.permit.want() {
                return;
            }
            if self.policies.fires == Fires::Local {
                self.unscheduled.queue.pop_front();
                answer(&first, Ok(TriggerAnswer::Started), effects);
                self.start(now, Start { slot, ..first.start() }, effects);
                continue;
            }
            self.permit.pledge(Claimant::Unscheduled);
            if let Some(first) = self.unscheduled.queue.front_mut() {
                (first.stage, first.slot) = (Stage::Asked, slot);
                let claim = self.claim_of_first(false);
                effects.extend(claim.map(Effect::Claim));
            }
            return;
        }
    }

    /// A tick was faster than those that waited for one of the node's permits.
    fn answer_without_slot(&mut self, effects: &mut Effects) {
        match self.policies.overlap {
            Overlap::Skip | Overlap::Allow(_) => {
                let holder = self.runs.first();
                self.refuse_callers(&Refusal::Overlap { holder }, effects);
            }
            Overlap::Queue(_) | Overlap::Replace => self.answer_queued(effects),
        }
    }

    pub(super) fn claim_of_first(&self, recheck: bool) -> Option<Claim> {
        let first = self.unscheduled.queue.front()?;
        let replace = self.policies.overlap == Overlap::Replace && first.may_replace();
        let resume_lost = !first.is_trigger();
        Some(Claim { slot: first.slot, replace, recheck, resume_lost, ..Claim::new(first.run) })
    }

    pub(super) fn ask_again_for_unscheduled(&mut self, now: Now, effects: &mut Effects) {
        if let Some(first) = self.unscheduled.queue.front_mut()
            && let Stage::Unanswered(at) = first.stage
            && at <= now.elapsed
        {
            first.stage = Stage::Asked;
            // One that is still wanted is asked for anew, not only rechecked.
            let wanted = first.is_wanted() || !first.is_trigger();
            let recheck = !wanted || self.closing.has_begun();
            effects.extend(self.claim_of_first(recheck).map(Effect::Claim));
        }
    }

    /// The first of those that were told that they wait goes on waiting.
    pub(super) fn put_unscheduled_off(&mut self, later: Duration) {
        let has_room = self.free_slot(0).is_some();
        if let Some(first) = self.unscheduled.queue.front_mut().filter(|first| first.is_waiting() && has_room)
        {
            first.stage = Stage::Waiting(later);
        }
    }

    /// A run that is to start later does not start any more.
    pub(super) fn drop_unscheduled(&mut self, run: RunId, effects: &mut Effects) {
        self.refuse_all(&Refusal::Cancelled, effects, |queued| {
            queued.run == run && queued.is_waiting() && queued.is_trigger()
        });
        self.unscheduled
            .queue
            .iter_mut()
            .filter(|queued| queued.run == run)
            .for_each(UnscheduledRun::drop_if_queued);
        for pending in self.unscheduled.pending_retries.iter_mut().filter(|pending| pending.retry.run == run)
        {
            pending.dropped = true;
        }
    }
}

/// Tells whoever waits for it.
pub(super) fn answer(queued: &UnscheduledRun, answer: Result<TriggerAnswer, Refusal>, effects: &mut Effects) {
    if queued.has_caller() {
        effects.push(Effect::Answer { run: queued.run, answer });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::job::tests::at,
        name::{NodeId, RunIds},
    };

    fn run() -> RunId {
        RunIds::of(NodeId::numbered(1)).next(at("01:00"))
    }

    fn trigger(caller: Caller) -> UnscheduledRun {
        UnscheduledRun::new(run(), Cause::Trigger(caller))
    }

    fn loss(dropped: bool) -> UnscheduledRun {
        let retry = PendingRetry { run: run(), fire_time: None, named: None, losses: 2 };
        UnscheduledRun::new(run(), Cause::RetriedLoss(RetriedLoss { retry, dropped }))
    }

    #[test]
    fn who_is_wanted_promised_or_waited_for() {
        for (queued, is_wanted, is_promised, has_caller) in [
            (trigger(Caller::Waits), true, false, true),
            (trigger(Caller::ToldQueued), true, true, false),
            (trigger(Caller::ToldNo), false, false, false),
            (trigger(Caller::Withdrawn), false, false, false),
            (loss(false), true, true, false),
            // It is taken up, if only to be closed.
            (loss(true), false, true, false),
        ] {
            let found = (queued.is_wanted(), queued.is_promised(), queued.has_caller());
            assert_eq!(found, (is_wanted, is_promised, has_caller), "{:?}", queued.cause);
        }
    }

    #[test]
    fn a_caller_that_died_is_forgotten_unless_the_store_may_have_granted_it() {
        for (cause, stage, stays, after) in [
            (Caller::Waits, Stage::Waiting(Duration::ZERO), false, Caller::ToldNo),
            (Caller::Waits, Stage::Asked, true, Caller::ToldNo),
            (Caller::ToldQueued, Stage::Waiting(Duration::ZERO), true, Caller::ToldQueued),
            (Caller::Withdrawn, Stage::Asked, true, Caller::Withdrawn),
        ] {
            let mut queued = UnscheduledRun { stage, ..trigger(cause) };

            assert_eq!(queued.forget_caller(), stays, "{cause:?} {stage:?}");
            assert_eq!(queued.cause, Cause::Trigger(after));
        }
    }

    #[test]
    fn only_what_nobody_waits_for_is_dropped_silently() {
        for (before, after) in [
            (trigger(Caller::Waits), trigger(Caller::Waits)),
            (trigger(Caller::ToldQueued), trigger(Caller::Withdrawn)),
            (trigger(Caller::ToldNo), trigger(Caller::ToldNo)),
            (loss(false), loss(true)),
        ] {
            let mut queued = before;

            queued.drop_if_queued();

            assert_eq!(queued.cause, after.cause, "{:?}", before.cause);
        }
    }

    #[test]
    fn a_lost_run_goes_on_with_the_attempt_after_its_losses() {
        assert_eq!((trigger(Caller::ToldQueued).start().attempt, loss(false).start().attempt), (1, 3));
    }
}
