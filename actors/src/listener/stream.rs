//! Events as a stream.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{Stream, future::poll_fn};
use tokio::sync::mpsc;

use super::{
    publisher::Publisher,
    subscriber::{Subscriber, Waiting},
};
use crate::{event::Event, event_filter::EventFilter};

/// The events that a subscriber wants, one by one, from the moment on at which it subscribed.
///
/// A bounded number of them waits for the reader of the stream
/// ([`EventFilter::buffer`](crate::EventFilter::buffer)), with at most
/// [`SUBSCRIBER_EVENT_BYTES_MAX`](crate::SUBSCRIBER_EVENT_BYTES_MAX) bytes of texts. When they are that many
/// the newest is dropped, and counted: by [`dropped`](Self::dropped), and in
/// `callsheet_events_dropped_total`. A reader that is slow, or does not read at all, delays nobody.
///
/// The stream ends when the engine has stopped, after the last event. Dropping it ends the subscription.
#[must_use = "a stream that is dropped ends the subscription"]
pub struct EventStream {
    events: mpsc::Receiver<Waiting>,
    dropped: Arc<AtomicU64>,
    publishers: Vec<Publisher>,
}

impl EventStream {
    /// What passes the filter from now on; one that has ended if the engine has.
    pub(crate) fn subscribe(publisher: &Publisher, filter: EventFilter) -> Self {
        Self::of_all(vec![publisher.clone()], filter)
    }

    /// The same of several engines; one that has ended if all of them have.
    pub(crate) fn of_all(publishers: Vec<Publisher>, filter: EventFilter) -> Self {
        let dropped = Arc::<AtomicU64>::default();
        let (subscriber, events) = Subscriber::stream(filter, dropped.clone());
        let subscriber = Arc::new(subscriber);
        publishers.iter().for_each(|publisher| publisher.subscribe(subscriber.clone()));
        Self { events, dropped, publishers }
    }

    /// The next event; `None` when the engine has stopped and every event was read. The same as that of
    /// `StreamExt`, for those who do not have it.
    ///
    /// # Cancel safety
    ///
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|task| self.poll_event(task)).await
    }

    fn poll_event(&mut self, task: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(task).map(|waiting| waiting.map(|waiting| waiting.event))
    }

    /// How many events this stream has missed so far because its buffer was full, by count or by bytes.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(task)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.events.close();
        self.publishers.iter().for_each(Publisher::forget_the_gone);
    }
}
