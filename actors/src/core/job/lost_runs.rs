//! Lost runs that are to go on with another attempt.

use std::collections::VecDeque;

use super::{
    JobMachine, Mode,
    unscheduled::{Cause, RetriedLoss, Trigger, UnscheduledRun},
};
use crate::{
    core::{
        policy::{DEBTS_MAX, Fires, LOSSES_MAX, OnLost},
        seldom::Seldom,
    },
    port::OwedRun,
};

impl JobMachine {
    /// Runs that are lost are owed another attempt.
    pub(super) fn retries_lost(&self) -> bool {
        self.policies.on_lost == OnLost::Retry && self.policies.fires != Fires::Local
    }

    /// A run of this job was lost, and is owed another attempt. Who does not fire it is told when that
    /// begins: whatever was noted until then may have been settled elsewhere.
    pub(super) fn on_owed(&mut self, owed: OwedRun) {
        let goes_on = self.runs.active.iter().any(|run| run.run == owed.run && !run.lost);
        let fires = matches!(self.mode, Mode::Firing(_));
        let closes = self.closing.has_begun();
        if !fires || !self.retries_lost() || owed.losses >= LOSSES_MAX || goes_on || closes {
            return;
        }
        if let Some(known) = self.unscheduled.queue.iter_mut().find(|queued| queued.run == owed.run) {
            match known.cause {
                // A trigger whose claim is under way may be granted, or not, without it.
                Cause::Trigger(_) if known.is_asked() || known.has_caller() => {}
                Cause::Trigger(trigger) => {
                    let dropped = trigger != Trigger::Queued;
                    known.cause = Cause::RetriedLoss(RetriedLoss { owed, dropped });
                    return;
                }
                Cause::RetriedLoss(former) if former.owed.losses >= owed.losses => return,
                Cause::RetriedLoss(former) => {
                    known.cause = Cause::RetriedLoss(RetriedLoss { owed, ..former });
                    return;
                }
            }
        }
        self.add_debt(RetriedLoss { owed, dropped: false });
    }

    /// Whether the run is owed, so that it goes on, or is closed, by that.
    pub(super) fn defer_to_pending_retry(&mut self, queued: &UnscheduledRun) -> bool {
        match self.unscheduled.debts.iter_mut().find(|debt| debt.owed.run == queued.run) {
            Some(debt) => {
                debt.dropped |= !queued.is_wanted();
                true
            }
            None => false,
        }
    }

    pub(super) fn add_debt(&mut self, debt: RetriedLoss) {
        let debts = &mut self.unscheduled.debts;
        match debts.binary_search_by_key(&debt.owed.run, |debt| debt.owed.run) {
            Ok(at) if debts[at].owed.losses < debt.owed.losses => debts[at].owed = debt.owed,
            Ok(_) => {}
            Err(at) => debts.list_mut().insert(at, debt),
        }
        if debts.len() > DEBTS_MAX {
            debts.list_mut().remove(0);
        }
    }

    /// The store says all that is owed. What is to be closed, of that, stays so.
    pub(super) fn replace_debts(&mut self, owed: Vec<OwedRun>) {
        self.put_debts_back();
        let former = std::mem::take(&mut self.unscheduled.debts);
        owed.into_iter().for_each(|owed| self.on_owed(owed));
        for debt in self.unscheduled.debts.iter_mut() {
            let known = former.binary_search_by_key(&debt.owed.run, |former| former.owed.run);
            debt.dropped = known.is_ok_and(|at| former[at].dropped);
        }
    }

    /// Nothing that was lost goes on.
    pub(super) fn forget_debts(&mut self) {
        self.unscheduled.debts = Seldom::default();
        self.unscheduled.queue.retain(|queued| queued.is_trigger() || !queued.is_waiting());
    }

    /// Lost runs that wait for their turn wait among those that are owed again.
    fn put_debts_back(&mut self) {
        let (waiting, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.unscheduled.queue)
            .into_iter()
            .partition(|queued| !queued.is_trigger() && queued.is_waiting());
        self.unscheduled.queue = rest;
        for queued in waiting {
            queued.loss().into_iter().for_each(|loss| self.add_debt(loss));
        }
    }

    /// Takes the oldest lost run that may go on to the front of those that wait, one at a time.
    pub(super) fn queue_retry(&mut self) {
        if !self.retries_lost() {
            // One that was asked for before the job was changed may have come back.
            return self.forget_debts();
        }
        let first = self.unscheduled.queue.front();
        let has_turn = first.is_none_or(|first| first.is_waiting() && first.is_trigger());
        if self.unscheduled.debts.is_empty() || self.mode == Mode::Dormant || !has_turn {
            return;
        }
        if self.free_slot(0).is_none() {
            return;
        }
        // The lost one may still go on here, and must not keep the others waiting.
        let is_free = |run| !self.goes_on(run) && !self.unscheduled.has(run);
        let Some(at) = self.unscheduled.debts.iter().position(|debt| is_free(debt.owed.run)) else { return };
        let loss = self.unscheduled.debts.list_mut().remove(at);
        self.unscheduled.queue.push_front(UnscheduledRun::new(loss.owed.run, Cause::RetriedLoss(loss)));
    }

    /// Lost runs that were to go on here are taken up only to be closed: the store would go on to owe them.
    pub(super) fn drop_debts(&mut self) {
        if self.mode == Mode::Dormant {
            return;
        }
        self.put_debts_back();
        self.unscheduled.debts.iter_mut().for_each(|debt| debt.dropped = true);
        self.unscheduled
            .queue
            .iter_mut()
            .filter(|asked| !asked.is_trigger())
            .for_each(UnscheduledRun::drop_if_queued);
    }
}
