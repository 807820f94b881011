//! The table of sessions: who has a session in a scope, written once when it opens.
//!
//! A row says whom a beacon belongs to. Only the beacon's lock says whether that session lives. The row of a
//! session that was closed goes with it; the row of one that died stays until its lost runs are closed.

use std::sync::Arc;

use callsheet_actors::{
    NodeId,
    port::{LockError, OTHER_ZONE_DATA_MAX, OtherZoneData},
};
use futures_util::future::join;
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    failure::{refusal, switched, unavailable},
    session::OpenSession,
    settings::Settings,
    statement::answer::read,
};

/// The channel of the notifications of a scope ($1), made unless there is one: nobody can guess its name.
/// Names of channels have at most 63 bytes. No row: somebody else is just making it.
const CHANNEL: &str = "
WITH made AS (
    INSERT INTO scopes (scope, channel)
    SELECT $1, 'callsheet_' || replace(gen_random_uuid()::text, '-', '')
    WHERE NOT EXISTS (SELECT FROM scopes WHERE scope = $1)
    ON CONFLICT DO NOTHING
    RETURNING channel
)
SELECT channel FROM made UNION ALL SELECT channel FROM scopes WHERE scope = $1";

/// Acquires the beacon ($1) of a session and registers it, unless the server process is another one than $2:
/// then it answers NULL. The key is random and never used again, so there is nobody to wait for. The lock is
/// held before the row can be seen.
///
/// $3 scope, $4 node, $5 its name, $6 its version, $7 lease in milliseconds, $8 the version of its time zone
/// data.
const OPEN: &str = "
WITH acquired AS MATERIALIZED (
    SELECT CASE WHEN pg_backend_pid() = $2 THEN pg_try_advisory_lock($1) END AS acquired
), opened AS (
    INSERT INTO sessions (scope, beacon, pid, role, node, name, version, lease, zone_data, since)
    SELECT $3, $1, a.pid, a.usesysid, $4, $5, $6, $7::float8 * interval '1 millisecond', $8, clock_timestamp()
    FROM acquired CROSS JOIN LATERAL pg_stat_get_activity(pg_backend_pid()) AS a WHERE acquired
)
SELECT acquired FROM acquired";

/// Takes the session of a beacon ($2) out of the table of a scope ($1), unless it leaves runs open: then, or
/// if it held more than $3 names, which would take long to look at, a node that searches for runs of dead
/// sessions does it.
const CLOSE: &str = "
DELETE FROM sessions
WHERE scope = $1 AND beacon = $2 AND (
    SELECT count(*) < $3 AND count(run) = 0
    FROM (SELECT run FROM names WHERE scope = $1 AND beacon = $2 LIMIT $3) AS held
)";

/// How many names of a session are looked at when it is closed.
const CLOSE_MAX: i64 = 2_048;

/// The time zone data of other sessions that live, where it is not that of this one and known: each version
/// once, with a node. $1 scope, $2 own beacon, $3 own version, $4 how many at most.
const OTHER_ZONE_DATA: &str = "
SELECT DISTINCT ON (s.zone_data) s.zone_data, s.node
FROM sessions s
WHERE s.scope = $1 AND s.beacon <> $2 AND s.zone_data <> $3 AND s.zone_data <> '' AND EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid = s.pid AND l.mode = 'ExclusiveLock'
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid::int8 << 32 | l.objid::int8 = s.beacon
)
ORDER BY s.zone_data, s.since DESC
LIMIT $4";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The channel of the scope.
pub(super) async fn channel(client: &Client, settings: &Settings) -> Result<String, Error> {
    let scope: [(&(dyn ToSql + Sync), Type); 1] = [(&settings.scope, Type::TEXT)];
    let row = match client.query_typed_opt(CHANNEL, &scope).await? {
        Some(row) => row,
        // It was waited for, and is there by now.
        None => client.query_typed_one(CHANNEL, &scope).await?,
    };
    row.try_get("channel")
}

/// Acquires and registers a beacon: the last step of an opening, so that one that fails leaves no row behind.
pub(super) async fn open(
    client: &Client,
    settings: &Settings,
    beacon: i64,
    pid: i32,
) -> Result<(), LockError> {
    let node = settings.node.as_uuid();
    let lease = settings.lease.as_secs_f64() * 1e3;
    let (name, zone_data) = (settings.node_name(), &*settings.zone_data);
    let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
        (&beacon, Type::INT8),
        (&pid, Type::INT4),
        (&settings.scope, Type::TEXT),
        (&node, Type::UUID),
        (&name, Type::TEXT),
        (&VERSION, Type::TEXT),
        (&lease, Type::FLOAT8),
        (&zone_data, Type::TEXT),
    ];
    let opened = client.query_typed_one(OPEN, &parameters).await.map_err(|error| refusal(&error))?;
    match opened.try_get("acquired").map_err(|error| refusal(&error))? {
        Some(true) => Ok(()),
        Some(false) => Err(unavailable("the key of the session's advisory lock is taken; try again")),
        None => Err(switched()),
    }
}

/// By which time zone data the other nodes go, if not by that of this session.
pub(super) async fn other_zone_data(session: &Arc<OpenSession>) -> Result<Vec<OtherZoneData>, LockError> {
    let Settings { scope, zone_data, .. } = &session.settings;
    let most = i64::try_from(OTHER_ZONE_DATA_MAX).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 4] = [scope, &session.beacon, &&**zone_data, &most];
    // Once a minute: it need not be prepared.
    let rows = session.ask(OTHER_ZONE_DATA, &parameters).await?;
    read(&rows, zone_data_of)
}

fn zone_data_of(row: &Row) -> Result<OtherZoneData, Error> {
    let (version, node): (String, Uuid) = (row.try_get("zone_data")?, row.try_get("node")?);
    Ok(OtherZoneData { version: version.into(), node: NodeId::numbered(node.as_u128()) })
}

/// Closes a session: its row goes before its lock does. Both are sent together.
pub(super) async fn close(
    client: &Client,
    settings: &Settings,
    beacon: i64,
) -> Result<(), tokio_postgres::Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&settings.scope, Type::TEXT), (&beacon, Type::INT8), (&CLOSE_MAX, Type::INT8)];
    let closed = client.query_typed(CLOSE, &parameters);
    let unlocked = client.batch_execute("SELECT pg_advisory_unlock_all()");
    let (closed, unlocked) = join(closed, unlocked).await;
    closed.and(unlocked)
}
