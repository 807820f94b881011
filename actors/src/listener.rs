//! The listener actor fans events out.
//!
//! It owns the subscribers. Every actor publishes to it through a [`Publisher`]; the supervisor passes [`Listen`] on. A
//! subscriber that is slow loses its own events, which are counted, and one that is gone is forgotten; nobody else
//! notices. Nothing of it survives a restart of the engine.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::{
    event::{Event, EventKind},
    metrics::Meters,
    name::NodeId,
    port::Clock,
};

/// Events that may wait for the listener actor itself.
pub const EVENTS_MAX: usize = 65_536;
/// Events that may wait for one subscriber.
pub const SUBSCRIBER_EVENTS_MAX: usize = 16_384;

/// Adds a subscriber: every event from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Listen(pub Recipient<Event>);

/// Answers when every subscriber has handled, or lost, what was published before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush;

#[derive(Message)]
#[rtype(result = "()")]
struct Publish(Event);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopListening;

/// Where actors publish events. If nobody listens, publishing costs next to nothing.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Outbox>);

struct Outbox {
    node: NodeId,
    clock: Arc<dyn Clock>,
    meters: Arc<Meters>,
    listener: OnceLock<Addr<ListenerActor>>,
    subscribers: AtomicUsize,
    /// Published, not yet fanned out.
    waiting: AtomicUsize,
}

impl Publisher {
    pub(crate) fn new(node: NodeId, clock: Arc<dyn Clock>, meters: Arc<Meters>) -> Self {
        Self(Arc::new(Outbox {
            node,
            clock,
            meters,
            listener: OnceLock::new(),
            subscribers: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Publishes what `kind` makes, if anybody wants to know.
    pub(crate) fn publish(&self, kind: impl FnOnce() -> EventKind) {
        let outbox = &*self.0;
        let logged = tracing::enabled!(target: "callsheet", tracing::Level::DEBUG);
        let heard = outbox.subscribers.load(Ordering::Acquire) > 0;
        if !logged && !heard {
            return;
        }
        let event = Event { at: outbox.clock.now(), node: outbox.node, kind: kind() };
        if logged {
            tracing::debug!(target: "callsheet", node = %event.node, "{}", event.kind);
        }
        let Some(listener) = outbox.listener.get().filter(|_| heard) else { return };
        if outbox.waiting.fetch_add(1, Ordering::AcqRel) < EVENTS_MAX {
            listener.do_send(Publish(event));
        } else {
            outbox.waiting.fetch_sub(1, Ordering::AcqRel);
            outbox.meters.events_dropped.increment(1);
        }
    }
}

struct Subscriber {
    queue: mpsc::Sender<Delivery>,
}

enum Delivery {
    Event(Event),
    Flush(oneshot::Sender<()>),
}

/// Fans events out.
pub(crate) struct ListenerActor {
    outbox: Arc<Outbox>,
    subscribers: Vec<Subscriber>,
}

impl ListenerActor {
    pub(crate) fn new(publisher: &Publisher) -> Self {
        Self { outbox: publisher.0.clone(), subscribers: Vec::new() }
    }

    fn forget_the_gone(&mut self) {
        self.subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        self.outbox.subscribers.store(self.subscribers.len(), Ordering::Release);
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

impl Handler<Listen> for ListenerActor {
    type Result = ();

    fn handle(&mut self, Listen(recipient): Listen, _: &mut Self::Context) {
        let (queue, mut deliveries) = mpsc::channel(SUBSCRIBER_EVENTS_MAX);
        // A task of its own that waits for each event to be handled, so that a slow subscriber is seen as slow: a
        // mailbox takes any number of messages that are sent without waiting.
        actix_rt::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                match delivery {
                    Delivery::Event(event) => {
                        if recipient.send(event).await.is_err() && !recipient.connected() {
                            tracing::warn!(target: "callsheet", "a listener stopped or panicked and hears no more");
                            return;
                        }
                    }
                    // Whoever asked may have given up.
                    Delivery::Flush(done) => drop(done.send(())),
                }
            }
        });
        self.subscribers.push(Subscriber { queue });
        self.outbox.subscribers.store(self.subscribers.len(), Ordering::Release);
    }
}

impl Handler<Publish> for ListenerActor {
    type Result = ();

    fn handle(&mut self, Publish(event): Publish, _: &mut Self::Context) {
        self.outbox.waiting.fetch_sub(1, Ordering::AcqRel);
        let mut gone = false;
        for subscriber in &self.subscribers {
            match subscriber.queue.try_send(Delivery::Event(event.clone())) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => self.outbox.meters.events_dropped.increment(1),
                Err(mpsc::error::TrySendError::Closed(_)) => gone = true,
            }
        }
        if gone {
            self.forget_the_gone();
        }
    }
}

impl Handler<Flush> for ListenerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, _: &mut Self::Context) -> Self::Result {
        let queues: Vec<_> = self.subscribers.iter().map(|subscriber| subscriber.queue.clone()).collect();
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
        self.outbox.subscribers.store(0, Ordering::Release);
        self.subscribers.clear();
        ctx.stop();
    }
}
