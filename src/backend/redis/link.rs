//! The connection that there is, made again when it is lost, and the deadline of every call.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{DurationText, adapter::Backoff, port::RecordsError};
use futures_util::{FutureExt, future::Shared};
use redis::{RedisResult, Value};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    connection::{Connection, connect},
    failure::{is_answer, is_elsewhere, not_done, unavailable},
    settings::Settings,
};

/// The pauses between attempts to connect.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What an attempt to connect came to.
type Connected = Result<Arc<Connection>, RecordsError>;

/// The way to the server.
pub(super) struct Link {
    settings: Arc<Settings>,
    state: Mutex<State>,
}

struct State {
    current: Option<Arc<Connection>>,
    /// An attempt that is under way, also if nobody waits for it any more.
    attempt: Option<Shared<oneshot::Receiver<Connected>>>,
    /// Why the last one failed, and until when there is no other.
    failed: Option<(Instant, RecordsError)>,
    backoff: Backoff,
}

impl Link {
    pub(super) fn new(settings: Arc<Settings>, seed: u64) -> Arc<Self> {
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, seed);
        let state = State { current: None, attempt: None, failed: None, backoff };
        Arc::new(Self { settings, state: Mutex::new(state) })
    }

    /// Asks the server something, within the deadline. `ask` is called once, and only with a connection.
    pub(super) async fn call<T, A>(self: &Arc<Self>, ask: A) -> Result<T, RecordsError>
    where
        A: AsyncFnOnce(&Connection) -> RedisResult<T>,
    {
        let allowed = self.settings.deadline();
        let deadline = Instant::now() + allowed;
        let connection = timeout_at(deadline, self.connection()).await;
        let connection = connection.unwrap_or_else(|_| {
            let allowed = DurationText(allowed);
            Err(unavailable(format!(
                "no connection was made within {allowed}; check whether the server runs, and whether the network is slow"
            )))
        })?;
        let answer = timeout_at(deadline, ask(&connection)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_answer(&error) => {
                if is_elsewhere(&error) {
                    connection.give_up();
                }
                Err(not_done(&error))
            }
            // The connection broke, or is silent: what was asked may be done all the same.
            Ok(Err(_)) | Err(_) => {
                connection.give_up();
                Err(RecordsError::Timeout)
            }
        }
    }

    async fn connection(self: &Arc<Self>) -> Connected {
        let attempt = {
            let mut state = self.state();
            if let Some(current) = state.current.as_ref().filter(|current| !current.is_over()) {
                return Ok(current.clone());
            }
            state.current = None;
            match (&state.attempt, &state.failed) {
                (Some(attempt), _) => attempt.clone(),
                (None, Some((until, error))) if Instant::now() < *until => return Err(error.clone()),
                (None, _) => state.attempt.insert(self.attempt()).clone(),
            }
        };
        attempt.await.unwrap_or_else(|_| Err(unavailable("the runtime that connected has ended")))
    }

    /// Connects on a task of its own: whoever waits has a deadline, and may go.
    fn attempt(self: &Arc<Self>) -> Shared<oneshot::Receiver<Connected>> {
        let (made, receiver) = oneshot::channel();
        let link = self.clone();
        tokio::spawn(async move {
            let connected = connect(&link.settings, None).await.map(Arc::new);
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for one value, and understands it.
pub(super) async fn ask<T: redis::FromRedisValue>(
    connection: &Connection,
    command: &redis::Cmd,
) -> RedisResult<Option<T>> {
    let answer: Value = connection.ask(command).await?;
    Ok(redis::from_redis_value(answer).ok())
}
