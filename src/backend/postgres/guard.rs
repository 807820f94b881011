//! Writes of the application that fail once a run has lost its key.

use std::future::Future;

use callsheet_actors::{Run, RunId};
use tokio_postgres::{Error, Transaction, types::Type};

use super::statement::schema::quoted;

/// Extends [`Run`] on [`Postgres`](super::Postgres): [`guard`](Self::guard) ties a transaction of the
/// application to the run's fencing token.
///
/// A run whose session was lost goes on for a while, and somebody else may have its key by then. What such a
/// run writes under a guard is refused, as long as the application's data is in the same database as the
/// schema of the scheduler.
///
/// ```no_run
/// # async fn connect() -> tokio_postgres::Client { unimplemented!() }
/// use callsheet::{RunResult, postgres::Guard, prelude::*};
///
/// async fn settle(run: Run) -> RunResult {
///     let mut client = connect().await;
///     let transaction = client.transaction().await?;
///     run.guard(&transaction).await?;
///     transaction.execute("UPDATE accounts SET settled = now()", &[]).await?;
///     Ok(transaction.commit().await?)
/// }
/// ```
pub trait Guard {
    /// Proves that the run still holds its key, and keeps it until the transaction ends: nobody takes the key
    /// over in between. So call it before, or after, the writes, but in their transaction, and keep that one
    /// short.
    ///
    /// The transaction is one of tokio-postgres, or what derefs to it, as that of a pool does. Its role needs
    /// `USAGE` of the schema, and `SELECT` and `UPDATE` on `names`. The answer takes one round trip, and a
    /// few milliseconds more while a claim of the key is under way; other bounds are those of the
    /// application's connection.
    ///
    /// It is **not** a guard for effects outside of the database, nor against what a run did before it lost
    /// its key.
    ///
    /// # Errors
    ///
    /// [`GuardError`]: do not commit. Dropping the transaction rolls it back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it unknown whether the run holds its key: drop the transaction as well.
    fn guard(&self, transaction: &Transaction<'_>) -> impl Future<Output = Result<(), GuardError>> + Send;
}

/// Why a transaction is not guarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The session of the run was lost, and its key was freed or taken over.
    #[error("run {run} has lost its lock key: do not commit what it writes")]
    Stale {
        /// The run.
        run: RunId,
    },
    /// The job runs without claims, or its node coordinates elsewhere: there is no token.
    #[error(
        "run {run} has no claim on PostgreSQL: guard runs of jobs that are claimed, on the backend Postgres"
    )]
    Unclaimed {
        /// The run.
        run: RunId,
    },
    /// The server did not say. The transaction has failed.
    #[error("the server did not say whether the run holds its lock key")]
    Server(#[source] Error),
}

/// Whether a run ($3) of a scope ($1) holds its key ($2) under a token ($4): one row, or none. For a
/// connection of the application, so names are qualified.
///
/// Locks the key's row for key share until the application's transaction ends: claims and ends, which lock it
/// for update before they change it, skip it, so the key changes hands before or after that transaction,
/// never in between; its job's cursor moves on. Waits for a claim or an end that has the row locked.
fn statement(schema: &str) -> String {
    let schema = quoted(schema);
    format!(
        "SELECT FROM {schema}.names WHERE scope = $1 AND name = $2 AND run = $3 AND token = $4 FOR KEY SHARE"
    )
}

/// What a run needs to know to ask.
pub(super) struct RunStore {
    scope: String,
    statement: String,
}

impl RunStore {
    pub(super) fn new(scope: &str, schema: &str) -> Self {
        Self { scope: scope.to_owned(), statement: statement(schema) }
    }
}

impl Guard for Run {
    async fn guard(&self, transaction: &Transaction<'_>) -> Result<(), GuardError> {
        let run = self.id();
        let (Some(store), Some(token)) = (self.extension::<RunStore>(), self.token()) else {
            return Err(GuardError::Unclaimed { run });
        };
        // A token that is too large for the server is none that it granted.
        let token = i64::try_from(token.0).unwrap_or(-1);
        // Not prepared: the application may well use a pooler.
        let found = transaction
            .query_typed_opt(
                &store.statement,
                &[
                    (&store.scope, Type::TEXT),
                    (&self.lock_key().as_str(), Type::TEXT),
                    (&run.as_uuid(), Type::UUID),
                    (&token, Type::INT8),
                ],
            )
            .await
            .map_err(GuardError::Server)?;
        found.map(drop).ok_or(GuardError::Stale { run })
    }
}
