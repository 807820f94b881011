//! The listener actor fans events out.
//!
//! Every actor publishes to it through a [`Publisher`], which knows what the subscribers want, so that nothing is queued
//! in vain; the supervisor passes [`ListenTo`] on. A subscriber that is slow loses its own events, which are counted, and
//! one that is gone is forgotten; nobody else notices. Nothing of it survives a restart of the engine.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::{
    byte_budget::{ByteBudget, Charge},
    event::{Event, EventKind},
    event_filter::{EventFilter, Kinds},
    event_log::{EventLog, Level},
    event_stream::EventStream,
    metrics::Meters,
    name::{JobName, NodeId},
    port::Clock,
    subscriber::{Delivery, Subscriber, Waiting},
};

/// Events that may wait for the listener actor itself.
pub const EVENTS_MAX: usize = 65_536;
/// The most bytes of texts (errors with their causes, messages of panics, reasons, notes) in the events that
/// wait for the listener actor itself. When they are that many it is as with [`EVENTS_MAX`]: the newest event
/// is dropped, and counted. Events without texts still find room.
pub const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An actor of the application that handles a message, as an address or a recipient: a listener of events, or the body of a job.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an actor that handles `{M}`",
    label = "the address of an actor is expected here",
    note = "start an actor that implements `Handler<{M}>`, and give its address: `MyActor.start()`",
    note = "without an actor: `Callsheet::events` is a stream of events, and `Job::run` takes a function as the body"
)]
pub trait IntoRecipient<M: Message<Result: Send> + Send> {
    /// Who gets the messages.
    fn into_recipient(self) -> Recipient<M>;
}

// Without the attribute, an error would list what converts into what in the standard library.
#[diagnostic::do_not_recommend]
impl<M: Message<Result: Send> + Send, T: Into<Recipient<M>>> IntoRecipient<M> for T {
    fn into_recipient(self) -> Recipient<M> {
        self.into()
    }
}

/// Adds a subscriber: every event from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Listen(pub Recipient<Event>);

/// Adds a subscriber: the events that pass a filter, from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListenTo {
    /// What it wants to hear.
    pub filter: EventFilter,
    /// The subscriber.
    pub listener: Recipient<Event>,
}

/// Asks for a stream of the events that pass a filter, from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "EventStream")]
pub struct Events(pub EventFilter);

/// Answers when every actor that listens has handled, or lost, what was published before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush;

#[derive(Message)]
#[rtype(result = "()")]
struct Publish(Event, Charge);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopListening;

/// Lines of the log were left out: to say how many, when the minute is over.
#[derive(Message)]
#[rtype(result = "()")]
struct SettleLog(Duration);

/// Where actors publish events. Events without a subscriber are not built.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Outbox>);

struct Outbox {
    node: NodeId,
    clock: Arc<dyn Clock>,
    meters: Arc<Meters>,
    log: EventLog,
    listener: OnceLock<Addr<ListenerActor>>,
    /// `None` once the engine has stopped.
    subscribers: RwLock<Option<Subscribers>>,
    /// The kinds that somebody wants whatever the job, as bits.
    of_every_job: AtomicU64,
    /// The kinds that somebody wants of some jobs, as bits.
    of_some_jobs: AtomicU64,
    /// Published, not yet fanned out.
    waiting: AtomicUsize,
    /// The bytes of those.
    bytes: Arc<ByteBudget>,
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
        self.publish_if(EventLog::is_enabled(), kind);
    }

    /// As [`publish`](Self::publish), for what a healthy node does all the time: events that are logged at DEBUG.
    pub(crate) fn publish_routine(&self, kind: impl FnOnce() -> EventKind) {
        self.publish_if(EventLog::is_enabled_for_routine(), || {
            let kind = kind();
            debug_assert_eq!(kind.level(), Level::Debug, "{kind}");
            kind
        });
    }

    /// Logs something else about a job, so many lines of a kind a minute.
    pub(crate) fn log(&self, kind: &'static str, level: Level, job: &JobName, line: &dyn fmt::Display) {
        let outbox = &*self.0;
        let left_out = outbox.log.log(outbox.clock.elapsed(), kind, level, Some(job), line);
        outbox.settle_log_in(left_out);
    }

    fn publish_if(&self, logged: bool, kind: impl FnOnce() -> EventKind) {
        let outbox = &*self.0;
        let of_every_job = Kinds(outbox.of_every_job.load(Ordering::Acquire));
        let of_some_jobs = Kinds(outbox.of_some_jobs.load(Ordering::Acquire));
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
        let event = Event { at: outbox.clock.now(), node: outbox.node, kind };
        if logged {
            outbox.settle_log_in(outbox.log.event(outbox.clock.elapsed(), &event.kind));
        }
        let Some(listener) = outbox.listener.get().filter(|_| heard) else { return };
        let charge = outbox.bytes.charge(event.kind.text_bytes());
        let room = outbox.waiting.fetch_add(1, Ordering::AcqRel) < EVENTS_MAX;
        if let (true, Some(charge)) = (room, charge) {
            listener.do_send(Publish(event, charge));
        } else {
            outbox.waiting.fetch_sub(1, Ordering::AcqRel);
            outbox.drop_for(&event.kind);
        }
    }

    /// A stream of what passes the filter; one that has ended if the engine has.
    pub(crate) fn stream(&self, filter: EventFilter) -> EventStream {
        let dropped = Arc::<AtomicU64>::default();
        let (subscriber, events) = Subscriber::stream(filter, dropped.clone());
        self.0.add(subscriber);
        EventStream::new(events, dropped, self.clone())
    }

    pub(crate) fn forget_the_gone(&self) {
        self.0.forget_the_gone();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.0.node).finish()
    }
}

impl Outbox {
    fn add(&self, subscriber: Subscriber) {
        self.change(|subscribers| {
            subscribers.map(|those| those.iter().cloned().chain([Arc::new(subscriber)]).collect())
        });
    }

    fn forget_the_gone(&self) {
        self.change(|subscribers| {
            subscribers.map(|those| those.iter().filter(|one| !one.is_gone()).cloned().collect())
        });
    }

    /// Lines were left out, and this time is left until their minute is over.
    fn settle_log_in(&self, time: Option<Duration>) {
        if let (Some(time), Some(listener)) = (time, self.listener.get()) {
            listener.do_send(SettleLog(time));
        }
    }

    /// Nobody hears of anything any more. What waits in a stream can still be read.
    fn close(&self) {
        self.change(|_| None);
    }

    fn change(&self, change: impl FnOnce(Option<Subscribers>) -> Option<Subscribers>) {
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

    fn subscribers(&self) -> Option<Subscribers> {
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_wanted(&self, kind: &EventKind) -> bool {
        self.subscribers().is_some_and(|those| those.iter().any(|one| one.filter.admits(kind)))
    }

    /// Counts an event that did not get as far as the listener actor.
    fn drop_for(&self, kind: &EventKind) {
        let those = self.subscribers();
        let missed = those.iter().flat_map(|those| those.iter()).filter(|one| one.filter.admits(kind));
        missed.for_each(|one| one.miss(&self.meters));
    }
}

/// Fans events out.
pub(crate) struct ListenerActor {
    outbox: Arc<Outbox>,
}

impl ListenerActor {
    pub(crate) fn new(publisher: &Publisher) -> Self {
        Self { outbox: publisher.0.clone() }
    }
}

impl Drop for ListenerActor {
    /// However it came to its end: a stream must not wait for ever.
    fn drop(&mut self) {
        self.outbox.log.close();
        self.outbox.close();
    }
}

impl Actor for ListenerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(EVENTS_MAX);
        // Set once; a second engine has an outbox of its own.
        let _ = self.outbox.listener.set(ctx.address());
    }
}

impl Handler<ListenTo> for ListenerActor {
    type Result = ();

    fn handle(&mut self, ListenTo { filter, listener }: ListenTo, _: &mut Self::Context) {
        let (subscriber, mut deliveries) = Subscriber::actor(filter);
        // A task of its own that waits for each event to be handled, so that a slow subscriber is seen as slow: a
        // mailbox takes any number of messages that are sent without waiting.
        actix_rt::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                match delivery {
                    // It waits until it is handled, and so do its bytes.
                    Delivery::Event(Waiting { event, _charge }) => {
                        if listener.send(event).await.is_err() && !listener.connected() {
                            tracing::warn!(target: "callsheet", "a listener stopped or panicked and hears no more");
                            return;
                        }
                    }
                    // Whoever asked may have given up.
                    Delivery::Flush(done) => drop(done.send(())),
                }
            }
        });
        self.outbox.add(subscriber);
    }
}

impl Handler<Publish> for ListenerActor {
    type Result = ();

    fn handle(&mut self, Publish(event, charge): Publish, _: &mut Self::Context) {
        self.outbox.waiting.fetch_sub(1, Ordering::AcqRel);
        drop(charge);
        let subscribers = self.outbox.subscribers();
        let those = subscribers.iter().flat_map(|those| those.iter());
        let mut gone = false;
        for subscriber in those.filter(|one| one.filter.admits(&event.kind)) {
            gone |= subscriber.offer(event.clone(), &self.outbox.meters).is_err();
        }
        if gone {
            self.outbox.forget_the_gone();
        }
    }
}

impl Handler<SettleLog> for ListenerActor {
    type Result = ();

    fn handle(&mut self, SettleLog(time): SettleLog, ctx: &mut Self::Context) {
        ctx.run_later(time, |actor, _| actor.outbox.log.settle(actor.outbox.clock.elapsed()));
    }
}

impl Handler<Flush> for ListenerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, _: &mut Self::Context) -> Self::Result {
        let subscribers = self.outbox.subscribers();
        // Streams have it in their buffers; nobody waits for those who read them.
        let those = subscribers.iter().flat_map(|those| those.iter());
        let queues: Vec<_> = those.filter_map(|one| one.deliveries()).collect();
        Box::pin(async move {
            for queue in queues {
                let (done, flushed) = oneshot::channel();
                if queue.send(Delivery::Flush(done)).await.is_ok() {
                    // An error: the subscriber is gone, so nothing is left to wait for.
                    let _ = flushed.await;
                }
            }
        })
    }
}

impl Handler<StopListening> for ListenerActor {
    type Result = ();

    fn handle(&mut self, _: StopListening, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::EventName, testkit::VirtualClock};

    /// Nobody is to ask it.
    #[derive(Debug)]
    struct Unread;

    impl Clock for Unread {
        fn now(&self) -> chrono::DateTime<chrono::Utc> {
            panic!("the time of what nobody hears")
        }

        fn elapsed(&self) -> Duration {
            panic!("the time of what nobody hears")
        }
    }

    fn publisher() -> Publisher {
        let clock = Arc::new(VirtualClock::starting_at(chrono::DateTime::UNIX_EPOCH));
        Publisher::new(NodeId::numbered(1), clock, Arc::new(Meters::new("test".into(), 1)))
    }

    fn added(name: &str) -> EventKind {
        EventKind::JobAdded { job: JobName::new(name).unwrap() }
    }

    fn waiting(publisher: &Publisher) -> usize {
        publisher.0.waiting.load(Ordering::Relaxed)
    }

    #[actix::test]
    async fn what_nobody_wants_is_neither_made_nor_queued() {
        let publisher = publisher();
        let listener = ListenerActor::new(&publisher).start();
        listener.send(Flush).await.unwrap();
        let unheard = || -> EventKind { panic!("nobody wants it") };
        publisher.publish(unheard);

        let of_a = publisher.stream(EventFilter::new().kinds([EventName::JobAdded]).job("a"));
        publisher.publish(|| EventKind::JobRemoved { job: JobName::new("a").unwrap() });
        publisher.publish(|| added("b"));
        assert_eq!(waiting(&publisher), 0);
        publisher.publish(|| added("a"));
        assert_eq!(waiting(&publisher), 1);

        drop(of_a);
        publisher.publish(unheard);
    }

    #[actix::test]
    async fn what_the_listener_actor_has_not_looked_at_is_bounded_in_bytes() {
        let publisher = publisher();
        let listener = ListenerActor::new(&publisher).start();
        listener.send(Flush).await.unwrap();
        let failed =
            publisher.stream(EventFilter::new().kinds([EventName::LockUnavailable, EventName::JobAdded]));
        let reason = "a".repeat(1024 * 1024);

        for _ in 0..100 {
            let job = JobName::new("a").unwrap();
            publisher.publish(|| EventKind::LockUnavailable { job, reason: reason.clone() });
        }
        publisher.publish(|| added("a"));

        assert_eq!(publisher.0.bytes.used(), EVENT_BYTES_MAX);
        assert_eq!((waiting(&publisher), failed.dropped()), (33, 68), "32 MiB, and one without a text");
        listener.send(Flush).await.unwrap();
        assert_eq!(
            (publisher.0.bytes.used(), waiting(&publisher)),
            (0, 0),
            "it hands on what it has looked at"
        );
        assert_eq!(failed.dropped(), 68 + 16, "16 MiB wait in the stream");
    }

    #[actix::test]
    async fn a_run_that_goes_well_is_not_even_made_for_a_log_from_info_on() {
        let publisher = publisher();
        let unheard = || -> EventKind { panic!("nobody wants it") };
        let info = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::sink);

        tracing::subscriber::with_default(info.finish(), || publisher.publish_routine(unheard));
    }

    #[actix::test]
    async fn what_is_logged_at_debug_reads_no_clock_for_a_log_from_info_on() {
        let info = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::sink);
        let clock = Arc::new(Unread);
        let publisher = Publisher::new(NodeId::numbered(1), clock, Arc::new(Meters::new("test".into(), 1)));

        tracing::subscriber::with_default(info.finish(), || publisher.publish(|| added("a")));
    }

    #[actix::test]
    async fn whoever_is_gone_is_forgotten_and_the_others_are_not() {
        let publisher = publisher();
        let listener = ListenerActor::new(&publisher).start();
        listener.send(Flush).await.unwrap();
        let mut kept = publisher.stream(EventFilter::new());
        drop(publisher.stream(EventFilter::new().job("a")));

        publisher.publish(|| added("b"));

        assert_eq!(kept.next().await.map(|event| event.kind), Some(added("b")));
        assert_eq!(publisher.0.subscribers().map(|those| those.len()), Some(1));
    }

    #[actix::test]
    async fn a_stream_that_is_asked_for_too_late_has_ended() {
        let publisher = publisher();
        let listener = ListenerActor::new(&publisher).start();
        let mut early = publisher.stream(EventFilter::new());

        listener.send(StopListening).await.unwrap();

        assert_eq!(early.next().await, None);
        assert_eq!(publisher.stream(EventFilter::new()).next().await, None);
    }
}
