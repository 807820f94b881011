//! The connections of the history and the catalogue: never those by which nodes coordinate.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callsheet_actors::port::HistoryError;
use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::super::{failure::explain, settings::Settings};

/// How many connections a node opens for its history at most: one writes, the other answers.
const CONNECTIONS_MAX: usize = 2;
/// How long a question waits for a connection.
const WAIT: Duration = Duration::from_secs(2);

/// A pool that opens its connections as the others of the node are opened: to the same host, with the same
/// credentials and encryption, asked for each time.
#[derive(Clone)]
pub(in super::super) struct HistoryPool {
    pool: Pool,
    /// Why the last connection could not be opened, if what was to be asked for it did not answer.
    unanswered: Arc<Mutex<Option<String>>>,
}

struct Opens {
    settings: Settings,
    unanswered: Arc<Mutex<Option<String>>>,
}

impl Connect for Opens {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async move {
            let endpoint = self.settings.history_endpoint().await;
            let (config, tls) = match endpoint {
                Ok(endpoint) => endpoint,
                Err(fault) => {
                    *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.to_string());
                    // The driver's error for an address that is none: it has no other one.
                    let (client, connection) = Config::new().connect(NoTls).await?;
                    return Ok((client, tokio::spawn(connection.map(drop))));
                }
            };
            let (client, connection) = config.connect(tls).await?;
            // Whoever asks over it hears why it ended.
            Ok((client, tokio::spawn(connection.map(drop))))
        })
    }
}

impl HistoryPool {
    /// Those of the application, whose number and waits are its own, or this node's.
    pub(in super::super) fn of(settings: &Settings) -> Result<Self, String> {
        if let Some(pool) = settings.history_pool.clone() {
            return Ok(Self { pool, unanswered: Arc::default() });
        }
        let unanswered: Arc<Mutex<Option<String>>> = Arc::default();
        let opens = Opens { settings: settings.clone(), unanswered: unanswered.clone() };
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(Config::new(), opens, config);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT * 2))
            .recycle_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { pool, unanswered })
    }

    pub(in super::super) async fn get(&self) -> Result<Object, HistoryError> {
        self.pool.get().await.map_err(|error| {
            let unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take();
            unavailable(match (unanswered, error) {
                (Some(reason), _) => reason,
                (None, PoolError::Backend(error)) => explain(&error),
                (None, error) => error.to_string(),
            })
        })
    }
}

/// What the history is called in errors and logs.
pub(super) const NAME: &str = "postgres";

pub(super) fn unavailable(reason: impl Into<String>) -> HistoryError {
    HistoryError::Unavailable { history: NAME, reason: reason.into() }
}
