//! Any sequence of inputs keeps the machine's promises.
//!
//! The machine walks through a little world: a store that keeps a cursor, keys and pauses and loses some of its answers, a
//! node that hands out permits, bodies that end in every way, clocks that step, a schedule that panics and so kills the actor
//! at any moment. The promises are checked after every step. In the end the world calms down: whatever is due must be decided,
//! and after a drain nothing is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    super::{permit::Claimant, ticks::May},
    *,
};
use crate::{
    core::policy::{LOSSES_MAX, OnLost, Overlap, PENDING_RETRIES_MAX},
    port::PendingRetry,
};

/// Wake-ups in a row that come at once and do nothing.
const IDLE_WAKE_UPS_MAX: u32 = 3;
/// Wake-ups in a row that come at once: one for each tick of a window of five minutes that finds a full node.
const SETTLE_TURNS_MAX: u32 = 10_000;
/// Turns of the world until everything that is due must be decided, or everything must be over.
const CALM_TURNS_MAX: u32 = 2_000;
/// After so many of them the machine hears what its job owes.
const PENDING_RETRIES_EVERY: u32 = 100;

/// By what right the job fires in this walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Leader,
    Any,
    Leaderless,
    Local,
}

#[derive(Debug, Clone)]
enum Move {
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

fn policies(right: Right) -> impl Strategy<Value = Policies> {
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

fn periods() -> std::ops::Range<i64> {
    50..3_000
}

fn moves(right: Right) -> impl Strategy<Value = Vec<Move>> {
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

#[derive(Debug, Clone)]
enum Question {
    Claim(Claim),
    Advance(Advance),
}

#[derive(Debug, Clone, Copy)]
struct Grant {
    slot: u32,
    token: FencingToken,
    tick: Option<FireTime>,
    losses: u32,
    /// The node got the answer.
    told: bool,
}

/// The store's side.
#[derive(Debug)]
struct Store {
    period: i64,
    from_end: bool,
    policies: Policies,
    /// Ticks are counted from here on.
    base: DateTime<Utc>,
    cursor: DateTime<Utc>,
    /// The newest move.
    moved: Option<Uuid>,
    accounted: u64,
    /// How many ticks were claimed since the job was known.
    claimed: u64,
    term: u64,
    led: bool,
    pause: Option<Pause>,
    failures: u32,
    pending_retries: BTreeMap<RunId, PendingRetry>,
    foreign: BTreeMap<u32, RunId>,
    granted: BTreeMap<RunId, Grant>,
    /// The runs that have ended or were lost.
    closed: BTreeSet<RunId>,
    tokens: u64,
}

impl Store {
    fn holder(&self, slot: u32) -> Option<RunId> {
        let own = self.granted.iter().find(|(_, grant)| grant.slot == slot).map(|(run, _)| *run);
        own.or_else(|| self.foreign.get(&slot).copied())
    }

    fn refused(&self, authority: Authority) -> Option<Result<Term, ()>> {
        match authority {
            Authority::Term(term) if term.0 != self.term => Some(Ok(Term(self.term))),
            Authority::Leaderless if self.led => Some(Err(())),
            Authority::Term(_) | Authority::Any | Authority::Leaderless => None,
        }
    }

    fn claim(&mut self, time: DateTime<Utc>, claim: &Claim) -> Verdict {
        if let Some(grant) = self.granted.get(&claim.run) {
            return Verdict::Granted { token: grant.token, lost: None };
        }
        if claim.recheck {
            return Verdict::NotGranted;
        }
        // Whatever was closed goes on only as a debt.
        if claim.tick.is_none() && !claim.resume_lost && self.closed.contains(&claim.run) {
            return Verdict::GrantedBefore;
        }
        let retry = self.pending_retries.get(&claim.run).copied().filter(|_| claim.resume_lost);
        if claim.resume_lost && retry.is_none() {
            return Verdict::NotGranted;
        }
        if let Some(tick) = &claim.tick {
            match self.refused(tick.authority) {
                Some(Ok(term)) => return Verdict::Deposed { term },
                Some(Err(())) => return Verdict::HasLeader,
                None => {}
            }
            if let Some(pause) = self.pause.clone().filter(|pause| pause.until.is_none_or(|at| at > time)) {
                return Verdict::Paused(pause);
            }
            if tick.expected != self.cursor {
                return Verdict::Elsewhere { cursor: self.cursor };
            }
            if self.policies.limit.is_some_and(|limit| self.claimed >= limit) {
                return Verdict::Exhausted;
            }
            if let Ok(wait) = (tick.fire_time.instant() - time).to_std()
                && !wait.is_zero()
            {
                return Verdict::NotYet { wait };
            }
        }
        if let Some(holder) = self.holder(claim.slot) {
            return Verdict::Busy { holder: Some(holder) };
        }
        if let Some(tick) = &claim.tick {
            self.claimed += 1;
            self.account(tick.fire_time, 1, &tick.skips);
        }
        // Only that settles it.
        retry.and_then(|retry| self.pending_retries.remove(&retry.run));
        self.tokens += 1;
        let token = FencingToken(self.tokens);
        let tick = claim.tick.map(|tick| tick.fire_time).or(retry.and_then(|retry| retry.fire_time));
        let losses = retry.map_or(0, |retry| retry.losses);
        self.granted.insert(claim.run, Grant { slot: claim.slot, token, tick, losses, told: false });
        Verdict::Granted { token, lost: None }
    }

    fn advance(&mut self, advance: &Advance) -> Advanced {
        if self.moved == Some(advance.id) {
            return Advanced::Done;
        }
        match self.refused(advance.authority) {
            Some(Ok(term)) => return Advanced::Deposed { term },
            Some(Err(())) => return Advanced::HasLeader,
            None => {}
        }
        if advance.expected == self.cursor {
            self.account(advance.to, 0, &advance.skips);
            self.moved = Some(advance.id);
            return Advanced::Done;
        }
        Advanced::Elsewhere { cursor: self.cursor }
    }

    /// Every tick up to the cursor is claimed or skipped, once.
    fn account(&mut self, to: FireTime, started: u64, skips: &Skips) {
        assert!(to.instant() > self.cursor, "the cursor went back from {} to {to}", self.cursor);
        self.cursor = to.instant();
        self.accounted += started + skips.total();
        if self.from_end {
            return;
        }
        let ticks = ticks(self.base, self.cursor, self.period);
        if skips.at_least {
            assert!(self.accounted <= ticks, "{} of {ticks} ticks", self.accounted);
            self.accounted = ticks;
        }
        assert_eq!(self.accounted, ticks, "the ticks up to {to} by {started} and {skips:?}");
    }
}

/// The runs that were granted and wait for a permit to begin.
fn waiting_to_begin(machine: &JobMachine) -> BTreeSet<RunId> {
    machine.active_runs().filter(|run| !run.begun).map(|run| run.run).collect()
}

fn ticks(from: DateTime<Utc>, to: DateTime<Utc>, period: i64) -> u64 {
    (to.timestamp_millis().div_euclid(period) - from.timestamp_millis().div_euclid(period)) as u64
}

/// The node's permits, as this job sees them.
#[derive(Debug)]
struct Permits {
    limited: bool,
    waits: bool,
    free: u32,
    others: u32,
    held: u32,
    waiting: bool,
    on_its_way: bool,
}

impl Permits {
    fn ask(&mut self) -> PermitAnswer {
        assert!(self.limited && !self.waiting && !self.on_its_way, "a job asks once: {self:?}");
        if self.free > 0 {
            self.free -= 1;
            self.held += 1;
            return PermitAnswer::Granted;
        }
        self.waiting = self.waits;
        if self.waits { PermitAnswer::Wait } else { PermitAnswer::NotAdmitted }
    }

    fn release(&mut self) {
        assert!(self.held > 0, "a permit that was not held was given back");
        self.held -= 1;
        self.put_back();
    }

    fn put_back(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.on_its_way = true;
            self.held += 1;
        } else {
            self.free += 1;
        }
    }
}

struct World {
    right: Right,
    machine: Option<JobMachine>,
    policies: Policies,
    panics: Arc<AtomicBool>,
    ids: RunIds,
    elapsed: Duration,
    offset: TimeDelta,
    newest_wall: DateTime<Utc>,
    trusted: bool,
    store: Store,
    permits: Permits,
    questions: Vec<Question>,
    completions: Vec<(RunId, Outcome)>,
    /// The bodies in progress, and their attempts.
    bodies: BTreeMap<RunId, u32>,
    /// The runs that have started and not ended; whether their lock is lost.
    open: BTreeMap<RunId, bool>,
    /// The runs of which the machine was told that they are granted, and that have neither started nor ended.
    granted: BTreeSet<RunId>,
    started: BTreeSet<(RunId, Option<u64>, u32)>,
    claimed: BTreeSet<RunId>,
    triggers: BTreeSet<RunId>,
    redefined: Option<i64>,
    /// Of a local job: where its counting began, and what it counted.
    counted: (DateTime<Utc>, u64),
    /// Counting stopped at its bound.
    at_least: bool,
    drained: bool,
    shut_down: bool,
    manuals_max: usize,
    /// The ticks that were said to be held.
    held: BTreeSet<FireTime>,
    clock_was_set: bool,
}

const START: &str = "00:30";

impl World {
    fn new(right: Right, policies: Policies, period: i64, from_end: bool, permits: Permits) -> Self {
        let panics = Arc::<AtomicBool>::default();
        let start = at(START);
        let schedule = Moody { period, from_end, panics: panics.clone() };
        let machine = JobMachine::new(Arc::new(schedule), policies, start, permits.limited);
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

    fn machine(&self) -> &JobMachine {
        self.machine.as_ref().unwrap()
    }

    fn store_time(&self) -> DateTime<Utc> {
        at(START) + TimeDelta::from_std(self.elapsed).unwrap()
    }

    fn now(&mut self) -> Now {
        let wall = self.store_time() + self.offset;
        self.newest_wall = self.newest_wall.max(wall).max(self.store_time());
        let term = self.trusted.then_some(Term(self.store.term));
        Now { wall, elapsed: self.elapsed, term, spare: self.ids.next(wall) }
    }

    /// Calls the machine as its actor does: what it answers is lost if it panics, and the actor dies.
    fn call(&mut self, call: impl FnOnce(&mut JobMachine) -> Effects) -> Option<Effects> {
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

    fn die(&mut self) {
        self.machine = self.machine.take().map(JobMachine::revive);
        self.triggers.clear();
        if self.right == Right::Local {
            self.resume();
        }
    }

    /// Feeds one input, and answers whether anything was done.
    fn step(&mut self, input: Input) -> bool {
        let mut input = Some(input);
        let mut done = false;
        let mut turns = 0;
        while let Some(one) = input.take() {
            turns += 1;
            assert!(turns < 20, "a permit is asked for without end");
            let now = self.now();
            let resumes = matches!(one, Input::Resume { .. });
            let Some(effects) = self.call(|machine| machine.feed(now, one)) else { return true };
            if resumes && self.right == Right::Local {
                self.counted = (self.machine().cursor(), 0);
            }
            done |= !effects.is_empty();
            assert!(!self.perform(effects), "a permit is asked for when all is decided");
            let Some(effects) = self.call(|machine| machine.decide(now)) else { return true };
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

    /// What waits during a pause is said to be held, and does not wait for longer than it may.
    fn check_held(&mut self) {
        let now = self.now();
        let machine = self.machine.as_ref().unwrap();
        assert!(machine.pause().is_some() || machine.held().next().is_none(), "{machine:?}");
        let decides = machine.firing().is_some() && matches!(machine.asked, Asked::Nothing);
        if machine.pause().is_some() && decides {
            assert!(machine.held().eq(machine.backlog.iter().map(|waiting| waiting.tick)), "{machine:?}");
            let in_time = |waiting: &Waiting| waiting.tick.lateness(now.wall) <= waiting.window;
            assert!(machine.backlog.iter().all(in_time), "held for too long: {machine:?}");
        }
    }

    /// A tick that only the node keeps waiting is known to the node.
    fn check_turn(&mut self) {
        let now = self.now();
        let machine = self.machine.as_ref().unwrap();
        let front = machine.backlog.front().map(|front| machine.may_start(now, front));
        let decides = machine.firing().is_some() && matches!(machine.asked, Asked::Nothing);
        assert!(
            !decides || front != Some(May::WaitForPermit) || machine.permit != Permit::None,
            "a tick waits for a permit that nobody asked for: {machine:?}"
        );
    }

    fn perform(&mut self, effects: Effects) -> bool {
        let mut asks = false;
        for effect in effects {
            match effect {
                Effect::Claim(claim) => {
                    assert!(self.right != Right::Local || claim.recheck, "a local job claims nothing");
                    assert!(
                        !self.drained || self.claimed.contains(&claim.run),
                        "a drained job claims nothing new: {claim:?}"
                    );
                    if let Some(tick) = claim.tick {
                        assert!(tick.fire_time.instant() <= self.newest_wall, "early: {tick:?}");
                    }
                    self.claimed.insert(claim.run);
                    self.questions.push(Question::Claim(claim));
                }
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
                Effect::Ended(ended) => {
                    assert!(!self.bodies.contains_key(&ended.run), "its body goes on");
                    let was_open = self.open.remove(&ended.run).is_some();
                    let never =
                        self.granted.remove(&ended.run) || ended.cancelled == Some(CancelReason::NotStarted);
                    assert!(was_open || never, "a run ended that was not open: {ended:?}");
                }
                Effect::Count { started, skips } => {
                    self.counted.1 += started + skips.total();
                    self.at_least |= skips.at_least;
                }
                Effect::AskPermit { .. } => {
                    assert!(!asks, "one permit at a time");
                    asks = true;
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

    fn start(&mut self, start: Start) {
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

    fn check(&mut self) {
        let machine = self.machine.as_ref().unwrap();
        let room = machine.room();
        assert!(machine.backlog.len() <= room, "{} of {room} wait", machine.backlog.len());
        self.manuals_max = self.manuals_max.max(match self.policies.overlap {
            Overlap::Queue(max) | Overlap::Allow(max) => max as usize,
            Overlap::Skip | Overlap::Replace => 1,
        });
        // And one that was asked for in vain, and one lost run at a time.
        assert!(machine.manuals.len() <= self.manuals_max + 2, "{:?}", machine.manuals);
        let waiting = waiting_to_begin(machine);
        assert!(self.permits.limited || waiting.is_empty(), "{waiting:?} wait for nothing");
        assert_eq!(waiting, self.granted, "what is granted starts, is closed, or waits for a permit");
        assert!(machine.pending_retries.len() <= PENDING_RETRIES_MAX, "{:?}", machine.pending_retries);
        let active: BTreeSet<_> = machine.active_runs().map(|run| run.run).collect();
        let begun: BTreeSet<_> = active.difference(&waiting).collect();
        assert!(begun.iter().copied().eq(self.open.keys()), "{begun:?} and {:?}", self.open);
        let slots: BTreeSet<_> = machine.active_runs().map(|run| run.slot).collect();
        assert_eq!(slots.len(), active.len(), "each run has a slot of its own");
        assert!(self.questions.len() <= 2, "one question about ticks and one about a run without a tick");
        if self.permits.limited {
            let in_hand = matches!(machine.permit, Permit::InHand | Permit::Pledged(_));
            let answer_comes = match machine.permit {
                Permit::Pledged(Claimant::Tick) => {
                    matches!(&machine.asked, Asked::Claim(asked) if asked.again_at.is_none())
                }
                Permit::Pledged(Claimant::Manual) => machine.manuals.front().is_some_and(Manual::is_asked),
                Permit::None | Permit::Asked | Permit::InHand => true,
            };
            assert!(answer_comes, "a permit is kept for a claim without an answer: {machine:?}");
            let held = self.bodies.len() + usize::from(in_hand) + usize::from(self.permits.on_its_way);
            assert_eq!(self.permits.held as usize, held, "{:?} and {:?}", machine.permit, self.permits);
            let asked = self.permits.waiting || self.permits.on_its_way;
            assert_eq!(machine.permit == Permit::Asked, asked);
        }
        let cursor = machine.cursor();
        if self.right != Right::Local {
            assert!(cursor <= self.store.cursor, "{cursor} is ahead of the store");
        } else if !self.store.from_end {
            let (base, counted) = self.counted;
            let ticks = ticks(base, cursor, self.store.period);
            let uncounted =
                if std::mem::take(&mut self.at_least) { ticks.saturating_sub(counted) } else { 0 };
            self.counted.1 += uncounted;
            assert_eq!(self.counted.1, ticks, "ticks from {base} to {cursor}");
        }
        if self.drained {
            assert!(machine.firing().is_none(), "a drained job does not fire");
        }
    }

    fn resume(&mut self) {
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
        let stored = Box::new(StoredState { pause: pause.clone(), failures: *failures, pending_retries });
        self.step(Input::Resume { cursor, authority, stored });
        if self.machine().firing().is_some() {
            let retry =
                |run: &RunId| self.right != Right::Local && self.store.pending_retries.contains_key(run);
            let stale = self.machine().pending_retries.iter().find(|pending| !retry(&pending.retry.run));
            assert!(stale.is_none(), "it is not owed any more: {stale:?}");
        }
    }

    /// A changed schedule counts from the change on.
    fn enrol_changed(&mut self, period: i64) {
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

    fn redefine(&mut self, policies: Policies, period: i64) {
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

    fn answer(&mut self, which: u8, how: u8) {
        if self.questions.is_empty() {
            return;
        }
        let question = self.questions.remove(usize::from(which) % self.questions.len());
        let reason = || "no answer".to_owned();
        let time = self.store_time();
        match question {
            Question::Claim(claim) => {
                let run = claim.run;
                if how % 9 == 8 && !claim.recheck {
                    self.step(Input::ClaimRefused { run, reason: reason() });
                    return;
                }
                let verdict = match how % 8 {
                    0 => Verdict::Unavailable { reason: reason() },
                    1 => {
                        self.store.claim(time, &claim);
                        Verdict::Unavailable { reason: reason() }
                    }
                    2 => Verdict::Locked { holder: self.store.holder(claim.slot) },
                    // One that may have been granted is only settled.
                    7 if !claim.recheck && !self.store.granted.contains_key(&run) => {
                        Verdict::BadData { reason: "bad data".to_owned() }
                    }
                    _ => self.store.claim(time, &claim),
                };
                if let (Verdict::Granted { .. }, Some(grant)) = (&verdict, self.store.granted.get_mut(&run)) {
                    grant.told = true;
                    self.granted.insert(run);
                }
                self.step(Input::Claimed { run, verdict });
            }
            Question::Advance(advance) => {
                let moved = match how % 8 {
                    0 => Advanced::Unavailable { reason: reason() },
                    1 => {
                        self.store.advance(&advance);
                        Advanced::Unavailable { reason: reason() }
                    }
                    2 => Advanced::Locked,
                    7 => Advanced::BadData { reason: "bad data".to_owned() },
                    _ => self.store.advance(&advance),
                };
                self.step(Input::Advanced(moved));
            }
        }
    }

    fn record(&mut self, how: u8) {
        if self.completions.is_empty() {
            return;
        }
        let (run, outcome) = self.completions.remove(usize::from(how) % self.completions.len());
        if self.store.granted.remove(&run).is_none() {
            return;
        }
        self.store.closed.insert(run);
        match outcome {
            Outcome::Succeeded => self.store.failures = 0,
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => self.store.failures += 1,
            Outcome::Cancelled | Outcome::Lost => {}
        }
        if self.store.from_end {
            self.store.cursor = self.store.cursor.max(self.store_time());
            self.step(Input::Anchored { cursor: Some(self.store.cursor) });
        }
        if self.policies.pause_after.is_some_and(|max| self.store.failures >= max) {
            self.store.failures = 0;
            self.store.pause = Some(Pause::after_failures(1));
            self.step(Input::Pause(self.store.pause.clone()));
        }
    }

    fn end(&mut self, which: u8, how: u8) {
        if self.bodies.is_empty() {
            return;
        }
        let nth = usize::from(which) % self.bodies.len();
        let (&run, &attempt) = self.bodies.iter().nth(nth).unwrap();
        let end = match how % 16 {
            0..6 => End::Returned,
            6..10 => failure(Severity::Transient),
            10 => failure(Severity::Permanent),
            11 => failure(Severity::Stop),
            12 | 13 => End::Panicked("oh".into()),
            14 if attempt == 1 => End::NotStarted { veto: None },
            _ => End::Aborted,
        };
        self.bodies.remove(&run);
        self.step(ended(run, end));
    }

    fn lose_session(&mut self) {
        if self.right == Right::Local {
            return;
        }
        self.completions.clear();
        let granted = std::mem::take(&mut self.store.granted);
        for (run, Grant { tick, losses, .. }) in &granted {
            if self.policies.on_lost == OnLost::Retry && losses + 1 < LOSSES_MAX {
                let retry = PendingRetry { run: *run, fire_time: *tick, losses: losses + 1 };
                self.store.pending_retries.insert(*run, retry);
            }
        }
        self.store.closed.extend(granted.keys());
        if self.store.from_end && !granted.is_empty() {
            self.store.cursor = self.store.cursor.max(self.store_time());
        }
        for (run, grant) in granted {
            if grant.told {
                self.open.entry(run).and_modify(|lost| *lost = true);
                self.step(Input::LockLost { run });
            }
        }
        for question in std::mem::take(&mut self.questions) {
            let reason = "there is no session".to_owned();
            match question {
                Question::Claim(Claim { run, .. }) => {
                    self.step(Input::Claimed { run, verdict: Verdict::Unavailable { reason } });
                }
                Question::Advance(_) => {
                    self.step(Input::Advanced(Advanced::Unavailable { reason }));
                }
            }
        }
        match self.right {
            Right::Leader => self.trusted = false,
            Right::Any | Right::Leaderless | Right::Local => {
                self.step(Input::Suspend);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.step(Input::WakeUp);
        self.come_to_rest();
    }

    /// The timers that are due go off.
    fn come_to_rest(&mut self) {
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

    fn trigger(&mut self) {
        let now = self.now();
        self.triggers.insert(now.spare);
        // As `step`, with the id that the caller knows.
        let Some(effects) = self.call(|machine| machine.feed(now, Input::Trigger)) else { return };
        assert!(!self.perform(effects));
        let Some(effects) = self.call(|machine| machine.decide(now)) else { return };
        if self.perform(effects) {
            let answer = self.permits.ask();
            self.step(Input::Permit(answer));
        }
        self.check();
    }

    fn make(&mut self, one: Move) {
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
            Move::Park => {
                let authority = match self.right {
                    Right::Leader => Authority::Term(Term(self.store.term)),
                    Right::Any | Right::Leaderless | Right::Local => Authority::Any,
                };
                self.step(Input::Park { since: self.store_time(), authority });
            }
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
            Move::Cancel(Some(which)) => {
                let nth = usize::from(which) % self.open.len().max(1);
                let run = self.open.keys().nth(nth).copied();
                if run.is_some() {
                    self.step(Input::Cancel { run, why: CancelReason::Replaced });
                }
            }
            Move::Drain => self.drain(),
            Move::Shutdown => {
                self.drain();
                self.shut_down = true;
                self.step(cancel(CancelReason::Shutdown));
            }
            Move::Abort => drop(self.step(Input::Abort)),
            Move::Pause(millis) => {
                let until = millis.map(|millis| self.store_time() + TimeDelta::milliseconds(millis as i64));
                self.store.pause = Some(Pause { until, note: None });
                if self.right == Right::Local {
                    self.step(Input::Pause(self.store.pause.clone()));
                }
            }
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
                let nth = usize::from(which) % self.store.pending_retries.len().max(1);
                if let Some(retry) = self.store.pending_retries.values().nth(nth).copied() {
                    self.step(Input::PendingRetry(retry));
                }
            }
            Move::Settled(which) => {
                let nth = usize::from(which) % self.store.pending_retries.len().max(1);
                if let Some(run) = self.store.pending_retries.keys().nth(nth).copied() {
                    self.store.pending_retries.remove(&run);
                }
            }
            Move::Foreign(slot, true) => {
                if self.store.holder(slot).is_none() {
                    let run = self.ids.next(at(START));
                    self.store.foreign.insert(slot, run);
                }
            }
            Move::Foreign(slot, false) => drop(self.store.foreign.remove(&slot)),
            Move::Others(true) if self.permits.free > 0 => {
                self.permits.free -= 1;
                self.permits.others += 1;
            }
            Move::Others(false) if self.permits.others > 0 => {
                self.permits.others -= 1;
                self.permits.put_back();
            }
            Move::Others(_) => {}
            Move::Grant => self.grant(),
            Move::Redefine(policies, period) => {
                let period = period.unwrap_or(self.store.period);
                self.redefine(*policies, period);
            }
            Move::Die => self.die(),
            Move::Panic => self.panics.store(true, Ordering::Relaxed),
        }
    }

    fn grant(&mut self) {
        if std::mem::take(&mut self.permits.on_its_way) {
            self.step(Input::Permit(PermitAnswer::Granted));
        }
    }

    fn drain(&mut self) {
        self.drained = true;
        self.step(Input::Drain);
    }

    /// One turn of a world in which everything works: whatever is asked is answered, whatever runs ends, and time passes as
    /// far as the machine wants.
    fn calm_turn(&mut self) {
        let before =
            (self.questions.len(), self.completions.len(), self.bodies.len(), self.permits.on_its_way);
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

    fn calm_down(&mut self) {
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

    fn is_decided(&self, until: DateTime<Utc>) -> bool {
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
    fn hear_pending_retries(&mut self) {
        for retry in self.store.pending_retries.values().copied().collect::<Vec<_>>() {
            self.step(Input::PendingRetry(retry));
        }
    }

    /// Whatever is due is decided and whatever is owed is taken up, with no more wake-ups than the machine asked for.
    fn everything_due_is_decided(&mut self) {
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
    fn everything_ends(&mut self) {
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

fn rights() -> impl Strategy<Value = Right> {
    prop_oneof![4 => Just(Right::Leader), 2 => Just(Right::Any), 1 => Just(Right::Leaderless), 2 => Just(Right::Local)]
}

fn permits() -> impl Strategy<Value = Permits> {
    (0u32..4, any::<bool>()).prop_map(|(free, waits)| Permits {
        limited: free > 0,
        waits,
        free,
        others: 0,
        held: 0,
        waiting: false,
        on_its_way: false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_machine_keeps_its_promises(
        (right, policies, moves) in rights()
            .prop_flat_map(|right| (Just(right), policies(right), moves(right))),
        period in periods(),
        from_end in proptest::bool::weighted(0.2),
        permits in permits(),
    ) {
        let mut world = World::new(right, policies, period, from_end, permits);
        world.resume();
        for one in moves {
            world.make(one);
        }
        world.calm_down();
        if !world.drained {
            world.everything_due_is_decided();
        }
        world.everything_ends();
    }
}
