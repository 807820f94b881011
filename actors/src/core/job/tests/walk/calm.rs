//! The world calms down: everything due is decided, and everything ends.

use super::*;

impl World {
    /// The timers that are due go off.
    pub(super) fn come_to_rest(&mut self) {
        let mut idle = 0;
        for _ in 0..SETTLE_TURNS_MAX {
            let now = self.now();
            if self.machine().wake_in(now) != Some(Duration::ZERO) {
                return;
            }
            idle = if self.step(Input::WakeUp) { 0 } else { idle + 1 };
            assert!(idle <= IDLE_WAKE_UPS_MAX, "it wakes up for nothing: {:?}", self.machine());
        }
        panic!("it wakes up without end: {:?}", self.machine());
    }

    pub(super) fn grant(&mut self) {
        if std::mem::take(&mut self.permits.on_its_way) {
            self.step(Input::Permit(PermitAnswer::Granted));
        }
        if std::mem::take(&mut self.turn_asked) {
            self.step(Input::Turn);
        }
    }

    pub(super) fn drain(&mut self) {
        self.drained = true;
        self.step(Input::Drain);
    }

    /// One turn of a world in which everything works: whatever is asked is answered, whatever runs ends, and
    /// time passes as far as the machine wants.
    pub(super) fn calm_turn(&mut self) {
        let answers = self.permits.on_its_way || self.turn_asked;
        let before = (self.questions.len(), self.completions.len(), self.bodies.len(), answers);
        while !self.completions.is_empty() {
            self.record(0);
        }
        if self.store.pause.take().is_some() {
            self.step(Input::Pause(None));
        }
        for _ in 0..self.questions.len() {
            self.answer(0, 3);
        }
        while !self.bodies.is_empty() {
            self.end(0, 0);
        }
        self.grant();
        self.come_to_rest();
        let nothing = before == (0, 0, 0, false);
        let now = self.now();
        let wait = self.machine().wake_in(now);
        if let (Some(wait), true) = (wait, nothing) {
            // Timers are rounded up to whole milliseconds.
            let wait = Duration::from_millis(wait.as_nanos().div_ceil(1_000_000) as u64);
            self.pass(wait);
        }
    }

    pub(super) fn calm_down(&mut self) {
        self.panics.store(false, Ordering::Relaxed);
        self.offset = TimeDelta::zero();
        self.store.foreign.clear();
        self.store.pause = None;
        while self.permits.others > 0 {
            self.make(Move::Others(false));
        }
        self.step(Input::Pause(None));
        if self.right == Right::Local {
            self.pass(Duration::ZERO);
        } else {
            self.resume();
        }
    }

    pub(super) fn is_decided(&self, until: DateTime<Utc>) -> bool {
        let cursor = match self.right {
            Right::Local => self.machine().cursor(),
            Right::Leader | Right::Any | Right::Leaderless => self.store.cursor,
        };
        let next = match self.store.from_end {
            true => cursor + TimeDelta::milliseconds(self.store.period),
            false => Period::millis(self.store.period).next_after(cursor).unwrap(),
        };
        next > until
    }

    /// What was not told, or was overtaken, is asked for now and then.
    pub(super) fn hear_pending_retries(&mut self) {
        for retry in self.store.pending_retries.values().copied().collect::<Vec<_>>() {
            self.step(Input::PendingRetry(retry));
        }
    }

    /// Whatever is due is decided and whatever is owed is taken up, with no more wake-ups than the machine
    /// asked for.
    pub(super) fn everything_due_is_decided(&mut self) {
        let until = self.store_time();
        for turn in 1..=CALM_TURNS_MAX {
            if turn % PENDING_RETRIES_EVERY == 0 {
                self.hear_pending_retries();
            }
            let decided = self.is_decided(until) || self.machine().is_exhausted();
            if decided && self.store.pending_retries.is_empty() {
                return;
            }
            self.calm_turn();
        }
        panic!("not decided up to {until}, or {:?} owed: {:?}", self.store.pending_retries, self.machine());
    }

    /// After a drain everything ends, and nothing is left.
    pub(super) fn everything_ends(&mut self) {
        self.drain();
        for _ in 0..CALM_TURNS_MAX {
            let over = self.machine().is_idle() && self.questions.is_empty() && self.completions.is_empty();
            if over && !self.permits.waiting && !self.permits.on_its_way {
                break;
            }
            self.calm_turn();
        }
        let now = self.now();
        let machine = self.machine();
        assert!(machine.is_idle() && machine.is_drained(), "it does not end: {machine:?}");
        assert_eq!(machine.wake_in(now), None, "{machine:?}");
        assert_eq!(self.permits.held, 0, "a permit is leaked");
        assert!(self.store.granted.is_empty(), "a key is leaked: {:?}", self.store.granted);
        assert!(self.triggers.is_empty(), "a trigger got no answer");
        assert!(self.bodies.is_empty() && self.open.is_empty());
    }
}
