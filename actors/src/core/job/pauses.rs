//! What a job does while it is paused, and afterwards.

use std::time::Duration;

use super::{Effects, JobMachine, Mode, ticks::Asked};
use crate::{
    core::{policy::Fires, time::Now},
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
            self.history.set_failures(0);
        }
        self.pause = pause.map(Box::new);
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
    pub(super) fn on_news_missed(&mut self, now: Now) {
        match self.mode {
            Mode::Firing(_) if self.pause_check_at.is_some() => self.pause_check_at = Some(now.elapsed),
            // No tick of this node asks. It is told when it is to fire the job.
            Mode::Dormant | Mode::Parked if self.stop.is_none() => {
                self.pause = None;
                self.pause_check_at = None;
            }
            Mode::Firing(_) | Mode::Dormant | Mode::Parked => {}
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

    pub(super) fn end_pause(&mut self, now: Now, effects: &mut Effects) {
        if self.pause.as_ref().and_then(|pause| pause.until).is_some_and(|until| until <= now.wall) {
            // What is due, but was not looked at yet, came due during the pause.
            self.collect_paused(now, effects);
            self.on_pause(now, None, effects);
        }
    }

    fn collect_paused(&mut self, now: Now, effects: &mut Effects) {
        if let Some(waiting) = self.collect(now, effects) {
            self.backlog.push_back(waiting);
        }
    }

    /// The pause is over: what was missed meanwhile, and is too late now, does not run.
    fn resume_backlog(&mut self, now: Now, effects: &mut Effects) {
        let (misfire, grace) = (self.policies.misfire, self.policies.grace);
        while let Some(oldest) = self.backlog.front()
            && !misfire.admits(oldest.tick.lateness(now.wall), grace)
            && let Some(oldest) = self.backlog.pop_front()
        {
            self.skip_waiting(now, oldest, SkipReason::Paused, effects);
        }
    }
}
