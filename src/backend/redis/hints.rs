//! What nodes tell each other, by publishing and subscribing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callsheet_actors::{
    adapter::Backoff,
    port::{HINTS_WAITING_MAX, Heard, HintStream, RecordsError},
};
use futures_util::{StreamExt, stream};
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::{Notify, broadcast, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    connection::{Connection, OnPush, connect},
    failure::{of_connection, unavailable},
    link::{PAUSE_MAX, PAUSE_MIN},
    settings::Settings,
};

/// The first byte of what is published, if it is a hint.
pub(super) const HINT: u8 = b'h';
/// How often the server is asked whether the connection still stands.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is heard on the channel of the scope, over a connection of its own.
pub(super) struct Hints {
    settings: Arc<Settings>,
    seed: u64,
    heard: broadcast::Sender<Heard>,
    /// Whether hints come: `None`, or why not.
    missing: watch::Sender<Option<RecordsError>>,
    reader: Mutex<Option<AbortHandle>>,
}

impl Hints {
    pub(super) fn new(settings: Arc<Settings>, seed: u64) -> Self {
        let (heard, _) = broadcast::channel(HINTS_WAITING_MAX);
        let (missing, _) = watch::channel(Some(unavailable("no connection was made yet")));
        Self { settings, seed, heard, missing, reader: Mutex::default() }
    }

    /// Answers once the server tells this node what is said from then on.
    pub(super) async fn subscribe(&self) -> Result<HintStream, RecordsError> {
        let receiver = self.heard.subscribe();
        self.read();
        let mut missing = self.missing.subscribe();
        let comes = timeout(self.settings.deadline(), missing.wait_for(Option::is_none)).await;
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
            settings: self.settings.clone(),
            heard: self.heard.clone(),
            missing: self.missing.clone(),
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX, self.seed),
        };
        *reader = Some(tokio::spawn(reads.run()).abort_handle());
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner) {
            reader.abort();
        }
    }
}

struct Reader {
    settings: Arc<Settings>,
    heard: broadcast::Sender<Heard>,
    missing: watch::Sender<Option<RecordsError>>,
    backoff: Backoff,
}

impl Reader {
    async fn run(mut self) {
        // Nothing was missed before somebody subscribed for the first time.
        let mut missed = false;
        loop {
            let lost = Arc::new(Notify::new());
            match self.listen(&lost).await {
                Ok(connection) => {
                    self.backoff.succeeded();
                    self.missing.send_replace(None);
                    if missed {
                        // An error: nobody listens.
                        let _ = self.heard.send(Heard::Lagged);
                    }
                    missed = true;
                    let reason = self.watch(&connection, &lost).await;
                    self.missing.send_replace(Some(reason));
                }
                Err(error) => {
                    self.missing.send_replace(Some(error));
                }
            }
            sleep(self.backoff.failed()).await;
        }
    }

    async fn listen(&self, lost: &Arc<Notify>) -> Result<Connection, RecordsError> {
        let (heard, closed) = (self.heard.clone(), lost.clone());
        let on_push: OnPush = Arc::new(move |push: PushInfo| match push.kind {
            PushKind::Message => {
                // The channel, and what was said.
                if let Some(Value::BulkString(said)) = push.data.get(1)
                    && let Some((&HINT, hint)) = said.split_first()
                {
                    // An error: nobody listens.
                    let _ = heard.send(Heard::Hint(hint.into()));
                }
            }
            PushKind::Disconnection => closed.notify_one(),
            // Answers to what was asked, and what was not.
            _ => {}
        });
        let connection = connect(&self.settings, Some(on_push)).await?;
        let channel = format!("{}hints", self.settings.prefix());
        match timeout(self.settings.deadline(), connection.subscribe(&channel)).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(of_connection(&error, "the subscription")),
            Err(_) => Err(unavailable("the server did not answer a subscription in time")),
        }
    }

    /// Answers why the connection is of no use any more, once it is.
    async fn watch(&self, connection: &Connection, lost: &Notify) -> RecordsError {
        loop {
            tokio::select! {
                () = lost.notified() => return unavailable("the connection for notifications was closed"),
                () = sleep(LOOK_EVERY) => {}
            }
            let asked = timeout(self.settings.deadline(), connection.ask(&redis::cmd("PING"))).await;
            if !matches!(asked, Ok(Ok(_))) || connection.is_over() {
                return unavailable("the server does not answer on the connection for notifications");
            }
        }
    }
}
