//! The connection that there is, made again when it is lost, and the deadline of every call.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{DurationText, adapter::Backoff, port::RecordsError};
use futures_util::{FutureExt, future::BoxFuture, future::Shared};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::failure::{PAUSE_MAX, PAUSE_MIN, unavailable};

/// How a store is connected to.
pub(super) trait Connector: Send + Sync + 'static {
    /// A connection. It lives on the runtime on which it was made.
    type Connection: Connection;

    /// How long one call may take.
    fn deadline(&self) -> Duration;

    /// Connects, within a time of its own.
    fn connect(&self) -> BoxFuture<'_, Result<Self::Connection, RecordsError>>;
}

/// A connection to a store.
pub(super) trait Connection: Send + Sync + 'static {
    /// Why the store did not answer a call.
    type Error;

    /// Whether it is of no use any more.
    fn is_over(&self) -> bool;

    /// Gives it up: whatever was asked and is not answered yet is unknown.
    fn give_up(&self);

    /// What an error means.
    fn judge(error: Self::Error) -> Judged;
}

/// What the error of a call means.
pub(super) enum Judged {
    /// The store answered, and did nothing.
    Answer(RecordsError),
    /// The same, and it is of no use to ask over this connection.
    Elsewhere(RecordsError),
    /// What was asked may be done all the same.
    Unknown,
}

/// What an attempt to connect came to.
type Connected<C> = Result<Arc<C>, RecordsError>;
/// One that is under way.
type Attempt<C> = Shared<oneshot::Receiver<Connected<C>>>;

/// The way to a store.
pub(super) struct Link<C: Connector> {
    connector: Arc<C>,
    state: Mutex<State<C::Connection>>,
}

struct State<C> {
    current: Option<Arc<C>>,
    /// An attempt that is under way, also if nobody waits for it any more.
    attempt: Option<Attempt<C>>,
    /// Why the last one failed, and until when there is no other.
    failed: Option<(Instant, RecordsError)>,
    backoff: Backoff,
}

impl<C: Connector> Link<C> {
    pub(super) fn new(connector: Arc<C>, seed: u64) -> Arc<Self> {
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, seed);
        let state = State { current: None, attempt: None, failed: None, backoff };
        Arc::new(Self { connector, state: Mutex::new(state) })
    }

    /// Asks the store something, within the deadline. `ask` is called once, and only with a connection.
    pub(super) async fn call<T, A>(self: &Arc<Self>, ask: A) -> Result<T, RecordsError>
    where
        A: AsyncFnOnce(&C::Connection) -> Result<T, <C::Connection as Connection>::Error>,
    {
        let allowed = self.connector.deadline();
        let deadline = Instant::now() + allowed;
        let connection = timeout_at(deadline, self.connection()).await;
        let connection = connection.unwrap_or_else(|_| {
            let allowed = DurationText(allowed);
            Err(unavailable(format!(
                "no connection was made within {allowed}; check whether the server runs, and whether the network is slow"
            )))
        })?;
        let answer = timeout_at(deadline, ask(&connection)).await;
        let judged = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => C::Connection::judge(error),
            // It is silent.
            Err(_) => Judged::Unknown,
        };
        match judged {
            Judged::Answer(error) => Err(error),
            Judged::Elsewhere(error) => {
                connection.give_up();
                Err(error)
            }
            Judged::Unknown => {
                connection.give_up();
                Err(RecordsError::Timeout)
            }
        }
    }

    async fn connection(self: &Arc<Self>) -> Connected<C::Connection> {
        loop {
            let (attempt, is_own) = {
                let mut state = self.state();
                if let Some(current) = state.current.as_ref().filter(|current| !current.is_over()) {
                    return Ok(current.clone());
                }
                state.current = None;
                match (&state.attempt, &state.failed) {
                    (Some(attempt), _) => (attempt.clone(), false),
                    (None, Some((until, error))) if Instant::now() < *until => return Err(error.clone()),
                    (None, _) => (state.attempt.insert(self.attempt()).clone(), true),
                }
            };
            match attempt.clone().await {
                Ok(connected) => return connected,
                Err(_) => self.abandon(&attempt, is_own),
            }
        }
    }

    /// Forgets an attempt whose task has ended without a word: it panicked, or its runtime has ended. One that this
    /// call has begun counts as a failure, and is followed by a pause.
    fn abandon(&self, attempt: &Attempt<C::Connection>, is_own: bool) {
        let mut state = self.state();
        if state.attempt.as_ref().is_some_and(|current| current.ptr_eq(attempt)) {
            state.attempt = None;
        }
        if is_own {
            let pause = state.backoff.failed();
            let reason =
                "the task that connected panicked, or its runtime has ended; look at the log of this process";
            state.failed = Some((Instant::now() + pause, unavailable(reason)));
        }
    }

    /// Connects on a task of its own: whoever waits has a deadline, and may go.
    fn attempt(self: &Arc<Self>) -> Attempt<C::Connection> {
        let (made, receiver) = oneshot::channel();
        let link = self.clone();
        tokio::spawn(async move {
            let connected = link.connector.connect().await.map(Arc::new);
            let mut state = link.state();
            state.attempt = None;
            match &connected {
                Ok(connection) => {
                    state.current = Some(connection.clone());
                    state.failed = None;
                    state.backoff.succeeded();
                }
                Err(error) => {
                    let pause = state.backoff.failed();
                    state.failed = Some((Instant::now() + pause, error.clone()));
                }
            }
            drop(state);
            // An error: nobody waits any more.
            let _ = made.send(connected);
        });
        receiver.shared()
    }

    fn state(&self) -> MutexGuard<'_, State<C::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
