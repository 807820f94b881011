//! Which sessions stand as candidates, for nodes that would rather not lead.
//!
//! A preference, not a right: nothing that is claimed depends on it.

use std::sync::Arc;

use callsheet_actors::{
    NodeId,
    port::{LockError, Observation},
};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use super::{session::OpenSession, statement::answer::read};

/// Says whether a session ($2) of a scope ($1) stands as a candidate ($3), if that is news; answers who
/// leads, and whether another session stands that lives. It locks its own row alone, which nobody else
/// changes while the session lives.
const OBSERVE: &str = "
WITH said AS (
    UPDATE sessions SET candidate = $3 WHERE scope = $1 AND beacon = $2 AND candidate <> $3
)
SELECT (SELECT l.node FROM leader l WHERE l.scope = $1 AND l.expires_at > clock_timestamp()) AS leader, EXISTS (
    SELECT FROM sessions s
    JOIN pg_locks l ON l.pid = s.pid AND l.classid::int8 << 32 | l.objid::int8 = s.beacon
    WHERE s.scope = $1 AND s.beacon <> $2 AND s.candidate
      AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS candidate";

pub(super) async fn observe(session: &Arc<OpenSession>, stands: bool) -> Result<Observation, LockError> {
    let parameters: [&(dyn ToSql + Sync); 3] = [&session.settings.scope, &session.beacon, &stands];
    // Once a second, and by nodes alone that do not campaign or would rather not lead: it need not be
    // prepared.
    let rows = session.ask(OBSERVE, &parameters).await?;
    Ok(read(&rows, observation)?.into_iter().next().unwrap_or_default())
}

fn observation(row: &Row) -> Result<Observation, Error> {
    let leader: Option<Uuid> = row.try_get("leader")?;
    Ok(Observation {
        leader: leader.map(|node| NodeId::numbered(node.as_u128())),
        candidate: row.try_get("candidate")?,
    })
}
