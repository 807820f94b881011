//! What the actors of one node share.

use std::{
    any::Any,
    mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::Addr;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    runtime,
    sync::watch,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    body::OwnThreads,
    byte_budget::ByteBudget,
    candidacy::{BodyWatch, Candidacy},
    core::{
        clock::{ClockWatch, origin},
        duration::DurationText,
        policy::Fires,
        time::Now,
    },
    definition::Definition,
    failure_log::FailureLog,
    hooks::{HookCalls, Hooks},
    job::JobActor,
    labels::Labelled,
    listener::Publisher,
    lock::{Ask, LockActor, TakeAsks},
    metrics::{JobMeters, Meters},
    name::{NodeId, RunIds, Term},
    overdue::Overdue,
    permits::Permits,
    placement::Placement,
    port::{Clock, Locker, Spawner},
    supervisor::{StoreClockMoved, SupervisorActor},
};

#[cfg(any(test, feature = "testkit"))]
use crate::testkit::Definitions;

/// What the actors of one node share. Addresses are set once, before any job exists.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    /// The version of the time zone data by which fire times are computed; empty if it is not known.
    pub(crate) zone_data: Arc<str>,
    pub(crate) run_ids: RunIds,
    pub(crate) leadership: Leadership,
    /// Who leads, if it is another node.
    pub(crate) leader: KnownLeader,
    /// Whether this node stands as a candidate. Only the election actor writes it.
    pub(crate) candidacy: Mutex<Candidacy>,
    /// Whether bodies start.
    pub(crate) bodies: BodyWatch,
    pub(crate) failures: FailureLog,
    pub(crate) overdue: Overdue,
    pub(crate) clock_offset: ClockOffset,
    pub(crate) clock_moves: ClockMoves,
    pub(crate) publisher: Publisher,
    pub(crate) meters: Arc<Meters>,
    pub(crate) spawner: Arc<dyn Spawner>,
    /// What is asked without the lock actor: whether a session is still trusted.
    pub(crate) locker: Arc<dyn Locker>,
    pub(crate) placement: Placement,
    pub(crate) permits: Permits,
    /// What the jobs ask of the lock actor, on its way there; `None` once it has stopped.
    pub(crate) asks: Mutex<Option<Vec<Ask>>>,
    pub(crate) own_threads: OwnThreads,
    /// The engine has stopped: nobody answers any more.
    pub(crate) over: CancellationToken,
    /// The hooks of all jobs.
    pub(crate) hooks: Hooks,
    /// The bytes of the calls that wait for the hooks of all jobs.
    pub(crate) hook_call_bytes: Arc<ByteBudget>,
    /// Closed while no hook is called after a run or for a skip.
    pub(crate) hooking: watch::Sender<()>,
    /// The runtime of the supervisor, whose timer bounds what runs on threads that may have none.
    pub(crate) timers: runtime::Handle,
    pub(crate) run_extension: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) lock: OnceLock<Addr<LockActor>>,
    pub(crate) supervisor: OnceLock<Addr<SupervisorActor>>,
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) definitions: Option<Definitions>,
}

impl Node {
    /// A number by which this node differs from others.
    pub(crate) fn seed(&self) -> u64 {
        self.id.as_uuid().as_u64_pair().1
    }

    /// Whether this node stands as a candidate.
    pub(crate) fn candidacy(&self) -> Candidacy {
        self.candidacy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The readings of this instant.
    pub(crate) fn now(&self) -> Now {
        self.readings(self.clock.now(), self.clock.elapsed())
    }

    /// The readings of this instant, the wall clock's as the store's would be.
    pub(crate) fn now_in_store(&self) -> Now {
        let elapsed = self.clock.elapsed();
        self.readings(self.clock_offset.store_time(elapsed), elapsed)
    }

    fn readings(&self, wall: DateTime<Utc>, elapsed: Duration) -> Now {
        Now { wall, elapsed, term: self.leadership.term(elapsed), spare: self.run_ids.next(wall) }
    }

    /// What the store's clock reads at this instant, as far as it is known.
    pub(crate) fn store_time(&self) -> DateTime<Utc> {
        self.clock_offset.store_time(self.clock.elapsed())
    }

    /// Sleeps by the engine's own timer, wherever it is polled.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        let _entered = self.timers.enter();
        sleep(duration)
    }

    /// Takes what the store measured: how much the node's wall clock is ahead of its own at present.
    pub(crate) fn set_clock_ahead(&self, ahead: TimeDelta) {
        self.meters.clock_offset.set(ahead.as_seconds_f64());
        let (wall, elapsed) = self.clock.read();
        if self.clock_offset.set(ahead, wall, elapsed) {
            self.supervisor().do_send(StoreClockMoved);
        }
    }

    /// Asks the lock actor. Waking its thread up is what costs most, so only the first one of many does.
    pub(crate) fn ask(&self, ask: Ask) {
        let mut open = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody takes any more must not be kept: it holds its job, and the job holds this node.
        let Some(asks) = open.as_mut() else { return };
        asks.push(ask);
        let first = asks.len() == 1;
        drop(open);
        if first {
            self.lock().do_send(TakeAsks);
        }
    }

    pub(crate) fn take_asks(&self) -> Vec<Ask> {
        let mut open = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_mut().map(mem::take).unwrap_or_default()
    }

    /// A job has this definition from now on.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn note(&self, definition: &Definition) {
        self.definitions.iter().for_each(|definitions| definitions.note(definition));
    }

    /// Takes no more asks.
    pub(crate) fn close_asks(&self) {
        drop(self.asks.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn lock(&self) -> &Addr<LockActor> {
        self.lock.get().expect("invariant: addresses are set before any job exists")
    }

    pub(crate) fn supervisor(&self) -> &Addr<SupervisorActor> {
        self.supervisor.get().expect("invariant: addresses are set before any job exists")
    }
}

/// The election actor's answer to "does this node lead?", readable without asking it. Only that actor writes it.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// 0: this node does not lead.
    term: AtomicU64,
    /// Milliseconds of the monotonic clock up to which the term may be trusted.
    trusted_until: AtomicU64,
}

impl Leadership {
    /// The term in which this node leads at the monotonic reading `elapsed`. Any doubt is "none".
    pub(crate) fn term(&self, elapsed: Duration) -> Option<Term> {
        let term = self.term.load(Ordering::Acquire);
        let trusted_until = self.trusted_until.load(Ordering::Acquire);
        let trusted = elapsed.as_millis() < u128::from(trusted_until);
        (term != 0 && trusted).then_some(Term(term))
    }

    /// `trusted_until` of `None` is for ever.
    pub(crate) fn set(&self, term: Option<Term>, trusted_until: Option<Duration>) {
        let until = trusted_until.and_then(|until| u64::try_from(until.as_millis()).ok()).unwrap_or(u64::MAX);
        match term {
            Some(term) => {
                self.trusted_until.store(until, Ordering::Release);
                self.term.store(term.0, Ordering::Release);
            }
            None => self.term.store(0, Ordering::Release),
        }
    }
}

/// Which node leads, as this one has heard last. Only the election actor writes it, and whoever hears of its death.
#[derive(Debug)]
pub(crate) struct KnownLeader(Mutex<Heard>);

/// When somebody was known to lead last, by the monotonic clock, and who it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) node: Option<NodeId>,
    pub(crate) at: Duration,
}

impl KnownLeader {
    /// Nobody is known to lead; that counts from `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self(Mutex::new(Heard { node: None, at: now }))
    }

    /// A node leads at `now`.
    pub(crate) fn heard(&self, node: NodeId, now: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Heard { node: Some(node), at: now };
    }

    pub(crate) fn last(&self) -> Heard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the node's clocks are from the store's.
///
/// The store's time is told from the monotonic clock, so that it is right when somebody sets the wall clock.
#[derive(Debug)]
pub(crate) struct ClockOffset {
    /// Milliseconds that the wall clock is ahead.
    ahead: AtomicI64,
    /// What the store's clock read when the monotonic one read zero: microseconds since the Unix epoch.
    origin: AtomicI64,
    watch: Mutex<ClockWatch>,
    /// Further off than this, the node must not lead.
    max: Duration,
    warned: AtomicBool,
}

/// Further off than this, a clock is worth a warning.
const CLOCK_OFFSET_WARN: TimeDelta = TimeDelta::seconds(1);

impl ClockOffset {
    /// As long as nothing is measured, the store's clock is taken to read what the wall clock reads.
    pub(crate) fn new(max: Duration, clock: &dyn Clock) -> Self {
        let (wall, elapsed) = clock.read();
        Self {
            ahead: AtomicI64::new(0),
            origin: AtomicI64::new(origin(wall, elapsed).timestamp_micros()),
            watch: Mutex::new(ClockWatch::new(wall, elapsed)),
            max,
            warned: AtomicBool::new(false),
        }
    }

    fn ahead(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.ahead.load(Ordering::Relaxed))
    }

    fn store_time(&self, elapsed: Duration) -> DateTime<Utc> {
        let origin = self.origin.load(Ordering::Relaxed);
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        DateTime::from_timestamp_micros(origin.saturating_add(elapsed)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Whether the store's clock has moved against the monotonic one.
    fn set(&self, ahead: TimeDelta, wall: DateTime<Utc>, elapsed: Duration) -> bool {
        let store = wall.checked_sub_signed(ahead).unwrap_or(wall);
        self.origin.store(origin(store, elapsed).timestamp_micros(), Ordering::Relaxed);
        self.ahead.store(ahead.num_milliseconds(), Ordering::Relaxed);
        let far = ahead.abs() > CLOCK_OFFSET_WARN;
        if self.warned.swap(far, Ordering::Relaxed) != far && far {
            tracing::warn!(target: "callsheet", offset = %in_words(ahead), "this node's clock differs from the store's");
        }
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).look(store, elapsed).is_some()
    }

    /// Why the node must not lead, if its clock is too far off.
    pub(crate) fn refusal(&self) -> Option<String> {
        let ahead = self.ahead();
        let (offset, max) = (in_words(ahead), self.max);
        (ahead.abs().to_std().unwrap_or_default() > max).then(|| {
            let max = DurationText(max);
            format!("this node's clock is {offset} the store's, by more than {max}; synchronise the clocks")
        })
    }
}

fn in_words(ahead: TimeDelta) -> String {
    let off = DurationText(ahead.abs().to_std().unwrap_or_default());
    if ahead < TimeDelta::zero() { format!("{off} behind") } else { format!("{off} ahead of") }
}

/// How often a clock was seen to move, so that whoever reads one can tell later whether it still is what it was.
#[derive(Debug, Default)]
pub(crate) struct ClockMoves(AtomicU32);

impl ClockMoves {
    /// Counts one more. Whoever reads a clock from now on reads what it was set to.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What an actor read when it began to decide.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) now: Now,
    clock_moves: u32,
}

/// The instant for which the timer of a job is armed, by the clock that decides the job's ticks.
///
/// Only the job's actor writes it. The supervisor reads it to find the timers that are wrong once a clock has moved.
#[derive(Debug)]
pub(crate) struct WakeTime(AtomicI64);

impl WakeTime {
    /// It is not armed.
    const NEVER: i64 = i64::MAX;

    /// In microseconds since the Unix epoch; `None` if no timer is armed.
    pub(crate) fn micros(&self) -> Option<i64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|micros| *micros != Self::NEVER)
    }
}

impl Default for WakeTime {
    fn default() -> Self {
        Self(AtomicI64::new(Self::NEVER))
    }
}

/// What of a job the store refused for its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RefusedStep {
    Enrolment = 1,
    Claim,
    /// Of its cursor.
    Move,
    End,
}

/// What the store has to take of a job that was parked before it is no longer: the job is on trial. What it
/// asks is asked by itself, so that it spoils nothing for others.
#[derive(Debug, Default)]
pub(crate) struct OnTrial(AtomicU8);

impl OnTrial {
    pub(crate) fn set(&self, step: Option<RefusedStep>) {
        self.0.store(step.map_or(0, |step| step as u8), Ordering::Relaxed);
    }

    /// For any step.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_for(&self, step: RefusedStep) -> bool {
        self.0.load(Ordering::Relaxed) == step as u8
    }

    /// The same for another incarnation of the job.
    pub(crate) fn share(&self) -> Self {
        Self(AtomicU8::new(self.0.load(Ordering::Relaxed)))
    }
}

/// One incarnation of a job on this node: what everybody who deals with it needs.
pub(crate) struct JobRef {
    pub(crate) definition: Arc<Definition>,
    /// Grows with every actor that is started on this node.
    pub(crate) generation: u64,
    /// The generation of its first actor: the same for all that took it over.
    pub(crate) lineage: u64,
    pub(crate) addr: Addr<JobActor>,
    pub(crate) meters: Arc<Labelled<JobMeters>>,
    pub(crate) hook_calls: HookCalls,
    pub(crate) wake_time: WakeTime,
    pub(crate) on_trial: OnTrial,
    pub(crate) node: Arc<Node>,
}

impl JobRef {
    /// The readings of this instant by the clock that decides the job's ticks: the store's, unless the job is local.
    pub(crate) fn now(&self) -> Now {
        match self.definition.policies.fires {
            Fires::Leader | Fires::AnyNode => self.node.now_in_store(),
            Fires::Local => self.node.now(),
        }
    }

    /// What the clock that decides the job's ticks reads while the node's own clocks read this.
    pub(crate) fn wall_at(&self, wall: DateTime<Utc>, elapsed: Duration) -> DateTime<Utc> {
        match self.definition.policies.fires {
            Fires::Leader | Fires::AnyNode => self.node.clock_offset.store_time(elapsed),
            Fires::Local => wall,
        }
    }

    /// [`now`](Self::now), for a timer that is to follow from it.
    pub(crate) fn read(&self) -> Reading {
        // First of all: whoever counts a move sees the clock that has moved.
        let clock_moves = self.node.clock_moves.0.load(Ordering::SeqCst);
        Reading { now: self.now(), clock_moves }
    }

    /// Says for when a timer that follows from `reading` is armed. If that answers no, the clock has moved meanwhile, and the
    /// timer may be wrong.
    ///
    /// A move is counted before the supervisor looks for wrong timers, and the wake time is said before the count is read again:
    /// either the supervisor sees this wake time, or the actor sees the move. For this all four are sequentially
    /// consistent.
    pub(crate) fn say_wake_time(&self, reading: &Reading, wait: Option<Duration>) -> bool {
        let wake_time = wait.map(|wait| {
            let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
            reading.now.wall.timestamp_micros().saturating_add(wait)
        });
        self.wake_time.0.store(wake_time.unwrap_or(WakeTime::NEVER), Ordering::SeqCst);
        self.node.clock_moves.0.load(Ordering::SeqCst) == reading.clock_moves
    }
}
