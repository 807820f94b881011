//! A statement that locks the row of the leader, and who keeps it waiting.

use std::{pin::pin, sync::Arc, time::Duration};

use callsheet_actors::port::{ElectError, Obstacle};
use tokio::time::{Instant, timeout};
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};

use super::{
    cure, failure,
    leadership::{LeadershipConnection, SecondConnection},
    lock_holders::{Holder, Holders, Through},
    session::OpenSession,
    statement::eviction,
};

/// Who has locked the leader row is looked at after this part of a slice, while the statement still waits.
const LOOK_PART: u32 = 4;

pub(super) const NO_ANSWER: &str = "the server did not answer within the deadline";

/// Somebody has locked the leader row: who, and what would help.
pub(super) struct Blocked(pub(super) String);

impl LeadershipConnection {
    /// Asks a statement that locks the leader row. While it waits, finds out who has locked it, and ends who
    /// is silent beyond a lease.
    pub(super) async fn ask_on_row(
        &mut self,
        session: &Arc<OpenSession>,
        statement: &str,
        parameters: &[Typed<'_>],
    ) -> Result<Result<Option<Row>, Blocked>, ElectError> {
        let Self { connection: SecondConnection { client, pid, .. }, of_row, on_row, .. } = self;
        let asked = Instant::now();
        let mut answer =
            pin!(timeout(session.settings.trust(), client.query_typed_opt(statement, parameters)));
        // An answer that is on its way is no wait for a lock.
        let patience = (session.settings.campaign_slice() / LOOK_PART).max(session.round_trip() * 2);
        let mut blockers = Vec::new();
        let answer = loop {
            if let Ok(answer) = timeout(patience, &mut answer).await {
                break answer;
            }
            // Again and again: whoever is silent is ended as soon as its lease is over.
            let look = look_at_row(session, of_row, *pid, blockers.clone());
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                found = look => blockers = found,
            }
        };
        let is_blocked = matches!(&answer, Ok(Err(error)) if failure::is_lock_timeout(error));
        if !is_blocked {
            // Nobody has it locked any more.
            of_row.none(asked);
            blockers.clear();
        }
        let named = blockers.first().map(|Obstacle { reason, cure, .. }| format!("{reason}; {cure}"));
        on_row.show(blockers);
        match answer.map_err(|_| unavailable(NO_ANSWER))? {
            Ok(row) => Ok(Ok(row)),
            Err(error) if is_blocked => Ok(Err(Blocked(named.unwrap_or_else(|| cure::denial(&error))))),
            Err(error) => Err(refused(&error)),
        }
    }
}

/// Looks at who keeps a process of the server waiting for the leader row. It asks on the session's
/// connection, which is free; a look that takes too long or is given up costs nothing but itself. Answers
/// those that were `known` if nobody does at this moment: the statement gave up a moment ago, or goes on.
async fn look_at_row(
    session: &OpenSession,
    of_row: &mut Holders,
    waiting: i32,
    known: Vec<Obstacle>,
) -> Vec<Obstacle> {
    let (settings, client) = (&session.settings, session.observer());
    let (asked, lease) = (Instant::now(), millis(settings.lease));
    let parameters = [
        typed(&waiting, Type::INT4),
        typed(&settings.schema, Type::TEXT),
        typed(&settings.scope, Type::TEXT),
        typed(&lease, Type::FLOAT8),
    ];
    let look = async {
        // What goes wrong is told by what waits.
        let rows = client.query_typed(eviction::BLOCKERS, &parameters).await.ok()?;
        let holders = read_holders(&rows).ok().filter(|holders| !holders.is_empty())?;
        Some(of_row.look(asked, holders, Through::Transaction(client)).await.unwrap_or_default())
    };
    timeout(settings.campaign_slice(), look).await.ok().flatten().unwrap_or(known)
}

pub(super) fn read_holders(rows: &[Row]) -> Result<Vec<Holder>, ElectError> {
    let read = rows.iter().filter_map(|row| Holder::of(row).transpose()).collect::<Result<_, _>>();
    read.map_err(|error| refused(&error))
}

/// A parameter whose type is given, so that a statement takes one round trip without being prepared.
pub(super) type Typed<'a> = (&'a (dyn ToSql + Sync), Type);

pub(super) fn typed(value: &(dyn ToSql + Sync), of: Type) -> Typed<'_> {
    (value, of)
}

pub(super) fn unavailable(reason: &str) -> ElectError {
    ElectError::Unavailable { reason: reason.to_owned() }
}

pub(super) fn refused(error: &Error) -> ElectError {
    ElectError::Unavailable { reason: cure::denial(error) }
}

pub(super) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
