//! What nodes ask of each other, on PostgreSQL: the port, one call a method, over the connection of the session.
//!
//! Nothing depends on the answers: one that does not come is nobody's loss.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use callsheet_actors::{
    By, NodeId, Note, Term,
    port::{
        ANSWER_BYTES_MAX, ANSWERS_BYTES_MAX, AskedNode, Control, ControlError, ControlRequest,
        DESCRIPTION_BYTES_MAX, NODES_MAX, NodeAnswer, NodeRow, Posted, REQUEST_BYTES_MAX, REQUESTS_OPEN_MAX,
        TakenRequest, To,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    Shared,
    control_hints::ControlHints,
    failure::explain,
    session::OpenSession,
    statement::control::{ADDRESSED, ANSWER, ANSWERS, CLOSE, DESCRIBE, NODES, POST, TAKE},
};

pub(super) struct PostgresControl {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for PostgresControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresControl").field("scope", &self.shared.settings.scope).finish_non_exhaustive()
    }
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

fn unavailable(error: &Error) -> ControlError {
    ControlError::Unavailable { reason: explain(error) }
}

fn at_most(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// So many characters, and one more, by which it shows that there are too many.
fn cut_at(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX - 1) + 1
}

fn node(row: &Row) -> Result<NodeId, Error> {
    row.try_get::<_, Uuid>("node").map(|node| NodeId::numbered(node.as_u128()))
}

fn asked(row: &Row) -> Result<AskedNode, Error> {
    Ok(AskedNode { node: node(row)?, name: row.try_get::<_, String>("name")?.into() })
}

fn taken(row: &Row) -> Result<TakenRequest, Error> {
    let (by, note): (Option<String>, Option<String>) = (row.try_get("asked_by")?, row.try_get("note")?);
    let asked_by = NodeId::numbered(row.try_get::<_, Uuid>("asked_node")?.as_u128());
    let mut request =
        ControlRequest::new(row.try_get("request")?, asked_by, row.try_get::<_, String>("body")?);
    // Whoever writes into the table by hand may write anything.
    request.by = by.and_then(|by| By::new(by).ok());
    request.note = note.and_then(|note| Note::new(note).ok());
    let left = Duration::try_from_secs_f64(row.try_get::<_, f64>("seconds_left")?).unwrap_or_default();
    Ok(TakenRequest { request, left })
}

fn answered(row: &Row) -> Result<(NodeId, NodeAnswer), Error> {
    let answer = match (row.try_get::<_, Option<String>>("answer")?, row.try_get("is_awaited")?) {
        (Some(answer), _) => NodeAnswer::Answered(answer.into()),
        (None, true) => NodeAnswer::Waiting,
        (None, false) => NodeAnswer::SessionOver,
    };
    Ok((node(row)?, answer))
}

fn listed(row: &Row) -> Result<NodeRow, Error> {
    let text = |column| row.try_get::<_, String>(column).map(Arc::from);
    let mut listed = NodeRow::new(node(row)?, row.try_get("since")?);
    (listed.name, listed.version, listed.zone_data) = (text("name")?, text("version")?, text("zone_data")?);
    listed.seen_at = row.try_get("seen_at")?;
    listed.term = row.try_get::<_, Option<i64>>("epoch")?.map(|epoch| Term(epoch.unsigned_abs()));
    listed.description = row.try_get::<_, Option<String>>("described")?.map(Arc::from);
    Ok(listed)
}

impl PostgresControl {
    fn session(&self) -> Result<Arc<OpenSession>, ControlError> {
        let lost = |reason: String| ControlError::Unavailable { reason };
        let session = self.shared.session();
        let session = session.ok_or_else(|| lost("there is no session with the server".to_owned()))?;
        match session.lost_reason() {
            Some(reason) => Err(lost(reason)),
            None => Ok(session),
        }
    }

    async fn ask<T>(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, ControlError> {
        let session = self.session()?;
        let rows = session.observer().query_typed(statement, parameters).await;
        let read = rows.and_then(|rows| rows.iter().map(read).collect());
        read.map_err(|error| unavailable(&error))
    }

    async fn hint(&self, of: impl Fn(&ControlHints) -> watch::Receiver<u64>, seen: u64) -> u64 {
        // The session is not kept open by whoever waits for a hint.
        let Some(hints) = self.shared.session().map(|session| session.hints()) else {
            return pending().await;
        };
        let mut hints = of(&hints);
        let hinted = hints.wait_for(|hints| *hints != seen).await.map(|hints| *hints);
        match hinted {
            Ok(hints) => hints,
            // It is over; whoever opens the next one asks again.
            Err(_) => pending().await,
        }
    }

    fn scope(&self) -> Parameter<'_> {
        (&self.shared.settings.scope, Type::TEXT)
    }
}

impl Control for PostgresControl {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, ControlError>> {
        async move {
            let beacon = self.session()?.beacon;
            let (most, cut) = (at_most(NODES_MAX), cut_at(DESCRIPTION_BYTES_MAX));
            let parameters = [self.scope(), (&beacon, Type::INT8), (&most, Type::INT8), (&cut, Type::INT4)];
            self.ask(NODES, &parameters, listed).await
        }
        .boxed()
    }

    fn describe(&self, description: Arc<str>) -> BoxFuture<'_, Result<(), ControlError>> {
        async move {
            let beacon = self.session()?.beacon;
            let parameters = [self.scope(), (&beacon, Type::INT8), (&&*description, Type::TEXT)];
            self.ask(DESCRIBE, &parameters, |_| Ok(())).await.map(drop)
        }
        .boxed()
    }

    fn post<'a>(
        &'a self,
        request: &'a ControlRequest,
        to: To,
        within: Duration,
        open_max: usize,
    ) -> BoxFuture<'a, Result<Posted, ControlError>> {
        async move {
            let session = self.session()?;
            let only = match to {
                To::Others => None,
                To::Node(node) => Some(node.as_uuid()),
            };
            let (asks, millis) = (request.asked_by.as_uuid(), within.as_secs_f64() * 1e3);
            let (by, note) = (request.by.as_ref().map(By::as_str), request.note.as_ref().map(Note::as_str));
            let (most, open_max) = (at_most(NODES_MAX), at_most(open_max));
            let parameters: [Parameter<'_>; 11] = [
                self.scope(),
                (&asks, Type::UUID),
                (&request.id, Type::UUID),
                (&&*request.body, Type::TEXT),
                (&by, Type::TEXT),
                (&note, Type::TEXT),
                (&millis, Type::FLOAT8),
                (&session.channel, Type::TEXT),
                (&only, Type::UUID),
                (&most, Type::INT8),
                (&open_max, Type::INT8),
            ];
            let live = |row: &Row| {
                let (open, is_known): (i64, bool) = (row.try_get("open")?, row.try_get("is_known")?);
                let node = row.try_get::<_, Option<Uuid>>("node")?.map(|_| asked(row)).transpose()?;
                Ok((open, is_known, node))
            };
            let rows = self.ask(POST, &parameters, live).await?;
            if rows.iter().any(|(_, is_known, _)| *is_known) {
                let parameters = [self.scope(), (&request.id, Type::UUID)];
                return Ok(Posted::Asked(self.ask(ADDRESSED, &parameters, asked).await?));
            }
            if rows.iter().any(|(open, _, node)| *open >= open_max && node.is_some()) {
                return Ok(Posted::TooMany);
            }
            Ok(Posted::Asked(rows.into_iter().filter_map(|(_, _, node)| node).collect()))
        }
        .boxed()
    }

    fn take(&self) -> BoxFuture<'_, Result<Vec<TakenRequest>, ControlError>> {
        async move {
            let own = self.shared.settings.node.as_uuid();
            let (most, cut) = (at_most(REQUESTS_OPEN_MAX), cut_at(REQUEST_BYTES_MAX));
            let parameters = [self.scope(), (&own, Type::UUID), (&most, Type::INT8), (&cut, Type::INT4)];
            self.ask(TAKE, &parameters, taken).await
        }
        .boxed()
    }

    fn answer(&self, request: Uuid, answer: Arc<str>) -> BoxFuture<'_, Result<(), ControlError>> {
        async move {
            let session = self.session()?;
            let own = self.shared.settings.node.as_uuid();
            let parameters: [Parameter<'_>; 5] = [
                self.scope(),
                (&own, Type::UUID),
                (&request, Type::UUID),
                (&&*answer, Type::TEXT),
                (&session.channel, Type::TEXT),
            ];
            self.ask(ANSWER, &parameters, |_| Ok(())).await.map(drop)
        }
        .boxed()
    }

    fn answers<'a>(
        &'a self,
        request: Uuid,
        heard: &'a [NodeId],
    ) -> BoxFuture<'a, Result<Vec<(NodeId, NodeAnswer)>, ControlError>> {
        async move {
            let (cut, most) = (cut_at(ANSWER_BYTES_MAX), at_most(NODES_MAX));
            let heard: Vec<_> = heard.iter().map(|node| node.as_uuid()).collect();
            let bytes = at_most(ANSWERS_BYTES_MAX);
            let parameters: [Parameter<'_>; 6] = [
                self.scope(),
                (&request, Type::UUID),
                (&cut, Type::INT4),
                (&most, Type::INT8),
                (&heard, Type::UUID_ARRAY),
                (&bytes, Type::INT8),
            ];
            self.ask(ANSWERS, &parameters, answered).await
        }
        .boxed()
    }

    fn close(&self, request: Uuid) -> BoxFuture<'_, Result<(), ControlError>> {
        async move { self.ask(CLOSE, &[self.scope(), (&request, Type::UUID)], |_| Ok(())).await.map(drop) }
            .boxed()
    }

    fn asked(&self, seen: u64) -> BoxFuture<'_, u64> {
        self.hint(|hints| hints.asked.subscribe(), seen).boxed()
    }

    fn answered(&self, seen: u64) -> BoxFuture<'_, u64> {
        self.hint(|hints| hints.answered.subscribe(), seen).boxed()
    }
}
