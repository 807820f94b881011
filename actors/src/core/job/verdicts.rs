//! What the store answers to the claim of a tick, and what follows.

use std::time::Duration;

use super::{
    BodyEnd, Claim, Effect, Effects, JobMachine, Mode, Refusal, RunEnded, RunFacts, Start, Timer,
    asked::TickAsked, backlog::announce, permit::Claimant, triggers::locked_key,
};
use crate::{
    core::time::Now,
    event::{CancelReason, Outcome},
    name::{FencingToken, RunId},
    port::Verdict,
};

/// The first pause before a claim that got no answer is asked again; it doubles up to [`ASK_AGAIN_MAX`].
pub(crate) const ASK_AGAIN_MIN: Duration = Duration::from_millis(100);
/// The longest pause before a claim that got no answer is asked again.
pub(crate) const ASK_AGAIN_MAX: Duration = Duration::from_secs(5);
/// The longest pause after a tick was found not to be due by the store's clock.
pub(crate) const CLAIM_LATER_MAX: Duration = Duration::from_secs(1);
/// How often a tick that waits for its key asks whether the run that holds it, on another node or of another
/// job, has ended.
pub(crate) const KEY_AGAIN: Duration = Duration::from_millis(250);

impl JobMachine {
    pub(super) fn on_claimed(&mut self, now: Now, run: RunId, verdict: Verdict, effects: &mut Effects) {
        // `NotGranted` only answers a recheck. A store that refuses every claim can say it, so the
        // back-off goes on.
        if !matches!(
            verdict,
            Verdict::Unavailable { .. } | Verdict::Locked { .. } | Verdict::NotGranted | Verdict::Contended
        ) {
            self.asked.on_decided();
        }
        let verdict = match verdict {
            // Another run had the key all the time.
            Verdict::Locked { holder: Some(holder) } if holder != run => {
                Verdict::Busy { holder: Some(holder), own: false }
            }
            other => other,
        };
        if self.unscheduled.queue.front().is_some_and(|first| first.run == run && first.is_asked()) {
            self.on_unscheduled_claimed(now, verdict, effects);
            return;
        }
        if let Some(asked) = self.asked.claim().filter(|asked| asked.run == run).copied() {
            self.on_tick_claimed(now, asked, verdict, effects);
        } else if let Verdict::Granted { token, .. } = verdict {
            // Asked before the actor died: whether for a tick or for a trigger is not known any more. A grant
            // that nobody waits for must not hold its key.
            close_unknown(Start { token: Some(token), ..Start::new(run) }, effects);
        }
    }

    /// The store granted nothing, and perhaps refuses everybody: what is wanted is asked for again.
    pub(super) fn on_claim_refused(&mut self, now: Now, run: RunId, reason: String, effects: &mut Effects) {
        if self.unscheduled.queue.front().is_some_and(|first| first.run == run && first.is_refusable()) {
            self.on_unscheduled_not_taken(now, reason, effects);
        } else if let Some(asked) = self.asked.claim().filter(|asked| asked.run == run).copied() {
            self.ask_tick_again(now, asked, reason, effects);
        } else {
            self.on_claimed(now, run, Verdict::Unavailable { reason }, effects);
        }
    }

    fn ask_tick_again(&mut self, now: Now, asked: TickAsked, reason: String, effects: &mut Effects) {
        self.permit.take_back(Claimant::Tick);
        self.asked.ask_claim(asked);
        self.ask_again_later(now);
        effects.push(Effect::Unavailable { reason: reason.clone() });
        // Those that waited for its permit would ask the same store.
        self.refuse_callers(&Refusal::Unavailable { reason }, effects);
    }

    /// The votes on a tick are split. The same run again: what it took may not have been given back, and is its own.
    fn ask_contended_again(&mut self, now: Now, mut asked: TickAsked, effects: &mut Effects) {
        if !std::mem::replace(&mut asked.waiting.contended, true) {
            effects.push(Effect::Contended { holder: None });
        }
        self.asked.ask_claim(asked);
        let at = self.again_at(now).min(now.elapsed + KEY_AGAIN);
        self.timers.set(Timer::AskAgain, at);
    }

    pub(super) fn on_tick_claimed(
        &mut self,
        now: Now,
        asked: TickAsked,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let TickAsked { run, claim, waiting, slot, .. } = asked;
        self.close_question();
        if !matches!(verdict, Verdict::Granted { .. }) {
            self.permit.take_back(Claimant::Tick);
        }
        match verdict {
            Verdict::Granted { token, .. } => self.on_tick_granted(now, asked, token, effects),
            Verdict::Locked { .. } => {
                self.refuse_callers(&locked_key(), effects);
                // The same run again: an earlier claim of it that got no answer may have been taken.
                self.asked.ask_claim(asked);
                self.ask_again_later(now);
            }
            Verdict::Contended if self.decides_on() && !asked.only_rechecks && !waiting.is_too_late(now) => {
                self.ask_contended_again(now, asked, effects);
            }
            Verdict::Unavailable { reason } => {
                self.ask_tick_again(now, TickAsked { doubtful: true, ..asked }, reason, effects);
            }
            Verdict::GrantedBefore => {
                self.leave_run();
                announce(waiting.missed, effects);
                // Whoever takes over closes the run as lost, and says so.
                self.decided_up_to(claim.fire_time.instant());
            }
            Verdict::NotGranted if asked.only_rechecks => {
                self.leave_tick(&waiting);
                self.put_back(waiting);
            }
            ref other if asked.doubtful && !is_of_votes(other) => {
                // The claim that got no answer may have been granted, and closed since. What this answer says
                // is asked for once more when that is known.
                let asks = self.claim_of(run, claim, slot, waiting.window);
                effects.push(Effect::Claim(Claim { recheck: true, ..asks }));
                self.asked.ask_claim(TickAsked { only_rechecks: true, ..asked });
            }
            refused => {
                if decides_what_leaves(&refused) {
                    self.closing.leaving = None;
                } else {
                    self.leave_tick(&waiting);
                }
                self.on_tick_refused(now, asked, refused, effects);
            }
        }
        self.on_answered();
    }

    /// The tick is decided: its run starts, unless it is too late for that.
    fn on_tick_granted(&mut self, now: Now, asked: TickAsked, token: FencingToken, effects: &mut Effects) {
        let TickAsked { run, claim, waiting, slot, late_by, only_rechecks, ends_pause, .. } = asked;
        self.leave_run();
        if ends_pause && self.pause.stop.is_none() {
            // The grant proves that the pause ended; its notification was missed.
            self.pause.current = None;
            self.timers.stop(Timer::CheckPause);
        }
        self.cursor.stored = claim.fire_time.instant();
        self.cursor.see(self.cursor.stored);
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
        let is_too_late = self.closing.refuses_grant(only_rechecks) || silence > waiting.window;
        if self.free_slot(slot) != Some(slot) || is_too_late {
            self.permit.take_back(Claimant::Tick);
            close_unstarted(start, effects);
        } else {
            self.start_granted(now, Claimant::Tick, start, effects);
        }
    }

    pub(super) fn ask_again(&mut self, now: Now, effects: &mut Effects) {
        self.ask_again_for_unscheduled(now, effects);
        if !self.timers.take_due(Timer::AskAgain, now.elapsed) {
            return;
        }
        if let Some(advance) = self.asked.advance() {
            effects.push(Effect::Advance(*advance));
        }
        self.ask_again_for_tick(now, effects);
    }

    fn ask_again_for_tick(&mut self, now: Now, effects: &mut Effects) {
        let newer_is_due = self.cursor.due_by(now.wall).is_some() && self.room() == 1;
        let restarts = self.cursor.restart_from.is_some();
        let Some(asked) = self.asked.claim_mut() else { return };
        // While it got no answer a newer tick may have become due, or the term may be over: then it is only
        // rechecked, and what it was to decide is decided anew.
        let recheck = newer_is_due || restarts || self.mode != Mode::Firing(Some(asked.claim.authority));
        asked.only_rechecks = recheck;
        let asked = *asked;
        let TickAsked { run, claim, slot, waiting, .. } = asked;
        if recheck && !asked.doubtful {
            self.on_tick_claimed(now, asked, Verdict::NotGranted, effects);
        } else {
            effects.push(Effect::Claim(Claim { recheck, ..self.claim_of(run, claim, slot, waiting.window) }));
        }
    }

    /// The question stays open, and is asked once more later.
    pub(super) fn ask_again_later(&mut self, now: Now) {
        let at = self.again_at(now);
        self.timers.set(Timer::AskAgain, at);
    }

    /// The question is answered, or is asked no more.
    pub(super) fn close_question(&mut self) {
        self.asked.close();
        self.timers.stop(Timer::AskAgain);
    }

    /// When to ask the store once more, which did not answer, or did not decide.
    pub(super) fn again_at(&mut self, now: Now) -> Duration {
        now.elapsed + self.asked.back_off()
    }
}

/// Votes say what becomes of the tick itself: a claim of before that got no answer was not granted.
fn is_of_votes(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Contended | Verdict::TakenElsewhere { .. } | Verdict::Lapsed { .. })
}

/// Somebody else decides a job that leaves, this tick as well as what comes after it; or none of it is due.
fn decides_what_leaves(refused: &Verdict) -> bool {
    match refused {
        Verdict::AlreadyRun { .. }
        | Verdict::TakenElsewhere { .. }
        | Verdict::Elsewhere { .. }
        | Verdict::Deposed { .. }
        | Verdict::HasLeader
        | Verdict::Exhausted => true,
        Verdict::NotYet { wait } => *wait > CLAIM_LATER_MAX,
        Verdict::Granted { .. }
        | Verdict::GrantedBefore
        | Verdict::RanBefore { .. }
        | Verdict::NotGranted
        | Verdict::Busy { .. }
        | Verdict::Paused(_)
        | Verdict::Unknown
        | Verdict::Locked { .. }
        | Verdict::Contended
        | Verdict::Lapsed { .. }
        | Verdict::BadData { .. }
        | Verdict::Unavailable { .. } => false,
    }
}

/// A granted run that must not start any more is closed, so that nothing is lost silently.
pub(super) fn close_unstarted(start: Start, effects: &mut Effects) {
    close(start, start.facts(), effects);
}

/// As [`close_unstarted`], of a run of which nobody knows what it was for.
fn close_unknown(start: Start, effects: &mut Effects) {
    close(start, RunFacts { is_known: false, ..start.facts() }, effects);
}

fn close(start: Start, facts: RunFacts, effects: &mut Effects) {
    let outcome = Outcome::Cancelled;
    if start.token.is_some() {
        effects.push(Effect::Complete { run: start.run, outcome });
    }
    effects.push(Effect::RunEnded(RunEnded {
        run: start.run,
        facts: Some(facts),
        outcome,
        cancelled: Some(CancelReason::NotStarted),
        aborted: false,
        recorded: true,
        end: BodyEnd::Aborted,
        started_at: None,
        took: Duration::ZERO,
    }));
}
