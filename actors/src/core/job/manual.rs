//! Runs without a tick of their own: manual triggers, and lost runs that are owed another attempt. They follow the overlap
//! policy and the node's bound as ticks do, and move no cursor.

use std::{collections::VecDeque, time::Duration};

use super::{
    Claim, Effect, Effects, End, Ended, JobMachine, KEY_AGAIN, Mode, Refusal, Start, Triggered,
    permit::Claimant, verdicts::close_unstarted,
};
use crate::{
    core::{
        policy::{Fires, LOSSES_MAX, OnLost, Overlap, PENDING_RETRIES_MAX},
        seldom::Seldom,
        time::Now,
    },
    event::{CancelReason, Outcome},
    name::RunId,
    port::{PendingRetry, Verdict},
};

/// A run without a tick of its own, before it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manual {
    pub(super) run: RunId,
    /// The run that was lost, if this is one.
    retry: Option<PendingRetry>,
    stage: Stage,
    caller: Caller,
    /// A claim of it got no answer: it may have been granted.
    doubtful: bool,
    slot: u32,
    /// It was said that somebody else holds its key: once, however often it asks.
    contended: bool,
}

/// A lost run that is owed another attempt, before its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedRetry {
    pub(super) retry: PendingRetry,
    /// It is not wanted any more: it is taken up only to be closed.
    dropped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// For its turn, and not before this reading.
    Waiting(Duration),
    /// For the answer of the store.
    Asked,
    /// To ask again, at this reading: there was no answer.
    Unanswered(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Waits for an answer.
    Waits,
    /// Was told that it is queued, or there is none.
    Knows,
    /// Was told that it does not start: what is granted from now on is closed.
    GaveUp,
    /// Was told that it is queued, but it is not wanted any more: what is granted from now on is closed.
    Dropped,
}

impl Manual {
    /// It waits for its turn.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    /// The store is about to answer it.
    pub(super) fn is_asked(&self) -> bool {
        self.stage == Stage::Asked
    }

    /// The store is about to answer it, and cannot have granted it before.
    pub(super) fn is_refusable(&self) -> bool {
        self.is_asked() && !self.doubtful
    }

    /// It is to start if it is granted.
    fn is_wanted(&self) -> bool {
        matches!(self.caller, Caller::Waits | Caller::Knows)
    }

    /// The actor that waited in the caller's name died. Answers whether the store is still to say what became of it.
    pub(super) fn forget_caller(&mut self) -> bool {
        if self.caller != Caller::Waits {
            return true;
        }
        self.caller = Caller::GaveUp;
        !self.is_waiting()
    }

    /// When the first one is to be looked at again.
    pub(super) fn wake_at(&self, job: &JobMachine, now: Now) -> Option<Duration> {
        match self.stage {
            Stage::Asked => None,
            Stage::Unanswered(at) => Some(at),
            Stage::Waiting(at) if at > now.elapsed => Some(at),
            Stage::Waiting(_) => {
                let may = job.has_room_for(self) && job.is_permitted();
                may.then_some(now.elapsed)
            }
        }
    }

    fn start(&self) -> Start {
        let Self { run, retry, slot, .. } = *self;
        let attempt = retry.map_or(1, |retry| retry.losses.saturating_add(1));
        Start { tick: retry.and_then(|retry| retry.fire_time), attempt, slot, ..Start::new(run) }
    }
}

impl JobMachine {
    pub(super) fn on_trigger(&mut self, now: Now, effects: &mut Effects) {
        let refused = match self.spend(now) {
            _ if self.is_closing() => Some(Refusal::ShuttingDown),
            None => Some(Refusal::Overlap { holder: None }),
            Some(_) => self.refusal(),
        };
        if let Some(refusal) = refused {
            effects.push(Effect::Answer { run: now.spare, answer: Err(refusal) });
            return;
        }
        self.manuals.push_back(Manual {
            run: now.spare,
            retry: None,
            stage: Stage::Waiting(Duration::ZERO),
            caller: Caller::Waits,
            doubtful: false,
            slot: 0,
            contended: false,
        });
        self.work_off_manuals(now, effects);
        self.answer_those_behind(effects);
    }

    /// Why a trigger that comes now is refused, if it is: the overlap policy lets it neither run nor wait.
    fn refusal(&self) -> Option<Refusal> {
        let waiting = self.manuals_waiting();
        let asked = self.manuals.iter().filter(|manual| !manual.is_waiting()).count();
        let in_progress = asked + self.runs.len();
        let less = |count: usize, max: u32| count < usize::try_from(max).unwrap_or(usize::MAX);
        let room = match self.policies.overlap {
            Overlap::Skip => in_progress + waiting == 0,
            Overlap::Queue(max) => less(waiting, max),
            Overlap::Replace => waiting == 0,
            Overlap::Allow(max) => less(in_progress + waiting, max),
        };
        let holder = || self.runs.first().map(|run| run.run).or_else(|| Some(self.manuals.front()?.run));
        if room { None } else { Some(Refusal::Overlap { holder: holder() }) }
    }

    /// How many triggers and lost runs wait for their turn here.
    pub(super) fn manuals_waiting(&self) -> usize {
        let dormant = self.mode == Mode::Dormant;
        let pending_retries = self
            .pending_retries
            .iter()
            .filter(|pending| !dormant && !self.goes_on(pending.retry.run))
            .count();
        pending_retries + self.manuals.iter().filter(|manual| manual.is_waiting()).count()
    }

    /// Runs that are lost are owed another attempt.
    pub(super) fn retries_lost(&self) -> bool {
        self.policies.on_lost == OnLost::Retry && self.policies.fires != Fires::Local
    }

    /// A run of this job was lost, and is owed another attempt. Who does not fire it is told when that begins: whatever was
    /// noted until then may have been settled elsewhere.
    pub(super) fn on_pending_retry(&mut self, retry: PendingRetry) {
        let goes_on = self.runs.iter().any(|run| run.run == retry.run && !run.lost);
        let fires = matches!(self.mode, Mode::Firing(_));
        if !fires || !self.retries_lost() || retry.losses >= LOSSES_MAX || goes_on || self.is_closing() {
            return;
        }
        if let Some(known) = self.manuals.iter_mut().find(|manual| manual.run == retry.run) {
            // A trigger whose claim is under way may be granted, or not, without it.
            let plain = known.retry.is_none() && known.is_asked();
            if !plain {
                known.retry = known.retry.filter(|former| former.losses >= retry.losses).or(Some(retry));
                return;
            }
        }
        self.add_pending_retry(QueuedRetry { retry, dropped: false });
    }

    /// Whether the run is owed, so that it goes on, or is closed, by that.
    fn defers_to_pending_retry(&mut self, manual: &Manual) -> bool {
        match self.pending_retries.iter_mut().find(|pending| pending.retry.run == manual.run) {
            Some(pending) => {
                pending.dropped |= !manual.is_wanted();
                true
            }
            None => false,
        }
    }

    fn add_pending_retry(&mut self, pending: QueuedRetry) {
        match self.pending_retries.binary_search_by_key(&pending.retry.run, |pending| pending.retry.run) {
            Ok(at) if self.pending_retries[at].retry.losses < pending.retry.losses => {
                self.pending_retries[at].retry = pending.retry
            }
            Ok(_) => {}
            Err(at) => self.pending_retries.list_mut().insert(at, pending),
        }
        if self.pending_retries.len() > PENDING_RETRIES_MAX {
            self.pending_retries.list_mut().remove(0);
        }
    }

    /// The store says all that is owed. What is to be closed, of that, stays so.
    pub(super) fn replace_pending_retries(&mut self, retry: Vec<PendingRetry>) {
        self.put_pending_retries_back();
        let former = std::mem::take(&mut self.pending_retries);
        retry.into_iter().for_each(|retry| self.on_pending_retry(retry));
        for pending in self.pending_retries.iter_mut() {
            let known = former.binary_search_by_key(&pending.retry.run, |former| former.retry.run);
            pending.dropped = known.is_ok_and(|at| former[at].dropped);
        }
    }

    /// Nothing that was lost goes on.
    pub(super) fn forget_pending_retries(&mut self) {
        self.pending_retries = Seldom::default();
        self.manuals.retain(|manual| manual.retry.is_none() || !manual.is_waiting());
    }

    /// Lost runs that wait for their turn wait among those that are owed again.
    fn put_pending_retries_back(&mut self) {
        let (waiting, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.manuals)
            .into_iter()
            .partition(|manual| manual.retry.is_some() && manual.is_waiting());
        self.manuals = rest;
        for manual in waiting {
            let dropped = !manual.is_wanted();
            manual.retry.into_iter().for_each(|retry| self.add_pending_retry(QueuedRetry { retry, dropped }));
        }
    }

    /// Takes the oldest lost run that may go on to the front of those that wait, one at a time.
    fn take_pending_retry(&mut self) {
        if !self.retries_lost() {
            // One that was asked for before the job was changed may have come back.
            return self.forget_pending_retries();
        }
        let first = self.manuals.front();
        let has_turn = first.is_none_or(|first| first.is_waiting() && first.retry.is_none())
            && self.free_slot(0).is_some();
        if self.pending_retries.is_empty() || self.mode == Mode::Dormant || !has_turn {
            return;
        }
        // The lost one may still go on here, and must not keep the others waiting.
        let is_free = |run| !self.goes_on(run) && self.manuals.iter().all(|manual| manual.run != run);
        let Some(at) = self.pending_retries.iter().position(|pending| is_free(pending.retry.run)) else {
            return;
        };
        let QueuedRetry { retry, dropped } = self.pending_retries.list_mut().remove(at);
        self.manuals.push_front(Manual {
            run: retry.run,
            retry: Some(retry),
            stage: Stage::Waiting(Duration::ZERO),
            caller: if dropped { Caller::Dropped } else { Caller::Knows },
            doubtful: false,
            slot: 0,
            contended: false,
        });
    }

    /// It is still in progress here, or the store is yet to settle whether it is.
    fn goes_on(&self, run: RunId) -> bool {
        self.runs.iter().any(|active| active.run == run) || self.is_asked_for(run)
    }

    /// The runs in progress leave a slot for it, and it is not the lost one of them, or one that the store is yet to settle.
    fn has_room_for(&self, manual: &Manual) -> bool {
        self.free_slot(0).is_some() && !self.goes_on(manual.run)
    }

    /// Asks for the first that waits, if it may start now.
    pub(super) fn work_off_manuals(&mut self, now: Now, effects: &mut Effects) {
        loop {
            self.take_pending_retry();
            let Some(first) = self.manuals.front().copied() else { return };
            let Stage::Waiting(not_before) = first.stage else { return };
            // A lost run goes on only where the job fires.
            if let (Some(retry), Mode::Dormant) = (first.retry, self.mode) {
                self.manuals.pop_front();
                self.add_pending_retry(QueuedRetry { retry, dropped: !first.is_wanted() });
                continue;
            }
            if not_before > now.elapsed {
                return;
            }
            let Some(slot) = self.free_slot(0) else {
                // A run that was lost takes nobody's place: what holds the key is newer.
                if self.policies.overlap == Overlap::Replace && first.retry.is_none() {
                    self.cancel_all(now, CancelReason::Replaced, effects);
                }
                if self.free_slot(0).is_some() {
                    continue;
                }
                self.answer_without_slot(effects);
                return;
            };
            if !self.has_room_for(&first) || !self.has_permit() {
                return;
            }
            if self.policies.fires == Fires::Local {
                self.manuals.pop_front();
                self.answer(&first, Ok(Triggered::Started), effects);
                self.start(now, Start { slot, ..first.start() }, effects);
                continue;
            }
            self.pledge_permit(Claimant::Manual);
            if let Some(manual) = self.manuals.front_mut() {
                (manual.stage, manual.slot) = (Stage::Asked, slot);
                let claim = self.claim_of_manual(false);
                effects.extend(claim.map(Effect::Claim));
            }
            return;
        }
    }

    /// A tick was faster than those that waited for one of the node's slots.
    fn answer_without_slot(&mut self, effects: &mut Effects) {
        match self.policies.overlap {
            Overlap::Skip | Overlap::Allow(_) => {
                let holder = self.runs.first().map(|run| run.run);
                self.refuse_callers(&Refusal::Overlap { holder }, effects);
            }
            Overlap::Queue(_) | Overlap::Replace => self.answer_queued(effects),
        }
    }

    fn claim_of_manual(&self, recheck: bool) -> Option<Claim> {
        let Manual { run, retry, slot, .. } = *self.manuals.front()?;
        let replace = self.policies.overlap == Overlap::Replace && retry.is_none();
        Some(Claim { slot, replace, recheck, resume_lost: retry.is_some(), ..Claim::new(run) })
    }

    pub(super) fn ask_again_for_manual(&mut self, now: Now, effects: &mut Effects) {
        if let Some(first) = self.manuals.front_mut()
            && let Stage::Unanswered(at) = first.stage
            && at <= now.elapsed
        {
            first.stage = Stage::Asked;
            // One that is still wanted is asked for anew, not only settled.
            let wanted = first.is_wanted() || first.retry.is_some();
            let recheck = !wanted || self.draining || self.no_more;
            effects.extend(self.claim_of_manual(recheck).map(Effect::Claim));
        }
    }

    pub(super) fn on_manual_claimed(&mut self, now: Now, verdict: Verdict, effects: &mut Effects) {
        let Some(manual) = self.manuals.pop_front() else { return };
        match verdict {
            Verdict::Granted { token, .. } => {
                let start = Start { token: Some(token), ..manual.start() };
                let refused = match manual.caller {
                    _ if self.no_more || (self.draining && manual.doubtful) => Some(Refusal::ShuttingDown),
                    Caller::GaveUp | Caller::Dropped => Some(Refusal::Cancelled),
                    Caller::Waits | Caller::Knows if self.free_slot(manual.slot) == Some(manual.slot) => None,
                    Caller::Waits | Caller::Knows => {
                        Some(Refusal::Overlap { holder: self.runs.first().map(|run| run.run) })
                    }
                };
                match refused {
                    Some(refusal) => {
                        self.take_permit_back(Claimant::Manual);
                        self.answer(&manual, Err(refusal), effects);
                        close_unstarted(start, effects);
                    }
                    None => {
                        self.answer(&manual, Ok(Triggered::Started), effects);
                        self.start_granted(now, Claimant::Manual, start, effects);
                    }
                }
            }
            Verdict::Unavailable { reason } => {
                self.take_permit_back(Claimant::Manual);
                effects.push(Effect::Unavailable { reason: reason.clone() });
                let told = Refusal::Unavailable { reason };
                let gives_up = manual.caller == Caller::Waits;
                self.answer(&manual, Err(told), effects);
                // It may have been granted: find out, and close it, or go on with it.
                let stage = Stage::Unanswered(self.again_at(now));
                let caller = if gives_up { Caller::GaveUp } else { manual.caller };
                self.manuals.push_front(Manual { stage, caller, doubtful: true, ..manual });
            }
            Verdict::Locked { .. } if manual.doubtful => {
                self.take_permit_back(Claimant::Manual);
                let stage = Stage::Unanswered(self.again_at(now));
                self.manuals.push_front(Manual { stage, ..manual });
            }
            refused => {
                self.take_permit_back(Claimant::Manual);
                self.on_manual_refused(now, manual, refused, effects);
            }
        }
    }

    /// The store refuses everybody, perhaps. Whoever waits is told; what was promised is asked for again.
    pub(super) fn on_manual_not_taken(&mut self, now: Now, reason: String, effects: &mut Effects) {
        let Some(manual) = self.manuals.pop_front() else { return };
        self.take_permit_back(Claimant::Manual);
        effects.push(Effect::Unavailable { reason: reason.clone() });
        let is_promised = manual.retry.is_some() || manual.caller == Caller::Knows;
        if is_promised && !self.is_closing() {
            let stage = Stage::Waiting(self.again_at(now));
            self.manuals.push_front(Manual { stage, ..manual });
        } else {
            self.refuse(&manual, Refusal::Unavailable { reason }, effects);
        }
    }

    fn on_manual_refused(&mut self, now: Now, mut manual: Manual, verdict: Verdict, effects: &mut Effects) {
        let again = Stage::Waiting(now.elapsed.saturating_add(KEY_AGAIN));
        // A debt is taken up, if only to be closed.
        let wanted = (manual.is_wanted() || manual.retry.is_some()) && !self.is_closing();
        match verdict {
            Verdict::Busy { holder } => {
                if !std::mem::replace(&mut manual.contended, true) {
                    effects.push(Effect::Contended { holder });
                }
                let waits = match self.policies.overlap {
                    _ if !wanted => false,
                    Overlap::Allow(_) if self.free_slot(manual.slot + 1).is_some() => {
                        if !self.is_permitted() {
                            // Its permit went back while it had no answer: with another one it tries all slots.
                            let stage = Stage::Waiting(now.elapsed);
                            self.manuals.push_front(Manual { stage, ..manual });
                            return;
                        }
                        let slot = self.free_slot(manual.slot + 1).unwrap_or_default();
                        self.manuals.push_front(Manual { slot, stage: Stage::Asked, ..manual });
                        self.pledge_permit(Claimant::Manual);
                        effects.extend(self.claim_of_manual(false).map(Effect::Claim));
                        return;
                    }
                    Overlap::Queue(_) | Overlap::Replace => true,
                    Overlap::Skip | Overlap::Allow(_) => manual.retry.is_some(),
                };
                if waits {
                    self.answer(&manual, Ok(Triggered::Queued), effects);
                    let caller = if manual.retry.is_some() { manual.caller } else { Caller::Knows };
                    self.manuals.push_front(Manual { stage: again, caller, ..manual });
                } else {
                    self.refuse(&manual, Refusal::Overlap { holder }, effects);
                }
            }
            Verdict::AlreadyRun { run, .. } => {
                self.refuse(&manual, Refusal::Overlap { holder: Some(run) }, effects);
            }
            // It is owed: what was asked for by its caller goes on as what it owes.
            Verdict::NotGranted if self.defers_to_pending_retry(&manual) => {
                self.answer(&manual, Ok(Triggered::Queued), effects);
            }
            // Who closes it says that it is lost, and it may go on elsewhere.
            Verdict::GrantedBefore if self.defers_to_pending_retry(&manual) => {
                self.answer(&manual, Ok(Triggered::Queued), effects);
            }
            Verdict::GrantedBefore => {
                let reason = "the session with the store was lost before it answered".to_owned();
                self.answer(&manual, Err(Refusal::Unavailable { reason }), effects);
            }
            // It was given up, or is owed no more.
            Verdict::NotGranted => self.refuse(&manual, Refusal::Overlap { holder: None }, effects),
            Verdict::Locked { .. }
                if wanted && (manual.retry.is_some() || manual.caller == Caller::Knows) =>
            {
                self.manuals.push_front(Manual { stage: again, ..manual });
            }
            // Nothing was taken, and whoever triggered it has waited long enough.
            Verdict::Locked { .. } => self.refuse(&manual, locked_key(), effects),
            Verdict::BadData { reason } => {
                self.refuse(&manual, Refusal::Parked { reason: reason.as_str().into() }, effects);
                self.on_bad_data(&reason, effects);
            }
            // A claim without a tick depends on no cursor, no term and no time.
            other => {
                let reason = format!("the store answered a claim without a tick with {other:?}");
                self.refuse(&manual, Refusal::Unavailable { reason }, effects);
            }
        }
    }

    /// Tells whoever waits for it.
    fn answer(&self, manual: &Manual, answer: Result<Triggered, Refusal>, effects: &mut Effects) {
        if manual.caller == Caller::Waits {
            effects.push(Effect::Answer { run: manual.run, answer });
        }
    }

    /// Tells whoever waits for it; if nobody does, and it was promised to start, everybody.
    fn refuse(&self, manual: &Manual, refusal: Refusal, effects: &mut Effects) {
        match manual.caller {
            Caller::Waits => effects.push(Effect::Answer { run: manual.run, answer: Err(refusal) }),
            Caller::Knows | Caller::Dropped if manual.retry.is_none() => {
                effects.push(Effect::Ended(never_started(manual)));
            }
            Caller::Knows | Caller::Dropped | Caller::GaveUp => {}
        }
    }

    /// All that wait for their turn, and were not told, are told that they do.
    pub(super) fn answer_queued(&mut self, effects: &mut Effects) {
        for manual in &mut self.manuals {
            if manual.is_waiting() && manual.caller == Caller::Waits {
                manual.caller = Caller::Knows;
                effects.push(Effect::Answer { run: manual.run, answer: Ok(Triggered::Queued) });
            }
        }
    }

    /// Those that wait for others are told so; one that waits only for the node's answer is not, yet.
    fn answer_those_behind(&mut self, effects: &mut Effects) {
        // One that was asked for before was answered: wait.
        let first_waits_for_permit = self.wants_permit && !self.waits_for_permit();
        if !first_waits_for_permit || self.manuals.len() > 1 {
            self.answer_queued(effects);
        }
    }

    /// What waits, and was not promised to start, does not start.
    pub(super) fn refuse_callers(&mut self, refusal: &Refusal, effects: &mut Effects) {
        self.refuse_all(refusal, effects, |manual| manual.is_waiting() && manual.caller == Caller::Waits);
    }

    /// The first of those that were told that they wait goes on waiting.
    pub(super) fn put_trigger_off(&mut self, later: Duration) {
        let has_room = self.free_slot(0).is_some();
        if let Some(first) = self.manuals.front_mut().filter(|first| first.is_waiting() && has_room) {
            first.stage = Stage::Waiting(later);
        }
    }

    /// Lost runs that were to go on here are taken up only to be closed: the store would go on to owe them.
    pub(super) fn drop_pending_retries(&mut self) {
        if self.mode == Mode::Dormant {
            return;
        }
        self.put_pending_retries_back();
        self.pending_retries.iter_mut().for_each(|pending| pending.dropped = true);
        for asked in self.manuals.iter_mut().filter(|manual| manual.retry.is_some()) {
            asked.caller = Caller::Dropped;
        }
    }

    /// What was to start later does not start any more.
    pub(super) fn drop_triggers(&mut self, refusal: Refusal, effects: &mut Effects) {
        self.refuse_all(&refusal, effects, Manual::is_waiting);
        for manual in self.manuals.iter_mut().filter(|manual| manual.retry.is_none()) {
            if manual.caller == Caller::Knows {
                manual.caller = Caller::Dropped;
            }
        }
    }

    /// A run that is to start later does not start any more.
    pub(super) fn drop_manual(&mut self, run: RunId, effects: &mut Effects) {
        let is_meant = |manual: &Manual| manual.run == run;
        self.refuse_all(&Refusal::Cancelled, effects, |manual| {
            is_meant(manual) && manual.is_waiting() && manual.retry.is_none()
        });
        for manual in self.manuals.iter_mut().filter(|manual| is_meant(manual)) {
            match manual.caller {
                Caller::Knows => manual.caller = Caller::Dropped,
                Caller::Waits | Caller::GaveUp | Caller::Dropped => {}
            }
        }
        for pending in self.pending_retries.iter_mut().filter(|pending| pending.retry.run == run) {
            pending.dropped = true;
        }
    }

    /// Whether a run waits here for its turn, or for the store.
    pub(super) fn waits_as_manual(&self, run: RunId) -> bool {
        let is_pending_retry =
            self.mode != Mode::Dormant && self.pending_retries.iter().any(|pending| pending.retry.run == run);
        is_pending_retry || self.manuals.iter().any(|manual| manual.run == run)
    }

    /// What is asked for, in the name of somebody who waits, does not start any more.
    pub(super) fn give_callers_up(&mut self, effects: &mut Effects) {
        for manual in self.manuals.iter_mut().filter(|manual| manual.caller == Caller::Waits) {
            manual.caller = Caller::GaveUp;
            effects.push(Effect::Answer { run: manual.run, answer: Err(Refusal::ShuttingDown) });
        }
    }

    fn refuse_all(&mut self, refusal: &Refusal, effects: &mut Effects, which: impl Fn(&Manual) -> bool) {
        let (refused, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.manuals).into_iter().partition(|manual| which(manual));
        self.manuals = kept.into();
        for manual in refused {
            self.refuse(&manual, refusal.clone(), effects);
        }
    }
}

/// An application's own transaction, perhaps, has the key.
pub(super) fn locked_key() -> Refusal {
    Refusal::Unavailable { reason: "somebody else has locked its key".to_owned() }
}

/// A trigger that was queued, and came to nothing. It was never claimed.
fn never_started(manual: &Manual) -> Ended {
    Ended {
        run: manual.run,
        outcome: Outcome::Cancelled,
        cancelled: Some(CancelReason::NotStarted),
        aborted: false,
        recorded: false,
        end: End::Aborted,
        started_at: None,
        took: Duration::ZERO,
    }
}
