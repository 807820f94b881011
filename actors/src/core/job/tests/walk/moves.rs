//! What may happen, and what the world does then.

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Move {
    /// Time passes, and the timers that are due go off.
    Wait(u64),
    /// Time passes, and the timers are late.
    Stall(u64),
    StepClock(i64),
    Resume,
    Suspend,
    /// The store refuses the job for its data, as the node has found out.
    Park,
    LoseTrust,
    /// Another node leads from now on.
    Depose,
    Trigger,
    Answer(u8, u8),
    Record(u8),
    End(u8, u8),
    LoseSession,
    Cancel(Option<u8>),
    Drain,
    Shutdown,
    Abort,
    Pause(Option<u64>),
    Unpause,
    /// The machine hears of the pause as it stands in the store.
    PauseNotification,
    /// The machine hears that it has not heard everything.
    NotificationsLagged,
    /// The machine hears of a run that its job owes.
    PendingRetry(u8),
    /// Another node takes up, and ends, a run that the job owes.
    Settled(u8),
    /// A run of another node takes, or frees, a slot of the key.
    Foreign(u32, bool),
    /// Others take one of the node's permits, or give one back.
    Others(bool),
    Grant,
    Redefine(Box<Policies>, Option<i64>),
    Die,
    Panic,
}

pub(super) fn policies(right: Right) -> impl Strategy<Value = Policies> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let overlap = prop_oneof![
        Just(Overlap::Skip),
        (1u32..4).prop_map(Overlap::Queue),
        Just(Overlap::Replace),
        (1u32..4).prop_map(Overlap::Allow),
    ];
    let misfire = prop_oneof![
        millis(0..3_000).prop_map(|within| Misfire::Latest { within }),
        (1u32..5, millis(0..5_000)).prop_map(|(max, within)| Misfire::All { max, within }),
        Just(Misfire::Auto),
        Just(Misfire::Skip),
    ];
    let on_lost = prop_oneof![Just(OnLost::Record), Just(OnLost::Retry)];
    let ends = (1u32..4, proptest::option::of(millis(1..5_000)), millis(0..2_000));
    let counts = (proptest::option::of(1u64..10), proptest::option::of(1u32..4));
    (overlap, misfire, on_lost, millis(0..1_000), ends, counts).prop_map(
        move |(
            overlap,
            misfire,
            on_lost,
            misfire_after,
            (attempts, timeout, abort_after),
            (limit, pause_after),
        )| {
            let retry = Retry { attempts, initial: Duration::from_millis(100), ..Retry::default() };
            let fires = match right {
                Right::Leader | Right::Leaderless => Fires::Leader,
                Right::Any => Fires::AnyNode,
                Right::Local => Fires::Local,
            };
            Policies {
                fires,
                overlap,
                misfire,
                on_lost,
                misfire_after,
                retry,
                timeout,
                abort_after,
                limit,
                pause_after,
                priority: 0,
            }
        },
    )
}

pub(super) fn periods() -> std::ops::Range<i64> {
    50..3_000
}

pub(super) fn moves(right: Right) -> impl Strategy<Value = Vec<Move>> {
    let often = prop_oneof![
        8 => (1u64..3_000).prop_map(Move::Wait),
        2 => (1u64..6_000).prop_map(Move::Stall),
        10 => (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Move::Answer(which, how)),
        6 => any::<u8>().prop_map(Move::Record),
        6 => (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Move::End(which, how)),
        4 => Just(Move::Resume),
        3 => Just(Move::Trigger),
        3 => Just(Move::Grant),
        2 => any::<bool>().prop_map(Move::Others),
        2 => (0u32..3, any::<bool>()).prop_map(|(slot, taken)| Move::Foreign(slot, taken)),
    ];
    let seldom = prop_oneof![
        2 => (-5_000i64..5_000).prop_map(Move::StepClock),
        1 => (-4_000_000i64..4_000_000).prop_map(Move::StepClock),
        2 => Just(Move::Suspend),
        2 => Just(Move::Park),
        2 => Just(Move::LoseTrust),
        2 => Just(Move::Depose),
        2 => Just(Move::LoseSession),
        2 => proptest::option::of(any::<u8>()).prop_map(Move::Cancel),
        1 => Just(Move::Abort),
        2 => proptest::option::of(1u64..4_000).prop_map(Move::Pause),
        2 => Just(Move::Unpause),
        2 => Just(Move::PauseNotification),
        1 => Just(Move::NotificationsLagged),
        3 => any::<u8>().prop_map(Move::PendingRetry),
        1 => any::<u8>().prop_map(Move::Settled),
        2 => (policies(right), proptest::option::of(periods()))
            .prop_map(|(policies, period)| Move::Redefine(Box::new(policies), period)),
        2 => Just(Move::Die),
        2 => Just(Move::Panic),
    ];
    let last = prop_oneof![
        3 => Just(Move::Drain),
        1 => Just(Move::Shutdown),
    ];
    proptest::collection::vec(prop_oneof![200 => often, 60 => seldom, 1 => last], 0..150)
}

impl World {
    pub(super) fn make(&mut self, one: Move) {
        match one {
            Move::Wait(millis) => self.pass(Duration::from_millis(millis)),
            Move::Stall(millis) => self.elapsed += Duration::from_millis(millis),
            Move::StepClock(millis) => {
                self.clock_was_set = true;
                self.offset = TimeDelta::milliseconds(millis);
                self.pass(Duration::ZERO);
            }
            Move::Resume if self.right == Right::Local => {}
            Move::Resume => self.resume(),
            Move::Suspend if self.right == Right::Local => {}
            Move::Suspend => drop(self.step(Input::Suspend)),
            Move::Park if self.right == Right::Local => {}
            Move::Park => self.park(),
            Move::LoseTrust => self.trusted = false,
            Move::Depose => {
                self.store.term += 1;
                self.store.led = true;
                self.trusted = false;
            }
            Move::Trigger => self.trigger(),
            Move::Answer(which, how) => self.answer(which, how),
            Move::Record(how) => self.record(how),
            Move::End(which, how) => self.end(which, how),
            Move::LoseSession => self.lose_session(),
            Move::Cancel(None) => drop(self.step(cancel(CancelReason::Requested))),
            Move::Cancel(Some(which)) => self.replace(which),
            Move::Drain => self.drain(),
            Move::Shutdown => {
                self.drain();
                self.shut_down = true;
                self.step(cancel(CancelReason::Shutdown));
            }
            Move::Abort => drop(self.step(Input::Abort)),
            Move::Pause(millis) => self.pause(millis),
            Move::Unpause => {
                self.store.pause = None;
                self.step(Input::Pause(None));
            }
            Move::PauseNotification => drop(self.step(Input::Pause(self.store.pause.clone()))),
            Move::NotificationsLagged => {
                if self.right != Right::Local {
                    self.step(Input::NotificationsLagged);
                }
            }
            Move::PendingRetry(which) => {
                if let Some(retry) = self.pending_retry(which) {
                    self.step(Input::PendingRetry(retry));
                }
            }
            Move::Settled(which) => {
                let retry = self.pending_retry(which);
                retry.and_then(|retry| self.store.pending_retries.remove(&retry.run));
            }
            Move::Foreign(slot, taken) => self.foreign(slot, taken),
            Move::Others(taken) => self.others(taken),
            Move::Grant => self.grant(),
            Move::Redefine(policies, period) => {
                let period = period.unwrap_or(self.store.period);
                self.redefine(*policies, period);
            }
            Move::Die => self.die(),
            Move::Panic => self.panics.store(true, Ordering::Relaxed),
        }
    }

    fn park(&mut self) {
        let authority = match self.right {
            Right::Leader => Authority::Term(Term(self.store.term)),
            Right::Any | Right::Leaderless | Right::Local => Authority::Any,
        };
        self.step(Input::Park { since: self.store_time(), authority });
    }

    /// A run is cancelled for a newer one.
    fn replace(&mut self, which: u8) {
        let nth = usize::from(which) % self.open.len().max(1);
        let run = self.open.keys().nth(nth).copied();
        if run.is_some() {
            self.step(Input::Cancel { run, why: CancelReason::Replaced });
        }
    }

    fn pause(&mut self, millis: Option<u64>) {
        let until = millis.map(|millis| self.store_time() + TimeDelta::milliseconds(millis as i64));
        self.store.pause = Some(Pause { until, note: None, by: None });
        if self.right == Right::Local {
            self.step(Input::Pause(self.store.pause.clone()));
        }
    }

    fn pending_retry(&self, which: u8) -> Option<PendingRetry> {
        let nth = usize::from(which) % self.store.pending_retries.len().max(1);
        self.store.pending_retries.values().nth(nth).copied()
    }

    fn foreign(&mut self, slot: u32, taken: bool) {
        if !taken {
            self.store.foreign.remove(&slot);
        } else if self.store.holder(slot).is_none() {
            let run = self.ids.next(at(START));
            self.store.foreign.insert(slot, run);
        }
    }

    fn others(&mut self, taken: bool) {
        if taken && self.permits.free > 0 {
            self.permits.free -= 1;
            self.permits.others += 1;
        } else if !taken && self.permits.others > 0 {
            self.permits.others -= 1;
            self.permits.put_back();
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.step(Input::WakeUp);
        self.come_to_rest();
    }

    pub(super) fn trigger(&mut self) {
        let now = self.now();
        self.triggers.insert(now.spare);
        // As `step`, with the id that the caller knows.
        let Some(effects) = self.call(|machine| machine.fed(now, Input::Trigger)) else { return };
        assert!(!self.perform(effects));
        let Some(effects) = self.call(|machine| machine.decided(now)) else { return };
        if self.perform(effects) {
            let answer = self.permits.ask();
            self.step(Input::Permit(answer));
        }
        self.check();
    }
}
