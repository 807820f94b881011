//! What the store answers to the claim of a tick, and what follows.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    Claim, Effect, Effects, End, Ended, JobMachine, Mode, Refusal, Start,
    manual::locked_key,
    permit::Claimant,
    ticks::{Asked, FLUSH_AFTER, TickAsked, Waiting, announce},
};
use crate::{
    core::{
        backoff::doubled,
        policy::{Misfire, Overlap},
        time::Now,
    },
    event::{CancelReason, Outcome},
    name::RunId,
    port::{Authority, SkipReason, Verdict},
};

/// The first pause before a claim that got no answer is asked again; it doubles up to [`ASK_AGAIN_MAX`].
pub const ASK_AGAIN_MIN: Duration = Duration::from_millis(100);
/// The longest pause before a claim that got no answer is asked again.
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(5);
/// The longest pause after a tick was found not to be due by the store's clock.
pub const HOLD_MAX: Duration = Duration::from_secs(1);
/// How often a tick that waits for its key asks whether the run that holds it, on another node or of another job, has ended.
pub const KEY_AGAIN: Duration = Duration::from_millis(250);

impl JobMachine {
    pub(super) fn on_claimed(&mut self, now: Now, run: RunId, verdict: Verdict, effects: &mut Effects) {
        // `NotGranted` only settles an earlier claim. A store that refuses every claim can say it, so the back-off goes on.
        if !matches!(verdict, Verdict::Unavailable { .. } | Verdict::Locked { .. } | Verdict::NotGranted) {
            self.unanswered = 0;
        }
        let verdict = match verdict {
            // Another run had the key all the time.
            Verdict::Locked { holder: Some(holder) } if holder != run => {
                Verdict::Busy { holder: Some(holder) }
            }
            other => other,
        };
        if self.manuals.front().is_some_and(|manual| manual.run == run && manual.is_asked()) {
            self.on_manual_claimed(now, verdict, effects);
            return;
        }
        match &self.asked {
            Asked::Claim(asked) if asked.run == run => {
                let asked = **asked;
                self.on_tick_claimed(now, asked, verdict, effects);
            }
            Asked::Claim(_) | Asked::Advance(_) | Asked::Nothing => {
                // Asked before the actor died. A grant that nobody waits for must not hold its key.
                if let Verdict::Granted { token, .. } = verdict {
                    close_unstarted(Start { token: Some(token), ..Start::new(run) }, effects);
                }
            }
        }
    }

    /// The store granted nothing, and perhaps refuses everybody: what is wanted is asked for again.
    pub(super) fn on_claim_refused(&mut self, now: Now, run: RunId, reason: String, effects: &mut Effects) {
        match (&self.asked, self.manuals.front()) {
            (_, Some(manual)) if manual.run == run && manual.is_refusable() => {
                self.on_manual_not_taken(now, reason, effects);
            }
            (Asked::Claim(asked), _) if asked.run == run => {
                let asked = **asked;
                self.ask_tick_again(now, asked, reason, effects);
            }
            _ => self.on_claimed(now, run, Verdict::Unavailable { reason }, effects),
        }
    }

    fn ask_tick_again(&mut self, now: Now, asked: TickAsked, reason: String, effects: &mut Effects) {
        self.take_permit_back(Claimant::Tick);
        let again_at = Some(self.again_at(now));
        self.asked = Asked::Claim(Box::new(TickAsked { again_at, ..asked }));
        effects.push(Effect::Unavailable { reason: reason.clone() });
        // Those that waited for its permit would ask the same store.
        self.refuse_callers(&Refusal::Unavailable { reason }, effects);
    }

    pub(super) fn on_tick_claimed(
        &mut self,
        now: Now,
        asked: TickAsked,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let TickAsked { run, claim, waiting, slot, late_by, only_rechecks, ends_pause, .. } = asked;
        self.asked = Asked::Nothing;
        match verdict {
            Verdict::Granted { token, .. } => {
                self.leave_run();
                if ends_pause && self.stop.is_none() {
                    // The grant proves that the pause ended; its notification was missed.
                    self.pause = None;
                    self.pause_check_at = None;
                }
                self.stored = claim.fire_time.instant();
                self.see(self.stored);
                announce(waiting.missed, effects);
                let start = Start {
                    tick: Some(claim.fire_time),
                    term: claim.authority.term(),
                    token: Some(token),
                    slot,
                    ..Start::new(run)
                };
                // Granted at last, after the store was silent for long; or a run whose lock is lost still goes on.
                let silence = claim.fire_time.lateness(now.wall).saturating_sub(late_by);
                let in_time = silence <= waiting.window;
                // A drain does not wait for a claim that got no answer.
                let too_late = self.no_more || (self.draining && only_rechecks) || !in_time;
                if self.free_slot(slot) != Some(slot) || too_late {
                    self.take_permit_back(Claimant::Tick);
                    close_unstarted(start, effects);
                } else {
                    self.start_granted(now, Claimant::Tick, start, effects);
                }
            }
            Verdict::Locked { .. } => {
                self.take_permit_back(Claimant::Tick);
                self.refuse_callers(&locked_key(), effects);
                // The same run again: an earlier claim of it that got no answer may have been taken.
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Claim(Box::new(TickAsked { again_at, ..asked }));
            }
            Verdict::Unavailable { reason } => {
                self.ask_tick_again(now, TickAsked { doubtful: true, ..asked }, reason, effects);
            }
            Verdict::GrantedBefore => {
                self.leave_run();
                self.take_permit_back(Claimant::Tick);
                announce(waiting.missed, effects);
                // Whoever takes over closes the run as lost, and says so.
                self.decided_up_to(claim.fire_time.instant());
            }
            Verdict::NotGranted if asked.only_rechecks => {
                self.take_permit_back(Claimant::Tick);
                self.leave_tick(&waiting);
                self.put_back(waiting);
            }
            _ if asked.doubtful => {
                // The claim that got no answer may have been granted, and closed since. What this answer says is asked
                // for once more when that is known.
                self.take_permit_back(Claimant::Tick);
                let asked = TickAsked { only_rechecks: true, again_at: None, ..asked };
                effects.push(Effect::Claim(Claim { recheck: true, ..self.claim_of(run, claim, slot) }));
                self.asked = Asked::Claim(Box::new(asked));
            }
            refused => {
                self.take_permit_back(Claimant::Tick);
                match &refused {
                    // Somebody else decides, here as well as what comes after it; or none of it is due.
                    Verdict::AlreadyRun { .. }
                    | Verdict::Elsewhere { .. }
                    | Verdict::Deposed { .. }
                    | Verdict::HasLeader
                    | Verdict::Exhausted => self.leaving = None,
                    Verdict::NotYet { wait } if *wait > HOLD_MAX => self.leaving = None,
                    _ => self.leave_tick(&waiting),
                }
                self.on_tick_refused(now, asked, refused, effects);
            }
        }
        self.on_answered();
    }

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
                    self.see(cursor);
                    self.adopt(cursor);
                }
            }
            Verdict::Unknown => self.wait_for_enrolment(now),
            Verdict::Busy { holder } => {
                if !std::mem::replace(&mut asked.waiting.contended, true) {
                    effects.push(Effect::Contended { holder });
                }
                self.on_busy(now, asked, effects);
            }
            Verdict::Deposed { .. } | Verdict::HasLeader => {
                // Resumed by another right meanwhile: that one decides.
                if self.mode == Mode::Firing(Some(claim.authority)) {
                    self.mode = Mode::Dormant;
                }
                self.adopt(self.stored);
            }
            Verdict::Paused(pause) => {
                match (self.mode, self.policies.misfire) {
                    // Decided anew, and said then.
                    _ if !self.decides_on() => self.put_back(waiting),
                    // It waits for nothing.
                    (Mode::Firing(_), Misfire::Skip) => {
                        self.skip_waiting(now, waiting, SkipReason::Paused, effects);
                    }
                    _ => self.put_back(waiting),
                }
                self.on_pause(now, Some(pause), effects);
                if self.pause.is_none() {
                    // It is over by this node's reading of the store's clock, which is a little off.
                    self.hold_until = Some(now.elapsed.saturating_add(KEY_AGAIN));
                }
            }
            Verdict::Exhausted => {
                // What was skipped and said before this tick is decided. What was only missed is not: the job was over.
                if let (Some(to), None) = (waiting.skipped_to, waiting.missed) {
                    self.advance(now, to, waiting.skips, claim.authority, effects);
                }
                self.exhaust();
            }
            Verdict::BadData { reason } => self.on_bad_data(&reason, effects),
            // The clock was wrong by long, and was corrected meanwhile: nothing that was decided by it holds.
            Verdict::NotYet { .. } if claim.fire_time.instant() > now.wall => self.adopt(self.stored),
            Verdict::NotYet { wait } if wait > HOLD_MAX => {
                self.adopt(self.stored);
                self.hold_until = Some(now.elapsed.saturating_add(HOLD_MAX));
            }
            Verdict::NotYet { wait } => {
                self.put_back(waiting);
                self.hold_until = Some(now.elapsed.saturating_add(wait));
            }
            Verdict::NotGranted => self.put_back(waiting),
            // No refusals.
            Verdict::Granted { .. }
            | Verdict::GrantedBefore
            | Verdict::Locked { .. }
            | Verdict::Unavailable { .. } => {}
        }
    }

    /// The tick that was asked for is decided, and nothing of it is to be done here.
    fn decided_up_to(&mut self, tick: DateTime<Utc>) {
        self.see(tick);
        if self.decides_on() {
            // What waits behind it is still to be decided.
            self.stored = tick;
        } else {
            self.adopt(tick);
        }
    }

    /// The store does not know the job any more. It is enrolled again, and resumed from where that puts its cursor;
    /// nothing is gained by asking before.
    pub(super) fn wait_for_enrolment(&mut self, now: Now) {
        self.adopt(self.stored);
        self.hold_until = Some(now.elapsed.saturating_add(FLUSH_AFTER));
    }

    /// A live run that is not this job's, or not this node's, holds the key.
    pub(super) fn on_busy(&mut self, now: Now, asked: TickAsked, effects: &mut Effects) {
        let TickAsked { claim, waiting, slot, .. } = asked;
        if !self.decides_on() {
            // Whoever fires the job now decides the tick.
            self.adopt(self.stored);
            return;
        }
        let catches_up = waiting.tick.lateness(now.wall) > self.policies.misfire_after
            && matches!(self.policies.misfire, Misfire::All { .. });
        if let Some(slot) = self.free_slot(slot + 1) {
            if !self.is_permitted() {
                // Its permit went back while it had no answer: with another one it tries all slots.
                self.put_back(waiting);
                return;
            }
            self.pledge_permit(Claimant::Tick);
            effects.push(Effect::Claim(self.claim_of(asked.run, claim, slot)));
            self.asked = Asked::Claim(Box::new(TickAsked { slot, ..asked }));
            return;
        }
        match self.policies.overlap {
            Overlap::Skip | Overlap::Allow(_) if !catches_up && !self.schedule.counts_from_completion() => {
                self.skip_waiting(now, waiting, SkipReason::Overlap, effects);
            }
            Overlap::Skip | Overlap::Allow(_) | Overlap::Queue(_) | Overlap::Replace => {
                self.put_back(waiting);
                self.hold_until = Some(now.elapsed.saturating_add(KEY_AGAIN));
            }
        }
    }

    /// Nothing came of the claim: its tick is to be decided again.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        if self.decides_on() {
            self.backlog.push_front(waiting);
        } else {
            self.adopt(self.stored);
        }
    }

    /// What was asked is still this machine's to decide.
    pub(super) fn decides_on(&self) -> bool {
        self.mode != Mode::Dormant && self.restart_from.is_none()
    }

    pub(super) fn ask_again(&mut self, now: Now, effects: &mut Effects) {
        self.ask_again_for_manual(now, effects);
        let newer_is_due = self.next.is_some_and(|next| next.instant() <= now.wall) && self.room() == 1;
        if let Asked::Claim(asked) = &mut self.asked
            && asked.again_at.take_if(|at| *at <= now.elapsed).is_some()
        {
            // While it got no answer a newer tick may have become due, or the term may be over: then it is only
            // settled, and what it was to decide is decided anew.
            let recheck = newer_is_due
                || self.restart_from.is_some()
                || self.mode != Mode::Firing(Some(asked.claim.authority));
            asked.only_rechecks = recheck;
            let asked = **asked;
            let TickAsked { run, claim, slot, .. } = asked;
            match recheck && !asked.doubtful {
                true => self.on_tick_claimed(now, asked, Verdict::NotGranted, effects),
                false => {
                    effects.push(Effect::Claim(Claim { recheck, ..self.claim_of(run, claim, slot) }));
                }
            }
        }
        if let Asked::Advance(asked) = &mut self.asked
            && asked.again_at.take_if(|at| *at <= now.elapsed).is_some()
        {
            effects.push(Effect::Advance(asked.advance));
        }
    }

    pub(super) fn again_at(&mut self, now: Now) -> Duration {
        let pause = doubled(ASK_AGAIN_MIN, self.unanswered, ASK_AGAIN_MAX);
        self.unanswered = self.unanswered.saturating_add(1);
        now.elapsed + pause
    }
}

/// A granted run that must not start any more is closed, so that nothing is lost silently.
pub(super) fn close_unstarted(start: Start, effects: &mut Effects) {
    let outcome = Outcome::Cancelled;
    if start.token.is_some() {
        effects.push(Effect::Complete { run: start.run, outcome });
    }
    effects.push(Effect::Ended(Ended {
        run: start.run,
        outcome,
        cancelled: Some(CancelReason::NotStarted),
        aborted: false,
        recorded: true,
        end: End::Aborted,
        started_at: None,
        took: Duration::ZERO,
    }));
}
