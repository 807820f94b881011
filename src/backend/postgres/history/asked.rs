//! Statements over a connection of the history.

use callsheet_actors::port::HistoryError;
use deadpool_postgres::Object;
use tokio_postgres::{Error, Row};

use super::{
    super::failure::{explain, is_bad_data},
    columns::Parameter,
    pool::{HistoryPool, NAME, unavailable},
    statement::Statements,
};

/// The tables of one scope.
pub(super) struct Tables {
    pub(super) scope: String,
    pub(super) pool: Result<HistoryPool, String>,
    pub(super) statements: Statements,
}

impl Tables {
    pub(super) async fn client(&self) -> Result<Object, HistoryError> {
        match &self.pool {
            Ok(pool) => pool.get().await,
            Err(reason) => Err(unavailable(reason)),
        }
    }

    pub(super) async fn ask(
        &self,
        text: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, HistoryError> {
        let client = self.client().await?;
        let asked = Asked(Some(client));
        let rows = asked.query(text, parameters).await.map_err(|error| failed(&error))?;
        asked.done();
        Ok(rows)
    }
}

/// A connection that is asked something. Dropped before the answer is there, it is closed, and does not go back
/// to the pool: what it was asked may still be under way.
pub(in super::super) struct Asked(pub(in super::super) Option<Object>);

impl Asked {
    pub(in super::super) async fn query(
        &self,
        text: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        match &self.0 {
            Some(client) => client.query_typed(text, parameters).await,
            None => Ok(Vec::new()),
        }
    }

    pub(super) async fn execute(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<u64, Error> {
        match &self.0 {
            Some(client) => client.execute_typed(text, parameters).await,
            None => Ok(0),
        }
    }

    pub(in super::super) async fn simple(&self, text: &str) -> Result<(), Error> {
        match &self.0 {
            Some(client) => client.batch_execute(text).await,
            None => Ok(()),
        }
    }

    /// It has answered all that it was asked.
    pub(in super::super) fn done(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

pub(super) fn failed(error: &Error) -> HistoryError {
    match is_bad_data(error) {
        true => HistoryError::BadData { history: NAME, reason: explain(error) },
        false => unavailable(explain(error)),
    }
}
