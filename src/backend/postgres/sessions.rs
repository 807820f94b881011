//! The table of sessions: who has a session in a scope, written once when it opens.
//!
//! A row says whom a beacon belongs to. Only the beacon's lock says whether that session lives. The row of a session that was closed goes
//! with it; the row of one that died stays until its lost runs are closed.

use callsheet_actors::port::LockError;
use tokio_postgres::{Client, types::ToSql};

use super::{
    failure::{refusal, unavailable},
    settings::Settings,
};

/// Acquires the beacon ($1) of a session and registers it. The key is random and never used again, so there is nobody to wait for. The
/// lock is held before the row can be seen. Answers as well the channel of the notifications of a schema ($2) and scope ($3); names of
/// channels have at most 63 bytes.
///
/// $4 node, $5 its name, $6 its version, $7 lease in milliseconds, $8 the version of its time zone data.
const OPEN: &str = "
WITH acquired AS MATERIALIZED (
    SELECT pg_try_advisory_lock($1) AS acquired
), opened AS (
    INSERT INTO sessions (scope, beacon, pid, role, node, name, version, lease, zone_data, since)
    SELECT $3, $1, pg_backend_pid(), session_user, $4, $5, $6, $7::float8 * interval '1 millisecond', $8, clock_timestamp()
    FROM acquired WHERE acquired
)
SELECT acquired, 'callsheet_' || to_hex(hashtextextended('callsheet news ' || $2 || '/' || $3, 0)) AS channel FROM acquired";

/// Whether a session (beacon $2) stands in the table of a scope ($1).
pub(super) const STANDS: &str = "SELECT FROM sessions WHERE scope = $1 AND beacon = $2";

/// Takes the session of a beacon ($2) out of the table of a scope ($1), unless it leaves runs open: then, or if it held more than $3
/// names, which would take long to look at, whoever searches for runs of dead sessions does it.
const CLOSE: &str = "
DELETE FROM sessions
WHERE scope = $1 AND beacon = $2 AND (
    SELECT count(*) < $3 AND count(run) = 0
    FROM (SELECT run FROM names WHERE scope = $1 AND beacon = $2 LIMIT $3) AS held
)";

/// How many names of a session are looked at when it is closed.
const CLOSE_MAX: i64 = 2_048;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Acquires and registers a beacon. Answers the channel of the scope.
pub(super) async fn open(client: &Client, settings: &Settings, beacon: i64) -> Result<String, LockError> {
    let node = settings.node.as_uuid();
    let lease = settings.lease.as_secs_f64() * 1e3;
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&beacon, &settings.schema, &settings.scope, &node, &settings.node_name(), &VERSION, &lease, &""];
    let opened = client.query_one(OPEN, &parameters).await.map_err(|error| refusal(&error))?;
    if !opened.try_get("acquired").map_err(|error| refusal(&error))? {
        return Err(unavailable("the key of the session's advisory lock is taken; try again"));
    }
    opened.try_get("channel").map_err(|error| refusal(&error))
}

/// Closes a session: its row goes before its lock does.
pub(super) async fn close(
    client: &Client,
    settings: &Settings,
    beacon: i64,
) -> Result<(), tokio_postgres::Error> {
    client.execute(CLOSE, &[&settings.scope, &beacon, &CLOSE_MAX]).await?;
    client.batch_execute("SELECT pg_advisory_unlock_all()").await
}
