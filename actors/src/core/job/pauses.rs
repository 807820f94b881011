//! What a job does while it is paused, and afterwards.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Effect, Effects, JobMachine, Mode,
    ticks::{Asked, Waiting},
};
use crate::{
    core::{
        contract::{Breach, MILLISECOND},
        policy::Fires,
        time::{FireTime, Now},
    },
    port::{Pause, SkipReason},
};

/// How long a pause is believed without asking the store once more, by a claim of the tick that waits.
pub const PAUSE_CHECK: Duration = Duration::from_secs(60);

impl JobMachine {
    pub(super) fn on_pause(&mut self, now: Now, pause: Option<Pause>, effects: &mut Effects) {
        let pause = pause.filter(|pause| pause.until.is_none_or(|until| until > now.wall));
        if pause.is_none() && self.pause.is_some() {
            self.resume_backlog(now, effects);
            // As the store does of jobs that it knows.
            self.history.forgive();
        }
        self.pause = pause.map(Pause::cut).map(Box::new);
        self.stop = None;
        self.outdate_claim();
        self.check_pause_later(now);
    }

    /// What is known of the pause is newer than the claim that is under way, whose answer must not end it.
    pub(super) fn outdate_claim(&mut self) {
        if let Asked::Claim(asked) = &mut self.asked {
            asked.ends_pause = false;
        }
    }

    /// Whether a pause goes on is not known any more: the next tick asks the store.
    pub(super) fn on_notifications_lagged(&mut self, now: Now) {
        match self.mode {
            Mode::Firing(_) if self.pause_check_at.is_some() => self.pause_check_at = Some(now.elapsed),
            // No tick of this node asks. It is told when it is to fire the job.
            Mode::Dormant | Mode::Parked { .. } if self.stop.is_none() => {
                self.pause = None;
                self.pause_check_at = None;
            }
            Mode::Firing(_) | Mode::Dormant | Mode::Parked { .. } => {}
        }
    }

    /// The news that a job was resumed may be lost, or overtaken by an older answer.
    pub(super) fn check_pause_later(&mut self, now: Now) {
        let may_be_stale = self.pause.is_some() && self.stop.is_none() && self.policies.fires != Fires::Local;
        self.pause_check_at = may_be_stale.then(|| now.elapsed.saturating_add(PAUSE_CHECK));
    }

    /// A tick that is due asks the store, which knows better.
    pub(super) fn checks_pause(&self, now: Now) -> bool {
        self.stop.is_none() && self.pause_check_at.is_some_and(|at| at <= now.elapsed)
    }

    pub(super) fn end_pause(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        if self.pause.as_ref().and_then(|pause| pause.until).is_some_and(|until| until <= now.wall) {
            // What is due, but was not looked at yet, came due during the pause.
            if let Some(waiting) = self.collect(now, effects)? {
                self.backlog.push_back(waiting);
            }
            self.on_pause(now, None, effects);
        }
        Ok(())
    }

    /// The pause is over: what was missed meanwhile, and is too late now, does not run.
    fn resume_backlog(&mut self, now: Now, effects: &mut Effects) {
        while let Some(oldest) = self.backlog.front().copied().filter(|oldest| oldest.is_too_late(now)) {
            self.backlog.pop_front();
            self.skip_waiting(now, oldest, SkipReason::Paused, effects);
        }
    }

    /// What the pause has held for so long that it must not run any more is skipped, so that the cursor goes on.
    pub(super) fn skip_held_too_long(&mut self, now: Now, effects: &mut Effects) {
        if self.pause.is_some() {
            self.resume_backlog(now, effects);
        }
    }

    /// The instant at which the first held tick is too late.
    pub(super) fn held_until(&self) -> Option<DateTime<Utc>> {
        self.pause.as_ref()?;
        let first = self.backlog.front()?;
        let window = TimeDelta::from_std(first.window).ok()?;
        first.tick.instant().checked_add_signed(window)?.checked_add_signed(MILLISECOND)
    }

    /// Says of each tick that waits for the end of the pause that it does: once, however often its job is paused.
    pub(super) fn say_held(&mut self, now: Now, effects: &mut Effects) {
        if self.pause.is_none() {
            return;
        }
        // By a clock that was set back meanwhile.
        self.held_said.take_if(|said| said.instant() > now.wall);
        let reason = SkipReason::Paused;
        let held = self.backlog.iter().map(|waiting| waiting.tick);
        let new = held.filter(|tick| self.held_said.is_none_or(|said| *tick > said));
        effects.extend(new.map(|fire_time| Effect::Held { fire_time, reason }));
        self.held_said = self.backlog.back().map(|waiting| waiting.tick).max(self.held_said);
    }

    /// The ticks of which it was said that the pause holds them, and that it still does, in their order. A claim of the
    /// first may be under way, to find out whether the pause is over.
    pub fn held(&self) -> impl Iterator<Item = FireTime> {
        let asked = match &self.asked {
            Asked::Claim(asked) if asked.ends_pause => Some(asked.claim.fire_time),
            Asked::Claim(_) | Asked::Advance(_) | Asked::Nothing => None,
        };
        // What is asked for another right is decided anew by that one.
        let holds = self.pause.is_some() && self.decides_on();
        // After each step this is asked, and otherwise all that is to be made up for may wait.
        let waiting = if holds { self.backlog.iter() } else { Default::default() };
        let held = asked.filter(|_| holds).into_iter().chain(waiting.map(|waiting| waiting.tick));
        held.filter(|tick| Some(*tick) <= self.held_said)
    }
}

impl Waiting {
    fn is_too_late(&self, now: Now) -> bool {
        self.tick.lateness(now.wall) > self.window
    }
}
