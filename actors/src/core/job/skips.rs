//! Ticks that do not run: they are told, counted, and the cursor is moved over them, in the store or here.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    Advance, Effect, Effects, JobMachine, Mode, Timer,
    backlog::{Missed, Waiting, announce},
    verdicts::CLAIM_LATER_MAX,
};
use crate::{
    core::{
        policy::Fires,
        time::{FireTime, Now, since},
    },
    port::{Advanced, Authority, SkipReason, Skips},
};

/// How long skipped ticks may wait before the cursor is moved over them, so that a job moves it at most once
/// in this time for ticks that nobody runs.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_secs(1);

impl JobMachine {
    /// Skips the oldest ticks that wait beyond the bound.
    pub(super) fn drop_beyond_the_bound(&mut self, now: Now, effects: &mut Effects) {
        while self.backlog.len() > self.room()
            && let Some(oldest) = self.backlog.pop_front()
        {
            let reason = match () {
                () if self.pause.is_on() => SkipReason::Paused,
                () if !self.runs.active.is_empty() || self.waits_for_key() => SkipReason::Overlap,
                // The permit is for something else.
                () if oldest.turn.is_to_come() => SkipReason::Misfire,
                () if self.permit.is_requested() => SkipReason::Concurrency,
                () => SkipReason::Misfire,
            };
            match self.backlog.front_mut() {
                // Said with what was missed before it, once the tick that takes their place is decided.
                Some(following) if reason == SkipReason::Misfire => following.follow_missed(oldest),
                Some(_) | None => self.skip_waiting(now, oldest, reason, effects),
            }
        }
    }

    /// Decides that ticks which come after everything that waits do not run.
    pub(super) fn skip_arriving(
        &mut self,
        now: Now,
        arriving: Missed,
        reason: SkipReason,
        effects: &mut Effects,
    ) {
        let Missed { first, newest, count, at_least } = arriving;
        self.cursor.taken_in = newest.instant();
        effects.push(Effect::Skipped { first, newest, reason, count, at_least });
        self.backlog.skip_after_all(&Skips::new(reason, count, at_least));
        self.skipped(now, effects);
    }

    /// Decides that a tick, which waited before everything that waits now, does not run.
    pub(super) fn skip_waiting(
        &mut self,
        now: Now,
        waiting: Waiting,
        reason: SkipReason,
        effects: &mut Effects,
    ) {
        announce(waiting.missed, effects);
        let tick = waiting.tick;
        effects.push(Effect::Skipped { first: tick, newest: tick, reason, count: 1, at_least: false });
        self.backlog.skip_before_all(waiting, reason);
        self.skipped(now, effects);
    }

    /// Ticks were skipped: the cursor is to move over them, soon.
    pub(super) fn skipped(&mut self, now: Now, effects: &mut Effects) {
        if self.policies.fires != Fires::Local {
            self.timers.set_once(Timer::Flush, now.elapsed + FLUSH_AFTER);
            return;
        }
        // Nobody else keeps a cursor.
        let (skips, to) = self.backlog.take_first_skips(self.cursor.taken_in);
        if let Some(to) = to {
            self.cursor.stored = to.instant();
            effects.push(Effect::Count { started: 0, skips });
        }
    }

    /// Moves the cursor over skipped ticks, if that is due.
    pub(super) fn flush(&mut self, now: Now, authority: Option<Authority>, effects: &mut Effects) {
        let is_due = self.asked.is_nothing() && self.timers.is_due(Timer::Flush, now.elapsed);
        let (Some(authority), true) = (authority, is_due) else { return };
        self.timers.stop(Timer::Flush);
        if let (skips, Some(to)) = self.backlog.take_first_skips(self.cursor.taken_in) {
            self.advance(now, to, skips, authority, effects);
        }
        if self.backlog.has_later_skips() {
            self.timers.set(Timer::Flush, now.elapsed + FLUSH_AFTER);
        }
    }

    /// Has the store move the cursor over skipped ticks.
    pub(super) fn advance(
        &mut self,
        now: Now,
        to: FireTime,
        skips: Skips,
        authority: Authority,
        effects: &mut Effects,
    ) {
        let advance = Advance { id: now.spare.as_uuid(), expected: self.cursor.stored, to, skips, authority };
        self.asked.ask_advance(advance);
        effects.push(Effect::Advance(advance));
    }

    pub(super) fn on_advanced(&mut self, now: Now, moved: Advanced, effects: &mut Effects) {
        let Some(asked) = self.asked.advance().copied() else { return };
        let is_early = since(now.wall, asked.to.instant()) <= CLAIM_LATER_MAX;
        match moved {
            // The store's clock is a little behind this node's reading of it.
            Advanced::Elsewhere { cursor } if cursor == asked.expected && is_early => {
                return self.ask_again_later(now);
            }
            Advanced::Locked => return self.ask_again_later(now),
            Advanced::Unavailable { reason } => {
                effects.push(Effect::Unavailable { reason });
                return self.ask_again_later(now);
            }
            Advanced::Done => {
                self.close_question();
                self.asked.on_decided();
                self.cursor.move_to(asked.to.instant());
                self.cursor.see(self.cursor.stored);
            }
            Advanced::Elsewhere { cursor } => {
                self.close_question();
                self.asked.decided_elsewhere(&asked);
                self.cursor.see(cursor);
                self.adopt(cursor);
            }
            Advanced::Unknown => {
                self.close_question();
                self.wait_for_enrolment(now);
            }
            Advanced::Deposed { .. } | Advanced::HasLeader => {
                self.close_question();
                self.on_deposed(asked.authority);
            }
            Advanced::BadData { reason } => {
                self.close_question();
                self.on_bad_data(&reason, effects);
            }
        }
        self.on_answered();
    }

    /// Another node decides, or none does.
    pub(super) fn on_deposed(&mut self, authority: Authority) {
        // Resumed by another authority meanwhile: that one decides.
        if self.mode == Mode::Firing(Some(authority)) {
            self.mode = Mode::Dormant;
        }
        self.adopt(self.cursor.stored);
    }

    /// The end of a run is recorded, and the schedule counts from there.
    pub(super) fn on_anchored(&mut self, cursor: Option<DateTime<Utc>>) {
        self.cursor.anchoring = false;
        if let Some(cursor) = cursor.filter(|cursor| *cursor > self.cursor.stored)
            && self.asked.is_nothing()
        {
            self.cursor.see(cursor);
            self.cursor.move_to(cursor);
            self.adopt(cursor);
        }
    }
}
