//! The listener actor fans events out.
//!
//! Every actor publishes to it through a [`Publisher`], which knows what the subscribers want, so that
//! nothing is queued in vain; the supervisor passes [`ListenTo`] on. A subscriber that is slow loses its own
//! events, which are counted, and one that is gone is forgotten; nobody else notices. Nothing of it survives
//! a restart of the engine.

mod publisher;
mod stream;
mod subscriber;

use std::sync::atomic::Ordering;

use actix::prelude::*;
use tokio::sync::oneshot;

pub(crate) use self::publisher::Publisher;
use self::{
    publisher::{CloseLogPeriod, Publish},
    subscriber::{Delivery, Subscriber, Waiting},
};
pub use self::{
    publisher::{EVENT_BYTES_MAX, EVENTS_MAX},
    stream::EventStream,
    subscriber::{EVENT_BUFFER_DEFAULT, SUBSCRIBER_EVENT_BYTES_MAX, SUBSCRIBER_EVENTS_MAX},
};
use crate::{event::Event, event_filter::EventFilter};

/// Adds a subscriber: every event from now on.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Listen(pub Recipient<Event>);

/// Adds a subscriber: the events that pass a filter, from now on.
#[derive(Clone, Message)]
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
pub(crate) struct StopListening;

/// Fans events out.
pub(crate) struct ListenerActor {
    publisher: Publisher,
}

impl ListenerActor {
    pub(crate) fn new(publisher: &Publisher) -> Self {
        Self { publisher: publisher.clone() }
    }
}

impl Drop for ListenerActor {
    /// However it came to its end: a stream must not wait for ever.
    fn drop(&mut self) {
        self.publisher.0.log.close();
        self.publisher.0.close();
    }
}

impl Actor for ListenerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(EVENTS_MAX);
        self.publisher.set_listener(ctx.address().recipient(), ctx.address().recipient());
    }
}

impl Handler<ListenTo> for ListenerActor {
    type Result = ();

    fn handle(&mut self, ListenTo { filter, listener }: ListenTo, _: &mut Self::Context) {
        let (subscriber, mut deliveries) = Subscriber::actor(filter);
        // A task of its own that waits for each event to be handled, so that a slow subscriber is seen as
        // slow: a mailbox takes any number of messages that are sent without waiting.
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
        self.publisher.subscribe(subscriber.into());
    }
}

impl Handler<Publish> for ListenerActor {
    type Result = ();

    fn handle(&mut self, Publish(event, charge): Publish, _: &mut Self::Context) {
        self.publisher.0.waiting.fetch_sub(1, Ordering::AcqRel);
        drop(charge);
        let subscribers = self.publisher.0.subscribers();
        let those = subscribers.iter().flat_map(|those| those.iter());
        let mut gone = false;
        for subscriber in those.filter(|one| one.filter.admits(&event.kind)) {
            gone |= subscriber.offer(event.clone(), &self.publisher.0.meters).is_err();
        }
        if gone {
            self.publisher.forget_the_gone();
        }
    }
}

impl Handler<CloseLogPeriod> for ListenerActor {
    type Result = ();

    fn handle(&mut self, CloseLogPeriod(time): CloseLogPeriod, ctx: &mut Self::Context) {
        ctx.run_later(time, |actor, _| actor.publisher.0.log.close_period(actor.publisher.0.clock.elapsed()));
    }
}

impl Handler<Flush> for ListenerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, _: &mut Self::Context) -> Self::Result {
        let subscribers = self.publisher.0.subscribers();
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
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        event::{EventKind, EventName},
        metrics::Meters,
        name::{JobName, NodeId},
        port::Clock,
        testkit::VirtualClock,
    };

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
        Publisher::new(NodeId::numbered(1), clock, Arc::new(Meters::new("test".into(), None, 1, &"".into())))
    }

    fn added(name: &str) -> EventKind {
        EventKind::JobAdded { job: JobName::new(name).unwrap(), by: None }
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

        let of_a =
            EventStream::subscribe(&publisher, EventFilter::new().kinds([EventName::JobAdded]).job("a"));
        publisher.publish(|| EventKind::JobRemoved { job: JobName::new("a").unwrap(), by: None });
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
        let failed = EventStream::subscribe(
            &publisher,
            EventFilter::new().kinds([EventName::LockUnavailable, EventName::JobAdded]),
        );
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
        let publisher = Publisher::new(
            NodeId::numbered(1),
            clock,
            Arc::new(Meters::new("test".into(), None, 1, &"".into())),
        );

        tracing::subscriber::with_default(info.finish(), || publisher.publish(|| added("a")));
    }

    #[actix::test]
    async fn whoever_is_gone_is_forgotten_and_the_others_are_not() {
        let publisher = publisher();
        let listener = ListenerActor::new(&publisher).start();
        listener.send(Flush).await.unwrap();
        let mut kept = EventStream::subscribe(&publisher, EventFilter::new());
        drop(EventStream::subscribe(&publisher, EventFilter::new().job("a")));

        publisher.publish(|| added("b"));

        assert_eq!(kept.next().await.map(|event| event.kind), Some(added("b")));
        assert_eq!(publisher.0.subscribers().map(|those| those.len()), Some(1));
    }

    #[actix::test]
    async fn a_stream_that_is_asked_for_too_late_has_ended() {
        let publisher = publisher();
        let listener = ListenerActor::new(&publisher).start();
        let mut early = EventStream::subscribe(&publisher, EventFilter::new());

        listener.send(StopListening).await.unwrap();

        assert_eq!(early.next().await, None);
        assert_eq!(EventStream::subscribe(&publisher, EventFilter::new()).next().await, None);
    }
}
