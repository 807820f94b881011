//! Lost runs that are to go on with another attempt.

use super::{
    JobMachine, Mode,
    unscheduled::{Caller, Cause, RetriedLoss, UnscheduledRun},
};
use crate::{
    core::{
        policy::{Fires, LOSSES_MAX, OnLost, PENDING_RETRIES_MAX},
        seldom::Seldom,
    },
    name::RunId,
    port::PendingRetry,
};

/// Nobody knows its arguments any more: it is taken up only to be closed.
fn is_lost_for_good(run: RunId) -> bool {
    run.has_own_arguments()
}

impl JobMachine {
    /// Runs that are lost are tried again.
    pub(super) fn retries_lost(&self) -> bool {
        self.policies.on_lost == OnLost::Retry && self.policies.fires != Fires::Local
    }

    /// A run of this job was lost, and is to be tried again. A node that does not fire the job hears of it
    /// when it begins to: until then another node may have tried it again.
    pub(super) fn on_pending_retry(&mut self, retry: PendingRetry) {
        let goes_on = self.runs.active.iter().any(|run| run.run == retry.run && !run.lost);
        let fires = matches!(self.mode, Mode::Firing(_));
        let closes = self.closing.has_begun();
        if !fires || !self.retries_lost() || retry.losses >= LOSSES_MAX || goes_on || closes {
            return;
        }
        if let Some(known) = self.unscheduled.queue.iter_mut().find(|queued| queued.run == retry.run) {
            match known.cause {
                // A trigger whose claim is under way may be granted, or not, without it.
                Cause::Trigger(_) if known.is_asked() || known.has_caller() => {}
                Cause::Trigger(caller) => {
                    let dropped = caller != Caller::ToldQueued || is_lost_for_good(retry.run);
                    known.cause = Cause::RetriedLoss(RetriedLoss { retry, dropped });
                    return;
                }
                Cause::RetriedLoss(former) if former.retry.losses >= retry.losses => return,
                Cause::RetriedLoss(former) => {
                    known.cause = Cause::RetriedLoss(RetriedLoss { retry, ..former });
                    return;
                }
            }
        }
        let dropped = is_lost_for_good(retry.run);
        self.add_pending_retry(RetriedLoss { retry, dropped });
    }

    /// Whether a retry of the run is pending: then the run goes on, or is closed, by that.
    pub(super) fn defer_to_pending_retry(&mut self, queued: &UnscheduledRun) -> bool {
        match self.unscheduled.pending_retries.iter_mut().find(|pending| pending.retry.run == queued.run) {
            Some(pending) => {
                pending.dropped |= !queued.is_wanted();
                true
            }
            None => false,
        }
    }

    pub(super) fn add_pending_retry(&mut self, pending: RetriedLoss) {
        let pending_retries = &mut self.unscheduled.pending_retries;
        match pending_retries.binary_search_by_key(&pending.retry.run, |pending| pending.retry.run) {
            Ok(at) if pending_retries[at].retry.losses < pending.retry.losses => {
                pending_retries[at].retry = pending.retry
            }
            Ok(_) => {}
            Err(at) => pending_retries.list_mut().insert(at, pending),
        }
        if pending_retries.len() > PENDING_RETRIES_MAX {
            pending_retries.list_mut().remove(0);
        }
    }

    /// The store names all pending retries. Those that are to be closed stay so.
    pub(super) fn replace_pending_retries(&mut self, retries: Vec<PendingRetry>) {
        self.put_pending_retries_back();
        let former = std::mem::take(&mut self.unscheduled.pending_retries);
        retries.into_iter().for_each(|retry| self.on_pending_retry(retry));
        for pending in self.unscheduled.pending_retries.iter_mut() {
            let known = former.binary_search_by_key(&pending.retry.run, |former| former.retry.run);
            pending.dropped |= known.is_ok_and(|at| former[at].dropped);
        }
    }

    /// Nothing that was lost goes on.
    pub(super) fn forget_pending_retries(&mut self) {
        self.unscheduled.pending_retries = Seldom::default();
        self.unscheduled.queue.retain_mut(|queued| queued.is_trigger() || !queued.is_waiting());
    }

    /// Lost runs that wait for their turn wait among the pending retries again.
    fn put_pending_retries_back(&mut self) {
        let (waiting, rest): (Vec<_>, Vec<_>) = self
            .unscheduled
            .queue
            .take()
            .into_iter()
            .partition(|queued| !queued.is_trigger() && queued.is_waiting());
        self.unscheduled.queue = rest.into_iter().collect();
        for queued in waiting {
            queued.loss().into_iter().for_each(|loss| self.add_pending_retry(loss));
        }
    }

    /// Takes the oldest lost run that may go on to the front of those that wait, one at a time.
    pub(super) fn queue_retry(&mut self) {
        if !self.retries_lost() {
            // One that was asked for before the job was changed may have come back.
            return self.forget_pending_retries();
        }
        let first = self.unscheduled.queue.front();
        let has_turn = first.is_none_or(|first| first.is_waiting() && first.is_trigger());
        if self.unscheduled.pending_retries.is_empty() || self.mode == Mode::Dormant || !has_turn {
            return;
        }
        if self.free_slot(0).is_none() {
            return;
        }
        // The lost one may still go on here, and must not keep the others waiting.
        let is_free = |run| !self.goes_on(run) && !self.unscheduled.has(run);
        let Some(at) = self.unscheduled.pending_retries.iter().position(|pending| is_free(pending.retry.run))
        else {
            return;
        };
        let loss = self.unscheduled.pending_retries.list_mut().remove(at);
        self.unscheduled
            .queue
            .queue_mut()
            .push_front(UnscheduledRun::new(loss.retry.run, Cause::RetriedLoss(loss)));
    }

    /// Lost runs that were to go on here are taken up only to be closed: otherwise the store would keep their
    /// retries pending.
    pub(super) fn drop_pending_retries(&mut self) {
        if self.mode == Mode::Dormant {
            return;
        }
        self.put_pending_retries_back();
        self.unscheduled.pending_retries.iter_mut().for_each(|pending| pending.dropped = true);
        self.unscheduled
            .queue
            .iter_mut()
            .filter(|asked| !asked.is_trigger())
            .for_each(UnscheduledRun::drop_if_queued);
    }
}
