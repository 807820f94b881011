//! One connection to the server, or to a pooler, and whether the server behind it is of use.

use std::{future::poll_fn, pin::pin, sync::Arc};

use callsheet_actors::{DurationText, Faults, port::RecordsError};
use futures_util::{FutureExt, TryStreamExt, future::BoxFuture};
use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Error, SimpleQueryMessage, SimpleQueryRow, types::Type};

use super::{
    failure::{READ_ONLY, RIGHTS, is_contention, of_connecting, of_connection, refused, unavailable},
    settings::Settings,
    statement::{INSPECT, Statements},
};
use crate::backend::{
    checks::CONNECT_TIMEOUT,
    postgres::is_cut_short,
    sql::{TRIES_MAX, lane::Driver},
};

const VERSION_MIN: i32 = 140_000;

/// What makes connections.
pub(super) struct Connector {
    pub(super) settings: Arc<Settings>,
    pub(super) statements: Arc<Statements>,
}

/// A connection to a primary with the tables.
pub(super) struct Connection {
    pub(super) client: Client,
    driver: AbortHandle,
}

impl Drop for Connection {
    /// The driver would wait for the answer to what was asked.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The rows of each statement of a text that answers some, in their order.
pub(super) type Answers = std::vec::IntoIter<Vec<SimpleQueryRow>>;

/// Asks the server several things at once, as one message. After an error it has not done those that follow; it comes
/// with how many were done before it.
pub(super) async fn ask(client: &Client, text: &str) -> Result<Answers, (usize, Error)> {
    let (mut done, mut answers) = (0, Vec::new());
    let stream = client.simple_query_raw(text).await.map_err(|error| (0, error))?;
    let mut stream = pin!(stream);
    while let Some(message) = stream.try_next().await.map_err(|error| (done, error))? {
        match message {
            SimpleQueryMessage::RowDescription(_) => answers.push(Vec::new()),
            SimpleQueryMessage::Row(row) => {
                if let Some(last) = answers.last_mut() {
                    last.push(row);
                }
            }
            SimpleQueryMessage::CommandComplete(_) => done += 1,
            _ => {}
        }
    }
    Ok(answers.into_iter())
}

impl Driver for Connector {
    type Connection = Connection;

    fn connect(&self) -> BoxFuture<'_, Result<Connection, RecordsError>> {
        async {
            let connecting = timeout(CONNECT_TIMEOUT, self.connect_and_inspect());
            connecting.await.unwrap_or_else(|_| {
                Err(unavailable(format!(
                    "the server did not answer within {}; check the host and the port, whether a firewall drops packets, and how the \
                     server and the pooler before it are",
                    DurationText(CONNECT_TIMEOUT)
                )))
            })
        }
        .boxed()
    }

    fn is_over(connection: &Connection) -> bool {
        connection.client.is_closed()
    }

    fn discard(connection: Connection) {
        drop(connection);
    }
}

impl Connector {
    async fn connect_and_inspect(&self) -> Result<Connection, RecordsError> {
        Faults::check(self.settings.faults()).map_err(|faults| refused(faults.to_string()))?;
        let (config, tls) = self.settings.endpoint().await?;
        let callback = self.settings.store.server.callback();
        let (client, mut connection) =
            config.connect(tls).await.map_err(|error| of_connecting(&error, callback))?;
        let driver = tokio::spawn(async move {
            loop {
                match poll_fn(|task| connection.poll_message(task)).await {
                    // It comes before the end of the answer, which is not believed: what was committed may be lost.
                    Some(Ok(AsyncMessage::Notice(notice))) if is_cut_short(&notice) => return,
                    // The others are for people, or for nobody.
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        });
        let connection = Connection { client, driver: driver.abort_handle() };
        self.inspect(&connection.client).await?;
        Ok(connection)
    }

    /// Refuses a server that cannot coordinate, and makes the tables if they are not there.
    async fn inspect(&self, client: &Client) -> Result<(), RecordsError> {
        let asked = |error: Error| of_connection(&error);
        let row = client.query_typed_one(INSPECT, &[]).await.map_err(asked)?;
        let (version, read_only): (i32, bool) =
            (row.try_get(0).map_err(asked)?, row.try_get(1).map_err(asked)?);
        if version < VERSION_MIN {
            let version = version / 10_000;
            return Err(refused(format!(
                "the server is PostgreSQL {version}; it must be 14 or newer: upgrade it"
            )));
        }
        if read_only {
            return Err(refused(READ_ONLY));
        }
        for _ in 0..TRIES_MAX {
            if self.has_tables(client).await.map_err(asked)? {
                break;
            }
            match self.make_tables(client).await {
                Ok(()) => {}
                Err(error) if is_contention(&error) => {}
                Err(error) => return Err(of_connection(&error)),
            }
        }
        let probed = client.batch_execute(&self.statements.probe).await;
        probed.map_err(|error| match of_connection(&error) {
            // The tables are there, and somebody has changed them, or their rights.
            RecordsError::Unavailable { reason } => refused(format!("{reason}; {RIGHTS}")),
            other => other,
        })
    }

    async fn has_tables(&self, client: &Client) -> Result<bool, Error> {
        let tables = self.statements.tables.as_slice();
        let asked = [(&tables as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY)];
        let found: i64 = client.query_typed_one(self.statements.find_tables, &asked).await?.try_get(0)?;
        Ok(usize::try_from(found) == Ok(tables.len()))
    }

    /// Makes all tables, or none, one node after the other.
    async fn make_tables(&self, client: &Client) -> Result<(), Error> {
        let made = async {
            client.batch_execute(&self.statements.begin_ddl).await?;
            for step in &self.statements.ddl {
                client.batch_execute(step).await?;
            }
            client.batch_execute("COMMIT").await
        };
        let made = made.await;
        if made.is_err() {
            // An error: the connection is given up with what was begun.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        made
    }
}
