//! What nodes tell each other, read by a task that goes on when the store was away.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callsheet_actors::{
    adapter::Backoff,
    port::{HINTS_WAITING_MAX, Heard, HintStream, RecordsError},
};
use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::{broadcast, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::failure::{PAUSE_MAX, PAUSE_MIN, unavailable};

/// Whom what is heard is handed to.
pub(super) type Listeners = broadcast::Sender<Heard>;

/// How the hints of a scope are heard.
pub(super) trait Ear: Send + Sync + 'static {
    /// What is listened to.
    type Channel: Send;

    /// How long a call may take.
    fn deadline(&self) -> Duration;

    /// Listens, within a time of its own: what is told from then on is heard.
    fn listen<'a>(&'a self, listeners: &'a Listeners) -> BoxFuture<'a, Result<Self::Channel, RecordsError>>;

    /// Hears, until it hears no more: why not.
    fn hear<'a>(&'a self, channel: Self::Channel, listeners: &'a Listeners) -> BoxFuture<'a, RecordsError>;
}

/// What is heard of a scope, over a connection of its own.
pub(super) struct Hints<E> {
    ear: Arc<E>,
    seed: u64,
    listeners: Listeners,
    /// Whether hints come: `None`, or why not.
    missing: watch::Sender<Option<RecordsError>>,
    reader: Mutex<Option<AbortHandle>>,
}

impl<E: Ear> Hints<E> {
    pub(super) fn new(ear: E, seed: u64) -> Self {
        let (listeners, _) = broadcast::channel(HINTS_WAITING_MAX);
        let (missing, _) = watch::channel(Some(unavailable("no connection was made yet")));
        Self { ear: Arc::new(ear), seed, listeners, missing, reader: Mutex::default() }
    }

    /// Answers once the store tells this node what is told from then on.
    pub(super) async fn subscribe(&self) -> Result<HintStream, RecordsError> {
        let receiver = self.listeners.subscribe();
        self.read();
        let mut missing = self.missing.subscribe();
        let comes = timeout(self.ear.deadline(), missing.wait_for(Option::is_none)).await;
        if !matches!(comes, Ok(Ok(_))) {
            let reason = self.missing.borrow().clone();
            return Err(reason.unwrap_or_else(|| unavailable("the subscription was lost at once")));
        }
        let next = async |mut receiver: broadcast::Receiver<Heard>| match receiver.recv().await {
            Ok(heard) => Some((heard, receiver)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some((Heard::Lagged, receiver)),
            Err(broadcast::error::RecvError::Closed) => None,
        };
        Ok(stream::unfold(receiver, next).boxed())
    }

    /// Sees to it that somebody reads.
    fn read(&self) {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            return;
        }
        let reads = Reader {
            ear: self.ear.clone(),
            listeners: self.listeners.clone(),
            missing: self.missing.clone(),
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX, self.seed),
        };
        *reader = Some(tokio::spawn(reads.run()).abort_handle());
    }
}

impl<E> Drop for Hints<E> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner) {
            reader.abort();
        }
    }
}

struct Reader<E> {
    ear: Arc<E>,
    listeners: Listeners,
    missing: watch::Sender<Option<RecordsError>>,
    backoff: Backoff,
}

impl<E: Ear> Reader<E> {
    async fn run(mut self) {
        // Nothing was missed before somebody subscribed for the first time.
        let mut missed = false;
        loop {
            let reason = match self.ear.listen(&self.listeners).await {
                Ok(channel) => {
                    self.backoff.succeeded();
                    self.missing.send_replace(None);
                    if missed {
                        // An error: nobody listens.
                        let _ = self.listeners.send(Heard::Lagged);
                    }
                    missed = true;
                    self.ear.hear(channel, &self.listeners).await
                }
                Err(error) => error,
            };
            self.missing.send_replace(Some(reason));
            sleep(self.backoff.failed()).await;
        }
    }
}
