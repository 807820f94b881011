//! Where actors publish events.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::subscriber::Subscriber;
use crate::{
    core::byte_budget::{ByteBudget, Charge},
    event::{Event, EventKind},
    event_filter::Kinds,
    event_log::{EventLog, Level},
    metrics::Meters,
    name::{JobName, NodeId},
    port::Clock,
};

/// Events that may wait for the listener actor itself.
pub const EVENTS_MAX: usize = 65_536;
/// The most bytes of texts (errors with their causes, messages of panics, reasons, notes) in the events that
/// wait for the listener actor itself. When they are that many it is as with [`EVENTS_MAX`]: the newest event
/// is dropped, and counted. Events without texts still find room.
pub const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Asks for an event to be fanned out.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Publish(pub(super) Event, pub(super) Charge);

/// Lines of the log were left out: to say how many, when the minute is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CloseLogPeriod(pub(super) Duration);

/// Where actors publish events. Events without a subscriber are not built.
#[derive(Clone)]
pub(crate) struct Publisher(pub(super) Arc<Outbox>);

pub(super) struct Outbox {
    node: NodeId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meters: Arc<Meters>,
    pub(super) log: EventLog,
    listener: OnceLock<Listener>,
    /// `None` once the engine has stopped.
    subscribers: RwLock<Option<Subscribers>>,
    /// The kinds to which somebody subscribed for all jobs, as bits.
    of_every_job: AtomicU64,
    /// The kinds that somebody wants of some jobs, as bits.
    of_some_jobs: AtomicU64,
    /// Published, not yet fanned out.
    pub(super) waiting: AtomicUsize,
    /// The bytes of those.
    pub(super) bytes: Arc<ByteBudget>,
}

/// Who fans events out, and says how many lines of the log were left out.
struct Listener {
    events: Recipient<Publish>,
    left_out: Recipient<CloseLogPeriod>,
}

/// What is logged at DEBUG.
fn routine(kind: impl FnOnce() -> EventKind) -> impl FnOnce() -> EventKind {
    || {
        let kind = kind();
        debug_assert_eq!(kind.level(), Level::Debug, "{kind}");
        kind
    }
}

/// Shared, so that nothing is locked while events are handed on.
type Subscribers = Arc<[Arc<Subscriber>]>;

impl Publisher {
    pub(crate) fn new(node: NodeId, clock: Arc<dyn Clock>, meters: Arc<Meters>) -> Self {
        Self(Arc::new(Outbox {
            node,
            clock,
            meters,
            log: EventLog::new(node),
            listener: OnceLock::new(),
            subscribers: RwLock::new(Some(Arc::new([]))),
            of_every_job: AtomicU64::new(0),
            of_some_jobs: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            bytes: ByteBudget::new(EVENT_BYTES_MAX),
        }))
    }

    /// Publishes what `kind` makes, if anybody wants to know.
    pub(crate) fn publish(&self, kind: impl FnOnce() -> EventKind) {
        self.publish_if(EventLog::is_enabled(), None, kind);
    }

    /// As [`publish`](Self::publish), of what happened before, at an instant, or now.
    pub(crate) fn publish_at(&self, at: Option<DateTime<Utc>>, kind: impl FnOnce() -> EventKind) {
        self.publish_if(EventLog::is_enabled(), at, kind);
    }

    /// As [`publish`](Self::publish), for what a healthy node does all the time: events that are logged at
    /// DEBUG.
    pub(crate) fn publish_routine(&self, kind: impl FnOnce() -> EventKind) {
        self.publish_if(EventLog::is_enabled_for_routine(), None, routine(kind));
    }

    /// As [`publish_routine`](Self::publish_routine), of what happened before, at an instant, or now.
    pub(crate) fn publish_routine_at(&self, at: Option<DateTime<Utc>>, kind: impl FnOnce() -> EventKind) {
        self.publish_if(EventLog::is_enabled_for_routine(), at, routine(kind));
    }

    /// Whether anybody wants to know of anything.
    pub(crate) fn is_heard(&self) -> bool {
        EventLog::is_enabled() || self.0.kinds_wanted() != (Kinds::NONE, Kinds::NONE)
    }

    /// Logs something else about a job, so many lines of a kind a minute.
    pub(crate) fn log(&self, kind: &'static str, level: Level, job: &JobName, line: &dyn fmt::Display) {
        let outbox = &*self.0;
        let left_out = outbox.log.log(outbox.clock.elapsed(), kind, level, Some(job), line);
        outbox.close_log_period_in(left_out);
    }

    fn publish_if(&self, logged: bool, at: Option<DateTime<Utc>>, kind: impl FnOnce() -> EventKind) {
        let outbox = &*self.0;
        let (of_every_job, of_some_jobs) = outbox.kinds_wanted();
        if !logged && of_every_job == Kinds::NONE && of_some_jobs == Kinds::NONE {
            return;
        }
        let kind = kind();
        let name = kind.name();
        let heard = of_every_job.contain(name) || of_some_jobs.contain(name) && outbox.is_wanted(&kind);
        // Only now its level is known.
        let logged = logged && EventLog::logs(&kind);
        if !logged && !heard {
            return;
        }
        let at = at.unwrap_or_else(|| outbox.clock.now());
        let event = Event { at, node: outbox.node, kind };
        if logged {
            outbox.close_log_period_in(outbox.log.event(outbox.clock.elapsed(), &event.kind));
        }
        let Some(listener) = outbox.listener.get().filter(|_| heard) else { return };
        let charge = outbox.bytes.charge(event.kind.text_bytes());
        let room = outbox.waiting.fetch_add(1, Ordering::AcqRel) < EVENTS_MAX;
        if let (true, Some(charge)) = (room, charge) {
            listener.events.do_send(Publish(event, charge));
        } else {
            outbox.waiting.fetch_sub(1, Ordering::AcqRel);
            outbox.drop_for(&event.kind);
        }
    }

    /// Adds a subscriber.
    pub(super) fn subscribe(&self, subscriber: Arc<Subscriber>) {
        self.0.add(subscriber);
    }

    /// Whoever fans events out. Set once; a second engine has a publisher of its own.
    pub(super) fn set_listener(&self, events: Recipient<Publish>, left_out: Recipient<CloseLogPeriod>) {
        // It was set before.
        let _ = self.0.listener.set(Listener { events, left_out });
    }

    pub(super) fn forget_the_gone(&self) {
        self.0.forget_the_gone();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.0.node).finish()
    }
}

impl Outbox {
    /// Of all jobs, and of some.
    fn kinds_wanted(&self) -> (Kinds, Kinds) {
        let read = |kinds: &AtomicU64| Kinds(kinds.load(Ordering::Acquire));
        (read(&self.of_every_job), read(&self.of_some_jobs))
    }

    pub(super) fn add(&self, subscriber: Arc<Subscriber>) {
        self.change(|subscribers| {
            subscribers.map(|those| those.iter().cloned().chain([subscriber]).collect())
        });
    }

    pub(super) fn forget_the_gone(&self) {
        self.change(|subscribers| {
            subscribers.map(|those| those.iter().filter(|one| !one.is_gone()).cloned().collect())
        });
    }

    /// Lines were left out, and this time is left until their minute is over.
    pub(super) fn close_log_period_in(&self, time: Option<Duration>) {
        if let (Some(time), Some(listener)) = (time, self.listener.get()) {
            listener.left_out.do_send(CloseLogPeriod(time));
        }
    }

    /// Nobody hears of anything any more. What waits in a stream can still be read.
    pub(super) fn close(&self) {
        self.change(|_| None);
    }

    pub(super) fn change(&self, change: impl FnOnce(Option<Subscribers>) -> Option<Subscribers>) {
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(subscribers.clone());
        let wanted = |of_every_job: bool| {
            let those = changed.iter().flat_map(|those| those.iter().map(|one| &one.filter));
            let those = those.filter(|filter| filter.is_for_every_job() == of_every_job);
            those.fold(0, |kinds, filter| kinds | filter.wanted_kinds().0)
        };
        self.of_every_job.store(wanted(true), Ordering::Release);
        self.of_some_jobs.store(wanted(false), Ordering::Release);
        *subscribers = changed;
    }

    pub(super) fn subscribers(&self) -> Option<Subscribers> {
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_wanted(&self, kind: &EventKind) -> bool {
        self.subscribers().is_some_and(|those| those.iter().any(|one| one.filter.admits(kind)))
    }

    /// Counts an event that did not get as far as the listener actor.
    pub(super) fn drop_for(&self, kind: &EventKind) {
        let those = self.subscribers();
        let missed = those.iter().flat_map(|those| those.iter()).filter(|one| one.filter.admits(kind));
        missed.for_each(|one| one.miss(&self.meters));
    }
}
