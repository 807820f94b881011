//! What a job does while it is paused, and afterwards.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Effect, Effects, JobMachine, Mode, Timer};
use crate::{
    core::{
        contract::Breach,
        policy::Fires,
        time::{FireTime, Now},
    },
    port::{Pause, SkipReason},
};

/// How long a pause is believed without asking the store once more, by a claim of the tick that waits.
pub(crate) const PAUSE_CHECK: Duration = Duration::from_secs(60);

/// Why a job does not fire.
#[derive(Debug, Default)]
pub(super) struct JobPause {
    /// As far as is known.
    pub(super) current: Option<Box<Pause>>,
    /// The job's body said that it is to stop, and the store may not know yet.
    pub(super) stop: Option<Box<Pause>>,
    /// The newest tick of which it was said that the pause holds it.
    held_said: Option<FireTime>,
}

impl JobPause {
    pub(super) fn is_on(&self) -> bool {
        self.current.is_some()
    }

    /// Paused until the job is resumed, by its own body.
    pub(super) fn stop(&mut self, pause: Pause) {
        self.current = Some(Box::new(pause));
        self.stop = self.current.clone();
    }

    pub(super) fn set(&mut self, pause: Option<Pause>) {
        let known = self.current.take();
        let mut current = pause.map(Pause::cut).map(Box::new);
        if let (Some(current), Some(known)) = (&mut current, known)
            && current.is_same_as(&known)
        {
            // Who asked first: as the store does. The answer to a claim does not say who.
            current.by = known.by.or(current.by.take());
        }
        self.current = current;
    }

    /// As the store says. It may not know yet that the job's body stopped the job.
    pub(super) fn set_stored(&mut self, pause: Option<Pause>) {
        self.set(pause);
        if self.current.is_none() {
            self.current = self.stop.clone();
        }
    }

    /// The instant at which it ends by itself.
    pub(super) fn until(&self) -> Option<DateTime<Utc>> {
        self.current.as_ref()?.until
    }

    /// Whether it goes on is not known for good: the store may have ended it without this node's hearing of
    /// it.
    fn may_be_stale(&self) -> bool {
        self.is_on() && self.stop.is_none()
    }

    /// Of these ticks, which wait, those of which it was not said before that the pause holds them.
    fn say_held(&mut self, now: Now, waiting: impl Iterator<Item = FireTime>) -> Vec<FireTime> {
        // By a clock that was set back meanwhile.
        self.held_said.take_if(|said| said.instant() > now.wall);
        let said = self.held_said;
        let new = waiting.inspect(|tick| self.held_said = self.held_said.max(Some(*tick)));
        new.filter(|tick| said.is_none_or(|said| *tick > said)).collect()
    }
}

impl JobMachine {
    pub(super) fn on_pause(&mut self, now: Now, pause: Option<Pause>, effects: &mut Effects) {
        let pause = pause.filter(|pause| pause.until.is_none_or(|until| until > now.wall));
        if pause.is_none() && self.pause.is_on() {
            self.resume_backlog(now, effects);
            self.need_turns(now);
            // As the store does of jobs that it knows.
            self.runs.history.forgive();
        }
        self.pause.set(pause);
        self.pause.stop = None;
        self.pause_is_newer_than_claim();
        self.check_pause_later(now);
    }

    /// What is known of the pause is newer than the claim that is under way, whose answer must not end it.
    pub(super) fn pause_is_newer_than_claim(&mut self) {
        if let Some(asked) = self.asked.claim_mut() {
            asked.ends_pause = false;
        }
    }

    /// Whether a pause goes on is not known any more: the next tick asks the store.
    pub(super) fn on_notifications_lagged(&mut self, now: Now) {
        match self.mode {
            Mode::Firing(_) if self.timers.is_set(Timer::CheckPause) => {
                self.timers.set(Timer::CheckPause, now.elapsed);
            }
            // No tick of this node asks. It is told when it is to fire the job.
            Mode::Dormant | Mode::Parked { .. } if self.pause.stop.is_none() => {
                self.pause.current = None;
                self.timers.stop(Timer::CheckPause);
            }
            Mode::Firing(_) | Mode::Dormant | Mode::Parked { .. } => {}
        }
    }

    /// The notification that a job was resumed may be lost, or overtaken by an older answer.
    pub(super) fn check_pause_later(&mut self, now: Now) {
        if self.pause.may_be_stale() && self.policies.fires != Fires::Local {
            self.timers.set(Timer::CheckPause, now.elapsed.saturating_add(PAUSE_CHECK));
        } else {
            self.timers.stop(Timer::CheckPause);
        }
    }

    /// A tick that is due asks the store, which knows better.
    pub(super) fn checks_pause(&self, now: Now) -> bool {
        self.pause.stop.is_none() && self.timers.is_due(Timer::CheckPause, now.elapsed)
    }

    pub(super) fn end_pause(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        if self.pause.until().is_some_and(|until| until <= now.wall) {
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

    /// What the pause has held for so long that it must not run any more is skipped, so that the cursor goes
    /// on.
    pub(super) fn skip_held_too_long(&mut self, now: Now, effects: &mut Effects) {
        if self.pause.is_on() {
            self.resume_backlog(now, effects);
        }
    }

    /// The instant at which the first tick that the pause holds, or that is to be made up for, is too late.
    pub(super) fn held_until(&self, now: Now) -> Option<DateTime<Utc>> {
        self.backlog.front().filter(|_| self.pause.is_on() || self.waits_to_catch_up(now))?.too_late_at()
    }

    /// Says of each tick that waits for the end of the pause that it does: once, however often its job is
    /// paused.
    pub(super) fn say_held(&mut self, now: Now, effects: &mut Effects) {
        if self.pause.is_on() {
            let reason = SkipReason::Paused;
            let new = self.pause.say_held(now, self.backlog.iter().map(|waiting| waiting.tick));
            effects.extend(new.into_iter().map(|fire_time| Effect::Held { fire_time, reason }));
        }
    }

    /// The ticks of which it was said that the pause holds them, and that it still does, in their order. A
    /// claim of the first may be under way, to find out whether the pause is over.
    pub(crate) fn held(&self) -> impl Iterator<Item = FireTime> {
        let asked = self.asked.claim().filter(|asked| asked.ends_pause).map(|asked| asked.claim.fire_time);
        // What is asked for another right is decided anew by that one.
        let holds = self.pause.is_on() && self.decides_on();
        // After each step this is asked, and otherwise all that is to be made up for may wait.
        let waiting = if holds { self.backlog.iter() } else { Default::default() };
        let held = asked.filter(|_| holds).into_iter().chain(waiting.map(|waiting| waiting.tick));
        held.filter(|tick| Some(*tick) <= self.pause.held_said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::job::tests::at,
        name::{NodeId, RunIds},
    };

    fn now(wall: &str) -> Now {
        let wall = at(wall);
        Now { wall, elapsed: Duration::ZERO, term: None, spare: RunIds::of(NodeId::numbered(1)).next(wall) }
    }

    #[test]
    fn each_tick_that_is_held_is_told_once_unless_the_clock_is_set_back() {
        let mut pause = JobPause::default();
        for (wall, waiting, told) in [
            ("02:30", &["01:00", "02:00"][..], &["01:00", "02:00"][..]),
            ("02:31", &["01:00", "02:00"], &[]),
            ("03:00", &["02:00", "03:00"], &["03:00"]),
            ("03:01", &[], &[]),
            ("01:30", &["01:00"], &["01:00"]),
        ] {
            let ticks = |times: &[&str]| times.iter().map(|time| FireTime::new(at(time))).collect::<Vec<_>>();

            assert_eq!(pause.say_held(now(wall), ticks(waiting).into_iter()), ticks(told), "{wall}");
        }
    }

    #[test]
    fn a_job_that_its_body_stopped_stays_so_until_the_store_knows() {
        let stopped: Pause = Pause::stopped_by("no paper");
        let mut pause = JobPause::default();
        pause.stop(stopped.clone());

        pause.set_stored(None);

        assert_eq!((pause.current.as_deref(), pause.may_be_stale()), (Some(&stopped), false));
        pause.stop = None;
        assert!(pause.may_be_stale());
        pause.set_stored(None);
        assert!(!pause.is_on());
    }
}
