//! What follows from a store that refuses the claim of a tick.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    CLAIM_LATER_MAX, Effect, Effects, JobMachine, KEY_AGAIN, Mode, Timer,
    asked::TickAsked,
    backlog::{Waiting, announce},
    permit::Claimant,
    skips::FLUSH_AFTER,
};
use crate::{
    core::{
        policy::{Misfire, Overlap},
        time::Now,
    },
    port::{Authority, Pause, SkipReason, Verdict},
};

impl JobMachine {
    pub(super) fn on_tick_refused(
        &mut self,
        now: Now,
        mut asked: TickAsked,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let TickAsked { claim, waiting, .. } = asked;
        match verdict {
            Verdict::AlreadyRun { cursor, .. } | Verdict::Elsewhere { cursor } => {
                if matches!(claim.authority, Authority::Any | Authority::Leaderless) {
                    effects.push(Effect::Elsewhere);
                }
                if cursor == claim.fire_time.instant() {
                    self.decided_up_to(cursor);
                } else {
                    self.cursor.see(cursor);
                    self.adopt(cursor);
                }
            }
            Verdict::TakenElsewhere { cursor, .. } => {
                effects.push(Effect::Elsewhere);
                announce(waiting.missed, effects);
                self.decided_up_to(cursor);
            }
            Verdict::Unknown => self.wait_for_enrolment(now),
            Verdict::Busy { holder, .. } => {
                if !std::mem::replace(&mut asked.waiting.contended, true) {
                    effects.push(Effect::Contended { holder });
                }
                self.on_busy(now, asked, effects);
            }
            Verdict::Deposed { .. } | Verdict::HasLeader => {
                self.on_deposed(claim.authority);
            }
            Verdict::Paused(pause) => self.on_paused(now, waiting, pause, effects),
            Verdict::Exhausted => {
                // What was skipped and said before this tick is decided. What was only missed is not: the job
                // was over.
                if let (Some(to), None) = (waiting.skipped_to, waiting.missed) {
                    self.advance(now, to, waiting.skips, claim.authority, effects);
                }
                self.exhaust();
            }
            Verdict::BadData { reason } => self.on_bad_data(&reason, effects),
            // The clock was wrong by long, and was corrected meanwhile: nothing that was decided by it holds.
            Verdict::NotYet { .. } if claim.fire_time.instant() > now.wall => self.adopt(self.cursor.stored),
            Verdict::NotYet { wait } if wait > CLAIM_LATER_MAX => {
                self.adopt(self.cursor.stored);
                self.claim_later(now, CLAIM_LATER_MAX);
            }
            Verdict::NotYet { wait } => {
                self.put_back(waiting);
                self.claim_later(now, wait);
            }
            Verdict::NotGranted => self.put_back(waiting),
            Verdict::Contended if self.decides_on() && waiting.is_too_late(now) => {
                self.skip_waiting(now, waiting, SkipReason::Contended, effects);
            }
            Verdict::Lapsed { reason } if self.decides_on() => {
                self.skip_waiting(now, waiting, reason, effects);
            }
            Verdict::Contended | Verdict::Lapsed { .. } => self.put_back(waiting),
            // No refusals.
            Verdict::Granted { .. }
            | Verdict::GrantedBefore
            | Verdict::RanBefore { .. }
            | Verdict::Locked { .. }
            | Verdict::Unavailable { .. } => {}
        }
    }

    /// The store knows of a pause.
    fn on_paused(&mut self, now: Now, waiting: Waiting, pause: Pause, effects: &mut Effects) {
        match (self.mode, self.policies.misfire) {
            // It waits for nothing.
            (Mode::Firing(_), Misfire::Skip) if self.decides_on() => {
                self.skip_waiting(now, waiting, SkipReason::Paused, effects);
            }
            // Or it is decided anew, and said then.
            (Mode::Firing(_) | Mode::Dormant | Mode::Parked { .. }, _) => self.put_back(waiting),
        }
        self.on_pause(now, Some(pause), effects);
        if !self.pause.is_on() {
            // It is over by this node's reading of the store's clock, which is a little off.
            self.claim_later(now, KEY_AGAIN);
        }
    }

    /// The tick that was asked for is decided, and nothing of it is to be done here.
    pub(super) fn decided_up_to(&mut self, tick: DateTime<Utc>) {
        self.cursor.see(tick);
        if self.decides_on() {
            // What waits behind it is still to be decided.
            self.cursor.stored = tick;
        } else {
            self.adopt(tick);
        }
    }

    /// The store does not know the job any more. It is enrolled again, and resumed from where that puts its
    /// cursor; nothing is gained by asking before.
    pub(super) fn wait_for_enrolment(&mut self, now: Now) {
        self.adopt(self.cursor.stored);
        self.claim_later(now, FLUSH_AFTER);
    }

    /// A live run that is not this job's, or not this node's, holds the key.
    pub(super) fn on_busy(&mut self, now: Now, asked: TickAsked, effects: &mut Effects) {
        let TickAsked { claim, waiting, slot, .. } = asked;
        if !self.decides_on() {
            // Whoever fires the job now decides the tick.
            self.adopt(self.cursor.stored);
            return;
        }
        let catches_up = waiting.tick.lateness(now.wall) > self.policies.misfire_after
            && matches!(self.policies.misfire, Misfire::All { .. });
        if let Some(slot) = self.free_slot(slot + 1) {
            if !self.permit.allows() {
                // Its permit went back while it had no answer: with another one it tries all slots.
                self.put_back(waiting);
                return;
            }
            self.permit.pledge(Claimant::Tick);
            effects.push(Effect::Claim(self.claim_of(asked.run, claim, slot, waiting.window)));
            self.asked.ask_claim(TickAsked { slot, ..asked });
            return;
        }
        match self.policies.overlap {
            Overlap::Skip | Overlap::Allow(_) if !catches_up && !self.schedule.counts_from_completion() => {
                self.skip_waiting(now, waiting, SkipReason::Overlap, effects);
            }
            Overlap::Skip | Overlap::Allow(_) | Overlap::Queue(_) | Overlap::Replace => {
                self.put_back(waiting);
                self.claim_later(now, KEY_AGAIN);
                self.key_is_busy = true;
            }
        }
    }

    /// The store refused a tick for now, not for a busy key.
    fn claim_later(&mut self, now: Now, wait: Duration) {
        self.timers.set(Timer::ClaimLater, now.elapsed.saturating_add(wait));
        self.key_is_busy = false;
    }

    /// A tick is to be claimed again when its key may be free.
    pub(super) fn waits_for_key(&self) -> bool {
        self.key_is_busy && self.timers.is_set(Timer::ClaimLater)
    }

    /// Nothing came of the claim: its tick is to be decided again.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        if self.decides_on() {
            self.backlog.push_front(waiting);
        } else {
            self.adopt(self.cursor.stored);
        }
    }

    /// What was asked is still this machine's to decide.
    pub(super) fn decides_on(&self) -> bool {
        self.mode != Mode::Dormant && self.cursor.restart_from.is_none()
    }
}
