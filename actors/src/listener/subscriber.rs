//! Who hears of events, and what waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use crate::{
    core::byte_budget::{ByteBudget, Charge},
    event::Event,
    event_filter::EventFilter,
    metrics::Meters,
};

/// The most events that may wait for one subscriber; so many may wait for an actor, unless its filter says
/// otherwise.
pub const SUBSCRIBER_EVENTS_MAX: usize = 16_384;
/// Events that may wait in a stream, unless its filter says otherwise.
pub const EVENT_BUFFER_DEFAULT: usize = 1_024;
/// The most bytes of texts (errors with their causes, messages of panics, reasons, notes) in the events that
/// wait for one subscriber, an actor or a stream. When they are that many it is as with
/// [`SUBSCRIBER_EVENTS_MAX`]: the newest event is dropped, and counted. Events without texts still find room.
pub const SUBSCRIBER_EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A number of events that may wait.
fn bounded(events: usize) -> usize {
    events.clamp(1, SUBSCRIBER_EVENTS_MAX)
}

/// Somebody who hears of events.
pub(crate) struct Subscriber {
    pub(crate) filter: EventFilter,
    queue: Queue,
    /// The bytes of what waits in the queue.
    bytes: Arc<ByteBudget>,
}

enum Queue {
    Actor(mpsc::Sender<Delivery>),
    Stream { queue: mpsc::Sender<Waiting>, dropped: Arc<AtomicU64> },
}

/// What an actor that listens gets.
pub(crate) enum Delivery {
    Event(Waiting),
    Flush(oneshot::Sender<()>),
}

/// An event that waits for a subscriber.
pub(crate) struct Waiting {
    pub(crate) event: Event,
    pub(crate) _charge: Charge,
}

impl Subscriber {
    /// An actor, and what it is to get.
    pub(crate) fn actor(filter: EventFilter) -> (Self, mpsc::Receiver<Delivery>) {
        let (queue, deliveries) = mpsc::channel(bounded(filter.buffer_or(SUBSCRIBER_EVENTS_MAX)));
        (Self::new(filter, Queue::Actor(queue)), deliveries)
    }

    /// A stream, which reads `dropped`, and what waits for it.
    pub(crate) fn stream(filter: EventFilter, dropped: Arc<AtomicU64>) -> (Self, mpsc::Receiver<Waiting>) {
        let (queue, events) = mpsc::channel(bounded(filter.buffer_or(EVENT_BUFFER_DEFAULT)));
        (Self::new(filter, Queue::Stream { queue, dropped }), events)
    }

    fn new(filter: EventFilter, queue: Queue) -> Self {
        Self { filter, queue, bytes: ByteBudget::new(SUBSCRIBER_EVENT_BYTES_MAX) }
    }

    /// Hands an event on; an error means that nobody is there any more.
    pub(crate) fn offer(&self, event: Event, meters: &Meters) -> Result<(), Gone> {
        let Some(charge) = self.bytes.charge(event.kind.text_bytes()) else {
            if self.is_gone() {
                return Err(Gone);
            }
            self.miss(meters);
            return Ok(());
        };
        let waiting = Waiting { event, _charge: charge };
        let full = match &self.queue {
            Queue::Actor(queue) => match queue.try_send(Delivery::Event(waiting)) {
                Ok(()) => false,
                Err(TrySendError::Full(_)) => true,
                Err(TrySendError::Closed(_)) => return Err(Gone),
            },
            Queue::Stream { queue, .. } => match queue.try_send(waiting) {
                Ok(()) => false,
                Err(TrySendError::Full(_)) => true,
                Err(TrySendError::Closed(_)) => return Err(Gone),
            },
        };
        if full {
            self.miss(meters);
        }
        Ok(())
    }

    /// Counts an event that it does not get.
    pub(crate) fn miss(&self, meters: &Meters) {
        meters.events_dropped.increment(1);
        if let Queue::Stream { dropped, .. } = &self.queue {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where to ask whether everything before was handled: of an actor only.
    pub(crate) fn deliveries(&self) -> Option<mpsc::Sender<Delivery>> {
        match &self.queue {
            Queue::Actor(queue) => Some(queue.clone()),
            Queue::Stream { .. } => None,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        match &self.queue {
            Queue::Actor(queue) => queue.is_closed(),
            Queue::Stream { queue, .. } => queue.is_closed(),
        }
    }
}

/// Nobody is there any more.
pub(crate) struct Gone;
