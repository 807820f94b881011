//! What the store answers to the claim of a run that no tick starts, and what follows.

use super::{
    Effect, Effects, JobMachine, KEY_AGAIN, Refusal, Start, TriggerAnswer,
    permit::Claimant,
    triggers::{locked_key, refuse},
    unscheduled::{Caller, Cause, Stage, UnscheduledRun, answer},
    verdicts::close_unstarted,
};
use crate::{
    core::{policy::Overlap, time::Now},
    name::{FencingToken, RunId},
    port::Verdict,
};

/// Where claims are kept in the memory of the leader.
const NOT_LEADING: &str =
    "this node does not lead, and claims are kept in the memory of the leader; ask the leader";

impl JobMachine {
    pub(super) fn on_unscheduled_claimed(&mut self, now: Now, verdict: Verdict, effects: &mut Effects) {
        let Some(queued) = self.unscheduled.queue.pop_front() else { return };
        if !matches!(verdict, Verdict::Granted { .. }) {
            self.permit.take_back(Claimant::Unscheduled);
        }
        match verdict {
            Verdict::Granted { token, .. } => self.on_unscheduled_granted(now, &queued, token, effects),
            Verdict::Unavailable { reason } => {
                effects.push(Effect::Unavailable { reason: reason.clone() });
                // Of a backfill it is asked for until it is decided: what was granted must start.
                if !queued.is_of_backfill() {
                    answer(&queued, Err(Refusal::Unavailable { reason }), effects);
                }
                // It may have been granted: find out, and close it, or go on with it.
                let stage = Stage::Unanswered(self.again_at(now));
                let gives_up = queued.has_caller() && !queued.is_of_backfill();
                let cause = if gives_up { Cause::Trigger(Caller::ToldNo) } else { queued.cause };
                let asked = UnscheduledRun { stage, cause, doubtful: true, ..queued };
                self.unscheduled.queue.queue_mut().push_front(asked);
            }
            Verdict::Locked { .. } if queued.doubtful => {
                let stage = Stage::Unanswered(self.again_at(now));
                self.unscheduled.queue.queue_mut().push_front(UnscheduledRun { stage, ..queued });
            }
            refused => self.on_unscheduled_refused(now, queued, refused, effects),
        }
    }

    fn on_unscheduled_granted(
        &mut self,
        now: Now,
        queued: &UnscheduledRun,
        token: FencingToken,
        effects: &mut Effects,
    ) {
        let start = Start { token: Some(token), ..queued.start() };
        let refusal = if self.closing.refuses_grant(queued.doubtful) {
            Some(Refusal::Closing)
        } else if !queued.is_wanted() {
            Some(Refusal::Cancelled)
        } else if self.free_slot(queued.slot) != Some(queued.slot) {
            Some(Refusal::Overlap { holder: self.runs.first() })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.permit.take_back(Claimant::Unscheduled);
            answer(queued, Err(refusal), effects);
            close_unstarted(start, effects);
        } else {
            answer(queued, Ok(TriggerAnswer::Started), effects);
            self.start_granted(now, Claimant::Unscheduled, start, effects);
        }
    }

    /// The store refuses everybody, perhaps. Whoever waits is told; what was promised is asked for again.
    pub(super) fn on_unscheduled_not_taken(&mut self, now: Now, reason: String, effects: &mut Effects) {
        let Some(queued) = self.unscheduled.queue.pop_front() else { return };
        self.permit.take_back(Claimant::Unscheduled);
        effects.push(Effect::Unavailable { reason: reason.clone() });
        if queued.is_promised() && !self.closing.has_begun() {
            let stage = Stage::Waiting(self.again_at(now));
            self.unscheduled.queue.queue_mut().push_front(UnscheduledRun { stage, ..queued });
        } else {
            refuse(&queued, Refusal::Unavailable { reason }, effects);
        }
    }

    fn on_unscheduled_refused(
        &mut self,
        now: Now,
        queued: UnscheduledRun,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let again = Stage::Waiting(now.elapsed.saturating_add(KEY_AGAIN));
        match verdict {
            Verdict::Busy { holder, .. } => self.on_unscheduled_busy(now, queued, holder, effects),
            Verdict::AlreadyRun { run, .. } => {
                refuse(&queued, Refusal::Overlap { holder: Some(run) }, effects);
            }
            // A retry of it is pending: what its caller asked for goes on by that. Whoever closes the run
            // says that it is lost, and it may go on elsewhere.
            Verdict::NotGranted | Verdict::GrantedBefore | Verdict::RanBefore { .. }
                if self.defer_to_pending_retry(&queued) =>
            {
                answer(&queued, Ok(TriggerAnswer::Queued), effects);
            }
            Verdict::RanBefore { outcome } => refuse(&queued, Refusal::RanBefore { outcome }, effects),
            // To a former session of this node.
            Verdict::GrantedBefore if queued.is_of_backfill() => {
                refuse(&queued, Refusal::RanBefore { outcome: None }, effects);
            }
            Verdict::GrantedBefore => {
                let reason = "the session with the store was lost before it answered".to_owned();
                answer(&queued, Err(Refusal::Unavailable { reason }), effects);
            }
            // It was given up, or its retry is pending no more.
            Verdict::NotGranted => refuse(&queued, Refusal::Overlap { holder: None }, effects),
            Verdict::Locked { .. } if queued.is_promised() && !self.closing.has_begun() => {
                self.unscheduled.queue.queue_mut().push_front(UnscheduledRun { stage: again, ..queued });
            }
            // Nothing was taken, and whoever triggered it has waited long enough.
            Verdict::Locked { .. } => refuse(&queued, locked_key(), effects),
            Verdict::BadData { reason } => {
                refuse(&queued, Refusal::Parked { reason: reason.as_str().into() }, effects);
                self.on_bad_data(&reason, effects);
            }
            Verdict::HasLeader => {
                refuse(&queued, Refusal::Unavailable { reason: NOT_LEADING.to_owned() }, effects);
            }
            // A claim without a tick depends on no cursor, no term and no time.
            Verdict::Granted { .. }
            | Verdict::Elsewhere { .. }
            | Verdict::Unknown
            | Verdict::Deposed { .. }
            | Verdict::Paused(_)
            | Verdict::Exhausted
            | Verdict::Contended
            | Verdict::TakenElsewhere { .. }
            | Verdict::Lapsed { .. }
            | Verdict::NotYet { .. }
            | Verdict::Unavailable { .. } => {
                let reason = format!("the store answered a claim without a tick with {verdict:?}");
                refuse(&queued, Refusal::Unavailable { reason }, effects);
            }
        }
    }

    /// A live run holds the key: it tries another slot, waits, or is refused.
    fn on_unscheduled_busy(
        &mut self,
        now: Now,
        queued: UnscheduledRun,
        holder: Option<RunId>,
        effects: &mut Effects,
    ) {
        if !queued.contended {
            effects.push(Effect::Contended { holder });
        }
        let queued = UnscheduledRun { contended: true, ..queued };
        // A lost run is taken up, if only to be closed.
        let wanted = (queued.is_wanted() || !queued.is_trigger()) && !self.closing.has_begun();
        let free_slot = self.free_slot(queued.slot + 1);
        let waits = match (self.policies.overlap, free_slot) {
            _ if !wanted => false,
            (Overlap::Allow(_), Some(slot)) => return self.try_slot(now, queued, slot, effects),
            (_, _) if queued.is_of_backfill() => false,
            (Overlap::Queue(_) | Overlap::Replace, _) => true,
            (Overlap::Skip | Overlap::Allow(_), _) => !queued.is_trigger(),
        };
        if waits {
            answer(&queued, Ok(TriggerAnswer::Queued), effects);
            let stage = Stage::Waiting(now.elapsed.saturating_add(KEY_AGAIN));
            self.unscheduled.queue.queue_mut().push_front(UnscheduledRun { stage, ..queued.queued() });
        } else {
            refuse(&queued, Refusal::Overlap { holder }, effects);
        }
    }

    /// Another slot of the key may be free.
    fn try_slot(&mut self, now: Now, queued: UnscheduledRun, slot: u32, effects: &mut Effects) {
        if !self.permit.allows() {
            // Its permit went back while it had no answer: with another one it tries all slots.
            let stage = Stage::Waiting(now.elapsed);
            self.unscheduled.queue.queue_mut().push_front(UnscheduledRun { stage, ..queued });
            return;
        }
        self.unscheduled.queue.queue_mut().push_front(UnscheduledRun { slot, stage: Stage::Asked, ..queued });
        self.permit.pledge(Claimant::Unscheduled);
        effects.extend(self.claim_of_first(false).map(Effect::Claim));
    }
}
