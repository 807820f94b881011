//! When a job's machine wants to be woken up.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{JobMachine, Mode, Timer, ticks::May};
use crate::core::time::{Now, since};

impl JobMachine {
    /// How long until the machine has something to decide; `None` if only an input can change anything.
    pub(crate) fn wake_in(&self, now: Now) -> Option<Duration> {
        let again = self.timers.next(&[Timer::AskAgain]);
        let unscheduled = self.unscheduled_wakes_at(now);
        let runs = self.runs.change_at(now, self.permit.allows());
        let leaves = self.can_leave().then_some(now.elapsed);
        let always = [again, unscheduled, runs, leaves].into_iter().flatten().min();
        let always = always.map(|at| at.saturating_sub(now.elapsed));

        // What only a node that decides the ticks does, and only after an answer.
        let decide = if self.asked.is_nothing() { self.decides_in(now) } else { None };
        always.into_iter().chain(decide).min()
    }

    fn decides_in(&self, now: Now) -> Option<Duration> {
        let until = |instant: DateTime<Utc>| since(now.wall, instant);
        match self.mode {
            Mode::Dormant => return None,
            Mode::Parked { .. } => return self.cursor.next.map(|next| until(next.instant())),
            Mode::Firing(_) => {}
        }
        let flush = self.timers.next(&[Timer::Flush]).map(|at| at.saturating_sub(now.elapsed));
        let tick = self.cursor.next.map(|next| until(next.instant()));
        let unpaused = self.pause.until().map(until);
        let held = self.held_until(now).map(until);
        let waiting = match self.backlog.front().map(|waiting| self.may_start(now, waiting)) {
            Some(May::Start | May::Skip(_)) => Some(Duration::ZERO),
            Some(May::WaitUntil(at)) => Some(at.saturating_sub(now.elapsed)),
            Some(May::Wait | May::WaitForTurn | May::WaitForPermit | May::Replace) | None => None,
        };
        [flush, tick, unpaused, held, waiting].into_iter().flatten().min()
    }
}
