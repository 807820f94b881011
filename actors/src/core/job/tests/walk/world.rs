//! A little world around one machine.

use super::*;

pub(super) struct World {
    pub(super) right: Right,
    pub(super) machine: Option<JobMachine>,
    pub(super) policies: Policies,
    pub(super) panics: Arc<AtomicBool>,
    pub(super) ids: RunIds,
    pub(super) elapsed: Duration,
    pub(super) offset: TimeDelta,
    pub(super) newest_wall: DateTime<Utc>,
    pub(super) trusted: bool,
    pub(super) store: Store,
    pub(super) permits: Permits,
    /// The job waits for its turn to make up for a missed tick.
    pub(super) turn_asked: bool,
    pub(super) questions: Vec<Question>,
    pub(super) completions: Vec<(RunId, Outcome)>,
    /// The bodies in progress, and their attempts.
    pub(super) bodies: BTreeMap<RunId, u32>,
    /// The runs that have started and not ended; whether their lock is lost.
    pub(super) open: BTreeMap<RunId, bool>,
    /// The runs of which the machine was told that they are granted, and that have neither started nor ended.
    pub(super) granted: BTreeSet<RunId>,
    pub(super) started: BTreeSet<(RunId, Option<u64>, u32)>,
    pub(super) claimed: BTreeSet<RunId>,
    pub(super) triggers: BTreeSet<RunId>,
    pub(super) redefined: Option<i64>,
    /// Of a local job: where its counting began, and what it counted.
    pub(super) counted: (DateTime<Utc>, u64),
    /// Counting stopped at its bound.
    pub(super) at_least: bool,
    pub(super) drained: bool,
    pub(super) shut_down: bool,
    pub(super) manuals_max: usize,
    /// The ticks that were said to be held.
    pub(super) held: BTreeSet<FireTime>,
    pub(super) clock_was_set: bool,
}

pub(super) const START: &str = "00:30";

impl World {
    pub(super) fn new(
        right: Right,
        policies: Policies,
        period: i64,
        from_end: bool,
        permits: Permits,
    ) -> Self {
        let panics = Arc::<AtomicBool>::default();
        let start = at(START);
        // Some of them.
        let bounds = NodeBounds { runs: permits.limited, catch_ups: permits.limited };
        let schedule = Moody { period, from_end, panics: panics.clone() };
        let machine = JobMachine::new(Arc::new(schedule), policies, start, bounds);
        let store = Store {
            period,
            from_end,
            policies,
            base: start,
            cursor: start,
            moved: None,
            accounted: 0,
            claimed: 0,
            term: 1,
            led: false,
            pause: None,
            failures: 0,
            pending_retries: BTreeMap::new(),
            foreign: BTreeMap::new(),
            granted: BTreeMap::new(),
            closed: BTreeSet::new(),
            tokens: 0,
        };
        Self {
            right,
            machine: Some(machine),
            policies,
            panics,
            ids: RunIds::of(NodeId::numbered(1)),
            elapsed: Duration::ZERO,
            offset: TimeDelta::zero(),
            newest_wall: start,
            trusted: true,
            store,
            permits,
            turn_asked: false,
            questions: Vec::new(),
            completions: Vec::new(),
            bodies: BTreeMap::new(),
            open: BTreeMap::new(),
            granted: BTreeSet::new(),
            started: BTreeSet::new(),
            claimed: BTreeSet::new(),
            triggers: BTreeSet::new(),
            redefined: None,
            counted: (start, 0),
            at_least: false,
            drained: false,
            shut_down: false,
            manuals_max: 0,
            held: BTreeSet::new(),
            clock_was_set: false,
        }
    }

    pub(super) fn machine(&self) -> &JobMachine {
        self.machine.as_ref().unwrap()
    }

    pub(super) fn store_time(&self) -> DateTime<Utc> {
        at(START) + TimeDelta::from_std(self.elapsed).unwrap()
    }

    pub(super) fn now(&mut self) -> Now {
        let wall = self.store_time() + self.offset;
        self.newest_wall = self.newest_wall.max(wall).max(self.store_time());
        let term = self.trusted.then_some(Term(self.store.term));
        Now { wall, elapsed: self.elapsed, term, spare: self.ids.next(wall) }
    }

    /// Calls the machine as its actor does: what it answers is lost if it panics, and the actor dies.
    pub(super) fn call(&mut self, call: impl FnOnce(&mut JobMachine) -> Effects) -> Option<Effects> {
        let machine = self.machine.as_mut().unwrap();
        match catch_unwind(AssertUnwindSafe(|| call(machine))) {
            Ok(effects) => Some(effects),
            Err(panic) if panic.downcast_ref() == Some(&"moody") => {
                self.die();
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    pub(super) fn die(&mut self) {
        self.machine = self.machine.take().map(JobMachine::revive);
        self.triggers.clear();
        if self.right == Right::Local {
            self.resume();
        }
    }

    /// Feeds one input, and answers whether anything was done.
    pub(super) fn step(&mut self, input: Input) -> bool {
        let mut input = Some(input);
        let mut done = false;
        let mut turns = 0;
        while let Some(one) = input.take() {
            turns += 1;
            assert!(turns < 20, "a permit is asked for without end");
            let now = self.now();
            let resumes = matches!(one, Input::Resume { .. });
            let Some(effects) = self.call(|machine| machine.fed(now, one)) else { return true };
            if resumes && self.right == Right::Local {
                self.counted = (self.machine().cursor(), 0);
            }
            done |= !effects.is_empty();
            assert!(!self.perform(effects), "a permit is asked for when all is decided");
            let Some(effects) = self.call(|machine| machine.decided(now)) else { return true };
            done |= !effects.is_empty();
            if self.perform(effects) {
                input = Some(Input::Permit(self.permits.ask()));
            }
        }
        self.check_turn();
        self.check_held();
        self.check();
        done
    }

    pub(super) fn perform(&mut self, effects: Effects) -> bool {
        let mut asks = false;
        for effect in effects {
            match effect {
                Effect::Claim(claim) => self.claim(claim),
                Effect::Advance(advance) => {
                    assert!(advance.to.instant() <= self.newest_wall, "the cursor runs ahead: {advance:?}");
                    self.questions.push(Question::Advance(advance));
                }
                Effect::Start(start) => self.start(start),
                Effect::Complete { run, outcome } => {
                    if self.store.granted.contains_key(&run) {
                        self.completions.push((run, outcome));
                    }
                }
                Effect::Retried(retried) => {
                    assert!(self.open.contains_key(&retried.run) && !self.bodies.contains_key(&retried.run));
                }
                Effect::RunEnded(ended) => self.ended(&ended),
                Effect::Count { started, skips } => {
                    self.counted.1 += started + skips.total();
                    self.at_least |= skips.at_least;
                }
                Effect::AskPermit { .. } => {
                    assert!(!asks, "one permit at a time");
                    asks = true;
                }
                Effect::HurryPermit { .. } => {
                    assert!(self.permits.waiting || self.permits.on_its_way, "nothing waits for a permit");
                }
                Effect::AskTurn { .. } => self.turn_asked = true,
                Effect::LeaveTurn => {
                    assert!(self.turn_asked, "nothing waits for a turn");
                    self.turn_asked = false;
                }
                Effect::ReleasePermit => self.permits.release(),
                Effect::Answer { run, answer } => {
                    let waited = self.triggers.remove(&run);
                    assert!(waited, "nobody waits for {answer:?}");
                    assert!(!self.drained || answer.is_err() || self.claimed.contains(&run), "{answer:?}");
                }
                Effect::Stop(pause) => self.store.pause = Some(pause),
                Effect::Cancel { run, .. } | Effect::Abort { run } => {
                    let granted = self.granted.contains(&run);
                    assert!(granted || self.open.contains_key(&run), "{run} does not run");
                }
                Effect::Held { fire_time, .. } => {
                    assert!(self.machine().pause().is_some(), "nothing but a pause holds {fire_time}");
                    assert!(fire_time.instant() <= self.newest_wall, "early: {fire_time}");
                    let once = self.held.insert(fire_time) || self.clock_was_set;
                    assert!(once, "{fire_time} is said to be held twice");
                }
                Effect::Broken(breach) => panic!("the schedule keeps its contract: {breach}"),
                Effect::Skipped { .. }
                | Effect::Elsewhere
                | Effect::Paused(_)
                | Effect::Contended { .. }
                | Effect::Unavailable { .. } => {}
            }
        }
        asks
    }

    fn claim(&mut self, claim: Claim) {
        assert!(self.right != Right::Local || claim.recheck, "a local job claims nothing");
        let is_known = self.claimed.contains(&claim.run);
        assert!(!self.drained || is_known, "a drained job claims nothing new: {claim:?}");
        if let Some(tick) = claim.tick {
            assert!(tick.fire_time.instant() <= self.newest_wall, "early: {tick:?}");
        }
        self.claimed.insert(claim.run);
        self.questions.push(Question::Claim(claim));
    }

    fn ended(&mut self, ended: &RunEnded) {
        assert!(!self.bodies.contains_key(&ended.run), "its body goes on");
        let was_open = self.open.remove(&ended.run).is_some();
        let never = self.granted.remove(&ended.run) || ended.cancelled == Some(CancelReason::NotStarted);
        assert!(was_open || never, "a run ended that was not open: {ended:?}");
    }

    pub(super) fn start(&mut self, start: Start) {
        let Start { run, attempt, token, .. } = start;
        self.granted.remove(&run);
        assert!(!self.shut_down, "nothing starts after the shutdown has cancelled what runs");
        assert!(!self.drained || self.claimed.contains(&run) || self.open.contains_key(&run), "{start:?}");
        assert!(self.started.insert((run, token.map(|token| token.0), attempt)), "{start:?} twice");
        assert!(self.bodies.insert(run, attempt).is_none(), "two bodies of one run");
        if self.open.contains_key(&run) {
            return;
        }
        let slots = self.policies.overlap.slots() as usize;
        assert!(self.open.len() < slots, "{start:?} beside {:?} of {slots}", self.open);
        self.open.insert(run, false);
    }

    pub(super) fn resume(&mut self) {
        let (cursor, authority) = match self.right {
            Right::Local => {
                let update = self.redefined.take();
                let now = self.store_time() + self.offset;
                match update {
                    Some(period) => {
                        self.store.period = period;
                        (now, None)
                    }
                    None => (self.machine().cursor(), None),
                }
            }
            shared => {
                if let Some(period) = self.redefined.take() {
                    self.enrol_changed(period);
                }
                self.trusted = true;
                let authority = match shared {
                    Right::Leader => {
                        self.store.term += 1;
                        Authority::Term(Term(self.store.term))
                    }
                    Right::Any => Authority::Any,
                    Right::Leaderless | Right::Local => {
                        self.store.led = false;
                        Authority::Leaderless
                    }
                };
                (self.store.cursor, Some(authority))
            }
        };
        if self.policies.on_lost != OnLost::Retry {
            self.store.pending_retries.clear();
        }
        let Store { pause, failures, pending_retries, .. } = &self.store;
        let pending_retries = pending_retries.values().copied().collect();
        let (pause, failures) = (pause.clone(), *failures);
        let stored = Box::new(StoredState { pause, failures, pending_retries, ..StoredState::default() });
        self.step(Input::Resume { cursor, authority, stored });
        if self.machine().fires() {
            let is_pending =
                |run: &RunId| self.right != Right::Local && self.store.pending_retries.contains_key(run);
            let stale = self
                .machine()
                .unscheduled
                .pending_retries
                .iter()
                .find(|pending| !is_pending(&pending.retry.run));
            assert!(stale.is_none(), "it is not owed any more: {stale:?}");
        }
    }

    /// A changed schedule counts from the change on.
    pub(super) fn enrol_changed(&mut self, period: i64) {
        if period == self.store.period {
            return;
        }
        if self.store.cursor >= self.store_time() {
            self.elapsed = (self.store.cursor - at(START)).to_std().unwrap() + Duration::from_millis(1);
        }
        self.store.period = period;
        self.store.cursor = self.store_time();
        (self.store.base, self.store.accounted) = (self.store.cursor, 0);
    }

    pub(super) fn redefine(&mut self, policies: Policies, period: i64) {
        self.policies = policies;
        self.store.policies = policies;
        let schedule = Moody { period, from_end: self.store.from_end, panics: self.panics.clone() };
        self.machine.as_mut().unwrap().redefine(Arc::new(schedule), policies);
        self.redefined = Some(period);
        self.step(Input::WakeUp);
        if self.right == Right::Local {
            self.resume();
        }
    }
}

/// The runs that were granted and wait for a permit to begin.
pub(super) fn waiting_to_begin(machine: &JobMachine) -> BTreeSet<RunId> {
    machine.active_runs().filter(|run| !run.begun).map(|run| run.run).collect()
}

pub(super) fn ticks(from: DateTime<Utc>, to: DateTime<Utc>, period: i64) -> u64 {
    (to.timestamp_millis().div_euclid(period) - from.timestamp_millis().div_euclid(period)) as u64
}
